//! Tokens and tickets that are forged, expired, of another, or used where they do not count, on every transport.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::jose;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::Call;
use crate::support::token;

/// Two issuers with secrets of their own, and tickets that are signed with the first one's.
const ROUTES: &str = "
streams: { notices: { topics: [notices], keys: [userId] } }
auth:
  issuers:
    - { issuer: one, audience: streams, key_file: jwt.key, algorithms: [HS256] }
    - { issuer: two, audience: streams, key_file: two.key, algorithms: [HS256] }
  cookie: session
  tickets: { key_file: jwt.key }
routes:
  - { path: /sse, stream: notices, transport: sse, bind: { userId: claims.sub }, token_from: [ticket] }
  - { path: /ndjson, stream: notices, transport: ndjson, bind: { userId: claims.sub }, token_from: [ticket] }
  - { path: /ws, stream: notices, transport: ws, bind: { userId: claims.sub }, token_from: [ticket, subprotocol, message] }
  - { path: /other, stream: notices, bind: { userId: claims.sub }, token_from: [ticket] }
";
const TWO: &str = "the secret of another issuer, thirty-two bytes and more";

fn fixture() -> Fixture {
    Plan::new(ROUTES).file("two.key", TWO).build()
}

fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "aud": "streams", "sub": "u1", "exp": token::now() + 3600})
}

fn with(change: &[(&str, Value)]) -> String {
    let mut claims = claims("one");
    for (name, value) in change {
        claims[*name] = value.clone();
    }
    token::with(claims)
}

/// Replaces a part of a token without a new signature.
fn patched(token: &str, part: usize, value: &Value) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[part] = URL_SAFE_NO_PAD.encode(value.to_string());
    parts.join(".")
}

fn named(header: Value, secret: &str) -> String {
    jose::token(&header, &claims("one"), &jose::secret(secret.as_bytes()))
}

fn subprotocol(call: Call, token: &str) -> Call {
    let entry = format!("sidestream, base64url.bearer.authorization.app.{}", URL_SAFE_NO_PAD.encode(token));
    call.header("Sec-WebSocket-Protocol", entry)
}

/// The status of each transport and place, and the close code of the first message.
fn everywhere(fixture: &Fixture, token: &str) -> (Vec<u16>, u16) {
    let get = |path: &str| fixture.get(path);
    let cookie = |call: Call| call.header("Cookie", format!("session={token}")).header("Origin", "http://shop.example");
    let mut by_message = get("/ws").websocket();
    by_message.send(&json!({"command": "authenticate", "token": token}).to_string());
    let calls = [
        get("/sse").bearer(token),
        get("/ndjson").bearer(token),
        get("/ws").bearer(token).upgrade(),
        subprotocol(get("/ws"), token).upgrade(),
        cookie(get("/sse")),
        cookie(get("/ndjson")),
        cookie(get("/ws")).upgrade(),
        fixture.call("POST", "/.well-known/sidestream/tickets?path=/sse").bearer(token),
        get(&format!("/sse?ticket={token}")),
        get(&format!("/ws?ticket={token}")).upgrade(),
    ];
    (calls.iter().map(|call| call.open().0.status).collect(), by_message.closed())
}

#[test]
fn a_token_that_is_not_good_opens_nothing() {
    let fixture = fixture();
    let good = with(&[]);
    let two = token::signed("HS256", TWO, &claims("two"));
    for good in [&good, &two] {
        assert_eq!(fixture.get("/ndjson").bearer(good).open().0.status, 200);
    }
    let (head, signature) = good.rsplit_once('.').unwrap();
    let now = token::now();
    let forged = [
        // The signature: none, another's, another token's, another algorithm's.
        format!("{head}."),
        head.to_owned(),
        format!("{head}.{}", signature.chars().rev().collect::<String>()),
        format!("{head}.{}", two.rsplit_once('.').unwrap().1),
        patched(&good, 0, &json!({"alg": "none"})),
        patched(&good, 0, &json!({"alg": "HS512"})),
        patched(&good, 1, &json!({"iss": "one", "aud": "streams", "sub": "u2", "exp": now + 3600})),
        patched(&good, 1, &json!({"iss": "one", "aud": "streams", "sub": "u1", "exp": now + 9999})),
        // Another issuer's key, with either name.
        token::signed("HS256", TWO, &claims("one")),
        token::signed("HS256", token::SECRET, &claims("two")),
        token::signed("HS256", token::SECRET, &claims("three")),
        with(&[("iss", json!(["one", "two"]))]),
        with(&[("iss", Value::Null)]),
        // A key that the token itself names.
        named(
            json!({"alg": "HS256", "jku": "http://127.0.0.1:1/keys"}),
            "a key of the attacker, long enough for HS256",
        ),
        named(json!({"alg": "HS256", "kid": "../../two.key"}), TWO),
        // Out of its time, or for another service.
        with(&[("exp", json!(now - 60))]),
        with(&[("nbf", json!(now + 3600))]),
        with(&[("exp", json!("9999999999"))]),
        with(&[("aud", json!("other"))]),
        with(&[("aud", Value::Null)]),
    ];
    for token in forged {
        let (statuses, code) = everywhere(&fixture, &token);
        assert!(statuses.iter().all(|status| *status == 401) && code == 1008, "{token}: {statuses:?} {code}");
    }
    assert!(!fixture.sidecar.log().contains(signature));
}

#[test]
fn a_ticket_counts_in_its_place_for_its_path_alone() {
    let fixture = fixture();
    let ticket = |path: &str, token: &str| {
        let answer = fixture.call("POST", &format!("/.well-known/sidestream/tickets?path={path}")).bearer(token).send();
        answer.json()["ticket"].as_str().unwrap().to_owned()
    };
    let token = with(&[]);
    let good = ticket("/sse", &token);
    assert_eq!(fixture.get(&format!("/sse?ticket={good}")).open().0.status, 200);
    // A ticket is no token, although the same secret signs both.
    let (statuses, code) = everywhere(&fixture, &ticket("/other", &token));
    assert!(statuses.iter().all(|status| *status == 401) && code == 1008, "{statuses:?} {code}");
    let [header, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let other = ticket("/sse", &with(&[("sub", json!("u2"))]));
    let content: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    let mut longer = content.clone();
    longer["until"] = json!(content["until"].as_i64().unwrap() + 3_600_000);
    for bad in [
        format!("{header}.{body}."),
        format!("{header}.{body}.{}", other.rsplit_once('.').unwrap().1),
        patched(&good, 0, &json!({"alg": "none", "typ": "sidestream-ticket"})),
        patched(&good, 0, &json!({"alg": "HS256", "typ": "JWT"})),
        patched(&good, 1, &longer),
        // Signed with the file's secret, but not as a ticket.
        token::signed("HS256", token::SECRET, &content),
        format!("{good}{signature}"),
    ] {
        assert_eq!(fixture.get(&format!("/sse?ticket={bad}")).open().0.status, 401, "{bad}");
    }
    for path in ["/other", "/ndjson", "/ws"] {
        assert_ne!(fixture.get(&format!("{path}?ticket={good}")).open().0.status, 200, "{path}");
    }
    assert_eq!(fixture.get(&format!("/sse?ticket={good}&ticket={good}")).open().0.status, 401);
    assert_eq!(fixture.get(&format!("/sse?ticket={good}")).bearer("garbage").open().0.status, 401, "the header counts");
}
