//! Values and keys whose schema is in a registry: from a record's bytes to JSON.
//!
//! The record names its schema ([`framing`]); [`Schemas`] looks the schema up, and the schema decodes the body. Looking up
//! does not wait: while a schema is requested, the record is not decoded ([`Undecodable::AwaitsSchema`]), and its source
//! decodes it again later. Registries and schemas are outside of the core.

mod framing;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use self::framing::Framed;
pub use self::framing::{MESSAGE_DEPTH_MAX, MessageIndexes, Part, SchemaId};
use super::signature::Signature;
use super::{RECORD_BYTES_MAX, Record, Undecodable};

/// The format of a schema, and of what it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaFormat {
    Avro,
    Protobuf,
    /// JSON behind the id of a JSON Schema, which is not requested.
    JsonSchema,
}

impl SchemaFormat {
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "Avro",
            Self::Protobuf => "Protobuf",
            Self::JsonSchema => "JSON Schema",
        }
    }
}

/// The schemas of one registry, as far as they are known.
pub trait Schemas: fmt::Debug + Send + Sync {
    /// The registry's name in the configuration.
    fn name(&self) -> &str;

    /// Looks a schema up, and requests it if it is not known. Does not block.
    fn find(&self, id: SchemaId, format: SchemaFormat) -> Lookup;
}

/// The result of a lookup.
#[derive(Clone, Debug)]
pub enum Lookup {
    Known(Arc<dyn WriterSchema>),
    /// It is being requested.
    Awaited,
    /// The reason.
    Unavailable(Arc<str>),
}

/// A schema with which records were written.
pub trait WriterSchema: fmt::Debug + Send + Sync {
    /// The JSON text of a body, of at most [`RECORD_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// Why the body is not of this schema.
    fn json(&self, message: &MessageIndexes, body: &[u8]) -> Result<String, InvalidBody>;
}

/// Why a body is not of its schema. It repeats nothing of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidBody {
    /// The names and indexes down to the invalid part, the last one first.
    path: Vec<Box<str>>,
    reason: Box<str>,
}

impl InvalidBody {
    pub fn new(reason: impl Into<Box<str>>) -> Self {
        Self { path: Vec::new(), reason: reason.into() }
    }

    /// The same in a part of this name.
    #[must_use]
    pub fn below(mut self, name: impl Into<Box<str>>) -> Self {
        self.path.push(name.into());
        self
    }
}

impl fmt::Display for InvalidBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str("at `")?;
            self.path.iter().rev().try_for_each(|name| write!(f, "/{name}"))?;
            f.write_str("`: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// The registry of a topic. Registries of one configuration are distinguished by their names.
#[derive(Clone, Debug)]
pub struct SharedSchemas(pub Arc<dyn Schemas>);

impl PartialEq for SharedSchemas {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for SharedSchemas {}

/// Why a value or a key is not decoded with a schema.
#[derive(Debug, thiserror::Error)]
#[error("the {part} {reason}")]
pub struct Unregistered {
    part: Part,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("has no schema id, neither before it nor in the header `{}`{}", .0.header(), looks_like(.1))]
    NoId(Part, Option<Signature>),
    #[error("has an invalid schema id in the header `{}`", .0.header())]
    InvalidHeader(Part),
    #[error("has invalid message indexes after the schema id {0}")]
    Indexes(SchemaId),
    #[error("is longer than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    #[error("has the schema id {0}, and the topic has no registry")]
    NoRegistry(SchemaId),
    #[error("has the schema id {0}, which is not available: {1}")]
    Unavailable(SchemaId, Arc<str>),
    #[error("is not of its schema, id {0}: {1}")]
    Invalid(SchemaId, InvalidBody),
    #[error("is not JSON behind the schema id {0}")]
    NotJson(SchemaId),
}

fn looks_like(signature: &Option<Signature>) -> String {
    signature.map(|signature| format!("; it looks like {}", signature.what())).unwrap_or_default()
}

/// The JSON text of a value or a key.
pub(super) fn json<'a>(
    (part, format): (Part, SchemaFormat),
    schemas: Option<&SharedSchemas>,
    record: &Record<'a>,
    bytes: &'a [u8],
) -> Result<Cow<'a, str>, Undecodable> {
    let failed = |reason| Undecodable::Unregistered(Unregistered { part, reason });
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(failed(Reason::TooLong));
    }
    let Framed { id, message, body } = Framed::read(part, format, record, bytes).map_err(failed)?;
    if format == SchemaFormat::JsonSchema {
        return std::str::from_utf8(body).map(Cow::Borrowed).map_err(|_| failed(Reason::NotJson(id)));
    }
    let Some(SharedSchemas(schemas)) = schemas else { return Err(failed(Reason::NoRegistry(id))) };
    match schemas.find(id, format) {
        Lookup::Known(schema) => {
            let text = schema.json(&message, body).map_err(|invalid| failed(Reason::Invalid(id, invalid)))?;
            Ok(Cow::Owned(text))
        }
        Lookup::Awaited => Err(Undecodable::AwaitsSchema(id)),
        Lookup::Unavailable(reason) => Err(failed(Reason::Unavailable(id, reason))),
    }
}

/// The text of a key: a string without its quotes, or JSON.
pub(super) fn key_text(json: Cow<'_, str>) -> String {
    serde_json::from_str(&json).unwrap_or_else(|_| json.into_owned())
}

#[cfg(test)]
#[path = "registered_tests.rs"]
mod tests;
