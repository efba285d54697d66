//! The schema of a topic's data: what does not conform to it becomes a gap, or is sent and counted.
//!
//! It decides what is validated, within limits. The validator itself is outside of the core.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// The longest `data` that is validated, in bytes: the default limit of brokers for a record. Longer data does not
/// conform. Validation holds the data as a tree of values, which takes many times its bytes.
pub const VALIDATED_BYTES_MAX: usize = 1024 * 1024;

/// The longest `data` in which the violated keyword is looked for, in bytes: errors of all alternatives are collected.
const LOCATED_BYTES_MAX: usize = 4 * 1024;

/// The stack of a thread that validates: for data of the deepest nesting, and a schema that refers to itself at each
/// level. Memory is used only as deep as the recursion was.
pub const VALIDATION_STACK_BYTES: usize = 8 << 20;

/// Validates JSON values.
pub trait Validator: fmt::Debug + Send + Sync {
    fn is_valid(&self, value: &Value) -> bool;

    /// The place in the schema of a keyword that the value violates, as a JSON pointer; `None` if that would take an
    /// unlimited time or too much memory.
    fn violated(&self, value: &Value) -> Option<String>;
}

/// What happens to an event that does not conform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonconforming {
    /// Clients receive a gap in its place.
    Gap,
    /// Clients receive it.
    Pass,
}

/// Why data does not conform. It repeats nothing of the data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("it violates `{0}` of the schema")]
    Keyword(Box<str>),
    #[error("it is not valid")]
    Unknown,
    #[error("it is longer than {VALIDATED_BYTES_MAX} bytes")]
    TooLong,
    /// Decoding copies tokens, and accepts more than a parser of values: a depth of 128, a number beyond a double, a lone
    /// surrogate. No schema accepts such data, because nothing about it would be validated.
    #[error("it has a number, a text or a nesting that cannot be read")]
    Unreadable,
}

/// A compiled schema.
#[derive(Clone, Debug)]
pub struct Schema {
    /// As written. Equal sources are equal schemas.
    source: Arc<[u8]>,
    validator: Arc<dyn Validator>,
    pub nonconforming: Nonconforming,
}

impl Schema {
    pub fn new(source: &[u8], validator: Arc<dyn Validator>, nonconforming: Nonconforming) -> Self {
        Self { source: source.into(), validator, nonconforming }
    }

    /// Validates the `data` of an event.
    ///
    /// # Errors
    ///
    /// Why it does not conform.
    pub fn validate(&self, data: &[u8]) -> Result<(), Violation> {
        if data.len() > VALIDATED_BYTES_MAX {
            return Err(Violation::TooLong);
        }
        let value = serde_json::from_slice(data).map_err(|_| Violation::Unreadable)?;
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        let place = Some(&self.validator).filter(|_| data.len() <= LOCATED_BYTES_MAX);
        let place = place.and_then(|validator| validator.violated(&value));
        Err(place.map_or(Violation::Unknown, |place| Violation::Keyword(place.into())))
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, self.nonconforming) == (&other.source, other.nonconforming)
    }
}

impl Eq for Schema {}
