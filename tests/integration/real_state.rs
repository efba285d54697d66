//! The state of topics on Apache Kafka: compaction, aborted transactions, many partitions, and a restart between.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan};
use crate::support::ndjson::Ndjson;
use crate::support::real::shared;

const PARTITIONS: i32 = 12;
const KEYS: i32 = 60;

#[test]
fn a_state_is_that_of_the_log_before_and_after_compaction() {
    let node = shared();
    let eager = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("segment.ms", "200"),
        ("max.compaction.lag.ms", "200"),
    ];
    Admin::of(&node.address).create_topic("states", PARTITIONS, &eager);
    let mut fixture = plan_with_state("states").build();
    let mut expected = BTreeMap::new();
    for version in 0..4 {
        (0..KEYS).for_each(|key| put(&fixture, "states", &mut expected, key, Some(version)));
    }
    (0..KEYS).step_by(5).for_each(|key| put(&fixture, "states", &mut expected, key, None));
    await_keys(&fixture, "states", expected.len());
    let before = snapshot(fixture.get("/stream?from=state").ndjson());
    assert_eq!(before.entries, expected);

    // The active segment is never compacted: a record starts a new one, once it is old enough.
    let mut version = 10;
    eventually_true("the first segment compacted", || {
        put(&fixture, "states", &mut expected, 1, Some(version));
        version += 1;
        let segment = node.segment("states", 1);
        let text = String::from_utf8_lossy(&segment);
        (0..3).all(|old| !text.contains(&format!("\"data\":{old},")))
    });
    fixture.restart();
    await_keys(&fixture, "states", expected.len());
    let after = snapshot(fixture.get("/stream?from=state").ndjson());
    assert_eq!(after.entries, expected);

    // The cut of this position is gone with the process.
    let again = snapshot(fixture.get(&format!("/stream?since={}", before.within)).ndjson());
    assert_eq!((&again.reason, &again.entries), (&json!("cut-gone"), &expected));
    let mut resumed = fixture.get(&format!("/stream?since={}", after.end)).ndjson();
    put(&fixture, "states", &mut expected, 2, Some(99));
    assert_eq!(resumed.event()["data"], 99, "the first change after the state, and nothing twice");
}

#[test]
fn a_state_has_nothing_of_an_aborted_transaction() {
    let admin = Admin::of(&shared().address);
    admin.create_topic("transacted-states", PARTITIONS, &[]);
    let fixture = plan_with_state("transacted-states").build();
    let values = |order: &str, data: i32| [json!({ "type": "t", "orderId": order, "data": data }).to_string()];
    admin.transaction("transacted-states", &values("o1", 1), true);
    admin.transaction("transacted-states", &values("o1", 2), false);
    admin.transaction("transacted-states", &values("o2", 3), false);
    await_keys(&fixture, "transacted-states", 1);
    let mut stream = fixture.get("/stream?from=state").ndjson();
    let end = std::iter::from_fn(|| Some(stream.event())).find(|record| record["phase"] == "end").unwrap();
    assert_eq!(end["count"], 1);
    admin.transaction("transacted-states", &values("o1", 4), true);
    assert_eq!(stream.event()["data"], 4);
}

/// What a snapshot contained, and positions within it and after it.
struct Snapshot {
    entries: BTreeMap<String, Value>,
    reason: Value,
    within: String,
    end: String,
}

fn plan_with_state(topic: &str) -> Plan {
    Plan::new(format!(
        "streams:\n  all: {{ topics: [{topic}], keys: [orderId], state: {{ key: orderId }} }}\nroutes:\n  - {{ path: \
         /stream, stream: all, transport: ndjson, public: true }}\n"
    ))
    .broker(Broker::at(&shared().address))
}

/// Appends a version of a key, or its tombstone, and what the state is then.
fn put(fixture: &Fixture, topic: &str, state: &mut BTreeMap<String, Value>, key: i32, version: Option<i32>) {
    let name = format!("o{key:02}");
    let value = version.map(|data| json!({ "type": "t", "orderId": name, "data": data }).to_string());
    fixture.broker.produce(topic, key % PARTITIONS, Some(&name), value.as_deref().map(str::as_bytes));
    match version {
        Some(version) => drop(state.insert(name, json!(version))),
        None => drop(state.remove(&name)),
    }
}

fn await_keys(fixture: &Fixture, topic: &str, keys: usize) {
    let labels = format!("{{key=\"orderId\",topic=\"{topic}\"}}");
    fixture.sidecar.await_metric(&format!("notifications_state_keys{labels}"), keys as f64);
    fixture.sidecar.await_metric(&format!("notifications_state_ready{labels}"), 1.0);
}

fn snapshot(mut stream: Ndjson) -> Snapshot {
    let begin = stream.event();
    assert_eq!(begin["phase"], "begin");
    let (mut entries, mut within) = (BTreeMap::new(), String::new());
    loop {
        let record = stream.event();
        let cursor = record["cursor"].as_str().unwrap().to_owned();
        if record["phase"] == "end" {
            return Snapshot { entries, reason: begin["reason"].clone(), within, end: cursor };
        }
        assert_eq!(record["snapshot"], true, "{record}");
        let key = record["orderId"].as_str().unwrap().to_owned();
        assert!(entries.insert(key, record["data"].clone()).is_none(), "twice: {record}");
        within = cursor;
    }
}
