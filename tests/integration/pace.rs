//! Pace: credit of WebSocket clients, the rate that a client asks for, and rates that quotas set.

use serde_json::{Value, json};

use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::token;
use crate::support::websocket::WebSocket;

/// An innocent client's events, and a flood's.
const FEW: usize = 20;
const FLOOD: usize = 500;

fn give(socket: &mut WebSocket, events: u32) -> Value {
    socket.ask(json!({ "command": "credit", "events": events }))["data"].clone()
}

#[test]
fn a_socket_receives_no_more_events_than_it_gives_credit_for_and_resumes_exactly() {
    let fixture = Fixture::standard();
    let mut reader = fixture.get("/ws").websocket();
    let mut socket = fixture.get("/ws?credit=0").websocket();
    let ids = fixture.broker.orders("o1", 10);
    assert_eq!(reader.ids(10), ids, "another client's events do not wait");
    assert_eq!(give(&mut socket, 2), json!({ "command": "credit", "status": "ok", "result": { "credit": 2 } }));
    assert_eq!(socket.ids(2), ids[..2]);
    // The response would follow further events.
    assert_eq!(socket.ask(json!({ "command": "ping" }))["data"]["result"], "pong");
    assert!(socket.is_without_events(), "an event beyond the credit");
    assert_eq!(give(&mut socket, 3)["result"]["credit"], 3);
    assert_eq!(socket.ids(3), ids[2..5]);
    let cursor = socket.cursor.take().unwrap();
    drop(socket);
    fixture.settle("/events", &ids);
    let mut socket = fixture.get(&format!("/ws?credit=4&since={cursor}")).websocket();
    assert_eq!(socket.ids(4), ids[5..9], "replay honours credit, too");
    socket.ask(json!({ "command": "ping" }));
    assert!(socket.is_without_events(), "an event beyond the credit");
    give(&mut socket, 100);
    assert_eq!(socket.ids(1), ids[9..]);
}

#[test]
fn a_socket_without_credit_ends_with_its_goodbye() {
    let fixture = Fixture::with_route("/ws", "ws", "websocket: { commands_per_second: 3 }");
    let mut reader = fixture.get("/ws").websocket();
    let mut socket = fixture.get("/ws?credit=0").websocket();
    let ids = fixture.broker.orders("o1", 3);
    assert_eq!(reader.ids(3), ids);
    fixture.sidecar.signal("TERM");
    assert_eq!(socket.closed(), 1012);
}

#[test]
fn a_client_asks_for_few_events_a_second_over_every_transport() {
    let fixture = Fixture::standard();
    let all = "/framed?framing=";
    let mut lines = fixture.get(&format!("{all}ndjson&maxRate=5")).ndjson();
    let mut events = fixture.get(&format!("{all}sse&maxRate=5")).sse();
    let mut socket = fixture.get("/ws?maxRate=5").websocket();
    let head = |target: &str| fixture.get(target).open().0;
    for framing in ["sse", "ndjson", "length", "json-seq", "json-array"] {
        assert_eq!(head(&format!("{all}{framing}&maxRate=5")).header("x-max-rate"), Some("5"), "{framing}");
    }
    assert_eq!(fixture.get("/ws?maxRate=7").raw_websocket().head.header("x-max-rate"), Some("7"));
    assert_eq!(head("/stream").header("x-max-rate"), None);
    // More than a second's.
    let ids = fixture.broker.orders("o1", 8);
    assert_eq!((lines.ids(8), events.ids(8), socket.ids(8)), (ids.clone(), ids.clone(), ids));
    for wrong in ["/stream?maxRate=0", "/stream?maxRate=fast", "/stream?credit=5", "/ws?credit=-1"] {
        let call = fixture.get(wrong);
        let answer = if wrong.starts_with("/ws") { call.upgrade().send() } else { call.send() };
        answer.problem(400);
    }
}

#[test]
fn a_flood_for_one_user_is_held_and_a_neighbour_loses_nothing() {
    let quotas = "limits: { quotas: [{ by: claims.sub, events_per_second: 40 }] }";
    let routes = STANDARD.replace("path: /mine/stream,", "path: /mine/stream, queue: { events: 100 },");
    let fixture = Plan::new(routes).with(quotas).build();
    let mine = |user: &str| fixture.get("/mine/stream").bearer(&token::of(user));
    let mut flooded = mine("flooded").ndjson();
    let mut second = mine("flooded").ndjson();
    let mut neighbour = mine("neighbour").ndjson();
    let notice = |user: &str| json!({ "type": "notice", "userId": user, "data": {} }).to_string();
    let of = |user: &str, count: usize| vec![notice(user); count];
    let mixed =
        [of("flooded", FLOOD / 2), of("neighbour", FEW), of("flooded", FLOOD / 2), of("neighbour", FEW)].concat();
    let ids = fixture.broker.produce_all("notices", 0, mixed.iter().map(|value| value.as_bytes()));
    let own = |from: usize| ids[from..from + FEW].to_vec();
    assert_eq!(neighbour.ids(2 * FEW), [own(FLOOD / 2), own(FLOOD + FEW)].concat(), "all, in order, and no gap");
    // Both streams of the user together have sent no more than the rate allows: the rest fell out of their queues.
    for stream in [&mut flooded, &mut second] {
        let mut received = 0;
        let gap = loop {
            let object = stream.object().expect("an open stream");
            if object["type"] == "gap" {
                break object;
            }
            received += 1;
        };
        assert_eq!((&gap["cause"], received < FLOOD - 100), (&json!("overflow"), true), "{received} {gap}");
    }
}

#[test]
fn sockets_of_one_user_share_a_quota_of_commands() {
    let quotas = "limits: { quotas: [{ by: claims.sub, commands_per_second: 3 }] }";
    let fixture = Plan::new(STANDARD).with(quotas).build();
    let open = |user: &str| fixture.get("/mine/ws").bearer(&token::of(user)).websocket();
    let (mut one, mut two, mut other) = (open("u1"), open("u1"), open("u2"));
    let ping = |socket: &mut WebSocket| socket.ask(json!({ "command": "ping" }))["data"]["status"].clone();
    let answers: Vec<Value> = (0..20).map(|n| ping(if n % 2 == 0 { &mut one } else { &mut two })).collect();
    assert!(answers[..3].iter().all(|status| status == "ok"), "{answers:?}");
    assert!(answers.contains(&json!("error")), "{answers:?}");
    assert_eq!(ping(&mut other), "ok");
    let refused = "notifications_ws_client_errors_total{kind=\"quota\"}";
    assert!(fixture.sidecar.metric(refused).is_some_and(|count| count >= 1.0));
}

#[test]
fn routes_have_quotas_of_their_own() {
    let routes = STANDARD.replace(
        "path: /mine/stream,",
        "path: /mine/stream, quotas: [{ by: claims.sub, streams: 1 }, { by: route, streams: 2 }],",
    );
    let fixture = Plan::new(routes).with("limits: { quotas: [{ by: process, opens_per_minute: 100 }] }").build();
    let open = |path: &str, user: &str| fixture.get(path).bearer(&token::of(user));
    let _held = (open("/mine/stream", "u1").ndjson(), open("/mine/ws", "u1").websocket());
    let answer = open("/mine/stream", "u1").send();
    answer.problem(429);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"claims.sub on /mine/stream\";q=1"));
    let _second = open("/mine/stream", "u2").ndjson();
    let answer = open("/mine/stream", "u3").send();
    answer.problem(429);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"route on /mine/stream\";q=2"));
}

#[test]
fn a_subscription_counts_in_the_quotas_of_its_route() {
    let pattern = "path: \"/orders/{orderId}/ws\",";
    let quotas = "[{ by: address, streams: 2, opens_per_minute: 4, commands_per_second: 1 }]";
    let settings = STANDARD.replace(pattern, &format!("{pattern} quotas: {quotas},"));
    let fixture = Fixture::open_to_ws(&settings, &["/orders/{orderId}/ws"]);
    let mut socket = fixture.get("/ws?subscribe=manual").websocket();
    let mut ask = |command: Value| socket.ask(command)["data"].clone();
    let subscribe = |id: &str| json!({ "command": "subscribe", "resource": format!("/orders/{id}/ws") });
    let pings = |ask: &mut dyn FnMut(Value) -> Value| -> Vec<Value> {
        (0..3).map(|_| ask(json!({ "command": "ping" }))["status"].clone()).collect()
    };
    assert_eq!(pings(&mut ask), ["ok"; 3], "the quota of another route");
    assert_eq!(ask(subscribe("o1"))["status"], "ok");
    assert!(pings(&mut ask).contains(&json!("error")), "the socket counts in the quota while it is subscribed");
    let _held = fixture.get("/orders/o2/ws").websocket();
    let mut other = fixture.get("/ws?subscribe=manual").websocket();
    let refused = other.ask(subscribe("o4"))["data"].clone();
    let why = refused["error"].as_str().unwrap_or_default();
    assert!(why.contains("quota `address on /orders/{orderId}/ws`"), "{refused}");
    assert_eq!(other.ask(json!({ "command": "ping" }))["data"]["status"], "ok", "the socket stays open");
}
