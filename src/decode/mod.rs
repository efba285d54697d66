//! A Kafka record becomes an event: pure, no Kafka types, no clock.
//!
//! In a topic of JSON without a mapping:
//!
//! | the record's value | the event |
//! |---|---|
//! | a CloudEvent, by its fields or the record's headers | see `cloudevents` |
//! | any other object with `data` | an envelope: its fields stay in their order, `id` is replaced by ours |
//! | any other object | a bare payload: `data` is the object, declared keys are lifted out of it |
//! | any other JSON value | `data` is the value |
//! | none (a tombstone) | `"type":"delete"`, `"key"` the record's key, `"data":null` |
//! | anything else, and nothing (zero bytes) | undecodable |
//!
//! With a [`mapping`] the value is `data`, whatever it is. In topics of text or binary `data` is a string.
//!
//! The canonical envelope is one line, `{"id":...,"ts":...,"type":...,<the other fields>,"data":...}`. Values are copied
//! byte for byte but for whitespace between tokens, so numbers keep every digit. `ts` and `type` are taken from the
//! record where they can be used and replaced where not ([`TS_MAX_MS`], [`TYPE_BYTES_MAX`]): an event is not lost for
//! its label. Of repeated `ts`, `type`, `data` and declared keys the last one counts and stands alone, so that what
//! an event is routed by is what its reader sees; other repeated names are passed on as they came. A field of a record's
//! own envelope with a name of ours is renamed ([`reserved`]).
//!
//! It does not filter or validate by a schema.

mod cloudevents;
mod draft;
#[cfg(test)]
mod foreign_tests;
mod headers;
mod json;
mod label;
mod mapped;
pub mod mapping;
mod shape;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use self::draft::{Data, Draft};
pub use self::headers::{HEADERS_MAX, Header};
pub use self::json::{DEPTH_MAX, FIELDS_MAX};
use self::json::{Fields, TooDeep};
use self::label::{key_text, timestamp, ts_of_number, type_of_string};
use self::mapping::Mapping;
pub use self::shape::{Format, Shape, ShownHeaders};
use crate::contain::contain;
use crate::event::{Event, Topic};
use crate::fault::provoke;
use crate::reserved;
use crate::traceparent::TraceParent;

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

/// A record as it came from Kafka.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// In the order of the record; names may repeat.
    pub headers: &'a [Header<'a>],
    /// Absent: a tombstone.
    pub value: Option<&'a [u8]>,
    pub received: Instant,
    /// The wall time of `received`, in milliseconds since the Unix epoch.
    pub received_ms: i64,
    /// The span of its receipt, where its way is told of.
    pub trace: Option<TraceParent>,
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
    #[error("the record has more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    #[error("decoding it panicked, which is a bug of sidestream")]
    Panicked,
}

/// Decodes the records of one topic.
#[derive(Debug)]
pub struct Decoder {
    topic: Topic,
    /// Sorted, so that the keys of an event are.
    keys: Arc<[Arc<str>]>,
    format: Format,
    mapping: Option<Arc<Mapping>>,
    headers: ShownHeaders,
    kinds: Vec<Arc<str>>,
}

impl Decoder {
    pub fn new(topic: Topic, shape: &Shape) -> Self {
        let mut keys = shape.keys.to_vec();
        keys.sort();
        Self {
            topic,
            keys: keys.into(),
            format: shape.format,
            mapping: shape.mapping.clone(),
            headers: shape.headers.clone(),
            kinds: Vec::new(),
        }
    }

    /// Makes an event of a record. A bug that it brings to light costs the record, and nothing else.
    pub fn decode(&mut self, record: &Record<'_>) -> Result<Event, Undecodable> {
        contain(|| self.event(record)).unwrap_or(Err(Undecodable::Panicked))
    }

    fn event(&mut self, record: &Record<'_>) -> Result<Event, Undecodable> {
        provoke("decode", record.value.unwrap_or_default());
        let Some(value) = record.value else { return self.tombstone(record) };
        if value.len() > RECORD_BYTES_MAX {
            return Err(Undecodable::TooLong);
        }
        match self.format {
            Format::Json if self.mapping.is_none() && cloudevents::is_binary(record) => {
                cloudevents::binary(self, record, value)
            }
            Format::Json => self.json(record, utf8(value)?),
            Format::Text => self.opaque(record, None, &Data::Text(utf8(value)?)),
            Format::Binary => self.opaque(record, None, &Data::Bytes(value)),
        }
    }

    fn json(&mut self, record: &Record<'_>, text: &str) -> Result<Event, Undecodable> {
        if self.mapping.is_none() && text.trim_ascii_start().starts_with('{') {
            return self.object(record, text);
        }
        let value: &RawValue = serde_json::from_str(text)?;
        self.opaque(record, Some(value), &Data::Json(value.get()))
    }

    /// The whole value is `data`, whatever it says.
    fn opaque(&mut self, record: &Record<'_>, value: Option<&RawValue>, data: &Data<'_>) -> Result<Event, Undecodable> {
        if let Some(mapping) = self.mapping.clone() {
            return mapped::event(self, &mapping, record, value, data);
        }
        let draft = Draft::open(self, record, timestamp(record), "message", record.value.map_or(0, <[u8]>::len))?;
        draft.finish(data, Box::default())
    }

    fn object(&mut self, record: &Record<'_>, text: &str) -> Result<Event, Undecodable> {
        let fields = Fields::read(text, &self.keys)?;
        if cloudevents::is_structured(&fields) {
            return cloudevents::structured(self, record, &fields);
        }
        let ts = fields.ts.and_then(ts_of_number).unwrap_or_else(|| timestamp(record));
        let kind = fields.kind.and_then(type_of_string);
        let mut draft = Draft::open(self, record, ts, kind.as_deref().unwrap_or("message"), text.len())?;
        for field in &fields.others {
            match field.declared {
                Some(index) => draft.field(&field.name, fields.declared[index].unwrap_or(field.value))?,
                // What is left of a bare payload stands in its `data`.
                None if fields.data.is_none() => {}
                None => draft.field(&self.name_of(&field.name), field.value)?,
            }
        }
        if fields.data.is_some() && fields.overflowed {
            return Err(Undecodable::TooManyFields);
        }
        let keys = self.keys.iter().zip(&fields.declared);
        let keys = keys.filter_map(|(name, value)| Some((name.clone(), key_text((*value)?)?))).collect();
        draft.finish(&Data::Json(fields.data.map_or(text, RawValue::get)), keys)
    }

    /// A tombstone: the record's key is all it says, so it fills the declared key if there is just one, unless a
    /// mapping says where keys are.
    fn tombstone(&mut self, record: &Record<'_>) -> Result<Event, Undecodable> {
        if self.mapping.is_some() {
            return self.opaque(record, None, &Data::Json("null"));
        }
        let size = 2 * record.key.map_or(0, <[u8]>::len);
        let mut draft = Draft::open(self, record, timestamp(record), "delete", size)?;
        let mut keys = Box::default();
        if let (Some(text), [name]) = (record.key_text(), &*self.keys)
            && !text.is_empty()
        {
            keys = Box::from([(name.clone(), text.into())]);
            if !matches!(&**name, "id" | "ts" | "type" | "key" | "data") {
                draft.text_field(name, text);
            }
        }
        draft.record_key(record);
        draft.finish(&Data::Json("null"), keys)
    }

    /// The name under which a field of a record's own envelope is sent.
    fn name_of<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let ours: &[&str] = if self.headers.any() { &[reserved::HEADERS] } else { &[] };
        if reserved::is_taken(name, ours) {
            return reserved::set_apart(name, ours);
        }
        reserved::set_apart(name, &reserved::FIELDS)
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

impl<'a> Record<'a> {
    /// The key, where it is text.
    fn key_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key?).ok()
    }
}

impl From<TooDeep> for Undecodable {
    fn from(_: TooDeep) -> Self {
        Self::TooDeep
    }
}

fn utf8(value: &[u8]) -> Result<&str, Undecodable> {
    std::str::from_utf8(value).map_err(|_| Undecodable::NotUtf8)
}
