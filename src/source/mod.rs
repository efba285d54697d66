//! The interface of sources: all that the other modules know of where events come from.
//!
//! A kind of source is a folder that implements [`Connector`], and a line in `app`. It reads its clusters into the
//! [`Sink`], and answers for their logs beyond the replay windows. [`in_memory`] is the smallest one.

pub mod in_memory;
mod logs;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::snapshot::{Kafka, ReplayLog, TopicConfig};
use crate::event::{Applied, Feed, Topic};
use crate::hub::Log;
use crate::ingest::Chunks;
use crate::metrics::Metrics;
use crate::traces::Tracer;

pub use logs::Logs;

/// How long the end of the process waits for the threads of all sources. Closing a client without responding brokers
/// can take minutes.
pub const STOP_WAIT: Duration = Duration::from_secs(5);

/// Accepts what was read. May block while the writers are far behind, because the log is the buffer.
///
/// A change of a topic's configuration is a [`Feed::Topic`] at its position among the entries.
///
/// Per topic, in this order: one [`Feed::Assigned`], the entries of the warmed window, then live entries. The records
/// of a topic that is read from the start are passed on at once, between an `Assigned` with the first positions and one with
/// those at the end; it is read again from the start if it was recreated or truncated. Another
/// `Assigned` follows when partitions are added, and one with another epoch when the topic was recreated. After a
/// `truncated` gap, the partition continues at the gap's first offset.
pub type Sink = Arc<dyn Fn(Feed) + Send + Sync>;

/// Notifies a writer (first) which of its sessions should request data of the log again. May block briefly.
pub type Call = Arc<dyn Fn(u32, Vec<u32>) + Send + Sync>;

/// One kind of source, with its clusters and their topics.
pub trait Connector: Send + Sync {
    /// The topics of all clusters. A topic has one cluster.
    fn topics(&self) -> Vec<&TopicConfig>;

    /// Starts reading all clusters, one source each. Connects and reconnects in the background.
    ///
    /// # Errors
    ///
    /// A thread cannot be started.
    fn read(&self, sink: &Sink, metrics: &Arc<Metrics>, tracer: Option<&Tracer>) -> io::Result<Vec<Box<dyn Source>>>;

    /// The logs of all clusters, for replay beyond the windows.
    ///
    /// # Errors
    ///
    /// A thread cannot be started.
    fn history(&self, replay: &ReplayLog, metrics: &Arc<Metrics>, call: &Call) -> io::Result<Arc<dyn History>>;
}

/// The running source of one cluster. Dropping it ends its threads without waiting.
pub trait Source: Send {
    /// Cheap: readiness requests it for every probe.
    fn status(&self) -> Status;

    /// Reads the topics of these clusters from now on, as they are configured there. `applied` is dropped once what
    /// changes has taken effect everywhere. Does not block. A source without a configuration has nothing to apply.
    fn reconfigure(&self, _: &[&Kafka], _applied: &Applied) {}

    /// Requests that its threads end. Does not block.
    fn request_stop(&self);

    /// Waits for its threads, at most until `deadline`; then they are detached.
    fn join(&self, deadline: Instant);
}

/// The log of topics, with chunks that it caches.
pub trait History: Log + Chunks {
    /// Whether it has the log of this topic.
    fn has(&self, topic: &Topic) -> bool;

    /// Reads the topics of these clusters from now on, as they are configured there. Called before the sources are. A
    /// log without a configuration has nothing to apply.
    fn reconfigure(&self, _: &[&Kafka]) {}

    /// Caches almost no chunks while memory pressure is high.
    fn be_short(&self, is_short: bool);

    /// The bytes of cached chunks.
    fn cached_bytes(&self) -> usize;

    /// Stops its threads, and waits for at most [`STOP_WAIT`]; then they are detached.
    fn stop(&self);
}

/// The status of a source, for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The replay window is warm, or the time limit for warming it is over.
    pub warm: bool,
    /// A broker responds.
    pub connected: bool,
}

impl Status {
    /// Warm and connected if all sources are. Without a source, nothing is connected.
    pub fn of<'a>(sources: impl Iterator<Item = &'a dyn Source>) -> Self {
        let all: Vec<Self> = sources.map(Source::status).collect();
        let connected = !all.is_empty() && all.iter().all(|status| status.connected);
        Self { warm: all.iter().all(|status| status.warm), connected }
    }
}

/// Stops these sources, and waits for at most [`STOP_WAIT`] for all together.
pub fn stop_all(sources: Vec<Box<dyn Source>>) {
    let deadline = Instant::now() + STOP_WAIT;
    sources.iter().for_each(|source| source.request_stop());
    sources.iter().for_each(|source| source.join(deadline));
}
