//! Clients that reconnect: whenever their stream ends, which must be properly, they resume at their position on any
//! replica. Also a continuous load, and assertions about what the clients received.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use super::broker::Broker;
use super::http::Call;
use super::ndjson::Ndjson;
use super::sidecar::Sidecar;
use super::sse::Sse;
use super::websocket::WebSocket;
use super::{Patience, eventually_true};

/// The partitions of the topic of [`Load`].
pub const PARTITIONS: i32 = 4;

/// Selects a replica for a new stream, like a load balancer.
pub type Service = Arc<dyn Fn() -> SocketAddr + Send + Sync>;

/// Produces events to all partitions of one topic.
pub struct Load<'a> {
    broker: &'a Broker,
    topic: &'a str,
    /// The ids of all produced events.
    pub wanted: Vec<String>,
}

impl<'a> Load<'a> {
    pub fn new(broker: &'a Broker, topic: &'a str) -> Self {
        Self { broker, topic, wanted: Vec::new() }
    }

    /// Produces until the process has exited successfully.
    pub fn while_runs(&mut self, process: &mut Child) {
        loop {
            self.round();
            if let Some(status) = process.try_wait().unwrap() {
                return assert!(status.success());
            }
        }
    }

    /// Produces one event to each partition.
    pub fn round(&mut self) {
        self.produce("t");
    }

    /// Produces the last event of each partition.
    pub fn end(&mut self) {
        self.produce("end");
    }

    fn produce(&mut self, kind: &str) {
        for partition in 0..PARTITIONS {
            let event = json!({"type": kind, "orderId": "o", "data": {"n": self.wanted.len()}});
            self.wanted.push(self.broker.event(self.topic, partition, event));
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Sse,
    Ndjson,
    WebSocket,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Sse, Self::Ndjson, Self::WebSocket];
}

/// A client that resumes with its cursor whenever its stream ends, until it has received the last event of each
/// partition.
pub struct Client {
    kind: Kind,
    /// The prefix of its route's path.
    prefix: &'static str,
    service: Service,
    cursor: Option<String>,
    seen: Vec<String>,
}

impl Client {
    /// Starts this many clients, a third on each transport; their routes are `events`, `stream` and `ws` after the
    /// prefix. Each returns the ids that it received.
    pub fn start(count: usize, prefix: &'static str, service: &Service) -> Vec<JoinHandle<Vec<String>>> {
        let start = |n: usize| {
            let kind = Kind::ALL[n % Kind::ALL.len()];
            let client = Self { kind, prefix, service: service.clone(), cursor: None, seen: Vec::new() };
            thread::spawn(move || client.run())
        };
        (0..count).map(start).collect()
    }

    fn run(mut self) -> Vec<String> {
        let patience = Patience::long();
        let mut ends = 0;
        while ends < PARTITIONS {
            patience.check("the last events");
            let mut stream = self.open();
            while ends < PARTITIONS
                && let Some(event) = stream.next(&mut self.cursor)
            {
                ends += i32::from(event["type"] == "end");
                self.seen.push(event["id"].as_str().unwrap_or_else(|| panic!("no event: {event}")).to_owned());
            }
        }
        self.seen
    }

    fn open(&self) -> Stream {
        let (address, prefix) = ((self.service)(), self.prefix);
        let since = self.cursor.as_ref().map(|cursor| format!("?since={cursor}")).unwrap_or_default();
        let get = |path: String| Call::new(address, "GET", &path);
        let events = || get(format!("{prefix}/events"));
        match (self.kind, &self.cursor) {
            (Kind::Sse, None) => Stream::Sse(events().sse()),
            (Kind::Sse, Some(cursor)) => Stream::Sse(events().header("Last-Event-ID", cursor).sse()),
            (Kind::Ndjson, _) => Stream::Ndjson(get(format!("{prefix}/stream{since}")).ndjson()),
            (Kind::WebSocket, _) => Stream::WebSocket(get(format!("{prefix}/ws{since}")).websocket()),
        }
    }
}

enum Stream {
    Sse(Sse),
    Ndjson(Ndjson),
    WebSocket(WebSocket),
}

impl Stream {
    /// The next envelope; `None` at the end of the stream, which must be a proper one. Keeps the cursor.
    fn next(&mut self, cursor: &mut Option<String>) -> Option<Value> {
        match self {
            Self::Sse(stream) => {
                let mut retry = None;
                let mut records = std::iter::from_fn(|| stream.record()).inspect(|record| retry = record.retry);
                let record = records.find(|record| record.data.is_some());
                assert!(!stream.cut, "cut inside a record");
                assert!(record.is_some() || retry.is_some(), "its last record says when to come back");
                cursor.clone_from(&stream.last_id);
                record.map(|record| record.json())
            }
            Self::Ndjson(stream) => {
                let event = stream.object();
                assert!(!stream.cut, "cut inside a line");
                *cursor = stream.cursor.clone().or_else(|| cursor.take());
                event
            }
            Self::WebSocket(stream) => match stream.message() {
                Ok(message) => {
                    let position = message["cursor"].as_str().or_else(|| message["id"].as_str());
                    *cursor = position.map(str::to_owned);
                    Some(message["data"].clone())
                }
                Err(code) => {
                    assert_eq!(code, 1012);
                    None
                }
            },
        }
    }
}

/// Asserts that every event was received once, in order per partition.
#[track_caller]
pub fn assert_exactly(seen: &[String], wanted: &[String]) {
    let partitions = |ids: &[String]| {
        let mut partitions: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for id in ids {
            let (partition, offset) = id.rsplit_once(':').unwrap();
            partitions.entry(partition.to_owned()).or_default().push(offset.parse().unwrap());
        }
        partitions
    };
    assert_eq!(partitions(seen), partitions(wanted));
}

/// Starts another replica: the same configuration with other ports.
pub fn start_replica(config: &Path, name: &str) -> Sidecar {
    let own = config.with_file_name(format!("{name}.yaml"));
    std::fs::copy(config, &own).unwrap();
    let replica = Sidecar::run(&own);
    eventually_true("/readyz", || replica.admin("/readyz").status() == 200);
    replica
}

/// The open streams of a replica.
pub fn open_streams(sidecar: &Sidecar) -> f64 {
    ["sse", "stream", "ws"]
        .iter()
        .map(|name| sidecar.metric_sum(&format!("notifications_{name}_active_connections")))
        .sum()
}
