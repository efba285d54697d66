//! JSON pointers (RFC 6901), and the members and elements of JSON values that they lead to.
//!
//! Values are borrowed: numbers and strings are never re-encoded.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The most reference tokens of a pointer: each costs a pass over the value found so far.
pub const TOKENS_MAX: usize = 16;

/// A pointer, as unescaped reference tokens.
pub type Pointer = Box<[Box<str>]>;

/// Parses a pointer; `None` if it is invalid, empty or longer than [`TOKENS_MAX`].
pub fn parse(text: &str) -> Option<Pointer> {
    let tokens: Option<Pointer> = text.strip_prefix('/')?.split('/').map(unescape).collect();
    tokens.filter(|tokens| tokens.len() <= TOKENS_MAX)
}

/// `~1` is a slash and `~0` a tilde (RFC 6901 section 4); a tilde must not precede anything else (section 3).
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

/// A pointer as text.
pub fn write(tokens: &[Box<str>]) -> String {
    tokens.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The target of a pointer.
pub fn find<'a>(value: &'a RawValue, tokens: &[Box<str>]) -> Option<&'a RawValue> {
    tokens.iter().try_fold(value, |value, token| match value.get().as_bytes().first() {
        Some(b'{') => member(value.get(), token).ok().flatten(),
        Some(b'[') => element(value.get(), token),
        _ => None,
    })
}

/// The member of an object, given as text; for a repeated name, the last one.
///
/// # Errors
///
/// The text is not an object, or a name is not Unicode.
pub fn member<'a>(object: &'a str, name: &str) -> serde_json::Result<Option<&'a RawValue>> {
    let mut found = None;
    members(object, |other, value| {
        if other == name {
            found = Some(value);
        }
    })?;
    Ok(found)
}

/// The element of an array at this index, written without leading zeros (RFC 6901 section 4).
fn element<'a>(array: &'a str, token: &str) -> Option<&'a RawValue> {
    let index: usize = token.parse().ok()?;
    if index.to_string() != token {
        return None;
    }
    let (mut at, mut found) = (0, None);
    let read = elements(array, |value| {
        if at == index {
            found = Some(value);
        }
        at += 1;
    });
    read.ok().and(found)
}

/// Calls `each` with the name and the value of every member of an object, in order; names may repeat.
///
/// # Errors
///
/// The text is not an object, or a name is not Unicode.
pub fn members<'a>(object: &'a str, each: impl FnMut(Cow<'a, str>, &'a RawValue)) -> serde_json::Result<()> {
    serde_json::Deserializer::from_str(object).deserialize_map(Members(each))
}

/// Calls `each` with every element of an array, in order.
///
/// # Errors
///
/// The text is not an array.
pub fn elements<'a>(array: &'a str, each: impl FnMut(&'a RawValue)) -> serde_json::Result<()> {
    serde_json::Deserializer::from_str(array).deserialize_seq(Elements(each))
}

/// The name of a member, borrowed unless it contains escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            self.0(name, map.next_value()?);
        }
        Ok(())
    }
}

struct Elements<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(value) = array.next_element()? {
            self.0(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_unescaped_and_limited() {
        let pointer = |tokens: &[&str]| Some(tokens.iter().map(|token| Box::from(*token)).collect::<Pointer>());
        assert_eq!(parse("/a~1b/~0~01/"), pointer(&["a/b", "~~1", ""]));
        for text in ["", "a", "/~", "/a~2", "/a~é", "/~/0"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(parse(&"/a".repeat(TOKENS_MAX)).is_some());
        assert_eq!(parse(&"/a".repeat(TOKENS_MAX + 1)), None);
    }

    #[test]
    fn targets_are_found_by_name_and_index() {
        let value: &RawValue = serde_json::from_str(r#"{"a":[1,{"b":2,"b":3}],"\u0063":4}"#).unwrap();
        let find = |text| find(value, &parse(text).unwrap()).map(RawValue::get);
        for (text, found) in [
            ("/a/0", Some("1")),
            ("/a/1/b", Some("3")),
            ("/c", Some("4")),
            ("/a/2", None),
            ("/a/01", None),
            ("/a/0/b", None),
            ("/d", None),
        ] {
            assert_eq!(find(text), found, "{text}");
        }
    }
}
