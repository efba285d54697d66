//! Pass-through: requests that are not for streams reach the upstream unchanged.

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Connection;

#[test]
fn a_request_reaches_the_upstream_as_it_came() {
    let fixture = Fixture::standard();
    let target = "/echo/%7Efoo?x=1&y=%20&y=2";
    let answer = fixture.call("POST", target).header("X-Custom", "kept").body("the body").send();
    assert_eq!((answer.status(), answer.header("x-upstream")), (200, Some("yes")));
    let seen = answer.json();
    assert_eq!((seen["method"].as_str(), seen["target"].as_str()), (Some("POST"), Some(target)));
    assert_eq!(seen["body"], "the body");
    assert_eq!(header(&seen, "x-custom"), ["kept"]);
    assert_eq!(header(&seen, "host"), ["shop.example"]);
}

#[test]
fn every_method_passes() {
    let fixture = Fixture::standard();
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(fixture.call(method, "/echo").send().json()["method"], method);
    }
    let head = fixture.call("HEAD", "/echo").send();
    assert_eq!((head.status(), head.body.len()), (200, 0));
    assert_eq!(fixture.upstream.count("HEAD /echo"), 1);
}

#[test]
fn a_request_body_is_not_held_back() {
    let fixture = Fixture::standard();
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst");
    eventually_true("the first half at the upstream", || fixture.upstream.seen().body_bytes == 5);
    connection.write(b"later");
    assert_eq!(connection.answer().json()["body"], "firstlater");
}

#[test]
fn a_chunked_request_body_is_not_held_back() {
    let fixture = Fixture::standard();
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    eventually_true("the first chunk at the upstream", || fixture.upstream.seen().body_bytes == 5);
    connection.write(b"5\r\nlater\r\n0\r\n\r\n");
    assert_eq!(connection.answer().json()["body"], "firstlater");
}

#[test]
fn an_answer_is_not_held_back() {
    let fixture = Fixture::standard();
    let (_, mut body) = fixture.get("/halves").open();
    assert_eq!(body.next().unwrap().unwrap(), b"first half,");
    fixture.upstream.release();
    assert_eq!(body.next().unwrap().unwrap(), b"second half");
    assert!(body.next().unwrap().is_none());
}

#[test]
fn a_large_body_passes() {
    let fixture = Fixture::standard();
    let answer = fixture.call("POST", "/echo").body(vec![b'x'; 20 * 1024 * 1024]).send();
    assert_eq!(answer.json()["bytes"], 20 * 1024 * 1024);
}

#[test]
fn streams_of_the_upstream_pass_unbuffered() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/sse").sse();
    assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
    assert!(stream.head.header("cache-control").unwrap().contains("no-transform"));
    assert_eq!(stream.event().data.as_deref(), Some("first"));
    let mut lines = fixture.get("/ndjson").ndjson();
    assert_eq!(lines.head.header("x-accel-buffering"), Some("no"));
    assert_eq!(lines.line().as_deref(), Some("{\"n\":1}"));
    fixture.upstream.release();
    assert_eq!(stream.event().data.as_deref(), Some("second"));
    assert_eq!(lines.line().as_deref(), Some("{\"n\":2}"));
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let fixture = Fixture::standard();
    // Repeated, because the upstream's speed must not matter (cloudflare/pingora issue 946).
    for _ in 0..50 {
        let mut tunnel = fixture.get("/tunnel").raw_websocket();
        for bytes in [&b"no frames,"[..], b"just bytes"] {
            tunnel.connection.write(bytes);
            assert_eq!(tunnel.connection.exactly(bytes.len()).as_deref(), Some(bytes));
        }
    }
}

#[test]
fn a_declined_upgrade_is_an_ordinary_answer() {
    let fixture = Fixture::standard();
    let mut connection = Connection::open(fixture.sidecar.listen);
    let asking = b"GET /echo/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    connection.write(asking);
    let declined = connection.answer().json();
    assert_eq!((&declined["target"], header(&declined, "upgrade").len()), (&"/echo/1".into(), 1), "{declined}");
    connection.write(&fixture.get("/echo/2").bytes());
    assert_eq!(connection.answer().json()["target"], "/echo/2", "the connection goes on");
    fixture.get("/close").header("Connection", "Upgrade").header("Upgrade", "websocket").send().problem(502);
}

#[test]
fn an_unrequested_101_is_rejected() {
    let fixture = Fixture::standard();
    let answer = fixture.get("/sly").send();
    answer.problem(502);
    assert!(!answer.text().contains("smuggled"));
}

#[test]
fn forwarded_headers_of_untrusted_clients_are_replaced() {
    let fixture = Fixture::standard();
    let seen = forwarded(&fixture);
    assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(header(&seen, "x-forwarded-host"), ["shop.example"]);
}

#[test]
fn forwarded_headers_of_trusted_clients_are_extended() {
    for trust in ["all", "[127.0.0.0/8]"] {
        let fixture = Plan::new(STANDARD).with(&format!("forwarded: {{ trust: {trust} }}")).build();
        let seen = forwarded(&fixture);
        assert_eq!(header(&seen, "x-forwarded-for").join(", "), "192.0.2.7, 127.0.0.1", "trust: {trust}");
        assert_eq!(header(&seen, "x-forwarded-proto"), ["https"]);
        assert_eq!(header(&seen, "x-forwarded-host"), ["www.example"]);
    }
}

#[test]
fn other_networks_are_untrusted() {
    let fixture = Plan::new(STANDARD).with("forwarded: { trust: [10.0.0.0/8] }").build();
    assert_eq!(header(&forwarded(&fixture), "x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn a_silent_upstream_is_a_504() {
    let fixture = Plan::new(STANDARD).upstream("read_timeout: 300ms").build();
    fixture.get("/hang").send().problem(504);
    assert_eq!(fixture.upstream.count("GET /hang"), 1, "a timeout is not tried again");
}

#[test]
fn no_upstream_is_a_502() {
    let fixture = Plan::new(STANDARD).upstream("address: \"127.0.0.1:1\"").build();
    fixture.get("/echo").send().problem(502);
    fixture.call("POST", "/echo").body("lost").send().problem(502);
}

#[test]
fn a_closing_upstream_is_a_502_after_bounded_retries() {
    let fixture = Plan::new(STANDARD).upstream("retries: 1").build();
    fixture.get("/echo").send();
    fixture.get("/close").send().problem(502);
    assert_eq!(fixture.upstream.count("GET /close"), 2, "once on the kept connection, once on a new one");
}

#[test]
fn a_request_is_tried_again_where_a_kept_connection_was_closed() {
    let fixture = Plan::new(STANDARD).upstream("retries: 1").build();
    fixture.get("/echo").send();
    assert_eq!(fixture.get("/flaky").send().status(), 200);
    assert_eq!(fixture.upstream.count("GET /flaky"), 2);
}

#[test]
fn a_request_without_a_body_is_tried_again() {
    let fixture = Plan::new(STANDARD).upstream("retries: 1").build();
    assert_eq!(fixture.get("/flaky").send().status(), 200);
    assert_eq!(fixture.upstream.count("GET /flaky"), 2);
}

#[test]
fn retries_may_be_turned_off() {
    let fixture = Plan::new(STANDARD).upstream("retries: 0").build();
    fixture.get("/flaky").send().problem(502);
}

#[test]
fn a_request_whose_body_was_sent_is_not_tried_again() {
    let fixture = Plan::new(STANDARD).upstream("retries: 1").build();
    fixture.get("/echo").send();
    fixture.call("POST", "/flaky").body("once").send().problem(502);
    assert_eq!(fixture.upstream.count("POST /flaky"), 1);
}

#[test]
fn nothing_is_tried_again_after_the_first_byte() {
    let fixture = Plan::new(STANDARD).upstream("retries: 1").build();
    let (head, mut body) = fixture.get("/partial").open();
    assert_eq!(head.status, 200);
    let end = std::iter::from_fn(|| body.next().transpose()).find_map(Result::err);
    assert!(end.is_some(), "a short body must not look whole");
    assert_eq!(fixture.upstream.count("GET /partial"), 1);
}

#[test]
fn connections_are_kept_on_both_sides() {
    let fixture = Fixture::standard();
    let mut connection = Connection::open(fixture.sidecar.listen);
    for _ in 0..5 {
        connection.write(&fixture.get("/echo").bytes());
        assert_eq!(connection.answer().status(), 200);
    }
    assert_eq!(fixture.upstream.seen().connections, 1);
}

#[test]
fn pipelined_requests_are_all_answered() {
    let fixture = Fixture::standard();
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(&[fixture.get("/echo/1").bytes(), fixture.get("/echo/2").bytes()].concat());
    assert_eq!(connection.answer().json()["target"], "/echo/1");
    assert_eq!(connection.answer().json()["target"], "/echo/2");
}

#[test]
fn an_http_1_0_client_is_served() {
    let fixture = Fixture::standard();
    assert_eq!(fixture.get("/echo").http10().send().json()["method"], "GET");
}

fn forwarded(fixture: &Fixture) -> serde_json::Value {
    fixture
        .get("/echo")
        .header("X-Forwarded-For", "192.0.2.7")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "www.example")
        .send()
        .json()
}

/// The values of a header at the upstream.
fn header(seen: &serde_json::Value, name: &str) -> Vec<String> {
    let headers = seen["headers"].as_array().unwrap().iter();
    headers
        .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .map(|header| header[1].as_str().unwrap().to_owned())
        .collect()
}
