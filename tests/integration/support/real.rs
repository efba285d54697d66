//! Fixtures with Apache Kafka. The tests share one node, because a JVM takes seconds to start and half a gigabyte of
//! memory.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::admin::Admin;
use super::broker::Broker;
use super::fixture::{Fixture, Plan};
use super::real_broker::RealBroker;

/// Short waits for a test that stops a node. The waits for records are Kafka's defaults.
const PROPERTIES: &str =
    "properties: { reconnect.backoff.ms: 50, reconnect.backoff.max.ms: 200, topic.metadata.refresh.interval.ms: 500 }";

/// The node that all tests share; topics belong to one test each. It is killed when the process ends.
pub fn shared() -> &'static RealBroker {
    static SHARED: OnceLock<RealBroker> = OnceLock::new();
    SHARED.get_or_init(|| start("shared"))
}

/// A node that a test may kill.
pub fn start(name: &str) -> RealBroker {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-logs/kafka");
    RealBroker::start(name, &PathBuf::from(env!("CARGO_TARGET_TMPDIR")), &logs)
}

/// Three nodes, one of which a test may kill.
pub fn start_three(name: &str) -> Vec<RealBroker> {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-logs/kafka");
    RealBroker::start_cluster(name, &PathBuf::from(env!("CARGO_TARGET_TMPDIR")), &logs, &[&[], &[], &[]])
}

/// The addresses of these nodes, in the format of a client's configuration.
pub fn addresses(nodes: &[RealBroker]) -> String {
    nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
}

/// Creates the topics on the shared node, and a fixture with all of them in one stream.
pub fn fixture(topics: &[(&str, i32)]) -> Fixture {
    fixture_on(shared(), topics)
}

/// The same on another node.
pub fn fixture_on(node: &RealBroker, topics: &[(&str, i32)]) -> Fixture {
    let admin = Admin::of(&node.address);
    for (name, partitions) in topics {
        admin.create_topic(name, *partitions, &[]);
    }
    plan(node, &topics.iter().map(|(name, _)| *name).collect::<Vec<_>>()).build()
}

/// A fixture with these topics in one stream, served at `/events`, `/stream` and `/ws`, and by `orderId` under
/// `/orders`. The test responds to pings only while it reads, and restarting a node may take long.
pub fn plan(node: &RealBroker, topics: &[&str]) -> Plan {
    plan_at(&node.address, topics)
}

/// The same for a cluster with these comma-separated addresses.
pub fn plan_at(brokers: &str, topics: &[&str]) -> Plan {
    let settings = format!(
        "streams:\n  all: {{ topics: [{}], keys: [orderId] }}\nroutes:\n  - {{ path: /events, stream: all, transport: \
         sse, public: true, retry: 200ms }}\n  - {{ path: /stream, stream: all, transport: ndjson, public: true }}\n  \
         - {{ path: /ws, stream: all, transport: ws, public: true, websocket: {{ pong_timeout: 60s }} }}\n  - {{ path: \"/orders/{{orderId}}/stream\", \
         stream: all, transport: ndjson, public: true, bind: {{ orderId: path.orderId }} }}\n",
        topics.join(", ")
    );
    Plan::new(settings).broker(Broker::at(brokers)).kafka(PROPERTIES)
}
