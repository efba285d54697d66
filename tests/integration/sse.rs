//! Server-Sent Events on the wire.

use serde_json::json;

use crate::support::fixture::Fixture;

#[test]
fn the_head_disables_buffering() {
    let fixture = Fixture::standard();
    let head = fixture.get("/events").sse().head;
    assert_eq!(head.version, "HTTP/1.1");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-cache, no-store, no-transform"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(head.headers("connection"), ["keep-alive"]);
    assert_eq!(head.headers("transfer-encoding"), ["chunked"]);
    assert_eq!((head.header("content-length"), head.header("content-encoding")), (None, None));
}

#[test]
fn the_first_record_primes_the_client() {
    let fixture = Fixture::standard();
    let priming = fixture.get("/events").sse().record().unwrap();
    assert!((200..=300).contains(&priming.retry.unwrap()), "{priming:?}");
    assert_eq!((priming.id.as_deref(), priming.data, priming.event), (Some("orders:0:-1"), None, None));
    let id = fixture.broker.order("a");
    fixture.settle("/events", std::slice::from_ref(&id));
    assert_eq!(fixture.get("/events").sse().record().unwrap().id, Some(id));
}

#[test]
fn an_event_is_its_envelope() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    let record = json!({"ts": 17, "type": "order-created", "orderId": "o1", "data": {"total": 12.50}});
    let id = fixture.broker.event("orders", 0, record);
    let event = stream.event();
    assert_eq!((event.id.as_deref(), event.event.as_deref()), (Some(&*id), None));
    assert_eq!(
        event.json(),
        json!({"id": id, "ts": 17, "type": "order-created", "orderId": "o1", "data": {"total": 12.50}})
    );
}

#[test]
fn a_route_may_name_the_type_in_the_event_field() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/typed").sse();
    fixture.broker.order("a");
    assert_eq!(stream.event().event.as_deref(), Some("order-updated"));
}

#[test]
fn a_route_may_send_the_payload_alone() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/bare/events").sse();
    let id = fixture.broker.order("a");
    let event = stream.event();
    assert_eq!((event.json(), event.id), (json!({"orderId": "a"}), Some(id)));
}

#[test]
fn a_path_parameter_selects_events() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/orders/o2/events").sse();
    fixture.broker.order("o1");
    let wanted = fixture.broker.order("o2");
    fixture.broker.order("o22");
    let next = fixture.broker.order("o2");
    assert_eq!(stream.ids(2), [wanted, next]);
}

#[test]
fn a_tombstone_is_a_delete() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/orders/o1/events").sse();
    let id = fixture.broker.produce("orders", 0, Some("o1"), None);
    let event = stream.event().json();
    assert_eq!((&event["id"], &event["type"], &event["data"]), (&json!(id), &json!("delete"), &json!(null)));
    assert_eq!(event["orderId"], "o1");
}

#[test]
fn line_breaks_in_a_record_do_not_break_lines() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/bare/events").sse();
    let value = "{\r\n \"type\": \"t\",\r \"data\": {\n \"text\": \"a\\r\\nb\\u2028c\" }\n}";
    fixture.broker.produce("orders", 0, None, Some(value.as_bytes()));
    assert_eq!(stream.event().json(), json!({"text": "a\r\nb\u{2028}c"}));
}

#[test]
fn a_type_cannot_smuggle_a_field() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/typed").sse();
    fixture.broker.event("orders", 0, json!({"type": "a\nid: forged\n\ndata: forged", "data": 1}));
    let id = fixture.broker.order("a");
    let honest = stream.until("the next event", |record| record.id.as_deref() == Some(&*id));
    assert_eq!(honest.event_id(), id);
    assert_ne!(honest.data.as_deref(), Some("forged"));
}

#[test]
fn a_quiet_stream_sends_comments() {
    let fixture = Fixture::with_route("/events", "sse", "heartbeat_interval: 1s");
    let mut stream = fixture.get("/events").sse();
    let beat = stream.until("a heartbeat", |record| !record.comments.is_empty());
    assert_eq!((beat.data, beat.event), (None, None));
    let id = fixture.broker.order("a");
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn a_quiet_stream_may_send_heartbeat_events() {
    let fixture = Fixture::with_route("/events", "sse", "heartbeat_interval: 1s, heartbeat: event");
    let mut stream = fixture.get("/events").sse();
    let beat = stream.event();
    assert_eq!(beat.event.as_deref(), Some("heartbeat"));
}

#[test]
fn a_client_may_ask_for_heartbeat_events() {
    let fixture = Fixture::with_route("/events", "sse", "heartbeat_interval: 1s");
    assert_eq!(fixture.get("/events?heartbeat=event").sse().event().event.as_deref(), Some("heartbeat"));
}
