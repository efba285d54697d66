//! What the user wrote: YAML as a tree in which every key and value knows its place.
//!
//! It is a tree rather than a set of derived structs because those stop at the first mistake: from the tree the
//! compiler reports unknown keys and wrong values all at once. It knows no key of the configuration.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, Spanned};

use super::diagnostic::Diagnostics;

/// How deep mappings and lists may be nested. A configuration needs 5 levels; a thousand would overflow the stack.
const DEPTH_MAX: usize = 32;
/// How many values there may be, those that aliases repeat included.
const VALUES_MAX: usize = 50_000;

/// Where something stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: u64,
    /// From 1, in characters.
    pub(super) column: u64,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A key and its place.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum Value {
    /// `key:` with nothing behind it.
    Nothing,
    Flag(bool),
    Integer(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Name, Node)>),
}

/// Reads the tree. A text that is no YAML has one mistake: the parser can't know how it goes on.
pub(super) fn read(text: &str, diagnostics: &Diagnostics) -> Option<Node> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: VALUES_MAX },
        // Repeated keys come through, to be reported with all else.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(node) => Some(node),
        Err(error) => {
            let place = error.location().map_or(Place::START, Place::from);
            diagnostics.wrong(place, yaml_message(&error));
            None
        }
    }
}

/// The parser's message without the place, which the diagnostic has.
fn yaml_message(error: &Error) -> String {
    match error {
        Error::MultipleDocuments { .. } => return "a second YAML document begins here; a configuration is one".into(),
        Error::Budget { .. } => {
            return format!("nested deeper than {DEPTH_MAX} levels, or more than {VALUES_MAX} values");
        }
        Error::AliasError { error, .. } => return yaml_message(error),
        _ => {}
    }
    let message = error.render();
    let end = message.find(" at line ").unwrap_or(message.len());
    format!("not valid YAML: {}", &message[..end])
}

impl Value {
    /// What was found, for messages: scalars as written, shortened.
    pub(super) fn describe(&self) -> String {
        /// Characters of a value that are repeated in a message.
        const SHOWN_CHARS_MAX: usize = 60;
        match self {
            Self::Nothing => "nothing".into(),
            Self::Flag(flag) => format!("`{flag}`"),
            Self::Integer(number) => format!("`{number}`"),
            Self::Fraction(number) => format!("`{number}`"),
            Self::Text(text) if text.chars().count() > SHOWN_CHARS_MAX => {
                format!("`{}...`", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
            }
            Self::Text(text) => format!("`{text}`"),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, place: spanned.referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { text: spanned.value, place: spanned.referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}
