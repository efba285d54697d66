//! The hub's interface to Kafka's log: chunks of it, from which replay reads what a window no longer contains.
//!
//! The source implements it. No call blocks: a chunk that is not cached is requested, and the session is called when it
//! is available.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::ends::OtherEpoch;
use super::state::Table;
use super::window::is_other;
use crate::event::{Entry, Epoch, Topic};
use crate::route::Stream;

/// A contiguous chunk of one partition's log, read once and shared by all sessions that replay it.
#[derive(Debug)]
pub struct Page {
    pub topic: Topic,
    pub partition: i32,
    /// The epoch of the topic that it was read from.
    pub epoch: Epoch,
    /// The offsets that were read, with or without records.
    pub offsets: Range<i64>,
    /// The entries in offset order. If the log no longer contains the first offsets, a `retention` gap comes first.
    pub entries: Box<[Entry]>,
    /// Kafka's timestamp of the first record, in milliseconds since the Unix epoch.
    pub first_ms: Option<i64>,
    /// The memory of its entries, in bytes.
    pub bytes: usize,
}

/// The part of the log that a session needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: Topic,
    pub partition: i32,
    /// The epoch of the topic; 0 means any.
    pub epoch: Epoch,
    /// The offset that the chunk must contain.
    pub offset: i64,
    /// The end of the needed offsets, greater than `offset`: the window contains the rest.
    pub until: i64,
}

impl Place {
    /// Whether a page holds it.
    pub fn is_in(&self, page: &Page) -> bool {
        page.offsets.contains(&self.offset) && !is_other(self.epoch, page.epoch)
    }
}

/// The session that requests data, and the writer that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    pub writer: u32,
    pub session: u32,
}

/// The result of a request.
#[derive(Clone, Debug)]
pub enum Lookup<T> {
    Found(T),
    /// It is being read. The session is called when it is available, or when a new request may help.
    Asked,
    /// The brokers do not respond. The request stays pending.
    Down,
    /// Too many requests are pending: nothing was requested.
    Busy,
}

/// The limits of one client's replay from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Records; 0 disables replay from the log.
    pub events: u64,
    /// Bytes of envelopes.
    pub bytes: u64,
    /// Since the request, without the time in which no broker responded.
    pub time: Duration,
}

/// The offsets of a time in the partitions of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsAt {
    /// The epoch of the topic as a broker described it when the offsets were requested; 0 if unknown.
    pub epoch: Epoch,
    /// One per partition that the topic had then; none if it did not exist.
    pub offsets: Arc<[i64]>,
}

impl OffsetsAt {
    /// Of a topic whose epoch is not known.
    pub fn new(offsets: impl Into<Arc<[i64]>>) -> Self {
        Self { epoch: 0, offsets: offsets.into() }
    }

    /// Whether they may be those of a topic with this epoch.
    pub fn is_of(&self, epoch: Epoch) -> bool {
        !is_other(self.epoch, epoch)
    }
}

/// A topic as a broker describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// 0 if unknown.
    pub epoch: Epoch,
    /// 0 if it does not exist.
    pub partitions: usize,
}

impl TopicDescription {
    /// Whether no other topic exists than the one that is read here, although a position names another one. It may have
    /// been deleted.
    pub fn confirms(&self, other: &OtherEpoch) -> bool {
        self.partitions == 0 || !is_other(self.epoch, other.here)
    }
}

/// Replaces an offset if the log has no record as late as the requested time.
pub const NO_OFFSET: i64 = i64::MAX;

/// The log behind the windows.
pub trait Log: Debug + Send + Sync {
    /// The chunk that contains an offset.
    fn page(&self, place: &Place, asker: Asker) -> Lookup<Arc<Page>>;

    /// The first offset of each partition at or after a time, in milliseconds since the Unix epoch; [`NO_OFFSET`] if
    /// there is none yet, [`UNKNOWN_POSITION`](crate::event::UNKNOWN_POSITION) if the partition's leader does not
    /// respond.
    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<OffsetsAt>;

    /// The description of a topic, requested at or after a time, in milliseconds since the Unix epoch. It does not depend
    /// on the leaders of partitions.
    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription>;

    /// Whether offsets can be looked up by time. A broker without a time index responds that no record is as late as
    /// the requested time.
    fn finds_times(&self, _: &Topic) -> bool {
        true
    }

    fn limits(&self) -> ReplayLimits;

    /// The state of a stream, if it has one.
    fn table(&self, _: &Stream) -> Option<&Table> {
        None
    }
}

/// An absent log: events that have left the windows are unavailable.
#[derive(Clone, Copy, Debug)]
pub struct NoLog;

impl Log for NoLog {
    fn page(&self, _: &Place, _: Asker) -> Lookup<Arc<Page>> {
        Lookup::Busy
    }

    fn offsets_at(&self, _: &Topic, _: i64, _: Asker) -> Lookup<OffsetsAt> {
        Lookup::Busy
    }

    fn description(&self, _: &Topic, _: i64, _: Asker) -> Lookup<TopicDescription> {
        Lookup::Busy
    }

    fn limits(&self) -> ReplayLimits {
        ReplayLimits { events: 0, bytes: 0, time: Duration::ZERO }
    }
}
