//! Authorization: tokens, claims bound to keys, cookies and origins, and the expiry of tokens.

use serde_json::json;

use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Call;
use crate::support::token;

#[test]
fn a_private_route_wants_a_token() {
    let fixture = Fixture::standard();
    let answer = fixture.get("/mine/stream").send();
    answer.problem(401);
    assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
    fixture.get("/mine/events").send().problem(401);
    assert_eq!(fixture.get("/mine/ws").upgrade().send().status(), 401);
    assert!(fixture.upstream.seen().requests.is_empty());
}

#[test]
fn a_bad_token_is_refused() {
    let fixture = Fixture::standard();
    let good = json!({"sub": "u1", "exp": token::now() + 3600});
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSIsImV4cCI6OTk5OTk5OTk5OX0.";
    let bad = [
        "garbage".to_owned(),
        unsigned.to_owned(),
        token::signed("HS256", "another secret", &good),
        token::signed("HS384", token::SECRET, &good),
        token::with(json!({"sub": "u1", "exp": token::now() - 60})),
        token::with(json!({"sub": "u1", "exp": token::now() + 3600, "nbf": token::now() + 1800})),
        // RFC 7519 section 4.1.2: a string.
        token::with(json!({"sub": ["u1"], "exp": token::now() + 3600})),
        format!("{}x", token::of("u1")),
    ];
    for token in bad {
        fixture.get("/mine/stream").bearer(&token).send().problem(401);
    }
    fixture.get("/mine/stream").header("Authorization", "Basic dTE6cHc=").send().problem(401);
}

#[test]
fn a_missing_claim_is_a_403() {
    let fixture = Fixture::standard();
    for claims in [json!({}), json!({"sub": ""}), json!({"subject": "u1"})] {
        let mut claims = claims;
        claims["exp"] = json!(token::now() + 3600);
        let answer = fixture.get("/mine/stream").bearer(&token::with(claims.clone())).send();
        assert_eq!(answer.status(), 403, "{claims}");
    }
}

#[test]
fn issuer_and_audience_are_checked() {
    let settings = STANDARD.replace("algorithms: [HS256],", "algorithms: [HS256], issuer: shop, audience: streams,");
    let fixture = Plan::new(settings).build();
    let claims = |issuer: &str, audience: &str| {
        token::with(json!({"sub": "u1", "exp": token::now() + 3600, "iss": issuer, "aud": audience}))
    };
    fixture.get("/mine/stream").bearer(&token::of("u1")).send().problem(401);
    fixture.get("/mine/stream").bearer(&claims("other", "streams")).send().problem(401);
    fixture.get("/mine/stream").bearer(&claims("shop", "other")).send().problem(401);
    fixture.get("/mine/stream").bearer(&claims("shop", "streams")).ndjson();
}

#[test]
fn another_users_event_never_arrives() {
    let fixture = Fixture::standard();
    let token = token::of("u1");
    let mut sse = fixture.get("/mine/events").bearer(&token).sse();
    let mut ndjson = fixture.get("/mine/stream").bearer(&token).ndjson();
    let mut websocket = fixture.get("/mine/ws").bearer(&token).websocket();
    fixture.broker.notice("u2");
    fixture.broker.event("notices", 0, json!({"type": "notice", "data": "nobody's"}));
    let own = [fixture.broker.notice("u1"), fixture.broker.notice("u1")];
    assert_eq!((sse.ids(2), ndjson.ids(2), websocket.ids(2)), (own.to_vec(), own.to_vec(), own.to_vec()));
}

#[test]
fn replay_passes_the_same_check() {
    let fixture = Fixture::standard();
    let first = fixture.broker.notice("u2");
    fixture.broker.notice("u2");
    let own = [fixture.broker.notice("u1")];
    let last = fixture.broker.notice("u2");
    fixture.settle("/orders/special/events", &[last]);
    let token = token::of("u1");
    let since = |path: &str| fixture.get(&format!("{path}?since={first}")).bearer(&token);
    let mut sse = fixture.get("/mine/events").header("Last-Event-ID", &first).bearer(&token).sse();
    let (mut ndjson, mut websocket) = (since("/mine/stream").ndjson(), since("/mine/ws").websocket());
    let ids = [sse.ids(1), ndjson.ids(1), websocket.ids(1)];
    assert_eq!(ids, [own.to_vec(), own.to_vec(), own.to_vec()]);
    let next = [fixture.broker.notice("u1")];
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (next.to_vec(), next.to_vec(), next.to_vec()));
}

#[test]
fn a_socket_cannot_ask_for_another_user() {
    let fixture = Fixture::standard();
    fixture.broker.notice("u2");
    let mut socket = fixture.get("/mine/ws").bearer(&token::of("u1")).websocket();
    socket.ask(json!({"command": "subscribe", "resource": "u2"}));
    let status = socket.ask(json!({"command": "get-status"}));
    assert!(!status.to_string().contains("u2"), "{status}");
    fixture.broker.notice("u2");
    let own = fixture.broker.notice("u1");
    assert_eq!(socket.ids(1), [own]);
}

#[test]
fn a_cookie_may_carry_the_token() {
    let fixture = Fixture::standard();
    let cookie = format!("theme=dark; session={}; x=y", token::of("u1"));
    let mut stream = fixture.get("/mine/events").header("Cookie", cookie).sse();
    fixture.broker.notice("u2");
    let own = fixture.broker.notice("u1");
    assert_eq!(stream.ids(1), [own]);
}

#[test]
fn a_websocket_by_cookie_must_come_from_a_known_origin() {
    let fixture = Fixture::standard();
    let by_cookie = || fixture.get("/mine/ws").header("Cookie", format!("session={}", token::of("u1")));
    let from = |origin: &str| by_cookie().header("Origin", origin).upgrade();
    for origin in ["https://evil.example", "null", "https://app.example.evil.example", "http://shop.example.evil"] {
        assert_eq!(from(origin).send().status(), 403, "{origin}");
    }
    assert_eq!(by_cookie().upgrade().send().status(), 403, "no origin at all");
    for origin in ["https://app.example", "http://shop.example"] {
        assert_eq!(from(origin).open().0.status, 101, "{origin}");
    }
}

#[test]
fn a_sockets_cookie_opens_no_route_that_its_origin_may_not() {
    let mine = "path: /mine/ws, stream: notices, transport: ws,";
    let open = format!("{mine} websocket: {{ subscribe: [/own/ws, /theirs/ws] }},");
    let rules = "stream: notices, transport: ws, bind: { userId: claims.sub }";
    let fixture = Plan::new(format!(
        "{}\n  - {{ path: /own/ws, {rules} }}\n  - {{ path: /theirs/ws, {rules}, allowed_origins: [\"https://app.example\"] }}\n",
        STANDARD.replace(mine, &open)
    ))
    .build();
    let cookie = format!("session={}", token::of("u1"));
    let subscribe = |call: Call, resource: &str| {
        let mut socket = call.websocket();
        socket.ask(json!({"command": "unsubscribe"}));
        socket.ask(json!({"command": "subscribe", "resource": resource}))["data"]["status"].clone()
    };
    let from = |origin: &str| fixture.get("/mine/ws").header("Cookie", &cookie).header("Origin", origin);
    assert_eq!(subscribe(from("https://app.example"), "/own/ws"), "error");
    assert_eq!(subscribe(from("https://app.example"), "/theirs/ws"), "ok");
    assert_eq!(subscribe(from("http://shop.example"), "/own/ws"), "ok");
    assert_eq!(subscribe(fixture.get("/mine/ws").bearer(&token::of("u1")), "/own/ws"), "ok");
}

#[test]
fn a_websocket_by_bearer_needs_no_origin() {
    let fixture = Fixture::standard();
    fixture.get("/mine/ws").bearer(&token::of("u1")).header("Origin", "https://evil.example").websocket();
}

#[test]
fn a_stream_ends_with_its_token() {
    let fixture = Fixture::standard();
    let token = token::with(json!({"sub": "u1", "exp": token::now() + 3}));
    let mut sse = fixture.get("/mine/events").bearer(&token).sse();
    let mut ndjson = fixture.get("/mine/stream").bearer(&token).ndjson();
    let mut websocket = fixture.get("/mine/ws").bearer(&token).websocket();
    let own = fixture.broker.notice("u1");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![own.clone()], vec![own.clone()], vec![own]));
    sse.rest();
    assert_eq!(ndjson.object().unwrap()["type"], "auth");
    assert!(ndjson.object().is_none() && !ndjson.cut);
    assert_eq!(websocket.closed(), 1008);
}

#[test]
fn a_public_route_needs_no_token_and_ignores_a_bad_one() {
    let fixture = Fixture::standard();
    fixture.get("/events").bearer("garbage").sse();
}

/// Routes that bind `userId` by lists, by a path parameter that a claim allows, and by a prefix.
const LISTS: &str = "  - { path: /team, stream: notices, bind: { userId: [claims.sub, claims.team] } }
  - { path: '/users/{id}', stream: notices, bind: { userId: { all: [path.id, claims.team] } } }
  - { path: /area, stream: notices, bind: { userId: { prefix: claims.area } } }
";

#[test]
fn lists_of_values_select_live_events_and_replay() {
    let fixture = Plan::new(format!("{STANDARD}{LISTS}")).build();
    let claims = json!({"sub": "u1", "team": ["u2", "u3"], "area": ["eu/", "us"], "exp": token::now() + 3600});
    let token = token::with(claims);
    let expected = [("/team", &["u1", "u2", "u3"][..]), ("/users/u2", &["u2"]), ("/area", &["eu/de", "us"])];
    let mut live = expected.map(|(path, _)| fixture.get(path).bearer(&token).ndjson());
    let users = ["u4", "u1", "u2", "u3", "eu", "eu/de", "us", "ur"];
    let sent: Vec<_> = users.iter().map(|user| (fixture.broker.notice(user), *user)).collect();
    let user_of = |id: &String| sent.iter().find(|(known, _)| known == id).map_or("another", |(_, user)| user);
    for (stream, (path, wanted)) in live.iter_mut().zip(expected) {
        assert_eq!(stream.ids(wanted.len()).iter().map(user_of).collect::<Vec<_>>(), wanted, "live {path}");
        let mut replay = fixture.get(&format!("{path}?since={}", sent[0].0)).bearer(&token).ndjson();
        assert_eq!(replay.ids(wanted.len()).iter().map(user_of).collect::<Vec<_>>(), wanted, "replay {path}");
    }
    fixture.get("/users/u1").bearer(&token).send().problem(403);
    fixture.get("/area").bearer(&token::of("u1")).send().problem(403);
}
