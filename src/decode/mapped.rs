//! Records of a topic with a mapping: the whole value is `data`, and the mapping states where the other fields come
//! from. A value that is missing or invalid counts as absent.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::draft::{Data, Draft, Found};
use super::label::{is_type, string, timestamp, ts_of_number, ts_of_text, type_of_scalar};
use super::mapping::{Mapping, Origin};
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
    let ts = match find(&mapping.ts, record, value) {
        Some(Found::Json(value)) => ts_of_number(value).or_else(|| ts_of_text(&string(value)?)),
        Some(Found::Text(text)) => ts_of_text(text),
        None => None,
    };
    let kind: Option<Cow<'_, str>> = match find(&mapping.kind, record, value) {
        // A tombstone is a deletion, whatever the mapping says.
        _ if record.value.is_none() => Some("delete".into()),
        Some(Found::Json(value)) => type_of_scalar(value).map(|text| text.into_string().into()),
        Some(Found::Text(text)) => is_type(text).then(|| text.into()),
        None => None,
    };
    let size = record.value.map_or(0, <[u8]>::len);
    let ts = ts.unwrap_or_else(|| timestamp(record));
    let mut draft = Draft::open(decoder, record, ts, kind.as_deref().unwrap_or("message"), size)?;
    let keys = mapping.keys.iter().map(|(name, origin)| (name, find(origin, record, value)));
    let keys = draft.keys(keys)?;
    if record.value.is_none() && !mapping.keys.iter().any(|(name, _)| **name == *"key") {
        draft.record_key(record);
    }
    draft.finish(data, keys)
}

fn find<'a>(origin: &'a Origin, record: &Record<'a>, value: Option<&'a RawValue>) -> Option<Found<'a>> {
    match origin {
        Origin::Pointer(tokens) => pointer::find(value?, tokens).map(Found::Json),
        Origin::Key => record.key_text().map(Found::Text),
        Origin::Header(name) => record.header(name).map(Found::Text),
        Origin::Constant(text) => Some(Found::Text(text)),
    }
}
