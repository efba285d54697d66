//! What happens to Apache Kafka over weeks, in a minute: a long outage, topics that come late, records of any size.

use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::fixture::Plan;
use crate::support::real::{plan, shared, start};

/// How long the outage is, in heartbeats of a second: longer than the client waits for anything, by `IMPATIENT`.
const HEARTBEATS: usize = 20;
const IMPATIENT: &str = "properties: { socket.timeout.ms: 2000, reconnect.backoff.max.ms: 500, \
                         topic.metadata.refresh.interval.ms: 500, metadata.max.age.ms: 3000, \
                         topic.metadata.propagation.max.ms: 3000 }";

#[test]
fn a_long_outage_costs_nothing_and_a_topic_recreated_after_it_is_read() {
    let mut node = start("outage");
    let admin = Admin::of(&node.address);
    ["steady", "recreated"].iter().for_each(|topic| admin.create_topic(topic, 1, &[]));
    let settings = "streams:\n  all: { topics: [steady, recreated] }\nroutes:\n  - { path: /events, stream: all, transport: sse, \
                    public: true, heartbeat_interval: 1s }\n  - { path: /stream, stream: all, transport: ndjson, public: \
                    true, heartbeat_interval: 1s }\n";
    let fixture = Plan::new(settings).broker(Broker::at(&node.address)).kafka(IMPATIENT).build();
    let (mut sse, mut ndjson) = (fixture.get("/events").sse(), fixture.get("/stream").ndjson());
    for topic in ["steady", "recreated"] {
        let id = fixture.broker.event(topic, 0, json!({"type": "t", "data": 0}));
        assert!(sse.ids(1) == [&*id] && ndjson.ids(1) == [id]);
    }

    node.kill();
    for _ in 0..HEARTBEATS {
        assert_eq!(sse.record().expect("a heartbeat").data, None);
        assert_eq!(ndjson.line().as_deref(), Some(""));
    }
    assert_eq!(fixture.sidecar.metric("notifications_kafka_connected"), Some(0.0));
    node.start_again();
    let after = Broker::at(&node.address).event("steady", 0, json!({"type": "t", "data": 1}));
    assert!(sse.ids(1) == [&*after] && ndjson.ids(1) == [after]);

    // A restarted broker counts its leaders' epochs on; those of a recreated topic begin at 0, and look outdated.
    admin.delete_topic("recreated");
    admin.create_topic("recreated", 1, &[]);
    let new = Broker::at(&node.address).event("recreated", 0, json!({"type": "t", "data": 2}));
    assert_eq!(sse.event().json()["cause"], "topic-recreated");
    assert_eq!(sse.ids(1), [new]);
}

#[test]
fn a_topic_may_be_made_after_the_sidecar_started() {
    let fixture = plan(shared(), &["awaited"]).build();
    let mut stream = fixture.get("/events").sse();
    Admin::of(&shared().address).create_topic("awaited", 3, &[]);
    for partition in 0..3 {
        let id = fixture.broker.event("awaited", partition, json!({"type": "t", "data": partition}));
        assert_eq!(stream.ids(1), [id]);
    }
}

#[test]
fn a_record_of_ten_megabytes_arrives_on_every_transport() {
    const BYTES: usize = 10 * 1024 * 1024;
    Admin::of(&shared().address).create_topic("large", 1, &[("max.message.bytes", "12000000")]);
    let fixture = plan(shared(), &["large"]).build();
    let produce = || drop(fixture.broker.event("large", 0, json!({"type": "t", "data": "x".repeat(BYTES)})));
    let is_whole = |event: &Value| event["data"].as_str().map(str::len) == Some(BYTES);
    // One after the other: whoever does not read so much for long is cut off.
    let mut sse = fixture.get("/events").sse();
    produce();
    assert!(is_whole(&sse.event().json()));
    drop(sse);
    let mut ndjson = fixture.get("/stream").ndjson();
    produce();
    assert!(is_whole(&ndjson.event()));
    drop(ndjson);
    let mut socket = fixture.get("/ws").websocket();
    produce();
    assert!(is_whole(&socket.event()["data"]));
    let next = fixture.broker.event("large", 0, json!({"type": "t", "data": 1}));
    assert_eq!(socket.ids(1), [next]);
}
