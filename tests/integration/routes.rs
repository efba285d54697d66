//! Routing: paths, methods, and content negotiation.

use crate::support::house::House;
use crate::support::http::Connection;

#[test]
fn other_paths_are_forwarded_to_the_upstream() {
    let house = House::standard();
    for target in ["/orders", "/orders/1", "/EVENTS", "/events/more", "/eventsx", "/"] {
        assert_eq!(house.get(target).send().json()["target"], target);
    }
}

#[test]
fn the_most_specific_route_wins() {
    let house = House::standard();
    let mut special = house.get("/orders/special/events").sse();
    let mut general = house.get("/orders/specials/events").sse();
    house.broker.order("special");
    let notice = house.broker.notice("u1");
    let order = house.broker.order("specials");
    assert_eq!(special.ids(1), [notice]);
    assert_eq!(general.ids(1), [order]);
}

#[test]
fn a_parameter_is_percent_decoded() {
    let house = House::standard();
    let mut stream = house.get("/orders/a%20b%C3%A9/events").sse();
    house.broker.order("a");
    let id = house.broker.order("a bé");
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn no_spelling_of_a_path_bypasses_a_route() {
    let house = House::standard();
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
        house.get(target).send().problem(400);
    }
    assert!(house.upstream.seen().requests.is_empty(), "{:?}", house.upstream.seen());
}

#[test]
fn other_methods_are_refused() {
    let house = House::standard();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = house.call(method, "/events").send();
        answer.problem(405);
        assert!(answer.header("allow").unwrap().contains("GET"));
    }
    assert!(house.upstream.seen().requests.is_empty());
}

#[test]
fn other_methods_are_forwarded_if_the_route_says_so() {
    let house = House::standard();
    assert_eq!(house.call("POST", "/posts").body("x").send().json()["method"], "POST");
    house.get("/posts").sse();
    assert_eq!(house.upstream.count("GET /posts"), 0);
}

#[test]
fn head_answers_the_head_of_the_stream() {
    let house = House::standard();
    for (target, content_type) in [("/events", "text/event-stream"), ("/stream", "application/x-ndjson")] {
        let answer = house.call("HEAD", target).send();
        assert_eq!((answer.status(), answer.header("content-type")), (200, Some(content_type)));
        assert_eq!(answer.header("cache-control"), Some("no-cache, no-store, no-transform"));
        assert_eq!(answer.header("content-length"), None);
    }
}

#[test]
fn options_returns_the_allowed_methods() {
    let house = House::standard();
    let answer = house.call("OPTIONS", "/events").send();
    assert!([200, 204].contains(&answer.status()));
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert!(answer.header("allow").unwrap().contains(method));
    }
}

#[test]
fn nothing_acceptable_is_a_406() {
    let house = House::standard();
    house.get("/events").header("Accept", "application/json").send().problem(406);
    house.get("/stream").header("Accept", "text/event-stream").send().problem(406);
    house.get("/auto").header("Accept", "text/html").send().problem(406);
    house.get("/events").header("Accept", "text/event-stream;q=0").send().problem(406);
}

#[test]
fn auto_goes_by_accept_and_upgrade() {
    let house = House::standard();
    let mut sse = house.get("/auto").header("Accept", "text/event-stream").sse();
    let mut ndjson = house.get("/auto").header("Accept", "text/html, application/x-ndjson;q=0.5").ndjson();
    let mut websocket = house.get("/auto").websocket();
    assert_eq!(ndjson.head.header("content-type"), Some("application/x-ndjson"));
    let id = house.broker.order("a");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![id.clone()], vec![id.clone()], vec![id]));
}

#[test]
fn anything_acceptable_is_the_routes_own() {
    let house = House::standard();
    house.get("/events").header("Accept", "*/*").sse();
    house.get("/events").header("Accept", "text/*;q=0.1").sse();
}

#[test]
fn a_websocket_route_wants_an_upgrade() {
    let house = House::standard();
    let answer = house.get("/ws").send();
    answer.problem(426);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
}

#[test]
fn a_handshake_is_checked_to_the_letter() {
    let house = House::standard();
    let handshake = |version: &str, key: &str| {
        house
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
    let house = House::standard();
    let mut stream = house.get("/events").http10().sse();
    assert_eq!(stream.head.header("transfer-encoding"), None);
    assert_eq!(stream.head.header("content-length"), None);
    let id = house.broker.order("a");
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn a_connection_may_become_a_stream_after_other_requests() {
    let house = House::standard();
    let mut connection = Connection::open(house.sidecar.listen);
    connection.write(&house.get("/echo").bytes());
    assert_eq!(connection.answer().status(), 200);
    connection.write(&house.get("/events").bytes());
    assert_eq!(connection.head().header("content-type"), Some("text/event-stream"));
}
