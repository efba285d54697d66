//! A JSON array is valid JSON for any sequence of writes, whichever record is the first.

use std::time::Duration;

use serde_json::Value;

use super::tests::{Bench, ready};
use super::*;
use crate::route::{HeartbeatForm, Overflow, QueueLimits, Transport};
use crate::session::CloseReason;

/// Writes at most `piece` bytes; false if nothing is queued.
fn write(bench: &Bench, session: &mut Session, piece: usize, body: &mut Vec<u8>) -> bool {
    session.prepare(bench.now, |_| {});
    let ready = ready(session);
    let piece = piece.min(ready.len());
    session.wrote(piece, bench.now, |_, _| {});
    body.extend_from_slice(&ready[..piece]);
    piece > 0
}

fn elements(written: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(written).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let elements: Vec<Value> = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let name = |element: &Value| element["id"].as_str().or_else(|| element["type"].as_str()).unwrap().to_owned();
    elements.iter().map(name).collect()
}

#[test]
fn an_array_is_whole_however_it_is_written() {
    for piece in 1..400 {
        let mut bench = Bench::new();
        let mut session = bench.open(Transport::JsonArray, |_, _| {});
        let mut body = Vec::new();
        for offset in 0..3 {
            bench.append(&mut session, offset, &[]);
            write(&bench, &mut session, piece, &mut body);
        }
        session.close(CloseReason::Drain);
        while write(&bench, &mut session, piece, &mut body) {}
        assert_eq!(elements(&body), ["orders:0:0", "orders:0:1", "orders:0:2"], "{piece}");
    }
}

/// If little is written before the queue overflows, the original first record may have been dropped.
#[test]
fn the_first_record_that_is_written_has_no_separator() {
    for written in 0..400 {
        let mut bench = Bench::new();
        let queue = QueueLimits { events: 2, bytes: 10_000, overflow: Overflow::DropOldest };
        let mut session = bench.open(Transport::JsonArray, |_, route| route.queue = queue);
        let mut body = Vec::new();
        bench.append(&mut session, 0, &[]);
        write(&bench, &mut session, written, &mut body);
        (1..5).for_each(|offset| bench.append(&mut session, offset, &[]));
        session.close(CloseReason::SlowConsumer);
        while write(&bench, &mut session, usize::MAX, &mut body) {}
        let elements = elements(&body);
        assert!(elements.contains(&"gap".to_owned()), "{written}: {elements:?}");
        assert_eq!(elements.last().unwrap(), "orders:0:4", "{written}");
    }
}

#[test]
fn an_array_without_events_is_an_array() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::JsonArray, |_, _| {});
    let mut body = bench.bytes(&mut session);
    bench.pass(Duration::from_secs(15));
    assert!(session.tick(&mut bench.context()));
    body.extend(bench.bytes(&mut session));
    bench.append(&mut session, 0, &[]);
    session.break_off();
    body.extend(bench.bytes(&mut session));
    assert!(body.ends_with(b"[\n\n]\n"), "the event is dropped, the end is not");
    assert!(elements(&body).is_empty());

    let mut beating = bench.open(Transport::JsonArray, |_, route| route.heartbeat_form = HeartbeatForm::Immediate);
    beating.end(CloseReason::TokenExpired, bench.now);
    body = bench.bytes(&mut beating);
    assert_eq!(elements(&body), ["heartbeat"]);
}

/// Also if the connection takes one byte at a time.
#[test]
fn a_chunked_array_is_whole() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::JsonArray, |request, _| request.http11 = true);
    bench.append(&mut session, 0, &[]);
    bench.append(&mut session, 1, &[]);
    let mut text = Vec::new();
    while write(&bench, &mut session, 1, &mut text) {}
    let text = String::from_utf8(text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let chunk = |separator: &str, offset: i64| {
        let envelope = &crate::testing::event("orders", 0, offset, &[]).envelope;
        let element = format!("{separator}{}\n", std::str::from_utf8(envelope).unwrap());
        format!("{:x}\r\n{element}\r\n", element.len())
    };
    assert_eq!(body, format!("2\r\n[\n\r\n{}{}", chunk("", 0), chunk(",", 1)));
}

#[test]
fn a_heartbeat_is_a_record_where_readers_skip_nothing() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Length, |_, _| {});
    bench.written(&mut session);
    bench.pass(Duration::from_secs(15));
    assert!(session.tick(&mut bench.context()));
    let text = bench.written(&mut session);
    let (length, record) = text.split_once('\n').unwrap();
    assert_eq!(length.parse(), Ok(record.len()));
    assert!(record.starts_with(r#"{"type":"heartbeat""#), "{text}");
}
