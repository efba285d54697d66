//! A Kafka record becomes an event: pure, no Kafka types, no clock.
//!
//! | the record's value | the event |
//! |---|---|
//! | an object with `data` | an envelope: its fields stay in their order, `id` is replaced by ours |
//! | any other object | a bare payload: `data` is the object, declared keys are lifted out of it |
//! | any other JSON value | `data` is the value |
//! | none (a tombstone) | `"type":"delete"`, `"key"` the record's key, `"data":null` |
//! | anything else | undecodable |
//!
//! The canonical envelope is one line, `{"id":...,"ts":...,"type":...,<the other fields>,"data":...}`. Values are copied
//! byte for byte but for whitespace between tokens, so numbers keep every digit. `ts` and `type` are taken from the
//! record where they can be used and replaced where not ([`TS_MAX_MS`], [`TYPE_BYTES_MAX`]): an event is not lost for
//! its label. Of repeated `ts`, `type`, `data` and declared keys the last one counts and stands alone, so that what
//! an event is routed by is what its reader sees; other repeated names are passed on as they came.
//!
//! It does not map, filter or validate by a schema, and reads no format but JSON.

mod json;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

pub use self::json::{DEPTH_MAX, FIELDS_MAX};
use self::json::{Fields, TooDeep, append_on_one_line, append_string};
use crate::access::scalar_text;
use crate::event::{Event, EventId, Frames, Topic};

/// The longest value that is decoded, in bytes. Above what brokers take by default (1 MiB), with room for 10 MB.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest `type` that is kept, in bytes. One that is longer, empty, no string or has control characters counts
/// as absent: `message`.
pub const TYPE_BYTES_MAX: usize = 256;
/// The latest `ts` that is kept: the end of the year 9999, the last that RFC 3339 can write. One that is later,
/// negative or no integer counts as absent: the record's timestamp.
pub const TS_MAX_MS: i64 = 253_402_300_799_999;
/// How many distinct types share their text among events, so that a hostile producer fills no memory.
const KINDS_MAX: usize = 64;
/// The bytes of an envelope beside the topic and the value: id, ts, a short type, the names.
const ENVELOPE_OVERHEAD_BYTES: usize = 112;

/// A record as it came from Kafka.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// Absent: a tombstone.
    pub value: Option<&'a [u8]>,
    pub received: Instant,
    /// The wall time of `received`, in milliseconds since the Unix epoch.
    pub received_ms: i64,
}

/// Why a record is no event.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    #[error("the value is longer than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    #[error("the value is not UTF-8")]
    NotUtf8,
    #[error("the value is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the value is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("the envelope has more than {FIELDS_MAX} fields")]
    TooManyFields,
}

/// Decodes the records of one topic.
#[derive(Debug)]
pub struct Decoder {
    topic: Topic,
    /// Sorted, so that the keys of an event are.
    keys: Box<[Arc<str>]>,
    kinds: Vec<Arc<str>>,
}

impl Decoder {
    /// `keys` are the topic's declared keys.
    pub fn new(topic: Topic, keys: &[Arc<str>]) -> Self {
        let mut keys: Box<[Arc<str>]> = keys.into();
        keys.sort();
        Self { topic, keys, kinds: Vec::new() }
    }

    /// Makes an event of a record.
    pub fn decode(&mut self, record: &Record<'_>) -> Result<Event, Undecodable> {
        let Some(value) = record.value else { return self.tombstone(record) };
        if value.len() > RECORD_BYTES_MAX {
            return Err(Undecodable::TooLong);
        }
        let text = std::str::from_utf8(value).map_err(|_| Undecodable::NotUtf8)?;
        if text.trim_ascii_start().starts_with('{') {
            self.object(record, text)
        } else {
            let value: &RawValue = serde_json::from_str(text)?;
            let draft = Draft::open(self, record, timestamp(record), "message", text.len());
            draft.finish(value.get(), Box::default())
        }
    }

    fn object(&mut self, record: &Record<'_>, text: &str) -> Result<Event, Undecodable> {
        let fields = Fields::read(text, &self.keys)?;
        let ts = fields.ts.and_then(usable_ts).unwrap_or_else(|| timestamp(record));
        let kind = fields.kind.and_then(usable_type);
        let mut draft = Draft::open(self, record, ts, kind.as_deref().unwrap_or("message"), text.len());
        for field in &fields.others {
            match field.declared {
                Some(index) => draft.field(&field.name, fields.declared[index].unwrap_or(field.value))?,
                // What is left of a bare payload stands in its `data`.
                None if fields.data.is_none() => {}
                None => draft.field(&field.name, field.value)?,
            }
        }
        if fields.data.is_some() && fields.overflowed {
            return Err(Undecodable::TooManyFields);
        }
        let keys = self.keys.iter().zip(&fields.declared);
        let keys = keys.filter_map(|(name, value)| Some((name.clone(), key_text((*value)?)?))).collect();
        draft.finish(fields.data.map_or(text, RawValue::get), keys)
    }

    /// A tombstone: the record's key is all it says, so it fills the declared key if there is just one.
    fn tombstone(&mut self, record: &Record<'_>) -> Result<Event, Undecodable> {
        let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
        let mut draft = Draft::open(self, record, timestamp(record), "delete", 2 * record.key.map_or(0, <[u8]>::len));
        let mut keys = Box::default();
        if let Some(text) = key {
            if let ([name], false) = (&*self.keys, text.is_empty()) {
                keys = Box::from([(name.clone(), text.into())]);
                if !matches!(&**name, "id" | "ts" | "type" | "key" | "data") {
                    draft.text_field(name, text);
                }
            }
            draft.text_field("key", text);
        }
        draft.finish("null", keys)
    }

    /// The shared text of a type.
    fn kind(&mut self, kind: &str) -> Arc<str> {
        if let Some(known) = self.kinds.iter().find(|known| ***known == *kind) {
            return known.clone();
        }
        let kind: Arc<str> = kind.into();
        if self.kinds.len() < KINDS_MAX {
            self.kinds.push(kind.clone());
        }
        kind
    }
}

/// An event whose envelope is being written.
struct Draft {
    id: EventId,
    ts: i64,
    kind: Arc<str>,
    received: Instant,
    envelope: Vec<u8>,
}

impl Draft {
    /// Writes the envelope up to its `type`. `bytes` is about how much is going to follow.
    fn open(decoder: &mut Decoder, record: &Record<'_>, ts: i64, kind: &str, bytes: usize) -> Self {
        let id = EventId { topic: decoder.topic.clone(), partition: record.partition, offset: record.offset };
        let mut envelope = Vec::with_capacity(ENVELOPE_OVERHEAD_BYTES + id.topic.len() + bytes);
        // Writing to a vector cannot fail, and a topic's name needs no escapes.
        let _ = write!(envelope, r#"{{"id":"{id}","ts":{ts},"type":"#);
        append_string(kind, &mut envelope);
        Self { id, ts, kind: decoder.kind(kind), received: record.received, envelope }
    }

    fn name(&mut self, name: &str) {
        self.envelope.push(b',');
        append_string(name, &mut self.envelope);
        self.envelope.push(b':');
    }

    fn field(&mut self, name: &str, value: &RawValue) -> Result<(), TooDeep> {
        self.name(name);
        append_on_one_line(value.get(), &mut self.envelope)
    }

    fn text_field(&mut self, name: &str, text: &str) {
        self.name(name);
        append_string(text, &mut self.envelope);
    }

    fn finish(mut self, data: &str, keys: Keys) -> Result<Event, Undecodable> {
        self.name("data");
        let start = self.envelope.len();
        append_on_one_line(data, &mut self.envelope)?;
        let payload = start..self.envelope.len();
        self.envelope.push(b'}');
        // The window keeps envelopes for long: an exact allocation spares `Bytes` a second one, too.
        self.envelope.shrink_to_fit();
        Ok(Event {
            id: self.id,
            ts: self.ts,
            kind: self.kind,
            keys,
            envelope: Bytes::from(self.envelope),
            payload,
            received: self.received,
            frames: Frames::default(),
        })
    }
}

type Keys = Box<[(Arc<str>, Box<str>)]>;

impl From<TooDeep> for Undecodable {
    fn from(_: TooDeep) -> Self {
        Self::TooDeep
    }
}

/// The record's own time, or the time of its receipt.
fn timestamp(record: &Record<'_>) -> i64 {
    record.timestamp.filter(|ts| (0..=TS_MAX_MS).contains(ts)).unwrap_or(record.received_ms)
}

fn usable_ts(value: &RawValue) -> Option<i64> {
    value.get().parse().ok().filter(|ts| (0..=TS_MAX_MS).contains(ts))
}

fn usable_type(value: &RawValue) -> Option<String> {
    // Checked first, so that a huge value is not unescaped: an escape takes at most 6 bytes for one of text.
    if value.get().len() > 6 * TYPE_BYTES_MAX + 2 {
        return None;
    }
    let text: String = serde_json::from_str(value.get()).ok()?;
    let usable = !text.is_empty() && text.len() <= TYPE_BYTES_MAX && !text.chars().any(char::is_control);
    usable.then_some(text)
}

/// The text a key is compared by. Numbers that are no integers of 64 bits are no keys: rounded, two would be equal
/// and one user would see the other's events.
fn key_text(value: &RawValue) -> Option<Box<str>> {
    if value.get().starts_with(['{', '[']) {
        return None;
    }
    let value: Value = serde_json::from_str(value.get()).ok()?;
    if value.is_f64() {
        return None;
    }
    scalar_text(&value)
}
