//! NDJSON on the wire.

use serde_json::json;

use crate::support::fixture::Fixture;

#[test]
fn the_head_disables_buffering() {
    let fixture = Fixture::standard();
    let head = fixture.get("/stream").ndjson().head;
    assert_eq!(head.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(head.header("cache-control"), Some("no-cache, no-store, no-transform"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(head.headers("connection"), ["keep-alive"]);
    assert_eq!(head.headers("transfer-encoding"), ["chunked"]);
    assert_eq!((head.header("content-length"), head.header("content-encoding")), (None, None));
}

#[test]
fn the_content_type_is_the_one_asked_for() {
    let fixture = Fixture::standard();
    for content_type in ["application/x-ndjson", "application/jsonl", "application/json"] {
        let stream = fixture.get("/stream").header("Accept", content_type).ndjson();
        assert_eq!(stream.head.header("content-type"), Some(content_type));
    }
}

#[test]
fn an_event_is_a_line() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/stream").ndjson();
    let id = fixture.broker.event("orders", 0, json!({"ts": 1, "type": "t", "orderId": "o", "data": {"a": [1, 2]}}));
    assert_eq!(stream.event(), json!({"id": id, "ts": 1, "type": "t", "orderId": "o", "data": {"a": [1, 2]}}));
}

#[test]
fn a_batch_that_is_never_full_goes_out_when_its_time_is_over() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/stream?batchSize=100&batchWindow=100ms").ndjson();
    assert_eq!(stream.head.header("x-batch-size"), Some("100"));
    for _ in 0..3 {
        let id = fixture.broker.order("o1");
        assert_eq!(stream.ids(1), [id]);
    }
}

#[test]
fn numbers_keep_every_digit() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/bare/stream").ndjson();
    let value = r#"{"type":"t","data":{"amount":12345678901234567890.10,"big":123456789012345678901234567890}}"#;
    fixture.broker.produce("orders", 0, None, Some(value.as_bytes()));
    let line = stream.line().unwrap();
    assert!(line.contains("12345678901234567890.10") && line.contains("123456789012345678901234567890"), "{line}");
}

#[test]
fn a_path_parameter_selects_events() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/orders/o2/stream").ndjson();
    fixture.broker.order("o1");
    let wanted = fixture.broker.order("o2");
    assert_eq!(stream.ids(1), [wanted]);
}

#[test]
fn the_cursor_is_sent_with_the_id_if_they_differ() {
    let fixture = Fixture::standard();
    let mut single = fixture.get("/stream").ndjson();
    let mut several = fixture.get("/spread/stream").ndjson();
    fixture.broker.order("a");
    let id = fixture.broker.event("spread", 2, json!({"type": "t", "data": 1}));
    assert!(single.event().get("cursor").is_none());
    let cursor = several.event()["cursor"].as_str().unwrap().to_owned();
    assert!(cursor.starts_with(&format!("{id}~")), "{cursor}");
    assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte)), "{cursor}");
}

#[test]
fn a_quiet_stream_sends_empty_lines() {
    let fixture = Fixture::with_route("/stream", "ndjson", "heartbeat_interval: 1s");
    let mut stream = fixture.get("/stream").ndjson();
    assert_eq!(stream.line().as_deref(), Some(""));
    let id = fixture.broker.order("a");
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn a_client_may_ask_for_heartbeat_objects() {
    let fixture = Fixture::with_route("/stream", "ndjson", "heartbeat_interval: 1s");
    let id = fixture.broker.order("a");
    let mut stream = fixture.get("/stream?heartbeat=event&since=orders:0:-1").ndjson();
    assert_eq!(stream.ids(1), std::slice::from_ref(&id));
    let beat = stream.event();
    assert_eq!((&beat["type"], &beat["cursor"]), (&json!("heartbeat"), &json!(id)));
    assert!(beat["ts"].as_i64().unwrap() > 1_600_000_000_000);
}

#[test]
fn a_route_may_send_heartbeat_objects() {
    let fixture = Fixture::with_route("/stream", "ndjson", "heartbeat_interval: 1s, heartbeat: event");
    assert_eq!(fixture.get("/stream").ndjson().event()["type"], "heartbeat");
}
