//! How a client reads a transport whose stream is the body of a response.

use std::time::Duration;

/// Puts the bytes of a body together into records.
pub trait Reader: Send {
    /// Takes bytes of the body and calls `found` with each record that is whole.
    ///
    /// # Errors
    ///
    /// The bytes are not of this transport.
    fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(Record)) -> Result<(), &'static str>;

    /// How many bytes of a record that is not whole are kept.
    fn held(&self) -> usize;
}

/// What a client finds in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The JSON text; nothing in a heartbeat that scripts do not see.
    pub data: Option<String>,
    /// The name beside the text, empty if the record has none; nothing where the transport has no such names.
    pub event: Option<String>,
    /// The position beside the text.
    pub id: Option<String>,
    /// How long to wait before a reconnect.
    pub retry: Option<Duration>,
}

impl Record {
    /// A record that is a JSON text alone.
    pub(super) fn of_text(text: &[u8]) -> Self {
        Self { data: Some(String::from_utf8_lossy(text).into_owned()), ..Self::default() }
    }
}

/// Takes `bytes`, and calls `found` with each line that is whole, without its LF or CRLF. The rest waits in `unread`.
pub(super) fn lines(unread: &mut Vec<u8>, mut bytes: &[u8], mut found: impl FnMut(&[u8])) {
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        unread.extend_from_slice(&bytes[..end]);
        bytes = &bytes[end + 1..];
        let line = std::mem::take(unread);
        found(line.strip_suffix(b"\r").unwrap_or(&line));
    }
    unread.extend_from_slice(bytes);
}
