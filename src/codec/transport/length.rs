//! Length-prefixed JSON: the length of a JSON text in bytes as decimal digits, LF, and the text.

use super::reading::{Reader, Record};
use super::{Control, Row};
use crate::codec::{Form, json};
use crate::event::Event;

/// The most digits of an accepted length.
const DIGITS_MAX: usize = 10;

pub(super) struct Length;

impl Row for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn metric_name(&self) -> &'static str {
        "length_prefixed"
    }

    /// No media type is registered.
    fn media_types(&self) -> &'static [&'static str] {
        &["application/x-length-prefixed-json"]
    }

    fn form(&self, form: Form) -> Form {
        form.of_json_text()
    }

    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8> {
        prefixed(&json::text_of(event, cursor, form.data))
    }

    fn control(&self, record: Control<'_>) -> Vec<u8> {
        prefixed(&record.data)
    }

    /// A reader that converts each line to a number and reads that many bytes of JSON fails on anything else, including
    /// an empty line and a text of white space. Therefore every heartbeat is a record.
    fn keep_alive(&self, _cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>> {
        None
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        Some(Box::<Prefixed>::default())
    }
}

fn prefixed(text: &[u8]) -> Vec<u8> {
    let mut frame = format!("{}\n", text.len()).into_bytes();
    frame.extend_from_slice(text);
    frame
}

#[derive(Default)]
struct Prefixed {
    /// The digits of a length, or the bytes of a text.
    unread: Vec<u8>,
    /// The length of the text, once its line has been read.
    length: Option<usize>,
}

impl Reader for Prefixed {
    fn feed(&mut self, mut bytes: &[u8], found: &mut dyn FnMut(Record)) -> Result<(), &'static str> {
        loop {
            let wanted = match self.length {
                None => bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1),
                Some(length) => Some(length - self.unread.len()),
            };
            let Some(wanted) = wanted.filter(|wanted| *wanted <= bytes.len()) else { break };
            let (part, rest) = bytes.split_at(wanted);
            self.unread.extend_from_slice(part);
            bytes = rest;
            let whole = std::mem::take(&mut self.unread);
            match self.length.take() {
                None => self.length = Some(number(&whole).ok_or(NO_LENGTH)?),
                Some(_) => found(Record::of_text(&whole)),
            }
        }
        self.unread.extend_from_slice(bytes);
        if self.length.is_none() && self.unread.len() > DIGITS_MAX { Err(NO_LENGTH) } else { Ok(()) }
    }

    fn held(&self) -> usize {
        self.unread.len()
    }
}

const NO_LENGTH: &str = "a record has no length";

fn number(line: &[u8]) -> Option<usize> {
    let digits = line.strip_suffix(b"\n")?;
    let is_number = !digits.is_empty() && digits.len() <= DIGITS_MAX && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}
