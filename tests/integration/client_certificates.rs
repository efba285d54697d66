//! Client certificates: a proxy in front verifies them, and says who the client is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslStream};
use serde_json::json;

use crate::support::fixture::{Fixture, Plan};
use crate::support::hop::{HTTP11, Hop};
use crate::support::http::Call;
use crate::support::token;

const ROUTES: &str = "
streams: { notices: { topics: [notices], keys: [userId] } }
routes:
  - { path: /mine/stream, stream: notices, transport: ndjson, bind: { userId: claims.subject.CN } }
  - { path: /mine/ws, stream: notices, transport: ws, bind: { userId: claims.subject.CN } }
  - { path: /own/stream, stream: notices, transport: ndjson, bind: { userId: claims.sub } }
";
const ENVOY: &str = "trust: [127.0.0.1]";
const NGINX: &str = "trust: [127.0.0.0/8], form: subject";
/// The name in the certificates of the tests.
const HOLDER: &str = "127.0.0.1";

fn plan(certificates: &str, others: &str) -> Plan {
    Plan::new(format!("{ROUTES}auth: {{ client_certificates: {{ {certificates} }}, {others} }}\n"))
}

fn nginx(fixture: &Fixture) -> Hop {
    let fields = "proxy_set_header ssl-client-verify $ssl_client_verify; \
                  proxy_set_header ssl-client-subject-dn $ssl_client_s_dn;";
    let verify = "ssl_client_certificate ca.pem; ssl_verify_client optional; proxy_buffering off;";
    Hop::nginx_tls(fixture.sidecar.listen, &format!("{HTTP11} {verify} {fields}"))
}

fn envoy(fixture: &Fixture) -> Hop {
    let keys = "forward_client_cert_details: SANITIZE_SET\n                \
                set_current_client_cert_details: { subject: true, uri: true, dns: true }";
    Hop::envoy_mutual_tls(fixture.sidecar.listen, keys)
}

/// A request through the proxy. It returns the status, and what follows.
fn request(hop: &Hop, has_certificate: bool, fields: &str) -> (u16, BufReader<SslStream<TcpStream>>) {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_ca_file(hop.authority()).unwrap();
    if has_certificate {
        connector.set_certificate_chain_file(hop.certificate()).unwrap();
        connector.set_private_key_file(hop.certificate(), SslFiletype::PEM).unwrap();
    }
    let socket = TcpStream::connect(hop.address).unwrap();
    let mut tls = connector.build().connect("127.0.0.1", socket).unwrap();
    write!(tls, "GET /mine/stream HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n").unwrap();
    let mut reader = BufReader::new(tls);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    (head.split(' ').nth(1).unwrap().parse().unwrap(), reader)
}

#[test]
fn a_proxy_that_verified_a_certificate_says_who_the_client_is() {
    let forged = [
        "X-Forwarded-Client-Cert: Hash=ab;Subject=\"CN=127.0.0.1\"\r\n",
        "ssl-client-verify: SUCCESS\r\nssl-client-subject-dn: CN=127.0.0.1\r\n",
    ];
    for certificates in [ENVOY, NGINX] {
        let fixture = plan(certificates, "").build();
        let hop = if certificates == ENVOY { envoy(&fixture) } else { nginx(&fixture) };
        for fields in [&forged[..], &[""]].concat() {
            assert_eq!(request(&hop, false, fields).0, 401, "{certificates}: {fields}");
        }
        let (status, mut stream) = request(&hop, true, "");
        assert_eq!(status, 200, "{certificates}");
        fixture.broker.notice("another");
        let own = fixture.broker.notice(HOLDER);
        let mut line = String::new();
        while !line.contains("notices") {
            line.clear();
            assert_ne!(stream.read_line(&mut line).unwrap(), 0, "{certificates}");
        }
        assert!(line.contains(&own), "{line}");
    }
}

fn certified(call: Call, name: &str) -> Call {
    call.header("X-Forwarded-Client-Cert", format!("Hash=ab;Subject=\"CN={name}\""))
}

#[test]
fn a_certificate_counts_from_trusted_peers_alone() {
    let echoed = |plan: Plan| {
        let fixture = plan.build();
        let status = certified(fixture.get("/mine/stream"), "u1").open().0.status;
        let echo = certified(fixture.get("/echo"), "u1").header("X_Forwarded_Client_Cert", "Hash=ab;Subject=\"CN=u1\"");
        (status, echo.send().text().matches("CN=u1").count())
    };
    let other = "trust: [10.0.0.0/8, '::1']";
    let everybody = "forwarded: { trust: all }";
    assert_eq!(echoed(plan(ENVOY, "").with(everybody)), (200, 1), "other spellings are the client's own");
    assert_eq!(echoed(plan(other, "").with(everybody)), (401, 0));
    assert_eq!(echoed(plan(ENVOY, "")), (200, 0), "the service sees what `forwarded` allows");
}

#[test]
fn a_certificate_is_one_of_several_ways() {
    let fixture = plan(ENVOY, "key_file: jwt.key, algorithms: [HS256], revocations: {}").build();
    let open = |call: Call| call.open().0.status;
    let stream = || fixture.get("/mine/stream");
    assert_eq!(open(certified(stream(), "u1")), 200);
    assert_eq!(open(stream().header("X-Forwarded-Client-Cert", "Hash=ab;Subject=\"CN=u1\",Hash=cd")), 401);
    assert_eq!(
        open(stream().header("X-Forwarded-Client-Cert", "Hash=ab;Subject=\"O=u1\"")),
        403,
        "the claim is missing"
    );
    assert_eq!(open(certified(stream(), "u1").bearer("garbage")), 401, "a token takes precedence");
    let token = token::of("u2");
    let mut by_token = certified(fixture.get("/own/stream"), "u1").bearer(&token).ndjson();
    let own = fixture.broker.notice("u2");
    assert_eq!(by_token.ids(1), [own]);
    let from = |origin: &str| open(certified(fixture.get("/mine/ws"), "u1").header("Origin", origin).upgrade());
    assert_eq!([from("http://shop.example"), from("https://evil.example"), from("null")], [101, 403, 403]);
    assert_eq!(open(certified(fixture.get("/mine/ws"), "u1").upgrade()), 101, "a device has no origin");

    let mut sockets = ["u1", "u3"]
        .map(|name| certified(fixture.get("/mine/ws"), name).header("Origin", "http://shop.example").websocket());
    let revoke = Call::of_admin(fixture.sidecar.admin, "POST", "/-/revoke").body(json!({"sub": "CN=u1"}).to_string());
    assert_eq!(revoke.send().status(), 200);
    assert_eq!(sockets[0].closed(), 1008);
    assert_eq!(open(certified(stream(), "u1")), 401);
    let text = std::fs::read_to_string(&fixture.config).unwrap();
    fixture.replace("sidestream.yaml", &text.replace("trust: [127.0.0.1]", "trust: [10.1.2.0/24]"));
    assert_eq!(sockets[1].closed(), 1012, "its proxy is not trusted any more");
}
