use serde_json::json;

use super::super::tests::{Bench, token};
use super::*;
use crate::access::{
    Authentication, Binding, NotAuthenticated, Source, Standing, VALUE_BYTES_MAX, Verifying, Waiter, Withdrawn,
};
use crate::codec::websocket::{Opcode, frame};
use crate::route::{Admission, Offer, RouteTable, StreamRoute, Transport};
use crate::session::{CloseReason, Request};
use crate::testing::binding;

/// Accepts tokens that consist of a subject, a space, and `exp` in milliseconds. All have claims that no route binds.
#[derive(Debug)]
struct Known;

/// A token with claims that a route may bind, and others.
fn wide(sub: &str, exp: i64) -> Principal {
    let claims = json!({
        "sub": sub, "iss": "i", "org": { "id": 7, "name": "n" }, "roles": ["r"], "note": "x".repeat(VALUE_BYTES_MAX + 1),
    });
    Principal { claims: Arc::new(claims.as_object().unwrap().clone().into()), ..token(sub, Some(exp)) }
}

fn bound(claim: &[&str]) -> Binding {
    let path = claim.iter().map(|name| Box::from(*name)).collect();
    binding("userId", Source::Claim(path))
}

fn claims(session: &Session) -> serde_json::Value {
    serde_json::Value::Object((**session.request.principal.as_ref().unwrap().claims).clone())
}

impl Authenticator for Known {
    fn authenticate(&self, token_text: &str, now_unix_ms: i64, waiter: Waiter) -> Authentication {
        match token_text.strip_prefix("later ") {
            Some(token_text) => {
                Authentication::Pending(Box::new(Later { result: verified(token_text, now_unix_ms), waiter }))
            }
            None => Authentication::Done(verified(token_text, now_unix_ms)),
        }
    }
}

fn verified(token_text: &str, now_unix_ms: i64) -> Result<Principal, NotAuthenticated> {
    if token_text == "unknown key" {
        return Err(NotAuthenticated::Unavailable("the keys are not available".into()));
    }
    let refused = |why: &str| NotAuthenticated::Refused(why.into());
    let (sub, exp) = token_text.split_once(' ').ok_or_else(|| refused("the token is malformed"))?;
    let exp = exp.parse().map_err(|_| refused("the token is malformed"))?;
    if exp <= now_unix_ms {
        return Err(refused("the token has expired"));
    }
    let standing = (sub == "gone").then(|| Arc::new(Gone) as Arc<dyn Standing>);
    Ok(Principal { standing, ..wide(sub, exp) })
}

thread_local! {
    /// Whether the verifications of this test have ended.
    static HAS_ANSWER: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A principal that was withdrawn after its verification.
#[derive(Debug)]
struct Gone;

impl Standing for Gone {
    fn withdrawn(&self) -> Option<Withdrawn> {
        Some(Withdrawn::Revoked)
    }
}

/// A verification that a service carries out.
#[derive(Debug)]
struct Later {
    result: Result<Principal, NotAuthenticated>,
    waiter: Waiter,
}

impl Verifying for Later {
    fn result(&self) -> Option<Result<Principal, NotAuthenticated>> {
        assert_eq!(self.waiter.writer, 0);
        HAS_ANSWER.get().then(|| self.result.clone())
    }
}

/// A stream whose token expires in 100 seconds.
fn open(bench: &mut Bench, transport: Transport) -> Session {
    open_with(bench, transport, |_| {})
}

/// The same on a changed route.
fn open_with(bench: &mut Bench, transport: Transport, change: impl FnOnce(&mut StreamRoute)) -> Session {
    let exp = bench.now.unix_ms + 100_000;
    let mut session = bench.open(transport, |request: &mut Request, route: &mut StreamRoute| {
        request.principal = Some(wide("a", exp));
        let claims: [&[&str]; 5] = [&["sub"], &["org", "id"], &["roles"], &["note"], &["absent"]];
        let routes = claims.iter().map(|claim| {
            let bindings = [bound(claim)].into();
            Arc::new(StreamRoute { bindings, ..crate::testing::route(&format!("/{}", claim.join("-"))) })
        });
        request.routes = Arc::new(RouteTable::new(routes.collect()).unwrap());
        route.admission = Admission::Token;
        route.bindings = [bound(&["sub"])].into();
        change(route);
        if let Some(socket) = &mut request.socket {
            socket.authenticator = Some(Arc::new(Known));
        }
    });
    bench.written(&mut session);
    session
}

fn masked(text: &str) -> Vec<u8> {
    let mut bytes = frame(Opcode::Text, text.as_bytes());
    let head = bytes.len() - text.len();
    bytes[1] |= 0x80;
    bytes.splice(head..head, [0; 4]);
    bytes
}

/// Sends the command, and returns the `data` of the response as text.
fn authenticate(bench: &mut Bench, session: &mut Session, token: &str) -> String {
    let command = json!({"command": "authenticate", "token": token}).to_string();
    session.read(&masked(&command), &mut bench.context());
    String::from_utf8_lossy(&bench.bytes(session)).into_owned()
}

#[test]
fn http_streams_end_before_their_token_at_times_of_their_own_after_a_notice() {
    for transport in [Transport::Sse, Transport::Ndjson] {
        let ends = [0.0, 0.5, 1.0].map(|jitter| {
            let mut bench = Bench::new();
            bench.jitter = jitter;
            let mut session = open(&mut bench, transport);
            bench.pass(Duration::from_secs(75));
            session.tick(&mut bench.context());
            let notice = String::from_utf8(bench.bytes(&mut session)).unwrap();
            assert!(notice.contains(r#"{"expires":1100000,"type":"auth"}"#), "{notice}");
            assert_eq!(notice.starts_with("event: auth\n"), transport == Transport::Sse, "{notice}");
            bench.pass(Duration::from_secs(1));
            session.tick(&mut bench.context());
            assert!(!String::from_utf8_lossy(&bench.bytes(&mut session)).contains("auth"), "once");
            let end = session.expires.unwrap();
            bench.pass(end - bench.now.instant);
            session.tick(&mut bench.context());
            assert_eq!(session.closed(), Some(CloseReason::TokenExpired));
            bench.now.unix_ms - 1_000_000
        });
        assert_eq!(ends, [97_500, 92_500, 87_500]);
    }
}

#[test]
fn a_command_replaces_the_token() {
    let mut bench = Bench::new();
    let mut session = open(&mut bench, Transport::WebSocket);
    let answer = authenticate(&mut bench, &mut session, "a 1300000");
    assert!(answer.contains(r#""result":{"expires":1300000}"#), "{answer}");
    bench.pass(Duration::from_secs(200));
    session.tick(&mut bench.context());
    assert_eq!(session.closed(), None);
}

#[test]
fn a_token_that_is_not_in_its_place_changes_nothing() {
    for (replacement, why) in [("b 9000000", "another subject"), ("a 900000", "expired"), ("secret", "malformed")] {
        let mut bench = Bench::new();
        let mut session = open(&mut bench, Transport::WebSocket);
        let answer = authenticate(&mut bench, &mut session, replacement);
        assert!(answer.contains(why) && answer.contains(r#""status":"error""#), "{answer}");
        assert!(!answer.contains("secret"), "{answer}");
        bench.pass(Duration::from_secs(100));
        session.tick(&mut bench.context());
        assert_eq!(session.closed(), Some(CloseReason::TokenExpired), "{replacement}");
    }
}

#[test]
fn a_public_route_takes_no_token() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |request, _| {
        request.socket.as_mut().unwrap().authenticator = Some(Arc::new(Known));
    });
    bench.written(&mut session);
    let answer = authenticate(&mut bench, &mut session, "a 9000000");
    assert!(answer.contains("this route takes no token"), "{answer}");
}

#[test]
fn a_stream_keeps_the_claims_that_its_commands_may_need() {
    let mut bench = Bench::new();
    let mut session = open(&mut bench, Transport::WebSocket);
    let kept = json!({ "sub": "a", "iss": "i", "org": { "id": 7 }, "roles": ["r"] });
    assert_eq!(claims(&session), kept);
    let answer = authenticate(&mut bench, &mut session, "a 1300000");
    assert!(answer.contains(r#""status":"ok""#), "{answer}");
    assert_eq!(claims(&session), kept, "of the new token as well");
    assert_eq!(claims(&open(&mut bench, Transport::Sse)), json!({}));
}

/// A WebSocket that was opened without a token, on a route that binds `sub` and has this many slots.
fn open_unauthenticated(bench: &mut Bench, slots: usize) -> Session {
    bench.open(Transport::WebSocket, |request, route| {
        route.admission = Admission::Token;
        route.offer = Offer::Auto;
        route.token_from.message = true;
        route.heartbeat = std::time::Duration::from_secs(1);
        route.bindings = [bound(&["sub"])].into();
        let socket = request.socket.as_mut().unwrap();
        socket.authenticator = Some(Arc::new(Known));
        socket.unauthenticated = Some(Default::default());
        socket.slots = Arc::new(crate::testing::FewSlots(Arc::default(), slots));
    })
}

#[test]
fn a_first_message_opens_a_socket_for_its_bearer_alone() {
    let mut bench = Bench::new();
    let mut session = open_unauthenticated(&mut bench, 8);
    assert!(String::from_utf8_lossy(&bench.bytes(&mut session)).starts_with("HTTP/1.1 101"));
    bench.append(&mut session, 0, &[("userId", "a")]);
    bench.pass(Duration::from_secs(5));
    session.tick(&mut bench.context());
    assert_eq!(bench.bytes(&mut session), b"", "no event, and no heartbeat");
    let exp = bench.now.unix_ms + 100_000;
    let response = authenticate(&mut bench, &mut session, &format!("a {exp}"));
    assert!(response.contains(r#""status":"ok""#) && response.contains(&format!(r#""expires":{exp}"#)), "{response}");
    bench.append(&mut session, 1, &[("userId", "b")]);
    bench.append(&mut session, 2, &[("userId", "a")]);
    let sent = String::from_utf8_lossy(&bench.bytes(&mut session)).into_owned();
    assert!(sent.contains("orders:0:2") && !sent.contains("orders:0:1\""), "{sent}");
    assert_eq!(claims(&session), json!({"sub": "a", "iss": "i"}));
}

#[test]
fn a_first_message_that_authenticates_nobody_ends_the_socket() {
    let mut bench = Bench::new();
    let exp = bench.now.unix_ms + 100_000;
    for message in [
        json!({"command": "ping"}),
        json!({"command": "authenticate"}),
        json!({"command": "authenticate", "token": "a"}),
        json!({"command": "authenticate", "token": "a 0"}),
        json!({"command": "subscribe", "resource": "a", "token": format!("a {exp}")}),
        json!("authenticate"),
    ] {
        let mut session = open_unauthenticated(&mut bench, 8);
        bench.bytes(&mut session);
        let refused = session.read(&masked(&message.to_string()), &mut bench.context());
        assert_eq!(session.closed(), Some(CloseReason::AuthenticationFailed), "{message}");
        assert_eq!(refused, [Refused::Token]);
        let sent = bench.bytes(&mut session);
        assert_eq!(sent[..4], [0x88, sent.len() as u8 - 2, 0x03, 0xf0], "nothing but the close frame: {message}");
    }
}

#[test]
fn a_socket_without_a_token_ends_in_time_or_where_the_route_is_full() {
    let mut bench = Bench::new();
    let mut late = open_unauthenticated(&mut bench, 8);
    bench.pass(Duration::from_secs(9));
    late.tick(&mut bench.context());
    assert_eq!(late.closed(), None);
    assert!(late.deadline() <= bench.now.instant + Duration::from_secs(1));
    bench.pass(Duration::from_secs(1));
    late.tick(&mut bench.context());
    assert_eq!(late.closed(), Some(CloseReason::AuthenticationTimeout));
    let mut full = open_unauthenticated(&mut bench, 0);
    let exp = bench.now.unix_ms + 100_000;
    authenticate(&mut bench, &mut full, &format!("a {exp}"));
    assert_eq!(full.closed(), Some(CloseReason::RouteLimit));
}

#[test]
fn a_token_that_cannot_be_verified_now_is_not_refused_for_good() {
    let mut bench = Bench::new();
    let mut first = open_unauthenticated(&mut bench, 8);
    bench.bytes(&mut first);
    authenticate(&mut bench, &mut first, "unknown key");
    assert_eq!(first.closed(), Some(CloseReason::Unverified));
    assert_eq!(CloseReason::Unverified.closing().websocket.map(|(code, _)| code), Some(1013));
    let mut renews = open(&mut bench, Transport::WebSocket);
    let answer = authenticate(&mut bench, &mut renews, "unknown key");
    assert!(answer.contains("not available") && answer.contains(r#""status":"error""#), "{answer}");
    assert_eq!(renews.closed(), None);
}

#[test]
fn messages_wait_while_a_service_verifies_a_token() {
    let mut bench = Bench::new();
    let mut session = open(&mut bench, Transport::WebSocket);
    let exp = bench.now.unix_ms + 500_000;
    let command = |token: &str| masked(&json!({"command": "authenticate", "id": token, "token": token}).to_string());
    session.read(&command(&format!("later a {exp}")), &mut bench.context());
    session.read(&masked(r#"{"command": "ping"}"#), &mut bench.context());
    assert!(!session.has_frames() && bench.bytes(&mut session).is_empty(), "nothing is answered out of order");
    assert_eq!(session.request.principal.as_ref().unwrap().expires_at, Some(bench.now.unix_ms + 100_000));
    HAS_ANSWER.set(true);
    assert!(session.has_frames(), "the writer reads on");
    assert_eq!(session.read_on(&mut bench.context()), []);
    let answered = String::from_utf8_lossy(&bench.bytes(&mut session)).into_owned();
    let at = |text: &str| answered.find(text).unwrap_or_else(|| panic!("no {text} in {answered}"));
    assert!(at(&format!(r#"{{"expires":{exp}}}"#)) < at("pong"));
    assert_eq!(session.request.principal.as_ref().unwrap().expires_at, Some(exp));
    session.read(&command(&format!("later b {exp}")), &mut bench.context());
    assert_eq!(session.read_on(&mut bench.context()), [Refused::Token], "it is of another subject");
    assert_eq!(session.closed(), None);
}

#[test]
fn messages_that_waited_for_a_service_are_no_flood() {
    let ping = masked(r#"{"command": "ping"}"#);
    // Of two a second, one is left; six more are sent within three seconds.
    for (pings, closed) in [(7, None), (8, Some(CloseReason::CommandRate))] {
        HAS_ANSWER.set(false);
        let mut bench = Bench::new();
        let mut session = open_with(&mut bench, Transport::WebSocket, |route| route.websocket.commands_per_second = 2);
        let exp = bench.now.unix_ms + 500_000;
        bench.pass(Duration::from_secs(60));
        let command = json!({"command": "authenticate", "token": format!("later a {exp}")});
        session.read(&masked(&command.to_string()), &mut bench.context());
        bench.pass(Duration::from_secs(3));
        session.read(&ping.repeat(pings), &mut bench.context());
        HAS_ANSWER.set(true);
        session.read_on(&mut bench.context());
        assert_eq!(session.closed(), closed, "{pings}");
        if closed.is_none() {
            bench.pass(Duration::from_secs(60));
            session.read(&ping.repeat(3), &mut bench.context());
            assert_eq!(session.closed(), Some(CloseReason::CommandRate), "later, the rate is as before");
        }
    }
}

#[test]
fn a_first_message_waits_for_a_service_within_its_limits() {
    let waiting = |bench: &mut Bench, token: &str| {
        HAS_ANSWER.set(false);
        let mut session = open_unauthenticated(bench, 8);
        bench.bytes(&mut session);
        session.read(&masked(&json!({"command": "authenticate", "token": token}).to_string()), &mut bench.context());
        assert_eq!((session.closed(), session.has_frames()), (None, false));
        session
    };
    let mut bench = Bench::new();
    let mut good = waiting(&mut bench, "later a 9000000000000");
    HAS_ANSWER.set(true);
    assert_eq!((good.read_on(&mut bench.context()), good.closed()), (vec![], None));
    assert!(!good.request.is_unauthenticated());
    for (token, reason) in [
        ("later bad", CloseReason::AuthenticationFailed),
        ("later gone 9000000000000", CloseReason::AuthenticationFailed),
        ("later unknown key", CloseReason::Unverified),
    ] {
        let mut session = waiting(&mut bench, token);
        HAS_ANSWER.set(true);
        session.read_on(&mut bench.context());
        assert_eq!(session.closed(), Some(reason), "{token}");
    }
    let mut flooding = waiting(&mut bench, "later a 9000000000000");
    let most = flooding.request.route.websocket.message_bytes;
    flooding.read(&vec![0x81; 2 * most + 1024], &mut bench.context());
    assert!(matches!(flooding.closed(), Some(CloseReason::Protocol(_))));
}
