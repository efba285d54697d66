//! How the records of a topic become events where they were not made for it: where type, time and keys stand.
//!
//! It says where to look; the decoder looks.

use std::sync::Arc;

/// The longest JSON pointer, in reference tokens: each is a pass over what the one before it found.
pub const POINTER_TOKENS_MAX: usize = 16;

/// Where a part of an event is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `/user/id`: a JSON pointer (RFC 6901) into the record's value, as its reference tokens, unescaped.
    Pointer(Box<[Box<str>]>),
    /// `key`: the record's key, as text.
    Key,
    /// `header:tenant`: the last of the record's headers with this name, as text.
    Header(Box<str>),
    /// `const:order-changed`: this text.
    Constant(Box<str>),
}

/// Where the parts of a topic's events are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The event's `type`.
    pub kind: Origin,
    /// The event's `ts`.
    pub ts: Origin,
    /// Every key that a stream of the topic declares, sorted by name.
    pub keys: Box<[(Arc<str>, Origin)]>,
}

impl Origin {
    /// Reads `/json/pointer`, `key`, `header:<name>` or `const:<text>`; nothing where the text is none of them.
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
        let tokens: Option<Box<[_]>> = text.strip_prefix('/')?.split('/').map(unescape).collect();
        tokens.filter(|tokens| tokens.len() <= POINTER_TOKENS_MAX).map(Self::Pointer)
    }

    /// The field of this name at the top of the value.
    pub fn field(name: &str) -> Self {
        Self::Pointer([name.into()].into())
    }
}

/// `~1` is a slash and `~0` a tilde (RFC 6901 section 4); nothing else may follow a tilde (section 3).
fn unescape(token: &str) -> Option<Box<str>> {
    let mut parts = token.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (escape, rest) = part.split_at_checked(1)?;
        text.push(match escape {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(tokens: &[&str]) -> Option<Origin> {
        Some(Origin::Pointer(tokens.iter().map(|token| Box::from(*token)).collect()))
    }

    #[test]
    fn four_kinds_of_origin_are_told_apart() {
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

    #[test]
    fn pointers_are_unescaped_and_limited() {
        assert_eq!(Origin::parse("/a~1b/~0~01/"), pointer(&["a/b", "~~1", ""]));
        for text in ["/~", "/a~2", "/a~é", "/~/0"] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
        assert!(Origin::parse(&"/a".repeat(POINTER_TOKENS_MAX)).is_some());
        assert_eq!(Origin::parse(&"/a".repeat(POINTER_TOKENS_MAX + 1)), None);
    }
}
