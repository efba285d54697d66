//! The event: a decoded Kafka record, and what every stream sends.
//!
//! It has an identity, keys and a canonical envelope, and carries its shared encodings. It does not depend on wire
//! formats.

mod id;

use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use bytes::Bytes;

pub use crate::encoding::{Encoding, FrameKey, Frames};
use crate::traceparent::TraceParent;

pub use id::{BadEventId, EventId, TOPIC_NAME_BYTES_MAX, Topic, is_topic_name};

/// The overhead of an event in bytes, in addition to its parts: reference counts, rounding by the allocator, and the
/// pointers to it in the windows of a few writers.
const EVENT_OVERHEAD_BYTES: usize = 192;

/// An event, immutable once built, and shared by all windows, queues and writers.
#[derive(Debug)]
pub struct Event {
    pub id: EventId,
    /// The position after it: its offset plus one, or a later offset if those in between are known to contain no
    /// records.
    pub next: i64,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// The envelope's `type`.
    pub kind: Arc<str>,
    /// The declared keys of this event, sorted by name: `("userId", "u123")`.
    pub keys: Box<[(Arc<str>, Box<str>)]>,
    /// The canonical envelope: one JSON object without line breaks, `{"id":...,"ts":...,"type":...,...,"data":...}`.
    pub envelope: Bytes,
    /// The range of the value of `data` in `envelope`.
    pub payload: Range<usize>,
    /// Whether `data` is a string of base64-encoded bytes (RFC 4648 section 4).
    pub is_base64: bool,
    /// Whether it lacks a declared key, and clients that are bound to that key receive a gap in its place.
    pub is_gap_without_key: bool,
    /// When the record was taken from Kafka.
    pub received: Instant,
    /// The wall time of `received`, in milliseconds since the Unix epoch.
    pub received_ms: i64,
    /// The span of its receipt, if the event is sampled (see `traces`). The core only carries it.
    pub trace: Option<Box<TraceParent>>,
    /// The shared encodings.
    pub frames: Frames,
}

impl Event {
    /// The value of a declared key, if this event has it.
    pub fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(n, _)| **n == *name).map(|(_, value)| &**value)
    }

    /// The gap range for a client that does not receive this event.
    pub fn range(&self) -> GapRange {
        let EventId { topic, partition, offset } = &self.id;
        GapRange { topic: topic.clone(), partition: *partition, from: *offset, to: *offset }
    }

    /// Memory in bytes, without encodings.
    pub fn weight(&self) -> usize {
        let keys: usize = self.keys.iter().map(|(_, value)| size_of::<(Arc<str>, Box<str>)>() + value.len()).sum();
        size_of::<Self>() + EVENT_OVERHEAD_BYTES + self.envelope.len() + self.kind.len() + keys
    }

    /// The same event with another position after it, without encodings.
    pub fn with_next(&self, next: i64) -> Self {
        Self { next, ..self.with_envelope(self.envelope.clone(), self.payload.clone()) }
    }

    /// The same event with another envelope and the range of its `data`, without encodings.
    pub fn with_envelope(&self, envelope: Bytes, payload: Range<usize>) -> Self {
        Self {
            id: self.id.clone(),
            next: self.next,
            ts: self.ts,
            kind: self.kind.clone(),
            keys: self.keys.clone(),
            envelope,
            payload,
            is_base64: self.is_base64,
            is_gap_without_key: self.is_gap_without_key,
            received: self.received,
            received_ms: self.received_ms,
            trace: None,
            frames: Frames::default(),
        }
    }

    /// The JSON of `data` alone.
    pub fn data(&self) -> &[u8] {
        &self.envelope[self.payload.clone()]
    }
}

/// Why events are missing: the `cause` of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The client read too slowly, and its queue was full.
    Overflow,
    /// The window, or the log, no longer contains the requested events.
    Retention,
    /// The cursor is beyond the end of the log: the log was truncated, or the cursor is forged.
    Truncated,
    /// The topic was deleted and recreated: the events of its old log after the client's position are lost.
    TopicRecreated,
    /// The log contains the requested events, but they exceed the replay limit of a client.
    ReplayLimit,
    /// The broker of a partition did not respond while the stream was open. Some of these records may have come since;
    /// which ones cannot be known.
    Unavailable,
    /// A record that could not be decoded.
    Undecodable,
    /// An event whose data does not conform to the schema of its topic.
    Invalid,
    /// A batch of records that the Kafka client cannot decompress, parse or receive.
    Unreadable,
    /// An event without a key that the client is bound to, of a topic that reports these.
    MissingKey,
}

impl GapCause {
    /// The name on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Retention => "retention",
            Self::Truncated => "truncated",
            Self::TopicRecreated => "topic-recreated",
            Self::ReplayLimit => "replay-limit",
            Self::Unavailable => "unavailable",
            Self::Undecodable => "undecodable",
            Self::Invalid => "invalid",
            Self::Unreadable => "unreadable",
            Self::MissingKey => "missing-key",
        }
    }
}

/// The offsets `from..=to` of one partition that a client does not receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRange {
    pub topic: Topic,
    pub partition: i32,
    pub from: i64,
    /// [`Self::OPEN`] if the end of the log is unknown.
    pub to: i64,
}

impl GapRange {
    /// The end of a range in a deleted log: no offset is as high.
    pub const OPEN: i64 = i64::MAX;
}

/// Events that a client does not receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub cause: GapCause,
    /// At most one range per partition.
    pub ranges: Vec<GapRange>,
    /// How many of the client's events are missing, if known.
    pub missed: Option<u64>,
    /// The client's position after the gap.
    pub cursor: Option<Bytes>,
}

impl Gap {
    /// A loss at the source, which may affect any client.
    pub fn at_source(cause: GapCause, range: GapRange, cursor: Bytes) -> Self {
        Self { cause, ranges: vec![range], missed: None, cursor: Some(cursor) }
    }

    /// The loss of an event that a queue drops.
    pub fn of_event(event: &Event, encoding: &Encoding) -> Self {
        let ranges = vec![event.range()];
        Self { cause: GapCause::Overflow, ranges, missed: Some(1), cursor: Some(encoding.cursor.clone()) }
    }

    /// Merges a later gap of the same cause; the caller sets the position.
    pub fn join(&mut self, later: Self) {
        for range in later.ranges {
            match self.ranges.iter_mut().find(|known| known.topic == range.topic && known.partition == range.partition)
            {
                Some(known) => {
                    known.from = known.from.min(range.from);
                    known.to = known.to.max(range.to);
                }
                None => self.ranges.push(range),
            }
        }
        self.missed = self.missed.zip(later.missed).map(|(a, b)| a + b);
    }
}

/// The identity of a topic, derived from its UUID, which distinguishes a recreated topic from its predecessor. 0 if
/// unknown.
pub type Epoch = u32;

/// One entry of the log, in the order in which every writer receives it.
#[derive(Clone, Debug)]
pub enum Entry {
    Event(Arc<Event>),
    /// Records that will never be events (undecodable, unreadable), or that the source lost (retention, truncation). A
    /// truncated log ends before the range: the next record has the range's first offset.
    Gap {
        cause: GapCause,
        range: GapRange,
    },
    /// The offsets from the partition's current position to `end` contain no records: control records, records of
    /// aborted transactions, or compacted ones. They are not missing; positions skip them.
    Hole {
        topic: Topic,
        partition: i32,
        end: i64,
    },
}

impl Entry {
    /// The first offset of the entry.
    pub fn first_offset(&self) -> i64 {
        match self {
            Self::Event(event) => event.id.offset,
            Self::Gap { range, .. } => range.from,
            Self::Hole { end, .. } => end - 1,
        }
    }

    /// Sets the position after this event to `next`: no record is in between. False if the entry is not an event, or is
    /// shared already.
    #[must_use]
    pub fn go_on_at(&mut self, next: i64) -> bool {
        let Self::Event(event) = self else { return false };
        let event = Arc::get_mut(event);
        event.map(|event| event.next = event.next.max(next)).is_some()
    }

    /// Memory in bytes, without encodings.
    pub fn weight(&self) -> usize {
        match self {
            Self::Event(event) => event.weight(),
            Self::Gap { .. } | Self::Hole { .. } => size_of::<Self>() + EVENT_OVERHEAD_BYTES,
        }
    }
}

/// Replaces the position of a partition while its log has not been reached, so that nothing is known of it.
pub const UNKNOWN_POSITION: i64 = -1;

/// The position of a client in a partition that was not read while its stream was open: what came since this time is
/// new to it. In milliseconds since the Unix epoch. Positions of this kind are less than any offset, and the earlier
/// the time, the less they are.
pub fn unread_since(ms: i64) -> i64 {
    i64::MIN.saturating_add(ms.clamp(1, UNREAD_SINCE_MS_MAX))
}

/// How far the clocks of replicas, brokers and producers may differ: a time stands for records from this long before.
pub const CLOCK_SKEW_MS: i64 = 60_000;

/// How long replicas take to learn of an added partition. At most [`CLOCK_SKEW_MS`], so that what is sent again before
/// an event includes all of a partition that was unknown when it was sent.
pub const PARTITION_KNOWN_MS: i64 = CLOCK_SKEW_MS;

/// The latest time of a position that is a time.
pub const UNREAD_SINCE_MS_MAX: i64 = i64::MAX / 4;

/// The time of a position, if it is a time instead of an offset.
pub fn time_of(position: i64) -> Option<i64> {
    (position < UNKNOWN_POSITION).then(|| position.wrapping_sub(i64::MIN))
}

/// Whether a position is an offset.
pub fn is_offset(position: i64) -> bool {
    position >= 0
}

/// The partitions of a topic. Sent before the topic's first entry, when partitions are added or respond for the first
/// time, and when the topic was recreated (with another epoch, if epochs are known).
#[derive(Clone, Debug)]
pub struct Assigned {
    pub topic: Topic,
    pub epoch: Epoch,
    /// The next offset to be read of partition 0, 1, 2, ..., or [`UNKNOWN_POSITION`] while the partition's leader has
    /// not responded.
    pub next: Arc<[i64]>,
    /// When this was known, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What precedes the positions of partitions that are read for the first time, where open streams may lack some of
    /// it.
    pub unseen: Arc<[GapRange]>,
}

impl Assigned {
    /// Partitions that are read from these offsets on, as of an unknown time.
    pub fn new(topic: impl Into<Topic>, epoch: Epoch, next: impl Into<Arc<[i64]>>) -> Self {
        Self { topic: topic.into(), epoch, next: next.into(), at_ms: 0, unseen: [].into() }
    }
}

/// The size of a topic's replay window; the limit that is reached first applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    pub events: usize,
    /// Memory in bytes; see [`Event::weight`].
    pub bytes: usize,
}

/// A change of the configuration of a topic, at this position among its entries.
#[derive(Clone, Debug)]
pub struct TopicChange {
    pub topic: Topic,
    /// The size of its replay window; `None` if the topic is no longer read.
    pub window: Option<WindowLimits>,
    /// Whether records become other events from here on: windows and chunks have none of the previous ones.
    pub is_reshaped: bool,
    pub applied: Applied,
}

/// Is dropped by everything that has applied a change: its receiver is disconnected then.
pub type Applied = mpsc::Sender<Infallible>;

/// A message from a source to every writer.
#[derive(Clone, Debug)]
pub enum Feed {
    Assigned(Assigned),
    Topic(TopicChange),
    /// Entries in hub order; those of one partition are in offset order.
    Batch(Arc<[Entry]>),
    /// A source has finished its warm-up. Its assigned topics have been read up to the end that their logs had when
    /// reading began, so that their windows allow resuming. The others do not exist, or could not be read in time. Sent
    /// after every warm-up, with all topics of the source; other sources may still be warming up.
    Live {
        topics: Arc<[Topic]>,
    },
}

impl Feed {
    /// The number of entries.
    pub fn entries(&self) -> usize {
        match self {
            Self::Batch(entries) => entries.len(),
            Self::Assigned(_) | Self::Topic(_) | Self::Live { .. } => 0,
        }
    }
}
