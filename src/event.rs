//! The event: what a Kafka record becomes, and what every stream sends.
//!
//! It knows its identity, its keys and its canonical envelope, and carries the encodings that are kept of it, so that an
//! encoding is made once and shared. It does not know any wire format.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use crate::encoding::{Encoding, FrameKey, Frames};
use crate::traceparent::TraceParent;

/// The name of a Kafka topic: 1 to 249 characters of `[A-Za-z0-9._-]`.
pub type Topic = Arc<str>;

/// Where a record stands in the Kafka log: `topic:partition:offset`.
///
/// The offset may be -1, "before the first record": a cursor for a partition that is still empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
}

/// Why a text is no event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected topic:partition:offset")]
pub struct BadEventId;

/// The longest name Kafka gives a topic, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let mut parts = text.split(':');
        let (Some(topic), Some(partition), Some(offset), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadEventId);
        };
        if !is_topic_name(topic) {
            return Err(BadEventId);
        }
        let partition: i32 = partition.parse().map_err(|_| BadEventId)?;
        let offset: i64 = offset.parse().map_err(|_| BadEventId)?;
        // i64::MAX is left out so that "the offset after this one" always exists.
        if partition < 0 || !(-1..i64::MAX).contains(&offset) {
            return Err(BadEventId);
        }
        Ok(Self { topic: topic.into(), partition, offset })
    }
}

/// Whether Kafka would accept this text as a topic's name.
pub fn is_topic_name(text: &str) -> bool {
    (1..=TOPIC_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What an event costs beside its parts, in bytes: reference counts, what the allocator rounds up, and the pointers to it
/// in the windows of a few writers.
const EVENT_OVERHEAD_BYTES: usize = 192;

/// One event, immutable once built and shared by every window, queue and writer.
#[derive(Debug)]
pub struct Event {
    pub id: EventId,
    /// The position after it: the offset after its own, or a later one where those between are known to hold no records.
    pub next: i64,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// The envelope's `type`.
    pub kind: Arc<str>,
    /// The declared keys this event carries, sorted by name: `("userId", "u123")`.
    pub keys: Box<[(Arc<str>, Box<str>)]>,
    /// The canonical envelope: one JSON object without line breaks, `{"id":...,"ts":...,"type":...,...,"data":...}`.
    pub envelope: Bytes,
    /// Where in `envelope` the value of `data` stands.
    pub payload: Range<usize>,
    /// `data` is a string that holds bytes in base64 (RFC 4648 section 4).
    pub is_base64: bool,
    /// When the record was taken from Kafka.
    pub received: Instant,
    /// The span of its receipt, where its way is told of (see `traces`). The core only carries it.
    pub trace: Option<Box<TraceParent>>,
    /// The encodings that are kept.
    pub frames: Frames,
}

impl Event {
    /// The value of a declared key, if this event carries it.
    pub fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(n, _)| **n == *name).map(|(_, value)| &**value)
    }

    /// What a client misses that does not get this event.
    pub fn range(&self) -> GapRange {
        let EventId { topic, partition, offset } = &self.id;
        GapRange { topic: topic.clone(), partition: *partition, from: *offset, to: *offset }
    }

    /// Bytes of memory that keeping this event takes, its encodings not counted.
    pub fn weight(&self) -> usize {
        let keys: usize = self.keys.iter().map(|(_, value)| size_of::<(Arc<str>, Box<str>)>() + value.len()).sum();
        size_of::<Self>() + EVENT_OVERHEAD_BYTES + self.envelope.len() + self.kind.len() + keys
    }

    /// The same event, after which a position is `next`; nothing is encoded of it yet.
    pub fn with_next(&self, next: i64) -> Self {
        Self {
            id: self.id.clone(),
            next,
            ts: self.ts,
            kind: self.kind.clone(),
            keys: self.keys.clone(),
            envelope: self.envelope.clone(),
            payload: self.payload.clone(),
            is_base64: self.is_base64,
            received: self.received,
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
    /// The client read too slowly and its queue was full.
    Overflow,
    /// The replay window (or the log) no longer holds what the client asked for.
    Retention,
    /// The cursor lies beyond the end of the log: the log lost its tail, or the cursor is made up.
    Truncated,
    /// The topic was deleted and made anew: what its old log held beyond the client's position is gone.
    TopicRecreated,
    /// The log holds what was asked for, but it is more than one client is read out of it.
    ReplayLimit,
    /// A record that could not be read as an event.
    Undecodable,
    /// A batch of records that the Kafka client cannot decompress, parse or receive.
    Unreadable,
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
            Self::Undecodable => "undecodable",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Offsets `from..=to` of one partition that a client does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRange {
    pub topic: Topic,
    pub partition: i32,
    pub from: i64,
    /// [`Self::OPEN`] where nobody knows how far the log went.
    pub to: i64,
}

impl GapRange {
    /// The end of a range of a log that is gone: no offset is this high.
    pub const OPEN: i64 = i64::MAX;
}

/// Which topic of a name it is: drawn from the topic's UUID, so that one made anew under the same name is told from the
/// one before. 0 where it is not known.
pub type Epoch = u32;

/// What the source hands to the hub, in the order every writer sees it.
#[derive(Clone, Debug)]
pub enum Entry {
    Event(Arc<Event>),
    /// Records that will never be events (undecodable, unreadable), or that the source lost (retention, truncation). A truncated log
    /// ends before the range: what follows goes on at its first offset.
    Gap {
        cause: GapCause,
        range: GapRange,
    },
    /// The offsets from where the partition was read before `end` hold no records: control records, those of aborted
    /// transactions, what was compacted away. Nobody misses them, and positions pass them.
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

    /// Lets those who get this event go on at `next`: no record stands between. False where it is no event, or was handed
    /// on already.
    #[must_use]
    pub fn go_on_at(&mut self, next: i64) -> bool {
        let Self::Event(event) = self else { return false };
        let event = Arc::get_mut(event);
        event.map(|event| event.next = event.next.max(next)).is_some()
    }

    /// Bytes of memory that keeping this entry takes, encodings not counted.
    pub fn weight(&self) -> usize {
        match self {
            Self::Event(event) => event.weight(),
            Self::Gap { .. } | Self::Hole { .. } => size_of::<Self>() + EVENT_OVERHEAD_BYTES,
        }
    }
}

/// One message from the source to every writer.
#[derive(Clone, Debug)]
pub enum Feed {
    /// What is read of a topic: the next offset to be read of partition 0, 1, 2, ... Sent before the topic's first
    /// entry, and again when partitions are added, or the topic was made anew: then its epoch is another one, where there
    /// are epochs.
    Assigned { topic: Topic, epoch: Epoch, next: Arc<[i64]> },
    /// Entries in hub order; those of one partition are in offset order.
    Batch(Arc<[Entry]>),
    /// A source is done with waiting: those of its topics that were assigned have been read up to where their logs
    /// ended when reading began, so that what is in their windows can be resumed from; the others are not there, or
    /// could not be read in time. Sent after every warm-up, with all topics of the source; those of other sources may
    /// still be warming.
    Live { topics: Arc<[Topic]> },
}

impl Feed {
    /// How many entries it brings.
    pub fn entries(&self) -> usize {
        match self {
            Self::Batch(entries) => entries.len(),
            Self::Assigned { .. } | Self::Live { .. } => 0,
        }
    }
}
