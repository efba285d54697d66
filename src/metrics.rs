//! Every metric: its name, help, labels and buckets. No other module names a metric.
//!
//! Label values are bounded: transports, reasons and causes are enums, event types are cut off after
//! [`EVENT_TYPES_MAX`] distinct ones, topics, partitions
//! and routes are those of the configuration.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    CounterVec, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::config::Certificates;
use crate::route::Transport;

/// How many distinct event types get a label value of their own; the rest count as `other`.
pub const EVENT_TYPES_MAX: usize = 64;
/// The longest event type that gets a label value of its own, in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 64;

/// Seconds, from a tenth of a millisecond to ten seconds.
const LATENCY_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of one process, shared by all modules.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    transports: [TransportMetrics; 3],
    events_sent: IntCounterVec,
    event_types: Mutex<HashSet<Arc<str>>>,
    /// Gaps told to clients, by cause.
    pub gaps: IntCounterVec,
    /// Events dropped from a session's queue, by overflow policy.
    pub events_dropped: IntCounterVec,
    /// Requests for the keys of issuers, by issuer and result.
    key_fetches: IntCounterVec,
    /// When the keys in use were received, in seconds since the Unix epoch, by issuer.
    keys_fetched: IntGaugeVec,
    /// Requests refused on stream routes, by reason (see `gateway`).
    pub streams_rejected: IntCounterVec,
    /// Streams open now, by the pattern of their route.
    pub route_streams: IntGaugeVec,
    pub unauthenticated_websockets: IntGauge,
    /// Events sent on streams, by the pattern of the route that they were opened on.
    pub route_events: IntCounterVec,
    /// Event time to flush, in seconds, of events that came live.
    pub event_to_flush: HistogramVec,
    /// Kafka receipt to flush, in seconds, of events that came live.
    pub receive_to_flush: HistogramVec,
    /// Subscriptions that asked to resume, by where that came from: `window`, `log`, `refused`.
    pub resumes: IntCounterVec,
    /// What waits for clients that are behind.
    pub backlog: Backlog,
    /// Who holds how much memory.
    pub memory: MemoryMetrics,
    /// Seconds in which a writer did not sleep, by writer.
    pub writer_busy: CounterVec,
    /// Events that became gaps because a writer did not take them in time, by writer.
    pub writer_skipped: IntCounterVec,
    /// Frames and messages a WebSocket client got wrong, by kind.
    pub websocket_errors: IntCounterVec,
    /// Records taken from Kafka, by topic.
    pub records: IntCounterVec,
    /// Records that could not be read as events, by topic.
    pub undecodable: IntCounterVec,
    /// Records read from the log for replay, by topic. They count in no other metric.
    pub replay_records: IntCounterVec,
    /// Bytes of their keys and values.
    pub replay_bytes: IntCounterVec,
    /// Pages of the log for replay: read from Kafka, or found in the cache by who asked.
    pub replay_pages: IntCounterVec,
    /// How far the source is behind the log, in records.
    pub consumer_lag: IntGaugeVec,
    /// Offsets between the last stable one and the end of the log, by topic and partition.
    pub uncommitted_offsets: IntGaugeVec,
    /// For how long the source's position has not moved although the log goes on, in seconds, by topic and partition.
    pub stalled_seconds: IntGaugeVec,
    /// Batches that the Kafka client cannot read, passed over, by topic.
    pub unreadable_batches: IntCounterVec,
    /// Errors of the Kafka client, by kind.
    pub kafka_errors: IntCounterVec,
    /// How many clusters have a broker that answers.
    pub kafka_connected: IntGauge,
    /// Proxied requests, by status class (`2xx`, ...).
    pub proxy_requests: IntCounterVec,
    /// Proxied requests the upstream failed, by kind (`connect`, `timeout`, `closed`, ...).
    pub upstream_errors: IntCounterVec,
    /// Requests refused before they reached a route, by reason.
    pub bad_requests: IntCounterVec,
    /// Connections that were closed while they waited for their client, since others needed their place.
    pub connections_evicted: IntCounter,
    /// Spans that the collector took.
    pub spans_exported: IntCounter,
    /// Spans that were dropped: the `queue` was full, or the `collector` did not take them.
    pub spans_dropped: IntCounterVec,
    /// When certificates end, in seconds since the Unix epoch.
    certificate_expiry: IntGaugeVec,
    /// Panics, by thread (see `panics`).
    pub panics: IntCounterVec,
    /// Lines of the log that nobody read in time.
    pub log_lines_dropped: IntCounter,
    /// 1 where the last configuration that was looked at is the running one.
    pub config_last_reload_successful: IntGauge,
    /// When the running configuration was taken over, in seconds since the Unix epoch.
    pub config_last_reload_success_timestamp: Gauge,
    /// Reloads, by result (see `reload`).
    pub config_reloads: IntCounterVec,
    /// 1 for the hash of the running configuration's file.
    pub config_info: IntGaugeVec,
}

/// What waits for clients whose sockets take no more, looked at every few seconds.
#[derive(Clone, Debug)]
pub struct Backlog {
    pub streams: IntGauge,
    pub events: IntGauge,
    pub bytes: IntGauge,
}

/// Memory, in bytes, as it was when it was looked at last.
#[derive(Debug)]
pub struct MemoryMetrics {
    /// 0: there is no limit.
    pub limit: IntGauge,
    /// What is resident, and what the kernel holds for slow streams.
    pub used: IntGauge,
    /// The step of the ladder, 0 to 5 (see `memory`).
    pub level: IntGauge,
    pub windows: IntGauge,
    /// Kept for others.
    pub encodings: IntGauge,
    /// Encodings that are only queued, each counted once.
    pub queues: IntGauge,
    /// Of the log.
    pub pages: IntGauge,
}

impl MemoryMetrics {
    fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let held = make.gauges("memory_held_bytes", "Memory for events in bytes, by holder.", &["holder"])?;
        let of = |holder: &str| held.with_label_values(&[holder]);
        Ok(Self {
            limit: make.gauge("memory_limit_bytes", "Memory limit of the process in bytes, 0 without a limit.")?,
            used: make.gauge("memory_used_bytes", "Memory in bytes that counts towards the limit.")?,
            level: make.gauge("memory_level", "Level of memory pressure, 0 (none) to 5.")?,
            windows: of("windows"),
            encodings: of("encodings"),
            queues: of("queues"),
            pages: of("pages"),
        })
    }
}

/// The metrics every transport has.
#[derive(Debug)]
pub struct TransportMetrics {
    pub active_connections: IntGauge,
    pub events_sent: IntCounter,
    pub bytes: IntCounter,
    /// Streams opened with a position to resume from.
    pub reconnects: IntCounter,
    pub heartbeats: IntCounter,
    /// By close reason (see `session::close`).
    pub disconnects: IntCounterVec,
    pub event_to_flush: Histogram,
    pub receive_to_flush: Histogram,
}

impl Metrics {
    /// Registers everything under `prefix` (the seeds' `notifications`).
    ///
    /// Fails where the prefix is no metric name.
    pub fn new(prefix: &str) -> prometheus::Result<Self> {
        let make = Maker { registry: Registry::new(), prefix };
        let event_to_flush = make.histograms(
            "event_to_flush_seconds",
            "Latency from a live event's own time to the write that carried it.",
            &["transport"],
        )?;
        let receive_to_flush = make.histograms(
            "receive_to_flush_seconds",
            "Latency from a live record's receipt from Kafka to the write that carried it.",
            &["transport"],
        )?;
        let [sse, ndjson, websocket] =
            Transport::ALL.map(|transport| TransportMetrics::new(&make, transport, &event_to_flush, &receive_to_flush));
        Ok(Self {
            transports: [sse?, ndjson?, websocket?],
            events_sent: make.counters("events_sent_total", "Events sent on all transports, by type.", &["type"])?,
            event_types: Mutex::default(),
            gaps: make.counters("gaps_total", "Gaps sent to clients.", &["cause"])?,
            events_dropped: make.counters("events_dropped_total", "Events dropped from full queues.", &["policy"])?,
            key_fetches: make.counters(
                "token_key_fetches_total",
                "Requests for the keys of token issuers, by issuer and result.",
                &["issuer", "result"],
            )?,
            keys_fetched: make.gauges(
                "token_keys_fetched_timestamp_seconds",
                "Unix time at which the keys of a token issuer were received.",
                &["issuer"],
            )?,
            streams_rejected: make.counters("streams_rejected_total", "Rejected stream requests.", &["reason"])?,
            unauthenticated_websockets: make.gauge(
                "unauthenticated_websockets",
                "WebSockets that were opened without a token and have not sent one yet.",
            )?,
            route_streams: make.gauges("route_streams", "Open streams, by route.", &["route"])?,
            route_events: make.counters("route_events_sent_total", "Events sent, by route.", &["route"])?,
            event_to_flush,
            receive_to_flush,
            resumes: make.counters("resumes_total", "Subscriptions that resume.", &["from"])?,
            backlog: Backlog {
                streams: make.gauge("slow_streams", "Streams whose clients currently accept no more data.")?,
                events: make.gauge("queued_events", "Events queued for slow streams.")?,
                bytes: make.gauge("queued_bytes", "Bytes queued for slow streams, counted per stream.")?,
            },
            memory: MemoryMetrics::new(&make)?,
            writer_busy: make.float_counters(
                "writer_busy_seconds_total",
                "Seconds in which a writer did not sleep.",
                &["writer"],
            )?,
            writer_skipped: make.counters(
                "writer_skipped_events_total",
                "Events that a writer did not accept in time.",
                &["writer"],
            )?,
            websocket_errors: make.counters(
                "ws_client_errors_total",
                "Invalid client frames and commands.",
                &["kind"],
            )?,
            records: make.counters("kafka_records_total", "Records received from Kafka.", &["topic"])?,
            undecodable: make.counters("kafka_undecodable_total", "Records that are not events.", &["topic"])?,
            replay_records: make.counters(
                "replay_records_total",
                "Records read from the log for replay.",
                &["topic"],
            )?,
            replay_bytes: make.counters("replay_bytes_total", "Bytes read from the log for replay.", &["topic"])?,
            replay_pages: make.counters("replay_pages_total", "Chunks of the log read or cached.", &["from"])?,
            consumer_lag: make.unprefixed_gauges(
                "kafka_consumer_lag",
                "Records between the source's position and the end of the partition.",
                &["topic", "partition"],
            )?,
            uncommitted_offsets: make.gauges(
                "kafka_uncommitted_offsets",
                "Offsets between the last stable offset and the end of the log.",
                &["topic", "partition"],
            )?,
            stalled_seconds: make.gauges(
                "kafka_stalled_seconds",
                "Seconds for which the source has not advanced although the log has more.",
                &["topic", "partition"],
            )?,
            unreadable_batches: make.counters(
                "kafka_unreadable_batches_total",
                "Batches that could not be read and were skipped.",
                &["topic"],
            )?,
            kafka_errors: make.counters("kafka_errors_total", "Errors of the Kafka client.", &["kind"])?,
            kafka_connected: make.gauge("kafka_connected", "Clusters with a broker that answers.")?,
            proxy_requests: make.counters("proxy_requests_total", "Proxied requests.", &["status"])?,
            upstream_errors: make.counters(
                "upstream_errors_total",
                "Proxied requests that failed upstream.",
                &["kind"],
            )?,
            bad_requests: make.counters("bad_requests_total", "Rejected malformed requests.", &["reason"])?,
            connections_evicted: make.counter(
                "connections_evicted_total",
                "Connections closed while they waited for their client, to make room for others.",
            )?,
            spans_exported: make.counter("spans_exported_total", "Spans that the collector accepted.")?,
            spans_dropped: make.counters("spans_dropped_total", "Dropped spans.", &["reason"])?,
            certificate_expiry: make.gauges(
                "certificate_expiry_timestamp_seconds",
                "Expiry of the certificates of a Kafka property, as a Unix time.",
                &["cluster", "property", "file"],
            )?,
            panics: make.counters("panics_total", "Panics, which are bugs.", &["place"])?,
            log_lines_dropped: make
                .counter("log_lines_dropped_total", "Log lines dropped because standard error was not read.")?,
            config_last_reload_successful: make.gauge(
                "config_last_reload_successful",
                "1 if the configuration that was read last is the running one.",
            )?,
            config_last_reload_success_timestamp: make.register(Gauge::with_opts(make.opts(
                "config_last_reload_success_timestamp_seconds",
                "When the running configuration was applied, as a Unix time.",
            ))?)?,
            config_reloads: make.counters("config_reloads_total", "Reloads of the configuration.", &["result"])?,
            config_info: make.gauges("config_info", "The SHA-256 of the running configuration's file.", &["sha256"])?,
            registry: make.registry,
        })
    }

    pub fn transport(&self, transport: Transport) -> &TransportMetrics {
        &self.transports[transport as usize]
    }

    /// The counter of events sent of this type; keep it rather than asking per event.
    pub fn events_sent(&self, kind: &Arc<str>) -> IntCounter {
        let mut known = self.event_types.lock().unwrap_or_else(PoisonError::into_inner);
        let own_label = known.contains(kind) || (known.len() < EVENT_TYPES_MAX && kind.len() <= EVENT_TYPE_BYTES_MAX);
        if own_label {
            known.insert(kind.clone());
        }
        self.events_sent.with_label_values(&[if own_label { &**kind } else { "other" }])
    }

    /// Tells of these certificates, and of no others.
    pub fn certificates(&self, found: &[Certificates]) {
        self.certificate_expiry.reset();
        for Certificates { cluster, property, file, end } in found {
            let labels = [&**cluster, *property, &*file.to_string_lossy()];
            self.certificate_expiry.with_label_values(&labels).set(*end);
        }
    }

    /// Counts a request for an issuer's keys, by whether it succeeded; nothing: it has not been requested yet.
    pub fn key_fetch(&self, issuer: &str, succeeded: Option<bool>) {
        for (result, is_it) in [("success", succeeded == Some(true)), ("failure", succeeded == Some(false))] {
            self.key_fetches.with_label_values(&[issuer, result]).inc_by(u64::from(is_it));
        }
        if succeeded == Some(true) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.keys_fetched.with_label_values(&[issuer]).set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl TransportMetrics {
    fn new(
        make: &Maker<'_>,
        transport: Transport,
        event_to_flush: &HistogramVec,
        receive_to_flush: &HistogramVec,
    ) -> prometheus::Result<Self> {
        let name = transport.metric_name();
        Ok(Self {
            active_connections: make.gauge(&format!("{name}_active_connections"), "Open streams.")?,
            events_sent: make.counter(&format!("{name}_events_sent_total"), "Events sent.")?,
            bytes: make.counter(&format!("{name}_bytes_total"), "Bytes written to clients.")?,
            reconnects: make.counter(&format!("{name}_reconnects_total"), "Streams opened with a resume position.")?,
            heartbeats: make.counter(&format!("{name}_heartbeats_total"), "Heartbeats sent.")?,
            disconnects: make.counters(
                &format!("{name}_disconnects_total"),
                "Streams ended, by reason.",
                &["reason"],
            )?,
            event_to_flush: event_to_flush.with_label_values(&[transport.as_str()]),
            receive_to_flush: receive_to_flush.with_label_values(&[transport.as_str()]),
        })
    }
}

/// Makes and registers metrics under one prefix.
struct Maker<'a> {
    registry: Registry,
    prefix: &'a str,
}

impl Maker<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.prefix), help)
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::with_opts(self.opts(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(self.opts(name, help), labels)?)
    }

    fn float_counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        self.register(CounterVec::new(self.opts(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::with_opts(self.opts(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(self.opts(name, help), labels)?)
    }

    fn unprefixed_gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(LATENCY_BUCKETS.to_vec());
        self.register(HistogramVec::new(opts, labels)?)
    }
}
