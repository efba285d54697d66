//! A position in a stream, as clients store it.
//!
//! `topic:partition:offset` names the last received event. On a stream with more than one partition, or if offsets
//! after the event contain no records, it is followed by `~` and a base64url text with the next offset of every
//! partition. With that, any replica can resume exactly, although replicas interleave partitions differently. The
//! characters are `[A-Za-z0-9._:~-]`, which are valid in headers and URLs.
//!
//! A cursor is not signed: it only states a position, and authorization applies to everything that is sent after it.

mod snapshot;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::encoding::OtherPositions;
use crate::event::{
    BadEventId, Epoch, EventId, TOPIC_NAME_BYTES_MAX, Topic, UNREAD_SINCE_MS_MAX, is_offset, time_of, unread_since,
};

pub use snapshot::{EncodedCut, SnapshotCursor};

/// The longest cursor that is accepted, in bytes. With a path it fits into a request target (16 KiB). It can contain
/// some 3,700 partitions with a million records each.
pub const CURSOR_BYTES_MAX: usize = 15 * 1024;

/// The longest opaque part, in bytes: the rest is for an event id with the longest topic name and numbers of 11 and 20
/// characters.
const OPAQUE_BYTES_MAX: usize = CURSOR_BYTES_MAX - (TOPIC_NAME_BYTES_MAX + 11 + 20 + 3);

/// The most characters of a partition's offset: nine bytes in base64.
const PARTITION_CHARS_MAX: usize = 12;

/// The most partitions of one topic in a cursor.
const PARTITIONS_MAX: usize = 10_000;

/// How many more partitions of a topic a cursor may contain than this replica knows: partitions that were added
/// recently.
pub const PARTITIONS_AHEAD: usize = 256;

/// The first byte of the opaque part, if it contains offsets only.
const OFFSETS: u8 = 1;
/// The same if some positions are times: numbers are doubled, and those of times are odd.
const OFFSETS_AND_TIMES: u8 = 2;

/// A client's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub id: EventId,
    /// The opaque part, still encoded: its meaning depends on the stream.
    pub opaque: Option<Box<str>>,
}

impl Cursor {
    /// Whether this cursor is before the other one on a stream of these topics, as far as the two can be compared.
    pub fn is_behind(&self, other: &Self, topics: &[Topic]) -> bool {
        let positions = |cursor: &Self| Positions::decode(cursor.opaque.as_deref()?, topics);
        match (positions(self), positions(other)) {
            (Some(this), Some(other)) => this != other && this.is_within(&other),
            _ => {
                let place = |id: &EventId| (id.topic.clone(), id.partition);
                place(&self.id) == place(&other.id) && self.id.offset < other.id.offset
            }
        }
    }
}

impl FromStr for Cursor {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(BadEventId);
        }
        let (id, opaque) = match text.split_once('~') {
            Some((id, opaque)) => (id, Some(opaque)),
            None => (text, None),
        };
        let readable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if opaque.is_some_and(|opaque| !opaque.bytes().all(readable)) {
            return Err(BadEventId);
        }
        Ok(Self { id: id.parse()?, opaque: opaque.map(Into::into) })
    }
}

impl Cursor {
    /// Removes an opaque part that was created on a stream with other topics. `None` if it names more than
    /// [`PARTITIONS_AHEAD`] partitions of a topic beyond the `known` number.
    pub fn fitted(&self, topics: &[Topic], known: &[usize]) -> Option<Self> {
        let positions = self.opaque.as_ref().and_then(|opaque| Positions::decode(opaque, topics));
        let Some(positions) = positions else { return Some(self.id.clone().into()) };
        let is_of_stream =
            positions.0.iter().zip(known).all(|(topic, known)| topic.next.len() <= known + PARTITIONS_AHEAD);
        is_of_stream.then(|| self.clone())
    }
}

impl From<EventId> for Cursor {
    fn from(id: EventId) -> Self {
        Self { id, opaque: None }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.opaque {
            Some(opaque) => write!(f, "{}~{opaque}", self.id),
            None => self.id.fmt(f),
        }
    }
}

/// A client's position in every partition of every topic of a stream, in the order of the stream's topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(pub Vec<TopicPosition>);

/// A client's position in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPosition {
    /// The epoch of the topic; 0 if unknown.
    pub epoch: Epoch,
    /// The next offset of partition 0, 1, 2, ..., or a [time](unread_since) for one that was not read.
    pub next: Vec<i64>,
}

impl Positions {
    /// Whether an event id alone expresses these positions.
    pub fn is_single(&self) -> bool {
        self.0.len() == 1 && self.0[0].next.len() == 1
    }

    /// Whether the position in this partition is known.
    pub fn is_known(&self, topic_index: usize, partition: i32) -> bool {
        let next = self.0.get(topic_index).and_then(|topic| topic.next.get(partition as usize));
        next.copied().is_some_and(is_offset)
    }

    /// Whether this offset has not been passed. In an unknown partition, no offset has been passed.
    pub fn is_to_come(&self, topic_index: usize, partition: i32, offset: i64) -> bool {
        let next = self.0.get(topic_index).and_then(|topic| topic.next.get(partition as usize));
        next.is_none_or(|next| *next <= offset)
    }

    /// Whether the other positions, of the same topics, are at or after these.
    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(this, other)| {
            let is_passed = |(n, next): (usize, &i64)| other.next.get(n).is_some_and(|passed| next <= passed);
            this.epoch == other.epoch && this.next.iter().enumerate().all(is_passed)
        })
    }

    /// The positions in all partitions but this one.
    pub fn others(&self, topic_index: usize, partition: usize) -> OtherPositions {
        let mut numbers = Vec::with_capacity(self.0.iter().map(|topic| 2 + topic.next.len()).sum());
        for (n, topic) in self.0.iter().enumerate() {
            numbers.extend([topic.epoch.into(), i64::try_from(topic.next.len()).unwrap_or(i64::MAX)]);
            let left_out = |p: usize| n == topic_index && p == partition;
            numbers.extend(topic.next.iter().enumerate().map(|(p, next)| if left_out(p) { i64::MIN } else { *next }));
        }
        OtherPositions::new(numbers)
    }

    /// Marks everything before the offset `next` of this partition as passed.
    pub fn pass(&mut self, topic_index: usize, partition: i32, next: i64) {
        if let Some(known) = self.0.get_mut(topic_index).and_then(|topic| topic.next.get_mut(partition as usize)) {
            *known = next;
        }
    }

    /// Moves back to the other positions where they are behind; for a recreated topic, replaces the position.
    pub fn go_back(&mut self, to: &Self) {
        for (topic, to) in self.0.iter_mut().zip(&to.0) {
            if topic.epoch != to.epoch && topic.epoch != 0 {
                topic.clone_from(to);
            }
            topic.next.iter_mut().zip(&to.next).for_each(|(next, to)| *next = (*next).min(*to));
        }
    }

    /// Resets the positions of topics that have another epoch in `as_known`.
    pub fn start_over(&mut self, as_known: &Self) {
        for (topic, known) in self.0.iter_mut().zip(&as_known.0) {
            if topic.epoch != known.epoch && topic.epoch != 0 && known.epoch != 0 {
                *topic = TopicPosition { epoch: known.epoch, next: vec![0; known.next.len()] };
            }
        }
    }

    /// The cursor of a client that has received everything before these positions, with `id` as the last event. If it
    /// would be too long to be accepted, only the event id, which resumes at least once.
    pub fn cursor(&self, topics: &[Topic], id: EventId) -> Cursor {
        // Offsets after the event may contain no records, which the id cannot express.
        let is_said = self.is_single() && self.0[0].next[0] == id.offset + 1;
        let opaque = (!is_said).then(|| self.encode(topics));
        Cursor { id, opaque: opaque.filter(|opaque| opaque.len() <= OPAQUE_BYTES_MAX) }
    }

    /// Whether these positions fit into a cursor.
    pub fn fit(&self, topics: &[Topic]) -> bool {
        let partitions: usize = self.0.iter().map(|topic| topic.next.len()).sum();
        // Most streams are far below the limit.
        partitions < OPAQUE_BYTES_MAX / PARTITION_CHARS_MAX / 2 || self.encode(topics).len() <= OPAQUE_BYTES_MAX
    }

    fn encode(&self, topics: &[Topic]) -> Box<str> {
        let mut bytes = Vec::with_capacity(16 + 4 * self.0.iter().map(|topic| topic.next.len()).sum::<usize>());
        let has_times = self.0.iter().flat_map(|topic| &topic.next).any(|next| time_of(*next).is_some());
        bytes.push(if has_times { OFFSETS_AND_TIMES } else { OFFSETS });
        bytes.extend_from_slice(&fingerprint(topics).to_le_bytes());
        for topic in &self.0 {
            put_varint(&mut bytes, topic.epoch.into());
            put_varint(&mut bytes, topic.next.len() as u64);
            for next in &topic.next {
                let (number, is_time) = time_of(*next).map_or((*next, false), |ms| (ms, true));
                let number = u64::try_from(number).unwrap_or(0);
                put_varint(&mut bytes, if has_times { number << 1 | u64::from(is_time) } else { number });
            }
        }
        URL_SAFE_NO_PAD.encode(bytes).into()
    }

    /// Decodes the opaque part of a cursor for a stream of these topics; `None` if it belongs to another stream, or is
    /// invalid.
    pub fn decode(opaque: &str, topics: &[Topic]) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(opaque).ok()?;
        let (version, rest) = bytes.split_first()?;
        let position = match *version {
            OFFSETS => offset,
            OFFSETS_AND_TIMES => |number: u64| match number & 1 {
                0 => offset(number >> 1),
                _ => i64::try_from(number >> 1)
                    .ok()
                    .filter(|ms| (1..=UNREAD_SINCE_MS_MAX).contains(ms))
                    .map(unread_since),
            },
            _ => return None,
        };
        let mut rest = rest.strip_prefix(&fingerprint(topics).to_le_bytes())?;
        let mut positions = Vec::with_capacity(topics.len());
        for _ in topics {
            let epoch = Epoch::try_from(take_varint(&mut rest)?).ok()?;
            let partitions = usize::try_from(take_varint(&mut rest)?).ok().filter(|n| *n <= PARTITIONS_MAX)?;
            let next = (0..partitions).map(|_| position(take_varint(&mut rest)?)).collect::<Option<Vec<_>>>()?;
            positions.push(TopicPosition { epoch, next });
        }
        rest.is_empty().then_some(Self(positions))
    }
}

fn offset(number: u64) -> Option<i64> {
    i64::try_from(number).ok().filter(|next| *next < i64::MAX)
}

/// Distinguishes streams with different topics: FNV-1a over the names (the Internet draft "The FNV Non-Cryptographic
/// Hash Algorithm").
fn fingerprint(topics: &[Topic]) -> u32 {
    let bytes = topics.iter().flat_map(|topic| topic.bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
