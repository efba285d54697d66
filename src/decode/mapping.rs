//! The mapping of a topic whose records have no envelope: where type, time and keys come from.
//!
//! It contains locations only; the decoder evaluates them.

use std::sync::Arc;

use crate::pointer;

/// The origin of a part of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `/user/id`: a JSON pointer (RFC 6901) into the record's value, as unescaped reference tokens.
    Pointer(Box<[Box<str>]>),
    /// `key`: the record's key, as text.
    Key,
    /// `header:tenant`: the last header with this name, as text.
    Header(Box<str>),
    /// `const:order-changed`: a constant.
    Constant(Box<str>),
}

/// The origins of the parts of a topic's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The event's `type`.
    pub kind: Origin,
    /// The event's `ts`.
    pub ts: Origin,
    /// All keys that the topic's streams declare, sorted by name.
    pub keys: Box<[(Arc<str>, Origin)]>,
}

impl Origin {
    /// Parses `/json/pointer`, `key`, `header:<name>` or `const:<text>`; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "key" {
            return Some(Self::Key);
        }
        if let Some(name) = text.strip_prefix("header:") {
            return (!name.is_empty()).then(|| Self::Header(name.into()));
        }
        if let Some(text) = text.strip_prefix("const:") {
            return (!text.is_empty()).then(|| Self::Constant(text.into()));
        }
        pointer::parse(text).map(Self::Pointer)
    }

    /// The top-level field of this name.
    pub fn field(name: &str) -> Self {
        Self::Pointer([name.into()].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(tokens: &[&str]) -> Option<Origin> {
        Some(Origin::Pointer(tokens.iter().map(|token| Box::from(*token)).collect()))
    }

    #[test]
    fn four_kinds_of_origin_are_parsed() {
        assert_eq!(Origin::parse("key"), Some(Origin::Key));
        assert_eq!(Origin::parse("header:a:b"), Some(Origin::Header("a:b".into())));
        assert_eq!(Origin::parse("const:key"), Some(Origin::Constant("key".into())));
        assert_eq!(Origin::parse("/user/id"), pointer(&["user", "id"]));
        assert_eq!(Origin::parse("/"), pointer(&[""]));
        assert_eq!(Origin::field("a/b"), pointer(&["a/b"]).unwrap());
        for text in ["", "user", "Key", "header:", "const:", "header", "user/id"] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
