//! Traces: spans reach a collector and continue incoming traces; a disabled or unreachable collector affects nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::collector::{Collector, Span};
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::{DEADLINE, eventually_true};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// OTLP's values of span kinds.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CONSUMER: i32 = 5;

fn sampled() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

fn unsampled() -> String {
    format!("00-{TRACE}-{PARENT}-00")
}

fn fixture(collector: &Collector, sample: f64) -> Fixture {
    Plan::new(STANDARD).with(&collector.section(sample)).build()
}

/// The values of a header at the upstream.
fn seen<'a>(echo: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = echo["headers"].as_array().unwrap().iter();
    headers
        .filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .filter_map(|pair| pair[1].as_str())
        .collect()
}

#[track_caller]
fn is_recent(span: &Span) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let start = Duration::from_nanos(span.start);
    assert!(span.start <= span.end && start <= now && now - start < 4 * DEADLINE, "{span:?}");
}

#[test]
fn a_traceparent_is_continued_upstream() {
    let collector = Collector::start();
    let fixture = fixture(&collector, 0.0);
    let call =
        fixture.call("POST", "/echo/a?token=secret").header("traceparent", sampled()).header("tracestate", "a=b");
    let echo = call.body("x").send().json();
    let spans = collector.named("POST", 1);
    let span = &spans[0];
    assert_eq!((&*span.trace, &*span.parent, span.kind, &*span.service), (TRACE, PARENT, SERVER, "shop"));
    assert_eq!(seen(&echo, "traceparent"), [format!("00-{TRACE}-{}-01", span.id)]);
    assert_eq!(seen(&echo, "tracestate"), ["a=b"]);
    span.is(&[("http.request.method", "POST"), ("url.path", "/echo/a"), ("http.response.status_code", "200")]);
    assert!(!format!("{span:?}").contains("secret") && !span.is_error);
    is_recent(span);
}

#[test]
fn unsampled_requests_pass_unchanged_and_open_no_connection() {
    let collector = Collector::start();
    let (on, off) = (fixture(&collector, 0.0), Fixture::standard());
    for (fixture, traceparent) in [(&on, unsampled()), (&off, sampled()), (&off, "nonsense".into())] {
        let echo = fixture.get("/echo").header("traceparent", &traceparent).send().json();
        assert_eq!(seen(&echo, "traceparent"), [traceparent]);
    }
    for fixture in [&on, &off] {
        assert!(seen(&fixture.get("/echo").send().json(), "traceparent").is_empty());
        let mut stream = fixture.get("/events").sse();
        let id = fixture.broker.order("a");
        assert_eq!(stream.ids(1), [id]);
    }
    // This request alone is sampled.
    on.get("/echo/last").header("traceparent", sampled()).send();
    collector.named("GET", 1)[0].is(&[("url.path", "/echo/last")]);
    assert_eq!((collector.spans().len(), collector.connections()), (1, 1));
}

#[test]
fn without_a_traceparent_a_share_of_traces_begins_here_and_can_be_changed() {
    let collector = Collector::start();
    let fixture = fixture(&collector, 0.0);
    fixture.get("/echo/before").send();
    let text = fs::read_to_string(&fixture.config).unwrap();
    fs::write(&fixture.config, text.replace("sample: 0.0", "sample: 1.0")).unwrap();
    fixture.sidecar.await_metric("notifications_config_reloads_total{result=\"success\"}", 1.0);
    let echo = fixture.get("/echo/after").send().json();
    let span = &collector.named("GET", 1)[0];
    span.is(&[("url.path", "/echo/after")]);
    assert_eq!((seen(&echo, "traceparent"), &*span.parent), (vec![&*format!("00-{}-{}-01", span.trace, span.id)], ""));
}

#[test]
fn failures_of_the_upstream_are_errors() {
    let collector = Collector::start();
    let fixture = fixture(&collector, 1.0);
    assert_eq!(fixture.get("/close").send().status(), 502);
    let span = &collector.named("GET", 1)[0];
    span.is(&[("http.response.status_code", "502"), ("error.type", "closed")]);
    assert!(span.is_error);
}

#[test]
fn a_streams_span_ends_with_its_answers_head() {
    let collector = Collector::start();
    let fixture = fixture(&collector, 0.0);
    let asked = |target: &str| fixture.get(target).header("traceparent", sampled());
    let _sse = asked("/orders/o1/events").sse();
    let _websocket = asked("/ws").websocket();
    assert_eq!(asked("/stream?since=orders:0:99").send().status(), 410);
    assert_eq!(asked("/mine/stream").send().status(), 401);
    for (name, status, path) in [
        ("GET /orders/{orderId}/events", "200", "/orders/o1/events"),
        ("GET /ws", "101", "/ws"),
        ("GET /stream", "410", "/stream"),
        ("GET /mine/stream", "401", "/mine/stream"),
    ] {
        let span = &collector.named(name, 1)[0];
        assert_eq!((&*span.trace, &*span.parent, span.kind), (TRACE, PARENT, SERVER));
        let route = name.strip_prefix("GET ").unwrap();
        span.is(&[("http.response.status_code", status), ("url.path", path), ("http.route", route)]);
        is_recent(span);
    }
}

#[test]
fn an_event_is_one_trace_with_two_spans_per_writer() {
    const STREAMS: usize = 7;
    let collector = Collector::start();
    let fixture = fixture(&collector, 0.0);
    let mut streams: Vec<_> = (0..STREAMS).map(|_| fixture.get("/events").sse()).collect();
    let event = json!({"type": "t", "orderId": "o", "data": 1}).to_string();
    fixture.broker.produce_in_trace("orders", &event, &unsampled());
    let id = fixture.broker.produce_in_trace("orders", &event, &sampled());
    streams.iter_mut().for_each(|stream| assert_eq!(stream.ids(2)[1], id));

    let receive = &collector.named("receive orders", 1)[0];
    assert_eq!((&*receive.trace, &*receive.parent, receive.kind), (TRACE, PARENT, CONSUMER));
    receive.is(&[
        ("messaging.system", "kafka"),
        ("messaging.destination.name", "orders"),
        ("messaging.destination.partition.id", "0"),
        ("messaging.kafka.offset", "1"),
        ("event.id", &id),
    ]);
    is_recent(receive);
    // There are two writers, which share the streams.
    let (enqueued, flushed) = (collector.named("enqueue orders", 2), collector.named("flush orders", 2));
    let count = |spans: &[Span]| spans.iter().map(|span| span.attributes["user.count"].parse::<usize>().unwrap()).sum();
    assert_eq!((count(&enqueued), count(&flushed)), (STREAMS, STREAMS));
    for flush in &flushed {
        let enqueue = enqueued.iter().find(|span| span.id == flush.parent).unwrap();
        assert_eq!((&enqueue.parent, enqueue.kind, flush.kind), (&receive.id, INTERNAL, INTERNAL));
        assert!([&enqueue.trace, &flush.trace].iter().all(|trace| **trace == TRACE));
        flush.is(&[("event.id", &id), ("sidestream.writer", &enqueue.attributes["sidestream.writer"])]);
        assert!(receive.start <= enqueue.start && enqueue.end <= flush.start && flush.start <= flush.end);
        assert!(flush.moments.len() == 1 && (flush.start..=flush.end).contains(&flush.moments[0]), "{flush:?}");
        assert!(!flush.attributes.contains_key("sidestream.streams.not_reached"));
    }
    assert_eq!(collector.spans().len(), 5, "{:#?}", collector.spans());
}

#[test]
fn records_without_a_parent_begin_traces_and_undecodable_ones_are_errors() {
    let collector = Collector::start();
    let fixture = fixture(&collector, 1.0);
    fixture.broker.order("a");
    fixture.broker.produce("orders", 0, None, Some(b"{ no JSON"));
    let spans = collector.named("receive orders", 2);
    assert!(spans.iter().all(|span| span.parent.is_empty()) && spans[0].trace != spans[1].trace);
    assert_eq!((spans[0].is_error, spans[1].is_error), (false, true));
    spans[1].is(&[("error.type", "undecodable"), ("messaging.kafka.offset", "1")]);
    assert!(!collector.spans().iter().any(|span| span.name.starts_with("enqueue")), "nobody waits for it");
}

/// The flush span does not wait for a client that does not read: it ends after a while.
#[test]
fn a_stream_that_does_not_read_is_counted() {
    let collector = Collector::start();
    let fixture = fixture(&collector, 0.0);
    let _deaf = fixture.get("/stream").open();
    let filler = json!({"type": "t", "orderId": "o", "data": "x".repeat(500_000)}).to_string();
    // More than the sockets hold.
    fixture.broker.produce_all("orders", 0, (0..30).map(|_| filler.as_bytes()));
    let queued = || fixture.sidecar.metric("notifications_queued_events").is_some_and(|queued| queued > 0.0);
    eventually_true("events that wait for the client", queued);
    fixture.broker.produce_in_trace("orders", &filler, &sampled());
    let flush = &collector.named("flush orders", 1)[0];
    flush.is(&[("user.count", "0"), ("sidestream.streams.not_reached", "1")]);
    assert!(flush.moments.is_empty());
}

/// A batch waits for two seconds. The process does not wait that long to exit, but it sends the batch.
#[test]
fn queued_spans_are_exported_at_the_end() {
    let collector = Collector::start();
    let mut fixture = fixture(&collector, 1.0);
    let stream = fixture.get("/stream").ndjson();
    fixture.get("/echo").send();
    fixture.sidecar.terminate();
    drop(stream);
    collector.named("GET", 1);
    collector.named("GET /stream", 1);
}

#[test]
fn an_unreachable_collector_affects_nothing_and_is_counted() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let section = format!("tracing: {{ endpoint: \"http://{gone}\", sample: 1.0 }}");
    let mut fixture = Plan::new(STANDARD).with(&section).build();
    let mut stream = fixture.get("/events").sse();
    assert_eq!(fixture.get("/echo").send().status(), 200);
    let id = fixture.broker.order("a");
    assert_eq!(stream.ids(1), [id]);
    // Two requests, and the three spans of an event.
    fixture.sidecar.await_metric("notifications_spans_dropped_total{reason=\"collector\"}", 5.0);
    fixture.sidecar.await_log("the collector does not accept spans; dropping them");
    assert_eq!(fixture.sidecar.metric("notifications_spans_exported_total"), Some(0.0));
    fixture.sidecar.terminate();
}

#[test]
fn a_collector_that_does_not_respond_blocks_nothing() {
    let collector = Collector::silent();
    let mut fixture = fixture(&collector, 1.0);
    let mut stream = fixture.get("/events").sse();
    // More spans than the queue to the collector holds.
    for _ in 0..40 {
        let mut requests = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n".repeat(99);
        requests.extend_from_slice(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut socket = TcpStream::connect(fixture.sidecar.listen).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(&requests).unwrap();
        let mut answers = String::new();
        socket.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 100);
    }
    let dropped = "notifications_spans_dropped_total{reason=\"queue\"}";
    eventually_true("spans are dropped", || fixture.sidecar.metric(dropped).is_some_and(|count| count > 0.0));
    let id = fixture.broker.order("a");
    assert_eq!(stream.ids(1), [id]);
    assert!(collector.connections() >= 1);
    fixture.sidecar.terminate();
}
