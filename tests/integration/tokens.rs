//! Tokens of clients that cannot set headers, and their renewal.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::client::Client;
use crate::support::house::{House, Plan};
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
    let house = Plan::new(ROUTES).build();
    let token = token::of("u1");
    let open = |path: &str, offered: String| {
        let head = house.get(path).upgrade().header("Sec-WebSocket-Protocol", offered).open().0;
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
    assert_eq!(house.get("/mine").header("Sec-WebSocket-Protocol", entry(&token)).open().0.status, 401, "no WebSocket");
    let log = house.sidecar.log();
    assert!(!log.contains(&token) && !log.contains("base64url.bearer"), "{log}");
}

#[test]
fn of_several_places_the_first_counts_alone() {
    let house = Plan::new(ROUTES).build();
    let (good, bad) = (token::of("u1"), "bad".to_owned());
    let open = |header: Option<&str>, offered: &str, cookie: &str| {
        let call = house.get("/mine").upgrade().header("Sec-WebSocket-Protocol", entry(offered));
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
    let house = Plan::new(ROUTES).build();
    let token = token::of("u1");
    for name in ["access_token", "authorization", "token", "ticket", "jwt"] {
        assert_eq!(house.get(&format!("/mine?{name}={token}")).open().0.status, 401, "{name}");
    }
    assert!(!house.sidecar.log().contains(&token));
}

#[test]
fn a_websocket_outlives_its_first_token() {
    let house = Plan::new(ROUTES).build();
    let with = |user: &str, seconds: u64| token::with(json!({"sub": user, "exp": token::now() + seconds}));
    let first = with("u1", 4);
    let call = house.get("/mine").header("Sec-WebSocket-Protocol", format!("sidestream, {}", entry(&first)));
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
    let own = house.broker.notice("u1");
    assert_eq!(socket.ids(1), [own]);
    let log = house.sidecar.log();
    assert!(!log.contains(&first) && !log.contains(&next));
}

/// Chromium on a page of another origin: the handshake succeeds only where the subprotocol is answered.
#[test]
fn a_page_of_another_origin_opens_a_websocket_with_a_token() {
    let page = House::standard();
    let origin = format!("http://{}", page.sidecar.listen);
    let house = Plan::new(ROUTES.replace("https://app.example", &origin)).build();
    let url = format!("http://{}/resume.html?none", page.sidecar.listen);
    let streams = format!("ws://{}", house.sidecar.listen);
    let client = Client::start("browser_tokens.cjs", &[&url, &streams, &entry(&token::of("u1"))]);
    let seen = loop {
        let line = client.line();
        if !line["tokens"].is_null() {
            break line["tokens"].clone();
        }
    };
    assert_eq!(seen, json!({"subprotocol": "sidestream", "alone": "failed", "none": "failed", "elsewhere": "failed"}));
}
