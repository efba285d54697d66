//! Metrics: `table` names them all, no other module does. This file has what observes them beyond a counter's `inc`.
//!
//! Label values are bounded: transports, reasons and causes are enums, event types are limited to [`EVENT_TYPES_MAX`]
//! distinct ones, and topics, partitions and routes are those of the configuration.

mod maker;
mod table;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntCounter, Registry, TextEncoder};

use crate::config::Certificates;
use crate::route::Transport;
use maker::Maker;

pub use table::{Backlog, MemoryMetrics, Metrics, RevocationMetrics, ServiceMetrics, TransportMetrics};

/// The most event types with a label value of their own; the others count as `other`.
pub const EVENT_TYPES_MAX: usize = 64;
/// The longest event type that gets a label value of its own, in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 64;

impl Metrics {
    /// Registers all metrics under `prefix` (by default `notifications`), and those of the process under the names that
    /// Prometheus' client libraries share: `process_cpu_seconds_total` and others.
    ///
    /// # Errors
    ///
    /// The prefix is not a valid metric name.
    pub fn new(prefix: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let metrics = Self::register(&Maker { registry, prefix: prefix.into() })?;
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(metrics)
    }

    pub fn transport(&self, transport: Transport) -> &TransportMetrics {
        &self.transports[transport as usize]
    }

    /// The counter of sent events of this type. Callers keep it instead of looking it up per event.
    pub fn events_sent(&self, kind: &Arc<str>) -> IntCounter {
        let mut known = self.event_types.lock().unwrap_or_else(PoisonError::into_inner);
        let own_label = known.contains(kind) || (known.len() < EVENT_TYPES_MAX && kind.len() <= EVENT_TYPE_BYTES_MAX);
        if own_label {
            known.insert(kind.clone());
        }
        self.events_sent_by_type.with_label_values(&[if own_label { &**kind } else { "other" }])
    }

    /// Reports these certificates, and removes all others.
    pub fn certificates(&self, found: &[Certificates]) {
        self.certificate_expiry.reset();
        for Certificates { cluster, property, file, end } in found {
            let labels = [&**cluster, *property, &*file.to_string_lossy()];
            self.certificate_expiry.with_label_values(&labels).set(*end);
        }
    }

    /// Removes the gauges of a topic that is no longer read.
    pub fn forget_topic(&self, topic: &str, partitions: usize) {
        let _ = self.awaiting_schema.remove_label_values(&[topic]);
        for partition in (0..partitions).map(|partition| partition.to_string()) {
            for gauge in [&self.consumer_lag, &self.uncommitted_offsets, &self.stalled_seconds] {
                // A partition that was never observed has none.
                let _ = gauge.remove_label_values(&[topic, &partition]);
            }
        }
    }

    /// Counts a request for an issuer's keys by its result; `None` means that none has been sent yet.
    pub fn key_fetch(&self, issuer: &str, succeeded: Option<bool>) {
        for (result, is_it) in [("success", succeeded == Some(true)), ("failure", succeeded == Some(false))] {
            self.key_fetches.with_label_values(&[issuer, result]).inc_by(u64::from(is_it));
        }
        if succeeded == Some(true) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.keys_fetched.with_label_values(&[issuer]).set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Renders all metrics in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// A metric cannot be encoded.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl ServiceMetrics {
    /// Counts an answer: with the time that it took, or nothing where it came from the cache.
    pub fn answered(&self, result: &str, took: Option<Duration>) {
        let source = if took.is_some() { "service" } else { "cache" };
        self.answers.with_label_values(&[result, source]).inc();
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }
}
