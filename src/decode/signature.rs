//! Recognizes, by their first bytes, values that are neither JSON nor text: for the log, which names what a topic holds.
//!
//! It is asked only after decoding has failed, and decodes nothing.

use std::borrow::Cow;
use std::fmt;

/// Confluent's wire format: a zero, a schema id, and the body.
const CONFLUENT_HEAD_BYTES: usize = 5;
/// AWS Glue's: a 3, the compression, the id of a schema version, and the body.
const GLUE_HEAD_BYTES: usize = 18;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Confluent's wire format, with the id of a schema in a registry.
    Confluent {
        schema_id: u32,
        is_json: bool,
    },
    Glue,
    AvroContainer,
    /// A compressed value, by its format.
    Compressed(&'static str),
    Protobuf,
}

impl Signature {
    /// `None` if the value looks like nothing known.
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        match value {
            [0, a, b, c, d, body @ ..] if !body.is_empty() => {
                let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
                Some(Self::Confluent { schema_id: u32::from_be_bytes([*a, *b, *c, *d]), is_json })
            }
            [3, 0 | 5, ..] if value.len() > GLUE_HEAD_BYTES => Some(Self::Glue),
            [b'O', b'b', b'j', 1, ..] => Some(Self::AvroContainer),
            [0x1f, 0x8b, 8, ..] => Some(Self::Compressed("gzip")),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Compressed("Zstandard")),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some(Self::Compressed("LZ4")),
            _ => is_protobuf(value).then_some(Self::Protobuf),
        }
    }
}

impl Signature {
    pub(super) fn what(self) -> Cow<'static, str> {
        match self {
            Self::Confluent { schema_id, is_json } => {
                let body = if is_json { "JSON behind " } else { "" };
                format!("{body}Confluent's wire format, schema id {schema_id}, {CONFLUENT_HEAD_BYTES} bytes").into()
            }
            Self::Glue => "the format of AWS Glue's schema registry".into(),
            Self::AvroContainer => "an Avro container file".into(),
            Self::Compressed(format) => format!("data that its producer compressed with {format}").into(),
            Self::Protobuf => "Protobuf".into(),
        }
    }
}

/// What the value looks like, and which setting makes events of it.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self {
            Self::Confluent { is_json: true, .. } => "set `format: json-schema` for the topic",
            Self::Confluent { .. } => "set `registry`, and `format: avro` or `format: protobuf` for the topic",
            _ => "produce JSON, or set `format: binary` for the topic to send the bytes in base64",
        };
        write!(f, "{}; {advice}", self.what())
    }
}

/// Whether the bytes are fields of Protobuf up to their end. Text without control characters is none.
fn is_protobuf(value: &[u8]) -> bool {
    let is_text = std::str::from_utf8(value).is_ok_and(|text| !text.chars().any(char::is_control));
    let mut rest = value;
    while !rest.is_empty() {
        let Some(behind) = behind_field(rest) else { return false };
        rest = behind;
    }
    !is_text
}

/// What follows the first field.
fn behind_field(bytes: &[u8]) -> Option<&[u8]> {
    const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;
    let (tag, bytes) = varint(bytes)?;
    if !(1..=FIELD_NUMBER_MAX).contains(&(tag >> 3)) {
        return None;
    }
    match tag & 7 {
        0 => varint(bytes).map(|(_, rest)| rest),
        1 => bytes.get(8..),
        2 => {
            let (length, rest) = varint(bytes)?;
            rest.get(usize::try_from(length).ok()?..)
        }
        5 => bytes.get(4..),
        _ => None,
    }
}

/// A number in groups of 7 bits, the lowest first.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    const BYTES_MAX: usize = 10;
    let end = bytes.iter().take(BYTES_MAX).position(|byte| byte & 0x80 == 0)?;
    let number = bytes[..=end].iter().rev().fold(0_u64, |number, byte| number.wrapping_shl(7) | u64::from(byte & 0x7f));
    Some((number, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_formats_are_recognized_by_their_first_bytes() {
        let glue = [&[3, 5][..], &[7; 17]].concat();
        for (value, expected) in [
            (&b"\0\0\0\x01\x02\x0eabc"[..], Some(Signature::Confluent { schema_id: 258, is_json: false })),
            (b"\0\0\0\0\x07{\"a\":1}", Some(Signature::Confluent { schema_id: 7, is_json: true })),
            (b"\0\0\0\0\x07", None),
            (&glue, Some(Signature::Glue)),
            (b"Obj\x01\x04\x14avro.codec", Some(Signature::AvroContainer)),
            (b"\x1f\x8b\x08\0\0", Some(Signature::Compressed("gzip"))),
            (b"\x28\xb5\x2f\xfd\x24", Some(Signature::Compressed("Zstandard"))),
            (b"\x04\x22\x4d\x18\x64", Some(Signature::Compressed("LZ4"))),
            (b"\x08\x96\x01\x12\x03o-1", Some(Signature::Protobuf)),
            (b"\x0d\0\0\x80\x3f\x11\0\0\0\0\0\0\0\0", Some(Signature::Protobuf)),
            (b"\x08\x96\x01\x12\x09o-1", None),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
            (b"\x02\x01", None),
            (b"not json", None),
            (b"{\"cut\":", None),
            (b"HaHb", None),
            (b"\xff\xfe", None),
            (b"", None),
        ] {
            assert_eq!(Signature::of(value), expected, "{value:?}");
        }
    }
}
