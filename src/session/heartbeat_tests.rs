//! Heartbeats, pings and pongs.

use std::time::Duration;

use super::tests::{Bench, masked, resume};
use super::*;
use crate::codec::websocket::{Opcode, frame};
use crate::route::{HeartbeatForm, OnGap};

#[test]
fn only_an_idle_stream_sends_heartbeats() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Sse, |_, _| {});
    bench.written(&mut session);
    bench.pass(Duration::from_secs(10));
    bench.append(&mut session, 0, &[]);
    bench.written(&mut session);
    bench.pass(Duration::from_secs(10));
    assert!(!session.tick(&mut bench.context()));
    assert_eq!(session.deadline(), bench.now.instant + Duration::from_millis(3500));
    bench.pass(Duration::from_millis(3500));
    assert!(session.tick(&mut bench.context()));
    assert_eq!(bench.written(&mut session), ": keep-alive\n\n");
    assert_eq!(session.deadline(), bench.now.instant + Duration::from_millis(13_500));
}

#[test]
fn heartbeats_are_spread_and_never_late() {
    let mut bench = Bench::new();
    let mut sessions = [0.0, 0.25, 1.0].map(|jitter| {
        bench.jitter = jitter;
        bench.open(Transport::Sse, |_, _| {})
    });
    let due = |sessions: &[Session], now: Instant| {
        sessions.iter().map(|session| (session.deadline() - now).as_millis()).collect::<Vec<_>>()
    };
    let apart = [15_000, 14_250, 12_000];
    assert_eq!(due(&sessions, bench.now.instant), apart);
    // A common event does not synchronize them.
    bench.pass(Duration::from_secs(12));
    for session in &mut sessions {
        bench.append(session, 0, &[]);
        bench.written(session);
        session.tick(&mut bench.context());
    }
    assert_eq!(due(&sessions, bench.now.instant), apart);
}

#[test]
fn heartbeats_may_be_visible() {
    let mut bench = Bench::new();
    let mut beat = |transport| {
        let mut session = bench.open(transport, |_, route| route.heartbeat_form = HeartbeatForm::Visible);
        bench.written(&mut session);
        bench.pass(Duration::from_secs(15));
        assert!(session.tick(&mut bench.context()));
        bench.written(&mut session)
    };
    assert!(
        beat(Transport::Sse).starts_with("id: orders:0:-1\nevent: heartbeat\ndata: {\"type\":\"heartbeat\",\"ts\":")
    );
    assert!(beat(Transport::Ndjson).contains("\"cursor\":\"orders:0:-1\"}\n"));
    assert!(beat(Transport::WebSocket).contains("\"data\":{\"type\":\"heartbeat\""));
}

#[test]
fn an_immediate_heartbeat_states_the_interval() {
    for transport in Transport::ALL {
        let mut bench = Bench::new();
        let mut session = bench.open(transport, |_, route| route.heartbeat_form = HeartbeatForm::Immediate);
        let text = bench.written(&mut session);
        assert!(text.contains(r#""type":"heartbeat","ts":1000000,"interval":15000,"cursor":"orders:0:-1""#), "{text}");
        let mut behind = bench.open(transport, |request, route| {
            request.resume = resume("orders:0:-1");
            (route.heartbeat_form, route.on_gap) = (HeartbeatForm::Immediate, OnGap::Continue);
        });
        let text = bench.written(&mut behind);
        assert_eq!(text.matches(r#""interval":15000"#).count(), 1, "{text}");
    }
}

#[test]
fn a_missed_pong_ends_a_websocket_and_any_frame_counts_as_one() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, _| {});
    bench.written(&mut session);
    bench.pass(Duration::from_secs(15));
    assert!(session.tick(&mut bench.context()));
    assert_eq!(bench.bytes(&mut session), frame(Opcode::Ping, b""));
    session.read(&masked(Opcode::Ping, b"x"), &mut bench.context());
    assert_eq!(bench.bytes(&mut session), frame(Opcode::Pong, b"x"));
    bench.pass(Duration::from_secs(15));
    assert!(session.tick(&mut bench.context()));
    bench.written(&mut session);
    bench.pass(Duration::from_secs(10));
    session.tick(&mut bench.context());
    assert_eq!(session.closed(), Some(CloseReason::PongTimeout));
}

#[test]
fn an_idle_websocket_is_pinged_even_if_its_client_sends() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, _| {});
    bench.written(&mut session);
    for _ in 0..3 {
        bench.pass(Duration::from_secs(5));
        session.read(&masked(Opcode::Pong, b""), &mut bench.context());
    }
    assert!(session.tick(&mut bench.context()));
    assert_eq!(bench.bytes(&mut session), frame(Opcode::Ping, b""));
}

#[test]
fn frequent_pings_do_not_extend_the_pong_deadline() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |_, route| route.heartbeat = Duration::from_secs(4));
    bench.written(&mut session);
    for _ in 0..4 {
        bench.pass(Duration::from_secs(4));
        session.tick(&mut bench.context());
        bench.written(&mut session);
    }
    assert_eq!(session.closed(), Some(CloseReason::PongTimeout));
}
