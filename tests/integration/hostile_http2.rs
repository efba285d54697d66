//! Clients that abuse HTTP/2, beside one that does not.

use std::io::Write as _;
use std::process::Command;

use serde_json::json;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, RST_STREAM, SETTINGS, WINDOW, head,
};
use crate::support::raw_upstream::RawUpstream;

/// ENHANCE_YOUR_CALM (RFC 9113 section 7).
const TOO_MUCH: u32 = 11;

#[track_caller]
fn assert_serves(fixture: &Fixture) {
    assert_eq!(fixture.get("/echo").send().status(), 200);
}

fn rejected(fixture: &Fixture, reason: &str) -> f64 {
    fixture.sidecar.metric(&format!("notifications_bad_requests_total{{reason=\"{reason}\"}}")).unwrap_or(0.0)
}

#[test]
fn a_head_without_end_is_rejected() {
    let fixture = Fixture::standard();
    let mut attacker = Http2::connect(fixture.sidecar.listen, WINDOW);
    attacker.send(HEADERS, END_STREAM, 1, &head("/echo", "a"));
    // A literal field without indexing, again and again.
    let field = [&[0, 1, b'x', 100][..], &[b'v'; 100]].concat().repeat(150);
    while attacker.send(CONTINUATION, 0, 1, &field) {}
    assert_serves(&fixture);
    assert_eq!(fixture.upstream.count("GET /echo"), 1);
}

#[test]
fn invalid_requests_end_the_connection() {
    let fixture = Fixture::standard();
    let mut attacker = Http2::connect(fixture.sidecar.listen, WINDOW);
    // User information is refused with a response. 33 requests are too many.
    for n in 0..33 {
        attacker.send(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head("/echo", "user@shop.example"));
    }
    assert_eq!(attacker.ended(), Some(TOO_MUCH));
    assert_eq!((rejected(&fixture, "http2-rejected"), fixture.upstream.count("GET /echo")), (1.0, 0));
    assert_serves(&fixture);
}

#[test]
fn requests_that_are_reset_for_errors_end_the_connection() {
    let fixture = Fixture::standard();
    let mut attacker = Http2::connect(fixture.sidecar.listen, WINDOW);
    // Not a path.
    for n in 0..200 {
        attacker.get(2 * n + 1, "http://other.example/");
    }
    assert_eq!(attacker.ended(), Some(TOO_MUCH));
    assert_eq!(rejected(&fixture, "http2-flood"), 1.0);
    assert_serves(&fixture);
}

#[test]
fn too_many_streams_are_refused_and_the_others_are_served() {
    let fixture = Fixture::standard();
    let mut attacker = Http2::connect(fixture.sidecar.listen, WINDOW);
    for n in 0..150 {
        attacker.get(2 * n + 1, "/hold");
    }
    eventually_true("requests wait", || fixture.upstream.count("GET /hold") >= 90);
    assert_serves(&fixture);
    assert!(fixture.upstream.count("GET /hold") <= 100);
}

#[test]
fn floods_of_frames_end_the_connection() {
    let fixture = Fixture::standard();
    for (floods, (kind, payload)) in (1u8..).zip([(PING, &[0; 8][..]), (SETTINGS, &[]), (DATA, &[])]) {
        let mut attacker = Http2::connect(fixture.sidecar.listen, WINDOW);
        attacker.send(HEADERS, END_HEADERS, 1, &head("/hold", "a"));
        let stream = u32::from(kind == DATA);
        // The answers stay unread.
        while attacker.send(kind, 0, stream, payload) {}
        eventually_true("the flood is counted", || rejected(&fixture, "http2-flood") == f64::from(floods));
        assert_serves(&fixture);
    }
}

/// Beside one that reads its own.
#[test]
fn responses_that_are_not_read_have_a_common_limit() {
    const BYTES: usize = 3_000_000;
    let upstream = RawUpstream::start(|_, socket| {
        let _ = write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
        let _ = socket.write_all(&[b'd'; BYTES]);
    });
    let plan = Plan::new(STANDARD).with("limits: { proxy_buffers: 2MiB }").upstream(&upstream.key());
    let fixture = plan.build();
    let mut attacker = Http2::connect(fixture.sidecar.listen, 0);
    for n in 0..20 {
        attacker.get(2 * n + 1, "/large");
    }
    let evicted = || fixture.sidecar.metric("notifications_connections_evicted_total");
    eventually_true("all but two are evicted", || evicted() == Some(18.0));
    assert_eq!(fixture.sidecar.metric("notifications_unread_responses"), Some(2.0));
    let url = format!("http://{}/large", fixture.sidecar.listen);
    let read = Command::new("curl").args(["-sS", "--http2-prior-knowledge", &url]).output().unwrap();
    assert!(read.status.success() && read.stdout.len() == BYTES);
    drop(attacker);
    fixture.sidecar.await_metric("notifications_unread_responses", 0.0);
}

#[test]
fn rapid_resets_end_the_connection() {
    let fixture = Fixture::standard();
    let mut attacker = Http2::connect(fixture.sidecar.listen, WINDOW);
    for n in 0..5_000 {
        let stream = 2 * n + 1;
        if !(attacker.get(stream, "/hang") && attacker.send(RST_STREAM, 0, stream, &8u32.to_be_bytes())) {
            break;
        }
    }
    eventually_true("the flood is counted", || rejected(&fixture, "http2-flood") == 1.0);
    assert_serves(&fixture);
    assert!(fixture.upstream.count("GET /hang") <= 200, "{}", fixture.upstream.count("GET /hang"));
}

/// A closed window is a full socket: the queue is bounded, and what it drops is a gap.
#[test]
fn a_stream_with_a_closed_window_costs_its_queue() {
    let route = "streams:\n  orders: { topics: [orders], keys: [orderId] }\nroutes:\n  - { path: /stream, stream: orders, \
                 transport: ndjson, public: true, queue: { events: 32, bytes: 1MiB, overflow: drop-oldest } }\n";
    let fixture = Plan::new(route).build();
    let mut attacker = Http2::connect(fixture.sidecar.listen, 0);
    attacker.get(1, "/stream");
    let mut reader = fixture.get("/stream").ndjson();
    fixture.sidecar.await_metric("notifications_stream_active_connections", 2.0);
    let data = "x".repeat(16 * 1024);
    for n in 0..100 {
        let order = json!({ "type": "order-created", "orderId": "o1", "data": { "n": n, "text": data } }).to_string();
        let id = fixture.broker.produce("orders", 0, None, Some(order.as_bytes()));
        assert_eq!(reader.ids(1), [id]);
    }
    eventually_true("events are dropped", || fixture.sidecar.metric_sum("notifications_events_dropped_total") >= 60.0);
    attacker.set_window(60_000);
    let mut text = String::new();
    while !text.contains("\"cause\":\"overflow\"") {
        text += &String::from_utf8_lossy(&attacker.until(DATA).payload);
    }
}
