//! Opaque tokens: an authorization server says whether they are active, at the handshake and while a stream is open.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan};
use crate::support::raw_upstream::RawUpstream;
use crate::support::token;

const ROUTES: &str = "
streams: { notices: { topics: [notices], keys: [userId] }, orders: { topics: [orders], keys: [orderId] } }
routes:
  - { path: /mine/events, stream: notices, transport: sse, bind: { userId: claims.sub }, token_from: [ticket] }
  - { path: /mine/stream, stream: notices, transport: ndjson, bind: { userId: claims.sub } }
  - { path: /mine/ws, stream: notices, transport: ws, bind: { userId: claims.sub }, token_from: [subprotocol, message],
      websocket: { subscribe: [/other] } }
  - { path: /other, stream: orders, transport: ws, bind: { orderId: claims.sub } }
";
/// `sidestream` with the secret of the tests.
const CREDENTIALS: &str = "Basic c2lkZXN0cmVhbTphJTIwc2VjcmV0JTIwb2YlMjB0aGUlMjB0ZXN0cyUyQyUyMHRoaXJ0eSUyRHR3byUyMGJ5dGVzJTIwYW5kJTIwbW9yZQ==";
/// The same with the secret `another`.
const NEXT_CREDENTIALS: &str = "Basic c2lkZXN0cmVhbTphbm90aGVy";

/// An authorization server: what it answers by token. Others are not active.
#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

impl Default for Server {
    fn default() -> Self {
        let state = State { credentials: CREDENTIALS, answers: HashMap::new(), asked: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }
}

struct State {
    credentials: &'static str,
    answers: HashMap<String, String>,
    asked: Vec<String>,
}

impl Server {
    fn serve(&self) -> RawUpstream {
        let server = self.clone();
        RawUpstream::start(move |head, socket| server.answer(head, socket))
    }

    fn answer(&self, head: &str, socket: &mut TcpStream) {
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let mut body = vec![0; field("content-length: ").unwrap().parse().unwrap()];
        socket.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with("POST /introspect "), "{head}");
        assert_eq!(field("content-type: "), Some("application/x-www-form-urlencoded"));
        let mut state = self.0.lock().unwrap();
        state.asked.push(body.clone());
        let token = body.strip_prefix("token=").unwrap().split('&').next().unwrap().to_owned();
        let inactive = || response("200 OK", &json!({"active": false}).to_string());
        let answer = match field("authorization: ") {
            Some(sent) if sent == state.credentials => state.answers.get(&token).cloned().unwrap_or_else(inactive),
            _ => response("401 Unauthorized", ""),
        };
        drop(state);
        // A client that has read enough closes.
        let _ = socket.write_all(answer.as_bytes());
    }

    fn set(&self, token: &str, answer: String) {
        self.0.lock().unwrap().answers.insert(token.to_owned(), answer);
    }

    fn issue(&self, token: &str, claims: Value) {
        let mut claims = claims;
        claims["active"] = json!(true);
        self.set(token, response("200 OK", &claims.to_string()));
    }

    /// Expects another secret from now on.
    fn rotate(&self) {
        self.0.lock().unwrap().credentials = NEXT_CREDENTIALS;
    }

    fn revoke(&self, token: &str) {
        self.0.lock().unwrap().answers.remove(token);
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn fixture(service: &RawUpstream, keys: &str, others: &str) -> Fixture {
    let client = "client_id: sidestream, client_secret_file: jwt.key";
    let url = format!("url: 'http://{}/introspect'", service.address);
    Plan::new(format!(
        "{ROUTES}auth: {{ introspection: {{ {url}, {client}, {keys} }}, tickets: {{ key_file: jwt.key }}, {others} }}\n"
    ))
    .build()
}

fn status(fixture: &Fixture, token: &str) -> u16 {
    fixture.get("/mine/stream").bearer(token).open().0.status
}

#[test]
fn an_active_token_opens_every_transport() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "", "cookie: session");
    server.issue("opaque", json!({"sub": "u1", "scope": "x"}));
    let subprotocol = format!("sidestream, base64url.bearer.authorization.app.{}", URL_SAFE_NO_PAD.encode("opaque"));
    let mut sse = fixture.get("/mine/events").bearer("opaque").sse();
    let mut ndjson = fixture.get("/mine/stream").header("Cookie", "session=opaque").ndjson();
    let mut websocket = fixture.get("/mine/ws").bearer("opaque").websocket();
    let mut by_subprotocol = fixture.get("/mine/ws").header("Sec-WebSocket-Protocol", subprotocol).websocket();
    let mut by_message = fixture.get("/mine/ws").websocket();
    assert_eq!(by_message.ask(json!({"command": "authenticate", "token": "opaque"}))["data"]["status"], "ok");
    let ticket = fixture.call("POST", "/.well-known/sidestream/tickets?path=/mine/events").bearer("opaque").send();
    let ticket = ticket.json();
    assert!(ticket["expires"].as_u64().unwrap() <= (token::now() + 60) * 1000, "{ticket}");
    let by_ticket = fixture.get(&format!("/mine/events?ticket={}", ticket["ticket"].as_str().unwrap()));
    let mut by_ticket = by_ticket.sse();
    fixture.broker.notice("u2");
    let own = [fixture.broker.notice("u1")];
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (own.to_vec(), own.to_vec(), own.to_vec()));
    assert_eq!(
        (by_subprotocol.ids(1), by_message.ids(1), by_ticket.ids(1)),
        (own.to_vec(), own.to_vec(), own.to_vec())
    );
    let subscribed = websocket.ask(json!({"command": "subscribe", "resource": "/other"}));
    assert_eq!(subscribed["data"]["status"], "ok", "a token is valid for every path: {subscribed}");
    assert_eq!(server.asked(), 1, "one answer for all of them");
    assert!(!fixture.sidecar.log().contains("opaque"));
}

/// A ticket holds as long as the answer that it stands for, and not an interval longer.
#[test]
fn a_ticket_for_a_cached_answer_holds_for_the_rest_of_the_interval() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "interval: 5s, cache: 5s", "");
    server.issue("a", json!({"sub": "u1"}));
    let ticket = || {
        let ticket = fixture.call("POST", "/.well-known/sidestream/tickets?path=/mine/events").bearer("a").send();
        ticket.json()["expires"].as_u64().unwrap()
    };
    let first = ticket();
    eventually_true("time passes", || token::now_ms() > first - 3000);
    assert!(ticket() < first + 1000, "{first} {}", ticket());
    assert_eq!(server.asked(), 1);
}

#[test]
fn a_token_that_is_not_active_is_refused_everywhere() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "audience: api, cache: 0s", "cookie: session");
    server.issue("good", json!({"sub": "u1", "aud": ["api", "x"]}));
    server.issue("foreign", json!({"sub": "u1", "aud": "other"}));
    server.issue("nobody", json!({"sub": "u1"}));
    server.issue("expired", json!({"sub": "u1", "aud": "api", "exp": token::now() - 1}));
    server.issue("early", json!({"sub": "u1", "aud": "api", "nbf": token::now() + 3600}));
    assert_eq!(status(&fixture, "good"), 200);
    for bad in ["unknown", "foreign", "nobody", "expired", "early", "good%26x", "good&active=true", "g\u{f6}\u{f6}d"] {
        assert_eq!(status(&fixture, bad), 401, "{bad}");
        assert_eq!(fixture.get("/mine/ws").bearer(bad).upgrade().open().0.status, 401, "{bad}");
        let mut socket = fixture.get("/mine/ws").websocket();
        socket.send(&json!({"command": "authenticate", "token": bad}).to_string());
        assert_eq!(socket.closed(), 1008, "{bad}");
    }
    assert_eq!(status(&fixture, &"x".repeat(9000)), 401);
    let mut socket = fixture.get("/mine/ws").bearer("good").websocket();
    server.issue("other", json!({"sub": "u2", "aud": "api"}));
    for bad in ["unknown", "other"] {
        assert_eq!(socket.ask(json!({"command": "authenticate", "token": bad}))["data"]["status"], "error", "{bad}");
    }
    server.issue("next", json!({"sub": "u1", "aud": "api", "exp": token::now() + 3600}));
    let renewed = socket.ask(json!({"command": "authenticate", "token": "next"}));
    assert!(renewed["data"]["result"]["expires"].is_u64(), "{renewed}");
}

#[test]
fn a_server_that_fails_refuses_nobody_for_good() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "timeout: 500ms", "");
    for (token, answer) in [
        ("error", response("500 Internal Server Error", "")),
        ("denied", response("401 Unauthorized", "")),
        ("list", response("200 OK", "[]")),
        ("text", response("200 OK", "{\"active\": \"true\"}")),
        ("big", response("200 OK", &json!({"active": true, "sub": "u1", "x": "x".repeat(1 << 20)}).to_string())),
        ("cut", "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"active\": true".to_owned()),
        ("nothing", String::new()),
    ] {
        server.set(token, answer);
        let refused = fixture.get("/mine/stream").bearer(token).open().0;
        assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{token}");
    }
    assert_eq!(fixture.get("/mine/events").bearer("error").open().0.status, 200, "an EventSource comes back");
    let mut socket = fixture.get("/mine/ws").websocket();
    socket.send(&json!({"command": "authenticate", "token": "error"}).to_string());
    assert_eq!(socket.closed(), 1013);
    server.issue("error", json!({"sub": "u1"}));
    eventually_true("the server is asked again", || status(&fixture, "error") == 200);
    assert!(fixture.sidecar.metric("notifications_streams_rejected_total{reason=\"introspection\"}").unwrap() >= 7.0);
}

#[test]
fn a_token_that_is_not_active_any_more_ends_its_streams() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "interval: 1s, cache: 1s", "");
    server.issue("a", json!({"sub": "u1"}));
    server.issue("b", json!({"sub": "u2"}));
    let mut websocket = fixture.get("/mine/ws").bearer("a").websocket();
    let mut by_message = fixture.get("/mine/ws").websocket();
    assert_eq!(by_message.ask(json!({"command": "authenticate", "token": "a"}))["data"]["status"], "ok");
    let mut other = fixture.get("/mine/stream").bearer("b").ndjson();
    eventually_true("the server is asked again", || server.asked() > 3);
    server.revoke("a");
    assert_eq!((websocket.closed(), by_message.closed()), (1008, 1008));
    assert_eq!(status(&fixture, "a"), 401);
    let own = fixture.broker.notice("u2");
    assert_eq!(other.ids(1), [own]);
    fixture.sidecar.await_metric("notifications_ws_disconnects_total{reason=\"revoked\"}", 2.0);
    server.set("b", response("503 Service Unavailable", ""));
    assert!(other.object().is_none());
    fixture.sidecar.await_metric("notifications_stream_disconnects_total{reason=\"unverified\"}", 1.0);
}

#[test]
fn issuers_and_keys_verify_their_own_tokens() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "", "key_file: jwt.key, algorithms: [HS256]");
    let (good, forged) = (token::of("u1"), format!("{}x", token::of("u1")));
    for token in [&good, &forged] {
        server.issue(token, json!({"sub": "u1"}));
    }
    server.issue("opaque", json!({"sub": "u1"}));
    assert_eq!([status(&fixture, &good), status(&fixture, &forged)], [200, 401]);
    assert_eq!(server.asked(), 0, "a refused JWT is refused");
    assert_eq!((status(&fixture, "opaque"), server.asked()), (200, 1));
}

/// A browser sends the cookies of all paths and domains.
#[test]
fn of_several_cookies_any_may_be_the_good_one() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "cache: 0s", "cookie: session, key_file: jwt.key, algorithms: [HS256]");
    server.issue("good", json!({"sub": "u1"}));
    // Without an answer, the server is not asked about a token again for a moment.
    for token in ["failing", "failed"] {
        server.set(token, response("503 Service Unavailable", ""));
    }
    let (jwt, forged) = (token::of("u1"), format!("{}x", token::of("u1")));
    let opened = |cookies: &[&str]| {
        let cookies: Vec<_> = cookies.iter().map(|cookie| format!("session={cookie}")).collect();
        let before = server.asked();
        let status = fixture.get("/mine/stream").header("Cookie", cookies.join("; ")).open().0.status;
        (status, server.asked() - before)
    };
    assert_eq!(opened(&["old", "good"]), (200, 2));
    assert_eq!(opened(&["good", "old"]), (200, 1));
    for cookies in [[&*jwt, "old"], ["old", &jwt]] {
        assert_eq!(opened(&cookies), (200, 0), "a key verifies one of them");
    }
    for cookies in [[&*forged, "good"], ["good", &forged]] {
        assert_eq!(opened(&cookies), (200, 1));
    }
    for cookies in [["failing", "old"], ["old", "failed"]] {
        assert_eq!(opened(&cookies), (503, 2), "the other one may be good");
    }
    for cookies in [["old", &*forged], [&forged, "old"]] {
        assert_eq!(opened(&cookies), (401, 1));
    }
    assert_eq!(opened(&["a", "b", "c", "d", "good"]), (401, 2), "one request does not multiply");
}

/// A stream stays open over a reload that changes how the server is asked.
#[test]
fn open_streams_are_asked_about_as_the_newest_configuration_says() {
    let server = Server::default();
    let service = server.serve();
    let fixture = fixture(&service, "interval: 1h, cache: 0s", "");
    server.issue("a", json!({"sub": "u1"}));
    let mut stream = fixture.get("/mine/stream").bearer("a").ndjson();
    let mut by_message = fixture.get("/mine/ws").websocket();
    assert_eq!(by_message.ask(json!({"command": "authenticate", "token": "a"}))["data"]["status"], "ok");
    server.rotate();
    let secret = fixture.config.with_file_name("client.secret");
    std::fs::write(secret, "another").unwrap();
    let text = std::fs::read_to_string(&fixture.config).unwrap();
    let text = text.replace("client_secret_file: jwt.key", "client_secret_file: client.secret");
    let asked = server.asked();
    fixture.replace("sidestream.yaml", &text.replace("interval: 1h", "interval: 1s"));
    eventually_true("it is asked with the new secret, more often", || server.asked() > asked + 3);
    let own = fixture.broker.notice("u1");
    assert_eq!((stream.ids(1), by_message.ids(1)), (vec![own.clone()], vec![own]));
    server.revoke("a");
    assert_eq!(by_message.closed(), 1008);
    assert!(stream.object().is_none());
}
