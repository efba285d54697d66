//! Messages of WebSocket clients, and their responses.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::command::FRAMES_PER_TURN;
use super::tests::{Bench, masked};
use super::*;
use crate::codec::websocket::{self, CONTROL_PAYLOAD_MAX, Opcode};
use crate::route::{Stream, Transport};
use crate::testing::event;

#[test]
fn every_command_has_one_response() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |request, route| {
        request.subscribe = false;
        route.stream = Arc::new(Stream {
            id: 1,
            name: "orders".into(),
            topics: Box::new(["orders".into()]),
            keys: Box::new(["orderId".into()]),
            state: None,
        });
    });
    bench.written(&mut session);
    bench.append(&mut session, 0, &[("orderId", "7")]);
    let command = |id: &str, data: Value| json!({ "id": id, "type": "command", "data": data });

    let answer = bench.ask(&mut session, &json!({ "command": "get-status" }));
    assert_eq!(answer[0]["type"], "response");
    assert_eq!(answer[0]["inReplyTo"], Value::Null);
    assert_eq!(answer[0]["data"]["result"]["id"], "orders:0:0");
    session.read(&masked(Opcode::Text, br#"{"command":"get-status"}"#), &mut bench.context());
    let envelope = std::str::from_utf8(&event("orders", 0, 0, &[("orderId", "7")]).envelope).unwrap().to_owned();
    assert!(bench.written(&mut session).contains(&envelope), "byte for byte");

    let answer = bench.ask(&mut session, &command("m1", json!({ "command": "subscribe", "resource": "7" })));
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0]["inReplyTo"], "m1");
    assert_eq!(answer[0]["data"]["status"], "ok");
    bench.append(&mut session, 1, &[("orderId", "7")]);
    bench.append(&mut session, 2, &[("orderId", "8")]);
    let text = bench.written(&mut session);
    assert!(text.contains("orders:0:1") && !text.contains("orders:0:2"));

    let since = json!({ "command": "subscribe", "resource": "8", "since": "orders:0:0" });
    let answer = bench.ask(&mut session, &command("m2", since));
    assert_eq!((answer.len(), &answer[0]["type"], &answer[1]["id"]), (2, &json!("response"), &json!("orders:0:2")));

    bench.pass(Duration::from_secs(1));
    let answer = bench.ask(&mut session, &command("m3", json!({ "command": "subscribe", "resource": "9" })));
    assert_eq!(answer[0]["data"]["status"], "error", "two subscriptions are the limit here");
    let answer = bench.ask(&mut session, &command("m4", json!({ "command": "unsubscribe", "resource": "7" })));
    assert_eq!(answer[0]["data"]["result"]["subscriptions"], 1);
    bench.append(&mut session, 3, &[("orderId", "7")]);
    assert_eq!(bench.written(&mut session), "");
    let answer = bench.ask(&mut session, &command("m5", json!({ "command": "ping" })));
    assert_eq!(answer[0]["data"], json!({ "command": "ping", "status": "ok", "result": "pong" }));
}

#[test]
fn invalid_commands_get_an_error_and_the_connection_stays() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, _| {});
    bench.written(&mut session);
    for nonsense in [json!("text"), json!([1]), json!({}), json!({ "command": 7 }), json!({ "command": "fly" })] {
        bench.pass(Duration::from_secs(1));
        let answer = bench.ask(&mut session, &nonsense);
        assert_eq!(answer[0]["data"]["status"], "error", "{nonsense}");
        assert!(answer[0]["data"]["error"].is_string());
    }
    assert_eq!(session.closed(), None);
    for _ in 0..6 {
        session.read(&masked(Opcode::Text, br#"{"command":"ping"}"#), &mut bench.context());
    }
    assert_eq!(session.closed(), Some(CloseReason::CommandRate));
}

#[test]
fn a_close_frame_is_echoed_with_its_code() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, _| {});
    bench.written(&mut session);
    session.read(&masked(Opcode::Close, &1001u16.to_be_bytes()), &mut bench.context());
    assert_eq!(session.closed(), Some(CloseReason::ClientClosed));
    assert_eq!(bench.bytes(&mut session), websocket::close_frame(1001, ""));
}

#[test]
fn unread_responses_end_the_connection() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, _| {});
    let ping = masked(Opcode::Ping, &[0; CONTROL_PAYLOAD_MAX]);
    for _ in 0..10_000 {
        bench.pass(Duration::from_millis(10));
        session.read(&ping, &mut bench.context());
    }
    assert_eq!(session.closed(), Some(CloseReason::SlowConsumer));
}

#[test]
fn frames_of_any_kind_are_limited_to_a_number_a_second() {
    let mut fragmented = masked(Opcode::Text, b"{");
    fragmented[0] &= 0x7f;
    let fragment = [0x00, 0x80, 0, 0, 0, 0];
    for (start, frame) in [
        (vec![], masked(Opcode::Pong, b"")),
        (vec![], masked(Opcode::Ping, b"")),
        (fragmented, fragment.to_vec()),
        (vec![], masked(Opcode::Text, b"")),
    ] {
        let mut bench = Bench::new();
        let mut session = bench.open(Transport::WebSocket, |_, route| {
            route.websocket.frames_per_second = 10;
            route.websocket.commands_per_second = 1000;
        });
        bench.written(&mut session);
        if !start.is_empty() {
            session.read(&start, &mut bench.context());
        }
        bench.pass(Duration::from_secs(1));
        session.read(&frame.repeat(10), &mut bench.context());
        assert_eq!(session.closed(), None);
        bench.pass(Duration::from_millis(500));
        session.read(&frame.repeat(5), &mut bench.context());
        assert_eq!(session.closed(), None);
        bench.written(&mut session);
        session.read(&frame, &mut bench.context());
        assert_eq!(session.closed(), Some(CloseReason::FrameRate));
        assert_eq!(bench.bytes(&mut session), websocket::close_frame(1008, "too many frames"));
    }
}

#[test]
fn many_frames_do_not_delay_other_connections() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, route| route.websocket.frames_per_second = 1000);
    bench.written(&mut session);
    let pings = masked(Opcode::Ping, b"").repeat(2 * FRAMES_PER_TURN + 1);
    session.read(&pings, &mut bench.context());
    let mut pongs = Vec::new();
    while session.has_frames() {
        pongs.push(bench.bytes(&mut session).len() / 2);
        session.read_on(&mut bench.context());
    }
    pongs.push(bench.bytes(&mut session).len() / 2);
    assert_eq!(pongs, [FRAMES_PER_TURN, FRAMES_PER_TURN, 1]);
}

#[test]
fn a_client_of_an_http_stream_that_keeps_sending_is_disconnected() {
    for transport in [Transport::Sse, Transport::Ndjson] {
        let mut bench = Bench::new();
        let mut session = bench.open(transport, |request, _| request.http11 = true);
        bench.written(&mut session);
        session.read(&[b'x'; STRAY_BYTES_MAX], &mut bench.context());
        assert_eq!(session.closed(), None, "the next request may be there already");
        session.read(b"x", &mut bench.context());
        assert_eq!(session.closed(), Some(CloseReason::UnexpectedData));
        assert_eq!(bench.written(&mut session), "0\r\n\r\n");
    }
}
