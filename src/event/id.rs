//! The identity of an event: its topic, partition and offset, as text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a Kafka topic: 1 to 249 characters of `[A-Za-z0-9._-]`.
pub type Topic = Arc<str>;

/// The position of a record in Kafka: `topic:partition:offset`.
///
/// The offset may be -1, "before the first record": the cursor of an empty partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
}

/// Why a text is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected topic:partition:offset")]
pub struct BadEventId;

/// The longest name of a Kafka topic, in bytes.
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
        // i64::MAX is excluded, so that the next offset always exists.
        if partition < 0 || !(-1..i64::MAX).contains(&offset) {
            return Err(BadEventId);
        }
        Ok(Self { topic: topic.into(), partition, offset })
    }
}

/// Whether Kafka accepts this text as a topic name.
pub fn is_topic_name(text: &str) -> bool {
    (1..=TOPIC_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
