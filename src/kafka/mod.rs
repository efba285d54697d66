//! Records in: one thread a cluster reads every partition of the configured topics and hands entries to the hub.
//!
//! | file | what it is |
//! |---|---|
//! | `consumer` | the thread: warm the window, drain, keep the client going |
//! | `survey` | which topics are there, and where their logs begin and end |
//! | `ask`, `metadata` | questions to the brokers that nobody waits for |
//! | `leaders` | the leaders of partitions, looked up before they are assigned |
//! | `topic`, `warm` | where a topic stands; what is kept back until its window is warm (both without a client) |
//! | `message`, `headers` | a message as a record; its headers, read without rdkafka's panic |
//! | `client`, `positions` | librdkafka's configuration, connection state, statistics; where it stands |
//! | `receive` | the span of a record that is told of |
//! | `watch`, `probe` | partitions that do not move although their logs go on; where an unreadable batch ends |
//! | `retry`, `closing` | when something is tried next; clients that end |
//! | [`history`] | pages of the log, for replay beyond the window |
//! | [`embedded`] | the broker of the demo |
//!
//! It keeps no history (that is the hub's), joins no consumer group, and commits nothing: after a restart the window
//! is warmed from the log again.

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

/// Takes what was read; may block while the writers are far behind, since the log is the buffer.
///
/// Per topic, in this order: one [`Feed::Assigned`], the entries of the warmed window, then live entries as they
/// come. Another `Assigned` follows when partitions were added, and with another epoch where the topic was made anew. After
/// a `truncated` gap the partition goes on at the gap's first offset.
pub type Sink = Box<dyn FnMut(Feed) + Send>;

/// How long [`Source::stop`] waits for the thread. Closing a client whose brokers do not answer can take minutes.
pub const STOP_WAIT: Duration = Duration::from_secs(5);

/// The running source. Dropping it ends the thread, without waiting.
#[derive(Debug)]
pub struct Source {
    link: Arc<Link>,
    warm: Arc<AtomicBool>,
    warm_at_latest: Instant,
    stop: Arc<AtomicBool>,
    /// Disconnected when the thread is gone.
    ended: mpsc::Receiver<Infallible>,
}

/// How the source is, for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The replay window was warmed, or the time for it is over.
    pub warm: bool,
    /// A broker answers.
    pub connected: bool,
}

impl Source {
    /// Starts the thread. It connects by itself, and tries on for ever: an error here is one of starting threads.
    pub fn start(config: Kafka, sink: Sink, metrics: Arc<Metrics>, tracer: Option<Tracer>) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel();
        let warm_at_latest = Instant::now() + config.warm_up;
        let source = Self {
            link: Arc::new(Link::new(config.cluster.clone(), metrics.clone())),
            // Where nothing is read, nothing is waited for.
            warm: Arc::new(config.topics.is_empty().into()),
            warm_at_latest,
            stop: Arc::default(),
            ended,
        };
        let (link, warm, stop) = (source.link.clone(), source.warm.clone(), source.stop.clone());
        let reader = Reader { config, sink, metrics, tracer, link, warm, stop, settle_at: Some(warm_at_latest) };
        thread::Builder::new().name("kafka".into()).spawn(move || {
            // What a record brings to light is contained where it is decoded. Of the rest nobody could say what was lost.
            if contain(|| reader.run()).is_none() {
                panics::end_process("kafka");
            }
            drop(alive);
        })?;
        Ok(source)
    }

    /// Cheap: reads two flags.
    pub fn status(&self) -> Status {
        Status {
            warm: self.warm.load(Ordering::Relaxed) || Instant::now() >= self.warm_at_latest,
            connected: self.link.is_up(),
        }
    }

    /// Ends the thread and waits for it, at most [`STOP_WAIT`]; then it is left behind.
    pub fn stop(self) {
        Self::stop_all(vec![self]);
    }

    /// Ends the threads of all these and waits for them, at most [`STOP_WAIT`] for all together.
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
