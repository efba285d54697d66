//! Independent clients as oracles: they know nothing of the sidecar but what its specifications say.
//!
//! Each reads records produced from outside through a network that cuts it in the middle, twice, and resumes by
//! itself; what it saw must be what was produced.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::client::Client;
use crate::support::cutter::Cutter;
use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::token;

const EVENTS: usize = 100;
/// Bytes from the server until the first and the second cut: both within a record.
const CUTS: &[usize] = &[2_345, 3_456];

#[test]
fn eventsource_sees_everything_once() {
    resumes_exactly("eventsource.cjs", "http", "/events");
}

#[test]
fn sseclient_py_sees_everything_once() {
    resumes_exactly("sseclient_reader.py", "http", "/events");
}

#[test]
fn requests_sees_every_line_once() {
    resumes_exactly("ndjson_reader.py", "http", "/stream");
}

#[test]
fn readers_of_framings_see_everything_once() {
    for reader in ["framing_reader.py json-seq", "framing_reader.py json-array", "framing_reader.py length"] {
        resumes_exactly(reader, "http", "/framed");
    }
    for reader in ["framing.mjs json-seq", "framing.mjs length"] {
        resumes_exactly(reader, "http", "/framed");
    }
}

#[test]
fn ws_sees_everything_once() {
    resumes_exactly("ws.cjs", "ws", "/ws");
}

#[test]
fn websockets_py_sees_everything_once() {
    resumes_exactly("websockets_reader.py", "ws", "/ws");
}

#[test]
fn the_npm_package_sees_everything_once() {
    resumes_exactly("package.mjs", "http", "/events");
    resumes_exactly("package.mjs", "http", "/stream");
    resumes_exactly("package.mjs", "ws", "/ws");
}

#[test]
fn the_python_package_sees_everything_once() {
    for mode in ["sync", "async"] {
        for (scheme, path) in [("http", "/events"), ("http", "/stream"), ("ws", "/ws")] {
            resumes_exactly(&format!("package_reader.py {mode}"), scheme, path);
        }
    }
}

#[test]
fn a_user_sees_only_their_own_in_every_client() {
    let fixture = Fixture::standard();
    let token = token::of("u1");
    let clients: Vec<Client> = [
        ("eventsource.cjs", "http", "/mine/events"),
        ("sseclient_reader.py", "http", "/mine/events"),
        ("ndjson_reader.py", "http", "/mine/stream"),
        ("ws.cjs", "ws", "/mine/ws"),
        ("websockets_reader.py", "ws", "/mine/ws"),
        ("package.mjs", "ws", "/mine/ws"),
        ("package_reader.py sync", "ws", "/mine/ws"),
        ("package_reader.py async", "ws", "/mine/ws"),
    ]
    .iter()
    .map(|(script, scheme, path)| {
        Client::start(script, &[&format!("{scheme}://{}{path}", fixture.sidecar.listen), "2", &token])
    })
    .collect();
    clients.iter().for_each(Client::await_open);
    fixture.broker.notice("u2");
    let first = fixture.broker.notice("u1");
    fixture.broker.notice("u2");
    let second = fixture.broker.notice("u1");
    for client in clients {
        assert_eq!(client.ids(2), [first.clone(), second.clone()]);
    }
}

#[test]
fn both_packages_send_a_token_as_the_first_message() {
    let route = "  - { path: /first/ws, stream: notices, bind: { userId: claims.sub }, token_from: [message] }\n";
    let fixture = Plan::new(format!("{STANDARD}{route}")).build();
    let (url, token) = (format!("ws://{}/first/ws", fixture.sidecar.listen), token::of("u1"));
    // The Python client reports the socket as open before the response to the first message.
    let open = || fixture.sidecar.metric("notifications_route_streams{route=\"/first/ws\"}");
    let scripts = ["package.mjs", "package_reader.py sync", "package_reader.py async"];
    let clients = scripts.map(|script| Client::start(script, &[&url, "1", &token, "message"]));
    eventually_true("all have authenticated", || open() == Some(3.0));
    let (_, own) = (fixture.broker.notice("u2"), fixture.broker.notice("u1"));
    for client in clients {
        assert_eq!(client.ids(1), std::slice::from_ref(&own));
    }
}

/// Without more credit from the client, four events would arrive.
#[test]
fn both_packages_give_credit_as_their_users_take_events() {
    let fixture = Fixture::standard();
    let url = format!("ws://{}/ws", fixture.sidecar.listen);
    let scripts = ["package.mjs", "package_reader.py sync", "package_reader.py async"];
    let clients = scripts.map(|script| Client::start(script, &[&url, "30", "", "subprotocol", "4"]));
    clients.iter().for_each(Client::await_open);
    let ids = fixture.broker.orders("o1", 30);
    for client in clients {
        assert_eq!(client.ids(30), ids);
    }
}

#[test]
fn what_kcat_produces_arrives() {
    let fixture = Fixture::standard();
    let mut sse = fixture.get("/orders/o1/events").sse();
    let mut ndjson = fixture.get("/orders/o1/stream").ndjson();
    let mut websocket = fixture.get("/orders/o1/ws").websocket();
    let record = r#"{"type":"order-created","orderId":"o1","data":{"by":"kcat"}}"#;
    kcat(&fixture.broker.address(), "orders", record);
    let wanted = json!({"by": "kcat"});
    assert_eq!(sse.event().json()["data"], wanted);
    assert_eq!(ndjson.event()["data"], wanted);
    assert_eq!(websocket.event()["data"]["data"], wanted);
}

/// Produces one record with kcat.
pub(crate) fn kcat(brokers: &str, topic: &str, value: &str) {
    let mut kcat = Command::new("kcat")
        .args(["-P", "-b", brokers, "-t", topic])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat, which `make clients` installs");
    kcat.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
}

#[track_caller]
fn resumes_exactly(script: &str, scheme: &str, path: &str) {
    let fixture = Fixture::standard();
    let cutter = Cutter::start(fixture.sidecar.listen, CUTS);
    let client = Client::start(script, &[&format!("{scheme}://{}{path}", cutter.address), &EVENTS.to_string()]);
    client.await_open();
    let mut wanted = fixture.broker.orders("o1", EVENTS / 2);
    // The first cut is behind it when the second half is produced.
    crate::support::eventually_true("the first cut", || cutter.cuts() >= 1);
    wanted.extend(fixture.broker.orders("o1", EVENTS / 2));
    assert_eq!(client.ids(EVENTS), wanted);
    assert_eq!(cutter.cuts(), CUTS.len());
}
