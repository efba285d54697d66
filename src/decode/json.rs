//! The JSON operations that decoding needs: the top-level fields of an object, and a value on one line.
//!
//! Values are borrowed from the record: numbers and strings are never re-encoded.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The most top-level fields of an envelope, in addition to `id`, `ts`, `type`, `data` and the declared keys.
pub const FIELDS_MAX: usize = 1024;
/// The deepest nesting of arrays and objects: common JSON readers accept it.
pub const DEPTH_MAX: usize = 128;

/// The top-level fields of an object. For a repeated name, the last value counts, as in `JSON.parse`.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) ts: Option<&'a RawValue>,
    pub(super) kind: Option<&'a RawValue>,
    pub(super) data: Option<&'a RawValue>,
    /// The values of the declared keys, in the order of the declaration.
    pub(super) declared: Vec<Option<&'a RawValue>>,
    /// All fields except `id`, `ts`, `type` and `data`, in order; each declared key once.
    pub(super) others: Vec<Field<'a>>,
    /// Whether `others` is incomplete because there are too many fields.
    pub(super) overflowed: bool,
}

/// A field. The value of a declared key is in [`Fields::declared`].
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) value: &'a RawValue,
    pub(super) declared: Option<usize>,
}

impl<'a> Fields<'a> {
    /// Parses an object; fails if the text is not a JSON object.
    pub(super) fn read(text: &'a str, keys: &[Arc<str>]) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = FieldsOf(keys).deserialize(&mut json)?;
        json.end()?;
        Ok(fields)
    }

    /// A field other than `id`, `ts`, `type` and `data`.
    pub(super) fn other(&self, name: &str) -> Option<&'a RawValue> {
        let field = self.others.iter().rfind(|field| field.name == name)?;
        Some(field.declared.and_then(|index| self.declared[index]).unwrap_or(field.value))
    }

    fn put(&mut self, name: Cow<'a, str>, value: &'a RawValue, keys: &[Arc<str>]) {
        let declared = keys.iter().position(|key| **key == *name);
        let repeated = declared.is_some_and(|index| self.declared[index].replace(value).is_some());
        match &*name {
            "id" => self.id = Some(value),
            "ts" => self.ts = Some(value),
            "type" => self.kind = Some(value),
            "data" => self.data = Some(value),
            _ if repeated => {}
            _ if declared.is_none() && self.others.len() >= FIELDS_MAX => self.overflowed = true,
            _ => self.others.push(Field { name, value, declared }),
        }
    }
}

/// The name of a field, borrowed unless it contains escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct FieldsOf<'k>(&'k [Arc<str>]);

impl<'de> DeserializeSeed<'de> for FieldsOf<'_> {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsOf<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields {
            id: None,
            ts: None,
            kind: None,
            data: None,
            declared: vec![None; self.0.len()],
            others: Vec::new(),
            overflowed: false,
        };
        while let Some(Name(name)) = map.next_key()? {
            fields.put(name, map.next_value()?, self.0);
        }
        Ok(fields)
    }
}

/// The value is nested deeper than [`DEPTH_MAX`].
#[derive(Debug)]
pub(super) struct TooDeep;

/// Appends a valid JSON value without the white space between its tokens; all other bytes stay unchanged.
pub(super) fn append_on_one_line(value: &str, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    let value = value.as_bytes();
    let (mut at, mut run, mut depth) = (0, 0, 0_usize);
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => {
                at = string_end(value, at + 1);
                continue;
            }
            b'{' | b'[' if depth == DEPTH_MAX => return Err(TooDeep),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.extend_from_slice(&value[run..at]);
                run = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    out.extend_from_slice(&value[run..]);
    Ok(())
}

/// Appends text as a JSON string (RFC 8259 section 7).
pub(super) fn append_string(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing a string to a vector cannot fail.
        let _ = serde_json::to_writer(out, text);
    }
}

/// The index after the closing quote of a string whose content starts at `at`.
fn string_end(value: &[u8], mut at: usize) -> usize {
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    value.len()
}
