//! How a client reads a transport whose stream is a response body.

use std::time::Duration;

/// Parses the bytes of a body into records.
pub trait Reader: Send {
    /// Consumes bytes of the body, and calls `found` with each complete record.
    ///
    /// # Errors
    ///
    /// The bytes are not of this transport.
    fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(Record)) -> Result<(), &'static str>;

    /// The bytes of an incomplete record that are kept now. The caller bounds them.
    fn held(&self) -> usize;
}

/// A record in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The JSON text; `None` in a heartbeat that is invisible to scripts.
    pub data: Option<String>,
    /// The name of the record, empty if it has none; `None` if the transport has no names.
    pub event: Option<String>,
    /// The position of the record.
    pub id: Option<String>,
    /// The reconnect delay.
    pub retry: Option<Duration>,
}

impl Record {
    /// A record that consists of a JSON text.
    pub(super) fn of_text(text: &[u8]) -> Self {
        Self { data: Some(String::from_utf8_lossy(text).into_owned()), ..Self::default() }
    }
}

/// Consumes `bytes`, and calls `found` with each complete line, without its LF or CRLF. The rest is kept in `unread`.
pub(super) fn lines(unread: &mut Vec<u8>, mut bytes: &[u8], mut found: impl FnMut(&[u8])) {
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        unread.extend_from_slice(&bytes[..end]);
        bytes = &bytes[end + 1..];
        let line = std::mem::take(unread);
        found(line.strip_suffix(b"\r").unwrap_or(&line));
    }
    unread.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
