//! Server-Sent Events (WHATWG HTML section 9.2).

use std::time::Duration;

use super::reading::{Reader, Record, lines};
use super::{Control, Failures, Goodbye, ResumeParameter, Row};
use crate::codec::{Boundaries, EventField, Form, WebSocketFrames, boundaries, json};
use crate::event::Event;
use crate::reserved::{SSE_EVENTS, set_apart};

/// The size of the field names and line ends of a record with one line of data.
const NAMES_BYTES: usize = 32;

pub(super) struct Sse;

impl Row for Sse {
    fn name(&self) -> &'static str {
        "sse"
    }

    fn media_types(&self) -> &'static [&'static str] {
        &["text/event-stream"]
    }

    /// `EventSource` fails permanently on any status but 200 (WHATWG HTML section 9.2.3).
    fn failures(&self) -> Failures {
        Failures::InStream
    }

    fn resume(&self) -> &'static [ResumeParameter] {
        &[ResumeParameter::LastEventId, ResumeParameter::Since]
    }

    fn form(&self, form: Form) -> Form {
        Form { frames: WebSocketFrames::Text, ..form }
    }

    /// The reconnect delay, and the client's position before its first event. The record has no data, so that browsers
    /// store the id and dispatch no event.
    fn priming(&self, retry_ms: u64, cursor: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = format!("retry: {retry_ms}\n").into_bytes();
        if let Some(cursor) = cursor {
            put_field(&mut bytes, b"id", cursor);
        }
        bytes.push(b'\n');
        bytes
    }

    /// A type that is the name of a control record, or of an event of `EventSource` itself, is escaped.
    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8> {
        let kind = (form.event_field == EventField::Type).then(|| set_apart(&event.kind, &SSE_EVENTS));
        record(Some(cursor), kind.as_deref(), json::body(event, form.data))
    }

    fn control(&self, control: Control<'_>) -> Vec<u8> {
        record(control.cursor, Some(control.kind), &control.data)
    }

    /// A comment, with the client's position if it has advanced.
    fn keep_alive(&self, cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>> {
        let mut bytes = b": keep-alive\n".to_vec();
        if let Some(cursor) = cursor() {
            put_field(&mut bytes, b"id", cursor.as_bytes());
        }
        bytes.push(b'\n');
        Some(bytes)
    }

    fn has_comments(&self) -> bool {
        true
    }

    fn boundaries(&self) -> Option<Boundaries> {
        Some(Boundaries::Sse(boundaries::Sse::default()))
    }

    fn goodbye(&self, goodbye: &Goodbye) -> Vec<u8> {
        goodbye.retry_ms.map_or_else(Vec::new, |ms| format!("retry: {ms}\n\n").into_bytes())
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        Some(Box::<Records>::default())
    }
}

/// Parses records like browsers (WHATWG HTML section 9.2.6), except for lines that end with CR alone: sidestream sends
/// none.
#[derive(Default)]
struct Records {
    unread: Vec<u8>,
    /// The fields of an incomplete record.
    record: Record,
}

impl Reader for Records {
    fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(Record)) -> Result<(), &'static str> {
        let Self { unread, record } = self;
        lines(unread, bytes, |line| match line {
            [] => {
                let record = std::mem::take(record);
                found(Record { event: Some(record.event.unwrap_or_default()), ..record });
            }
            line => take_field(record, &String::from_utf8_lossy(line)),
        });
        Ok(())
    }

    fn held(&self) -> usize {
        self.unread.len() + self.record.data.as_ref().map_or(0, String::len)
    }
}

fn take_field(record: &mut Record, line: &str) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    match name {
        "event" => record.event = Some(value.to_owned()),
        "id" => record.id = Some(value.to_owned()),
        "retry" => record.retry = value.parse().ok().map(Duration::from_millis),
        "data" => match &mut record.data {
            Some(data) => data.extend(["\n", value]),
            None => record.data = Some(value.to_owned()),
        },
        _ => {}
    }
}

fn record(id: Option<&[u8]>, kind: Option<&str>, data: &[u8]) -> Vec<u8> {
    let fields = id.map_or(0, <[u8]>::len) + kind.map_or(0, str::len);
    let mut bytes = Vec::with_capacity(data.len() + fields + NAMES_BYTES);
    if let Some(id) = id {
        put_field(&mut bytes, b"id", id);
    }
    if let Some(kind) = kind {
        put_field(&mut bytes, b"event", kind.as_bytes());
    }
    put_data(&mut bytes, data);
    bytes.push(b'\n');
    bytes
}

/// A field of one line: characters that would end it, or invalidate an id (NUL), are removed.
fn put_field(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(b": ");
    bytes.extend(value.iter().filter(|byte| !matches!(byte, b'\0' | b'\r' | b'\n')));
    bytes.push(b'\n');
}

/// One `data` field per line; lines end with LF, CR or CRLF.
fn put_data(bytes: &mut Vec<u8>, mut data: &[u8]) {
    loop {
        let end = memchr::memchr2(b'\r', b'\n', data);
        let (line, rest) = data.split_at(end.unwrap_or(data.len()));
        bytes.extend_from_slice(b"data: ");
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        data = match rest {
            [] => return,
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn priming_has_no_data() {
        assert_eq!(text(Sse.priming(3210, Some(b"orders:0:4"))), "retry: 3210\nid: orders:0:4\n\n");
        assert_eq!(text(Sse.priming(3210, None)), "retry: 3210\n\n");
    }

    #[test]
    fn every_kind_of_line_end_starts_a_data_field() {
        let bytes = record(None, None, b"a\nb\r\nc\rd\n");
        assert_eq!(text(bytes), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    }

    #[test]
    fn a_type_cannot_break_out_of_its_field() {
        assert_eq!(text(record(None, Some("a\ndata: b\r\0"), b"x")), "event: adata: b\ndata: x\n\n");
    }

    /// The specification's parser, for one record: (id, event, data).
    fn parse(record: &str) -> (String, String, String) {
        let (mut id, mut event, mut data) = (String::new(), String::new(), String::new());
        for line in record.split('\n').take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            match name {
                "id" => id = value.into(),
                "event" => event = value.into(),
                "data" => data.extend([value, "\n"]),
                other => panic!("field {other}"),
            }
        }
        data.pop();
        (id, event, data)
    }

    proptest! {
        #[test]
        fn a_record_is_read_back_as_it_was(kind in "[a-z\r\n\0]{0,8}", data in "[a-c:\r\n ]{0,20}") {
            let bytes = text(record(Some(b"t:0:1"), Some(&kind), data.as_bytes()));
            prop_assert!(bytes.ends_with("\n\n") && !bytes[..bytes.len() - 1].contains("\n\n"));
            prop_assert!(!bytes.contains('\r'));
            let (id, event, read) = parse(&bytes);
            prop_assert_eq!(id, "t:0:1");
            prop_assert_eq!(event, kind.replace(['\r', '\n', '\0'], ""));
            prop_assert_eq!(read, data.replace("\r\n", "\n").replace('\r', "\n"));
        }
    }
}
