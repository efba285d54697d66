//! The library with the source in memory: every stream feature, without a broker, an upstream or a process.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use sidestream::app::App;
use sidestream::config;
use sidestream::source::in_memory::{InMemory, NoSuchPartition, RECORDS_MAX};

use crate::support::http::Call;

/// No broker responds at this address.
const CONFIGURATION: &str = "
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
writers: 2
upstream: { address: 127.0.0.1:1 }
kafka: { brokers: 127.0.0.1:1, required_for_readiness: true }
topics: { orders: { replay: { events: 5 } } }
streams: { orders: { topics: [orders, notes], keys: [orderId] } }
routes:
  - { path: /stream, stream: orders, transport: auto, public: true }
  - { path: '/orders/{orderId}', stream: orders, transport: auto, public: true, bind: { orderId: path.orderId } }
";
const PARTITIONS: usize = 3;

/// A running app.
struct Running {
    topics: InMemory,
    app: App,
}

impl Running {
    /// With these many records in each partition of `orders`, from before the start.
    fn with(records: i64) -> Self {
        let snapshot = config::parse(CONFIGURATION, "test.yaml", Path::new("/")).unwrap();
        let topics = InMemory::new(snapshot.kafka.topics.clone(), PARTITIONS);
        for offset in 0..records {
            (0..PARTITIONS).for_each(|partition| drop(order(&topics, partition, offset)));
        }
        let app = App::start_with(snapshot, &[Box::new(topics.clone())]).unwrap();
        Self { topics, app }
    }

    fn get(&self, target: &str) -> Call {
        call(self.app.addresses().listen, target)
    }
}

fn call(address: SocketAddr, target: &str) -> Call {
    Call::new(address, "GET", target)
}

/// Appends an order, whose time is its offset, and returns its id.
fn order(topics: &InMemory, partition: usize, unix_ms: i64) -> String {
    let value = json!({ "type": "paid", "orderId": format!("o{partition}"), "data": { "at": unix_ms } });
    let offset = topics.append("orders", partition as i32, unix_ms, value.to_string().as_bytes()).unwrap();
    format!("orders:{partition}:{offset}")
}

#[test]
fn every_transport_streams_from_memory() {
    let running = Running::with(0);
    let mut ndjson = running.get("/stream").header("Accept", "application/x-ndjson").ndjson();
    let mut sse = running.get("/stream").header("Accept", "text/event-stream").sse();
    let mut websocket = running.get("/orders/o1").websocket();
    let ids: Vec<String> = (0..PARTITIONS).map(|partition| order(&running.topics, partition, 7)).collect();
    assert_eq!(ndjson.ids(3), ids);
    assert_eq!((0..3).map(|_| sse.event().event_id()).collect::<Vec<_>>(), ids);
    assert_eq!(websocket.message().unwrap()["data"]["id"], ids[1], "the key selects");
    running.app.end();
    assert_eq!(ndjson.object(), None, "the end is proper");
}

#[test]
fn a_client_resumes_in_the_window_and_before_it() {
    let running = Running::with(1_200);
    // The window has five events of one topic; all others come from the log, in several chunks per partition.
    let mut all = running.get("/stream?since=1970-01-01T00:00:00Z").ndjson();
    let mut seen: Vec<Vec<i64>> = vec![Vec::new(); PARTITIONS];
    for _ in 0..3 * 1_200 {
        let event = all.event();
        let (partition, offset) = place(&event);
        seen[partition].push(offset);
    }
    assert!(seen.iter().all(|offsets| *offsets == (0..1_200).collect::<Vec<_>>()), "once, and in order");
    let live = order(&running.topics, 2, 1_200);
    assert_eq!(all.ids(1), [live]);
    let cursor = all.cursor.clone().unwrap();
    let missed = order(&running.topics, 0, 1_201);
    assert_eq!(running.get(&format!("/stream?since={cursor}")).ndjson().ids(1), [missed]);
    running.app.end();
}

#[test]
fn deleted_records_are_a_gap() {
    let running = Running::with(1);
    let mut stream = running.get("/orders/o0?since=orders:0:-1").header("Accept", "text/event-stream").sse();
    assert_eq!(stream.event().event_id(), "orders:0:0");
    let cursor = stream.last_id.clone().unwrap();
    drop(stream);
    (0..RECORDS_MAX as i64 + 4).for_each(|ms| drop(order(&running.topics, 0, ms)));
    let mut resumed =
        running.get("/orders/o0").header("Accept", "text/event-stream").header("Last-Event-ID", &cursor).sse();
    let gap = resumed.event().json();
    assert_eq!(
        (&gap["cause"], &gap["ranges"][0]["from"], &gap["ranges"][0]["to"]),
        (&json!("retention"), &json!(1), &json!(4))
    );
    assert_eq!(resumed.event().event_id(), "orders:0:5");
    running.app.end();
}

#[test]
fn an_undecodable_record_is_a_gap_and_an_unknown_partition_an_error() {
    let running = Running::with(0);
    let mut stream = running.get("/stream").header("Accept", "text/event-stream").sse();
    assert_eq!(running.topics.append("orders", 0, 1, b"\xff"), Ok(0));
    assert_eq!(stream.event().json()["cause"], "undecodable");
    assert_eq!(running.topics.append("orders", PARTITIONS as i32, 1, b"1"), Err(NoSuchPartition));
    assert_eq!(running.topics.append("other", 0, 1, b"1"), Err(NoSuchPartition));
    running.app.end();
}

#[test]
fn readiness_follows_the_source() {
    let running = Running::with(0);
    assert_eq!(
        call(running.app.addresses().admin, "/readyz").open().0.status,
        200,
        "although Kafka is required and absent"
    );
    running.app.end();
}

fn place(event: &Value) -> (usize, i64) {
    let mut parts = event["id"].as_str().unwrap().rsplit(':');
    let offset = parts.next().unwrap().parse().unwrap();
    (parts.next().unwrap().parse().unwrap(), offset)
}
