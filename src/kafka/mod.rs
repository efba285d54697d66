//! The Kafka source: one thread per cluster reads every partition of the configured topics, and passes entries to the
//! hub.
//!
//! | file | purpose |
//! |---|---|
//! | `consumer` | the thread: warms the window, polls, recreates the client |
//! | `survey` | which topics exist, and where their logs begin and end |
//! | `ask`, `metadata` | non-blocking requests to the brokers |
//! | `leaders` | lookup of the leaders of partitions before they are assigned |
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
mod survey;
#[cfg(test)]
mod tests;
mod topic;
mod warm;
mod watch;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use self::client::Link;
use self::consumer::Reader;
use crate::config::snapshot::Kafka;
use crate::contain::contain;
use crate::event::Feed;
use crate::metrics::Metrics;
use crate::panics;
use crate::traces::Tracer;

/// Accepts what was read. May block while the writers are far behind, because the log is the buffer.
///
/// Per topic, in this order: one [`Feed::Assigned`], the entries of the warmed window, then live entries. The records
/// of a topic that is read from the start are passed on at once, also before `Assigned`. Another
/// `Assigned` follows when partitions are added, and one with another epoch when the topic was recreated. After a
/// `truncated` gap, the partition continues at the gap's first offset.
pub type Sink = Box<dyn FnMut(Feed) + Send>;

/// How long [`Source::stop`] waits for the thread. Closing a client without responding brokers can take minutes.
pub const STOP_WAIT: Duration = Duration::from_secs(5);

/// The running source. Dropping it ends the thread without waiting.
#[derive(Debug)]
pub struct Source {
    link: Arc<Link>,
    warm: Arc<AtomicBool>,
    warm_at_latest: Instant,
    stop: Arc<AtomicBool>,
    /// Disconnected when the thread has ended.
    ended: mpsc::Receiver<Infallible>,
}

/// The status of the source, for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The replay window is warm, or the time limit for warming it is over.
    pub warm: bool,
    /// A broker responds.
    pub connected: bool,
}

impl Source {
    /// Starts the thread, which connects and reconnects by itself.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(config: Kafka, sink: Sink, metrics: Arc<Metrics>, tracer: Option<Tracer>) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel();
        let warm_at_latest = Instant::now() + config.warm_up;
        let source = Self {
            link: Arc::new(Link::new(config.cluster.clone(), metrics.clone())),
            // Without topics there is nothing to warm.
            warm: Arc::new(config.topics.is_empty().into()),
            warm_at_latest,
            stop: Arc::default(),
            ended,
        };
        let (link, warm, stop) = (source.link.clone(), source.warm.clone(), source.stop.clone());
        let reader = Reader { config, sink, metrics, tracer, link, warm, stop, settle_at: Some(warm_at_latest) };
        thread::Builder::new().name("kafka".into()).spawn(move || {
            // A panic of the decoder is contained there. After any other panic, the loss is unknown.
            if contain(|| reader.run()).is_none() {
                panics::end_process("kafka");
            }
            drop(alive);
        })?;
        Ok(source)
    }

    /// Reads two flags.
    pub fn status(&self) -> Status {
        Status {
            warm: self.warm.load(Ordering::Relaxed) || Instant::now() >= self.warm_at_latest,
            connected: self.link.is_up(),
        }
    }

    /// Stops the thread, and waits for at most [`STOP_WAIT`]; then the thread is detached.
    pub fn stop(self) {
        Self::stop_all(vec![self]);
    }

    /// Stops the threads of these sources, and waits for at most [`STOP_WAIT`] for all together.
    pub fn stop_all(sources: Vec<Self>) {
        let deadline = Instant::now() + STOP_WAIT;
        sources.iter().for_each(|source| source.stop.store(true, Ordering::Relaxed));
        for source in sources {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Timeout) = source.ended.recv_timeout(left) {
                tracing::warn!("a Kafka client is still closing; not waiting for it");
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
