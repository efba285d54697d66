//! What stops a partition of Apache Kafka: a transaction that hangs, and batches that the client cannot read.

use rdkafka::producer::Producer;
use serde_json::json;

use crate::support::admin::{Admin, produce_batch};
use crate::support::fixture::Fixture;
use crate::support::real::{fixture, plan, shared};
use crate::support::sse::{Record, Sse};
use crate::support::{DEADLINE, eventually_true};

/// The client takes responses and decompressed batches of at most 2 MB.
const SMALL_RESPONSES: &str =
    "properties: { message.max.bytes: 1000000, fetch.max.bytes: 1000000, receive.message.max.bytes: 2000000 }";

fn of_partition(fixture: &Fixture, metric: &str, topic: &str) -> Option<f64> {
    fixture.sidecar.metric(&format!("{metric}{{partition=\"0\",topic=\"{topic}\"}}"))
}

#[test]
fn a_transaction_that_hangs_shows_in_the_metrics_though_the_lag_is_0() {
    let fixture = fixture(&[("hanging", 1)]);
    let mut stream = fixture.get("/stream").ndjson();
    let first = fixture.broker.event("hanging", 0, json!({"type": "t", "data": 0}));
    assert_eq!(stream.ids(1), [first]);
    let values: Vec<_> = (1..4).map(|n| json!({"type": "t", "data": n}).to_string()).collect();
    let producer = Admin::of(&shared().address).open_transaction("hanging", &values);
    let behind = fixture.broker.event("hanging", 0, json!({"type": "t", "data": 4}));
    eventually_true("the records kept back are counted, and for how long", || {
        of_partition(&fixture, "notifications_kafka_uncommitted_offsets", "hanging") == Some(4.0)
            && of_partition(&fixture, "notifications_kafka_stalled_seconds", "hanging") >= Some(2.0)
            && of_partition(&fixture, "kafka_consumer_lag", "hanging") == Some(0.0)
    });
    assert_eq!(fixture.sidecar.admin("/readyz").status(), 200, "the rest is served");
    producer.abort_transaction(DEADLINE).unwrap();
    assert_eq!(stream.ids(1), [behind]);
    eventually_true("all is read", || {
        of_partition(&fixture, "notifications_kafka_uncommitted_offsets", "hanging") == Some(0.0)
            && of_partition(&fixture, "notifications_kafka_stalled_seconds", "hanging") == Some(0.0)
            && of_partition(&fixture, "kafka_consumer_lag", "hanging") == Some(0.0)
    });
}

#[test]
fn a_batch_that_cannot_be_read_is_reported_and_passed_live_and_in_replay() {
    Admin::of(&shared().address).create_topic("poison", 1, &[("max.message.bytes", "10000000")]);
    let mut fixture = plan(shared(), &["poison"])
        .kafka(SMALL_RESPONSES)
        .with("topics: { poison: { replay: { events: 2 } } }")
        .build();
    let value = |bytes: usize| json!({"type": "t", "data": "a".repeat(bytes)}).to_string();
    let mut stream = fixture.get("/events").sse();
    let first = fixture.broker.event("poison", 0, json!({"type": "t", "data": 0}));
    // A bomb of 30 records, 3 MB when it is decompressed, and a record larger than a response.
    produce_batch(&shared().address, "poison", "zstd", 30, &value(100_000));
    let between = fixture.broker.event("poison", 0, json!({"type": "t", "data": 1}));
    produce_batch(&shared().address, "poison", "none", 1, &value(3_000_000));
    let last: Vec<_> = (2..6).map(|n| fixture.broker.event("poison", 0, json!({"type": "t", "data": n}))).collect();
    let all = [
        first.clone(),
        "gap unreadable 1-30".into(),
        between,
        "gap unreadable 32-32".into(),
        last[0].clone(),
        last[1].clone(),
        last[2].clone(),
        last[3].clone(),
    ];
    assert_eq!(std::array::from_fn(|_| shown(&stream.event())), all);
    assert_eq!(fixture.sidecar.metric("notifications_kafka_unreadable_batches_total{topic=\"poison\"}"), Some(2.0));
    // Another replica, which reads the end of the log only, and the rest for those who resume.
    fixture.restart();
    let mut stream = fixture.get(&format!("/stream?since={first}")).ndjson();
    let mut next = || {
        let event = stream.event();
        if event["type"] == "gap" { summary(&event) } else { event["id"].as_str().unwrap().to_owned() }
    };
    assert_eq!(std::array::from_fn::<_, 7, _>(|_| next()), all[1..]);
}

/// Records of 1 MB of one letter, which exceed what a client may decompress.
#[test]
fn a_small_batch_that_expands_to_hundreds_of_megabytes_is_reported_and_passed() {
    let admin = Admin::of(&shared().address);
    for (codec, records, compressed_max) in
        [("zstd", 300, 40_000), ("gzip", 300, 400_000), ("lz4", 300, 2_000_000), ("snappy", 150, 8_000_000)]
    {
        let topic = format!("bomb-{codec}");
        admin.create_topic(&topic, 1, &[("max.message.bytes", "10000000")]);
        let fixture = plan(shared(), &[&topic]).build();
        let idle = fixture.sidecar.resident_kib();
        let mut stream = fixture.get("/events").sse();
        let first = fixture.broker.event(&topic, 0, json!({"type": "t", "data": 0}));
        let before = shared().segment(&topic, 0).len();
        produce_batch(&shared().address, &topic, codec, records, &"a".repeat(1_000_000));
        assert!(shared().segment(&topic, 0).len() - before < compressed_max, "{codec}: one batch");
        let last = fixture.broker.event(&topic, 0, json!({"type": "t", "data": 1}));
        assert_eq!(last, format!("{topic}:0:{}", records + 1));
        let received = [(); 3].map(|()| shown(&stream.event()));
        assert_eq!(received, [first, format!("gap unreadable 1-{records}"), last], "{codec}");
        let batches = format!("notifications_kafka_unreadable_batches_total{{topic=\"{topic}\"}}");
        assert_eq!(fixture.sidecar.metric(&batches), Some(1.0));
        let peak = fixture.sidecar.peak_kib();
        println!("{codec}: idle {idle} KiB, at most {peak} KiB");
        // The formula counts 128 MiB for the clients of a cluster.
        assert!(peak - idle <= 128 << 10, "{codec}: {idle} KiB, then {peak} KiB");
    }
}

/// librdkafka drops the rest of a response behind such a batch, and fetches it again: the partition stalls.
#[test]
fn batches_with_wrong_checksums_are_reported_live_and_in_replay() {
    let node = shared();
    Admin::of(&node.address).create_topic("corrupt", 1, &[]);
    let mut fixture = plan(node, &["corrupt"])
        .kafka("properties: { check.crcs: true }")
        .with("topics: { corrupt: { replay: { events: 2 } } }")
        .build();
    let event = |n: i64| fixture.broker.event("corrupt", 0, json!({"type": "t", "data": n}));
    let mut live = fixture.get("/events").sse();
    let first = event(0);
    assert_eq!(live.ids(1), std::slice::from_ref(&first));
    // Two in the middle of a response, and the last of the log.
    fixture.sidecar.signal("STOP");
    (1..8).for_each(|n| drop(event(n)));
    let lost = [2, 3, 7];
    lost.iter().for_each(|offset| node.corrupt("corrupt", *offset));
    fixture.sidecar.signal("CONT");
    let wanted: Vec<_> = (1..9).map(|offset| (offset, lost.contains(&offset))).collect();
    assert_eq!(up_to(&mut live, 7), wanted[..7]);
    let last = event(8);
    assert_eq!(live.ids(1), [last]);
    fixture.restart();
    let mut resumed = fixture.get("/events").header("Last-Event-ID", &first).sse();
    assert_eq!(up_to(&mut resumed, 8), wanted);
}

/// The offsets that a stream names up to this one, and whether each is in a gap.
fn up_to(stream: &mut Sse, last: i64) -> Vec<(i64, bool)> {
    let mut offsets: Vec<(i64, bool)> = Vec::new();
    while offsets.last().is_none_or(|(offset, _)| *offset < last) {
        let record = stream.event();
        if record.event.as_deref() == Some("gap") {
            let gap = record.json();
            let range = &gap["ranges"][0];
            assert_eq!(gap["cause"], "unreadable");
            offsets
                .extend((range["from"].as_i64().unwrap()..=range["to"].as_i64().unwrap()).map(|offset| (offset, true)));
        } else {
            offsets.push((record.event_id().rsplit(':').next().unwrap().parse().unwrap(), false));
        }
    }
    offsets
}

fn shown(record: &Record) -> String {
    match record.event.as_deref() {
        Some("gap") => summary(&record.json()),
        _ => record.event_id(),
    }
}

fn summary(gap: &serde_json::Value) -> String {
    let range = &gap["ranges"][0];
    format!("gap {} {}-{}", gap["cause"].as_str().unwrap(), range["from"], range["to"])
}
