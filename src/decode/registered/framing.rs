//! Confluent's wire formats: how a record names the schema of its value and of its key.
//!
//! | form | bytes |
//! |---|---|
//! | prefix | `00`, the id as a big-endian number of 32 bits, then the body |
//! | header `__value_schema_id` or `__key_schema_id` | `01` and a GUID of 16 bytes, or `00` and the id; the body has no prefix |
//!
//! For Protobuf, the indexes of the message in its file follow the id: their number and each of them as a zigzag varint;
//! a number of zero means the first message. The header counts if there are both forms.

use std::fmt;

use super::{Reason, SchemaFormat};
use crate::decode::Record;
use crate::decode::signature::Signature;

/// The deepest nesting of a message in others.
pub const MESSAGE_DEPTH_MAX: usize = 16;

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Key,
    Value,
}

impl Part {
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Key => "__key_schema_id",
            Self::Value => "__value_schema_id",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Key { "key" } else { "value" })
    }
}

/// The id of a schema in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaId {
    Number(u32),
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Number(id) => return id.fmt(f),
            Self::Guid(bytes) => bytes,
        };
        for (index, byte) in bytes.iter().enumerate() {
            let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The place of a Protobuf message in its file: an index at each level of nesting.
pub type MessageIndexes = Vec<u32>;

/// A value or a key with its schema's id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    pub(super) id: SchemaId,
    /// Empty unless it is Protobuf.
    pub(super) message: MessageIndexes,
    pub(super) body: &'a [u8],
}

impl<'a> Framed<'a> {
    pub(super) fn read(part: Part, format: SchemaFormat, record: &Record<'a>, bytes: &'a [u8]) -> Result<Self, Reason> {
        let indexes = |id, rest| match format {
            SchemaFormat::Protobuf => message_indexes(rest).ok_or(Reason::Indexes(id)),
            SchemaFormat::Avro | SchemaFormat::JsonSchema => Ok((MessageIndexes::new(), rest)),
        };
        if let Some(header) = record.header_bytes(part.header()) {
            let (id, rest) = number(header).or_else(|| guid(header)).ok_or(Reason::InvalidHeader(part))?;
            let (message, rest) = indexes(id, rest)?;
            return rest.is_empty().then_some(Self { id, message, body: bytes }).ok_or(Reason::InvalidHeader(part));
        }
        let (id, rest) = number(bytes).ok_or_else(|| Reason::NoId(part, Signature::of(bytes)))?;
        let (message, body) = indexes(id, rest)?;
        Ok(Self { id, message, body })
    }
}

fn number(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    let (id, rest) = bytes.strip_prefix(&[0])?.split_first_chunk()?;
    Some((SchemaId::Number(u32::from_be_bytes(*id)), rest))
}

fn guid(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    let (guid, rest) = bytes.strip_prefix(&[1])?.split_first_chunk()?;
    Some((SchemaId::Guid(*guid), rest))
}

fn message_indexes(bytes: &[u8]) -> Option<(MessageIndexes, &[u8])> {
    let (count, mut rest) = zigzag(bytes)?;
    if count == 0 {
        return Some((vec![0], rest));
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= MESSAGE_DEPTH_MAX)?;
    let mut indexes = MessageIndexes::with_capacity(count);
    for _ in 0..count {
        let (index, behind) = zigzag(rest)?;
        indexes.push(u32::try_from(index).ok()?);
        rest = behind;
    }
    Some((indexes, rest))
}

/// A number of 32 bits in groups of 7, the lowest first; its lowest bit is the sign.
fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    const BYTES_MAX: usize = 5;
    let end = bytes.iter().take(BYTES_MAX).position(|byte| byte & 0x80 == 0)?;
    let number = bytes[..=end].iter().rev().fold(0_i64, |number, byte| number << 7 | i64::from(byte & 0x7f));
    Some(((number >> 1) ^ -(number & 1), &bytes[end + 1..]))
}
