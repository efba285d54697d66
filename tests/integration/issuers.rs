//! Issuers that publish their keys at a URL: they rotate, fail and come back, and nobody waits for them.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use serde_json::{Value, json};

use crate::jose;
use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan};
use crate::support::raw_upstream::RawUpstream;
use crate::support::token;

/// An issuer with one key; without one it fails.
struct Issuer {
    server: RawUpstream,
    jwks: Arc<Mutex<Option<Value>>>,
}

struct Key {
    id: &'static str,
    pair: jose::Key,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        Self { id, pair: PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap() }
    }

    fn jwks(&self) -> Value {
        let mut jwk = jose::jwk(&self.pair);
        (jwk["kid"], jwk["use"]) = (json!(self.id), json!("sig"));
        json!({ "keys": [jwk] })
    }

    fn token(&self, issuer: &str) -> String {
        let claims = json!({"iss": issuer, "sub": "u1", "exp": token::now() + 3600});
        jose::token(&json!({"alg": "ES256", "kid": self.id}), &claims, &self.pair)
    }
}

impl Issuer {
    fn start() -> Self {
        let jwks = Arc::<Mutex<Option<Value>>>::default();
        let published = jwks.clone();
        let server = RawUpstream::start(move |head, socket| {
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
            let answer = match &*published.lock().unwrap() {
                None => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
                Some(jwks) => {
                    let metadata =
                        json!({"issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/keys")});
                    let is_metadata = head.starts_with("GET /.well-known/openid-configuration ");
                    let body = if is_metadata { metadata.to_string() } else { jwks.to_string() };
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
                }
            };
            socket.write_all(answer.as_bytes()).unwrap();
        });
        Self { server, jwks }
    }

    fn publish(&self, key: Option<&Key>) {
        *self.jwks.lock().unwrap() = key.map(Key::jwks);
    }

    fn name(&self) -> String {
        format!("http://{}", self.server.address)
    }

    fn fixture(&self) -> Fixture {
        let settings = format!(
            "streams: {{ notices: {{ topics: [notices], keys: [userId] }} }}\n\
             auth: {{ issuer: '{}', discovery: true, algorithms: [ES256] }}\n\
             routes: [{{ path: /mine, stream: notices, bind: {{ userId: claims.sub }}, max_streams: 99 }},
             \x20 {{ path: /mine/ws, stream: notices, transport: ws, bind: {{ userId: claims.sub }}, token_from: [message] }}]\n",
            self.name()
        );
        Plan::new(settings).build()
    }
}

#[test]
fn keys_rotate_and_outlive_their_issuer() {
    let issuer = Issuer::start();
    let (first, second, foreign) = (Key::new("a"), Key::new("b"), Key::new("c"));
    let fixture = issuer.fixture();
    let open =
        |key: &Key, form: &str| fixture.get("/mine").header("Accept", form).bearer(&key.token(&issuer.name())).open().0;
    let status = |key: &Key| open(key, "application/x-ndjson").status;

    // The issuer fails: nobody is refused for good.
    let refused = open(&first, "application/x-ndjson");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    let polite = open(&first, "text/event-stream");
    assert_eq!((polite.status, polite.header("retry-after").is_some()), (200, true));
    assert_eq!(fixture.get("/mine").open().0.status, 401, "no token");

    issuer.publish(Some(&first));
    eventually_true("the first key", || status(&first) == 200);
    assert_ne!(status(&foreign), 200);

    issuer.publish(Some(&second));
    eventually_true("the second key", || status(&second) == 200);
    assert_eq!(status(&first), 401);

    // The issuer fails again, and the configuration changes meanwhile.
    issuer.publish(None);
    assert_eq!(status(&second), 200);
    let text = fs::read_to_string(&fixture.config).unwrap();
    let next = fixture.config.with_extension("next");
    fs::write(&next, text.replace("discovery: true", "discovery: true, leeway: 7s")).unwrap();
    fs::rename(&next, &fixture.config).unwrap();
    fixture.sidecar.await_metric("notifications_config_reloads_total{result=\"success\"}", 1.0);
    assert_eq!(status(&second), 200);
    assert_ne!(status(&first), 200);
}

#[test]
fn check_asks_an_issuer() {
    let issuer = Issuer::start();
    let fixture = issuer.fixture();
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_sidestream"))
            .args(["check", "--online", "--config"])
            .arg(&fixture.config)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("the response has status 503"), "{code:?} {said}");
    issuer.publish(Some(&Key::new("a")));
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("usable keys: 1"), "{code:?} {said}");
}

#[test]
fn a_first_message_is_not_refused_for_good_while_the_issuer_fails() {
    let issuer = Issuer::start();
    let fixture = issuer.fixture();
    let key = Key::new("a");
    let send = |token: &str| {
        let mut socket = fixture.get("/mine/ws").websocket();
        socket.send(&json!({"command": "authenticate", "token": token}).to_string());
        socket.message()
    };
    let token = key.token(&issuer.name());
    assert_eq!(send(&token), Err(1013));
    issuer.publish(Some(&key));
    eventually_true("the key", || send(&token).is_ok());
    assert_eq!(send("garbage"), Err(1008));
}
