//! Reloads that change topics: new and removed ones, their maps, keys and windows, beside a stream that is not affected.

use std::fs;

use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::Call;
use crate::support::ndjson::Ndjson;
use crate::support::real;

/// `changing` is the topic whose settings change; `steady` stays as it is.
fn settings([changing, steady, extra]: [&str; 3]) -> String {
    format!(
        "topics:
  {changing}: {{ map: {{ type: const:before, keys: {{ k: /a }} }}, replay: {{ events: 100 }} }}
streams:
  changing: {{ topics: [{changing}], keys: [k] }}
  steady: {{ topics: [{steady}] }}
#stream extra: {{ topics: [{extra}], keys: [k] }}
routes:
  - {{ path: \"/changing/{{k}}\", stream: changing, public: true, transport: ndjson, bind: {{ k: path.k }} }}
  - {{ path: /all, stream: changing, public: true, transport: ndjson }}
  - {{ path: /steady, stream: steady, public: true, transport: ndjson }}
#route - {{ path: /extra, stream: extra, public: true, transport: ndjson }}
"
    )
}

fn reload(fixture: &Fixture, change: impl Fn(String) -> String) -> Value {
    let before = fs::read_to_string(&fixture.config).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "the test changes nothing");
    let beside = fixture.config.with_extension("next");
    fs::write(&beside, after).unwrap();
    fs::rename(&beside, &fixture.config).unwrap();
    let answer = Call::of_admin(fixture.sidecar.admin, "POST", "/-/reload").send().json();
    assert!(answer["result"] == "applied" || answer["result"] == "unchanged", "{answer}");
    answer
}

/// The types of the next events.
fn types(stream: &mut Ndjson, count: usize) -> Vec<Value> {
    (0..count).map(|_| stream.event()["type"].clone()).collect()
}

fn scenario(fixture: &Fixture, topics: [&str; 3]) {
    let [changing, steady_topic, extra_topic] = topics;
    let record = |n: u32| {
        let value = json!({ "a": "1", "b": "2", "n": n }).to_string();
        let steady = fixture.broker.produce(steady_topic, 0, None, Some(value.as_bytes()));
        (fixture.broker.produce(changing, 0, None, Some(value.as_bytes())), steady)
    };
    let (mut steady, mut all) = (fixture.get("/steady").ndjson(), fixture.get("/all").ndjson());
    let mut bound = fixture.get("/changing/1").ndjson();
    let (first, steady_first) = record(0);
    let mut sent = vec![steady_first];
    for stream in [&mut all, &mut bound] {
        assert_eq!(types(stream, 1), ["before"]);
    }

    // The map: the same connections go on, and what is replayed has the new shape, too.
    reload(fixture, |text| text.replace("const:before, keys: { k: /a }", "const:after, keys: { k: /b }"));
    sent.push(record(1).1);
    assert_eq!(types(&mut all, 1), ["after"]);
    let mut replayed = fixture.get(&format!("/changing/2?since={changing}:0:-1")).ndjson();
    assert_eq!(replayed.ids(1), std::slice::from_ref(&first), "from the log, with the new key");
    assert_eq!(types(&mut replayed, 1), ["after"]);

    // The window, which is smaller than what a client asks for then.
    reload(fixture, |text| text.replace("events: 100", "events: 1"));
    sent.push(record(2).1);
    assert_eq!(types(&mut all, 1), ["after"]);
    assert_eq!(fixture.get(&format!("/all?since={first}")).ndjson().ids(2).len(), 2);

    // Another key: streams of this stream end, and new ones select by it in older records, too.
    reload(fixture, |text| {
        text.replace("], keys: [k] }\n  steady", "], keys: [k, other] }\n  steady")
            .replace("keys: { k: /b }", "keys: { k: /b, other: /a }")
            .replace("bind: { k: path.k }", "bind: { other: path.k }")
    });
    sent.push(record(3).1);
    while all.object().is_some() {}
    assert!(!all.cut, "it ends between two events");
    let mut other = fixture.get(&format!("/changing/1?since={first}")).ndjson();
    assert_eq!((other.ids(3).len(), other.cut), (3, false));

    // A new topic.
    reload(fixture, |text| text.replace("#stream", " ").replace("#route", " "));
    let mut extra = fixture.get("/extra").ndjson();
    let extra_id = fixture.broker.produce(extra_topic, 0, None, Some(b"{\"k\":\"1\"}"));
    sent.push(record(4).1);
    assert_eq!(extra.ids(1), [extra_id]);

    // And gone again.
    reload(fixture, |text| {
        text.lines().filter(|line| !line.contains("extra")).map(|line| format!("{line}\n")).collect()
    });
    sent.push(record(5).1);
    assert!(extra.object().is_none() && !extra.cut);

    assert_eq!(steady.ids(sent.len()), sent, "each once, in order, on one connection");
}

#[test]
fn topics_change_beside_a_stream_that_goes_on() {
    let topics = ["orders", "notices", "spread"];
    scenario(&Plan::new(settings(topics)).build(), topics);
}

#[test]
fn topics_change_on_apache_kafka() {
    let topics = ["reload-changing", "reload-steady", "reload-extra"];
    topics.iter().for_each(|topic| Admin::of(&real::shared().address).create_topic(topic, 1, &[]));
    let broker = Broker::at(&real::shared().address);
    scenario(&Plan::new(settings(topics)).broker(broker).build(), topics);
}
