//! Limits: how many streams, how many commands, how long a connection may say nothing.

use serde_json::json;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Connection;
use crate::support::token;

const ONE_EACH: &str = "streams:\n  orders: { topics: [orders], keys: [orderId] }\nroutes:\n  - { path: /events, stream: \
                        orders, transport: sse, public: true, max_streams: 1 }\n  - { path: /stream, stream: orders, \
                        transport: ndjson, public: true, max_streams: 1 }\n  - { path: /ws, stream: orders, transport: \
                        ws, public: true, max_streams: 1 }\n";

#[test]
fn a_full_route_is_a_429() {
    let fixture = Plan::new(ONE_EACH).build();
    let first = fixture.get("/stream").ndjson();
    let answer = fixture.get("/stream").send();
    answer.problem(429);
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"max_streams\";q=1"));
    let socket = fixture.get("/ws").websocket();
    assert_eq!(fixture.get("/ws").upgrade().send().status(), 429);
    drop((first, socket));
    eventually_true("the places are free again", || {
        fixture.get("/stream").open().0.status == 200 && fixture.get("/ws").upgrade().open().0.status == 101
    });
}

#[test]
fn a_full_route_asks_an_event_source_to_come_back() {
    let fixture = Plan::new(ONE_EACH).build();
    let mut first = fixture.get("/events").sse();
    let turned_away = fixture.get("/events").sse().rest();
    assert_eq!(turned_away.len(), 1);
    assert!(turned_away[0].retry.unwrap() >= 1000 && turned_away[0].data.is_none(), "{turned_away:?}");
    let id = fixture.broker.order("o1");
    assert_eq!(first.ids(1), [id]);
}

const QUOTAS: &str = "forwarded: { trust: all }
limits:
  quotas:
    - { by: claims.sub, streams: 2 }
    - { by: address, opens_per_minute: 3 }
";

#[test]
fn a_user_opens_as_many_streams_as_a_quota_allows() {
    let routes = format!(
        "{STANDARD}  - {{ path: /first, stream: notices, transport: ws, bind: {{ userId: claims.sub }}, \
         token_from: [message] }}\n"
    );
    let fixture = Plan::new(routes).with(QUOTAS).build();
    let from = |path: &str, user: &str, address: &str| {
        fixture.get(path).bearer(&token::of(user)).header("X-Forwarded-For", address)
    };
    let held = (from("/mine/stream", "u1", "10.0.0.1").ndjson(), from("/mine/ws", "u1", "10.0.0.2").websocket());
    let answer = from("/mine/stream", "u1", "10.0.0.3").send();
    let problem = answer.problem(429);
    assert_eq!(problem["detail"], "2 streams are open (quota `claims.sub`)", "{problem}");
    assert_eq!(answer.header("ratelimit-policy"), Some("\"claims.sub\";q=2"));
    assert!(answer.header("ratelimit").unwrap().starts_with("\"claims.sub\";r=0;t="));
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(from("/mine/events", "u1", "10.0.0.4").sse().rest().len(), 1, "an EventSource comes back later");
    let mut socket = fixture.get("/first").header("X-Forwarded-For", "10.0.0.5").websocket();
    socket.send(&json!({"command": "authenticate", "token": token::of("u1")}).to_string());
    assert_eq!(socket.closed(), 1013);
    drop(from("/mine/stream", "u2", "10.0.0.6").ndjson());
    let quota = "notifications_quota_identities{quota=\"claims.sub\"}";
    eventually_true("u2 counts no more", || fixture.sidecar.metric(quota) == Some(1.0));
    drop(held);
    eventually_true("u1 counts no more", || fixture.sidecar.metric(quota) == Some(0.0));
}

#[test]
fn an_address_opens_as_many_streams_a_minute_as_a_quota_allows() {
    let fixture = Plan::new(STANDARD).with(QUOTAS).build();
    let from = |address: &str| fixture.get("/stream").header("X-Forwarded-For", address);
    (0..3).for_each(|n| drop(from(&format!("2001:db8::{n}")).ndjson()));
    let answer = from("2001:db8::9").send();
    answer.problem(429);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"address\";q=3;w=60"));
    assert!((1..=20).contains(&answer.header("retry-after").unwrap().parse::<u32>().unwrap()));
    drop(from("2001:db8:0:1::9").ndjson());
}

#[test]
fn a_full_process_is_a_503() {
    let fixture = Plan::new(STANDARD).with("limits: { streams: 2 }").build();
    let streams = (fixture.get("/stream").ndjson(), fixture.get("/events").sse());
    let answer = fixture.get("/orders/1/stream").send();
    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(fixture.get("/ws").upgrade().send().status(), 503);
    assert_eq!(fixture.get("/echo").send().status(), 200, "proxied requests are no streams");
    assert!(fixture.sidecar.metric_sum("notifications_streams_rejected_total") >= 2.0);
    drop(streams);
    eventually_true("the places are free again", || fixture.get("/stream").open().0.status == 200);
}

#[test]
fn refused_streams_leave_no_place_taken() {
    let fixture = Plan::new(ONE_EACH).build();
    let refused = |since: &str| fixture.get(&format!("/stream?since={since}")).send().status();
    for _ in 0..5 {
        // A refused stream's place is given back a moment after its answer.
        eventually_true("the answer 410", || refused("orders:0:99") == 410);
        eventually_true("the answer 400", || refused("garbage") == 400);
    }
    eventually_true("the one place is free", || fixture.get("/stream").open().0.status == 200);
}

#[test]
fn an_idle_connection_is_closed() {
    let fixture = Plan::new(STANDARD).with("limits: { idle_timeout: 1s, header_timeout: 1s }").build();
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(&fixture.get("/echo").bytes());
    connection.answer();
    assert!(connection.ended());
}

#[test]
fn half_a_head_is_not_waited_for() {
    let fixture = Plan::new(STANDARD).with("limits: { header_timeout: 1s }").build();
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(b"GET /echo HTTP/1.1\r\nHost: a\r\nX-Slow");
    assert!(connection.try_head().is_none_or(|head| head.status == 408));
}

#[test]
fn a_head_that_drips_is_not_waited_for() {
    let fixture = Plan::new(STANDARD).with("limits: { header_timeout: 1s }").build();
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(b"GET /echo HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    // Each byte comes well within the limit; the whole head never does.
    eventually_true("the connection is given up", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        !connection.try_write(b"x")
    });
}

#[test]
fn idle_limits_do_not_end_streams() {
    let fixture = Plan::new(STANDARD).with("limits: { idle_timeout: 1s, header_timeout: 1s }").build();
    let mut stream = fixture.get("/events").sse();
    let mut idle = Connection::open(fixture.sidecar.listen);
    idle.write(&fixture.get("/echo").bytes());
    idle.answer();
    assert!(idle.ended(), "the limit has passed once");
    let id = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn commands_are_limited() {
    let fixture = Fixture::with_route("/ws", "ws", "websocket: { commands_per_second: 3 }");
    let mut socket = fixture.get("/ws").websocket();
    for n in 0..50 {
        socket.send(&json!({"id": format!("m{n}"), "type": "command", "data": {"command": "ping"}}).to_string());
    }
    assert_eq!(socket.closed(), 1008);
}

#[test]
fn subscriptions_are_limited() {
    let fixture = Fixture::with_route("/ws", "ws", "websocket: { subscriptions: 2 }");
    let mut socket = fixture.get("/ws?subscribe=manual").websocket();
    let mut subscribe = |key: &str| socket.ask(json!({"command": "subscribe", "resource": key}))["data"].clone();
    assert_eq!((&subscribe("a")["status"], &subscribe("b")["status"]), (&json!("ok"), &json!("ok")));
    assert_eq!(subscribe("c")["status"], "error");
    socket.ask(json!({"command": "unsubscribe", "resource": "a"}));
    let again = socket.ask(json!({"command": "subscribe", "resource": "c"}));
    assert_eq!(again["data"]["status"], "ok", "{again}");
}

#[test]
fn a_value_in_the_path_has_a_limit() {
    let fixture = Fixture::with_route("/orders/{orderId}", "ndjson", "bind: { orderId: path.orderId }");
    let call = |bytes: usize| fixture.get(&format!("/orders/{}", "x".repeat(bytes)));
    assert_eq!(call(512).open().0.status, 200);
    let problem = call(513).send().problem(400);
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`orderId` is longer than 512 bytes"), "{problem}");
    assert_eq!(fixture.sidecar.metric("notifications_streams_rejected_total{reason=\"parameter\"}"), Some(1.0));
}
