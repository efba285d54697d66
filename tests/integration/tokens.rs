//! Tokens of clients that cannot set headers, and their renewal.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::client::Client;
use crate::support::fixture::{Fixture, Plan};
use crate::support::token;

const ROUTES: &str = r#"
streams:
  notices: { topics: [notices], keys: [userId] }
auth: { key_file: jwt.key, algorithms: [HS256], cookie: session }
cors: { origins: ["https://app.example"] }
routes:
  - { path: /mine, stream: notices, bind: { userId: claims.sub }, token_from: [subprotocol] }
  - { path: /v1, stream: notices, bind: { userId: claims.sub }, token_from: [subprotocol], websocket: { subprotocols: [v1] } }
  - { path: /headers, stream: notices, bind: { userId: claims.sub } }
"#;

fn entry(token: &str) -> String {
    format!("base64url.bearer.authorization.app.{}", URL_SAFE_NO_PAD.encode(token))
}

#[test]
fn a_subprotocol_carries_a_token_where_the_route_says_so() {
    let fixture = Plan::new(ROUTES).build();
    let token = token::of("u1");
    let open = |path: &str, offered: String| {
        let head = fixture.get(path).upgrade().header("Sec-WebSocket-Protocol", offered).open().0;
        (head.status, head.header("sec-websocket-protocol").map(str::to_owned))
    };
    let is = |status: u16, echoed: Option<&str>| (status, echoed.map(str::to_owned));
    assert_eq!(open("/mine", format!("sidestream, {}", entry(&token))), is(101, Some("sidestream")));
    assert_eq!(open("/v1", format!("sidestream, {}, v1", entry(&token))), is(101, Some("v1")));
    assert_eq!(open("/mine", entry(&token)), is(101, None));
    assert_eq!(open("/headers", format!("sidestream, {}", entry(&token))), is(401, None));
    for garbage in [
        "sidestream".to_owned(),
        "sidestream, base64url.bearer.authorization.".to_owned(),
        "sidestream, base64url.bearer.authorization.app.a%b".to_owned(),
        format!("sidestream, {}=", entry(&token)),
        format!("sidestream, {}, {}", entry(&token), entry(&token)),
        format!("sidestream, {}", entry(&"a".repeat(10_000))),
        format!("sidestream, {}", entry("\u{e4}\u{0}")),
        format!("sidestream, {}", entry(&token::with(json!({"sub": "u1", "exp": token::now() - 60})))),
    ] {
        assert_eq!(open("/mine", garbage.clone()), is(401, None), "{garbage}");
    }
    assert_eq!(
        fixture.get("/mine").header("Sec-WebSocket-Protocol", entry(&token)).open().0.status,
        401,
        "no WebSocket"
    );
    let log = fixture.sidecar.log();
    assert!(!log.contains(&token) && !log.contains("base64url.bearer"), "{log}");
}

#[test]
fn of_several_places_the_first_counts_alone() {
    let fixture = Plan::new(ROUTES).build();
    let (good, bad) = (token::of("u1"), "bad".to_owned());
    let open = |header: Option<&str>, offered: &str, cookie: &str| {
        let call = fixture.get("/mine").upgrade().header("Sec-WebSocket-Protocol", entry(offered));
        let call = call.header("Cookie", format!("session={cookie}")).header("Origin", "https://app.example");
        header.into_iter().fold(call, |call, token| call.bearer(token)).open().0.status
    };
    assert_eq!(open(Some(&good), &bad, &bad), 101);
    assert_eq!(open(Some(&bad), &good, &good), 401);
    assert_eq!(open(None, &good, &bad), 101);
    assert_eq!(open(None, &bad, &good), 401);
}

#[test]
fn no_token_is_taken_from_a_url() {
    let fixture = Plan::new(ROUTES).build();
    let token = token::of("u1");
    for name in ["access_token", "authorization", "token", "ticket", "jwt"] {
        assert_eq!(fixture.get(&format!("/mine?{name}={token}")).open().0.status, 401, "{name}");
    }
    assert!(!fixture.sidecar.log().contains(&token));
}

#[test]
fn a_websocket_outlives_its_first_token() {
    let fixture = Plan::new(ROUTES).build();
    let with = |user: &str, seconds: u64| token::with(json!({"sub": user, "exp": token::now() + seconds}));
    let first = with("u1", 4);
    let call = fixture.get("/mine").header("Sec-WebSocket-Protocol", format!("sidestream, {}", entry(&first)));
    let mut socket = call.websocket();
    let mut forgotten = call.websocket();
    let next = with("u1", 3600);
    let other = socket.ask(json!({"command": "authenticate", "token": with("u2", 3600)}));
    assert_eq!(other["data"]["status"], "error", "{other}");
    let renewed = socket.ask(json!({"command": "authenticate", "token": next}));
    assert_eq!(renewed["data"]["status"], "ok", "{renewed}");
    let notice = forgotten.event();
    assert_eq!(notice["data"]["type"], "auth", "{notice}");
    assert_eq!(forgotten.closed(), 1008);
    let own = fixture.broker.notice("u1");
    assert_eq!(socket.ids(1), [own]);
    let log = fixture.sidecar.log();
    assert!(!log.contains(&first) && !log.contains(&next));
}

#[test]
fn a_first_message_carries_a_token_where_the_route_says_so() {
    let routes = format!(
        "{ROUTES}  - {{ path: /first, stream: notices, bind: {{ userId: claims.sub }}, token_from: [message], max_streams: 1 }}\n\
         \x20 - {{ path: /impatient, stream: notices, bind: {{ userId: claims.sub }}, token_from: [message], \
         websocket: {{ authenticate_timeout: 1s }} }}\n"
    );
    let fixture = Plan::new(&routes).build();
    let waiting = || fixture.sidecar.metric("notifications_unauthenticated_websockets");
    let open = || fixture.sidecar.metric("notifications_route_streams{route=\"/first\"}").unwrap_or(0.0);
    let token = token::of("u1");
    let (before, foreign) = (fixture.broker.notice("u1"), fixture.broker.notice("u2"));
    let mut own = fixture.get(&format!("/first?since={before}")).websocket();
    assert_eq!((waiting(), open()), (Some(1.0), 0.0));
    let answer = own.ask(json!({"command": "authenticate", "token": token}));
    assert_eq!((&answer["data"]["status"], &answer["type"]), (&json!("ok"), &json!("response")), "{answer}");
    assert_eq!(open(), 1.0);
    let next = fixture.broker.notice("u1");
    assert_eq!(own.ids(1), [next], "not {before}, which it had, nor {foreign}, which is another's");
    let mut full = fixture.get("/first").websocket();
    full.send(&json!({"command": "authenticate", "token": token}).to_string());
    assert_eq!(full.closed(), 1013);
    for message in ["{\"command\":\"ping\"}", "{\"command\":\"authenticate\",\"token\":\"x\"}", "no JSON"] {
        let mut other = fixture.get("/first").websocket();
        other.send(message);
        assert_eq!(other.closed(), 1008, "{message}");
    }
    assert_eq!(fixture.get("/impatient").websocket().closed(), 1008, "no message in time");
    assert_eq!(fixture.get("/first").open().0.status, 401, "no WebSocket");
    assert_eq!(fixture.get("/first").upgrade().bearer("x").open().0.status, 401, "a token that is not valid");
    let foreign = fixture.get("/first").upgrade().header("Origin", "https://evil.example");
    assert_eq!(foreign.open().0.status, 403, "the page may not");
    assert!(!fixture.sidecar.log().contains(&token));
}

/// Chromium on a page of another origin: the handshake succeeds only where the subprotocol is answered.
#[test]
fn a_page_of_another_origin_opens_a_websocket_with_a_token() {
    let page = Fixture::standard();
    let origin = format!("http://{}", page.sidecar.listen);
    let fixture = Plan::new(ROUTES.replace("https://app.example", &origin)).build();
    let url = format!("http://{}/resume.html?none", page.sidecar.listen);
    let streams = format!("ws://{}", fixture.sidecar.listen);
    let client = Client::start("browser_tokens.cjs", &[&url, &streams, &entry(&token::of("u1"))]);
    let seen = loop {
        let line = client.line();
        if !line["tokens"].is_null() {
            break line["tokens"].clone();
        }
    };
    assert_eq!(seen, json!({"subprotocol": "sidestream", "alone": "failed", "none": "failed", "elsewhere": "failed"}));
}

const TICKETS: &str = r#"
streams:
  notices: { topics: [notices], keys: [userId] }
auth: { key_file: jwt.key, algorithms: [HS256], cookie: session, leeway: 0s, tickets: { key_file: jwt.key, lifetime: 2s } }
cors: { origins: ["https://app.example"], credentials: true }
routes:
  - { path: "/users/{id}", stream: notices, bind: { userId: claims.sub }, token_from: [ticket] }
  - { path: /other, stream: notices, bind: { userId: claims.sub }, token_from: [ticket] }
  - { path: /none, stream: notices, bind: { userId: claims.sub } }
"#;
const DESK: &str = "/.well-known/sidestream/tickets";

fn ticket(fixture: &Fixture, path: &str, token: &str) -> String {
    let answer = fixture.call("POST", &format!("{DESK}?path={path}")).bearer(token).send();
    assert_eq!((answer.status(), answer.header("cache-control")), (201, Some("no-store")), "{}", answer.text());
    answer.json()["ticket"].as_str().unwrap().to_owned()
}

#[test]
fn a_ticket_opens_one_path_for_its_subject_for_seconds() {
    let fixture = Plan::new(TICKETS).build();
    let token = token::of("u1");
    let good = ticket(&fixture, "/users/1", &token);
    let status = |path: &str, ticket: &str| fixture.get(&format!("{path}?ticket={ticket}")).open().0.status;
    let mut sse = fixture.get(&format!("/users/1?ticket={good}")).header("Accept", "text/event-stream").sse();
    assert_eq!(fixture.get(&format!("/users/1?ticket={good}")).upgrade().open().0.status, 101);
    fixture.broker.notice("u2");
    let own = fixture.broker.notice("u1");
    assert_eq!(sse.ids(1), [own]);
    let (message, signature) = good.rsplit_once('.').unwrap();
    for bad in [
        "",
        "a.b.c",
        &token,
        &format!("{message}."),
        &format!("{message}.{}", signature.chars().rev().collect::<String>()),
        &format!("{good}&ticket={good}"),
    ] {
        assert_eq!(status("/users/1", bad), 401, "{bad}");
    }
    for path in ["/users/2", "/other", "/none"] {
        assert_eq!(status(path, &good), 401, "{path}");
    }
    assert_eq!(fixture.get("/none").bearer(&good).open().0.status, 401, "a ticket is no token");
    crate::support::eventually_true("the ticket expires", || status("/users/1", &good) == 401);
    let log = fixture.sidecar.log();
    assert!(!log.contains(&good) && !log.contains(&token));
}

#[test]
fn a_ticket_is_issued_to_who_may_open_the_stream() {
    let fixture = Plan::new(TICKETS).build();
    let token = token::of("u1");
    let ask = |path: &str| fixture.call("POST", &format!("{DESK}?path={path}"));
    assert_eq!(ask("/users/1").send().status(), 401);
    assert_eq!(ask("/users/1").bearer("bad").send().status(), 401);
    assert_eq!(ask("/users/1").bearer(&token::with(json!({"exp": token::now() + 60}))).send().status(), 403);
    for path in ["/none", "/nowhere", "", "//users/1"] {
        assert_eq!(ask(path).bearer(&token).send().status(), 404, "{path}");
    }
    assert_eq!(fixture.get(&format!("{DESK}?path=/users/1")).bearer(&token).send().status(), 405);
    let by_cookie = |origin: Option<&str>| {
        let call = ask("/users/1").header("Cookie", format!("session={token}"));
        origin.into_iter().fold(call, |call, origin| call.header("Origin", origin)).send().status()
    };
    assert_eq!(by_cookie(Some("https://app.example")), 201);
    assert_eq!(by_cookie(Some("https://evil.example")), 403);
    assert_eq!(by_cookie(None), 403);
    let preflight = fixture.call("OPTIONS", &format!("{DESK}?path=/users/1")).header("Origin", "https://app.example");
    let preflight = preflight.header("Access-Control-Request-Method", "POST").send();
    assert_eq!(preflight.header("access-control-allow-methods"), Some("POST"));
    let of_none = fixture.call("OPTIONS", &format!("{DESK}?path=/none")).header("Origin", "https://app.example");
    let of_none = of_none.header("Access-Control-Request-Method", "POST").send();
    assert_eq!(of_none.status(), 204, "so that a page can read the 404");
    let refused = ask("/none").bearer(&token).header("Origin", "https://app.example").send();
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
    refused.problem(404);
}

#[test]
fn a_ticket_is_good_on_another_replica_and_ends_with_its_token() {
    let (one, other) = (Plan::new(TICKETS).build(), Plan::new(TICKETS).build());
    let token = token::with(json!({"sub": "u1", "exp": token::now() + 4}));
    let good = ticket(&one, "/other", &token);
    let mut sse = other.get(&format!("/other?ticket={good}")).header("Accept", "text/event-stream").sse();
    assert!(sse.rest().iter().any(|record| record.event.as_deref() == Some("auth")));
}

/// Chromium on a page of another origin, which gets a ticket with its token, and opens streams without headers.
#[test]
fn a_page_of_another_origin_opens_streams_with_a_ticket() {
    let page = Fixture::standard();
    let origin = format!("http://{}", page.sidecar.listen);
    let settings = TICKETS.replace("https://app.example", &origin).replace("lifetime: 2s", "lifetime: 1m");
    let fixture = Plan::new(settings).build();
    let url = format!("{origin}/resume.html?none");
    let streams = format!("http://{}", fixture.sidecar.listen);
    let client = Client::start("browser_ticket.cjs", &[&url, &streams, &token::of("u1")]);
    let seen = loop {
        let line = client.line();
        if !line["tickets"].is_null() {
            break line["tickets"].clone();
        }
    };
    let expected = json!({
        "eventSource": "open", "webSocket": "open", "fetch": 200, "elsewhere": "failed", "none": "failed",
        "refused": 404,
    });
    assert_eq!(seen, expected);
}
