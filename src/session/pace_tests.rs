use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{Bench, masked, ready, resume};
use super::super::{CloseReason, Transport};
use super::*;
use crate::codec::websocket::Opcode;
use crate::event::Entry;
use crate::hub::ReplayLimits;
use crate::route::{HeartbeatForm, StreamRoute};
use crate::testing::{FakeLog, event};

const SECOND: Duration = Duration::from_secs(1);

fn limited(credit: Option<u32>, max_rate: Option<u32>) -> impl FnOnce(&mut Request, &mut StreamRoute) {
    move |request, _| request.pace = Pace::asked(credit, max_rate, Instant::now())
}

/// The number of each event, the cause of each gap, and the type of each other message, in order.
fn received(text: &str) -> Vec<String> {
    let starts = text.match_indices("{\"id\":").map(|(at, _)| at);
    let first = |at: usize| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next()?.ok();
    // Envelopes inside of messages look similar; only messages have a timestamp.
    starts.filter_map(first).filter(|value| value.get("timestamp").is_some()).map(|message| name(&message)).collect()
}

fn name(message: &Value) -> String {
    let data = &message["data"];
    let known = [&data["data"]["n"], &data["cause"], &data["type"], &message["type"]];
    let named = known.into_iter().find(|value| !value.is_null()).unwrap();
    named.to_string().replace('"', "")
}

fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn credit(bench: &mut Bench, session: &mut Session, events: u32) -> (Value, Vec<String>) {
    let command = json!({ "command": "credit", "events": events });
    let answer = bench.ask(session, &command);
    let at = answer.iter().position(|message| message["type"] == "response").unwrap();
    let left = answer[at]["data"]["result"]["credit"].clone();
    (left, answer.iter().skip(at + 1).map(name).collect())
}

/// A log with events, behind a window of four.
pub(super) fn logged(events: i64, limits: Option<ReplayLimits>) -> Bench {
    let mut bench = Bench::new();
    let entries: Vec<Entry> = (0..events).map(|n| Entry::Event(event("orders", 0, n, &[]))).collect();
    entries.iter().for_each(|entry| {
        bench.hub.append(entry);
    });
    let mut log = FakeLog::new(entries, 50);
    log.limits = limits.unwrap_or(log.limits);
    bench.log = Arc::new(log);
    bench
}

#[test]
fn nothing_is_sent_beyond_the_credit() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, limited(Some(2), None));
    bench.written(&mut session);
    (0..5).for_each(|n| bench.append(&mut session, n, &[]));
    assert_eq!(received(&bench.written(&mut session)), ["0", "1"]);
    let (left, events) = credit(&mut bench, &mut session, 1);
    assert_eq!((left, events), (json!(1), vec!["2".to_owned()]));
    let (left, events) = credit(&mut bench, &mut session, 100);
    assert_eq!((left, events), (json!(100), numbers(3..5)));
    let (left, _) = credit(&mut bench, &mut session, 7);
    assert_eq!(left, json!(105), "two of a hundred were used");
    bench.pass(SECOND);
    let (left, _) = credit(&mut bench, &mut session, CREDIT_MAX);
    assert_eq!(left, json!(CREDIT_MAX));
    for wrong in [json!(-1), json!("5"), json!(1.5), json!(null), json!(u64::from(CREDIT_MAX) + 1)] {
        bench.pass(SECOND);
        let answer = bench.ask(&mut session, &json!({ "command": "credit", "events": wrong }));
        assert_eq!(answer[0]["data"]["status"], "error", "{wrong}");
    }
}

#[test]
fn the_first_credit_limits_a_socket_that_had_no_limit() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, _| {});
    bench.written(&mut session);
    (0..3).for_each(|n| bench.append(&mut session, n, &[]));
    assert_eq!(received(&bench.written(&mut session)), numbers(0..3));
    // Two events are queued, and the first one is partly written.
    (3..5).for_each(|n| bench.append(&mut session, n, &[]));
    session.prepare(bench.now, |_| {});
    session.wrote(3, bench.now, |_, _| {});
    let (left, events) = credit(&mut bench, &mut session, 0);
    assert_eq!((left, events), (json!(0), vec![]), "the event that had begun precedes the response");
    let (left, events) = credit(&mut bench, &mut session, 2);
    assert_eq!((left, events), (json!(2), vec!["4".to_owned()]));
}

#[test]
fn what_is_no_event_overtakes_held_events_and_gaps_keep_their_place() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, limited(Some(1), None));
    bench.written(&mut session);
    // The queue holds eight events: of ten, the policy drops the two oldest that are held.
    bench.append(&mut session, 0, &[]);
    assert_eq!(received(&bench.written(&mut session)), ["0"]);
    (1..11).for_each(|n| bench.append(&mut session, n, &[]));
    assert_eq!(bench.written(&mut session), "", "not even the gap, into which later losses are merged");
    assert_eq!(bench.ask(&mut session, &json!({ "command": "ping" }))[0]["data"]["result"], "pong");
    let (_, events) = credit(&mut bench, &mut session, 2);
    assert_eq!(events, ["overflow", "3", "4"]);
    session.close(CloseReason::Drain);
    let goodbye = bench.written(&mut session);
    assert!(goodbye.contains("restarting") && received(&goodbye).is_empty(), "{goodbye}");
    assert!(session.is_flushed(), "held events are dropped; the client resumes with them");
}

#[test]
fn a_held_stream_is_pinged_and_its_heartbeat_has_no_cursor() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |request, route| {
        route.heartbeat_form = HeartbeatForm::Visible;
        request.pace = Pace::asked(Some(0), None, Instant::now());
    });
    bench.written(&mut session);
    bench.append(&mut session, 0, &[]);
    assert_eq!(bench.written(&mut session), "");
    bench.pass(Duration::from_secs(16));
    assert!(session.tick(&mut bench.context()));
    let beat = bench.written(&mut session);
    assert_eq!(received(&beat), ["heartbeat"]);
    assert!(!beat.contains("cursor"), "a client that resumes there would lose the held event: {beat}");
    assert_eq!(credit(&mut bench, &mut session, 1).1, ["0"]);
}

#[test]
fn replay_honours_credit_and_reads_no_further_ahead() {
    let limits = ReplayLimits { events: 1000, bytes: 1 << 20, time: SECOND };
    let mut bench = logged(400, Some(limits));
    let mut session = bench.open(Transport::WebSocket, |request, _| {
        request.resume = resume("orders:0:9");
        request.pace = Pace::asked(Some(3), None, Instant::now());
    });
    let mut all = received(&bench.written(&mut session));
    assert_eq!(all, numbers(10..13));
    while all.len() < 390 {
        assert!(session.backlog().0 <= 64, "{:?}", session.backlog());
        // Longer than a replay may take: the time does not count.
        bench.pass(2 * SECOND);
        session.tick(&mut bench.context());
        let (left, events) = credit(&mut bench, &mut session, 50);
        assert_eq!(left, json!(50));
        all.extend(events);
    }
    assert_eq!(all, numbers(10..400), "no gap, nothing twice");
}

#[test]
fn a_client_gets_no_more_a_second_than_it_asks_for() {
    for transport in Transport::ALL {
        let mut bench = Bench::new();
        let mut session = bench.open(transport, |request, _| request.pace = Pace::asked(None, Some(2), bench_now()));
        let head = bench.written(&mut session);
        assert!(head.contains("\r\nX-Max-Rate: 2\r\n"), "{head}");
        let start = Instant::now();
        bench.now.instant = start;
        (0..5).for_each(|n| bench.append(&mut session, n, &[]));
        let count = |text: String| (0..9).filter(|n| text.contains(&format!("\"data\":{{\"n\":{n}}}"))).count();
        assert_eq!(count(bench.written(&mut session)), 2);
        for _ in 0..3 {
            let due = session.pace_due().unwrap();
            assert_eq!(due, bench.now.instant + SECOND / 2);
            assert!(session.deadline() <= due);
            bench.now.instant = due;
            assert_eq!(count(bench.written(&mut session)), 1, "{transport:?}");
        }
        assert!(session.pace_due().is_none() && !session.is_holding());
    }
}

pub(super) fn bench_now() -> Instant {
    Instant::now() - 100 * SECOND
}

#[test]
fn the_first_credit_does_not_charge_granted_events_again() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, limited(None, Some(2)));
    bench.written(&mut session);
    (0..4).for_each(|n| bench.append(&mut session, n, &[]));
    session.prepare(bench.now, |_| {});
    let command = json!({ "command": "credit", "events": 2 });
    let answer: Vec<String> = bench.ask(&mut session, &command).iter().map(name).collect();
    assert_eq!(answer, ["0", "1", "response"], "granted events precede the response");
    bench.pass(2 * SECOND);
    session.tick(&mut bench.context());
    assert_eq!(received(&bench.written(&mut session)), ["2", "3"]);
}

/// What a client of a held stream may do, and what may happen to it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Event,
    Credit(u32),
    Ping,
    /// A write that the socket takes a part of, in bytes.
    Write(usize),
    Tick,
}

proptest! {
    #[test]
    fn no_event_is_sent_beyond_the_credit_and_none_is_lost_without_a_gap(steps in vec(step(), 0..120)) {
        let mut bench = Bench::new();
        let mut session = bench.open(Transport::WebSocket, |request, route| {
            request.pace = Pace::asked(Some(0), None, Instant::now());
            route.websocket.commands_per_second = 10_000;
            route.websocket.frames_per_second = 10_000;
        });
        bench.written(&mut session);
        let (mut bytes, mut next, mut credit) = (Vec::new(), 0, 0);
        for step in steps.into_iter().chain([Step::Credit(1000)]) {
            match step {
                Step::Event => {
                    bench.append(&mut session, next, &[]);
                    next += 1;
                }
                Step::Credit(events) => {
                    credit += events as usize;
                    read(&mut bench, &mut session, &json!({ "command": "credit", "events": events }));
                }
                Step::Ping => read(&mut bench, &mut session, &json!({ "command": "ping" })),
                Step::Write(part) => {
                    session.prepare(bench.now, |_| {});
                    let ready = ready(&session);
                    let part = part.min(ready.len());
                    bytes.extend(&ready[..part]);
                    session.wrote(part, bench.now, |_, _| {});
                }
                Step::Tick => drop(session.tick(&mut bench.context())),
            }
            let sent = String::from_utf8_lossy(&bytes).matches(r#""data":{"n":"#).count();
            prop_assert!(sent <= credit, "{sent} events with credit for {credit}");
        }
        bytes.extend(bench.bytes(&mut session));
        prop_assert_eq!(covered(&String::from_utf8_lossy(&bytes)), (0..next).collect::<Vec<_>>());
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Event),
        1 => (0..4_u32).prop_map(Step::Credit),
        1 => Just(Step::Ping),
        3 => (0..300_usize).prop_map(Step::Write),
        1 => Just(Step::Tick),
    ]
}

fn read(bench: &mut Bench, session: &mut Session, command: &Value) {
    session.read(&masked(Opcode::Text, command.to_string().as_bytes()), &mut bench.context());
}

/// The offsets of events and of the ranges of gaps, in the order in which they were received.
fn covered(text: &str) -> Vec<i64> {
    let starts = text.match_indices("{\"id\":").map(|(at, _)| at);
    let first = |at: usize| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>().next()?.ok();
    let messages = starts.filter_map(first).filter(|value| value.get("timestamp").is_some());
    let offsets = |message: Value| -> Vec<i64> {
        let data = &message["data"];
        let ranges = data["ranges"].as_array().into_iter().flatten();
        let missing = ranges.flat_map(|range| range["from"].as_i64().unwrap()..=range["to"].as_i64().unwrap());
        data["data"]["n"].as_i64().into_iter().chain(missing).collect()
    };
    messages.flat_map(offsets).collect()
}
