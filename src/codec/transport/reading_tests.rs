//! Every transport is read as it was written, wherever its bytes are cut.

use super::super::{Control, Goodbye, Transport};
use super::*;
use crate::codec::{DataForm, EventField, Form, WebSocketFrames};
use crate::testing::event;

/// A string that contains the delimiters of framings.
const GAP: &str = r#"{"type":"gap","note":"]},[{ \"\\"}"#;

fn form(transport: Transport) -> Form {
    let (data, event_field, frames) = (DataForm::Envelope, EventField::Type, WebSocketFrames::Text);
    Form { transport, data, event_field, frames }.relevant()
}

fn envelope(offset: i64) -> String {
    String::from_utf8(event("orders", 0, offset, &[]).envelope.to_vec()).unwrap()
}

/// A whole stream: two events, and between them a gap and a heartbeat.
fn stream(form: Form) -> Vec<u8> {
    let sent = |offset| form.event(&event("orders", 0, offset, &[]), format!("orders:0:{offset}").as_bytes());
    let gap = Control { kind: "gap", data: GAP.into(), cursor: Some(b"orders:0:5"), number: 1, unix_ms: 0 };
    let mut bytes = form.start().to_vec();
    bytes.extend(form.priming(2500, Some(b"orders:0:3")));
    bytes.extend(&sent(4)[usize::from(form.separator().is_some())..]);
    bytes.extend(form.control(gap));
    bytes.extend(form.keep_alive(&mut || None).unwrap_or_default());
    bytes.extend(sent(6));
    bytes.extend(form.goodbye(&Goodbye { retry_ms: None, close: None }));
    bytes
}

fn read(transport: Transport, bytes: &[u8], piece: usize) -> Result<Vec<Record>, &'static str> {
    let mut reader = transport.row().reader().unwrap();
    let mut records = Vec::new();
    for part in bytes.chunks(piece) {
        reader.feed(part, &mut |record| records.push(record))?;
    }
    assert_eq!(reader.held(), 0, "{transport:?}: all of it is complete");
    Ok(records)
}

fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().filter_map(|record| record.data.as_deref()).collect()
}

#[test]
fn every_transport_is_read_as_it_was_written() {
    for form in Transport::framings().map(form) {
        let bytes = stream(form);
        for piece in 1..=bytes.len() {
            let records = read(form.transport, &bytes, piece).unwrap();
            assert_eq!(texts(&records), [&envelope(4), GAP, &envelope(6)], "{:?} in pieces of {piece}", form.transport);
            let is_heartbeat_seen = records.iter().any(|record| record.data.is_none());
            let has_heartbeat = form.keep_alive(&mut || None).is_some();
            assert!(piece > 1 || is_heartbeat_seen == has_heartbeat, "{:?}", form.transport);
        }
    }
}

#[test]
fn an_incomplete_record_is_held() {
    for (transport, bytes, held) in [
        (Transport::Ndjson, "{}\n{\"a\"", 4),
        (Transport::Sse, "id: o:0:1\ndata: {}\nda", 4),
        (Transport::Length, "2\n{}5\n{\"a", 3),
        (Transport::JsonSeq, "\x1e{}\n\x1e{\"a", 4),
        (Transport::JsonArray, "[\n{}\n,{\"a", 3),
    ] {
        let mut reader = transport.row().reader().unwrap();
        reader.feed(bytes.as_bytes(), &mut |_| {}).unwrap();
        assert_eq!(reader.held(), held, "{transport:?}");
    }
}

#[test]
fn an_sse_record_has_its_fields() {
    let bytes = b"retry: 2500\r\nid:o:0:3\r\nevent: gap\r\ndata\r\ndata:  x\r\nother: y\r\n: a comment\r\n\r\n\
                  retry: soon\ndata: 1\n\n";
    let records = read(Transport::Sse, bytes, 1).unwrap();
    let first = Record {
        data: Some("\n x".into()),
        event: Some("gap".into()),
        id: Some("o:0:3".into()),
        retry: Some(Duration::from_millis(2500)),
    };
    let second = Record { data: Some("1".into()), event: Some(String::new()), ..Record::default() };
    assert_eq!(records, [first, second]);
}

#[test]
fn elements_of_an_array_are_any_values() {
    let values = read(Transport::JsonArray, b"[1,\"a,]\\\"\", [2,[3]],true , ,{\"b\":[]}]\n \n", 1).unwrap();
    assert_eq!(texts(&values), ["1", "\"a,]\\\"\"", " [2,[3]]", "true", "{\"b\":[]}"]);
    assert_eq!(texts(&read(Transport::JsonArray, b" [ ] ", 9).unwrap()), [""; 0]);
    // The space in front of a payload distinguishes it from a control record.
    assert_eq!(texts(&read(Transport::JsonArray, b"[\n {\"type\":\"gap\"}\n]", 1).unwrap()), [" {\"type\":\"gap\"}"]);
}

#[test]
fn bytes_of_another_transport_are_an_error() {
    for (transport, bytes) in [
        (Transport::Length, "\n"),
        (Transport::Length, "x\n{}"),
        (Transport::Length, "+2\n{}"),
        (Transport::Length, "12345678901"),
        (Transport::Length, "12345678901\n"),
        (Transport::JsonSeq, "{}\n"),
        (Transport::JsonArray, "{}"),
        (Transport::JsonArray, "[]1"),
        (Transport::JsonArray, "[]["),
    ] {
        for piece in [1, bytes.len()] {
            let mut reader = transport.row().reader().unwrap();
            let mut parts = bytes.as_bytes().chunks(piece);
            assert!(parts.any(|part| reader.feed(part, &mut |_| {}).is_err()), "{transport:?}: {bytes:?}");
        }
    }
    assert_eq!(texts(&read(Transport::Length, b"2\n{}0\n0000000002\n[]", 1).unwrap()), ["{}", "", "[]"]);
}
