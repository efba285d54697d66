//! Real identity providers: Dex issues tokens, and oauth2-proxy keeps sessions. The configurations are those of
//! docs/security.md.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::{Answer, Call};
use crate::support::real_broker::free_port;
use crate::support::{documented, eventually_true, token};

const ROUTES: &str = "
streams: { notices: { topics: [notices], keys: [userId] } }
routes:
  - { path: /mine/events, stream: notices, transport: sse, bind: { userId: claims.email } }
  - { path: /mine/stream, stream: notices, transport: ndjson, bind: { userId: claims.email } }
  - { path: /mine/ws, stream: notices, transport: ws, bind: { userId: claims.email }, token_from: [message] }
";
/// The session cookie of oauth2-proxy.
const SESSION: &str = "_oauth2_proxy=";

/// A program that `make identity` installed, stopped when dropped.
struct Program(Child);

impl Program {
    fn start(name: &str, arguments: &[String]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/identity").join(name);
        assert!(program.exists(), "`make identity` has not installed {name}");
        let mut command = Command::new(program);
        Self(command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keycloak with the realm of `tests/identity/keycloak`. Its folder has the state of one process.
fn keycloak(address: SocketAddr) -> Program {
    let arguments = ["start-dev", "--import-realm", "--cache=local", "--http-host=127.0.0.1"].map(str::to_owned);
    let ports = [
        format!("--http-port={}", address.port()),
        format!("--http-management-port={}", loopback().port()),
        "--http-management-host=127.0.0.1".to_owned(),
    ];
    Program::start("keycloak/bin/kc.sh", &[&arguments[..], &ports].concat())
}

/// The tokens of a user of Keycloak's realm, by password.
fn issued_by_keycloak(address: SocketAddr, client: &str) -> Value {
    let form = format!("grant_type=password&scope=openid&username=u1&password=password&client_id={client}");
    let call = Call::of_admin(address, "POST", "/realms/shop/protocol/openid-connect/token");
    let answer = call.header("Content-Type", "application/x-www-form-urlencoded").body(form).send();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

fn await_answer(call: &Call, what: &str) {
    eventually_true(what, || std::net::TcpStream::connect(call.address).is_ok() && call.send().status() == 200);
}

/// Dex, with a redirect to this address.
fn dex(redirect: SocketAddr) -> (SocketAddr, Program) {
    let address = loopback();
    let redirect = format!("http://{redirect}/oauth2/callback");
    let dex = Program::start("dex", &[address.to_string(), redirect]);
    await_answer(&Call::new(address, "GET", "/keys"), "Dex");
    (address, dex)
}

/// The answer of Dex to a request for a token by password.
fn issued(dex: SocketAddr, client: &str, user: &str) -> Value {
    let form = format!(
        "grant_type=password&scope=openid+email&username={user}%40example.com&password=password&client_id={client}&client_secret=secret"
    );
    let call = Call::new(dex, "POST", "/token").header("Content-Type", "application/x-www-form-urlencoded");
    let answer: Answer = call.body(form).send();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

#[test]
fn tokens_of_dex_open_the_streams_of_their_user() {
    let (address, _dex) = dex(loopback());
    let auth = documented("Access tokens of an OpenID provider", "auth:");
    let auth = auth.replace("https://login.example/realms/shop", &format!("http://{address}"));
    let fixture = Plan::new(format!("{ROUTES}{auth}")).build();
    let id_token = |client: &str, user: &str| issued(address, client, user)["id_token"].as_str().unwrap().to_owned();
    let (token, other) = (id_token("shop-api", "u1"), id_token("other-api", "u1"));
    let mut sse = fixture.get("/mine/events").bearer(&token).sse();
    let mut ndjson = fixture.get("/mine/stream").bearer(&token).ndjson();
    let mut websocket = fixture.get("/mine/ws").websocket();
    assert_eq!(websocket.ask(json!({"command": "authenticate", "token": token}))["data"]["status"], "ok");
    fixture.broker.notice("u2@example.com");
    let own = [fixture.broker.notice("u1@example.com")];
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (own.to_vec(), own.to_vec(), own.to_vec()));

    let (head, rest) = token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let (_, rest_of_other) = other.split_once('.').unwrap();
    let (claims_of_other, _) = rest_of_other.split_once('.').unwrap();
    let own_claims = json!({"iss": format!("http://{address}"), "aud": "shop-api", "email": "u1@example.com"});
    for (bad, what) in [
        (other.clone(), "another audience"),
        (format!("{head}.{claims_of_other}.{signature}"), "the claims of another token"),
        (format!("{head}.{claims}."), "no signature"),
        (token::with(own_claims), "a signature by another key"),
    ] {
        assert_eq!(fixture.get("/mine/stream").bearer(&bad).open().0.status, 401, "{what}");
        let mut socket = fixture.get("/mine/ws").websocket();
        socket.send(&json!({"command": "authenticate", "token": bad}).to_string());
        assert_eq!(socket.closed(), 1008, "{what}");
    }
    assert!(!fixture.sidecar.log().contains(&token));
}

#[test]
#[ignore = "a download of 160 MB, and a minute: make keycloak"]
fn tokens_of_keycloak_open_the_streams_of_their_user() {
    let address = loopback();
    let _keycloak = keycloak(address);
    let metadata = Call::of_admin(address, "GET", "/realms/shop/.well-known/openid-configuration");
    await_answer(&metadata, "Keycloak");
    let auth = documented("Access tokens of an OpenID provider", "auth:");
    let auth = auth.replace("https://login.example", &format!("http://{address}"));
    let fixture = Plan::new(format!("{ROUTES}{auth}")).build();
    let issued = issued_by_keycloak(address, "page");
    let token = issued["access_token"].as_str().unwrap();
    let mut sse = fixture.get("/mine/events").bearer(token).sse();
    let mut websocket = fixture.get("/mine/ws").websocket();
    assert_eq!(websocket.ask(json!({"command": "authenticate", "token": token}))["data"]["status"], "ok");
    fixture.broker.notice("u2@example.com");
    let own = [fixture.broker.notice("u1@example.com")];
    assert_eq!((sse.ids(1), websocket.ids(1)), (own.to_vec(), own.to_vec()));
    let other = issued_by_keycloak(address, "other");
    for (bad, what) in [
        (&issued["id_token"], "an ID token is for the page"),
        (&issued["refresh_token"], "a refresh token is for Keycloak"),
        (&other["access_token"], "a client without the audience"),
    ] {
        assert_eq!(fixture.get("/mine/stream").bearer(bad.as_str().unwrap()).open().0.status, 401, "{what}");
    }
}

fn status(fixture: &Fixture, cookie: &str) -> u16 {
    fixture.get("/mine/stream").header("Cookie", cookie).open().0.status
}

#[test]
fn a_session_of_oauth2_proxy_opens_the_streams_of_its_user() {
    let proxy = loopback();
    let (provider, _dex) = dex(proxy);
    let flags = [
        "--provider=oidc".to_owned(),
        format!("--oidc-issuer-url=http://{provider}"),
        "--client-id=shop-api".to_owned(),
        "--client-secret=secret".to_owned(),
        "--cookie-secret=0123456789abcdef0123456789abcdef".to_owned(),
        "--cookie-secure=false".to_owned(),
        "--email-domain=*".to_owned(),
        "--reverse-proxy".to_owned(),
        "--set-xauthrequest".to_owned(),
        "--skip-provider-button".to_owned(),
        "--upstream=static://202".to_owned(),
        format!("--http-address={proxy}"),
        format!("--redirect-url=http://{proxy}/oauth2/callback"),
    ];
    let _proxy = Program::start("oauth2-proxy", &flags);
    await_answer(&Call::new(proxy, "GET", "/ping"), "oauth2-proxy");
    let auth = documented("oauth2-proxy", "auth:").replace("oauth2-proxy:4180", &proxy.to_string());
    let routes = ROUTES.replace(", token_from: [message]", "");
    let fixture = Plan::new(format!("{routes}{auth}")).build();
    assert_eq!(status(&fixture, "theme=dark"), 401);

    let login = Client::start("login.py", &[&format!("http://{proxy}/oauth2/start"), "u1@example.com", "password"]);
    let cookie = login.line()["cookie"].as_str().unwrap().to_owned();
    assert!(cookie.contains(SESSION), "{cookie}");
    let mut sse = fixture.get("/mine/events").header("Cookie", &cookie).sse();
    let call = fixture.get("/mine/ws").header("Cookie", &cookie).header("Origin", "http://shop.example");
    let mut websocket = call.websocket();
    fixture.broker.notice("u2@example.com");
    let own = [fixture.broker.notice("u1@example.com")];
    assert_eq!((sse.ids(1), websocket.ids(1)), (own.to_vec(), own.to_vec()));

    let (before, session) = cookie.split_once(SESSION).unwrap();
    let mut forged = session.to_owned();
    forged.replace_range(10..11, if &forged[10..11] == "A" { "B" } else { "A" });
    assert_eq!(status(&fixture, &format!("{before}{SESSION}{forged}")), 401);
    let spoofed =
        fixture.get("/mine/stream").header("Cookie", "theme=dark").header("X-Auth-Request-Email", "u1@example.com");
    assert_eq!(spoofed.open().0.status, 401);
}
