//! A reader of length-prefixed JSON, JSON text sequences and JSON arrays, which accepts what their specifications do.

use serde_json::Value;

use super::http::{Body, Cut};

/// The record separator (RFC 7464).
const RS: u8 = 0x1e;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    JsonSeq,
    JsonArray,
}

pub struct Framed {
    body: Body,
    framing: Framing,
    unread: Vec<u8>,
    /// How many elements of an array were read; nothing before its beginning.
    elements: Option<usize>,
}

impl Framed {
    pub fn over(body: Body, framing: Framing) -> Self {
        Self { body, framing, unread: Vec::new(), elements: None }
    }

    /// The next record, null for a heartbeat that readers skip; nothing at the stream's proper end.
    pub fn record(&mut self) -> Option<Value> {
        loop {
            let next = match self.framing {
                Framing::Length => self.prefixed(),
                Framing::JsonSeq => self.text(),
                Framing::JsonArray => self.element(),
            };
            if next.is_some() {
                return next;
            }
            match self.body.next() {
                Ok(Some(bytes)) => self.unread.extend(bytes),
                Ok(None) => {
                    let is_closed = self.framing != Framing::JsonArray || self.unread.trim_ascii() == b"]";
                    assert!(is_closed, "ended within an array: {:?}", String::from_utf8_lossy(&self.unread));
                    assert!(self.framing == Framing::JsonArray || self.unread.is_empty(), "ended within a record");
                    return None;
                }
                Err(Cut) => panic!("cut"),
            }
        }
    }

    fn prefixed(&mut self) -> Option<Value> {
        let end = self.unread.iter().position(|byte| *byte == b'\n')?;
        let digits = std::str::from_utf8(&self.unread[..end]).unwrap();
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "no length: {digits:?}");
        let length: usize = digits.parse().unwrap();
        let text = self.unread.get(end + 1..end + 1 + length)?;
        let value = serde_json::from_slice(text).expect("JSON of that length");
        self.unread.drain(..end + 1 + length);
        Some(value)
    }

    fn text(&mut self) -> Option<Value> {
        match *self.unread.as_slice() {
            [] => None,
            [RS] | [RS, RS, ..] => {
                self.unread.remove(0);
                Some(Value::Null)
            }
            [RS, ..] => {
                let end = self.unread.iter().position(|byte| *byte == b'\n')?;
                let text: Vec<u8> = self.unread.drain(..=end).collect();
                Some(serde_json::from_slice(&text[1..]).expect("a JSON text"))
            }
            _ => panic!("no RS: {:?}", String::from_utf8_lossy(&self.unread)),
        }
    }

    fn element(&mut self) -> Option<Value> {
        let Some(elements) = self.elements else {
            assert!(self.unread.is_empty() || self.unread[0] == b'[', "no array");
            self.elements = (!self.unread.is_empty()).then_some(0);
            self.unread.drain(..self.unread.len().min(1));
            return None;
        };
        let end = self.unread.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.unread.drain(..=end).collect();
        let line = match (elements, line.trim_ascii()) {
            (_, b"") => return Some(Value::Null),
            (_, b"]") => {
                self.unread.extend(b"]");
                return None;
            }
            (0, line) => line,
            (_, line) => line.strip_prefix(b",").expect("a comma between two elements"),
        };
        self.elements = Some(elements + 1);
        Some(serde_json::from_slice(line).expect("an element on one line"))
    }
}
