//! A record's headers: lookup by name, and output in the envelope if the topic is configured so.
//!
//! Kafka allows repeated names. The last one counts, as for `lastHeader` of Kafka's clients.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::json::append_string;
use super::{Record, ShownHeaders, Undecodable};

/// The most headers of a record in a topic that shows them.
pub const HEADERS_MAX: usize = 256;

/// The name and the value of a header.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

impl<'a> Record<'a> {
    /// The text of a header; `None` if it is absent, null or not UTF-8.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.header_bytes(name)?).ok()
    }

    /// The bytes of a header; `None` if it is absent or null.
    pub(super) fn header_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().rfind(|(other, _)| *other == name)?.1
    }

    /// The headers with distinct names. Fails if there are more than [`HEADERS_MAX`].
    pub(super) fn distinct_headers(&self) -> Result<impl Iterator<Item = Header<'a>>, Undecodable> {
        let headers = self.headers;
        if headers.len() > HEADERS_MAX {
            return Err(Undecodable::TooManyHeaders);
        }
        let is_last = |index: usize, name: &str| !headers[index + 1..].iter().any(|(later, _)| *later == name);
        Ok(headers
            .iter()
            .enumerate()
            .filter(move |(index, (name, _))| is_last(*index, name))
            .map(|(_, header)| *header))
    }
}

impl ShownHeaders {
    /// Whether envelopes may contain sidestream's field `headers`.
    pub(super) fn any(&self) -> bool {
        *self != Self::Named([].into())
    }

    fn shows(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|shown| **shown == *name),
        }
    }
}

/// Appends `,"headers":{...}`: text unchanged, `null` as `null`, other bytes as `{"base64":"..."}`.
pub(super) fn append_headers(record: &Record<'_>, shown: &ShownHeaders, out: &mut Vec<u8>) -> Result<(), Undecodable> {
    if !shown.any() {
        return Ok(());
    }
    out.extend_from_slice(br#","headers":{"#);
    for (name, value) in record.distinct_headers()?.filter(|(name, _)| shown.shows(name)) {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        append_string(name, out);
        out.push(b':');
        append_value(value, out);
    }
    out.push(b'}');
    Ok(())
}

fn append_value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value.map(|value| (value, std::str::from_utf8(value))) {
        None => out.extend_from_slice(b"null"),
        Some((_, Ok(text))) => append_string(text, out),
        Some((bytes, Err(_))) => {
            out.extend_from_slice(br#"{"base64":"#);
            append_string(&STANDARD.encode(bytes), out);
            out.push(b'}');
        }
    }
}
