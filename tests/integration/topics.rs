//! Existing topics: mapped records, text, bytes, CloudEvents, and several clusters.

use serde_json::json;
use tungstenite::Message;

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::fixture::{Fixture, KAFKA_PROPERTIES, Plan};
use crate::support::ndjson::Ndjson;

/// A stream of `orders` with these settings of the topic, and routes for all events, for one order, and in SSE.
fn orders(topic: &str) -> Fixture {
    Plan::new(format!(
        "topics:\n  orders: {{ {topic} }}\nstreams:\n  orders: {{ topics: [orders], keys: [orderId] }}\nroutes:\n  - {{ \
         path: /stream, stream: orders, public: true }}\n  - {{ path: \"/orders/{{id}}\", stream: orders, public: true, \
         bind: {{ orderId: path.id }} }}\n  - {{ path: /sse, stream: orders, transport: sse, event: type, data: \
         payload, public: true }}\n"
    ))
    .build()
}

#[test]
fn a_mapped_topic_is_routed_typed_and_sent_whole() {
    let fixture = orders("map: { type: /kind, ts: /at, keys: { orderId: /order/id } }");
    let (mut all, mut one, mut sse) =
        (fixture.get("/stream").ndjson(), fixture.get("/orders/7").ndjson(), fixture.get("/sse").sse());
    let value = r#"{"kind":"paid","at":"2026-11-22T10:00:00Z","data":"theirs","order":{"id":7}}"#;
    fixture.broker.produce("orders", 0, None, Some(br#"{"order":{"id":8}}"#));
    let id = fixture.broker.produce("orders", 0, None, Some(value.as_bytes()));
    let event = one.event();
    assert_eq!((&event["id"], &event["type"], &event["orderId"]), (&json!(id), &json!("paid"), &json!(7)));
    assert_eq!((&event["ts"], &event["data"]), (&json!(1_795_341_600_000_i64), &serde_json::from_str(value).unwrap()));
    assert_eq!(all.ids(2)[1], id);
    assert_eq!(sse.event().data.as_deref(), Some(r#"{"order":{"id":8}}"#));
    let paid = sse.event();
    assert_eq!((paid.event.as_deref(), paid.data.as_deref()), (Some("paid"), Some(value)));
}

#[test]
fn a_deletion_reaches_the_subscribers_of_its_key() {
    let fixture = orders("map: { type: /kind, keys: { orderId: key } }");
    let mut one = fixture.get("/orders/o-1").ndjson();
    fixture.broker.produce("orders", 0, Some("o-2"), None);
    let id = fixture.broker.produce("orders", 0, Some("o-1"), None);
    let event = one.event();
    assert_eq!((&event["id"], &event["type"], &event["orderId"]), (&json!(id), &json!("delete"), &json!("o-1")));
    assert_eq!(event["data"], json!(null));
}

/// Produces an event of the order o-1, one without an order, and another one of o-1.
fn with_an_event_without_a_key(fixture: &Fixture) -> [String; 3] {
    let value = json!({ "type": "order-updated", "data": {} });
    [fixture.broker.order("o-1"), fixture.broker.event("orders", 0, value), fixture.broker.order("o-1")]
}

#[test]
fn an_event_without_the_key_is_a_gap_for_bound_clients_live_and_in_replay() {
    // The window holds the last event only, so that a replay needs the log.
    for window in ["{}", "{ events: 1 }"] {
        let fixture = orders(&format!("missing_key: gap, replay: {window}"));
        let (mut all, mut one) = (fixture.get("/stream").ndjson(), fixture.get("/orders/o-1").ndjson());
        let ids = with_an_event_without_a_key(&fixture);
        assert_eq!(one.ids(1), ids[..1]);
        let cursor = one.cursor.clone().unwrap();
        let mut resumed = fixture.get(&format!("/orders/o-1?since={cursor}")).ndjson();
        for stream in [&mut one, &mut resumed] {
            let gap = stream.event();
            assert_eq!((&gap["type"], &gap["cause"]), (&json!("gap"), &json!("missing-key")), "{gap}");
            assert_eq!(gap["ranges"], json!([{ "topic": "orders", "partition": 0, "from": 1, "to": 1 }]));
            assert_eq!(stream.ids(1), ids[2..]);
        }
        assert_eq!(all.ids(3), ids, "a client that is bound to no key receives it");
    }
}

#[test]
fn an_event_without_the_key_is_counted_and_logged_once() {
    let fixture = orders("missing_key: count");
    let mut one = fixture.get("/orders/o-1").ndjson();
    let ids = with_an_event_without_a_key(&fixture);
    fixture.broker.event("orders", 0, json!({ "data": {} }));
    assert_eq!(one.ids(2), [ids[0].clone(), ids[2].clone()], "there is no gap");
    fixture.sidecar.await_metric("notifications_kafka_missing_keys_total{key=\"orderId\",topic=\"orders\"}", 2.0);
    fixture.broker.produce("orders", 0, None, Some(b"not json"));
    fixture.sidecar.await_log("record is not an event");
    let log = fixture.sidecar.log();
    assert_eq!(log.matches("event lacks a key").count(), 1, "{log}");
}

#[test]
fn text_and_bytes_arrive_on_every_transport() {
    let text = orders("format: text");
    let (mut lines, mut sse) = (text.get("/stream").ndjson(), text.get("/sse").sse());
    let mut socket = text.get("/stream").websocket();
    for value in ["two\nlines", "{", ""] {
        text.broker.produce("orders", 0, None, Some(value.as_bytes()));
        assert_eq!(lines.event()["data"], value);
        assert_eq!(sse.event().data, Some(json!(value).to_string()));
        assert_eq!(socket.event()["data"]["data"], value);
    }
    let binary = orders("format: binary, map: { keys: { orderId: key } }");
    let mut one = binary.get("/orders/o-1").ndjson();
    binary.broker.produce("orders", 0, Some("o-1"), Some(b"\xff\0\x01"));
    let event = one.event();
    assert_eq!((&event["encoding"], &event["data"]), (&json!("base64"), &json!("/wAB")));
}

#[test]
fn a_websocket_gets_bytes_as_bytes_where_the_route_asks() {
    let fixture = Plan::new(
        "topics:\n  orders: { format: binary }\nstreams:\n  orders: { topics: [orders, notices] }\nroutes:\n  - { path: \
         /ws, stream: orders, transport: ws, data: payload, websocket: { frames: binary }, public: true }\n",
    )
    .build();
    let mut socket = fixture.get("/ws").websocket();
    fixture.broker.produce("orders", 0, None, Some(b"\xff\0\x01"));
    assert_eq!(socket.any(), Message::Binary(b"\xff\0\x01"[..].into()));
    fixture.broker.produce("notices", 0, None, Some(b"{\"n\": 1}"));
    assert_eq!(socket.any(), Message::Binary(b"{\"n\":1}"[..].into()));
    socket.send(r#"{"command":"ping"}"#);
    let Message::Text(response) = socket.any() else { panic!("responses are text") };
    assert!(response.contains(r#""result":"pong""#), "{response}");
}

#[test]
fn a_cloudevent_keeps_its_id_in_addition_to_the_event_id() {
    let fixture = orders("headers: false");
    let mut one = fixture.get("/orders/o-1").ndjson();
    let id = fixture.broker.event(
        "orders",
        0,
        json!({"specversion": "1.0", "id": "A-1", "source": "/shop", "type": "com.shop.paid",
               "time": "2026-11-22T10:00:00Z", "data": {"orderId": "o-1"}}),
    );
    let event = one.event();
    assert_eq!(
        (&event["id"], &event["ce"]["id"], &event["ce"]["source"]),
        (&json!(id), &json!("A-1"), &json!("/shop"))
    );
    assert_eq!((&event["type"], &event["ts"]), (&json!("com.shop.paid"), &json!(1_795_341_600_000_i64)));
}

/// A stream of the topic `orders` of two clusters; the second one is named `eu-orders`.
fn two_clusters(eu: &Broker) -> Plan {
    Plan::new(format!(
        "clusters:\n  eu: {{ brokers: \"{}\", properties: {KAFKA_PROPERTIES} }}\ntopics:\n  eu-orders: {{ cluster: eu, \
         topic: orders }}\nstreams:\n  all: {{ topics: [orders, eu-orders], keys: [orderId] }}\nroutes:\n  - {{ path: \
         /stream, stream: all, public: true }}\n  - {{ path: /sse, stream: all, transport: sse, public: true }}\n",
        eu.address()
    ))
}

/// The local id of a record of the second cluster.
fn here(id: &str) -> String {
    format!("eu-{id}")
}

#[test]
fn a_stream_of_two_clusters_resumes_exactly_in_both() {
    let eu = Broker::start(&[("orders", 1)]);
    let mut fixture = two_clusters(&eu).build();
    fixture.sidecar.await_metric("notifications_kafka_connected", 2.0);
    let mut stream = fixture.get("/stream").ndjson();
    let ids = [here(&eu.order("o1")), fixture.broker.order("o1")];
    let mut seen = stream.ids(2);
    seen.sort();
    assert_eq!(seen, ids);
    let cursor = stream.cursor.clone().unwrap();
    let mut missed = [here(&eu.order("o2")), here(&eu.order("o3")), fixture.broker.order("o2")];
    fixture.restart();
    let mut resumed = fixture.get(&format!("/stream?since={cursor}")).ndjson();
    let mut seen = resumed.ids(3);
    seen.sort();
    missed.sort();
    assert_eq!(seen, missed);
    let next = here(&eu.order("o4"));
    assert_eq!(resumed.ids(1), [next], "nothing twice");
}

#[test]
fn clusters_do_not_wait_for_each_other() {
    let eu = Broker::start(&[("orders", 1)]);
    eu.down();
    let fixture = two_clusters(&eu).kafka("warm_up: 500ms").build();
    fixture.sidecar.await_metric("notifications_kafka_connected", 1.0);
    let first = fixture.broker.order("o1");
    // After the time limit of the warm-up, a client can resume without the cluster that does not respond.
    let (head, body) = eventually("a resume", || {
        fixture.get("/stream?since=orders:0:-1").try_open().filter(|(head, _)| head.status == 200)
    });
    let mut stream = Ndjson::over(head, body);
    assert_eq!(stream.ids(1), [first]);
    eu.up();
    let other = here(&eu.order("o1"));
    assert_eq!(stream.ids(1), [other]);
}
