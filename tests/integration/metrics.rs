//! Metrics and health: the documented names exist, the values change, and labels are bounded.

use serde_json::json;

use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::sidecar::Sidecar;
use crate::support::{DEADLINE, eventually_true};

#[test]
fn every_documented_metric_exists() {
    let fixture = Fixture::standard();
    let mut sse = fixture.get("/events").sse();
    let mut ndjson = fixture.get("/stream").ndjson();
    let mut websocket = fixture.get("/ws").websocket();
    let id = [fixture.broker.order("o1")];
    assert!(sse.ids(1) == id && ndjson.ids(1) == id && websocket.ids(1) == id);
    eventually_true("the events are counted", || {
        fixture.sidecar.metric("notifications_events_sent_total{type=\"order-updated\"}") == Some(3.0)
    });
    // From the client's statistics, every two seconds.
    let lag = "kafka_consumer_lag{partition=\"0\",topic=\"orders\"}";
    eventually_true("the lag is measured", || fixture.sidecar.metric(lag).is_some());
    let text = fixture.sidecar.admin("/metrics").text();
    for transport in ["sse", "stream", "ws"] {
        for name in ["active_connections", "events_sent_total", "bytes_total", "reconnects_total", "heartbeats_total"] {
            let name = format!("notifications_{transport}_{name}");
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is missing");
        }
        assert!(text.contains(&format!("# TYPE notifications_{transport}_active_connections gauge")));
    }
    assert!(text.contains("notifications_kafka_records_total{topic=\"orders\"}"));
}

#[test]
fn streams_move_their_metrics() {
    let fixture = Fixture::standard();
    for (transport, target) in [("sse", "/events"), ("stream", "/stream")] {
        let name = |what: &str| format!("notifications_{transport}_{what}");
        let first = fixture.broker.order("o1");
        fixture.settle("/events", std::slice::from_ref(&first));
        fixture.sidecar.await_metric("notifications_sse_active_connections", 0.0);
        let reconnects = fixture.sidecar.metric(&name("reconnects_total")).unwrap();
        let stream = fixture.get(&format!("{target}?since={first}&last_event_id={first}")).open();
        fixture.sidecar.await_metric(&name("reconnects_total"), reconnects + 1.0);
        fixture.sidecar.await_metric(&name("active_connections"), 1.0);
        drop(stream);
        fixture.sidecar.await_metric(&name("active_connections"), 0.0);
        assert!(fixture.sidecar.metric_sum(&name("disconnects_total")) >= 1.0);
        assert!(fixture.sidecar.metric(&name("bytes_total")).unwrap() > 0.0);
    }
}

#[test]
fn heartbeats_are_counted() {
    let fixture = Fixture::with_route("/events", "sse", "heartbeat_interval: 1s");
    let mut stream = fixture.get("/events").sse();
    stream.until("a heartbeat", |record| !record.comments.is_empty());
    eventually_true("counted", || fixture.sidecar.metric("notifications_sse_heartbeats_total").unwrap() >= 1.0);
}

#[test]
fn latencies_are_measured_per_transport() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    fixture.broker.order("o1");
    stream.ids(1);
    for name in ["event_to_flush_seconds", "receive_to_flush_seconds"] {
        let series = format!("notifications_{name}_count{{transport=\"sse\"}}");
        eventually_true(&series, || fixture.sidecar.metric(&series) == Some(1.0));
    }
}

#[test]
fn replayed_events_count_in_no_latency() {
    let fixture = Fixture::standard();
    let ids = fixture.broker.orders("o1", 5);
    fixture.settle("/events", &ids);
    let mut stream = fixture.get(&format!("/stream?since={}", ids[0])).ndjson();
    assert_eq!(stream.ids(4), ids[1..]);
    fixture.sidecar.await_metric("notifications_stream_events_sent_total", 4.0);
    let latency = "notifications_receive_to_flush_seconds_count{transport=\"ndjson\"}";
    assert_eq!(fixture.sidecar.metric(latency), Some(0.0));
    let next = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [next]);
    fixture.sidecar.await_metric(latency, 1.0);
}

#[test]
fn resumes_are_counted_by_where_they_came_from() {
    let routes = "streams:\n  orders: { topics: [orders], keys: [orderId] }\nroutes:\n  - { path: /events, stream: orders, \
                  transport: sse, public: true }\n  - { path: /ws, stream: orders, transport: ws, public: true }\n";
    let topics = "topics: { orders: { replay: { events: 5, bytes: 1MiB } } }";
    let fixture = Plan::new(format!("{topics}\n{routes}")).build();
    let ids = fixture.broker.orders("o1", 20);
    fixture.settle("/events", &ids[15..]);
    let resumes = |from: &str| format!("notifications_resumes_total{{from=\"{from}\"}}");
    assert_eq!(fixture.get("/events").header("Last-Event-ID", &ids[16]).sse().ids(3), ids[17..]);
    assert_eq!(fixture.get("/events").header("Last-Event-ID", &ids[2]).sse().ids(17), ids[3..]);
    assert_eq!(fixture.get("/ws?since=orders:0:99").upgrade().send().status(), 410);
    fixture.sidecar.await_metric(&resumes("log"), 1.0);
    fixture.sidecar.await_metric(&resumes("refused"), 1.0);
    // The others resumed from memory.
    eventually_true("the others", || {
        let reconnects = fixture.sidecar.metric("notifications_sse_reconnects_total").unwrap();
        reconnects >= 3.0 && fixture.sidecar.metric(&resumes("window")) == Some(reconnects - 1.0)
    });
}

#[test]
fn events_are_counted_by_route() {
    let fixture = Fixture::standard();
    let mut everybody: Vec<_> = (0..4).map(|_| fixture.get("/events").sse()).collect();
    let mut one = fixture.get("/orders/o1/ws").websocket();
    for (round, order) in ["o1", "o2", "o1"].into_iter().enumerate() {
        let id = fixture.broker.order(order);
        everybody.iter_mut().for_each(|stream| assert_eq!(stream.ids(1), std::slice::from_ref(&id), "round {round}"));
        if order == "o1" {
            assert_eq!(one.ids(1), [id]);
        }
    }
    let sent = |route: &str| format!("notifications_route_events_sent_total{{route=\"{route}\"}}");
    fixture.sidecar.await_metric(&sent("/events"), 12.0);
    fixture.sidecar.await_metric(&sent("/orders/{orderId}/ws"), 2.0);
    assert_eq!(fixture.sidecar.metric(&sent("/stream")), None, "nobody was there");
}

#[test]
fn the_load_of_each_writer_is_measured() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    fixture.broker.order("o1");
    stream.ids(1);
    for writer in ["0", "1"] {
        let series = format!("notifications_writer_busy_seconds_total{{writer=\"{writer}\"}}");
        eventually_true(&series, || fixture.sidecar.metric(&series).is_some_and(|seconds| seconds > 0.0));
    }
}

#[test]
fn a_stream_ends_with_one_log_line_without_personal_data() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/orders/secret-order/stream").ndjson();
    let id = fixture.broker.order("secret-order");
    assert_eq!(stream.ids(1), [id]);
    drop(stream);
    fixture.sidecar.await_metric("notifications_stream_active_connections", 0.0);
    fixture.sidecar.await_log("stream ended");
    let log = fixture.sidecar.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("stream ended")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let line = lines[0];
    for field in ["/orders/{orderId}/stream", "ndjson", "client-", "duration_ms", "events", "bytes"] {
        assert!(line.contains(field), "no {field} in {line}");
    }
    assert!(!log.contains("secret-order"), "{line}");
}

/// More log lines of requests and streams than a pipe and the queue hold.
#[test]
fn a_log_that_is_not_read_blocks_nothing() {
    const REQUESTS: usize = 10_000;
    let fixture = Fixture::standard();
    let (mut sidecar, _unread) = Sidecar::run_unread(&fixture.config, "debug");
    let mut stream = sidecar.call("GET", "/events").sse();
    for _ in 0..REQUESTS / 100 {
        let mut requests = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n".repeat(99);
        requests.extend_from_slice(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut socket = std::net::TcpStream::connect(sidecar.listen).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        std::io::Write::write_all(&mut socket, &requests).unwrap();
        let mut answers = String::new();
        std::io::Read::read_to_string(&mut socket, &mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 100);
    }
    let dropped = || sidecar.metric("notifications_log_lines_dropped_total").unwrap();
    assert!(dropped() > 0.0);
    drop(sidecar.call("GET", "/stream").ndjson());
    sidecar.await_metric("notifications_stream_active_connections", 0.0);
    let id = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [id], "the writer that logged goes on");
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait().code(), Some(0), "nor is its end held up");
}

#[test]
fn the_prefix_is_configurable() {
    let fixture = Plan::new(STANDARD).with("metrics: { prefix: shop }").build();
    let text = fixture.sidecar.admin("/metrics").text();
    assert!(text.contains("\nshop_sse_active_connections 0"));
    assert!(!text.contains("notifications_"));
}

#[test]
fn event_types_do_not_explode_the_labels() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    let values: Vec<String> =
        (0..200).map(|n| json!({"type": format!("t{n}"), "orderId": "o", "data": n}).to_string()).collect();
    let ids = fixture.broker.produce_all("orders", 0, values.iter().map(String::as_bytes));
    assert_eq!(stream.ids(200), ids);
    eventually_true("all are counted", || fixture.sidecar.metric_sum("notifications_events_sent_total") == 200.0);
    let text = fixture.sidecar.admin("/metrics").text();
    let series = text.lines().filter(|line| line.starts_with("notifications_events_sent_total{")).count();
    assert!(series <= 65, "{series} series");
    assert!(text.contains("notifications_events_sent_total{type=\"other\"}"));
}

#[test]
fn lag_goes_back_to_zero() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    fixture.broker.orders("o1", 100);
    stream.ids(100);
    fixture.sidecar.await_metric("kafka_consumer_lag{partition=\"0\",topic=\"orders\"}", 0.0);
}

#[test]
fn proxied_requests_are_counted() {
    let fixture = Plan::new(STANDARD).upstream("read_timeout: 300ms").build();
    fixture.get("/echo").send();
    fixture.get("/hang").send();
    eventually_true("both are counted", || fixture.sidecar.metric_sum("notifications_proxy_requests_total") >= 2.0);
    assert!(fixture.sidecar.metric_sum("notifications_upstream_errors_total") >= 1.0);
    let durations = |of: &str| fixture.sidecar.metric(&format!("notifications_proxy_request_seconds_{of}"));
    eventually_true("both are measured", || durations("count{status=\"5xx\"}") == Some(1.0));
    assert_eq!(durations("count{status=\"2xx\"}"), Some(1.0));
    assert_eq!(durations("bucket{status=\"5xx\",le=\"0.25\"}"), Some(0.0), "it waited for the timeout");
}

#[test]
fn the_process_and_its_version_have_the_usual_metrics() {
    let fixture = Fixture::standard();
    assert_eq!(
        fixture.sidecar.metric(concat!("notifications_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")),
        Some(1.0)
    );
    let resident = fixture.sidecar.metric("process_resident_memory_bytes").unwrap();
    assert!(resident > f64::from(1 << 20), "{resident}");
    let before = fixture.sidecar.metric("process_open_fds").unwrap();
    let _streams: Vec<_> = (0..3).map(|_| fixture.get("/events").sse()).collect();
    assert!(fixture.sidecar.metric("process_open_fds").unwrap() >= before + 3.0);
}

#[test]
fn health_is_on_the_admin_port_alone() {
    let fixture = Fixture::standard();
    for target in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(fixture.sidecar.admin(target).status(), 200);
        assert_eq!(fixture.get(target).send().json()["target"], target, "the upstream's on the public port");
    }
    assert_eq!(fixture.sidecar.admin("/elsewhere").status(), 404);
    assert!(fixture.sidecar.admin("/metrics").header("content-type").unwrap().starts_with("text/plain"));
}
