//! One JSON array (RFC 8259) with an element for each event and control record. The array is closed when the stream
//! ends properly, so that the body is then a JSON text.

use std::num::NonZeroU8;

use super::reading::{Reader, Record};
use super::{Control, Goodbye, Row};
use crate::codec::{Form, json};
use crate::event::Event;

pub(super) struct JsonArray;

impl Row for JsonArray {
    fn name(&self) -> &'static str {
        "json-array"
    }

    fn metric_name(&self) -> &'static str {
        "json_array"
    }

    /// NDJSON also has `application/json`, and takes precedence on a route that offers both; the other type
    /// distinguishes them.
    fn media_types(&self) -> &'static [&'static str] {
        &["application/json", "application/x-json-array"]
    }

    fn form(&self, form: Form) -> Form {
        form.of_json_text()
    }

    fn start(&self) -> &'static [u8] {
        b"[\n"
    }

    fn separator(&self) -> Option<NonZeroU8> {
        NonZeroU8::new(b',')
    }

    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8> {
        json::line(json::text_of(event, cursor, form.data))
    }

    fn control(&self, record: Control<'_>) -> Vec<u8> {
        json::line(record.data)
    }

    /// White space, which is allowed between any two tokens.
    fn keep_alive(&self, _cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>> {
        Some(b"\n".to_vec())
    }

    fn goodbye(&self, _goodbye: &Goodbye) -> Vec<u8> {
        b"]\n".to_vec()
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        Some(Box::<Elements>::default())
    }
}

/// Finds the elements of an array by brackets and strings, without validating their content.
#[derive(Default)]
struct Elements {
    place: Place,
    /// The incomplete element.
    element: Vec<u8>,
    /// The open objects and arrays of the element.
    depth: usize,
    /// Whether the position is inside of a string, and inside of an escape.
    is_string: bool,
    is_escaped: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    BeforeArray,
    BetweenElements,
    Element,
    AfterArray,
}

impl Reader for Elements {
    fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(Record)) -> Result<(), &'static str> {
        for &byte in bytes {
            self.take(byte, found)?;
        }
        // A heartbeat, or the end of an element's line.
        if self.place == Place::BetweenElements && !bytes.is_empty() {
            found(Record::default());
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.element.len()
    }
}

impl Elements {
    fn take(&mut self, byte: u8, found: &mut dyn FnMut(Record)) -> Result<(), &'static str> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.place {
            Place::Element if self.ends_before(byte, is_space) => {
                let element = std::mem::take(&mut self.element);
                if !is_blank(&element) {
                    found(Record::of_text(&element));
                }
                self.place = Place::BetweenElements;
                return self.take(byte, found);
            }
            Place::Element => self.grow(byte),
            // sidestream sends a space here only as the first byte of a payload; see `json::text_of`.
            Place::BetweenElements if byte == b' ' => {
                self.place = Place::Element;
                self.grow(byte);
            }
            _ if is_space => {}
            Place::BeforeArray if byte == b'[' => self.place = Place::BetweenElements,
            Place::BetweenElements if byte == b']' => self.place = Place::AfterArray,
            Place::BetweenElements if byte == b',' => {}
            Place::BetweenElements => {
                self.place = Place::Element;
                self.grow(byte);
            }
            Place::BeforeArray => return Err("the body does not begin with `[`"),
            Place::AfterArray => return Err("the body goes on behind its array"),
        }
        Ok(())
    }

    fn ends_before(&self, byte: u8, is_space: bool) -> bool {
        let is_closed = self.depth == 0 && !self.is_string;
        is_closed && (matches!(byte, b',' | b']') || is_space && !is_blank(&self.element))
    }

    fn grow(&mut self, byte: u8) {
        self.element.push(byte);
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = self.is_string,
            b'"' => self.is_string = !self.is_string,
            b'{' | b'[' if !self.is_string => self.depth += 1,
            b'}' | b']' if !self.is_string => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

fn is_blank(element: &[u8]) -> bool {
    element.iter().all(|byte| *byte == b' ')
}
