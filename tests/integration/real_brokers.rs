//! A cluster of three brokers, one of which dies: the partitions of the others do not wait for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// The partition of a broker that is away at start joins once the broker is back.
#[test]
fn streams_start_without_the_partition_of_a_broker_that_is_away() {
    let mut nodes = start_three("three-start");
    let brokers = addresses(&nodes);
    Admin::of(&brokers).create_topic_on("orders", &[&[1], &[2], &[3]]);
    let mut fixture = plan_at(&brokers, &["orders"]).with("topics: { orders: { replay: { events: 2 } } }").build();
    let mut first = fixture.get("/events").sse();
    let old: Vec<Vec<String>> = (0..3).map(|partition| produce(&fixture.broker, partition, 5)).collect();
    let records: Vec<_> = (0..15).map(|_| first.event()).collect();
    let cursor = records[14].id.clone().expect("an id");
    nodes[2].kill();
    fixture.restart();

    let mut live = fixture.get("/stream").ndjson();
    let mut resumed = fixture.get("/events").header("Last-Event-ID", &cursor).sse();
    let mut by_time = fixture.get("/events?since=1970-01-01T00:00:00Z").sse();
    let mut by_id = fixture.get(&format!("/stream?since={}", old[0][4])).ndjson();
    let mut sent: Vec<String> = (0..2).flat_map(|partition| produce(&fixture.broker, partition, 3)).collect();
    sent.sort();
    assert_eq!([sorted(live.ids(6)), sorted(resumed.ids(6))], [sent.clone(), sent.clone()]);
    let mut of_two = [&old[..2].concat()[..], &sent].concat();
    of_two.sort();
    assert_eq!(sorted(by_time.ids(16)), of_two);
    // All that the other partitions got about its time is sent again.
    assert_eq!(sorted(by_id.ids(11)), of_two[5..]);

    nodes[2].start_again();
    let new = produce(&fixture.broker, 2, 3);
    assert_eq!(resumed.ids(3), new, "it has a position in the partition, and nothing comes twice");
    let of_third = [&old[2][..], &new].concat();
    assert_eq!([by_time.ids(8), by_id.ids(8)], [of_third.clone(), of_third.clone()]);
    // It has none, and receives what is not older than a minute.
    assert_eq!(live.ids(8), of_third);
    let sent = produce(&fixture.broker, 2, 1);
    assert_eq!([live.ids(1), by_id.ids(1)], [sent.clone(), sent.clone()]);
    assert_eq!([resumed.ids(1), by_time.ids(1)], [sent.clone(), sent]);
}

/// Producers choose the times of records. A stream that was open reports what it may lack because of that.
#[test]
fn streams_report_what_they_may_lack_of_a_partition_that_joins() {
    const OLD: usize = 300;
    let mut nodes = start_three("three-old");
    let brokers = addresses(&nodes);
    Admin::of(&brokers).create_topic_on("orders", &[&[1], &[3]]);
    let settings = "topics: { orders: { replay: { events: 2 } } }\nreplay: { events: 100 }";
    let mut fixture = plan_at(&brokers, &["orders"]).with(settings).build();
    let old = |n: usize| format!(r#"{{"type":"t","orderId":"o","data":{n}}}"#);
    let two_hours_ago = (SystemTime::now() - Duration::from_secs(7200)).duration_since(UNIX_EPOCH).unwrap();
    let ms = |n: usize| two_hours_ago.as_millis() as i64 + n as i64;
    (0..OLD).for_each(|n| drop(fixture.broker.produce_at("orders", 1, ms(n), old(n).as_bytes())));
    nodes[2].kill();
    fixture.restart();

    let mut live = fixture.get("/events").sse();
    let (mut leaves, mut returns) = (fixture.get("/events").sse(), fixture.get("/stream").ndjson());
    let sent = produce(&fixture.broker, 0, 1);
    let record = leaves.event();
    assert_eq!([record.event_id(), live.event().event_id()], [sent[0].clone(), sent[0].clone()]);
    let cursor = record.id.clone().expect("an id");
    assert_eq!(returns.ids(1), sent);
    let since = format!("/stream?since={}", returns.cursor.as_deref().expect("a cursor"));
    drop((leaves, returns));

    nodes[2].start_again();
    let new = produce(&fixture.broker, 1, 2);
    let is_gap = |value: &serde_json::Value| {
        assert_eq!(value["cause"], "unavailable", "{value}");
        assert_eq!(value["ranges"], json!([{"topic": "orders", "partition": 1, "from": 0, "to": OLD - 1}]));
    };
    is_gap(&live.event().json());
    assert_eq!(live.ids(2), new);
    // Clients that come back to this process, or to another one, receive the same: the log has more than they may
    // replay, but what they lack is not as old.
    for _ in 0..2 {
        let mut sse = fixture.get("/events").header("Last-Event-ID", &cursor).sse();
        is_gap(&sse.event().json());
        assert_eq!(sse.ids(2), new);
        let mut ndjson = fixture.get(&since).ndjson();
        is_gap(&ndjson.event());
        assert_eq!(ndjson.ids(2), new);
        fixture.restart();
    }
}

#[test]
fn replay_by_time_from_the_other_brokers_goes_on() {
    let mut nodes = start_three("three-time");
    let brokers = addresses(&nodes);
    Admin::of(&brokers).create_topic_on("orders", &[&[1], &[2], &[3]]);
    let fixture = plan_at(&brokers, &["orders"]).with("topics: { orders: { replay: { events: 1 } } }").build();
    let sent: Vec<Vec<String>> = (0..3).map(|partition| produce(&fixture.broker, partition, 20)).collect();
    fixture.sidecar.await_metric("notifications_kafka_records_total{topic=\"orders\"}", 60.0);
    nodes[2].kill();
    let since = "since=1970-01-01T00:00:00Z";
    let mut sse = fixture.get(&format!("/events?{since}")).sse();
    let mut ndjson = fixture.get(&format!("/stream?{since}")).ndjson();
    let of_two = sorted(sent[..2].concat());
    assert_eq!([sorted(sse.ids(40)), sorted(ndjson.ids(40))], [of_two.clone(), of_two]);
    let more = produce(&fixture.broker, 0, 1);
    assert_eq!([sse.ids(1), ndjson.ids(1)], [more.clone(), more]);
    nodes[2].start_again();
    assert_eq!([sse.ids(20), ndjson.ids(20)], [sent[2].clone(), sent[2].clone()]);
}

/// More partitions of a silent broker than are read at a time.
#[test]
fn partitions_of_a_silent_broker_leave_room_for_the_others() {
    const SILENT: i32 = 130;
    let mut nodes = start_three("three-many");
    let brokers = addresses(&nodes);
    let leaders: Vec<&[i32]> = (0..=SILENT).map(|n| if n < SILENT { &[3][..] } else { &[1] }).collect();
    Admin::of(&brokers).create_topic_on("orders", &leaders);
    let fixture = plan_at(&brokers, &["orders"]).with("topics: { orders: { replay: { events: 1 } } }").build();
    let mut live = fixture.get("/events").sse();
    let cursor = live.record().and_then(|record| record.id).expect("the position at the start");
    let sent: Vec<_> = (0..=SILENT).flat_map(|partition| produce(&fixture.broker, partition, 2)).collect();
    fixture.sidecar.await_metric("notifications_kafka_records_total{topic=\"orders\"}", sent.len() as f64);
    nodes[2].kill();
    let mut resumed = fixture.get("/events").header("Last-Event-ID", &cursor).sse();
    assert_eq!(resumed.ids(2), sent[sent.len() - 2..]);
    nodes[2].start_again();
    let silent = &sent[..sent.len() - 2];
    assert_eq!(sorted(resumed.ids(silent.len())), sorted(silent.to_vec()));
    let more = produce(&fixture.broker, 0, 1);
    assert_eq!(resumed.ids(1), more);
}

fn produce(broker: &Broker, partition: i32, count: usize) -> Vec<String> {
    let value = json!({"type": "t", "orderId": "o", "data": 1}).to_string();
    broker.produce_all("orders", partition, (0..count).map(|_| value.as_bytes()))
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}
