//! Names that are sidestream's own on the wire, and how a producer's use of them is set apart: one underscore is added to
//! the name, and to the name with underscores, so that no two names become one.

use std::borrow::Cow;

/// The fields of an envelope that only sidestream writes, beside `id`, `ts`, `type` and `data`.
pub const FIELDS: [&str; 3] = ["cursor", "encoding", "ce"];
/// One more, in topics that show the headers of their records.
pub const HEADERS: &str = "headers";
/// The `event` fields of SSE that are sidestream's records, or events of `EventSource` itself (WHATWG HTML section 9.2.2).
pub const SSE_EVENTS: [&str; 6] = ["gap", "heartbeat", "probe", "auth", "open", "error"];
/// The types of sidestream's own objects.
pub const TYPES: [&str; 4] = ["gap", "heartbeat", "probe", "auth"];

/// A producer's name, with one underscore more where it is one of `ours` or one that was set apart.
pub fn set_apart<'a>(name: &'a str, ours: &[&str]) -> Cow<'a, str> {
    if is_taken(name, ours) { format!("{name}_").into() } else { name.into() }
}

/// Whether a name is one of `ours`, or one that a producer's name may become.
pub fn is_taken(name: &str, ours: &[&str]) -> bool {
    ours.contains(&name.trim_end_matches('_'))
}

/// Whether a reader may take a producer's JSON for one of sidestream's own objects: an object that may have one of
/// their types. Errs on this side: a type may be written with escapes, and stand anywhere in the text.
pub fn looks_like_ours(json: &[u8]) -> bool {
    let has = |text: &[u8]| memchr::memmem::find(json, text).is_some();
    json.starts_with(b"{") && (has(b"\\u") || TYPES.iter().any(|name| has(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_apart_from_ours_and_from_each_other() {
        for (name, expected) in
            [("cursor", "cursor_"), ("cursor_", "cursor__"), ("cursors", "cursors"), ("_cursor", "_cursor"), ("", "")]
        {
            assert_eq!(set_apart(name, &FIELDS), expected);
        }
    }

    #[test]
    fn what_may_be_taken_for_ours() {
        for ours in [r#"{"type":"gap"}"#, r#"{"type":"g\u0061p"}"#, r#"{"a":{"type":"heartbeat"}}"#] {
            assert!(looks_like_ours(ours.as_bytes()), "{ours}");
        }
        for other in [r#"{"type":"order"}"#, r#""gap""#, r#"["gap"]"#, "7"] {
            assert!(!looks_like_ours(other.as_bytes()), "{other}");
        }
    }
}
