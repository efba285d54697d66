//! A cluster of three brokers, one of which dies: the partitions of the others do not wait for it.

use serde_json::json;

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::real::{addresses, plan_at, start_three};

#[test]
fn live_events_of_the_other_brokers_go_on() {
    let mut nodes = start_three("three-live");
    let brokers = addresses(&nodes);
    Admin::of(&brokers).create_topic_on("orders", &[&[1], &[2], &[3]]);
    let fixture = plan_at(&brokers, &["orders"]).build();
    let mut stream = fixture.get("/stream").ndjson();
    let event = |broker: &Broker, partition| broker.event("orders", partition, json!({"type": "t", "orderId": "o"}));
    let sent: Vec<_> = (0..3).map(|partition| event(&fixture.broker, partition)).collect();
    let mut seen = stream.ids(3);
    seen.sort();
    assert_eq!(seen, sent);
    nodes[2].kill();
    for partition in [0, 1, 0, 1] {
        let sent = event(&fixture.broker, partition);
        assert_eq!(stream.ids(1), [sent]);
    }
}

#[test]
fn replay_from_the_other_brokers_goes_on() {
    const EVENTS: usize = 200;
    let mut nodes = start_three("three-replay");
    let brokers = addresses(&nodes);
    Admin::of(&brokers).create_topic_on("orders", &[&[1], &[2], &[3]]);
    let fixture = plan_at(&brokers, &["orders"]).with("topics: { orders: { replay: { events: 1 } } }").build();
    let mut live = fixture.get("/events").sse();
    let first = fixture.broker.event("orders", 2, json!({"type": "t", "orderId": "o"}));
    let record = live.event();
    let cursor = record.id.clone().expect("an id");
    assert_eq!(record.event_id(), first);
    let value = json!({"type": "t", "orderId": "o", "data": 1}).to_string();
    let sent: Vec<Vec<String>> = (0..3)
        .map(|partition| fixture.broker.produce_all("orders", partition, (0..EVENTS).map(|_| value.as_bytes())))
        .collect();
    fixture.sidecar.await_metric("notifications_kafka_records_total{topic=\"orders\"}", (1 + 3 * EVENTS) as f64);
    nodes[2].kill();
    let mut resumed = fixture.get("/events").header("Last-Event-ID", &cursor).sse();
    let (mut seen, mut wanted) = (resumed.ids(2 * EVENTS), sent[..2].concat());
    seen.sort();
    wanted.sort();
    assert_eq!(seen, wanted);
    // It is behind in the third partition, and gets what is new in the others.
    for partition in [0, 1, 0, 1] {
        let sent = fixture.broker.produce("orders", partition, None, Some(value.as_bytes()));
        assert_eq!(resumed.ids(1), [sent]);
    }
    nodes[2].start_again();
    assert_eq!(resumed.ids(EVENTS), sent[2]);
}
