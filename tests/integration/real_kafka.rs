//! Apache Kafka itself: produce to event, a crash under live streams, codecs, TLS and SASL, keys and many partitions.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::real::{fixture, fixture_on, plan, shared, start};

/// A record whose repetition any codec makes use of, in bytes.
const COMPRESSIBLE: usize = 2_000;
/// How many events are produced around a crash, when it comes, and up to where they are sent without a broker.
const EVENTS: usize = 300;
const CRASH_AFTER: usize = 100;
const SENT_INTO_THE_OUTAGE: usize = 200;
/// Between two events, so that the crash finds the producer at work.
const PACE: Duration = Duration::from_millis(2);

#[test]
fn a_record_arrives_on_every_transport() {
    let fixture = fixture(&[("first", 1)]);
    let mut sse = fixture.get("/events").sse();
    let mut ndjson = fixture.get("/stream").ndjson();
    let mut socket = fixture.get("/ws").websocket();
    let id = fixture.broker.event("first", 0, json!({"type": "order-created", "orderId": "o1", "data": {"n": 1}}));
    let event = sse.event().json();
    assert_eq!(event["id"], id);
    assert!(event["ts"].as_i64().is_some_and(|ts| ts > 0), "Kafka's timestamp: {event}");
    let rest = (&event["type"], &event["orderId"], &event["data"]);
    assert_eq!(rest, (&json!("order-created"), &json!("o1"), &json!({"n": 1})));
    assert_eq!(ndjson.event()["data"], json!({"n": 1}));
    assert_eq!(socket.event()["data"], event);
}

#[test]
fn a_crash_of_the_broker_costs_no_stream_anything() {
    let mut node = start("crash");
    let fixture = fixture_on(&node, &[("crash", 1)]);
    let mut sse = fixture.get("/events").sse();
    let mut ndjson = fixture.get("/stream").ndjson();
    let mut socket = fixture.get("/ws").websocket();
    let (back, wait_until_back) = channel();
    let value = json!({"type": "t", "orderId": "o1", "data": 1}).to_string();
    let last = thread::scope(|scope| {
        let address = node.address.clone();
        let value = &value;
        let producer = scope.spawn(move || {
            let paced = (0..EVENTS).map(|n| {
                if n == SENT_INTO_THE_OUTAGE {
                    wait_until_back.recv().unwrap();
                }
                thread::sleep(PACE);
                value.as_bytes()
            });
            Broker::at(&address).produce_all("crash", 0, paced).pop().unwrap()
        });
        let mut seen = sse.ids(CRASH_AFTER);
        node.kill();
        fixture.sidecar.await_metric("notifications_kafka_connected", 0.0);
        assert_eq!(fixture.get("/echo").send().status(), 200);
        node.start_again();
        back.send(()).unwrap();
        let last = producer.join().unwrap();
        // What the producer sent again since it got no receipt is in the log twice: the log is what counts.
        let end: usize = last.rsplit(':').next().unwrap().parse().unwrap();
        let log: Vec<_> = (0..=end).map(|offset| format!("crash:0:{offset}")).collect();
        assert!(log.len() >= EVENTS);
        seen.extend(sse.ids(log.len() - seen.len()));
        assert_eq!(seen, log);
        assert_eq!(ndjson.ids(log.len()), log);
        assert_eq!(socket.ids(log.len()), log);
        last
    });
    assert!(fixture.get(&format!("/stream?since={last}")).open().0.status == 200);
    fixture.sidecar.await_metric("notifications_kafka_connected", 1.0);
}

#[test]
fn every_codec_of_the_broker_is_read() {
    // The codec's number is in the lowest three bits of a batch's attributes (Kafka's message format, record batch).
    const CODECS: [(&str, u8); 5] = [("uncompressed", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];
    const ATTRIBUTES_LOW_BYTE: usize = 22;
    let admin = Admin::of(&shared().address);
    let topics = CODECS.map(|(codec, _)| format!("codec-{codec}"));
    for (topic, (codec, _)) in topics.iter().zip(CODECS) {
        admin.create_topic(topic, 1, &[("compression.type", codec)]);
    }
    let fixture = plan(shared(), &topics.each_ref().map(String::as_str)).build();
    let mut stream = fixture.get("/stream").ndjson();
    for (topic, (codec, number)) in topics.iter().zip(CODECS) {
        let text = codec.repeat(COMPRESSIBLE / codec.len());
        let id = fixture.broker.event(topic, 0, json!({"type": "t", "data": text}));
        let event = stream.event();
        assert_eq!((&event["id"], &event["data"]), (&json!(id), &json!(text)));
        assert_eq!(shared().segment(topic, 0)[ATTRIBUTES_LOW_BYTE] & 0b111, number, "{codec} on the broker's disk");
    }
}

#[test]
fn a_keys_events_stay_in_order() {
    const ORDERS: [&str; 5] = ["o1", "o2", "o3", "o4", "o5"];
    const ROUNDS: usize = 10;
    /// Where the producer's partitioner decides, by key.
    const BY_KEY: i32 = -1;
    let fixture = fixture(&[("keyed", 6)]);
    let mut streams = ORDERS.map(|order| fixture.get(&format!("/orders/{order}/stream")).ndjson());
    let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for n in 0..ROUNDS {
        for order in ORDERS {
            let value = json!({"type": "t", "orderId": order, "data": n}).to_string();
            let id = fixture.broker.produce("keyed", BY_KEY, Some(order), Some(value.as_bytes()));
            wanted.entry(order).or_default().push(id);
        }
    }
    for (order, stream) in ORDERS.iter().zip(&mut streams) {
        assert_eq!(stream.ids(ROUNDS), wanted[order]);
    }
}

#[test]
fn three_topics_of_six_partitions_resume_exactly_over_a_restart() {
    const TOPICS: [(&str, i32); 3] = [("wide-a", 6), ("wide-b", 6), ("wide-c", 6)];
    const ROUNDS: usize = 10;
    let mut fixture = fixture(&TOPICS);
    let mut stream = fixture.get("/stream").ndjson();
    let mut wanted = Vec::new();
    for n in 0..ROUNDS {
        for (topic, partitions) in TOPICS {
            for partition in 0..partitions {
                wanted.push(fixture.broker.event(topic, partition, json!({"type": "t", "data": n})));
            }
        }
    }
    let seen = stream.ids(wanted.len() / 3);
    let cursor = stream.cursor.take().unwrap();
    fixture.restart();
    let left = wanted.len() - seen.len();
    for resumed in [
        fixture.get(&format!("/stream?since={cursor}")).ndjson().ids(left),
        fixture.get("/events").header("Last-Event-ID", &cursor).sse().ids(left),
        fixture.get(&format!("/ws?since={cursor}")).websocket().ids(left),
    ] {
        assert_in_order_of_partitions(&[seen.clone(), resumed].concat(), &wanted);
    }
}

/// All of them, each once, and those of one partition in the order they were produced.
#[track_caller]
fn assert_in_order_of_partitions(seen: &[String], wanted: &[String]) {
    let by_partition = |ids: &[String]| {
        let mut partitions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in ids {
            let (partition, offset) = id.rsplit_once(':').unwrap();
            partitions.entry(partition.to_owned()).or_default().push(offset.to_owned());
        }
        partitions
    };
    assert_eq!(by_partition(seen), by_partition(wanted));
}
