//! Names on the wire that are reserved for sidestream. A producer's use of such a name is escaped with an additional
//! underscore; names that end in underscores get one too, so that distinct names stay distinct.

use std::borrow::Cow;

/// The fields of an envelope that only sidestream writes, in addition to `id`, `ts`, `type` and `data`.
pub const FIELDS: [&str; 4] = ["cursor", "encoding", "ce", "snapshot"];
/// Also reserved in topics that show the headers of their records.
pub const HEADERS: &str = "headers";
/// The SSE `event` values of sidestream's control records, and of `EventSource` itself (WHATWG HTML section 9.2.2).
pub const SSE_EVENTS: [&str; 7] = ["gap", "heartbeat", "probe", "auth", "snapshot", "open", "error"];
/// The types of sidestream's own objects.
pub const TYPES: [&str; 5] = ["gap", "heartbeat", "probe", "auth", "snapshot"];

/// A producer's name, with one more underscore if it is reserved or is an escaped reserved name.
pub fn set_apart<'a>(name: &'a str, ours: &[&str]) -> Cow<'a, str> {
    if is_taken(name, ours) { format!("{name}_").into() } else { name.into() }
}

/// Whether a name is reserved, or may be the escaped form of a producer's name.
pub fn is_taken(name: &str, ours: &[&str]) -> bool {
    ours.contains(&name.trim_end_matches('_'))
}

/// Whether a client could confuse a producer's JSON with one of sidestream's own objects, by its type. May return true
/// for other objects: a type may be written with escapes, and anywhere in the text.
pub fn looks_like_ours(json: &[u8]) -> bool {
    let has = |text: &[u8]| memchr::memmem::find(json, text).is_some();
    json.starts_with(b"{") && (has(b"\\u") || TYPES.iter().any(|name| has(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_stay_distinct() {
        for (name, expected) in
            [("cursor", "cursor_"), ("cursor_", "cursor__"), ("cursors", "cursors"), ("_cursor", "_cursor"), ("", "")]
        {
            assert_eq!(set_apart(name, &FIELDS), expected);
        }
    }

    #[test]
    fn objects_that_resemble_control_records_are_detected() {
        for ours in [r#"{"type":"gap"}"#, r#"{"type":"g\u0061p"}"#, r#"{"a":{"type":"heartbeat"}}"#] {
            assert!(looks_like_ours(ours.as_bytes()), "{ours}");
        }
        for other in [r#"{"type":"order"}"#, r#""gap""#, r#"["gap"]"#, "7"] {
            assert!(!looks_like_ours(other.as_bytes()), "{other}");
        }
    }
}
