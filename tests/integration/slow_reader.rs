//! A client that does not read: its memory is bounded, it receives gaps, and other clients are not affected.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::fixture::Fixture;
use crate::support::ndjson::Ndjson;
use crate::support::slow::deaf;
use crate::support::sse::Sse;

/// Fills the kernel's buffers on both sides many times over.
const EVENTS: usize = 1500;
const EVENT_BYTES: usize = 16 * 1024;
/// The number of distinct states of the events, which alternate.
const STATES: usize = 8;
/// The memory of a session beyond its queue, plus the allocator's overhead, in KiB.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

const SMALL: &str = "queue: { events: 32, bytes: 1MiB, overflow: drop-oldest }";

#[test]
fn the_oldest_events_are_dropped_and_reported() {
    let fixture = Fixture::with_route("/stream", "ndjson", SMALL);
    let mut slow = deaf_ndjson(&fixture);
    let wanted = flood(&fixture, "/stream");
    // A slow reader still receives the newest events.
    let account = Account::of(&mut slow, wanted.last().unwrap());
    account.assert_covers(&wanted);
    assert!(account.missed > 0, "nothing was dropped");
}

#[test]
fn the_newest_events_are_dropped_and_reported() {
    let fixture = Fixture::with_route("/stream", "ndjson", &SMALL.replace("oldest", "newest"));
    let mut slow = deaf_ndjson(&fixture);
    let mut wanted = flood(&fixture, "/stream");
    let before = Account::until_gap(&mut slow);
    assert!(!before.seen.contains(wanted.last().unwrap()), "the newest should be gone");
    wanted.push(fixture.broker.order("o1"));
    let mut account = Account::of(&mut slow, wanted.last().unwrap());
    account.add(before);
    account.assert_covers(&wanted);
}

#[test]
fn a_slow_reader_may_be_disconnected() {
    let fixture = Fixture::with_route("/stream", "ndjson", &SMALL.replace("drop-oldest", "disconnect"));
    let mut slow = deaf_ndjson(&fixture);
    let wanted = flood(&fixture, "/stream");
    fixture.sidecar.await_metric("notifications_stream_active_connections", 0.0);
    let seen: Vec<String> = std::iter::from_fn(|| slow.object()).filter_map(|event| event_id(&event)).collect();
    assert_eq!(seen, wanted[..seen.len()], "what came is whole");
    assert!(seen.len() < wanted.len());
    assert!(fixture.sidecar.metric_sum("notifications_stream_disconnects_total") >= 1.0);
}

#[test]
fn the_newest_event_of_each_state_is_kept_and_the_others_are_reported() {
    let fixture = Fixture::with_route("/stream", "ndjson", &SMALL.replace("drop-oldest", "coalesce"));
    let mut slow = deaf_ndjson(&fixture);
    let wanted = flood(&fixture, "/stream");
    let account = Account::of(&mut slow, wanted.last().unwrap());
    account.assert_covers(&wanted);
    // States alternate.
    assert!(account.seen.ends_with(&wanted[EVENTS - STATES..]), "{:?}", account.seen);
    assert!(account.missed > 0, "nothing was superseded");
    let superseded = fixture.sidecar.metric("notifications_events_dropped_total{policy=\"coalesce\"}");
    assert_eq!(superseded, Some(account.missed as f64));
}

#[test]
fn sse_reports_the_overflow_in_band() {
    let fixture = Fixture::with_route("/events", "sse", SMALL);
    let (head, body) = deaf(&fixture, fixture.get("/events"));
    let mut slow = Sse::over(head, body);
    flood(&fixture, "/events");
    let gap = slow.until("a gap", |record| record.event.as_deref() == Some("gap")).json();
    assert_eq!((&gap["cause"], gap["ranges"][0]["topic"].as_str()), (&json!("overflow"), Some("orders")));
    assert!(gap["missed"].as_u64().unwrap() > 0 && gap["cursor"].is_string(), "{gap}");
}

#[test]
fn websocket_reports_the_overflow_in_an_event() {
    let fixture = Fixture::with_route("/ws", "ws", SMALL);
    let mut slow = fixture.get("/ws").raw_websocket();
    let mut reader = fixture.get("/ws").websocket();
    flood_with(&fixture, || Box::new(move || reader.ids(1).remove(0)));
    let gap = loop {
        let message = slow.json();
        if message["data"]["type"] == "gap" {
            break message;
        }
    };
    assert_eq!((&gap["type"], &gap["data"]["cause"]), (&json!("event"), &json!("overflow")));
}

#[test]
fn a_client_that_pauses_for_longer_than_the_peer_timeout_stays() {
    const PEER_TIMEOUT: Duration = Duration::from_secs(1);
    let limits = "limits: { tcp_user_timeout: 1s }";
    let fixture = Fixture::plan_route("/stream", "ndjson", SMALL).with(limits).build();
    let mut slow = deaf_ndjson(&fixture);
    let mut wanted = flood(&fixture, "/stream");
    let until = Instant::now() + 3 * PEER_TIMEOUT;
    while Instant::now() < until {
        wanted.push(fixture.broker.order("o1"));
        thread::sleep(PEER_TIMEOUT / 20);
    }
    Account::of(&mut slow, wanted.last().unwrap()).assert_covers(&wanted);
    let lost = fixture.sidecar.metric("notifications_stream_disconnects_total{reason=\"client-lost\"}");
    assert_eq!(lost.unwrap_or(0.0), 0.0);
}

#[test]
fn a_client_that_pauses_for_longer_than_its_route_allows_is_cut_off() {
    let fixture = Fixture::with_route("/stream", "ndjson", &format!("{SMALL}, stall_timeout: 1s"));
    let _slow = deaf_ndjson(&fixture);
    flood(&fixture, "/stream");
    fixture.sidecar.await_metric("notifications_stream_disconnects_total{reason=\"slow-consumer\"}", 1.0);
}

#[test]
fn queued_data_of_slow_clients_is_measured_until_they_disconnect() {
    let fixture = Fixture::with_route("/stream", "ndjson", SMALL);
    let slow = deaf_ndjson(&fixture);
    flood(&fixture, "/stream");
    fixture.sidecar.await_metric("notifications_slow_streams", 1.0);
    fixture.sidecar.await_metric("notifications_queued_events", 32.0);
    assert!(fixture.sidecar.metric("notifications_queued_bytes").unwrap() > 32.0 * EVENT_BYTES as f64);
    drop(slow);
    for name in ["slow_streams", "queued_events", "queued_bytes"] {
        fixture.sidecar.await_metric(&format!("notifications_{name}"), 0.0);
    }
}

#[test]
fn many_slow_clients_use_bounded_memory() {
    let fixture = Fixture::with_route("/stream", "ndjson", SMALL);
    let deaf: Vec<_> = (0..20).map(|_| deaf_ndjson(&fixture)).collect();
    flood(&fixture, "/stream");
    let before = fixture.sidecar.resident_kib();
    for _ in 0..2 {
        flood(&fixture, "/stream");
    }
    let after = fixture.sidecar.resident_kib();
    assert!(after < before + GROWTH_KIB_MAX, "{before} KiB, then {after} KiB");
    assert!(fixture.sidecar.metric_sum("notifications_events_dropped_total") > 0.0);
    drop(deaf);
}

/// Produces more than all buffers hold, while another client receives every event in order.
fn flood(fixture: &Fixture, target: &str) -> Vec<String> {
    let call = fixture.get(target);
    if target == "/events" {
        flood_with(fixture, || {
            let mut stream = call.sse();
            Box::new(move || stream.event().event_id())
        })
    } else {
        flood_with(fixture, || {
            let mut stream = call.ndjson();
            Box::new(move || event_id(&stream.event()).expect("an event, not a gap"))
        })
    }
}

type NextId = Box<dyn FnMut() -> String>;

fn flood_with(fixture: &Fixture, reader: impl FnOnce() -> NextId) -> Vec<String> {
    let value = |n: usize| json!({"type": "t", "orderId": n % STATES, "data": "x".repeat(EVENT_BYTES)}).to_string();
    let mut next = reader();
    let mut ids = Vec::with_capacity(EVENTS);
    // In portions smaller than the queue, so that the reading client never overflows.
    while ids.len() < EVENTS {
        let values: Vec<String> = (ids.len()..ids.len() + 20).map(value).collect();
        let portion = fixture.broker.produce_all("orders", 0, values.iter().map(String::as_bytes));
        for id in &portion {
            assert_eq!(next(), *id, "the one who reads gets everything");
        }
        ids.extend(portion);
    }
    ids
}

fn deaf_ndjson(fixture: &Fixture) -> Ndjson {
    let (head, body) = deaf(fixture, fixture.get("/stream"));
    Ndjson::over(head, body)
}

/// The events that a client received, and those reported as missing.
#[derive(Default)]
struct Account {
    seen: Vec<String>,
    reported: BTreeSet<i64>,
    missed: u64,
}

impl Account {
    /// Reads up to the event with this id.
    fn of(stream: &mut Ndjson, last: &str) -> Self {
        let mut account = Self::default();
        while account.seen.last().is_none_or(|seen| seen != last) {
            account.note(&stream.event());
        }
        account
    }

    /// Reads up to the first gap.
    fn until_gap(stream: &mut Ndjson) -> Self {
        let mut account = Self::default();
        while account.missed == 0 {
            account.note(&stream.event());
        }
        account
    }

    fn note(&mut self, message: &Value) {
        if let Some(id) = event_id(message) {
            self.seen.push(id);
            return;
        }
        assert_eq!((&message["type"], &message["cause"]), (&json!("gap"), &json!("overflow")), "{message}");
        for range in message["ranges"].as_array().unwrap() {
            self.reported.extend(range["from"].as_i64().unwrap()..=range["to"].as_i64().unwrap());
        }
        self.missed += message["missed"].as_u64().unwrap();
    }

    fn add(&mut self, earlier: Self) {
        self.seen.extend(earlier.seen);
        self.reported.extend(earlier.reported);
        self.missed += earlier.missed;
    }

    /// Asserts that every event was received or reported as missing, and not both.
    #[track_caller]
    fn assert_covers(&self, wanted: &[String]) {
        let offset = |id: &String| id.rsplit(':').next().unwrap().parse::<i64>().unwrap();
        let seen: BTreeSet<i64> = self.seen.iter().map(offset).collect();
        assert_eq!(seen.len(), self.seen.len(), "an event came twice");
        assert!(seen.is_disjoint(&self.reported), "an event came and was reported as missed");
        let all: BTreeSet<i64> = seen.union(&self.reported).copied().collect();
        assert_eq!(all, wanted.iter().map(offset).collect());
        assert_eq!(self.missed, self.reported.len() as u64);
    }
}

fn event_id(message: &Value) -> Option<String> {
    (message["type"] != "gap").then(|| message["id"].as_str().unwrap().to_owned())
}
