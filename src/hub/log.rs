//! The log behind the windows, as the hub sees it: pages of it, through which replay walks where a window no longer
//! reaches back.
//!
//! Reading them is the source's job. Nobody waits in here: what is not at hand is asked for, and who asked is called
//! again.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Entry, Epoch, Topic};

/// A piece of one partition's log, read once and shared by all who walk through it.
#[derive(Debug)]
pub struct Page {
    pub topic: Topic,
    pub partition: i32,
    /// Which topic of that name it was read from.
    pub epoch: Epoch,
    /// The offsets that were read, whether they hold records or not.
    pub offsets: Range<i64>,
    /// What they hold, in offset order. Where the log no longer holds its start, a `retention` gap comes first.
    pub entries: Box<[Entry]>,
    /// The time of the first record, in milliseconds since the Unix epoch, as Kafka has it.
    pub first_ms: Option<i64>,
    /// Bytes of memory that its entries take.
    pub bytes: usize,
}

/// What of the log somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: Topic,
    pub partition: i32,
    /// Which topic of that name is meant; 0: whichever there is.
    pub epoch: Epoch,
    /// The offset that the page must hold.
    pub offset: i64,
    /// The first offset that is not wanted any more: what lies behind is in the window. Above `offset`.
    pub until: i64,
}

/// Who asks: a session, and the writer that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    pub writer: u32,
    pub session: u32,
}

/// What is known when asked.
#[derive(Clone, Debug)]
pub enum Lookup<T> {
    Found(T),
    /// It is being read; the asker is called when it is there, or when asking again may help.
    Asked,
    /// The brokers do not answer. Asked for all the same.
    Down,
    /// Too much is asked for already: nothing was asked.
    Busy,
}

/// How much of the log one client is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Records; 0: the log is not read at all.
    pub events: u64,
    /// Bytes of envelopes.
    pub bytes: u64,
    /// From when it asked, the time during which no broker answered not counted.
    pub time: Duration,
}

/// In place of an offset where the log has no record as late as a time.
pub const NO_OFFSET: i64 = i64::MAX;

/// Where the log is to be had.
pub trait Log: Debug + Send + Sync {
    /// The page that holds an offset.
    fn page(&self, place: &Place, asker: Asker) -> Lookup<Arc<Page>>;

    /// The first offset of each partition at or after a time, in milliseconds since the Unix epoch; [`NO_OFFSET`]
    /// where there is none yet. There are as many as the topic had partitions when the brokers answered, after it was asked; no
    /// topic has none.
    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<Arc<[i64]>>;

    /// Whether the offsets of times can be had of this topic. A broker without an index of times says of every time that
    /// nothing is as late as that.
    fn finds_times(&self, _: &Topic) -> bool {
        true
    }

    fn limits(&self) -> ReplayLimits;
}

/// No log at all: what is not in a window can't be had.
#[derive(Clone, Copy, Debug)]
pub struct NoLog;

impl Log for NoLog {
    fn page(&self, _: &Place, _: Asker) -> Lookup<Arc<Page>> {
        Lookup::Busy
    }

    fn offsets_at(&self, _: &Topic, _: i64, _: Asker) -> Lookup<Arc<[i64]>> {
        Lookup::Busy
    }

    fn limits(&self) -> ReplayLimits {
        ReplayLimits { events: 0, bytes: 0, time: Duration::ZERO }
    }
}
