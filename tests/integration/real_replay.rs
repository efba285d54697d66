//! Replay from the log of topics with many partitions, on Apache Kafka with its own settings: every form of position,
//! and questions to the brokers that no fetch holds up.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::eventually_true;
use crate::support::fixture::Fixture;
use crate::support::real::{plan_at, shared};
use crate::support::real_broker::RealBroker;
use crate::support::wiretap::{FETCH, LIST_OFFSETS, Wiretap};

/// Events of each partition.
const EVENTS: usize = 20;

/// A fixture whose window holds next to nothing of the topic, and the ids of what is in its log.
fn fixture(brokers: &str, topic: &str, partitions: i32) -> (Fixture, Vec<String>) {
    Admin::of(brokers).create_topic(topic, partitions, &[]);
    let settings = format!("topics: {{ {topic}: {{ replay: {{ events: 1 }} }} }}");
    let fixture = plan_at(brokers, &[topic]).with(&settings).build();
    let value = json!({"type": "t", "orderId": "o", "data": "x".repeat(100)}).to_string();
    let mut ids = Vec::new();
    for partition in 0..partitions {
        ids.extend(fixture.broker.produce_all(topic, partition, (0..EVENTS).map(|_| value.as_bytes())));
    }
    let read = format!("notifications_kafka_records_total{{topic=\"{topic}\"}}");
    fixture.sidecar.await_metric(&read, ids.len() as f64);
    (fixture, ids)
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

fn every_position_is_answered_with_the_whole_log(topic: &str, partitions: i32) {
    let (fixture, ids) = fixture(&shared().address, topic, partitions);
    let wanted = sorted(ids.clone());
    for since in ["1970-01-01T00:00:00Z", "-1h"] {
        let path = format!("/stream?since={since}");
        assert_eq!(sorted(fixture.get(&path).ndjson().ids(ids.len())), wanted, "{path}");
        let path = format!("/events?since={since}");
        assert_eq!(sorted(fixture.get(&path).sse().ids(ids.len())), wanted, "{path}");
    }
    // A cursor that names all partitions: that of the first of all events.
    let mut stream = fixture.get("/events?since=1970-01-01T00:00:00Z").sse();
    let first = stream.event();
    let cursor = first.id.clone().expect("an id");
    let rest = sorted(ids.iter().filter(|id| **id != first.event_id()).cloned().collect());
    assert_eq!(sorted(fixture.get("/events").header("Last-Event-ID", &cursor).sse().ids(rest.len())), rest);
    assert_eq!(sorted(fixture.get(&format!("/stream?since={cursor}")).ndjson().ids(rest.len())), rest);
    // An event alone: what came in the other partitions about that time is sent again.
    let bare = first.event_id();
    assert_eq!(sorted(fixture.get("/events").header("Last-Event-ID", &bare).sse().ids(rest.len())), rest);
    assert_eq!(sorted(fixture.get(&format!("/stream?since={bare}")).ndjson().ids(rest.len())), rest);
}

#[test]
fn twelve_partitions_are_read_from_every_position() {
    every_position_is_answered_with_the_whole_log("replay-12", 12);
}

#[test]
fn more_partitions_than_are_read_at_a_time_are_read_from_every_position() {
    every_position_is_answered_with_the_whole_log("replay-100", 100);
}

#[test]
fn many_clients_at_once_get_the_whole_log() {
    const CLIENTS: usize = 100;
    let (fixture, ids) = fixture(&shared().address, "replay-many", 12);
    let wanted = sorted(ids);
    let mut streams: Vec<_> =
        (0..CLIENTS).map(|n| fixture.get(&format!("/stream?since=-{}s", 600 + n)).ndjson()).collect();
    for stream in &mut streams {
        assert_eq!(sorted(stream.ids(wanted.len())), wanted);
    }
}

/// A broker answers the requests of one connection in order: a question behind a fetch waits as long as that waits for
/// records.
#[test]
fn no_question_shares_a_connection_with_a_fetch() {
    let (tap, listener) = Wiretap::listen();
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-logs/kafka");
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let node = RealBroker::start_behind("wiretap", &place, &logs, &[tap.address]);
    tap.forward(listener, node.behind[0]);
    let (fixture, ids) = fixture(&tap.address.to_string(), "tapped", 12);
    let stream = || fixture.get("/stream?since=1970-01-01T00:00:00Z").ndjson();
    assert_eq!(sorted(stream().ids(ids.len())), sorted(ids.clone()));
    // The survey asks about partitions that were added, while records are fetched.
    let admin = Admin::of(&node.address);
    admin.grow("tapped", 13);
    let id = Broker::at(&node.address).event("tapped", 12, json!({"type": "t", "data": 1}));
    eventually_true("an event of the new partition", || stream().ids(ids.len() + 1).contains(&id));
    let connections = tap.connections();
    let carried = |api: i16| connections.iter().filter(move |seen| seen.contains(&api));
    assert!(carried(FETCH).count() > 0 && carried(LIST_OFFSETS).count() > 0, "{connections:?}");
    assert_eq!(carried(FETCH).filter(|seen| seen.contains(&LIST_OFFSETS)).count(), 0, "{connections:?}");
}
