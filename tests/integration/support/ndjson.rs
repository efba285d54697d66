//! An NDJSON reader: lines as received, including empty ones.

use serde_json::Value;

use super::Patience;
use super::http::{Body, Call, Cut, Head};

pub struct Ndjson {
    pub head: Head,
    pub body: Body,
    text: Vec<u8>,
    /// The connection ended before the body did; an incomplete line is discarded.
    pub cut: bool,
    /// The resume position: the last object's `cursor`, or else its `id`.
    pub cursor: Option<String>,
}

impl Call {
    /// Opens an NDJSON stream, which must succeed.
    #[track_caller]
    pub fn ndjson(&self) -> Ndjson {
        let (head, body) = self.open();
        assert_eq!(head.status, 200, "{head:?}");
        Ndjson::over(head, body)
    }
}

impl Ndjson {
    pub fn over(head: Head, body: Body) -> Self {
        Self { head, body, text: Vec::new(), cut: false, cursor: None }
    }

    /// The next line without its line break; `None` at the proper end of the stream.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line = self.text.drain(..=end).take(end).collect();
                return Some(String::from_utf8(line).expect("NDJSON is UTF-8"));
            }
            match self.body.next() {
                Ok(Some(bytes)) => self.text.extend(bytes),
                Ok(None) => {
                    assert!(self.text.is_empty(), "ended in a line: {:?}", String::from_utf8_lossy(&self.text));
                    return None;
                }
                Err(Cut) => {
                    self.cut = true;
                    return None;
                }
            }
        }
    }

    /// The next object; `None` at the end of the stream.
    pub fn object(&mut self) -> Option<Value> {
        let patience = Patience::start();
        let mut line = self.line()?;
        while line.is_empty() {
            patience.check("an object");
            line = self.line()?;
        }
        let object: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"));
        if let Some(cursor) = object["cursor"].as_str().or_else(|| object["id"].as_str()) {
            self.cursor = Some(cursor.to_owned());
        }
        Some(object)
    }

    #[track_caller]
    pub fn event(&mut self) -> Value {
        self.object().expect("an event before the stream's end")
    }

    #[track_caller]
    pub fn ids(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event()["id"].as_str().expect("an envelope with an id").to_owned()).collect()
    }
}
