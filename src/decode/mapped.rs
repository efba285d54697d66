//! Records of a topic with a mapping, which states where the parts of the event come from. A part that is missing or
//! invalid is absent from the event.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::value::RawValue;

use super::draft::{Data, Draft, Found};
use super::label::{is_type, string, timestamp, ts_of_number, ts_of_text, type_of_scalar};
use super::mapping::{Mapping, Origin, Origins};
use super::preset::{Preset, unwrapped};
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
    let parts = Parts::new(mapping.preset, record, value);
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
    let keys = draft.keys(mapping.keys.iter().map(|(name, origins)| (name, parts.present(origins))))?;
    if record.value.is_none() && !mapping.keys.iter().any(|(name, _)| **name == *"key") {
        draft.record_key(record);
    }
    match &mapping.data {
        Some(origins) => {
            let found = parts.all(origins).find_map(data_of);
            draft.finish(&Data::Json(found.map_or("null", RawValue::get)), keys)
        }
        None if mapping.preset.is_some() => draft.finish(&Data::Json(parts.row.map_or("null", RawValue::get)), keys),
        None => draft.finish(data, keys),
    }
}

/// A record in which origins are looked up.
struct Parts<'a> {
    record: &'a Record<'a>,
    preset: Option<Preset>,
    /// Unwrapped, if there is a preset.
    value: Option<&'a RawValue>,
    /// The row of the preset.
    row: Option<&'a RawValue>,
    /// The record's key as JSON, like `value`, parsed once where an origin needs it.
    key: OnceCell<Option<&'a RawValue>>,
}

impl<'a> Parts<'a> {
    fn new(preset: Option<Preset>, record: &'a Record<'a>, value: Option<&'a RawValue>) -> Self {
        let value = if preset.is_some() { value.map(unwrapped) } else { value };
        let row = preset.zip(value).and_then(|(preset, value)| preset.row(value));
        Self { record, preset, value, row, key: OnceCell::new() }
    }

    /// What is found at these origins, in their order.
    fn all(&self, origins: &'a Origins) -> impl Iterator<Item = Found<'a>> {
        origins.0.iter().filter_map(|origin| self.find(origin))
    }

    /// The first of these that is present and not null.
    fn present(&self, origins: &'a Origins) -> Option<Found<'a>> {
        self.all(origins).find(|found| !found.is_null())
    }

    fn find(&self, origin: &'a Origin) -> Option<Found<'a>> {
        match origin {
            Origin::Pointer(tokens) => pointer::find(self.value?, tokens).map(Found::Json),
            Origin::Value => self.value.map(Found::Json),
            Origin::InRow(name) => field(self.row, name).or_else(|| field(self.key(), name)).map(Found::Json),
            Origin::Key => self.record.key.map(text_of),
            Origin::InKey(tokens) => pointer::find(self.key()?, tokens).map(Found::Json),
            Origin::Header(name) => self.record.header_bytes(name).map(text_of),
            Origin::Constant(text) => Some(Found::Text(text)),
        }
    }

    fn key(&self) -> Option<&'a RawValue> {
        let parse = || {
            let key = serde_json::from_str(self.record.key_text()?).ok()?;
            Some(if self.preset.is_some() { unwrapped(key) } else { key })
        };
        *self.key.get_or_init(parse)
    }
}

/// The member of an object, unless it is null.
fn field<'a>(object: Option<&'a RawValue>, name: &str) -> Option<&'a RawValue> {
    pointer::member(object?.get(), name).ok().flatten().filter(|value| value.get() != "null")
}

fn text_of(bytes: &[u8]) -> Found<'_> {
    std::str::from_utf8(bytes).map_or(Found::Bytes, Found::Text)
}

fn type_of(found: Found<'_>) -> Option<Cow<'_, str>> {
    match found {
        Found::Json(value) => type_of_scalar(value).map(|text| text.into_string().into()),
        Found::Text(text) => is_type(text).then(|| text.into()),
        Found::Bytes => None,
    }
}

fn ts_of(found: Found<'_>) -> Option<i64> {
    match found {
        Found::Json(value) => ts_of_number(value).or_else(|| ts_of_text(&string(value)?)),
        Found::Text(text) => ts_of_text(text),
        Found::Bytes => None,
    }
}

fn data_of(found: Found<'_>) -> Option<&RawValue> {
    match found {
        Found::Json(value) => Some(value).filter(|value| value.get() != "null"),
        Found::Text(_) | Found::Bytes => None,
    }
}
