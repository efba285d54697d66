//! The configured shape of a topic's records.

use std::sync::Arc;

use super::mapping::Mapping;
use super::registered::{SchemaFormat, SharedSchemas};
use super::schema::Schema;

/// How the records of one topic become events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The declared keys: fields by which routes select events.
    pub keys: Box<[Arc<str>]>,
    pub format: Format,
    /// The format of keys whose schema is in a registry. Absent: keys are text.
    pub key_format: Option<SchemaFormat>,
    /// The registry of these schemas.
    pub schemas: Option<SharedSchemas>,
    /// Absent: envelopes and CloudEvents are recognized; other values are bare payloads.
    pub mapping: Option<Arc<Mapping>>,
    pub headers: ShownHeaders,
    /// The schema of `data`, if there is one.
    pub schema: Option<Schema>,
    pub missing_key: MissingKey,
}

impl Shape {
    /// JSON without a mapping and without headers.
    pub fn new(keys: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            keys: keys.into_iter().collect(),
            format: Format::Json,
            key_format: None,
            schemas: None,
            mapping: None,
            headers: ShownHeaders::Named([].into()),
            schema: None,
            missing_key: MissingKey::Count,
        }
    }
}

/// The format of the values of a topic's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// UTF-8 text, sent as a JSON string.
    Text,
    /// Bytes, sent as a JSON string in base64 (RFC 4648 section 4).
    Binary,
    /// Values whose schema is in a registry, sent as JSON.
    Registered(SchemaFormat),
}

impl Format {
    /// Whether values are JSON, or become JSON.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Registered(_))
    }
}

/// The record headers that the envelope shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownHeaders {
    All,
    /// The headers with these names; often empty.
    Named(Box<[Box<str>]>),
}

/// What happens if an event lacks a declared key, so that clients that are bound to the key cannot receive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingKey {
    /// It is only counted.
    Count,
    /// These clients receive a gap in its place.
    Gap,
}
