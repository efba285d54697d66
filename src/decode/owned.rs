//! A record that is decoded later than it is received.

use std::time::Instant;

use super::{Header, Record};
use crate::traceparent::TraceParent;

type OwnedHeader = (Box<str>, Option<Box<[u8]>>);

/// A record with copies of its parts.
#[derive(Debug)]
pub struct OwnedRecord {
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Box<[u8]>>,
    headers: Box<[OwnedHeader]>,
    value: Option<Box<[u8]>>,
    received: Instant,
    received_ms: i64,
    trace: Option<TraceParent>,
}

impl From<&Record<'_>> for OwnedRecord {
    fn from(record: &Record<'_>) -> Self {
        let header = |(name, value): &Header<'_>| (Box::from(*name), value.map(Box::from));
        Self {
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(Box::from),
            headers: record.headers.iter().map(header).collect(),
            value: record.value.map(Box::from),
            received: record.received,
            received_ms: record.received_ms,
            trace: record.trace,
        }
    }
}

impl OwnedRecord {
    /// Calls `read` with the record.
    pub fn with<T>(&self, read: impl FnOnce(&Record<'_>) -> T) -> T {
        let headers: Vec<Header<'_>> = self.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        read(&Record {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            headers: &headers,
            value: self.value.as_deref(),
            received: self.received,
            received_ms: self.received_ms,
            trace: self.trace,
        })
    }
}
