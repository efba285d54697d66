//! Injected panics in a debug build: each affects only the record or connection that causes it.

use serde_json::json;

use crate::support::broker::Broker;
use crate::support::eventually_true;
use crate::support::fixture::Plan;

const SETTINGS: &str = "
streams: { orders: { topics: [orders], keys: [orderId] } }
routes:
  - { path: /stream, stream: orders, transport: ndjson, public: true }
  - { path: \"/orders/{orderId}/stream\", stream: orders, transport: ndjson, public: true, bind: { orderId: path.orderId } }
  - { path: \"/orders/{orderId}/ws\", stream: orders, transport: ws, public: true, bind: { orderId: path.orderId } }
";
/// Not in any log: the message of a panic may quote data.
const SECRET: &str = "s3cr3t";

#[test]
fn a_record_that_panics_is_a_gap_in_the_warm_up_range_too() {
    let broker = Broker::start(&[("orders", 1)]);
    let bomb = |n: i32| json!({"type": "t", "orderId": "o1", "data": format!("decode-bomb {n} {SECRET}")});
    let first = broker.event("orders", 0, json!({"type": "t", "orderId": "o1", "data": 0}));
    broker.event("orders", 0, bomb(1));
    let fixture = Plan::new(SETTINGS).broker(broker).faults("decode=decode-bomb").build();
    let mut stream = fixture.get(&format!("/stream?since={first}")).ndjson();
    let gap = stream.event();
    assert_eq!((&gap["cause"], &gap["ranges"][0]["from"]), (&json!("undecodable"), &json!(1)));
    fixture.broker.event("orders", 0, bomb(2));
    assert_eq!(stream.event()["ranges"][0]["from"], json!(2));
    let last = fixture.broker.event("orders", 0, json!({"type": "t", "orderId": "o1", "data": 3}));
    assert_eq!(stream.ids(1), [last]);
    fixture.sidecar.await_metric("notifications_panics_total{place=\"kafka\"}", 2.0);
    let log = std::fs::read_to_string(fixture.config.with_extension("log")).unwrap();
    assert!(log.contains("panicked") && log.contains("fault.rs") && !log.contains(SECRET), "{log}");
}

#[test]
fn a_panic_for_one_stream_ends_only_that_stream() {
    let broker = Broker::start(&[("orders", 1)]);
    let fixture = Plan::new(SETTINGS).broker(broker).faults("deliver=deliver-bomb").build();
    let (mut socket, mut lines) = (fixture.get("/orders/o1/ws").websocket(), fixture.get("/orders/o1/stream").ndjson());
    let (mut other, mut other_socket) =
        (fixture.get("/orders/o2/stream").ndjson(), fixture.get("/orders/o2/ws").websocket());
    let event = |order: &str, data: &str| {
        fixture.broker.event("orders", 0, json!({"type": "t", "orderId": order, "data": data}))
    };
    let first = event("o1", "fine");
    assert_eq!((socket.ids(1), lines.ids(1)), (vec![first.clone()], vec![first.clone()]));
    let bomb = event("o1", "deliver-bomb");
    assert_eq!(socket.closed(), 1011);
    assert_eq!(lines.line(), None);
    // The panic was in live delivery.
    assert_eq!(fixture.get(&format!("/orders/o1/stream?since={first}")).ndjson().ids(1), [bomb]);
    let last = event("o2", "fine");
    assert_eq!((other.ids(1), other_socket.ids(1)), (vec![last.clone()], vec![last]));
    fixture.sidecar.await_metric("notifications_panics_total{place=\"writer\"}", 2.0);
    fixture.sidecar.await_metric("notifications_ws_disconnects_total{reason=\"internal-error\"}", 1.0);
    fixture.sidecar.await_metric("notifications_stream_disconnects_total{reason=\"internal-error\"}", 1.0);
}

#[test]
fn an_event_that_cannot_be_encoded_is_a_gap_live_and_in_each_replay() {
    let broker = Broker::start(&[("orders", 1)]);
    let fixture = Plan::new(SETTINGS).broker(broker).faults("encode=encode-bomb").build();
    let event = |data: &str| fixture.broker.event("orders", 0, json!({"type": "t", "orderId": "o1", "data": data}));
    let mut live = (fixture.get("/orders/o1/stream").ndjson(), fixture.get("/orders/o1/ws").websocket());
    let ids = [event("fine"), event(&format!("encode-bomb {SECRET}")), event("fine")];
    let is_gap = |gap: &serde_json::Value| {
        assert_eq!((&gap["type"], &gap["cause"]), (&json!("gap"), &json!("undecodable")), "{gap}");
        assert_eq!((&gap["ranges"][0]["from"], &gap["ranges"][0]["to"]), (&json!(1), &json!(1)), "{gap}");
    };
    assert_eq!(live.0.event()["id"], *ids[0]);
    is_gap(&live.0.event());
    assert_eq!((live.0.event()["id"].clone(), live.1.ids(1)), (json!(ids[2]), vec![ids[0].clone()]));
    for _ in 0..2 {
        let mut back = fixture.get(&format!("/orders/o1/stream?since={}", ids[0])).ndjson();
        is_gap(&back.event());
        assert_eq!(back.event()["id"], *ids[2]);
    }
    assert_eq!(fixture.sidecar.metric_sum("notifications_stream_disconnects_total{reason=\"internal-error\"}"), 0.0);
}

#[test]
fn a_reload_that_panics_does_not_stop_later_ones() {
    let fixture = Plan::new(SETTINGS).faults("reload=reload-bomb").build();
    let write = |path: &str| {
        let text = std::fs::read_to_string(&fixture.config).unwrap();
        let route = format!("  - {{ path: {path}, stream: orders, transport: ndjson, public: true }}\n");
        let routes = text.replacen("routes:\n", &format!("routes:\n{route}"), 1);
        std::fs::write(&fixture.config, routes).unwrap();
        text
    };
    let before = write("/reload-bomb");
    fixture.sidecar.await_metric("notifications_config_reloads_total{result=\"internal-error\"}", 1.0);
    fixture.sidecar.await_log("the reload panicked");
    assert_eq!(fixture.sidecar.metric("notifications_config_last_reload_successful"), Some(0.0));
    drop(fixture.get("/stream").ndjson());
    std::fs::write(&fixture.config, before).unwrap();
    write("/added");
    eventually_true("the next reload is applied", || fixture.get("/added").open().0.status == 200);
}
