//! API keys: a program opens streams with a secret of which the configuration has only the hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::documented;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::Call;
use crate::support::token;

const ROUTES: &str = "
streams: { notices: { topics: [notices], keys: [userId] } }
routes:
  - { path: /mine/events, stream: notices, transport: sse, bind: { userId: claims.sub }, token_from: [ticket] }
  - { path: /mine/stream, stream: notices, transport: ndjson, bind: { userId: claims.sub } }
  - { path: /mine/ws, stream: notices, transport: ws, bind: { userId: claims.sub }, token_from: [subprotocol, message] }
";
const WITH_ISSUER: &str = "auth: { key_file: jwt.key, algorithms: [HS256], cookie: session, \
     tickets: { key_file: tickets.key }, api_keys: { file: api-keys.yaml } }\n";

/// A line of the file.
fn entry(id: &str, key: &str, claims: &str) -> String {
    let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("- {{ id: {id}, sha256: {hash}, claims: {{ {claims} }} }}\n")
}

fn fixture(auth: &str, keys: &[String]) -> Fixture {
    let plan = Plan::new(format!("{ROUTES}{auth}")).file("tickets.key", token::SECRET);
    plan.file("api-keys.yaml", keys.concat()).build()
}

fn with_key(fixture: &Fixture, target: &str, key: &str) -> Call {
    fixture.get(target).header("X-Api-Key", key)
}

/// The set-up of docs/security.md.
#[test]
fn a_key_opens_every_transport() {
    let fixture =
        fixture(&documented("API keys", "auth:"), &[entry("reports", "k1", "sub: u1"), entry("r2", "k2", "sub: u2")]);
    let subprotocol = format!("sidestream, base64url.bearer.authorization.app.{}", URL_SAFE_NO_PAD.encode("k1"));
    let mut sse = with_key(&fixture, "/mine/events", "k1").sse();
    let mut ndjson = fixture.get("/mine/stream").header("Authorization", "ApiKey k1").ndjson();
    let mut bearer = fixture.get("/mine/stream").bearer("k1").ndjson();
    let mut websocket = with_key(&fixture, "/mine/ws", "k1").websocket();
    let mut by_subprotocol = fixture.get("/mine/ws").header("Sec-WebSocket-Protocol", subprotocol).websocket();
    let mut by_message = fixture.get("/mine/ws").websocket();
    assert_eq!(by_message.ask(json!({"command": "authenticate", "token": "k1"}))["data"]["status"], "ok");
    let ticket = fixture.call("POST", "/.well-known/sidestream/tickets?path=/mine/events");
    let ticket = ticket.header("X-Api-Key", "k1").send().json()["ticket"].as_str().unwrap().to_owned();
    let mut by_ticket = fixture.get(&format!("/mine/events?ticket={ticket}")).sse();
    fixture.broker.notice("u2");
    let own = [fixture.broker.notice("u1")];
    assert_eq!((sse.ids(1), ndjson.ids(1), bearer.ids(1)), (own.to_vec(), own.to_vec(), own.to_vec()));
    assert_eq!(
        (websocket.ids(1), by_subprotocol.ids(1), by_message.ids(1)),
        (own.to_vec(), own.to_vec(), own.to_vec())
    );
    assert_eq!(by_ticket.ids(1), own);
    assert_eq!(fixture.sidecar.metric("notifications_api_keys"), Some(2.0));
}

#[test]
fn only_a_key_that_the_client_sets_opens_a_stream() {
    let (key, now) = ("a key of the tests that is long enough", token::now());
    let keys = [
        entry("reports", key, "sub: u1"),
        entry("old", "expired", &format!("exp: {}", now - 60)),
        entry("new", "not yet", &format!("nbf: {}", now + 3600)),
    ];
    let hash = keys[0].split_whitespace().nth(5).unwrap().trim_matches(',').to_owned();
    assert_eq!(hash.len(), 64, "{hash}");
    let fixture = fixture(WITH_ISSUER, &keys);
    let get = || fixture.get("/mine/stream");
    let refused = |call: Call, what: &str| {
        let answer = call.open().0;
        assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, true), "{what}");
    };
    assert_eq!(get().header("X-Api-Key", key).open().0.status, 200);
    for bad in ["", "unknown", &hash, &key.to_uppercase(), &"k".repeat(9000), "expired", "not yet", &token::of("u1")] {
        refused(get().header("X-Api-Key", bad), bad);
        refused(get().header("Authorization", format!("ApiKey {bad}")), bad);
    }
    for bad in ["unknown", &hash, "expired"] {
        refused(get().bearer(bad), bad);
    }
    refused(get().header("X-Api-Key", key).header("X-Api-Key", key), "two lines");
    refused(get().header("Cookie", format!("session={key}")), "a cookie, which pages of any site send");
    refused(get().header("Authorization", format!("Basic {key}")), "another scheme");
    refused(get().header("X-Api-Key", key).bearer("unknown"), "Authorization counts alone");
    for name in ["api_key", "x-api-key", "key", "token"] {
        refused(fixture.get(&format!("/mine/stream?{name}={}", key.replace(' ', "%20"))), name);
    }
    let mut by_message = fixture.get("/mine/ws").websocket();
    by_message.send(&json!({"command": "authenticate", "token": hash}).to_string());
    assert_eq!(by_message.closed(), 1008);
    assert_eq!(get().bearer(&token::of("u1")).open().0.status, 200, "tokens beside keys");
    assert_eq!(get().header("Cookie", format!("session={}", token::of("u1"))).open().0.status, 200);
    let log = fixture.sidecar.log();
    assert!(!log.contains(key) && !log.contains(&hash), "{log}");
}

#[test]
fn a_key_that_is_removed_or_changed_ends_its_streams() {
    let file = |second: &str| [entry("a", "k1", "sub: u1"), entry("b", second, "sub: u1"), entry("c", "k3", "sub: u3")];
    let fixture = fixture(WITH_ISSUER, &file("k2"));
    let mut streams = ["k1", "k2", "k3"].map(|key| with_key(&fixture, "/mine/ws", key).websocket());
    fixture.replace("api-keys.yaml", "- nothing");
    fixture.sidecar.await_metric("notifications_config_last_reload_successful", 0.0);
    let changed = [&file("another")[..2], &[entry("c", "k3", "sub: u4")]].concat();
    fixture.replace("api-keys.yaml", &changed.concat());
    assert_eq!([streams[1].closed(), streams[2].closed()], [1012, 1012]);
    let status = |key: &str| with_key(&fixture, "/mine/stream", key).open().0.status;
    assert_eq!(["k1", "another", "k2", "k3"].map(status), [200, 200, 401, 200]);
    let own = fixture.broker.notice("u1");
    assert_eq!(streams[0].ids(1), [own]);
}
