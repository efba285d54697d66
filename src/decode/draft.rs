//! The event under construction, and the writer of its envelope.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::headers::append_headers;
use super::json::{TooDeep, append_on_one_line, append_string};
use super::label::key_text;
use super::{Decoder, MissingKey, Record, Undecodable};
use crate::event::{Event, EventId, Frames};
use crate::traceparent::TraceParent;

/// The size of an envelope without topic and value, in bytes: id, ts, a short type, the names.
const ENVELOPE_OVERHEAD_BYTES: usize = 112;

/// An event's keys, sorted by name.
pub(super) type Keys = Box<[(Arc<str>, Box<str>)]>;

/// The content of `data`.
pub(super) enum Data<'a> {
    /// A JSON value.
    Json(&'a str),
    /// Text, to be written as a JSON string.
    Text(&'a str),
    /// Bytes, to be written as a JSON string in base64.
    Bytes(&'a [u8]),
    /// A JSON string that is base64 already.
    Base64(&'a str),
}

/// A value in which a key is looked up.
pub(super) enum Found<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    /// Bytes that are not UTF-8: invalid as any part.
    Bytes,
}

impl Found<'_> {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Json(value) if value.get() == "null")
    }

    /// Its text as a key, if it is valid as one.
    fn key(&self) -> Option<Box<str>> {
        let text = match self {
            Self::Json(value) => key_text(value)?,
            Self::Text(text) => Box::from(*text),
            Self::Bytes => return None,
        };
        (!text.is_empty()).then_some(text)
    }
}

pub(super) struct Draft {
    id: EventId,
    ts: i64,
    kind: Arc<str>,
    received: Instant,
    received_ms: i64,
    trace: Option<Box<TraceParent>>,
    envelope: Vec<u8>,
    /// The fewest keys of an event that is not a gap for clients that are bound to the others.
    keys_min: usize,
}

impl Draft {
    /// Writes the envelope up to `type`, and the shown headers. `bytes` estimates the size of the rest.
    pub(super) fn open(
        decoder: &mut Decoder,
        record: &Record<'_>,
        ts: i64,
        kind: &str,
        bytes: usize,
    ) -> Result<Self, Undecodable> {
        let id = EventId { topic: decoder.topic.clone(), partition: record.partition, offset: record.offset };
        let mut envelope = Vec::with_capacity(ENVELOPE_OVERHEAD_BYTES + id.topic.len() + bytes);
        // Writing to a vector cannot fail, and a topic's name needs no escapes.
        let _ = write!(envelope, r#"{{"id":"{id}","ts":{ts},"type":"#);
        append_string(kind, &mut envelope);
        append_headers(record, &decoder.headers, &mut envelope)?;
        Ok(Self {
            id,
            ts,
            kind: decoder.kind(kind),
            received: record.received,
            received_ms: record.received_ms,
            trace: record.trace.map(Box::new),
            envelope,
            keys_min: if decoder.missing_key == MissingKey::Gap { decoder.keys.len() } else { 0 },
        })
    }

    pub(super) fn field(&mut self, name: &str, value: &RawValue) -> Result<(), TooDeep> {
        self.name(name);
        append_on_one_line(value.get(), &mut self.envelope)
    }

    pub(super) fn text_field(&mut self, name: &str, text: &str) {
        self.name(name);
        append_string(text, &mut self.envelope);
    }

    /// Writes the keys whose values are valid (a number as a number), and returns them.
    pub(super) fn keys<'a>(
        &mut self,
        found: impl Iterator<Item = (&'a Arc<str>, Option<Found<'a>>)>,
    ) -> Result<Keys, Undecodable> {
        let mut keys = Vec::new();
        for (name, found) in found {
            let Some(text) = found.as_ref().and_then(Found::key) else { continue };
            match found {
                Some(Found::Json(value)) => self.field(name, value)?,
                _ => self.text_field(name, &text),
            }
            keys.push((name.clone(), text));
        }
        Ok(keys.into())
    }

    /// Writes the record's key, if it is text.
    pub(super) fn record_key(&mut self, record: &Record<'_>) {
        if let Some(text) = record.key_text() {
            self.text_field("key", text);
        }
    }

    /// Opens an object: the following fields are inside it.
    pub(super) fn open_object(&mut self, name: &str) {
        self.name(name);
        self.envelope.push(b'{');
    }

    pub(super) fn close_object(&mut self) {
        self.envelope.push(b'}');
    }

    pub(super) fn finish(mut self, data: &Data<'_>, keys: Keys) -> Result<Event, Undecodable> {
        let is_base64 = matches!(data, Data::Bytes(_) | Data::Base64(_));
        if is_base64 {
            self.text_field("encoding", "base64");
        }
        self.name("data");
        let start = self.envelope.len();
        match data {
            Data::Json(value) | Data::Base64(value) => append_on_one_line(value, &mut self.envelope)?,
            Data::Text(text) => append_string(text, &mut self.envelope),
            Data::Bytes(bytes) => append_string(&STANDARD.encode(bytes), &mut self.envelope),
        }
        let payload = start..self.envelope.len();
        self.envelope.push(b'}');
        // Windows keep envelopes for long: an exact allocation saves memory, and spares `Bytes` a second allocation.
        self.envelope.shrink_to_fit();
        Ok(Event {
            next: self.id.offset + 1,
            id: self.id,
            ts: self.ts,
            kind: self.kind,
            is_gap_without_key: keys.len() < self.keys_min,
            keys,
            envelope: Bytes::from(self.envelope),
            payload,
            is_base64,
            received: self.received,
            received_ms: self.received_ms,
            trace: self.trace,
            frames: Frames::default(),
        })
    }

    fn name(&mut self, name: &str) {
        if self.envelope.last() != Some(&b'{') {
            self.envelope.push(b',');
        }
        append_string(name, &mut self.envelope);
        self.envelope.push(b':');
    }
}
