//! Origins that resemble an allowed one: what browsers and others may send, on requests, preflights and WebSockets.

use crate::support::fixture::{Fixture, Plan};
use crate::support::http::{Call, Connection};

const ROUTES: &str = r#"
streams: { orders: { topics: [orders], keys: [orderId] } }
cors: { origins: ["https://app.example", "https://*.apps.example", "http://[2001:db8::1]:8080"] }
routes:
  - { path: /stream, stream: orders, transport: ndjson, public: true }
  - { path: /ws, stream: orders, transport: ws, public: true }
"#;
const ALLOWED: [&str; 4] = [
    "https://app.example",
    "https://eu.apps.example",
    "https://xn--bcher-kva.apps.example",
    "http://[2001:db8::1]:8080",
];
const REFUSED: [&[u8]; 45] = [
    // No origin of a page.
    b"null",
    b"NULL",
    b"*",
    b"https://*.apps.example",
    b"file://",
    b"app.example",
    b"//app.example",
    // Scheme and case.
    b"http://app.example",
    b"wss://app.example",
    b"HTTPS://app.example",
    b"https://APP.example",
    b"https://EU.apps.example",
    // Ports, the default one included: browsers leave it out.
    b"https://app.example:443",
    b"https://app.example:444",
    b"https://app.example:",
    b"https://eu.apps.example:443",
    b"http://[2001:db8::1]",
    b"http://[2001:db8::1]:80",
    // Another name, by its beginning, its end or its labels.
    b"https://app.example.",
    b"https://app.example..",
    b"https://app.example.evil.test",
    b"https://evilapp.example",
    b"https://evil-apps.example",
    b"https://apps.example",
    b"https://.apps.example",
    b"https://a.b.apps.example",
    b"https://eu.apps.example.",
    b"https://eu.apps.example.evil.test",
    b"https://-.evil.test#.apps.example",
    // A user, a path, a query, a fragment.
    b"https://app.example@evil.test",
    b"https://evil.test@app.example",
    b"https://u:p@app.example",
    b"https://app.example/",
    b"https://evil.test/https://app.example",
    b"https://evil.test?.apps.example",
    b"https://evil.test\\.apps.example",
    b"https://app.example%00.evil.test",
    // Punycode: browsers send it, and bytes outside of ASCII are another name.
    b"https://xn--pp-xla.example",
    b"https://b\xc3\xbccher.apps.example",
    b"https://\xef\xbd\x81pp.example",
    // IPv6 in another spelling.
    b"http://[2001:db8:0:0::1]:8080",
    b"http://[2001:DB8::1]:8080",
    b"http://2001:db8::1:8080",
    // Several.
    b"https://app.example https://evil.test",
    b"https://evil.test, https://app.example",
];

/// The status of the response, and whether it allows the origin.
fn answer(fixture: &Fixture, call: &Call, origin: &[u8]) -> (u16, bool) {
    let mut bytes = call.bytes();
    bytes.truncate(bytes.len() - b"\r\n".len());
    let mut connection = Connection::open(fixture.sidecar.listen);
    connection.write(&[&bytes[..], b"Origin: ", origin, b"\r\n\r\n"].concat());
    let head = connection.head();
    (head.status, head.header("access-control-allow-origin").is_some())
}

#[test]
fn only_the_exact_origin_is_allowed() {
    let fixture = Plan::new(ROUTES).build();
    let preflight = fixture.call("OPTIONS", "/stream").header("Access-Control-Request-Method", "GET");
    let (stream, websocket) = (fixture.get("/stream"), fixture.get("/ws").upgrade());
    let answers = |origin: &[u8]| [&stream, &preflight, &websocket].map(|call| answer(&fixture, call, origin));
    for origin in ALLOWED {
        let [stream, preflight, (socket, _)] = answers(origin.as_bytes());
        assert_eq!((stream, preflight, socket), ((200, true), (204, true), 101), "{origin}");
    }
    for origin in REFUSED {
        let [stream, preflight, (socket, _)] = answers(origin);
        let name = origin.escape_ascii();
        assert_eq!((stream, preflight, socket), ((200, false), (204, false), 403), "{name}");
    }
}

/// A WebSocket may come from a page of the host that it is sent to, whatever TLS a proxy has removed.
#[test]
fn the_own_host_is_one_origin() {
    let fixture = Plan::new(ROUTES).build();
    let status = |host: &str, origin: &str| {
        let call = fixture.get("/ws").upgrade();
        let text = String::from_utf8(call.bytes()).unwrap().replace("Host: shop.example", &format!("Host: {host}"));
        let mut connection = Connection::open(fixture.sidecar.listen);
        connection.write(text.replace("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n")).as_bytes());
        connection.head().status
    };
    for (host, origin) in [
        ("own.example", "https://own.example"),
        ("own.example", "http://own.example"),
        ("own.example:8443", "https://own.example:8443"),
        ("[::1]:8080", "http://[::1]:8080"),
    ] {
        assert_eq!(status(host, origin), 101, "{origin} at {host}");
    }
    for (host, origin) in [
        ("own.example", "https://own.example:8443"),
        ("own.example:8443", "https://own.example"),
        ("own.example", "https://own.example."),
        ("own.example", "https://own.example.evil.test"),
        ("own.example", "https://evil.own.example"),
        ("own.example", "https://u@own.example"),
        ("own.example", "https://own.example@evil.test"),
        ("[::1]:8080", "http://[::2]:8080"),
        ("[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080"),
        ("own.example", "null"),
        ("null", "null"),
    ] {
        assert_eq!(status(host, origin), 403, "{origin} at {host}");
    }
}

/// No cache may serve the response for one origin to another.
#[test]
fn every_answer_says_that_it_depends_on_the_origin() {
    let fixture = Plan::new(ROUTES).build();
    for call in [fixture.get("/stream"), fixture.call("OPTIONS", "/stream"), fixture.get("/stream?since=nonsense")] {
        for origin in ["https://app.example", "https://evil.test"] {
            let vary = call.clone().header("Origin", origin).open().0;
            assert!(vary.headers("vary").iter().any(|value| value.eq_ignore_ascii_case("origin")), "{origin} {vary:?}");
        }
        let none = call.open().0;
        assert!(none.headers("vary").iter().any(|value| value.eq_ignore_ascii_case("origin")), "{none:?}");
    }
}
