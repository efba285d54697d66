//! Decodes Kafka records to events: pure, without Kafka types and clock.
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
//! With a [`mapping`], the value or a part of it is `data`, whatever it contains. In topics of text or binary records, `data` is a
//! string. Values and keys whose schema is in a registry become JSON first ([`registered`]).
//!
//! The canonical envelope is one line, `{"id":...,"ts":...,"type":...,<the other fields>,"data":...}`. Values are
//! copied byte for byte except for white space between tokens, so that numbers keep all digits. A valid `ts` and `type`
//! of the record are kept and others replaced ([`TS_MAX_MS`], [`TYPE_BYTES_MAX`]), so that an event is not lost because
//! of its metadata. For repeated `ts`, `type`, `data` and declared keys, only the last one is sent: an event is routed
//! by the values that its reader sees. Other repeated names stay unchanged. A field of the record's own envelope whose
//! name is reserved is renamed ([`reserved`]).
//!
//! The `data` of an event is validated, if the topic has a [`schema`]. Decoding does not filter events.

mod cloudevents;
mod draft;
#[cfg(test)]
mod foreign_tests;
mod headers;
mod json;
mod label;
mod mapped;
pub mod mapping;
mod owned;
mod preset;
pub mod registered;
pub mod schema;
#[cfg(test)]
mod schema_tests;
mod shape;
mod signature;
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
pub use self::owned::OwnedRecord;
pub use self::preset::Preset;
use self::registered::{Part, SchemaFormat, SchemaId, SharedSchemas, Unregistered};
use self::schema::{Nonconforming, Schema, Violation};
pub use self::shape::{Format, MissingKey, Shape, ShownHeaders};
pub use self::signature::Signature;
use crate::contain::contain;
use crate::event::{Entry, Event, GapCause, GapRange, Topic};
use crate::fault::provoke;
use crate::reserved;
use crate::traceparent::TraceParent;

/// The longest value, in bytes. Brokers accept 1 MiB by default; some are configured for 10 MB.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest `type`, in bytes. A type that is longer, empty, not a string or contains control characters is replaced
/// by `message`.
pub const TYPE_BYTES_MAX: usize = 256;
/// The latest `ts`: the end of the year 9999, which is the last that RFC 3339 can express. A `ts` that is later,
/// negative or not an integer is replaced by the record's timestamp.
pub const TS_MAX_MS: i64 = 253_402_300_799_999;
/// The most distinct types whose text is shared between events, so that a hostile producer cannot exhaust memory.
const KINDS_MAX: usize = 64;

/// A record, as received from Kafka.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// In the record's order; names may repeat.
    pub headers: &'a [Header<'a>],
    /// Absent for a tombstone.
    pub value: Option<&'a [u8]>,
    pub received: Instant,
    /// The wall time of `received`, in milliseconds since the Unix epoch.
    pub received_ms: i64,
    /// The span of its receipt, if the event is sampled.
    pub trace: Option<TraceParent>,
}

/// Why a record is not an event.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    #[error("the value is longer than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    #[error("the value is not UTF-8")]
    NotUtf8,
    #[error("the value is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the value is not JSON or text; it looks like {0}")]
    Other(Signature),
    #[error("the value is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("the envelope has more than {FIELDS_MAX} fields")]
    TooManyFields,
    #[error("the record has more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    #[error("{0}")]
    Unregistered(#[from] Unregistered),
    /// It can be decoded once the registry has answered.
    #[error("its schema, id {0}, is not known yet")]
    AwaitsSchema(SchemaId),
    #[error("its data does not conform to the schema: {0}")]
    Invalid(#[from] Violation),
    #[error("decoding it panicked, which is a bug of sidestream")]
    Panicked,
    #[error("the map of its topic drops records of its type")]
    Dropped,
}

impl Undecodable {
    /// The reason with what the value looks like, if that is known.
    fn of_value(self, value: &[u8]) -> Self {
        match self {
            Self::NotUtf8 | Self::NotJson(_) => Signature::of(value).map_or(self, Self::Other),
            _ => self,
        }
    }

    /// The cause of the gap in its place.
    pub fn cause(&self) -> GapCause {
        if matches!(self, Self::Invalid(_)) { GapCause::Invalid } else { GapCause::Undecodable }
    }

    /// The entry in place of an event: a gap, or offsets without records if nothing is missing.
    pub fn entry(&self, topic: Topic, partition: i32, offset: i64) -> Entry {
        match self {
            Self::Dropped => Entry::Hole { topic, partition, end: offset + 1 },
            _ => {
                let range = GapRange { topic, partition, from: offset, to: offset };
                Entry::Gap { cause: self.cause(), range }
            }
        }
    }
}

/// Decodes the records of one topic.
#[derive(Debug)]
pub struct Decoder {
    topic: Topic,
    /// Sorted, and so are the keys of every event.
    keys: Arc<[Arc<str>]>,
    format: Format,
    key_format: Option<SchemaFormat>,
    schemas: Option<SharedSchemas>,
    mapping: Option<Arc<Mapping>>,
    headers: ShownHeaders,
    schema: Option<Schema>,
    /// Why the last event does not conform to the schema, although it passes.
    passed: Option<Violation>,
    missing_key: MissingKey,
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
            key_format: shape.key_format,
            schemas: shape.schemas.clone(),
            mapping: shape.mapping.clone(),
            headers: shape.headers.clone(),
            schema: shape.schema.clone(),
            passed: None,
            missing_key: shape.missing_key,
            kinds: Vec::new(),
        }
    }

    /// Decodes a record. A panic loses this record only.
    ///
    /// # Errors
    ///
    /// Why the record is not an event.
    pub fn decode(&mut self, record: &Record<'_>) -> Result<Event, Undecodable> {
        contain(|| {
            let event = self.event(record)?;
            self.validate(record, &event)?;
            Ok(event)
        })
        .unwrap_or(Err(Undecodable::Panicked))
    }

    /// Why the event that was decoded last does not conform to the schema, where such events pass.
    pub fn take_passed(&mut self) -> Option<Violation> {
        self.passed.take()
    }

    /// A tombstone has no data to validate.
    fn validate(&mut self, record: &Record<'_>, event: &Event) -> Result<(), Violation> {
        self.passed = None;
        let Some(schema) = self.schema.as_ref().filter(|_| record.value.is_some()) else { return Ok(()) };
        match (schema.validate(event.data()), schema.nonconforming) {
            (Err(violation), Nonconforming::Gap) => return Err(violation),
            (Err(violation), Nonconforming::Pass) => self.passed = Some(violation),
            (Ok(()), _) => {}
        }
        Ok(())
    }

    /// The declared keys that an event lacks, by their indexes.
    pub fn missing_keys(&self, event: &Event) -> impl Iterator<Item = usize> {
        let is_complete = event.keys.len() == self.keys.len();
        let keys = if is_complete { &[][..] } else { &*self.keys };
        keys.iter().enumerate().filter(|(_, key)| event.key(key).is_none()).map(|(index, _)| index)
    }

    /// The declared keys, sorted.
    pub fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    fn event(&mut self, record: &Record<'_>) -> Result<Event, Undecodable> {
        provoke("decode", record.value.unwrap_or_default());
        let key = self.registered_key(record)?;
        let record = &Record { key: key.as_ref().map(String::as_bytes).or(record.key), ..*record };
        let Some(value) = record.value else { return self.tombstone(record) };
        if value.len() > RECORD_BYTES_MAX {
            return Err(Undecodable::TooLong);
        }
        if let Format::Registered(format) = self.format {
            let text = registered::json((Part::Value, format), self.schemas.as_ref(), record, value)?;
            return self.event_of(record, text.as_bytes());
        }
        self.event_of(record, value).map_err(|reason| reason.of_value(value))
    }

    /// The text of a key whose schema is in a registry.
    fn registered_key(&self, record: &Record<'_>) -> Result<Option<String>, Undecodable> {
        let Some((format, key)) = self.key_format.zip(record.key) else { return Ok(None) };
        let json = registered::json((Part::Key, format), self.schemas.as_ref(), record, key)?;
        Ok(Some(registered::key_text(json)))
    }

    fn event_of(&mut self, record: &Record<'_>, value: &[u8]) -> Result<Event, Undecodable> {
        match self.format {
            Format::Json | Format::Registered(_) if self.mapping.is_none() && cloudevents::is_binary(record) => {
                cloudevents::binary(self, record, value)
            }
            Format::Json | Format::Registered(_) => self.json(record, utf8(value)?),
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

    /// The whole value is `data`.
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
                // The other fields of a bare payload are part of its `data`.
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

    /// A tombstone has only the record's key. If exactly one key is declared and there is no mapping, the record's key
    /// is its value.
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
    /// The key, if it is text.
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
