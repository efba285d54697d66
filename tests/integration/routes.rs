//! Routing: paths, methods, and content negotiation.

use crate::support::fixture::Fixture;
use crate::support::http::Connection;

#[test]
fn other_paths_are_forwarded_to_the_upstream() {
    let fixture = Fixture::standard();
    for target in ["/orders", "/orders/1", "/EVENTS", "/events/more", "/eventsx", "/"] {
        assert_eq!(fixture.get(target).send().json()["target"], target);
    }
}

#[test]
fn the_most_specific_route_wins() {
    let fixture = Fixture::standard();
    let mut special = fixture.get("/orders/special/events").sse();
    let mut general = fixture.get("/orders/specials/events").sse();
    fixture.broker.order("special");
    let notice = fixture.broker.notice("u1");
    let order = fixture.broker.order("specials");
    assert_eq!(special.ids(1), [notice]);
    assert_eq!(general.ids(1), [order]);
}

#[test]
fn a_parameter_is_percent_decoded() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/orders/a%20b%C3%A9/events").sse();
    fixture.broker.order("a");
    let id = fixture.broker.order("a bé");
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn no_spelling_of_a_path_bypasses_a_route() {
    let fixture = Fixture::standard();
    let disguised = [
        "//events",
        "/./events",
        "/x/../events",
        "/x/%2e%2e/events",
        "/x/%2E./events",
        "/%65vents",
        "/%2Fevents",
        "/orders//1/events",
        "/orders/x/../1/events",
        "/orders%2F1%2Fevents",
        "/mine/%65vents",
        "/mine//events",
        "//mine/ws",
    ];
    for target in disguised {
        fixture.get(target).send().problem(400);
    }
    assert!(fixture.upstream.seen().requests.is_empty(), "{:?}", fixture.upstream.seen());
}

#[test]
fn other_methods_are_refused() {
    let fixture = Fixture::standard();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = fixture.call(method, "/events").send();
        answer.problem(405);
        assert!(answer.header("allow").unwrap().contains("GET"));
    }
    assert!(fixture.upstream.seen().requests.is_empty());
}

#[test]
fn other_methods_are_forwarded_if_the_route_says_so() {
    let fixture = Fixture::standard();
    assert_eq!(fixture.call("POST", "/posts").body("x").send().json()["method"], "POST");
    fixture.get("/posts").sse();
    assert_eq!(fixture.upstream.count("GET /posts"), 0);
}

#[test]
fn head_answers_the_head_of_the_stream() {
    let fixture = Fixture::standard();
    for (target, content_type) in [("/events", "text/event-stream"), ("/stream", "application/x-ndjson")] {
        let answer = fixture.call("HEAD", target).send();
        assert_eq!((answer.status(), answer.header("content-type")), (200, Some(content_type)));
        assert_eq!(answer.header("cache-control"), Some("no-cache, no-store, no-transform"));
        assert_eq!(answer.header("content-length"), None);
    }
}

#[test]
fn options_returns_the_allowed_methods() {
    let fixture = Fixture::standard();
    let answer = fixture.call("OPTIONS", "/events").send();
    assert!([200, 204].contains(&answer.status()));
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert!(answer.header("allow").unwrap().contains(method));
    }
}

#[test]
fn nothing_acceptable_is_a_406() {
    let fixture = Fixture::standard();
    fixture.get("/events").header("Accept", "application/json").send().problem(406);
    fixture.get("/stream").header("Accept", "text/event-stream").send().problem(406);
    fixture.get("/auto").header("Accept", "text/html").send().problem(406);
    fixture.get("/events").header("Accept", "text/event-stream;q=0").send().problem(406);
}

#[test]
fn auto_goes_by_accept_and_upgrade() {
    let fixture = Fixture::standard();
    let mut sse = fixture.get("/auto").header("Accept", "text/event-stream").sse();
    let mut ndjson = fixture.get("/auto").header("Accept", "text/html, application/x-ndjson;q=0.5").ndjson();
    let mut websocket = fixture.get("/auto").websocket();
    assert_eq!(ndjson.head.header("content-type"), Some("application/x-ndjson"));
    let id = fixture.broker.order("a");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![id.clone()], vec![id.clone()], vec![id]));
}

#[test]
fn anything_acceptable_is_the_routes_own() {
    let fixture = Fixture::standard();
    fixture.get("/events").header("Accept", "*/*").sse();
    fixture.get("/events").header("Accept", "text/*;q=0.1").sse();
}

#[test]
fn a_websocket_route_wants_an_upgrade() {
    let fixture = Fixture::standard();
    let answer = fixture.get("/ws").send();
    answer.problem(426);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
}

#[test]
fn a_handshake_is_checked_to_the_letter() {
    let fixture = Fixture::standard();
    let handshake = |version: &str, key: &str| {
        fixture
            .get("/ws")
            .header("Connection", "keep-alive, Upgrade")
            .header("Upgrade", "WebSocket")
            .header("Sec-WebSocket-Version", version)
            .header("Sec-WebSocket-Key", key)
    };
    let answer = handshake("8", "dGhlIHNhbXBsZSBub25jZQ==").send();
    assert_eq!((answer.status(), answer.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(handshake("13", "dG9vIHNob3J0").send().status(), 400);
    assert_eq!(handshake("13", "!!!!").send().status(), 400);
    assert_eq!(handshake("13", "dGhlIHNhbXBsZSBub25jZQ==").open().0.status, 101);
}

#[test]
fn an_http_1_0_client_gets_a_stream_without_chunks() {
    let fixture = Fixture::standard();
    let mut stream = fixture.get("/events").http10().sse();
    assert_eq!(stream.head.header("transfer-encoding"), None);
    assert_eq!(stream.head.header("content-length"), None);
    let id = fixture.broker.order("a");
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn a_connection_may_become_a_stream_after_other_requests() {
    let fixture = Fixture::standard();
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(&fixture.get("/echo").bytes());
    assert_eq!(connection.answer().status(), 200);
    connection.write(&fixture.get("/events").bytes());
    assert_eq!(connection.head().header("content-type"), Some("text/event-stream"));
}
