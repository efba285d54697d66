//! What happens to a log on Apache Kafka: partitions added, transactions, records deleted, compaction, a new topic.

use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::eventually_true;
use crate::support::fixture::Fixture;
use crate::support::real::{fixture, plan, shared};
use crate::support::sse::Sse;

#[test]
fn added_partitions_are_read_from_their_start() {
    let fixture = fixture(&[("growing", 1)]);
    let mut stream = fixture.get("/stream").ndjson();
    let id = fixture.broker.event("growing", 0, json!({"type": "t", "data": 0}));
    assert_eq!(stream.ids(1), [id]);
    Admin::of(&shared().address).grow("growing", 3);
    // A producer that does not remember how many there were.
    let producer = Broker::at(&shared().address);
    for partition in [2, 1, 0] {
        let id = producer.event("growing", partition, json!({"type": "t", "data": partition}));
        assert_eq!(stream.ids(1), [id]);
    }
}

#[test]
fn aborted_records_never_appear_and_leave_no_gap() {
    let mut fixture = fixture(&[("transactions", 1)]);
    let admin = Admin::of(&shared().address);
    let values = |kind: &str| -> Vec<String> { (0..3).map(|n| json!({"type": kind, "data": n}).to_string()).collect() };
    let mut live = fixture.get("/stream").ndjson();
    // Offsets 0 to 2 and a control record, then 4 to 6 and another.
    admin.transaction("transactions", &values("aborted"), false);
    admin.transaction("transactions", &values("committed"), true);
    let last = fixture.broker.event("transactions", 0, json!({"type": "plain", "data": 3}));
    let wanted = ["transactions:0:4", "transactions:0:5", "transactions:0:6", &last];
    assert_eq!(last, "transactions:0:8");
    assert_eq!(live.ids(4), wanted);
    // The log ends with records that are none.
    admin.transaction("transactions", &values("aborted"), false);
    fixture.restart();
    for since in ["transactions:0:1", "transactions:0:3"] {
        assert_eq!(fixture.get(&format!("/stream?since={since}")).ndjson().ids(4), wanted);
        assert_eq!(fixture.get("/events").header("Last-Event-ID", since).sse().ids(4), wanted);
    }
    let mut resumed = fixture.get(&format!("/stream?since={last}")).ndjson();
    let next = fixture.broker.event("transactions", 0, json!({"type": "plain", "data": 4}));
    assert_eq!(resumed.ids(1), [next]);
}

/// Where a log begins says nothing of what stood before: a cursor has to pass control records while they are there.
#[test]
fn control_records_that_retention_took_are_no_gap() {
    for (topic, partitions) in [("quiet", 2), ("quiet-alone", 1)] {
        let mut fixture = fixture(&[(topic, partitions)]);
        let admin = Admin::of(&shared().address);
        let event = |n: i32| json!({"type": "t", "data": n});
        let mut live = fixture.get("/stream").ndjson();
        // A record and its control record.
        admin.transaction(topic, &[event(0).to_string()], true);
        let seen = cursor(&live.event());
        admin.delete_before(topic, 2);
        assert_goes_on(&mut fixture, topic, &seen);

        // Offset 2 is an event's. Two records of an aborted transaction and its control record follow; later events say
        // where the stream stands.
        let mut live = fixture.get("/stream").ndjson();
        admin.transaction(topic, &[event(1).to_string(), event(2).to_string()], false);
        let mut seen = String::new();
        eventually_true("a cursor behind the control record", || {
            fixture.broker.event(topic, partitions - 1, event(3));
            seen = cursor(&live.event());
            position(topic, &seen) >= 6
        });
        if partitions > 1 {
            admin.delete_before(topic, 6);
        }
        assert_goes_on(&mut fixture, topic, &seen);
    }
}

/// On a replica that read nothing of what its log no longer holds.
fn assert_goes_on(fixture: &mut Fixture, topic: &str, since: &str) {
    fixture.restart();
    let mut lines = fixture.get(&format!("/stream?since={since}")).ndjson();
    let mut records = fixture.get("/events").header("Last-Event-ID", since).sse();
    let next = fixture.broker.event(topic, 0, json!({"type": "t", "data": "next"}));
    assert_eq!((lines.ids(1), records.ids(1)), (vec![next.clone()], vec![next]), "{topic} since {since}");
}

/// The cursor of an event, as the protocol says where it is.
fn cursor(event: &Value) -> String {
    event.get("cursor").unwrap_or_else(|| &event["id"]).as_str().unwrap().to_owned()
}

/// The position in partition 0.
fn position(topic: &str, cursor: &str) -> i64 {
    use sidestream::cursor::{Cursor, Positions};
    let cursor: Cursor = cursor.parse().unwrap();
    let positions = cursor.opaque.and_then(|opaque| Positions::decode(&opaque, &[topic.into()]));
    positions.map_or(cursor.id.offset + 1, |positions| positions.0[0].next[0])
}

/// Half of the offsets are those of control records: the limit is one of events.
#[test]
fn control_records_do_not_count_towards_the_replay_limit() {
    const EVENTS: i64 = 30;
    let admin = Admin::of(&shared().address);
    admin.create_topic("markers", 1, &[]);
    let mut fixture = plan(shared(), &["markers"])
        .with("topics: { markers: { replay: { events: 2 } } }\nreplay: { events: 40 }")
        .build();
    for n in 0..EVENTS {
        admin.transaction("markers", &[json!({"type": "t", "data": n}).to_string()], true);
    }
    fixture.restart();
    let wanted: Vec<_> = (1..EVENTS).map(|n| format!("markers:0:{}", 2 * n)).collect();
    assert_eq!(fixture.get("/stream?since=markers:0:0").ndjson().ids(wanted.len()), wanted);
    assert_eq!(fixture.get("/events").header("Last-Event-ID", "markers:0:0").sse().ids(wanted.len()), wanted);
    // There are more events than that now: the oldest are left out.
    (0..2 * EVENTS).for_each(|n| drop(fixture.broker.event("markers", 0, json!({"type": "t", "data": n}))));
    let refused = fixture.get("/stream?since=markers:0:0").send();
    assert_eq!((refused.status(), &refused.json()["cause"]), (410, &json!("replay-limit")));
}

#[test]
fn a_log_that_ends_with_records_of_nobody_is_warm_at_once() {
    let admin = Admin::of(&shared().address);
    admin.create_topic("nobodys", 1, &[]);
    admin.transaction("nobodys", &[json!({"type": "t", "data": 1}).to_string()], false);
    // Readiness would not come by time.
    let fixture = plan(shared(), &["nobodys"]).kafka("warm_up: 600s").build();
    let id = fixture.broker.event("nobodys", 0, json!({"type": "t", "data": 2}));
    assert_eq!(fixture.get("/stream?since=nobodys:0:1").ndjson().ids(1), [id]);
}

#[test]
fn records_deleted_under_a_live_stream_are_reported() {
    let fixture = fixture(&[("cut", 1)]);
    let mut stream = fixture.get("/events").sse();
    let first = fixture.broker.event("cut", 0, json!({"type": "t", "data": 0}));
    assert_eq!(stream.ids(1), [first]);
    let last = while_stopped(&fixture, || {
        let ids: Vec<_> = (1..10).map(|n| fixture.broker.event("cut", 0, json!({"type": "t", "data": n}))).collect();
        Admin::of(&shared().address).delete_before("cut", 6);
        ids.last().unwrap().clone()
    });
    assert!(assert_all_or_reported(&mut stream, 1, &last) > 0, "what was deleted is reported");
}

#[test]
fn records_that_grew_too_old_under_a_live_stream_are_reported() {
    let admin = Admin::of(&shared().address);
    admin.create_topic("aged", 1, &[("retention.ms", "1000")]);
    let fixture = plan(shared(), &["aged"]).build();
    let mut stream = fixture.get("/events").sse();
    let last = while_stopped(&fixture, || {
        (0..6).for_each(|n| drop(fixture.broker.event("aged", 0, json!({"type": "t", "data": n}))));
        eventually_true("all of them too old", || admin.start_of("aged") == 6);
        admin.configure("aged", &[("retention.ms", "-1")]);
        fixture.broker.event("aged", 0, json!({"type": "t", "data": 6}))
    });
    assert!(assert_all_or_reported(&mut stream, 0, &last) > 0, "what is gone is reported");
}

#[test]
fn deleted_records_are_reported() {
    let mut fixture = fixture(&[("deleted", 1)]);
    let ids: Vec<_> = (0..10).map(|n| fixture.broker.event("deleted", 0, json!({"type": "t", "data": n}))).collect();
    Admin::of(&shared().address).delete_before("deleted", 6);
    fixture.restart();
    let mut stream = fixture.get("/events").header("Last-Event-ID", &ids[2]).sse();
    let gap = stream.event();
    assert_eq!(gap.event.as_deref(), Some("gap"));
    let gap = gap.json();
    let lost = json!([{"topic": "deleted", "partition": 0, "from": 3, "to": 5}]);
    assert_eq!((&gap["cause"], &gap["ranges"]), (&json!("retention"), &lost));
    assert_eq!(stream.ids(4), ids[6..]);
    let refused = fixture.get(&format!("/stream?since={}", ids[2])).send();
    assert_eq!((refused.status(), &refused.json()["ranges"]), (410, &lost));
}

#[test]
fn tombstones_are_deletes_and_what_compaction_took_is_no_gap() {
    let node = shared();
    let admin = Admin::of(&node.address);
    let eager = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("segment.ms", "200"),
        ("max.compaction.lag.ms", "200"),
    ];
    admin.create_topic("compacted", 1, &eager);
    // More than are produced until the broker gets round to it.
    let window = "topics: { compacted: { replay: { events: 10000 } } }";
    let mut fixture = plan(node, &["compacted"]).with(window).build();
    let mut live = fixture.get("/stream").ndjson();
    let value = |n: usize| json!({"type": "t", "orderId": "o1", "data": n}).to_string();
    let mut ids: Vec<_> =
        (0..5).map(|n| fixture.broker.produce("compacted", 0, Some("o1"), Some(value(n).as_bytes()))).collect();
    ids.push(fixture.broker.produce("compacted", 0, Some("o2"), None));
    assert_eq!(live.ids(5), ids[..5]);
    let tombstone = live.event();
    assert_eq!(
        (&tombstone["id"], &tombstone["type"], &tombstone["key"], &tombstone["data"]),
        (&json!(ids[5]), &json!("delete"), &json!("o2"), &Value::Null)
    );
    // The active segment is never compacted: a record of another key starts a new one, once it is old enough.
    eventually_true("the first segment compacted", || {
        ids.push(fixture.broker.produce("compacted", 0, Some("o3"), Some(value(9).as_bytes())));
        first_segment_lost_values(&node.segment("compacted", 0), 4)
    });
    fixture.restart();
    let mut stream = fixture.get(&format!("/stream?since={}", ids[0])).ndjson();
    let first = stream.event();
    assert_eq!((&first["id"], &first["data"]), (&json!(ids[4]), &json!(4)), "the newest of its key, and no gap");
    assert_eq!(stream.event()["id"], json!(ids[5]));
}

#[test]
fn a_topic_recreated_is_reported_and_read() {
    let fixture = fixture(&[("recreated", 1)]);
    let admin = Admin::of(&shared().address);
    let mut stream = fixture.get("/events").sse();
    let ids: Vec<_> = (0..5).map(|n| fixture.broker.event("recreated", 0, json!({"type": "t", "data": n}))).collect();
    assert_eq!(stream.ids(5), ids);
    admin.delete_topic("recreated");
    admin.create_topic("recreated", 1, &[]);
    let producer = Broker::at(&shared().address);
    let id = producer.event("recreated", 0, json!({"type": "t", "data": "new"}));
    let gap = stream.event();
    assert_eq!((gap.event.as_deref(), &gap.json()["cause"]), (Some("gap"), &json!("topic-recreated")));
    let event = stream.event();
    assert_eq!((event.event_id(), &event.json()["data"]), (id, &json!("new")));
}

#[test]
fn a_topic_recreated_is_read_from_its_start_though_it_is_longer_already() {
    const NEW: usize = 10;
    let fixture = fixture(&[("longer", 1)]);
    let admin = Admin::of(&shared().address);
    let mut stream = fixture.get("/events").sse();
    let ids: Vec<_> = (0..3).map(|n| fixture.broker.event("longer", 0, json!({"type": "t", "data": n}))).collect();
    assert_eq!(stream.ids(3), ids);
    admin.delete_topic("longer");
    admin.create_topic("longer", 1, &[]);
    let values: Vec<_> = (0..NEW).map(|n| json!({"type": "t", "data": n}).to_string()).collect();
    let new = Broker::at(&shared().address).produce_all("longer", 0, values.iter().map(String::as_bytes));
    // Those that came before the change was seen come again.
    let gap = stream.until("the gap", |record| record.event.as_deref() == Some("gap")).json();
    assert_eq!(gap["cause"], "topic-recreated");
    assert_eq!(stream.ids(NEW), new);
}

/// Does something while the sidecar stands still. It reads one more record afterwards at most that was there before:
/// the answer to the fetch that was under way.
fn while_stopped<T>(fixture: &Fixture, act: impl FnOnce() -> T) -> T {
    fixture.sidecar.signal("STOP");
    let result = act();
    fixture.sidecar.signal("CONT");
    result
}

/// Reads up to the record `last` of partition 0: each offset from `first` on is an event or reported as a gap, once and
/// in order. Gives how many were reported.
#[track_caller]
fn assert_all_or_reported(stream: &mut Sse, first: i64, last: &str) -> usize {
    let (mut next, mut reported) = (first, 0);
    let end: i64 = last.rsplit(':').next().unwrap().parse().unwrap();
    while next <= end {
        let record = stream.event();
        if record.event.as_deref() == Some("gap") {
            let gap = record.json();
            let range = &gap["ranges"][0];
            assert_eq!((&gap["cause"], &range["from"]), (&json!("retention"), &json!(next)));
            let to = range["to"].as_i64().unwrap();
            reported += (to + 1 - next) as usize;
            next = to + 1;
        } else {
            assert_eq!(record.event_id().rsplit(':').next(), Some(&*next.to_string()));
            next += 1;
        }
    }
    reported
}

/// Whether so many of the values are no longer in the segment.
fn first_segment_lost_values(segment: &[u8], count: usize) -> bool {
    let text = String::from_utf8_lossy(segment);
    (0..count).all(|n| !text.contains(&format!("\"data\":{n},")))
}
