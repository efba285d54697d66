//! The mapping of a topic whose records have no envelope: where type, time, keys and data come from.
//!
//! It contains locations only; the decoder evaluates them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::{Preset, label};
use crate::pointer::{self, Pointer};

/// The most origins of one part, as written.
pub const ORIGINS_MAX: usize = 8;

/// The origin of a part of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `/user/id`: a JSON pointer (RFC 6901) into the record's value, as unescaped reference tokens.
    Pointer(Pointer),
    /// `value`: the whole value.
    Value,
    /// `field:id`, with a preset: the field of the row, or else of the record's key.
    InRow(Box<str>),
    /// `key`: the record's key, as text.
    Key,
    /// `key:/payload/id`: a JSON pointer into the record's key.
    InKey(Pointer),
    /// `header:tenant`: the last header with this name, as text.
    Header(Box<str>),
    /// `const:order-changed`: a constant.
    Constant(Box<str>),
}

/// The origins of a part of an event: the first one with a valid value counts. For a key, it is the first one that is
/// present, and the key is missing if that is invalid: no producer can choose the key by making an earlier one invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(pub Box<[Origin]>);

/// The origins of the parts of a topic's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The producer that the mapping is for. Pointers then begin inside of the converter's wrapper.
    pub preset: Option<Preset>,
    /// The event's `type`.
    pub kind: Origins,
    /// The types that replace what `kind` finds, sorted by it.
    pub types: Box<[(Box<str>, Box<str>)]>,
    /// Records of these types are not events.
    pub drop: Box<[Box<str>]>,
    /// The event's `ts`.
    pub ts: Origins,
    /// All keys that the topic's streams declare, sorted by name.
    pub keys: Box<[(Arc<str>, Origins)]>,
    /// The part of the value that is `data`; `null` counts as absent. `None`: the row of the preset, or else the whole value.
    pub data: Option<Origins>,
}

impl Mapping {
    /// A mapping of records whose whole value is `data`.
    pub fn new(kind: Origins, ts: Origins, keys: impl IntoIterator<Item = (Arc<str>, Origins)>) -> Self {
        Self { preset: None, kind, types: [].into(), drop: [].into(), ts, keys: keys.into_iter().collect(), data: None }
    }

    /// The type of an event, given what the record has.
    pub(super) fn type_of<'a>(&'a self, found: Cow<'a, str>) -> Cow<'a, str> {
        let known = self.types.iter().find(|(known, _)| **known == *found);
        known.map_or(found, |(_, kind)| (&**kind).into())
    }

    pub(super) fn drops(&self, kind: &str) -> bool {
        self.drop.iter().any(|dropped| **dropped == *kind)
    }
}

/// Whether a text is valid as a type.
pub fn is_type(text: &str) -> bool {
    label::is_type(text)
}

impl Origin {
    /// Parses `/json/pointer`, `value`, `key`, `key:/json/pointer`, `header:<name>` or `const:<text>`; `None` for any
    /// other text.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "key" => return Some(Self::Key),
            "value" => return Some(Self::Value),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("header:") {
            return (!name.is_empty()).then(|| Self::Header(name.into()));
        }
        if let Some(text) = text.strip_prefix("const:") {
            return (!text.is_empty()).then(|| Self::Constant(text.into()));
        }
        match text.strip_prefix("key:") {
            Some(text) => pointer::parse(text).map(Self::InKey),
            None => pointer::parse(text).map(Self::Pointer),
        }
    }

    /// The top-level field of this name.
    pub fn field(name: &str) -> Self {
        Self::Pointer([name.into()].into())
    }

    /// Whether it is in the record's value, which must be JSON then.
    pub fn is_in_value(&self) -> bool {
        matches!(self, Self::Pointer(_) | Self::Value | Self::InRow(_))
    }
}

impl From<Origin> for Origins {
    fn from(origin: Origin) -> Self {
        Self([origin].into())
    }
}

/// As it is written in the configuration.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(tokens) => f.write_str(&pointer::write(tokens)),
            Self::Value => f.write_str("value"),
            Self::InRow(name) => write!(f, "field:{name}"),
            Self::Key => f.write_str("key"),
            Self::InKey(tokens) => write!(f, "key:{}", pointer::write(tokens)),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Constant(text) => write!(f, "const:{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(tokens: &[&str]) -> Pointer {
        tokens.iter().map(|token| Box::from(*token)).collect()
    }

    #[test]
    fn origins_are_parsed_and_written() {
        for (text, origin) in [
            ("key", Origin::Key),
            ("value", Origin::Value),
            ("header:a:b", Origin::Header("a:b".into())),
            ("const:key", Origin::Constant("key".into())),
            ("/user/id", Origin::Pointer(pointer(&["user", "id"]))),
            ("/", Origin::Pointer(pointer(&[""]))),
            ("/a~1b/~0", Origin::Pointer(pointer(&["a/b", "~"]))),
            ("key:/payload/id", Origin::InKey(pointer(&["payload", "id"]))),
        ] {
            assert_eq!(Origin::parse(text).as_ref(), Some(&origin), "{text}");
            assert_eq!(origin.to_string(), text);
        }
        assert_eq!(Origin::field("a/b"), Origin::Pointer(pointer(&["a/b"])));
        for text in ["", "user", "Key", "header:", "const:", "header", "user/id", "key:", "key:id"] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
