//! Newline-delimited JSON: one object per line, terminated by LF.

use super::reading::{Reader, Record, lines};
use super::{Control, Row};
use crate::codec::{Boundaries, Form, boundaries, json};
use crate::event::Event;

pub(super) struct Ndjson;

impl Row for Ndjson {
    fn name(&self) -> &'static str {
        "ndjson"
    }

    fn metric_name(&self) -> &'static str {
        "stream"
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["application/x-ndjson", "application/jsonl", "application/json"]
    }

    fn form(&self, form: Form) -> Form {
        form.of_json_text()
    }

    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8> {
        json::line(json::text_of(event, cursor, form.data))
    }

    fn control(&self, record: Control<'_>) -> Vec<u8> {
        json::line(record.data)
    }

    /// Readers skip an empty line.
    fn keep_alive(&self, _cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>> {
        Some(b"\n".to_vec())
    }

    fn boundaries(&self) -> Option<Boundaries> {
        Some(Boundaries::Ndjson(boundaries::Ndjson::default()))
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        Some(Box::<Lines>::default())
    }
}

#[derive(Default)]
struct Lines {
    unread: Vec<u8>,
}

impl Reader for Lines {
    fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(Record)) -> Result<(), &'static str> {
        lines(&mut self.unread, bytes, |line| {
            found(if line.is_empty() { Record::default() } else { Record::of_text(line) });
        });
        Ok(())
    }

    fn held(&self) -> usize {
        self.unread.len()
    }
}
