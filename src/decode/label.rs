//! Which values are valid as an event's time, type and keys, wherever they come from.

use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Record, TS_MAX_MS, TYPE_BYTES_MAX};
use crate::access::scalar_text;

/// The record's timestamp, or the time of its receipt.
pub(super) fn timestamp(record: &Record<'_>) -> i64 {
    record.timestamp.filter(is_time).unwrap_or(record.received_ms)
}

/// Milliseconds since the Unix epoch, as a number.
pub(super) fn ts_of_number(value: &RawValue) -> Option<i64> {
    value.get().parse().ok().filter(is_time)
}

/// Milliseconds since the Unix epoch, or a time of RFC 3339, truncated to milliseconds.
pub(super) fn ts_of_text(text: &str) -> Option<i64> {
    let milliseconds = text.parse().ok().or_else(|| {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
    });
    milliseconds.filter(is_time)
}

/// A type given as a JSON string.
pub(super) fn type_of_string(value: &RawValue) -> Option<String> {
    let text: String = serde_json::from_str(short_enough(value)?).ok()?;
    is_type(&text).then_some(text)
}

/// A type given as any JSON scalar.
pub(super) fn type_of_scalar(value: &RawValue) -> Option<Box<str>> {
    short_enough(value)?;
    key_text(value).filter(|text| is_type(text))
}

pub(super) fn is_type(text: &str) -> bool {
    !text.is_empty() && text.len() <= TYPE_BYTES_MAX && !text.chars().any(char::is_control)
}

/// The text by which a key is compared. Numbers that are not 64-bit integers are not valid keys: rounding could make
/// two equal, and a user could receive another user's events.
pub(super) fn key_text(value: &RawValue) -> Option<Box<str>> {
    if value.get().starts_with(['{', '[']) {
        return None;
    }
    let value: Value = serde_json::from_str(value.get()).ok()?;
    scalar_text(&value)
}

/// A JSON string of text.
pub(super) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Rejects a value that is too long for a type before it is unescaped. An escape has at most 6 bytes per byte of text.
fn short_enough(value: &RawValue) -> Option<&str> {
    (value.get().len() <= 6 * TYPE_BYTES_MAX + 2).then(|| value.get())
}

fn is_time(ts: &i64) -> bool {
    (0..=TS_MAX_MS).contains(ts)
}
