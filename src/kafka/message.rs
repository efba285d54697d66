//! Converts a librdkafka message to a record for the decoder.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use crate::decode::{Header, Record};

/// The record of a message with these headers, with the current time as its time of receipt.
pub(super) fn record<'a>(message: &'a BorrowedMessage<'_>, headers: &'a [Header<'a>]) -> Record<'a> {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key(),
        headers,
        value: message.payload(),
        received: Instant::now(),
        received_ms: unix_ms(),
        trace: None,
    }
}

/// The time in milliseconds since the Unix epoch.
pub(super) fn unix_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
