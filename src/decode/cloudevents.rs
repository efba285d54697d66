//! CloudEvents 1.0 (its Kafka protocol binding, section 3): recognized in topics of JSON without a mapping.
//!
//! | mode | recognized by |
//! |---|---|
//! | structured | a JSON object with the strings `specversion` ("1.0"), `id`, `source` and `type` |
//! | binary | the headers `ce_specversion` ("1.0"), `ce_id`, `ce_source` and `ce_type` |
//!
//! `type` and `time` become those of the event, and `data` its data. All other attributes stay unchanged in `ce`,
//! including the CloudEvent's own id. A declared key is the attribute of that name, or else a top-level field of the
//! data. A batch is an array of CloudEvents and is not recognized.

use serde_json::value::RawValue;

use super::draft::{Data, Draft, Found};
use super::json::Fields;
use super::label::{is_type, string, timestamp, ts_of_text, type_of_string};
use super::{Decoder, Format, Record, Undecodable};
use crate::event::Event;
use crate::pointer::member;

const SPECVERSION: &str = "1.0";
/// The prefix of an attribute's header name (Kafka protocol binding section 3.2.3).
const HEADER_PREFIX: &str = "ce_";

/// Whether the fields of an object are those of a CloudEvent.
pub(super) fn is_structured(fields: &Fields<'_>) -> bool {
    let is_text = |value: Option<&RawValue>| value.is_some_and(|value| value.get().starts_with('"'));
    let version = fields.other("specversion").and_then(string);
    version.as_deref() == Some(SPECVERSION)
        && is_text(fields.id)
        && is_text(fields.kind)
        && is_text(fields.other("source"))
}

/// Decodes a structured CloudEvent.
pub(super) fn structured(
    decoder: &mut Decoder,
    record: &Record<'_>,
    fields: &Fields<'_>,
) -> Result<Event, Undecodable> {
    if fields.overflowed {
        return Err(Undecodable::TooManyFields);
    }
    let base64 = fields.other("data_base64").filter(|value| value.get().starts_with('"'));
    let data = match base64 {
        Some(base64) => Data::Base64(base64.get()),
        None => Data::Json(fields.data.map_or("null", RawValue::get)),
    };
    let ts = fields.other("time").and_then(string).and_then(|time| ts_of_text(&time));
    let kind = fields.kind.and_then(type_of_string);
    let size = record.value.map_or(0, <[u8]>::len);
    let ts = ts.unwrap_or_else(|| timestamp(record));
    let mut draft = Draft::open(decoder, record, ts, kind.as_deref().unwrap_or("message"), size)?;
    let in_data = |name| fields.data.and_then(|data| member(data.get(), name).ok().flatten());
    let keys = decoder.keys.iter().zip(&fields.declared);
    let keys = keys.map(|(name, attribute)| (name, attribute.or_else(|| in_data(name)).map(Found::Json)));
    let keys = draft.keys(keys)?;
    draft.open_object("ce");
    if let Some(id) = fields.id {
        draft.field("id", id)?;
    }
    for field in fields.others.iter().filter(|field| base64.is_none() || field.name != "data_base64") {
        draft.field(&field.name, field.declared.and_then(|index| fields.declared[index]).unwrap_or(field.value))?;
    }
    draft.close_object();
    draft.finish(&data, keys)
}

/// Whether the headers are those of a CloudEvent.
pub(super) fn is_binary(record: &Record<'_>) -> bool {
    record.header("ce_specversion") == Some(SPECVERSION)
        && ["ce_id", "ce_source", "ce_type"].iter().all(|name| record.header(name).is_some())
}

/// Decodes a binary CloudEvent: its data is the record's value, interpreted by its content type.
pub(super) fn binary(decoder: &mut Decoder, record: &Record<'_>, value: &[u8]) -> Result<Event, Undecodable> {
    let content_type = match decoder.format {
        // It describes the bytes that became JSON.
        Format::Registered(_) => None,
        _ => record.header("content-type"),
    };
    let text = || std::str::from_utf8(value).map_err(|_| Undecodable::NotUtf8);
    let mut json: Option<&RawValue> = None;
    let data = match content_type.map_or(Content::Json, content) {
        Content::Json => Data::Json(json.insert(serde_json::from_str(text()?)?).get()),
        Content::Text => Data::Text(text()?),
        Content::Bytes => Data::Bytes(value),
    };
    let ts = record.header("ce_time").and_then(ts_of_text).unwrap_or_else(|| timestamp(record));
    let kind = record.header("ce_type").filter(|kind| is_type(kind)).unwrap_or("message");
    let mut draft = Draft::open(decoder, record, ts, kind, value.len())?;
    let attribute = |name: &str| record.header(&format!("{HEADER_PREFIX}{name}")).map(Found::Text);
    let in_data = |name: &str| json.and_then(|data| member(data.get(), name).ok().flatten()).map(Found::Json);
    let keys = draft.keys(decoder.keys.iter().map(|name| (name, attribute(name).or_else(|| in_data(name)))))?;
    draft.open_object("ce");
    for (name, value) in record.distinct_headers()? {
        let attribute = name.strip_prefix(HEADER_PREFIX).filter(|attribute| *attribute != "type");
        if let (Some(name), Some(Ok(value))) = (attribute, value.map(std::str::from_utf8)) {
            draft.text_field(name, value);
        }
    }
    if let Some(content_type) = content_type {
        draft.text_field("datacontenttype", content_type);
    }
    draft.close_object();
    draft.finish(&data, keys)
}

enum Content {
    Json,
    Text,
    Bytes,
}

/// Decides by the media type alone: `application/json`, `application/*+json`, `text/*`.
fn content(content_type: &str) -> Content {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media.ends_with("/json") || media.ends_with("+json") {
        Content::Json
    } else if media.starts_with("text/") {
        Content::Text
    } else {
        Content::Bytes
    }
}
