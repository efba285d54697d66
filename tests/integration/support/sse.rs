//! An SSE reader that also returns what browsers hide: comments, priming records, and whether a record was cut.

use serde_json::Value;

use super::Patience;
use super::http::{Body, Call, Cut, Head};

/// One record: the lines up to an empty line.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub comments: Vec<String>,
    pub id: Option<String>,
    pub event: Option<String>,
    pub retry: Option<u64>,
    pub data: Option<String>,
}

impl Record {
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_else(|| panic!("a record without data: {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {data:?}"))
    }

    /// The event id in the envelope.
    pub fn event_id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no id: {:.300?}", self)).to_owned()
    }

    /// The event id in the envelope, or `gap` for a gap.
    pub fn id_or_gap(&self) -> String {
        if self.event.as_deref() == Some("gap") { "gap".to_owned() } else { self.event_id() }
    }

    /// Parses the text between two empty lines.
    pub fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for line in text.split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => record.comments.push(value.to_owned()),
                "id" => record.id = Some(value.to_owned()),
                "event" => record.event = Some(value.to_owned()),
                "retry" => record.retry = Some(value.parse().expect("retry is digits")),
                "data" => match &mut record.data {
                    Some(data) => *data += &format!("\n{value}"),
                    none => *none = Some(value.to_owned()),
                },
                other => panic!("an unknown field: {other:?}"),
            }
        }
        record
    }
}

pub struct Sse {
    pub head: Head,
    pub body: Body,
    text: Vec<u8>,
    /// The length of the prefix of `text` without the end of a record.
    searched: usize,
    /// The connection ended before the body did; an incomplete record is discarded.
    pub cut: bool,
    /// The last received id: a browser would send it as `Last-Event-ID`.
    pub last_id: Option<String>,
}

impl Call {
    /// Opens an SSE stream, which must succeed.
    #[track_caller]
    pub fn sse(&self) -> Sse {
        let (head, body) = self.open();
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        Sse::over(head, body)
    }
}

impl Sse {
    pub fn over(head: Head, body: Body) -> Self {
        Self { head, body, text: Vec::new(), searched: 0, cut: false, last_id: None }
    }

    /// The next record of any kind; `None` at the proper end of the stream.
    pub fn record(&mut self) -> Option<Record> {
        loop {
            let from = self.searched.saturating_sub(1);
            if let Some(end) = self.text[from..].windows(2).position(|two| two == b"\n\n").map(|at| from + at) {
                self.searched = 0;
                let raw: Vec<u8> = self.text.drain(..end + 2).take(end).collect();
                let record = Record::parse(std::str::from_utf8(&raw).expect("SSE is UTF-8"));
                if record.id.is_some() {
                    self.last_id.clone_from(&record.id);
                }
                return Some(record);
            }
            self.searched = self.text.len();
            match self.body.next() {
                Ok(Some(bytes)) => self.text.extend(bytes),
                Ok(None) => {
                    assert!(self.text.is_empty(), "ended in a record: {:?}", String::from_utf8_lossy(&self.text));
                    return None;
                }
                Err(Cut) => {
                    self.cut = true;
                    return None;
                }
            }
        }
    }

    /// The next record that is visible to a page.
    #[track_caller]
    pub fn event(&mut self) -> Record {
        self.until("an event", |record| record.data.is_some())
    }

    /// The next record for which `fits` returns true.
    #[track_caller]
    pub fn until(&mut self, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        let patience = Patience::start();
        loop {
            patience.check(what);
            let record = self.record().unwrap_or_else(|| panic!("the stream ended before {what}"));
            if fits(&record) {
                return record;
            }
        }
    }

    /// The envelope ids of the next `count` events.
    #[track_caller]
    pub fn ids(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().event_id()).collect()
    }

    /// Reads until the stream ends, which must be at a record boundary, and returns the records.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Record> {
        let patience = Patience::start();
        let mut next = || {
            patience.check("the stream's end");
            self.record()
        };
        let records = std::iter::from_fn(&mut next).collect();
        assert!(!self.cut, "the connection ended before the body did");
        records
    }
}
