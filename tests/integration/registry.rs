//! Records whose schema is in a registry: they wait for it in order, and hold up no other partition.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::support::fixture::{Fixture, Plan};

/// A registry that answers what a test puts there, and 503 to everything else.
struct Registry {
    address: SocketAddr,
    answers: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, answers) = (listener.local_addr().unwrap(), Arc::<Mutex<BTreeMap<String, Value>>>::default());
        let known = answers.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut lines = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).unwrap_or(0) > 0 {}
                let answer = head.split(' ').nth(1).and_then(|path| known.lock().unwrap().get(path).cloned());
                let (status, body) =
                    answer.map_or(("503 Unavailable", String::new()), |answer| ("200 OK", answer.to_string()));
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = lines.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { address, answers }
    }

    fn put(&self, path: &str, answer: Value) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn fixture(&self, format: &str, wait: &str) -> Fixture {
        let address = self.address;
        Plan::new(format!(
            "registry: {{ url: 'http://{address}', wait: {wait} }}\ntopics: {{ spread: {{ format: {format} }} }}\n\
             streams: {{ spread: {{ topics: [spread], keys: [orderId] }} }}\n\
             routes: [{{ path: /stream, stream: spread, public: true, transport: ndjson }}]\n"
        ))
        .build()
    }
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
    let registry = Registry::start();
    registry.put("/schemas/ids/1", json!({ "schema": ORDER }));
    let fixture = registry.fixture("avro", "1m");
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
    let registry = Registry::start();
    registry.put("/schemas/ids/1", json!({ "schema": ORDER }));
    let fixture = registry.fixture("avro", "300ms");
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
