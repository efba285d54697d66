//! The state of a topic before its changes, by every transport.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::fixture::{Fixture, Plan};

fn shop() -> Fixture {
    Plan::new(
        "streams:\n  orders: { topics: [orders], keys: [orderId], state: { key: orderId } }\n  notices: { topics: [notices] \
         }\nroutes:\n  - { path: /stream, stream: orders, public: true }\n  - { path: \"/orders/{id}\", stream: orders, \
         public: true, bind: { orderId: path.id } }\n  - { path: /bare, stream: orders, public: true, data: payload, fields: \
         { drop: [/data/secret] } }\n  - { path: /notices, stream: notices, public: true }\n",
    )
    .build()
}

pub fn order(fixture: &Fixture, key: &str, n: u32) -> String {
    let value = json!({ "type": "order-updated", "orderId": key, "data": { "n": n, "secret": 1 } });
    fixture.broker.event("orders", 0, value)
}

/// Waits until the state has this many keys, and everything that was produced.
fn await_state(fixture: &Fixture, keys: usize, last: &str) {
    fixture.sidecar.await_metric("notifications_state_keys{key=\"orderId\",topic=\"orders\"}", keys as f64);
    eventually("the state has the last event", || {
        let answer = fixture.get("/stream?from=state").open();
        let mut stream = crate::support::ndjson::Ndjson::over(answer.0, answer.1);
        let end = std::iter::from_fn(|| stream.object()).find(|object| object["phase"] == "end")?;
        (end["cursor"] == last).then_some(())
    });
}

#[test]
fn the_state_comes_first_and_every_change_follows_once() {
    let fixture = shop();
    order(&fixture, "b", 1);
    order(&fixture, "a", 2);
    order(&fixture, "c", 3);
    order(&fixture, "b", 4);
    let last = fixture.broker.produce("orders", 0, Some("c"), None);
    await_state(&fixture, 2, &last);
    for framing in ["ndjson", "length", "json-seq", "json-array"] {
        let (head, mut body) = fixture.get(&format!("/stream?from=state&framing={framing}")).open();
        assert_eq!(head.status, 200, "{framing}");
        let mut text = String::new();
        eventually("the end of the snapshot", || {
            text += &String::from_utf8(body.next().unwrap().unwrap()).unwrap();
            text.contains(r#""phase":"end""#).then_some(())
        });
        let places: Vec<_> =
            [r#""phase":"begin""#, r#""n":2"#, r#""n":4"#, r#""phase":"end""#].map(|part| text.find(part)).into();
        assert!(places.is_sorted() && places[0].is_some(), "{framing}: {text}");
        assert_eq!(text.matches(r#""snapshot":true"#).count(), 2, "{framing}: {text}");
    }
    let mut stream = fixture.get("/stream?from=state").ndjson();
    let lines: Vec<Value> = (0..4).map(|_| stream.event()).collect();
    assert_eq!((&lines[0]["phase"], &lines[3]["phase"]), (&json!("begin"), &json!("end")), "{lines:?}");
    assert_eq!((&lines[3]["count"], &lines[3]["cursor"]), (&json!(2), &json!(last)));
    let change = order(&fixture, "a", 5);
    assert_eq!(stream.ids(1)[0], change);
    // A client that has the state goes on at its cursor.
    assert_eq!(fixture.get(&format!("/stream?from=state&since={last}")).ndjson().ids(1)[0], change);
    // One that was disconnected within the snapshot receives the rest of it.
    let within = lines[1]["cursor"].as_str().unwrap();
    let mut resumed = fixture.get(&format!("/stream?since={within}")).ndjson();
    let rest: Vec<Value> = (0..3).map(|_| resumed.event()).collect();
    assert_eq!((&rest[0]["data"]["n"], &rest[1]["phase"], &rest[2]["id"]), (&json!(4), &json!("end"), &json!(change)));
}

#[test]
fn bindings_and_fields_apply_to_the_state() {
    let fixture = shop();
    order(&fixture, "a", 1);
    let last = order(&fixture, "b", 2);
    await_state(&fixture, 2, &last);
    let mut one = fixture.get("/orders/b?from=state").ndjson();
    let lines: Vec<Value> = (0..3).map(|_| one.event()).collect();
    assert_eq!((&lines[1]["data"]["n"], &lines[2]["count"]), (&json!(2), &json!(1)), "{lines:?}");
    let mut bare = fixture.get("/bare?from=state").ndjson();
    let lines: Vec<Value> = (0..4).map(|_| bare.event()).collect();
    assert_eq!(lines[1..3], [json!({ "n": 1 }), json!({ "n": 2 })]);
}

#[test]
fn an_event_source_gets_the_state_and_resumes_by_its_last_event_id() {
    let fixture = shop();
    let last = order(&fixture, "a", 1);
    await_state(&fixture, 1, &last);
    let mut stream = fixture.get("/stream?from=state").header("Accept", "text/event-stream").sse();
    let begin = stream.event();
    assert_eq!((begin.event.as_deref(), &begin.json()["phase"]), (Some("snapshot"), &json!("begin")));
    assert_eq!(stream.event().json()["snapshot"], true);
    let end = stream.event();
    assert_eq!((end.event.as_deref(), end.id.as_deref()), (Some("snapshot"), Some(&*last)));
    let change = order(&fixture, "a", 2);
    let resumed = fixture.get("/stream?from=state").header("Accept", "text/event-stream").header("Last-Event-ID", last);
    assert_eq!(resumed.sse().event().event_id(), change, "the header takes precedence");
}

#[test]
fn a_websocket_gets_the_state_at_its_opening_and_by_command() {
    let fixture = shop();
    let last = order(&fixture, "a", 1);
    await_state(&fixture, 1, &last);
    let mut opened = fixture.get("/stream?from=state").websocket();
    let phases = |socket: &mut crate::support::websocket::WebSocket| -> Vec<Value> {
        (0..3).map(|_| socket.event()["data"].clone()).collect()
    };
    let seen = phases(&mut opened);
    assert_eq!(
        (&seen[0]["phase"], &seen[1]["snapshot"], &seen[2]["cursor"]),
        (&json!("begin"), &json!(true), &json!(last))
    );
    let mut manual = fixture.get("/stream?subscribe=manual").websocket();
    let answer = manual.ask(json!({ "command": "subscribe", "resource": "/stream", "from": "state" }));
    assert_eq!(answer["data"]["status"], "ok", "{answer}");
    assert_eq!(phases(&mut manual)[2]["count"], 1);
    let wrong = manual.ask(json!({ "command": "subscribe", "resource": "/orders/a", "from": "start" }));
    assert_eq!(wrong["data"]["status"], "error", "{wrong}");
}

#[test]
fn what_has_no_state_is_refused() {
    let fixture = shop();
    for target in ["/notices?from=state", "/stream?from=start", "/stream?from=state&from=state"] {
        fixture.get(target).send().problem(400);
    }
    let within = "orders:0:1~.AVtRXjUAAQM.by0x";
    fixture.get(&format!("/notices?since={within}")).send().problem(410);
}

#[test]
fn a_state_that_is_too_large_or_not_read_is_refused_and_changes_go_on() {
    let fixture = Plan::new(
        "streams:\n  orders: { topics: [orders], keys: [orderId], state: { key: orderId, bytes: 1KiB } }\nroutes:\n  - { \
         path: /stream, stream: orders, public: true }\n",
    )
    .build();
    let mut changes = fixture.get("/stream").ndjson();
    let ids: Vec<String> = (0..4).map(|n| order(&fixture, &format!("o-{n}"), n)).collect();
    assert_eq!(changes.ids(4), ids);
    fixture.sidecar.await_metric("notifications_state_ready{key=\"orderId\",topic=\"orders\"}", 0.0);
    fixture.sidecar.await_log("the state is larger than its limit");
    let answer = fixture.get("/stream?from=state").send();
    assert_eq!(answer.header("Retry-After"), Some("2"));
    assert!(answer.problem(503)["detail"].as_str().unwrap().contains("larger than its limit"));
}
