//! Records of a topic with a mapping, which states where the parts of the event come from. A value that is missing or
//! invalid counts as absent.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::value::RawValue;

use super::draft::{Data, Draft, Found};
use super::label::{is_type, string, timestamp, ts_of_number, ts_of_text, type_of_scalar};
use super::mapping::{Mapping, Origin, Origins};
use super::{Decoder, Record, Undecodable};
use crate::event::Event;
use crate::pointer;

/// Decodes a record. `value` is its JSON value, if it has one.
pub(super) fn event(
    decoder: &mut Decoder,
    mapping: &Mapping,
    record: &Record<'_>,
    value: Option<&RawValue>,
    data: &Data<'_>,
) -> Result<Event, Undecodable> {
    let parts = Parts { record, value, key: OnceCell::new() };
    let kind: Cow<'_, str> = match parts.all(&mapping.kind).find_map(type_of) {
        // A tombstone is a deletion, whatever the mapping says.
        _ if record.value.is_none() => "delete".into(),
        Some(found) => mapping.type_of(found),
        None => "message".into(),
    };
    if mapping.drops(&kind) {
        return Err(Undecodable::Dropped);
    }
    let ts = parts.all(&mapping.ts).find_map(ts_of).unwrap_or_else(|| timestamp(record));
    let mut draft = Draft::open(decoder, record, ts, &kind, record.value.map_or(0, <[u8]>::len))?;
    let keys = draft.keys(mapping.keys.iter().map(|(name, origins)| (name, parts.all(origins))))?;
    if record.value.is_none() && !mapping.keys.iter().any(|(name, _)| **name == *"key") {
        draft.record_key(record);
    }
    match &mapping.data {
        Some(origins) => {
            let found = parts.all(origins).find_map(data_of);
            draft.finish(&Data::Json(found.map_or("null", RawValue::get)), keys)
        }
        None => draft.finish(data, keys),
    }
}

/// A record in which origins are looked up.
struct Parts<'a> {
    record: &'a Record<'a>,
    value: Option<&'a RawValue>,
    /// The record's key as JSON, parsed once where a pointer needs it.
    key: OnceCell<Option<&'a RawValue>>,
}

impl<'a> Parts<'a> {
    /// What is found at these origins, in their order.
    fn all(&self, origins: &'a Origins) -> impl Iterator<Item = Found<'a>> {
        origins.0.iter().filter_map(|origin| self.find(origin))
    }

    fn find(&self, origin: &'a Origin) -> Option<Found<'a>> {
        match origin {
            Origin::Pointer(tokens) => pointer::find(self.value?, tokens).map(Found::Json),
            Origin::Value => self.value.map(Found::Json),
            Origin::Key => self.record.key_text().map(Found::Text),
            Origin::InKey(tokens) => pointer::find(self.key()?, tokens).map(Found::Json),
            Origin::Header(name) => self.record.header(name).map(Found::Text),
            Origin::Constant(text) => Some(Found::Text(text)),
        }
    }

    fn key(&self) -> Option<&'a RawValue> {
        *self.key.get_or_init(|| serde_json::from_str(self.record.key_text()?).ok())
    }
}

fn type_of(found: Found<'_>) -> Option<Cow<'_, str>> {
    match found {
        Found::Json(value) => type_of_scalar(value).map(|text| text.into_string().into()),
        Found::Text(text) => is_type(text).then(|| text.into()),
    }
}

fn ts_of(found: Found<'_>) -> Option<i64> {
    match found {
        Found::Json(value) => ts_of_number(value).or_else(|| ts_of_text(&string(value)?)),
        Found::Text(text) => ts_of_text(text),
    }
}

fn data_of(found: Found<'_>) -> Option<&RawValue> {
    match found {
        Found::Json(value) => Some(value).filter(|value| value.get() != "null"),
        Found::Text(_) => None,
    }
}
