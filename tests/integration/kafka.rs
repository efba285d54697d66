//! The source: all partitions, warming the window at start, and outages.

use serde_json::json;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};

#[test]
fn all_partitions_are_read() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/spread/events").sse();
    let mut wanted: Vec<_> =
        (0..4).map(|partition| fixture.broker.event("spread", partition, json!({"type": "t", "data": 1}))).collect();
    let mut seen = stream.ids(4);
    wanted.sort();
    seen.sort();
    assert_eq!(seen, wanted);
}

#[test]
fn the_window_is_warmed_from_the_log() {
    let mut fixture = Fixture::standard();
    let ids = fixture.broker.orders("o1", 50);
    fixture.restart();
    assert_eq!(fixture.get("/events").sse().record().unwrap().id.as_ref(), ids.last());
    assert_eq!(fixture.get("/stream?since=orders:0:-1").ndjson().ids(50), ids);
    let mut socket = fixture.get("/orders/o1/ws").websocket();
    assert_eq!(socket.ask(json!({"command": "get-status"}))["data"]["result"]["id"], ids[49]);
}

#[test]
fn a_record_of_any_json_arrives() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/stream").ndjson();
    for value in [r#"{"orderId":"o1","total":3}"#, "[1,2]", "\"text\"", "42"] {
        let id = fixture.broker.produce("orders", 0, None, Some(value.as_bytes()));
        let event = stream.event();
        assert_eq!((&event["id"], event["data"].to_string()), (&json!(id), value.to_owned()));
    }
}

#[test]
fn a_producers_id_is_replaced() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/stream").ndjson();
    let id = fixture.broker.event("orders", 0, json!({"id": "orders:0:99999", "type": "t", "data": 1}));
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn a_start_without_kafka_affects_only_streams() {
    let fixture = Plan::new(STANDARD).kafka("warm_up: 500ms").broker_down().build();
    assert_eq!(fixture.get("/echo").send().status(), 200);
    let mut stream = fixture.get("/events").sse();
    let mut socket = fixture.get("/ws").websocket();
    fixture.broker.up();
    let id = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), std::slice::from_ref(&id));
    assert_eq!(socket.ids(1), [id]);
}

#[test]
fn an_unreachable_broker_address_affects_only_streams() {
    let fixture = Plan::new(STANDARD).kafka("brokers: \"127.0.0.1:1\", warm_up: 500ms").build();
    assert_eq!(fixture.get("/echo").send().status(), 200);
    assert_eq!(fixture.sidecar.metric("notifications_kafka_connected"), Some(0.0));
    fixture.get("/stream").ndjson();
}

#[test]
fn an_outage_loses_nothing() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    let before = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [before]);
    fixture.broker.down();
    fixture.sidecar.await_metric("notifications_kafka_connected", 0.0);
    assert_eq!(fixture.sidecar.admin("/readyz").status(), 200);
    assert_eq!(fixture.get("/echo").send().status(), 200);
    fixture.broker.up();
    let after = fixture.broker.orders("o1", 3);
    assert_eq!(stream.ids(3), after);
    fixture.sidecar.await_metric("notifications_kafka_connected", 1.0);
}

#[test]
fn readiness_waits_for_the_warm_up_only() {
    let fixture = Plan::new(STANDARD).kafka("warm_up: 3s").broker_down().unready().build();
    assert_eq!(fixture.sidecar.admin("/readyz").status(), 503);
    assert_eq!(fixture.sidecar.admin("/livez").status(), 200);
    assert_eq!(fixture.get("/echo").send().status(), 200);
    eventually_true("the deadline of the warm-up", || fixture.sidecar.admin("/readyz").status() == 200);
}

#[test]
fn readiness_may_depend_on_kafka_where_asked() {
    let fixture =
        Plan::new(STANDARD).kafka("warm_up: 100ms, required_for_readiness: true").broker_down().unready().build();
    eventually_true("a reason", || fixture.sidecar.admin("/readyz").status() == 503);
    fixture.broker.up();
    eventually_true("/readyz", || fixture.sidecar.admin("/readyz").status() == 200);
    fixture.broker.down();
    eventually_true("/readyz to fail", || fixture.sidecar.admin("/readyz").status() == 503);
}

#[test]
fn an_unknown_topic_does_not_delay_the_others() {
    let settings = "streams:\n  both: { topics: [orders, nowhere], keys: [orderId] }\n  none: { topics: [nowhere], \
                    keys: [orderId] }\nroutes:\n  - { path: /events, stream: both, transport: sse, public: true }\n  - \
                    { path: /none, stream: none, transport: sse, public: true }\n";
    let fixture = Plan::new(settings).kafka("warm_up: 1s").build();
    let mut stream = fixture.get("/events").sse();
    fixture.get("/none").sse();
    let id = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [id]);
}
