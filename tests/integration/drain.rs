//! `sidestream drain`: streams end at a bounded rate while requests pass on, and a rolling restart loses nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::support::house::{House, Plan, STANDARD};
use crate::support::http::Call;
use crate::support::ndjson::Ndjson;
use crate::support::sidecar::{Sidecar, binary};
use crate::support::slow::deaf;
use crate::support::sse::Sse;
use crate::support::websocket::WebSocket;
use crate::support::{Patience, eventually_true};

const STREAMS: &str = "notifications_stream_active_connections";

#[test]
fn a_drained_process_proxies_on_and_takes_no_streams() {
    let mut house = Plan::new(STANDARD).with("drain: { budget: 60s }").build();
    let mut sse = house.get("/events").sse();
    let mut ndjson = house.get("/stream").ndjson();
    let mut websocket = house.get("/ws").websocket();
    let id = house.broker.order("o1");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![id.clone()], vec![id.clone()], vec![id]));
    let drain = start_drain(&house.sidecar);
    assert!(sse.rest().last().unwrap().retry.is_some());
    assert_eq!((ndjson.object(), ndjson.cut), (None, false));
    assert_eq!(websocket.closed(), 1012);
    drop((sse, ndjson, websocket));
    assert_drained(&drain.wait_with_output().unwrap(), 3);

    assert_eq!(house.sidecar.admin("/readyz").reasons(), ["draining"]);
    assert_eq!(house.sidecar.admin("/livez").status(), 200);
    let refused = house.get("/stream").send();
    refused.problem(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(house.get("/events").sse().rest().len(), 1, "told to come back later");
    assert_eq!(house.get("/echo").send().status(), 200);
    assert_drained(&start_drain(&house.sidecar).wait_with_output().unwrap(), 3);
    house.sidecar.terminate();
}

#[test]
fn reconnects_are_spread() {
    let house = Plan::new(STANDARD).with("drain: { budget: 20s, reconnects_per_second: 20 }").build();
    let readers: Vec<_> =
        (0..30).map(|_| house.get("/stream").ndjson()).map(|mut s| thread::spawn(move || s.line())).collect();
    let answer = Call::new(house.sidecar.admin, "POST", "/-/drain").send().json();
    readers.into_iter().for_each(|reader| assert!(reader.join().unwrap().is_none()));
    assert_eq!((&answer["streams"], &answer["left"]), (&json!(30), &json!(0)));
    assert!(answer["elapsed_ms"].as_u64().unwrap() >= 1400, "14 of each writer wait for their turn: {answer}");
}

#[test]
fn a_slow_reader_is_not_cut_while_there_is_time_and_a_second_drain_waits_with_the_first() {
    let route = "queue: { events: 1000, bytes: 64MiB }";
    let house = House::plan_route("/stream", "ndjson", route).with("drain: { budget: 60s }").build();
    let (head, body) = deaf(&house, house.get("/stream"));
    let mut slow = Ndjson::over(head, body);
    let mut prompt = house.get("/stream").ndjson();
    let value = json!({"type": "t", "orderId": "o1", "data": "x".repeat(64 * 1024)}).to_string();
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(house.broker.produce("orders", 0, None, Some(value.as_bytes())));
        assert_eq!(prompt.ids(1), ids[ids.len() - 1..]);
    }
    let drains = [start_drain(&house.sidecar), start_drain(&house.sidecar)];
    assert!(prompt.object().is_none());
    // It was told goodbye, does not close its side, and is given up: what others get when they have nothing to read.
    house.sidecar.await_metric(STREAMS, 1.0);
    assert_eq!(slow.ids(ids.len()), ids);
    assert!(slow.object().is_none() && !slow.cut, "it ends as it should");
    drop(slow);
    for drain in drains {
        assert_drained(&drain.wait_with_output().unwrap(), 2);
    }
}

#[test]
fn a_drain_finds_its_process_by_its_configuration() {
    let house = House::standard();
    let config = house.config.with_file_name("drain.yaml");
    let text = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&config, format!("{text}\nadmin: {{ listen: {} }}\n", house.sidecar.admin)).unwrap();
    let by_variable = binary(&["drain"]).env("SIDESTREAM_CONFIG", &config).output().unwrap();
    assert_drained(&by_variable, 0);
    assert_drained(&binary(&["drain", "--config", config.to_str().unwrap()]).output().unwrap(), 0);
}

#[test]
fn where_nobody_answers_it_says_what_was_tried() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = binary(&["drain", "--admin", &unused.to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("cannot drain {unused} (--admin): no sidestream answers there: ")), "{said}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let output = binary(&["drain", "--admin", &address, "--timeout", "200ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("still draining after 200ms"));
}

/// Both replicas are drained, ended and replaced, one after the other, while events are produced all the time. Clients
/// come back at the one that serves, where they were.
#[test]
fn a_rolling_restart_under_load_loses_and_repeats_nothing() {
    let settings = "topics: { spread: { replay: { events: 100000 } } }\ndrain: { reconnects_per_second: 20 }";
    let house = Plan::new(STANDARD).with(settings).build();
    let mut load = Load { house: &house, wanted: Vec::new() };
    let second = start_replica(&house.config, "second");
    let service: Service = Arc::new(Mutex::new(house.sidecar.listen));
    let clients: Vec<_> = (0..18)
        .map(|n| {
            let (service, kind) = (service.clone(), Kind::ALL[n % 3]);
            thread::spawn(move || Client { kind, service, cursor: None, seen: Vec::new() }.run())
        })
        .collect();
    eventually_true("all clients", || open_streams(&house.sidecar) == 18.0);
    load.while_running(None);

    *service.lock().unwrap() = second.listen;
    load.while_running(Some(start_drain(&house.sidecar)));
    house.sidecar.signal("TERM");
    eventually_true("all clients at the second", || {
        load.while_running(None);
        open_streams(&second) == 18.0
    });
    let third = start_replica(&house.config, "third");
    *service.lock().unwrap() = third.listen;
    load.while_running(Some(start_drain(&second)));
    eventually_true("all clients at the third", || {
        load.while_running(None);
        open_streams(&third) == 18.0
    });
    load.end();
    for client in clients {
        assert_exactly(&client.join().unwrap(), &load.wanted);
    }
}

/// Where a load balancer would send a new stream.
type Service = Arc<Mutex<SocketAddr>>;

struct Load<'a> {
    house: &'a House,
    wanted: Vec<String>,
}

impl Load<'_> {
    /// Produces to all partitions until the drain has ended well; at least one round.
    fn while_running(&mut self, mut drain: Option<Child>) {
        loop {
            self.round("t");
            match drain.as_mut().map(|drain| drain.try_wait().unwrap()) {
                Some(None) => {}
                Some(Some(status)) => return assert!(status.success()),
                None => return,
            }
        }
    }

    /// The last event of each partition.
    fn end(&mut self) {
        self.round("end");
    }

    fn round(&mut self, kind: &str) {
        for partition in 0..4 {
            let event = json!({"type": kind, "orderId": "o", "data": {"n": self.wanted.len()}});
            self.wanted.push(self.house.broker.event("spread", partition, event));
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

/// A client that comes back with its cursor whenever its stream ends, until it has seen the last event of each partition.
struct Client {
    kind: Kind,
    service: Service,
    cursor: Option<String>,
    seen: Vec<String>,
}

impl Client {
    fn run(mut self) -> Vec<String> {
        let patience = Patience::long();
        let mut ends = 0;
        while ends < 4 {
            patience.check("the last events");
            let mut stream = self.open();
            while ends < 4
                && let Some(event) = stream.next(&mut self.cursor)
            {
                ends += usize::from(event["type"] == "end");
                self.seen.push(event["id"].as_str().unwrap_or_else(|| panic!("no event: {event}")).to_owned());
            }
        }
        self.seen
    }

    fn open(&self) -> Stream {
        let address = *self.service.lock().unwrap();
        let since = self.cursor.as_ref().map(|cursor| format!("?since={cursor}")).unwrap_or_default();
        let get = |path: &str| Call::new(address, "GET", path);
        match (self.kind, &self.cursor) {
            (Kind::Sse, None) => Stream::Sse(get("/spread/events").sse()),
            (Kind::Sse, Some(cursor)) => Stream::Sse(get("/spread/events").header("Last-Event-ID", cursor).sse()),
            (Kind::Ndjson, _) => Stream::Ndjson(get(&format!("/spread/stream{since}")).ndjson()),
            (Kind::WebSocket, _) => Stream::WebSocket(get(&format!("/spread/ws{since}")).websocket()),
        }
    }
}

enum Stream {
    Sse(Sse),
    Ndjson(Ndjson),
    WebSocket(WebSocket),
}

impl Stream {
    /// The next envelope; nothing at the stream's end, which must be a proper one. Keeps the cursor.
    fn next(&mut self, cursor: &mut Option<String>) -> Option<Value> {
        match self {
            Self::Sse(stream) => {
                let record = std::iter::from_fn(|| stream.record()).find(|record| record.data.is_some());
                assert!(!stream.cut, "cut inside a record");
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

/// Every event once, and those of a partition in order.
#[track_caller]
fn assert_exactly(seen: &[String], wanted: &[String]) {
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

/// Another replica: the same configuration, other ports.
fn start_replica(config: &Path, name: &str) -> Sidecar {
    let own = config.with_file_name(format!("{name}.yaml"));
    std::fs::copy(config, &own).unwrap();
    let replica = Sidecar::run(&own);
    eventually_true("/readyz", || replica.admin("/readyz").status() == 200);
    replica
}

fn open_streams(sidecar: &Sidecar) -> f64 {
    ["sse", "stream", "ws"]
        .iter()
        .map(|name| sidecar.metric_sum(&format!("notifications_{name}_active_connections")))
        .sum()
}

fn start_drain(sidecar: &Sidecar) -> Child {
    let mut command = binary(&["drain", "--admin", &sidecar.admin.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn assert_drained(output: &Output, streams: usize) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with(&format!("drained: {streams} streams in ")) && said.ends_with("0 were cut\n"), "{said}");
}
