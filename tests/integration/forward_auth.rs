//! Forward auth: a service says who a request is from, at the handshake and while the stream is open.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::Call;
use crate::support::raw_upstream::RawUpstream;
use crate::support::token;

const STREAMS: &str = "streams: { notices: { topics: [notices], keys: [userId] } }\n\
    routes:\n\
    - { path: /mine/events, stream: notices, transport: sse, bind: { userId: claims.sub }, retry: 200ms }\n\
    - { path: /mine/stream, stream: notices, transport: ndjson, bind: { userId: claims.sub } }\n\
    - { path: /mine/ws, stream: notices, transport: ws, bind: { userId: claims.sub } }\n";

/// A service with sessions: what it answers by the value of the cookie `session`.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: HashMap<String, Vec<u8>>,
    seen: Vec<String>,
}

impl Sessions {
    fn serve(&self) -> RawUpstream {
        let sessions = self.clone();
        RawUpstream::start(move |head, socket| sessions.answer(head, socket))
    }

    fn answer(&self, head: &str, socket: &mut TcpStream) {
        let mut state = self.0.lock().unwrap();
        state.seen.push(head.to_owned());
        let cookies: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("cookie: ")).collect();
        let session = cookies.join("; ").rsplit_once("session=").map(|(_, value)| value.to_owned());
        let answer = session.and_then(|session| state.answers.get(&session).cloned());
        drop(state);
        // A client that has read enough closes.
        let _ = socket.write_all(&answer.unwrap_or_else(|| response("401 Unauthorized", "", "")));
    }

    fn set(&self, session: &str, answer: Vec<u8>) {
        self.0.lock().unwrap().answers.insert(session.to_owned(), answer);
    }

    fn log_in(&self, session: &str, user: &str) {
        self.set(session, json(&format!("{{\"sub\": \"{user}\"}}")));
    }

    fn log_out(&self, session: &str) {
        self.0.lock().unwrap().answers.remove(session);
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().seen.clone()
    }
}

fn response(status: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{fields}\r\n{body}").into_bytes()
}

fn json(body: &str) -> Vec<u8> {
    response("200 OK", "content-type: application/json\r\n", body)
}

fn fixture(service: &RawUpstream, keys: &str) -> Fixture {
    let auth = format!("auth: {{ forward: {{ url: 'http://{}/check', {keys} }} }}\n", service.address);
    Plan::new(format!("{STREAMS}{auth}")).build()
}

fn with_session(fixture: &Fixture, target: &str, session: &str) -> Call {
    let call = fixture.get(target).header("Cookie", format!("theme=dark; session={session}"));
    if target.ends_with("/ws") { call.header("Origin", "http://shop.example") } else { call }
}

fn status(fixture: &Fixture, session: &str) -> u16 {
    with_session(fixture, "/mine/stream", session).open().0.status
}

#[test]
fn a_session_of_the_service_opens_the_streams_of_its_user() {
    let sessions = Sessions::default();
    let upstream = sessions.serve();
    let plan = Plan::new(format!("{STREAMS}auth: {{ forward: {{ url: /me }} }}\n"));
    let fixture = plan.upstream(&upstream.key()).build();
    sessions.log_in("a", "u1");
    let mut sse = with_session(&fixture, "/mine/events", "a").sse();
    let mut ndjson = with_session(&fixture, "/mine/stream", "a").ndjson();
    let mut websocket = with_session(&fixture, "/mine/ws", "a").websocket();
    fixture.broker.notice("u2");
    let own = fixture.broker.notice("u1");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![own.clone()], vec![own.clone()], vec![own]));

    let asked = sessions.seen();
    assert!(asked.iter().all(|head| head.starts_with("GET /me HTTP/1.1")), "{asked:?}");
    let first = &asked[0];
    for line in [
        "host: shop.example",
        "x-forwarded-host: shop.example",
        "x-forwarded-method: GET",
        "x-forwarded-proto: http",
        "x-forwarded-uri: /mine/events",
        "x-forwarded-for: 127.0.0.1",
        "cookie: theme=dark; session=a",
    ] {
        assert!(first.lines().any(|sent| sent == line), "{line} in {first}");
    }
    with_session(&fixture, "/mine/stream", "unknown").send().problem(401);
    let before = sessions.seen().len();
    fixture.get("/mine/stream").send().problem(401);
    assert_eq!(sessions.seen().len(), before, "without credentials nobody is asked");
}

#[test]
fn the_status_of_the_answer_decides() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "claims: { sub: X-User }");
    let user = "X-User: u1\r\n";
    for (session, answer, expected) in [
        ("good", response("204 No Content", user, ""), 200),
        ("login", response("302 Found", "Location: /login\r\n", ""), 401),
        ("denied", response("403 Forbidden", user, ""), 403),
        ("nobody", response("200 OK", "", ""), 403),
        ("two", response("200 OK", "X-User: u1\r\nX-User: u2\r\n", ""), 403),
        ("json", json("{\"sub\": \"u1\"}"), 403),
        ("missing", response("404 Not Found", user, ""), 503),
    ] {
        sessions.set(session, answer);
        assert_eq!(status(&fixture, session), expected, "{session}");
    }
    // What a client says of itself is no answer of the service.
    let forged = with_session(&fixture, "/mine/stream", "nobody").header("X-User", "u1");
    assert_eq!(forged.open().0.status, 403);
    assert!(sessions.seen().iter().all(|head| !head.contains("x-user")));
}

/// As with nginx's `auth_request`, of a denial the client receives the challenges alone.
#[test]
fn a_denial_passes_on_challenges_and_nothing_else() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "claims: { sub: X-User }");
    let others = "Location: /login\r\nSet-Cookie: session=of-another\r\nX-Service: secret\r\n";
    let two = "WWW-Authenticate: Basic realm=\"shop\"\r\nWWW-Authenticate: Bearer scope=\"x\"\r\n";
    let long = format!("WWW-Authenticate: Basic realm=\"{}\"\r\n", "x".repeat(2000));
    for (session, answer, status, challenges) in [
        (
            "two",
            response("401 Unauthorized", &format!("{two}{others}"), "<html>"),
            401,
            &["Basic realm=\"shop\"", "Bearer scope=\"x\""][..],
        ),
        ("none", response("401 Unauthorized", others, ""), 401, &["Bearer"]),
        ("long", response("401 Unauthorized", &format!("{long}{others}"), ""), 401, &["Bearer"]),
        ("login", response("302 Found", &format!("{two}{others}"), ""), 401, &["Bearer"]),
        ("denied", response("403 Forbidden", &format!("{two}{others}"), ""), 403, &[]),
        ("good", response("200 OK", &format!("X-User: u1\r\n{two}{others}"), ""), 200, &[]),
    ] {
        sessions.set(session, answer);
        for target in ["/mine/stream", "/mine/events"] {
            let head = with_session(&fixture, target, session).open().0;
            assert_eq!((head.status, head.headers("www-authenticate")), (status, challenges.to_vec()), "{session}");
            for name in ["location", "set-cookie", "x-service"] {
                assert_eq!(head.header(name), None, "{session}: {name}");
            }
        }
    }
    let refused = with_session(&fixture, "/mine/stream", "two").send();
    assert!(!refused.problem(401).to_string().contains("html"));
}

#[test]
fn an_answer_is_used_for_the_same_question_alone() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "cache: 1m, request_headers: [Cookie, X-Tenant]");
    sessions.log_in("a", "u1");
    let base = || with_session(&fixture, "/mine/stream", "a");
    let asks = |call: Call, count: usize, what: &str| {
        let before = sessions.seen().len();
        assert_eq!(call.open().0.status, 200, "{what}");
        assert_eq!(sessions.seen().len() - before, count, "{what}");
    };
    asks(base(), 1, "the first");
    asks(base(), 0, "the same");
    asks(base().header("X-Other", "1"), 0, "a field that is not sent");
    asks(base().header("X-Forwarded-Uri", "/other"), 0, "a field that sidestream replaces");
    asks(base().header("X-Tenant", "b"), 1, "another field");
    asks(base().header("X-Tenant", "c"), 1, "another value");
    asks(with_session(&fixture, "/mine/stream?since=-1s", "a"), 1, "another target");
    asks(with_session(&fixture, "/mine/events", "a"), 1, "another route");
    asks(with_session(&fixture, "/mine/stream", "b; session=a"), 1, "another line");
    let two_lines = fixture.get("/mine/stream").header("Cookie", "session=b").header("Cookie", "session=a");
    asks(two_lines, 1, "two lines");
    let swapped = fixture.get("/mine/stream").header("Cookie", "session=a").header("Cookie", "session=b");
    swapped.send().problem(401);
    sessions.log_out("a");
    assert_eq!(status(&fixture, "a"), 200, "cached");
    let results = |result: &str, source: &str| {
        let series = format!("notifications_forward_auth_answers_total{{result=\"{result}\",source=\"{source}\"}}");
        fixture.sidecar.metric(&series)
    };
    assert_eq!((results("allowed", "cache"), results("unauthorized", "service")), (Some(4.0), Some(1.0)));
}

#[test]
fn a_service_that_fails_refuses_nobody_for_good() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "timeout: 500ms");
    let big = json(&format!("{{\"sub\": \"u1\", \"x\": \"{}\"}}", "x".repeat(10 << 20)));
    let long_head = response("200 OK", &format!("X-Long: {}\r\n", "x".repeat(1 << 20)), "");
    let half = json("{\"sub\": \"u1\"}");
    for (session, answer) in [
        ("error", response("500 Internal Server Error", "", "")),
        ("big", big),
        ("head", long_head),
        ("half", half[..half.len() - 4].to_vec()),
        ("length", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}".to_vec()),
        ("nothing", Vec::new()),
        ("garbage", b"\0\x01\x02 no HTTP\r\n\r\n".to_vec()),
        ("no-json", json("{\"sub\": \"u1\"")),
        ("list", json("[\"u1\"]")),
    ] {
        sessions.set(session, answer);
        let refused = with_session(&fixture, "/mine/stream", session).open().0;
        assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{session}");
    }
    let polite = with_session(&fixture, "/mine/events", "error").open().0;
    assert_eq!((polite.status, polite.header("retry-after").is_some()), (200, true), "an EventSource comes back");
    assert_eq!(with_session(&fixture, "/mine/ws", "error").upgrade().send().status(), 503);
    // It works again: for whoever asks something else at once, for others after a moment.
    sessions.log_in("fresh", "u1");
    assert_eq!(status(&fixture, "fresh"), 200);
    sessions.log_in("error", "u1");
    eventually_true("the service is asked again", || status(&fixture, "error") == 200);
    assert!(fixture.sidecar.metric("notifications_streams_rejected_total{reason=\"forward-auth\"}").unwrap() >= 9.0);
}

#[test]
fn a_silent_service_costs_a_bounded_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = RawUpstream { address: silent.local_addr().unwrap() };
    let fixture = fixture(&service, "timeout: 300ms");
    assert_eq!(status(&fixture, "a"), 503);
    drop(silent);
    assert_eq!(status(&fixture, "b"), 503);
}

#[test]
fn a_revoked_session_ends_its_streams() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "interval: 1s, cache: 1s");
    sessions.log_in("a", "u1");
    sessions.log_in("b", "u2");
    let mut sse = with_session(&fixture, "/mine/events", "a").sse();
    let mut ndjson = with_session(&fixture, "/mine/stream", "a").ndjson();
    let mut websocket = with_session(&fixture, "/mine/ws", "a").websocket();
    let mut other = with_session(&fixture, "/mine/stream", "b").ndjson();
    eventually_true("the service is asked again", || sessions.seen().len() > 6);
    sessions.log_out("a");
    assert_eq!(websocket.closed(), 1008);
    sse.rest();
    assert!(ndjson.object().is_none() && !ndjson.cut);
    for transport in ["sse", "stream", "ws"] {
        fixture
            .sidecar
            .await_metric(&format!("notifications_{transport}_disconnects_total{{reason=\"revoked\"}}"), 1.0);
    }
    assert_eq!(status(&fixture, "a"), 401);
    let own = fixture.broker.notice("u2");
    assert_eq!(other.ids(1), [own]);
}

/// One session of a user is revoked before the service is asked again; the others go on.
#[test]
fn a_session_is_revoked_by_its_id() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let auth = format!(
        "auth: {{ forward: {{ url: 'http://{}/check', interval: 1m, cache: 1m }}, revocations: {{}} }}\n",
        service.address
    );
    let fixture = Plan::new(format!("{STREAMS}{auth}")).build();
    for session in ["a", "b"] {
        sessions.set(session, json(&format!("{{\"sub\": \"u1\", \"sid\": \"{session}-id\"}}")));
    }
    let mut sockets = ["a", "b"].map(|session| with_session(&fixture, "/mine/ws", session).websocket());
    let revoke = Call::of_admin(fixture.sidecar.admin, "POST", "/-/revoke").body("{\"sid\": \"a-id\"}").send();
    assert_eq!(revoke.status(), 200);
    assert_eq!(sockets[0].closed(), 1008);
    let own = fixture.broker.notice("u1");
    assert_eq!(sockets[1].ids(1), [own]);
    assert_eq!(with_session(&fixture, "/mine/ws", "a").upgrade().open().0.status, 401, "the cached answer is older");
    assert_eq!(with_session(&fixture, "/mine/ws", "b").upgrade().open().0.status, 101);
}

#[test]
fn another_user_behind_the_same_session_ends_the_stream() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "interval: 1s, cache: 0s");
    sessions.log_in("a", "u1");
    let mut websocket = with_session(&fixture, "/mine/ws", "a").websocket();
    sessions.log_in("a", "u2");
    assert_eq!(websocket.closed(), 1008);
}

#[test]
fn streams_outlive_a_short_failure_and_no_long_one() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "interval: 2s, cache: 0s");
    sessions.log_in("a", "u1");
    let mut websocket = with_session(&fixture, "/mine/ws", "a").websocket();
    let failures = || {
        let series = "notifications_forward_auth_answers_total{result=\"unavailable\",source=\"service\"}";
        fixture.sidecar.metric(series).unwrap_or_default()
    };
    sessions.set("a", response("503 Service Unavailable", "", ""));
    eventually_true("it fails", || failures() >= 1.0);
    sessions.log_in("a", "u1");
    let asked = sessions.seen().len();
    eventually_true("it is asked twice more", || sessions.seen().len() > asked + 1);
    let own = fixture.broker.notice("u1");
    assert_eq!(websocket.ids(1), [own]);
    sessions.set("a", response("503 Service Unavailable", "", ""));
    assert_eq!(websocket.closed(), 1013);
    fixture.sidecar.await_metric("notifications_ws_disconnects_total{reason=\"unverified\"}", 1.0);
}

#[test]
fn a_websocket_by_session_must_come_from_a_known_origin() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let fixture = fixture(&service, "claims: { sub: X-User }");
    sessions.set("a", response("200 OK", "X-User: u1\r\n", ""));
    let from = |origin: &str| fixture.get("/mine/ws").header("Cookie", "session=a").header("Origin", origin).upgrade();
    for origin in ["https://evil.example", "null"] {
        assert_eq!(from(origin).send().status(), 403, "{origin}");
        assert_eq!(from(origin).header("Authorization", "Basic eDp5").send().status(), 403, "{origin}");
    }
    assert_eq!(from("http://shop.example").open().0.status, 101);
    assert_eq!(from("https://evil.example").bearer("opaque").open().0.status, 101, "no page can send it");
}

#[test]
fn tokens_of_issuers_are_not_asked_about() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let auth = format!(
        "auth: {{ key_file: jwt.key, algorithms: [HS256], forward: {{ url: 'http://{}/check' }} }}\n",
        service.address
    );
    let fixture = Plan::new(format!("{STREAMS}{auth}")).build();
    sessions.log_in("a", "u1");
    fixture.get("/mine/stream").bearer(&token::of("u1")).ndjson();
    with_session(&fixture, "/mine/stream", "a").bearer("garbage").send().problem(401);
    assert!(sessions.seen().is_empty());
    with_session(&fixture, "/mine/stream", "a").ndjson();
    assert_eq!(sessions.seen().len(), 1);
}

#[test]
fn quotas_count_by_claims_that_no_route_binds() {
    let sessions = Sessions::default();
    let service = sessions.serve();
    let auth = format!("auth: {{ forward: {{ url: 'http://{}/check' }} }}\n", service.address);
    let limits = "limits: { quotas: [{ by: claims.tenant, streams: 1 }] }\n";
    let fixture = Plan::new(format!("{STREAMS}{auth}{limits}")).build();
    for (session, user, tenant) in [("a", "u1", "t1"), ("b", "u2", "t1"), ("c", "u3", "t2")] {
        sessions.set(session, json(&format!("{{\"sub\": \"{user}\", \"tenant\": \"{tenant}\"}}")));
    }
    let _open = with_session(&fixture, "/mine/stream", "a").ndjson();
    assert_eq!((status(&fixture, "b"), status(&fixture, "c")), (429, 200));
}
