//! Streams that count in quotas: they share rates evenly, and lose nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::tests::{Bench, resume};
use super::super::{CloseReason, Transport};
use super::tests::{bench_now, logged};
use super::*;
use crate::quota::RESERVED_PERIOD;
use crate::route::Batch;
use crate::testing::event;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn streams_of_one_user_share_a_rate_and_a_neighbour_keeps_its_own() {
    let mut bench = Bench::new();
    let rates = Rates { bytes: Some(Rate::per_second(150)), ..Rates::default() };
    let meter = || Meter { quota: "claims.sub".into(), rates, buckets: Arc::new(Buckets::new(bench_now())) };
    let (shared, other) = (meter(), meter());
    let mut open = |meter: &Meter| {
        let mut session = bench.open(Transport::Ndjson, |request, _| request.count_in(vec![meter.clone()]));
        bench.written(&mut session);
        session
    };
    let (mut one, mut two, mut neighbour) = (open(&shared), open(&shared), open(&other));
    bench.now.instant = Instant::now();
    // Each event is about 75 bytes.
    for n in 0..2 {
        let event = event("orders", 0, n, &[]);
        let encoding = bench.encodings.shared(&event, one.subscriptions[0].frame(), || "orders:0:1".into()).unwrap();
        for session in [&mut one, &mut two, &mut neighbour] {
            session.offer(&event, &encoding, crate::hub::Seq::MAX - 2 + n as u64);
        }
    }
    let events = |text: String| text.lines().count();
    assert_eq!(events(bench.written(&mut neighbour)), 2);
    let shared = events(bench.written(&mut one)) + events(bench.written(&mut two));
    assert_eq!(shared, 2);
    assert!(two.is_holding() && two.pace_due().is_some());
    bench.now.instant += 2 * SECOND;
    assert_eq!(events(bench.written(&mut two)), 2, "later, and none is lost");
}

#[test]
fn a_socket_counts_once_in_the_quotas_of_its_subscriptions_and_only_while_it_has_them() {
    let mut bench = Bench::new();
    let rates = Rates { events: Some(Rate::per_second(1)), ..Rates::default() };
    let meter = || Meter { quota: "address".into(), rates, buckets: Arc::new(Buckets::new(bench_now())) };
    let (own, other) = (meter(), meter());
    let mut session = bench.open(Transport::Ndjson, |request, _| request.count_in(vec![own.clone()]));
    let counted = |session: &Session| session.request.pace.as_ref().map_or(0, |pace| pace.all_meters().count());
    session.request.count_in_subscribed([&own, &other, &other].into_iter());
    assert_eq!(counted(&session), 2);
    session.request.count_in_subscribed([].into_iter());
    assert_eq!(counted(&session), 1, "the connection still counts for itself");
}

#[test]
fn a_quota_of_replay_slows_the_replay() {
    let mut bench = logged(200, None);
    let rates = Rates { replay: Some(Rate::per_minute(2000)), ..Rates::default() };
    let meter = Meter { quota: "claims.sub".into(), rates, buckets: Arc::new(Buckets::new(bench_now())) };
    bench.now.instant = Instant::now();
    let mut session = bench.open(Transport::Ndjson, |request, _| {
        request.resume = resume("orders:0:99");
        request.count_in(vec![meter]);
    });
    let numbers = |text: &str| text.matches("\"data\":{\"n\":").count();
    let first = numbers(&bench.written(&mut session));
    assert!((1..50).contains(&first), "{first}");
    let (mut all, mut waits) = (first, 0);
    while all < 100 {
        assert!(session.is_holding() && session.closed().is_none());
        bench.now.instant = session.pace_due().unwrap();
        session.tick(&mut bench.context());
        let text = bench.written(&mut session);
        assert!(!text.contains("replay-limit"), "{text}");
        all += numbers(&text);
        waits += 1;
        assert!(waits < 100);
    }
    assert_eq!(all, 100);
}

#[test]
fn a_quota_of_commands_answers_with_an_error() {
    let mut bench = Bench::new();
    let rates = Rates { commands: Some(Rate::per_second(2)), ..Rates::default() };
    let meter = Meter { quota: "claims.sub".into(), rates, buckets: Arc::new(Buckets::new(Instant::now())) };
    let mut session = bench.open(Transport::WebSocket, |request, _| request.count_in(vec![meter]));
    bench.written(&mut session);
    let mut ping = |bench: &mut Bench| bench.ask(&mut session, &json!({ "command": "ping" }))[0]["data"].clone();
    assert_eq!((&ping(&mut bench)["status"], &ping(&mut bench)["status"]), (&json!("ok"), &json!("ok")));
    let refused = ping(&mut bench);
    assert!(refused["error"].as_str().unwrap().starts_with("too many commands (quota `claims.sub`)"), "{refused}");
    bench.pass(SECOND);
    assert_eq!(ping(&mut bench)["status"], "ok");
}

fn meter(rates: Rates) -> Meter {
    Meter { quota: "claims.sub".into(), rates, buckets: Arc::new(Buckets::new(bench_now())) }
}

#[test]
fn a_quota_of_commands_does_not_refuse_credit() {
    let mut bench = Bench::new();
    let quota = meter(Rates { commands: Some(Rate::per_minute(1)), ..Rates::default() });
    let mut session = bench.open(Transport::WebSocket, |request, _| request.count_in(vec![quota]));
    bench.written(&mut session);
    let mut status = |command: Value| bench.ask(&mut session, &command)[0]["data"]["status"].clone();
    assert_eq!(status(json!({ "command": "ping" })), "ok");
    assert_eq!(status(json!({ "command": "ping" })), "error");
    assert_eq!(status(json!({ "command": "credit", "events": 1 })), "ok");
}

#[test]
fn a_command_that_one_quota_refuses_is_charged_to_none() {
    let mut bench = Bench::new();
    let quota = |rate| meter(Rates { commands: Some(rate), ..Rates::default() });
    let (large, small) = (quota(Rate::per_minute(2)), quota(Rate::per_minute(1)));
    let meters = vec![large.clone(), small];
    let mut session = bench.open(Transport::WebSocket, |request, _| request.count_in(meters));
    bench.written(&mut session);
    for expected in ["ok", "error", "error"] {
        let answer = bench.ask(&mut session, &json!({ "command": "ping" }));
        assert_eq!(answer[0]["data"]["status"], expected);
    }
    assert_eq!(large.wait_for_command(bench.now.instant), None);
}

#[test]
fn a_stream_ends_after_the_events_that_its_rate_allows() {
    let quota = meter(Rates { events: Some(Rate::per_second(2)), ..Rates::default() });
    for (meter, events) in [(quota, 2), (meter(Rates { commands: Some(Rate::per_second(1)), ..Rates::default() }), 3)] {
        let mut bench = Bench::new();
        let mut session = bench.open(Transport::Ndjson, |request, _| request.count_in(vec![meter]));
        bench.written(&mut session);
        (0..3).for_each(|n| bench.append(&mut session, n, &[]));
        assert!(!session.is_paced(), "they have not been looked at");
        session.end(CloseReason::Drain, bench.now);
        let text = bench.written(&mut session);
        assert_eq!(text.matches("\"data\":{\"n\":").count(), events, "{text}");
    }
}

#[test]
fn events_that_a_rate_held_do_not_wait_for_a_batch() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Ndjson, |request, _| {
        request.batch = Batch::new(1000, 5 * SECOND);
        request.pace = Pace::asked(None, Some(2), bench_now());
    });
    bench.written(&mut session);
    (0..4).for_each(|n| bench.append(&mut session, n, &[]));
    assert!(session.gathers(bench.now.instant));
    bench.pass(5 * SECOND);
    assert!(!session.gathers(bench.now.instant));
    for events in [2, 1, 1] {
        let text = bench.written(&mut session);
        assert_eq!(text.matches("\"data\":{\"n\":").count(), events, "{text}");
        bench.pass(SECOND / 2);
        session.tick(&mut bench.context());
        assert!(!session.gathers(bench.now.instant));
    }
    bench.append(&mut session, 4, &[]);
    assert!(session.gathers(bench.now.instant), "no event is held any more");
}

/// The events that streams of one user get in five seconds, if each of them always has some to send.
fn shared(events_per_second: u64, streams: usize) -> Vec<usize> {
    let mut bench = Bench::new();
    let quota = meter(Rates { events: Some(Rate::per_second(events_per_second)), ..Rates::default() });
    bench.now.instant = Instant::now();
    let mut sessions: Vec<Session> = (0..streams)
        .map(|_| {
            let mut session = bench.open(Transport::Ndjson, |request, _| request.count_in(vec![quota.clone()]));
            bench.written(&mut session);
            session
        })
        .collect();
    let mut counts = vec![0; streams];
    let mut next = 0;
    for _ in 0..5 * SECOND.as_millis() / RESERVED_PERIOD.as_millis() {
        for _ in 0..4 {
            let event = event("orders", 0, next, &[]);
            let frame = sessions[0].subscriptions[0].frame();
            let encoding = bench.encodings.shared(&event, frame, || format!("orders:0:{next}").into()).unwrap();
            for session in &mut sessions {
                session.offer(&event, &encoding, crate::hub::Seq::MAX / 2 + next as u64);
            }
            next += 1;
        }
        for (session, count) in sessions.iter_mut().zip(&mut counts) {
            session.tick(&mut bench.context());
            *count += bench.written(session).matches("\"data\":{\"n\":").count();
        }
        bench.now.instant += RESERVED_PERIOD;
    }
    counts
}

#[test]
fn streams_that_wait_for_a_rate_share_it_evenly() {
    for (rate, streams) in [(100, 3), (10, 3), (2, 4), (150, 2)] {
        let counts = shared(rate, streams);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        // The first stream may use what a whole second allows.
        assert!(most - least <= rate as usize + 2, "{rate} events a second: {counts:?}");
        let after_the_first = (5 * rate as usize).saturating_sub(2) / streams;
        assert!(*least + 2 >= after_the_first, "{rate} events a second: {counts:?}");
    }
    let alone = shared(100, 1)[0];
    assert!((590..=600).contains(&alone), "nothing of the rate is lost: {alone}");
}

#[test]
fn what_a_closed_stream_waited_for_is_given_back() {
    let quota = meter(Rates { events: Some(Rate::per_second(1)), ..Rates::default() });
    let now = Instant::now();
    quota.sends(0, now);
    let reservations: Vec<Reservation> = (0..100)
        .map(|_| {
            let mut reserved = Reservation::new(vec![quota.clone()], now);
            reserved.take(0, now);
            reserved
        })
        .collect();
    assert_eq!(reservations.iter().map(Reservation::due).max(), Some(now + 100 * SECOND));
    drop(reservations);
    assert_eq!(quota.wait_to_send(0, now), Some(SECOND));
}

/// A reload that changes a rate keeps the counters: what was taken before delays what follows at the new rate.
#[test]
fn another_rate_continues_with_the_same_counters() {
    let before = meter(Rates { events: Some(Rate::per_second(10)), ..Rates::default() });
    let now = Instant::now();
    (0..10).for_each(|_| before.sends(0, now));
    let of = |events| Meter {
        rates: Rates { events: Some(Rate::per_second(events)), ..Rates::default() },
        ..before.clone()
    };
    assert_eq!(before.wait_to_send(0, now), Some(SECOND / 10));
    assert_eq!(of(2).wait_to_send(0, now), Some(SECOND / 2), "no second burst");
    assert_eq!(of(100).wait_to_send(0, now), Some(SECOND / 100));
    assert_eq!(of(2).wait_to_send(0, now + SECOND), None);
}
