//! Resume: after any disconnection, a client receives exactly what it missed, or a gap.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::cutter::Cutter;
use crate::support::eventually;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::Call;
use crate::support::ndjson::Ndjson;
use crate::support::sse::Sse;

/// The positions of the cuts, in bytes from the server: in the head, between records, and within records.
const CUTS: &[usize] = &[100, 301, 777, 1234, 2000, 2345, 3210];
const BEFORE: usize = 40;
const AFTER: usize = 10;
/// A configuration without replay from the log.
const WINDOW_ALONE: &str = "replay: { events: 0 }\n";

#[test]
fn sse_resumes_exactly_wherever_it_is_cut() {
    let fixture = Fixture::standard();
    let mut start = "orders:0:-1".to_owned();
    for cut in CUTS {
        let mut wanted = fixture.broker.orders("o1", BEFORE);
        fixture.settle("/events", &wanted);
        let cutter = Cutter::start(fixture.sidecar.listen, &[*cut]);
        let (mut seen, mut last) = (Vec::new(), start);
        let call = Call::new(cutter.address, "GET", "/events").header("Last-Event-ID", &last);
        if let Some((head, body)) = call.try_open() {
            let mut stream = Sse::over(head, body);
            while let Some(record) = stream.record() {
                seen.extend(record.data.is_some().then(|| record.event_id()));
            }
            assert!(stream.cut);
            last = stream.last_id.unwrap_or(last);
        }
        wanted.extend(fixture.broker.orders("o1", AFTER));
        fixture.settle("/events", &wanted);
        let mut stream = Call::new(cutter.address, "GET", "/events").header("Last-Event-ID", last).sse();
        seen.extend(stream.ids(wanted.len() - seen.len()));
        assert_eq!(seen, wanted, "cut after {cut} bytes");
        start = wanted.pop().unwrap();
    }
}

#[test]
fn ndjson_resumes_exactly_wherever_it_is_cut() {
    let fixture = Fixture::standard();
    let mut start = "orders:0:-1".to_owned();
    for cut in CUTS {
        let mut wanted = fixture.broker.orders("o1", BEFORE);
        fixture.settle("/events", &wanted);
        let cutter = Cutter::start(fixture.sidecar.listen, &[*cut]);
        let (mut seen, mut last) = (Vec::new(), start);
        let call = Call::new(cutter.address, "GET", &format!("/stream?since={last}"));
        if let Some((head, body)) = call.try_open() {
            let mut stream = Ndjson::over(head, body);
            while let Some(event) = stream.object() {
                seen.push(event["id"].as_str().unwrap().to_owned());
            }
            assert!(stream.cut);
            last = stream.cursor.unwrap_or(last);
        }
        wanted.extend(fixture.broker.orders("o1", AFTER));
        fixture.settle("/events", &wanted);
        let mut stream = Call::new(cutter.address, "GET", &format!("/stream?since={last}")).ndjson();
        seen.extend(stream.ids(wanted.len() - seen.len()));
        assert_eq!(seen, wanted, "cut after {cut} bytes");
        start = wanted.pop().unwrap();
    }
}

#[test]
fn websocket_resumes_exactly_wherever_it_is_cut() {
    let fixture = Fixture::standard();
    let mut start = "orders:0:-1".to_owned();
    for cut in CUTS.iter().filter(|cut| **cut > 300) {
        let mut wanted = fixture.broker.orders("o1", BEFORE);
        fixture.settle("/events", &wanted);
        let cutter = Cutter::start(fixture.sidecar.listen, &[*cut]);
        let mut raw = Call::new(cutter.address, "GET", &format!("/ws?since={start}")).raw_websocket();
        let mut seen = Vec::new();
        while let Some(frame) = raw.frame() {
            let event: Value = serde_json::from_slice(&frame.payload).unwrap();
            seen.push(event["id"].as_str().unwrap().to_owned());
        }
        let last = seen.last().unwrap_or(&start).clone();
        wanted.extend(fixture.broker.orders("o1", AFTER));
        fixture.settle("/events", &wanted);
        let mut socket = Call::new(cutter.address, "GET", &format!("/ws?since={last}")).websocket();
        seen.extend(socket.ids(wanted.len() - seen.len()));
        assert_eq!(seen, wanted, "cut after {cut} bytes");
        start = wanted.pop().unwrap();
    }
}

#[test]
fn the_header_wins_over_the_query() {
    let fixture = Fixture::standard();
    let ids = fixture.broker.orders("o1", 4);
    fixture.settle("/events", &ids);
    for query in ["last_event_id", "lastEventId"] {
        let target = format!("/events?{query}={}", ids[0]);
        assert_eq!(fixture.get(&target).sse().ids(3), ids[1..]);
        assert_eq!(fixture.get(&target).header("Last-Event-ID", &ids[2]).sse().ids(1), ids[3..]);
    }
}

#[test]
fn the_priming_record_is_enough_to_resume() {
    let fixture = Fixture::standard();
    let first = fixture.broker.order("o1");
    fixture.settle("/events", &[first]);
    let primed = fixture.get("/events").sse().record().unwrap().id.unwrap();
    let missed = fixture.broker.orders("o1", 3);
    fixture.settle("/events", &missed);
    assert_eq!(fixture.get("/events").header("Last-Event-ID", primed).sse().ids(3), missed);
}

#[test]
fn a_full_cursor_resumes_all_partitions() {
    let fixture = Fixture::standard();
    let beginning = beginning(&fixture);
    let wanted = spread(&fixture, 40);
    fixture.settle("/spread/events", &wanted);
    let mut stream = fixture.get(&format!("/spread/stream?since={beginning}")).ndjson();
    let seen = stream.ids(17);
    let cursor = stream.cursor.take().unwrap();
    assert!(cursor.contains('~'), "{cursor}");
    for resumed in [
        fixture.get(&format!("/spread/stream?since={cursor}")).ndjson().ids(23),
        fixture.get("/spread/events").header("Last-Event-ID", &cursor).sse().ids(23),
        fixture.get(&format!("/spread/ws?since={cursor}")).websocket().ids(23),
    ] {
        assert_exactly(&[seen.clone(), resumed].concat(), &wanted);
    }
}

#[test]
fn a_bare_event_id_resumes_exactly_within_the_window() {
    let fixture = Fixture::standard();
    let beginning = beginning(&fixture);
    let wanted = spread(&fixture, 40);
    fixture.settle("/spread/events", &wanted);
    let mut stream = fixture.get(&format!("/spread/stream?since={beginning}")).ndjson();
    let mut seen = stream.ids(17);
    // Soon after the start, an id of partition 0 may be the cursor of a replica that knows no other partition.
    while seen.last().is_some_and(|id| id.starts_with("spread:0:")) {
        seen.extend(stream.ids(1));
    }
    let bare = seen.last().unwrap().clone();
    assert!(!bare.contains('~'));
    let rest = wanted.len() - seen.len();
    seen.extend(fixture.get(&format!("/spread/stream?since={bare}")).ndjson().ids(rest));
    assert_exactly(&seen, &wanted);
}

#[test]
fn a_full_cursor_survives_a_restart() {
    let mut fixture = Fixture::standard();
    let beginning = beginning(&fixture);
    let mut wanted = spread(&fixture, 30);
    fixture.settle("/spread/events", &wanted);
    let mut stream = fixture.get(&format!("/spread/stream?since={beginning}")).ndjson();
    let seen = stream.ids(13);
    let cursor = stream.cursor.take().unwrap();
    fixture.restart();
    wanted.extend(spread(&fixture, 10));
    fixture.settle("/spread/events", &wanted);
    let rest = wanted.len() - seen.len();
    for resumed in [
        fixture.get(&format!("/spread/stream?since={cursor}")).ndjson().ids(rest),
        fixture.get("/spread/events").header("Last-Event-ID", &cursor).sse().ids(rest),
        fixture.get(&format!("/spread/ws?since={cursor}")).websocket().ids(rest),
    ] {
        assert_exactly(&[seen.clone(), resumed].concat(), &wanted);
    }
}

#[test]
fn an_event_id_of_one_partition_survives_a_restart() {
    let mut fixture = Fixture::standard();
    let ids = fixture.broker.orders("o1", 10);
    fixture.restart();
    assert_eq!(fixture.get(&format!("/stream?since={}", ids[3])).ndjson().ids(6), ids[4..]);
}

#[test]
fn a_filtered_stream_resumes_exactly() {
    let fixture = Fixture::standard();
    let first = fixture.broker.order("o1");
    fixture.broker.orders("o2", 5);
    let second = fixture.broker.order("o1");
    fixture.settle("/events", std::slice::from_ref(&second));
    let mut stream = fixture.get("/orders/o1/events").header("Last-Event-ID", first).sse();
    assert_eq!(stream.ids(1), [second]);
}

#[test]
fn what_left_the_window_comes_from_the_log() {
    let (fixture, ids) = short_window("refresh: /orders", "");
    assert_eq!(fixture.get("/events").header("Last-Event-ID", &ids[2]).sse().ids(17), ids[3..]);
    assert_eq!(fixture.get(&format!("/stream?since={}", ids[2])).ndjson().ids(17), ids[3..]);
    let mut socket = fixture.get(&format!("/ws?since={}", ids[2])).websocket();
    assert_eq!(socket.ids(17), ids[3..]);
    let next = fixture.broker.order("o1");
    assert_eq!(socket.ids(1), [next], "and then live");
    let read = fixture.sidecar.metric(r#"notifications_replay_records_total{topic="orders"}"#).unwrap();
    assert!(read < 40.0, "{read} records: one reading does for all");
}

#[test]
fn a_full_cursor_resumes_all_partitions_from_the_log() {
    let fixture = Plan::new(
        "topics: { spread: { replay: { events: 3 } } }\nstreams: { spread: { topics: [spread] } }\nroutes:\n  - { \
         path: /spread/stream, stream: spread, public: true, transport: ndjson }\n  - { path: /spread/events, stream: \
         spread, public: true, transport: sse }\n",
    )
    .build();
    let beginning = beginning(&fixture);
    let mut live = fixture.get("/spread/stream").ndjson();
    let wanted = spread(&fixture, 60);
    // Which three are in the window depends on the interleaving of partitions.
    assert_exactly(&live.ids(60), &wanted);
    let mut stream = fixture.get(&format!("/spread/stream?since={beginning}")).ndjson();
    let seen = stream.ids(23);
    let cursor = stream.cursor.take().unwrap();
    let rest = fixture.get("/spread/events").header("Last-Event-ID", &cursor).sse().ids(37);
    assert_exactly(&[seen, rest].concat(), &wanted);
}

#[test]
fn events_outside_the_window_are_gone_for_ndjson_and_websocket() {
    let (fixture, ids) = short_window("refresh: /orders", WINDOW_ALONE);
    let answer = fixture.get(&format!("/stream?since={}", ids[2])).send();
    let problem = answer.problem(410);
    assert_eq!(answer.header("x-replay-not-possible"), Some("true"));
    assert_eq!(problem["refresh"], "/orders");
    assert_eq!(fixture.get(&format!("/ws?since={}", ids[2])).upgrade().send().status(), 410);
    assert_eq!(fixture.get(&format!("/stream?since={}", ids[14])).ndjson().ids(5), ids[15..]);
}

#[test]
fn events_outside_the_window_are_a_gap_if_the_route_continues() {
    let (fixture, ids) = short_window("on_gap: continue, refresh: /orders", WINDOW_ALONE);
    let mut stream = fixture.get(&format!("/stream?since={}", ids[2])).ndjson();
    assert_gap(&stream.event(), "retention", 3, 14);
    assert_eq!(stream.ids(5), ids[15..]);
    let mut socket = fixture.get(&format!("/ws?since={}", ids[2])).websocket();
    assert_gap(&socket.event()["data"], "retention", 3, 14);
    assert_eq!(socket.ids(5), ids[15..]);
}

#[test]
fn events_outside_the_window_are_a_gap_for_sse() {
    let (fixture, ids) = short_window("refresh: /orders", WINDOW_ALONE);
    let mut stream = fixture.get("/events").header("Last-Event-ID", &ids[2]).sse();
    let gap = stream.event();
    assert_eq!(gap.event.as_deref(), Some("gap"));
    assert_gap(&gap.json(), "retention", 3, 14);
    // A client that disconnects after the gap does not receive it again.
    let cursor = gap.json()["cursor"].as_str().unwrap().to_owned();
    assert_eq!(fixture.get("/events").header("Last-Event-ID", cursor).sse().ids(5), ids[15..]);
    assert_eq!(stream.ids(5), ids[15..]);
}

#[test]
fn a_cursor_beyond_the_log_causes_a_gap() {
    let fixture = Fixture::standard();
    let ids = fixture.broker.orders("o1", 3);
    fixture.settle("/events", &ids);
    assert_eq!(fixture.get("/stream?since=orders:0:99").send().status(), 410);
    let mut stream = fixture.get("/events").header("Last-Event-ID", "orders:0:99").sse();
    let gap = stream.event();
    assert_eq!((gap.event.as_deref(), &gap.json()["cause"]), (Some("gap"), &json!("truncated")));
    let id = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [id]);
}

/// A fixture whose window keeps five events of `orders`, of which there are 20.
fn short_window(keys: &str, more: &str) -> (Fixture, Vec<String>) {
    let routes = format!(
        "{more}topics:\n  orders: {{ replay: {{ events: 5 }} }}\nstreams:\n  orders: {{ topics: [orders], keys: [orderId] \
         }}\nroutes:\n  - {{ path: /events, stream: orders, transport: sse, public: true, {keys} }}\n  - {{ path: \
         /stream, stream: orders, transport: ndjson, public: true, {keys} }}\n  - {{ path: /ws, stream: orders, \
         transport: ws, public: true, {keys} }}\n"
    );
    let fixture = Plan::new(routes).build();
    let mut live = fixture.get("/events").sse();
    let ids = fixture.broker.orders("o1", 20);
    assert_eq!(live.ids(20), ids);
    fixture.settle("/events", &ids[15..]);
    (fixture, ids)
}

#[track_caller]
fn assert_gap(gap: &Value, cause: &str, from: i64, to: i64) {
    assert_eq!((&gap["type"], &gap["cause"]), (&json!("gap"), &json!(cause)), "{gap}");
    assert_eq!(gap["ranges"], json!([{"topic": "orders", "partition": 0, "from": from, "to": to}]));
    assert!(gap["missed"].is_null() || gap["missed"] == to - from + 1, "{gap}");
    assert_eq!(gap["refresh"], "/orders");
    assert!(gap["cursor"].is_string(), "{gap}");
}

/// Produces to all partitions of `spread`, unevenly.
fn spread(fixture: &Fixture, count: usize) -> Vec<String> {
    let event = |n: usize| fixture.broker.event("spread", (n * 7 / 3 % 4) as i32, json!({"type": "t", "data": n}));
    (0..count).map(event).collect()
}

/// The cursor of a client that has received nothing of `spread`, from before the first record.
fn beginning(fixture: &Fixture) -> String {
    let primed = || fixture.get("/spread/events").sse().record()?.id;
    eventually("the stream has a position", primed)
}

/// Asserts the same ids without repetition, in order per partition.
#[track_caller]
fn assert_exactly(seen: &[String], wanted: &[String]) {
    assert_eq!(by_partition(seen), by_partition(wanted));
}

fn by_partition(ids: &[String]) -> BTreeMap<&str, Vec<i64>> {
    let mut partitions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for id in ids {
        let (partition, offset) = id.rsplit_once(':').unwrap();
        partitions.entry(partition).or_default().push(offset.parse().unwrap());
    }
    partitions
}
