//! `sidestream demo`: one command starts everything.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::http::Call;
use crate::support::sidecar::{Sidecar, binary};

/// The longest time between eleven consecutive events, in milliseconds: two per second.
const TEN_INTERVALS_MS_MAX: i64 = 5_000;

/// The events during an outage and a while after it.
const OUTAGE_EVENTS_MAX: usize = 200;
/// The demo's own events while a burst is delivered.
const BESIDE_BURST_MAX: u64 = 100;

struct Demo {
    sidecar: Sidecar,
    _directory: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sidecar = Sidecar::start(&["demo"], &directory.path().join("demo.log"));
        Self { sidecar, _directory: directory }
    }

    fn get(&self, target: &str) -> Call {
        self.sidecar.call("GET", target)
    }

    /// One of the orders in the REST service's list.
    fn an_order(&self) -> String {
        let order = self.get("/orders").send().json()["data"][0].clone();
        order["orderId"].as_str().or_else(|| order["id"].as_str()).unwrap().to_owned()
    }

    /// The token that it printed for this user.
    fn token(&self, user: &str) -> String {
        let start = format!("token {user} ");
        let tokens: Vec<_> = self.sidecar.preamble.iter().filter_map(|line| line.strip_prefix(&start)).collect();
        assert_eq!(tokens.len(), 1, "{:?}", self.sidecar.preamble);
        tokens[0].to_owned()
    }
}

/// As with the read-only root of a container.
#[test]
fn it_needs_no_writable_folder() {
    let mut demo = binary(&["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut demo = demo.env("TMPDIR", "/proc").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let is_ready = lines.any(|line| line.starts_with("ready "));
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert!(is_ready);
}

#[test]
fn it_prints_all_addresses() {
    let demo = Demo::start();
    assert!(demo.sidecar.kafka.starts_with("127.0.0.1:"), "{}", demo.sidecar.kafka);
    assert_eq!(demo.token("u123").split('.').count(), 3);
    assert_ne!(demo.token("u123"), demo.token("u456"));
    assert_eq!(demo.sidecar.admin("/livez").status(), 200);
    let page = demo.get("/").send();
    assert!(page.text().contains("EventSource") && page.text().contains("WebSocket"));
    for part in ["/page.css", "/page.js"] {
        assert_eq!(demo.get(part).send().status(), 200, "{part}");
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/js/src");
    for file in std::fs::read_dir(package).unwrap() {
        let file = file.unwrap();
        let served = demo.get(&format!("/client/{}", file.file_name().display())).send();
        assert_eq!(served.text(), std::fs::read_to_string(file.path()).unwrap(), "the page uses the whole package");
    }
}

#[test]
fn the_classic_script_reads_every_transport() {
    let demo = Demo::start();
    let client = Client::start("classic.cjs", &[&format!("http://{}", demo.sidecar.listen)]);
    let mut seen = [(); 3].map(|()| client.line());
    seen.sort_by_key(|line| line["transport"].to_string());
    assert_eq!(seen.each_ref().map(|line| line["transport"].as_str().unwrap()), ["ndjson", "sse", "websocket"]);
    for line in seen {
        assert!(line["type"].is_string() && line["cursor"].is_string(), "{line}");
    }
}

#[test]
fn the_rest_service_answers_through_the_sidecar() {
    let demo = Demo::start();
    let id = demo.an_order();
    assert_eq!(demo.get(&format!("/orders/{id}")).send().status(), 200);
    let mut stream = demo.get("/orders/stream").ndjson();
    let order = r#"{"customerId":"c1","items":[{"sku":"a","quantity":1}]}"#;
    let posted = demo.sidecar.call("POST", "/orders").header("Content-Type", "application/json").body(order).send();
    assert_eq!(posted.status(), 202);
    let operation = posted.header("location").unwrap().to_owned();
    assert!(operation.starts_with("/operations/"), "{operation}");
    assert_eq!(demo.get(&operation).send().status(), 200);
    while stream.event()["type"] != "order-created" {}
}

#[test]
fn every_stream_receives_events() {
    let demo = Demo::start();
    let order = demo.an_order();
    for target in ["/events".to_owned(), "/events/order-updates".to_owned(), format!("/orders/{order}/events")] {
        let mut stream = demo.get(&target).sse();
        assert_moving(&target, || stream.event().json());
    }
    for target in ["/stream", "/orders/stream"] {
        let mut stream = demo.get(target).ndjson();
        assert_moving(target, || stream.event());
    }
    for target in ["/ws".to_owned(), format!("/orders/{order}/ws")] {
        let mut socket = demo.get(&target).websocket();
        assert_moving(&target, || socket.event()["data"].clone());
    }
}

#[test]
fn notifications_are_each_users_own() {
    let demo = Demo::start();
    assert_eq!(demo.get("/notifications/sse").send().status(), 401);
    for user in ["u123", "u456"] {
        let token = demo.token(user);
        let mut sse = demo.get("/notifications/sse").bearer(&token).sse();
        let mut ndjson = demo.get("/notifications/stream").bearer(&token).ndjson();
        let own = |event: Value| {
            assert_eq!(event["userId"], user, "{event}");
            event
        };
        assert_moving("/notifications/sse", || own(sse.event().json()));
        assert_moving("/notifications/stream", || own(ndjson.event()));
    }
}

#[test]
fn an_outage_of_kafka_loses_nothing() {
    let demo = Demo::start();
    let mut lines = demo.get("/stream").ndjson();
    lines.event();
    assert_eq!(demo.sidecar.call("POST", "/demo/kafka/restart").send().status(), 202);
    demo.sidecar.await_metric("notifications_kafka_connected", 0.0);
    let order = demo.sidecar.call("POST", "/orders").body("{}").send();
    assert_eq!(order.status(), 202);
    demo.sidecar.await_metric("notifications_kafka_connected", 1.0);
    // An order placed during the outage arrives after it, and no offset is missing or repeated.
    let mut next = HashMap::new();
    let placed = (0..OUTAGE_EVENTS_MAX).any(|_| {
        let event = lines.event();
        assert_ne!(event["type"], "gap", "{event}");
        let (partition, offset) = event["id"].as_str().unwrap().rsplit_once(':').unwrap();
        let offset: u64 = offset.parse().unwrap();
        let expected = next.insert(partition.to_owned(), offset + 1).unwrap_or(offset);
        assert_eq!(offset, expected, "{event}");
        event["orderId"] == "order-1000"
    });
    assert!(placed, "the order did not come");
}

#[test]
fn a_resume_by_time_never_skips_events() {
    let demo = Demo::start();
    demo.get("/stream").ndjson().event();
    demo.get("/stream?since=-15m").send().problem(410);
    assert_eq!(demo.get("/events?since=-15m").sse().event().id_or_gap(), "gap");
    let mut socket = demo.get("/ws?since=-15m").websocket();
    assert_eq!(socket.event()["data"]["type"], "gap");
}

#[test]
fn a_burst_reaches_clients_that_read() {
    const EVENTS: u64 = 3_000;
    let demo = Demo::start();
    let mut lines = demo.get("/stream").ndjson();
    assert_eq!(demo.sidecar.call("POST", &format!("/demo/burst?events={EVENTS}")).send().status(), 202);
    let mut seen = 0;
    for _ in 0..EVENTS + BESIDE_BURST_MAX {
        let event = lines.event();
        assert_ne!(event["type"], "gap", "{event}");
        seen += u64::from(event["type"] == "burst");
        if seen == EVENTS {
            return;
        }
    }
    panic!("{seen} events of the burst came");
}

#[test]
fn it_ends_cleanly() {
    let mut demo = Demo::start();
    let _stream = demo.get("/events").sse();
    demo.sidecar.terminate();
}

#[test]
fn kcat_reaches_all_transports() {
    let demo = Demo::start();
    let mut sse = demo.get("/orders/from-kcat/events").sse();
    let mut socket = demo.get("/orders/from-kcat/ws").websocket();
    let mut lines = demo.get("/stream").ndjson();
    let record = r#"{"type":"order-created","orderId":"from-kcat","data":{"by":"kcat"}}"#;
    crate::oracles::kcat(&demo.sidecar.kafka, "orders", record);
    assert_eq!(sse.event().json()["data"]["by"], "kcat");
    assert_eq!(socket.event()["data"]["data"]["by"], "kcat");
    while lines.event()["orderId"] != "from-kcat" {}
}

#[track_caller]
fn assert_moving(target: &str, mut next: impl FnMut() -> Value) {
    let times: Vec<i64> = (0..11).map(|_| next()["ts"].as_i64().expect("a time")).collect();
    let span = times[10] - times[0];
    assert!(span <= TEN_INTERVALS_MS_MAX, "{target}: eleven events in {span} ms");
}
