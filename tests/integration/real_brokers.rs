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
    let house = plan_at(&brokers, &["orders"]).build();
    let mut stream = house.get("/stream").ndjson();
    let event = |broker: &Broker, partition| broker.event("orders", partition, json!({"type": "t", "orderId": "o"}));
    let sent: Vec<_> = (0..3).map(|partition| event(&house.broker, partition)).collect();
    let mut seen = stream.ids(3);
    seen.sort();
    assert_eq!(seen, sent);
    nodes[2].kill();
    for partition in [0, 1, 0, 1] {
        let sent = event(&house.broker, partition);
        assert_eq!(stream.ids(1), [sent]);
    }
}
