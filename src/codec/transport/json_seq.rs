//! JSON text sequences (RFC 7464): each text between RS and LF.

use super::reading::{Reader, Record};
use super::{Control, Row};
use crate::codec::{Form, json};
use crate::event::Event;

/// The record separator.
const RS: u8 = 0x1e;

pub(super) struct JsonSeq;

impl Row for JsonSeq {
    fn name(&self) -> &'static str {
        "json-seq"
    }

    fn metric_name(&self) -> &'static str {
        "json_seq"
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["application/json-seq"]
    }

    fn form(&self, form: Form) -> Form {
        form.of_json_text()
    }

    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8> {
        separated(&json::text_of(event, cursor, form.data))
    }

    fn control(&self, record: Control<'_>) -> Vec<u8> {
        separated(&record.data)
    }

    /// Consecutive RS do not denote empty texts (RFC 7464 section 2.1), but some readers treat an LF alone as a text
    /// that is not JSON. After an RS, readers that wait for the next one know that the last text is complete.
    fn keep_alive(&self, _cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>> {
        Some(vec![RS])
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        Some(Box::<Texts>::default())
    }
}

fn separated(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 2);
    frame.push(RS);
    frame.extend_from_slice(text);
    frame.push(b'\n');
    frame
}

/// Parses texts without line breaks, as sidestream sends them.
#[derive(Default)]
struct Texts {
    unread: Vec<u8>,
}

impl Reader for Texts {
    fn feed(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(Record)) -> Result<(), &'static str> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.unread.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let whole = std::mem::take(&mut self.unread);
            let start = whole.iter().take_while(|byte| **byte == RS).count();
            if start == 0 {
                return Err("a text does not begin with RS");
            }
            found(Record::of_text(&whole[start..]));
        }
        self.unread.extend_from_slice(bytes);
        // A heartbeat, or the first byte of a text.
        if bytes.last() == Some(&RS) {
            found(Record::default());
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.unread.len()
    }
}
