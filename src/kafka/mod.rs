//! Kafka as a [`source`](crate::source): one thread per cluster reads every partition of the configured topics, and
//! passes entries to the hub.
//!
//! | file | purpose |
//! |---|---|
//! | `consumer` | the thread: warms the window, polls, recreates the client |
//! | `survey` | which topics exist, and where their logs begin and end |
//! | `ask`, `metadata` | non-blocking requests to the brokers |
//! | `leaders` | lookup of the leaders of partitions before they are assigned |
//! | `desired` | the topics that a reload asks for |
//! | `topic`, `warm` | the position in a topic; entries held back until its window is warm (both without a client) |
//! | `message`, `headers` | a message as a record; its headers, read without rdkafka's panic |
//! | `client`, `positions` | librdkafka's configuration, connection state, statistics; its positions |
//! | `receive` | the span of a sampled record |
//! | `watch`, `probe` | stalled partitions; the end of an unreadable batch |
//! | `retry`, `closing` | backoff; clients that are closing |
//! | [`history`] | chunks of the log, for replay beyond the window |
//! | [`embedded`] | the broker of the demo |
//!
//! It keeps no history (the hub does), joins no consumer group, and commits nothing: after a restart, the window is
//! warmed from the log.

mod ask;
mod client;
mod closing;
mod consumer;
mod decompression;
mod desired;
pub mod embedded;
mod headers;
pub mod history;
mod leaders;
mod message;
mod metadata;
#[cfg(test)]
mod outage_tests;
mod positions;
mod probe;
mod receive;
mod retry;
mod short_answers;
#[cfg(test)]
#[path = "../../tests/simulation/reader.rs"]
pub(crate) mod simulation;
mod survey;
#[cfg(test)]
mod tests;
mod topic;
#[cfg(test)]
mod unreadable_tests;
mod warm;
mod watch;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use self::client::Link;
use self::consumer::Reader;
pub use self::decompression::decompressed_bytes_max;
use self::desired::Desired;
use self::history::KafkaHistory;
use crate::config::snapshot::{Kafka, ReplayLog, TopicConfig};
use crate::contain::contain;
use crate::decode::schema::VALIDATION_STACK_BYTES;
use crate::event::Applied;
use crate::metrics::Metrics;
use crate::panics;
use crate::source::{Call, Connector, History, Sink, Source, Status};
use crate::traces::Tracer;

/// Kafka clusters.
pub struct Clusters(Vec<Kafka>);

impl Clusters {
    pub fn new<'a>(clusters: impl IntoIterator<Item = &'a Kafka>) -> Self {
        Self(clusters.into_iter().cloned().collect())
    }
}

impl Connector for Clusters {
    fn topics(&self) -> Vec<&TopicConfig> {
        self.0.iter().flat_map(|cluster| &cluster.topics).collect()
    }

    fn read(&self, sink: &Sink, metrics: &Arc<Metrics>, tracer: Option<&Tracer>) -> io::Result<Vec<Box<dyn Source>>> {
        let start = |cluster: &Kafka| -> io::Result<Box<dyn Source>> {
            let source = KafkaSource::start(cluster.clone(), sink.clone(), metrics.clone(), tracer.cloned());
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("cluster `{}`: {error}", cluster.cluster));
            Ok(Box::new(source.map_err(named)?))
        };
        self.0.iter().map(start).collect()
    }

    fn history(&self, replay: &ReplayLog, metrics: &Arc<Metrics>, call: &Call) -> io::Result<Arc<dyn History>> {
        Ok(Arc::new(KafkaHistory::start(&self.0, replay, metrics, call)?))
    }
}

/// The running source of a cluster.
#[derive(Debug)]
struct KafkaSource {
    cluster: Arc<str>,
    desired: Desired,
    link: Arc<Link>,
    warm: Arc<AtomicBool>,
    warm_at_latest: Instant,
    stop: Arc<AtomicBool>,
    /// Disconnected when the thread has ended.
    ended: mpsc::Receiver<Infallible>,
}

impl KafkaSource {
    /// Starts the thread, which connects and reconnects by itself.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    fn start(config: Kafka, sink: Sink, metrics: Arc<Metrics>, tracer: Option<Tracer>) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel();
        let warm_at_latest = Instant::now() + config.warm_up;
        let source = Self {
            cluster: config.cluster.clone(),
            desired: Desired::default(),
            link: Arc::new(Link::new(config.cluster.clone(), metrics.clone())),
            // Without topics there is nothing to warm.
            warm: Arc::new(config.topics.is_empty().into()),
            warm_at_latest,
            stop: Arc::default(),
            ended,
        };
        let (link, warm, stop) = (source.link.clone(), source.warm.clone(), source.stop.clone());
        let desired = source.desired.clone();
        let reader =
            Reader { config, sink, metrics, tracer, link, warm, stop, desired, settle_at: Some(warm_at_latest) };
        let thread = thread::Builder::new().name("kafka".into()).stack_size(VALIDATION_STACK_BYTES);
        thread.spawn(move || {
            // A panic of the decoder is contained there. After any other panic, the loss is unknown.
            if contain(|| reader.run()).is_none() {
                panics::end_process("kafka");
            }
            drop(alive);
        })?;
        Ok(source)
    }
}

impl Source for KafkaSource {
    /// Reads two flags.
    fn status(&self) -> Status {
        Status {
            warm: self.warm.load(Ordering::Relaxed) || Instant::now() >= self.warm_at_latest,
            connected: self.link.is_up(),
        }
    }

    fn reconfigure(&self, clusters: &[&Kafka], applied: &Applied) {
        if let Some(cluster) = clusters.iter().find(|cluster| cluster.cluster == self.cluster) {
            self.desired.set(cluster.topics.clone(), applied.clone());
        }
    }

    fn request_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn join(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(left) {
            tracing::warn!("a Kafka client is still closing; not waiting for it");
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.request_stop();
    }
}
