//! WebSocket: the handshake, messages, commands, and conformance to RFC 6455.

use serde_json::json;
use tungstenite::Message;

use crate::support::fixture::{Fixture, STANDARD};
use crate::support::websocket::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, masked};

#[test]
fn the_handshake_is_that_of_the_rfc() {
    let fixture = Fixture::standard();
    let head = fixture.get("/ws").header("Sec-WebSocket-Protocol", "unknown").raw_websocket().head;
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(head.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    assert_eq!(head.headers("connection").iter().map(|v| v.to_ascii_lowercase()).collect::<Vec<_>>(), ["upgrade"]);
    assert_eq!((head.header("sec-websocket-protocol"), head.header("sec-websocket-extensions")), (None, None));
}

#[test]
fn one_offered_subprotocol_is_echoed() {
    let fixture = Fixture::with_route("/ws", "ws", "websocket: { subprotocols: [v1, v2] }");
    let head = fixture.get("/ws").header("Sec-WebSocket-Protocol", "v0, v2, v1").raw_websocket().head;
    let echoed = head.headers("sec-websocket-protocol");
    assert!(echoed == ["v1"] || echoed == ["v2"], "{echoed:?}");
}

#[test]
fn an_event_is_a_message() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/ws").websocket();
    let id = fixture.broker.order("o1");
    let event = socket.event();
    assert_eq!((&event["id"], &event["type"]), (&json!(id), &json!("event")));
    assert!(event["timestamp"].as_str().unwrap().ends_with('Z'), "{event}");
    assert_eq!((&event["data"]["id"], &event["data"]["orderId"]), (&json!(id), &json!("o1")));
    assert!(event.get("cursor").is_none());
}

#[test]
fn a_route_may_send_the_payload_alone() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/bare/ws").websocket();
    fixture.broker.order("o1");
    assert_eq!(socket.event()["data"], json!({"orderId": "o1"}));
}

#[test]
fn a_path_parameter_selects_events() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/orders/o2/ws").websocket();
    fixture.broker.order("o1");
    let wanted = fixture.broker.order("o2");
    assert_eq!(socket.ids(1), [wanted]);
}

#[test]
fn ping_is_answered() {
    let fixture = Fixture::standard();
    let response = fixture.get("/ws").websocket().ask(json!({"command": "ping"}));
    assert_eq!((&response["type"], &response["data"]["command"]), (&json!("response"), &json!("ping")));
    assert_eq!(response["data"]["status"], "ok");
    assert!(response["timestamp"].is_string() && response["id"].is_string(), "{response}");
}

#[test]
fn get_status_gives_the_newest_event_of_the_key() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/orders/o1/ws").websocket();
    let nothing = socket.ask(json!({"command": "get-status"}));
    assert_eq!((&nothing["data"]["status"], &nothing["data"]["result"]), (&json!("ok"), &json!(null)));
    fixture.broker.order("o1");
    let newest = fixture.broker.order("o1");
    fixture.broker.order("o2");
    socket.ids(2);
    let status = socket.ask(json!({"command": "get-status"}));
    assert_eq!(status["data"]["result"]["id"], newest, "{status}");
}

#[test]
fn a_bare_command_is_accepted() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/orders/o1/ws").websocket();
    socket.send(r#"{"command":"get-status"}"#);
    let response = socket.response();
    assert_eq!((&response["data"]["command"], &response["data"]["status"]), (&json!("get-status"), &json!("ok")));
}

#[test]
fn a_manual_socket_subscribes_and_unsubscribes() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/ws?subscribe=manual").websocket();
    let unseen = fixture.broker.order("o1");
    fixture.settle("/events", &[unseen]);
    let subscribed = socket.ask(json!({"command": "subscribe", "resource": "o1"}));
    assert_eq!(subscribed["data"]["status"], "ok", "{subscribed}");
    fixture.broker.order("o2");
    let wanted = fixture.broker.order("o1");
    assert_eq!(socket.ids(1), [wanted]);
    let unsubscribed = socket.ask(json!({"command": "unsubscribe", "resource": "o1"}));
    assert_eq!(unsubscribed["data"]["status"], "ok", "{unsubscribed}");
    let unseen = fixture.broker.order("o1");
    fixture.settle("/events", &[unseen]);
    socket.ask(json!({"command": "subscribe", "resource": "o3"}));
    let next = fixture.broker.order("o3");
    assert_eq!(socket.ids(1), [next]);
}

#[test]
fn a_socket_subscribes_to_another_route() {
    let fixture = Fixture::with_routes_open_to_ws(&["/orders/{orderId}/ws"]);
    let mut socket = fixture.get("/ws?subscribe=manual").websocket();
    let response = socket.ask(json!({"command": "subscribe", "resource": "/orders/o7/ws"}));
    assert_eq!(response["data"]["status"], "ok", "{response}");
    fixture.broker.order("o6");
    let wanted = fixture.broker.order("o7");
    assert_eq!(socket.ids(1), [wanted]);
}

#[test]
fn a_public_socket_shows_no_more_than_its_path() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/orders/o1/ws").websocket();
    for resource in ["o2", "/orders/o2/ws", "/ws", "/bare/ws"] {
        for command in ["subscribe", "get-status"] {
            let response = socket.ask(json!({"command": command, "resource": resource}));
            assert_eq!(response["data"]["status"], "error", "{command} {resource}: {response}");
        }
    }
    fixture.broker.order("o2");
    let own = fixture.broker.order("o1");
    assert_eq!(socket.ids(1), [own]);
}

#[test]
fn a_subscription_is_sent_in_its_own_routes_form() {
    let fixture = Fixture::with_routes_open_to_ws(&["/orders/{orderId}/ws", "/bare/ws"]);
    let mut socket = fixture.get("/ws?subscribe=manual").websocket();
    let response = socket.ask(json!({"command": "subscribe", "resource": "/bare/ws"}));
    assert_eq!(response["data"]["status"], "ok", "{response}");
    let id = fixture.broker.order("o1");
    let event = socket.event();
    assert_eq!((&event["id"], &event["data"]), (&json!(id), &json!({"orderId": "o1"})));
}

#[test]
fn a_subscription_counts_for_its_route() {
    let route = "path: \"/orders/{orderId}/ws\", stream: orders,";
    let limited = STANDARD.replace(route, &format!("{route} max_streams: 1,"));
    assert_ne!(limited, STANDARD);
    let fixture = Fixture::open_to_ws(&limited, &["/orders/{orderId}/ws"]);
    let open = || fixture.get("/orders/o1/ws").upgrade().send().status();
    let mut socket = fixture.get("/ws").websocket();
    let mut ask = |command| socket.ask(json!({"command": command, "resource": "/orders/o1/ws"}))["data"].clone();
    assert_eq!(ask("subscribe")["status"], "ok");
    assert_eq!(fixture.sidecar.metric("notifications_route_streams{route=\"/orders/{orderId}/ws\"}"), Some(1.0));
    assert_eq!(open(), 429, "the subscription has the only slot");
    assert_eq!(ask("unsubscribe")["status"], "ok");
    let _holder = fixture.get("/orders/o1/ws").websocket();
    let refused = ask("subscribe");
    assert!(refused["error"].as_str().unwrap().contains("limit of streams"), "{refused}");
}

#[test]
fn a_subscription_may_resume() {
    let fixture = Fixture::standard();
    let ids = fixture.broker.orders("o1", 3);
    fixture.settle("/events", &ids);
    let mut socket = fixture.get("/ws?subscribe=manual").websocket();
    let response = socket.ask(json!({"command": "subscribe", "resource": "o1", "since": ids[0]}));
    assert_eq!(response["data"]["status"], "ok", "{response}");
    assert_eq!(socket.ids(2), ids[1..]);
}

#[test]
fn a_socket_cannot_subscribe_past_a_routes_token() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/ws").websocket();
    for resource in ["/mine/ws", "/mine/events", "/nowhere"] {
        let response = socket.ask(json!({"command": "subscribe", "resource": resource}));
        assert_eq!(response["data"]["status"], "error", "{response}");
    }
}

#[test]
fn invalid_commands_get_a_response_and_the_connection_stays() {
    let fixture = Fixture::standard();
    let mut socket = fixture.get("/ws").websocket();
    let unknown = socket.ask(json!({"command": "make-coffee"}));
    assert_eq!(unknown["data"]["status"], "error", "{unknown}");
    for text in ["not json", "[]", "42", "{}", r#"{"type":"command","id":"x"}"#, r#"{"command":{}}"#, ""] {
        socket.send(text);
        assert_eq!(socket.response()["data"]["status"], "error", "after {text:?}");
    }
    let id = fixture.broker.order("o1");
    assert_eq!(socket.ids(1), [id]);
}

#[test]
fn a_quiet_socket_is_pinged() {
    let fixture = Fixture::with_route("/ws", "ws", "heartbeat_interval: 1s");
    let mut socket = fixture.get("/ws").websocket();
    assert!(matches!(socket.any(), Message::Ping(_)));
}

#[test]
fn a_quiet_socket_may_get_heartbeat_messages() {
    let fixture = Fixture::with_route("/ws", "ws", "heartbeat_interval: 1s, heartbeat: message");
    let mut socket = fixture.get("/ws").websocket();
    assert!(socket.message().unwrap().to_string().contains("heartbeat"));
}

#[test]
fn a_missed_pong_closes() {
    let fixture = Fixture::with_route("/ws", "ws", "heartbeat_interval: 1s, websocket: { pong_timeout: 1s }");
    let mut silent = fixture.get("/ws").raw_websocket();
    silent.frame_of(PING);
    while silent.frame().is_some() {}
    fixture.sidecar.await_metric("notifications_ws_active_connections", 0.0);
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let fixture = Fixture::standard();
    let mut raw = fixture.get("/ws").raw_websocket();
    for payload in [&b""[..], b"abc", &[7; 125]] {
        raw.send(FIN | PING, payload);
        assert_eq!(raw.frame_of(PONG).payload, payload);
    }
}

#[test]
fn an_unasked_pong_is_fine() {
    let fixture = Fixture::standard();
    let mut raw = fixture.get("/ws").raw_websocket();
    raw.send(FIN | PONG, b"unasked");
    raw.send(FIN | PING, b"still here");
    assert_eq!(raw.frame_of(PONG).payload, b"still here");
}

#[test]
fn a_fragmented_command_is_put_together() {
    let fixture = Fixture::standard();
    let mut raw = fixture.get("/ws").raw_websocket();
    raw.send(TEXT, br#"{"id":"m","type":"comm"#);
    raw.send(FIN | PING, b"in between");
    raw.send(CONTINUATION, b"");
    raw.send(CONTINUATION, br#"and","data":{"#);
    raw.send(FIN | CONTINUATION, br#""command":"ping"}}"#);
    assert_eq!(raw.frame_of(PONG).payload, b"in between");
    assert_eq!(raw.json()["inReplyTo"], "m");
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let fixture = Fixture::standard();
    let mut raw = fixture.get("/ws").raw_websocket();
    for byte in masked(FIN | TEXT, br#"{"id":"m","type":"command","data":{"command":"ping"}}"#) {
        raw.connection.write(&[byte]);
    }
    assert_eq!(raw.json()["inReplyTo"], "m");
}

#[test]
fn frames_may_come_with_the_handshake() {
    let fixture = Fixture::standard();
    let mut connection = crate::support::http::Connection::open(fixture.sidecar.listen);
    let early = masked(FIN | PING, b"early");
    connection.write(&[fixture.get("/ws").upgrade().bytes(), early].concat());
    let head = connection.head();
    let mut raw = crate::support::websocket::RawWebSocket { connection, head };
    assert_eq!(raw.frame_of(PONG).payload, b"early");
}

#[test]
fn a_clients_close_is_echoed() {
    let fixture = Fixture::standard();
    for code in [1000u16, 1001, 3000, 4999] {
        assert_eq!(fixture.get("/ws").websocket().close(code), code);
    }
    let mut raw = fixture.get("/ws").raw_websocket();
    raw.send(FIN | CLOSE, b"");
    let frame = raw.frame_of(CLOSE);
    assert!(frame.payload.is_empty() || frame.payload[..2] == 1000u16.to_be_bytes());
    assert!(raw.frame().is_none());
}

#[test]
fn a_protocol_violation_is_a_1002() {
    let fixture = Fixture::standard();
    let unmasked = [FIN | TEXT, 2, b'{', b'}'].to_vec();
    let long_way_round = [&[FIN | TEXT, 0x80 | 126, 0, 2][..], &[0; 6]].concat();
    let offences: &[(&str, Vec<u8>)] = &[
        ("an unmasked frame", unmasked),
        ("a reserved bit", masked(FIN | RSV1 | TEXT, b"{}")),
        ("a reserved data opcode", masked(FIN | 3, b"")),
        ("a reserved control opcode", masked(FIN | 11, b"")),
        ("a ping of more than 125 bytes", masked(FIN | PING, &[0; 126])),
        ("a fragmented ping", masked(PING, b"")),
        ("a continuation of nothing", masked(FIN | CONTINUATION, b"x")),
        ("a new message within another", [masked(TEXT, b"a"), masked(FIN | TEXT, b"b")].concat()),
        ("a length not in its shortest form", long_way_round),
        ("a close of one byte", masked(FIN | CLOSE, &[3])),
        ("a close code nobody may send", masked(FIN | CLOSE, &1005u16.to_be_bytes())),
        ("a close code out of range", masked(FIN | CLOSE, &999u16.to_be_bytes())),
    ];
    for (offence, bytes) in offences {
        let mut raw = fixture.get("/ws").raw_websocket();
        raw.connection.write(bytes);
        assert_eq!(raw.closed(), 1002, "{offence}");
    }
}

#[test]
fn text_that_is_no_utf_8_is_a_1007() {
    let fixture = Fixture::standard();
    let mut close = 1000u16.to_be_bytes().to_vec();
    close.push(0xff);
    let fragments = [masked(TEXT, b"\xc3"), masked(FIN | CONTINUATION, b"(")].concat();
    for bytes in [masked(FIN | TEXT, b"\xc3\x28"), fragments, masked(FIN | CLOSE, &close)] {
        let mut raw = fixture.get("/ws").raw_websocket();
        raw.connection.write(&bytes);
        assert_eq!(raw.closed(), 1007);
    }
}

#[test]
fn binary_messages_are_not_silently_dropped() {
    let fixture = Fixture::standard();
    let mut raw = fixture.get("/ws").raw_websocket();
    raw.send(FIN | BINARY, b"{}");
    let frame = std::iter::from_fn(|| raw.frame()).find(|frame| [CLOSE, TEXT].contains(&frame.opcode)).unwrap();
    match frame.opcode {
        CLOSE => assert_eq!(frame.payload[..2], 1003u16.to_be_bytes()),
        _ => assert!(String::from_utf8(frame.payload).unwrap().contains("error")),
    }
}

#[test]
fn a_message_that_is_too_big_is_a_1009() {
    let fixture = Fixture::with_route("/ws", "ws", "websocket: { message: 1KiB }");
    let mut whole = fixture.get("/ws").raw_websocket();
    whole.send(FIN | TEXT, &[b' '; 1025]);
    assert_eq!(whole.closed(), 1009);
    let mut fragments = fixture.get("/ws").raw_websocket();
    fragments.send(TEXT, &[b' '; 1000]);
    fragments.send(FIN | CONTINUATION, &[b' '; 25]);
    assert_eq!(fragments.closed(), 1009);
    let mut announced = fixture.get("/ws").raw_websocket();
    announced.connection.write(&[FIN | TEXT, 0x80 | 127, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
    assert_eq!(announced.closed(), 1009);
}

#[test]
fn a_client_that_disappears_is_detected() {
    let fixture = Fixture::standard();
    let socket = fixture.get("/ws").raw_websocket();
    fixture.sidecar.await_metric("notifications_ws_active_connections", 1.0);
    drop(socket);
    fixture.sidecar.await_metric("notifications_ws_active_connections", 0.0);
}
