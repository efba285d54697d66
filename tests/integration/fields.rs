//! Fields that a route does not show: live, replayed and on request, on every transport.

use serde_json::{Value, json};

use crate::support::fixture::{Fixture, Plan};

/// The routes of one stream, of which only `/whole` shows the card.
fn fixture() -> Fixture {
    Plan::new(
        "topics:\n  orders: { headers: true }\nstreams:\n  orders: { topics: [orders], keys: [orderId] }\nroutes:\n  - { \
         path: /whole, stream: orders, public: true }\n  - { path: /settled, stream: orders, public: true, transport: sse }\n  - { path: /drop, stream: orders, public: true, fields: { drop: \
         [/data/card, /data/items/*/cost, /headers/secret] } }\n  - { path: /keep, stream: orders, public: true, fields: \
         { keep: [/orderId, /data/n] } }\n  - { path: /payload, stream: orders, public: true, data: payload, fields: { \
         keep: [/data/n] } }\n  - { path: /socket, stream: orders, public: true, transport: ws, websocket: { subscribe: \
         [/socket, /whole, /keep] }, fields: { keep: [] } }\n",
    )
    .build()
}

/// Produces an order with a card, and returns its id.
fn produce(fixture: &Fixture, n: u32) -> String {
    let value = json!({"orderId": "o", "n": n, "card": "4711", "items": [{"cost": 4712, "name": "x"}]}).to_string();
    fixture.broker.produce_with_headers(
        "orders",
        0,
        None,
        Some(value.as_bytes()),
        [("secret", Some("4713")), ("a", Some("b"))].into_iter(),
    )
}

fn is_clean(shown: &Value) {
    let text = shown.to_string();
    assert!(!text.contains("471"), "{text}");
}

#[test]
fn dropped_fields_are_sent_on_no_transport() {
    let fixture = fixture();
    let mut whole = fixture.get("/whole").ndjson();
    let (mut lines, mut sse) =
        (fixture.get("/drop").ndjson(), fixture.get("/drop").header("Accept", "text/event-stream").sse());
    let mut socket = fixture.get("/drop").websocket();
    let (mut keep, mut payload) = (fixture.get("/keep").ndjson(), fixture.get("/payload").ndjson());
    for n in 0..3 {
        let id = produce(&fixture, n);
        let event = lines.event();
        is_clean(&event);
        let data = json!({"orderId": "o", "n": n, "items": [{"name": "x"}]});
        assert_eq!((&event["id"], &event["data"], &event["headers"]), (&json!(id), &data, &json!({"a": "b"})));
        assert_eq!(sse.event().json(), event);
        assert_eq!(socket.event()["data"], event);
        let kept = keep.event();
        assert_eq!((&kept["data"], &kept["headers"], &kept["orderId"]), (&json!({"n": n}), &json!(null), &json!("o")));
        assert_eq!(payload.event(), json!({"n": n}));
        assert_eq!(whole.event()["data"]["card"], "4711");
    }
}

#[test]
fn replay_shows_the_same_fields() {
    let fixture = fixture();
    let first = produce(&fixture, 0);
    let ids = [produce(&fixture, 1), produce(&fixture, 2)];
    fixture.settle("/settled", &ids);
    let since = |path: &str| fixture.get(&format!("{path}?since={first}"));
    for _ in 0..2 {
        assert_eq!(since("/whole").ndjson().event()["data"]["card"], "4711");
        let (mut lines, mut socket) = (since("/drop").ndjson(), since("/drop").websocket());
        for id in &ids {
            let (event, message) = (lines.event(), socket.event());
            assert_eq!(event["id"], json!(id));
            is_clean(&event);
            is_clean(&message);
        }
        assert_eq!(since("/keep").ndjson().event()["data"], json!({"n": 1}));
    }
}

#[test]
fn commands_show_the_fields_of_their_route() {
    let fixture = fixture();
    let id = produce(&fixture, 0);
    fixture.settle("/settled", &[id]);
    let mut socket = fixture.get("/socket").websocket();
    let status = |resource: &str| json!({"command": "get-status", "resource": resource});
    let own = socket.ask(json!({"command": "get-status"}));
    assert_eq!(own["data"]["result"]["data"], json!(null), "{own}");
    is_clean(&own);
    assert_eq!(socket.ask(status("/keep"))["data"]["result"]["data"], json!({"n": 0}));
    assert_eq!(socket.ask(status("/whole"))["data"]["result"]["data"]["card"], "4711");
    socket.ask(json!({"command": "unsubscribe"}));
    socket.ask(json!({"command": "subscribe", "resource": "/keep"}));
    produce(&fixture, 1);
    let event = socket.event();
    assert_eq!(event["data"]["data"], json!({"n": 1}));
    is_clean(&event);
}

#[test]
fn an_event_with_a_name_that_is_not_unicode_is_a_gap() {
    let fixture = fixture();
    let (mut whole, mut drop) = (fixture.get("/whole").ndjson(), fixture.get("/drop").ndjson());
    fixture.broker.produce("orders", 0, None, Some(br#"{"items":[{"\ud800cost":"4711"}]}"#));
    let id = produce(&fixture, 1);
    assert!(whole.line().is_some_and(|line| line.contains("4711")));
    let gap = drop.object().unwrap();
    assert_eq!((&gap["type"], &gap["cause"]), (&json!("gap"), &json!("undecodable")));
    assert_eq!(drop.event()["id"], json!(id));
}
