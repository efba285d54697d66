//! Invalid input: a clear response and a metric, and no loss for other clients.

use serde_json::json;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Connection;

#[test]
fn undecodable_records_are_reported_and_skipped() {
    let fixture = Fixture::standard();
    let mut sse = fixture.get("/events").sse();
    let mut ndjson = fixture.get("/stream").ndjson();
    let mut websocket = fixture.get("/ws").websocket();
    let garbage = fixture.broker.produce_all("orders", 0, [&b"not json"[..], b"{\"cut\":", b"\xff\xfe"].into_iter());
    let id = fixture.broker.order("o1");
    let covered = |gap: &serde_json::Value| {
        assert_eq!((&gap["type"], &gap["cause"]), (&json!("gap"), &json!("undecodable")));
        let range = &gap["ranges"][0];
        (range["to"].as_i64().unwrap() - range["from"].as_i64().unwrap() + 1) as usize
    };
    let mut reported = 0;
    while reported < garbage.len() {
        let record = sse.event();
        assert_eq!(record.event.as_deref(), Some("gap"));
        reported += covered(&record.json());
    }
    assert_eq!(sse.ids(1), std::slice::from_ref(&id));
    reported = 0;
    while reported < garbage.len() {
        reported += covered(&ndjson.event());
    }
    assert_eq!(ndjson.ids(1), std::slice::from_ref(&id));
    reported = 0;
    while reported < garbage.len() {
        reported += covered(&websocket.event()["data"]);
    }
    assert_eq!(websocket.ids(1), [id]);
    fixture.sidecar.await_metric("notifications_kafka_undecodable_total{topic=\"orders\"}", 3.0);
}

#[test]
fn the_log_names_what_undecodable_records_look_like() {
    let fixture = Fixture::standard();
    fixture.broker.produce("orders", 0, None, Some(b"\0\0\0\x01\x02\x0eabc"));
    fixture.sidecar.await_log("Confluent's wire format, schema id 258");
}

#[test]
fn a_record_of_ten_megabytes_passes() {
    let streams = "topics: { spread: { replay: { bytes: 64MiB } } }\nstreams:\n  spread: { topics: [spread] }\nroutes:\n  \
                   - { path: /events, stream: spread, transport: sse, public: true, queue: { bytes: 64MiB } }\n";
    let fixture = Plan::new(streams).build();
    let mut stream = fixture.get("/events").sse();
    let text = "x".repeat(10 * 1024 * 1024);
    fixture.broker.event("spread", 0, json!({"type": "t", "data": text}));
    assert_eq!(stream.event().json()["data"].as_str().unwrap().len(), text.len());
    // In another partition: the mock cluster keeps 5 MiB of each, and would evict both.
    let after = fixture.broker.event("spread", 1, json!({"type": "t", "data": 1}));
    assert_eq!(stream.ids(1), [after]);
}

#[test]
fn a_record_larger_than_the_queue_passes_alone() {
    let fixture = Fixture::with_route("/events", "sse", "queue: { events: 16, bytes: 64KiB, overflow: drop-oldest }");
    let mut stream = fixture.get("/events").sse();
    let large = fixture.broker.event("orders", 0, json!({"type": "t", "data": "x".repeat(1024 * 1024)}));
    assert_eq!(stream.ids(1), [large]);
    // The large event has been sent, so that there is room again.
    let after = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [after]);
}

#[test]
fn an_invalid_last_event_id_causes_a_gap() {
    let fixture = Fixture::standard();
    let absurd = ["garbage", "orders:0", "orders:-1:5", "orders:0:99999999999999999999", "a:b:c:d", "orders:0:1~!!!"];
    for id in absurd.into_iter().map(str::to_owned).chain(["x".repeat(8000)]) {
        let mut stream = fixture.get("/events").header("Last-Event-ID", &id).sse();
        let gap = stream.event();
        assert_eq!(gap.event.as_deref(), Some("gap"), "{id:.40}");
    }
    assert_eq!(fixture.get("/events").header("Last-Event-ID", "").sse().record().unwrap().event, None);
}

#[test]
fn a_malformed_since_is_a_400() {
    let fixture = Fixture::standard();
    for since in ["garbage", "orders:0", "orders:0:x", "%00", "orders%3A0%3A99999999999999999999", "orders:0:1~%21"] {
        fixture.get(&format!("/stream?since={since}")).send().problem(400);
        assert_eq!(fixture.get(&format!("/ws?since={since}")).upgrade().send().status(), 400, "{since}");
    }
}

#[test]
fn a_cursor_of_another_topic_is_refused() {
    let fixture = Fixture::standard();
    let status = fixture.get("/stream?since=elsewhere:0:5").send().status();
    assert!([400, 410].contains(&status), "{status}");
    let gap = fixture.get("/events").header("Last-Event-ID", "elsewhere:0:5").sse().event();
    assert_eq!(gap.event.as_deref(), Some("gap"));
}

#[test]
fn control_bytes_in_a_path_are_refused() {
    let fixture = Fixture::standard();
    for target in [&b"/a\0b"[..], b"/events\0", b"/a\x01", b"/a\x7f", b"/a b"] {
        let mut connection = Connection::open(fixture.sidecar.listen);
        connection.write(&[b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert!(connection.try_head().is_none_or(|head| head.status == 400), "{target:?}");
    }
    assert!(fixture.upstream.seen().requests.is_empty(), "{:?}", fixture.upstream.seen());
}

#[test]
fn an_encoded_nul_bypasses_no_route() {
    let fixture = Fixture::standard();
    for target in ["/events%00", "/%00/events", "/orders/%00/events"] {
        let status = fixture.get(target).open().0.status;
        assert!([200, 400].contains(&status), "{target}: {status}");
    }
}

#[test]
fn a_flood_of_headers_is_refused() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    let mut many = fixture.get("/echo");
    for n in 0..2000 {
        many = many.header(&format!("X-{n}"), "flood");
    }
    let huge = fixture.get("/echo").header("X-Huge", "x".repeat(4 * 1024 * 1024));
    for call in [many, huge] {
        let mut connection = Connection::open(fixture.sidecar.listen);
        connection.try_write(&call.bytes());
        assert!(connection.try_head().is_none_or(|head| (400..=431).contains(&head.status)));
    }
    let id = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [id]);
    assert_eq!(fixture.get("/echo").send().status(), 200);
}

#[test]
fn ambiguous_requests_are_refused() {
    let fixture = Fixture::standard();
    let ambiguous: &[(&str, &str)] = &[
        ("no host", "GET /echo HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("two lengths", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        ("a list of lengths", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello"),
        ("a negative length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello"),
    ];
    for (what, request) in ambiguous {
        let mut connection = Connection::open(fixture.sidecar.listen);
        connection.write(request.as_bytes());
        assert!(connection.try_head().is_none_or(|head| head.status == 400), "{what}");
    }
    assert!(fixture.upstream.seen().requests.is_empty(), "{:?}", fixture.upstream.seen());
}

#[test]
fn a_broken_chunk_is_not_passed_off_as_a_whole_body() {
    let fixture = Fixture::standard();
    for body in ["\r\nhello\r\n0\r\n\r\n", "xyz\r\nhello\r\n0\r\n\r\n"] {
        let mut connection = Connection::open(fixture.sidecar.listen);
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.write(format!("{head}{body}").as_bytes());
        assert!(connection.try_head().is_none_or(|head| head.status != 200), "{body:?}");
    }
    assert_eq!(fixture.upstream.count("POST /echo"), 0);
}

#[test]
fn bytes_that_are_not_http_are_refused() {
    let fixture = Fixture::standard();
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..], b"hello\r\n\r\n", b"\r\n\r\n\r\n\r\n"] {
        let mut connection = Connection::open(fixture.sidecar.listen);
        connection.write(bytes);
        connection.half_close();
        assert!(connection.try_head().is_none_or(|head| head.status == 400));
    }
    assert_eq!(fixture.get("/echo").send().status(), 200);
}

#[test]
fn a_body_on_a_stream_request_is_refused_or_ignored() {
    let fixture = Fixture::standard();
    let status = fixture.get("/events").body("unexpected").open().0.status;
    assert!([200, 400].contains(&status), "{status}");
    assert_eq!(fixture.get("/echo").send().status(), 200);
}

#[test]
fn bad_requests_are_counted() {
    let fixture = Plan::new(STANDARD).build();
    fixture.get("//events").send().problem(400);
    fixture.get("/stream?since=garbage").send().problem(400);
    eventually_true("counted", || {
        fixture.sidecar.metric_sum("notifications_bad_requests_total")
            + fixture.sidecar.metric_sum("notifications_streams_rejected_total")
            >= 2.0
    });
}
