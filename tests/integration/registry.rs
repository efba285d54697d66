//! Records whose schema is in a registry: they wait for it in order, and hold up no other partition.

use std::fs;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::broker::Broker;
use crate::support::fixture::{Fixture, Plan};
use crate::support::hop::Hop;
use crate::support::schema_registry::Stub;

fn fixture(registry: &Stub, format: &str, wait: &str) -> Fixture {
    let address = registry.address;
    Plan::new(format!(
        "registry: {{ url: 'http://{address}', wait: {wait} }}\ntopics: {{ spread: {{ format: {format} }} }}\n\
         streams: {{ spread: {{ topics: [spread], keys: [orderId] }} }}\n\
         routes: [{{ path: /stream, stream: spread, public: true, transport: ndjson }}]\n"
    ))
    .build()
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"orderId","type":"long"}]}"#;

/// An order of less than 64.
fn avro(schema: u8, id: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, schema, 2 * id]
}

fn produce(fixture: &Fixture, partition: i32, value: &[u8]) -> String {
    fixture.broker.produce("spread", partition, None, Some(value))
}

#[test]
fn a_partition_waits_for_a_schema_and_others_go_on() {
    let registry = Stub::start();
    registry.put("/schemas/ids/1", json!({ "schema": ORDER }));
    let fixture = fixture(&registry, "avro", "1m");
    let mut live = fixture.get("/stream").ndjson();
    let first = produce(&fixture, 0, &avro(1, 1));
    assert_eq!(live.event()["id"], first);
    let held = [produce(&fixture, 0, &avro(2, 2)), produce(&fixture, 0, &avro(1, 3))];
    fixture.sidecar.await_metric("notifications_kafka_partitions_awaiting_schema{topic=\"spread\"}", 1.0);
    for order in 4..7 {
        let other = produce(&fixture, 1, &avro(1, order));
        assert_eq!(live.event()["id"], other);
    }
    registry.put("/schemas/ids/2", json!({ "schema": ORDER }));
    for (id, order) in held.iter().zip(2..) {
        let event = live.event();
        assert_eq!((&event["id"], &event["data"]), (&json!(id), &json!({ "orderId": order })));
    }
    let last = produce(&fixture, 0, &avro(2, 7));
    assert_eq!(live.event()["id"], last);
    fixture.sidecar.await_metric("notifications_kafka_partitions_awaiting_schema{topic=\"spread\"}", 0.0);
    fixture.sidecar.await_metric("notifications_schema_registry_schemas{registry=\"registry\"}", 2.0);
}

#[test]
fn without_their_schema_records_are_gaps() {
    let registry = Stub::start();
    registry.put("/schemas/ids/1", json!({ "schema": ORDER }));
    let fixture = fixture(&registry, "avro", "300ms");
    let mut live = fixture.get("/stream").ndjson();
    let first = produce(&fixture, 0, &avro(1, 1));
    assert_eq!(live.event()["id"], first);
    for (lost, order) in [&avro(2, 2)[..], &[0, 0, 0, 0, 1], &[3; 20]].into_iter().zip(3..) {
        let (lost, next) = (produce(&fixture, 0, lost), produce(&fixture, 0, &avro(1, order)));
        let gap = live.event();
        assert_eq!(gap["cause"], "undecodable", "{gap}");
        assert_eq!(format!("spread:0:{}", gap["ranges"][0]["from"]), lost);
        assert_eq!(live.event()["id"], next);
    }
    fixture.sidecar.await_metric("notifications_kafka_undecodable_total{topic=\"spread\"}", 3.0);
    fixture.sidecar.await_log("schema id 2, which is not available");
}

#[test]
fn a_reload_replaces_the_settings_of_a_registry_and_keeps_its_schemas() {
    const PASSWORD: &str = "battery-staple";
    let registry = Stub::start();
    registry.put("/schemas/ids/1", json!({ "schema": ORDER }));
    registry.require(&format!("Basic {}", STANDARD.encode(format!("sidestream:{PASSWORD}"))));
    let hop = Hop::nginx_tls(registry.address, "");
    let fixture = Plan::new(format!(
        "registry: {{ url: 'https://{}', username: sidestream, secret_file: password, ca_file: '{}', wait: 1m }}\n\
         topics: {{ spread: {{ format: avro }} }}\nstreams: {{ spread: {{ topics: [spread], keys: [orderId] }} }}\n\
         routes: [{{ path: /stream, stream: spread, public: true, transport: ndjson }}]\n",
        hop.address,
        hop.authority().display(),
    ))
    .file("password", "wrong")
    .build();
    let mut live = fixture.get("/stream").ndjson();
    let first = produce(&fixture, 0, &avro(1, 1));
    fixture.sidecar.await_log("cannot get a schema; trying again");
    fixture.sidecar.await_log("status 401");
    fixture.replace("password", PASSWORD);
    assert_eq!(live.event()["id"], first);
    registry.forget();
    let settings = fs::read_to_string(&fixture.config).unwrap();
    fixture.replace("sidestream.yaml", &settings.replace("wait: 1m", "wait: 50s"));
    fixture.sidecar.await_metric("notifications_config_reloads_total{result=\"success\"}", 2.0);
    let second = produce(&fixture, 0, &avro(1, 2));
    assert_eq!(live.event()["id"], second);
    assert!(!fixture.sidecar.log().contains(PASSWORD));
}

#[test]
fn replay_waits_for_a_schema() {
    let (registry, broker) = (Stub::start(), Broker::start(&[("spread", 1)]));
    registry.put("/schemas/ids/1", json!({ "schema": ORDER }));
    let mut ids: Vec<_> =
        (0..20).map(|n| broker.produce("spread", 0, None, Some(&avro(if n < 2 { 2 } else { 1 }, n)))).collect();
    let address = registry.address;
    let settings = format!(
        "registry: {{ url: 'http://{address}', wait: 1m }}\n\
         topics: {{ spread: {{ format: avro, replay: {{ events: 2 }} }} }}\n\
         streams: {{ spread: {{ topics: [spread], keys: [orderId] }} }}\n\
         routes: [{{ path: /stream, stream: spread, public: true, transport: ndjson }}]\n"
    );
    let fixture = Plan::new(settings).broker(broker).build();
    const FAILED: &str = "cannot get a schema; trying again";
    assert!(!fixture.sidecar.log().contains(FAILED), "the window has the last records");
    // The response begins when the log has been read.
    let request = fixture.get("/stream?since=spread:0:-1");
    let opening = thread::spawn(move || request.ndjson());
    fixture.sidecar.await_log(FAILED);
    ids.push(produce(&fixture, 0, &avro(1, 21)));
    registry.put("/schemas/ids/2", json!({ "schema": ORDER }));
    let mut replayed = opening.join().unwrap();
    assert_eq!(replayed.ids(ids.len()), ids);
}
