//! Pages of other origins: the CORS fields of responses, and the behavior of a real browser.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Head;
use crate::support::token;

const ROUTES: &str = r#"
streams:
  orders: { topics: [orders], keys: [orderId] }
  notices: { topics: [notices], keys: [userId] }
auth: { key_file: jwt.key, algorithms: [HS256], cookie: session }
cors: { origins: ["https://app.example", "https://*.shop.example"], credentials: true, headers: [X-Tenant], max_age: 5m }
routes:
  - { path: /events, stream: orders, transport: sse, public: true }
  - { path: /stream, stream: orders, transport: ndjson, public: true }
  - { path: /ws, stream: orders, transport: ws, public: true }
  - { path: /mine, stream: notices, bind: { userId: claims.sub } }
  - { path: /framed, stream: orders, public: true }
  - { path: /open, stream: orders, public: true, cors: { origins: ["*"] } }
  - { path: /closed, stream: orders, public: true, cors: { origins: [] } }
  - { path: /full, stream: orders, transport: ndjson, public: true, max_streams: 1 }
  - { path: /full/events, stream: orders, transport: sse, public: true, max_streams: 1 }
  - { path: /posts, stream: orders, transport: sse, public: true, other_methods: upstream }
"#;
const APP: &str = "https://app.example";

fn allowed(head: &Head) -> Option<&str> {
    head.header("access-control-allow-origin")
}

#[test]
fn streams_and_errors_carry_the_policy() {
    let fixture = Plan::new(ROUTES).build();
    let from = |target: &str, origin: &str| fixture.get(target).header("Origin", origin).open().0;
    for target in ["/events", "/stream", "/mine", "/stream?since=nonsense", "/stream?since=orders:0:900000000"] {
        for origin in [APP, "https://eu.shop.example"] {
            let head = from(target, origin);
            assert_eq!(allowed(&head), Some(origin), "{target} {head:?}");
            assert_eq!(head.header("access-control-allow-credentials"), Some("true"), "{target}");
            assert!(head.headers("vary").iter().any(|value| value.eq_ignore_ascii_case("origin")), "{target}");
            let exposed = head.header("access-control-expose-headers").unwrap_or_default();
            assert!(exposed.contains("x-replay-not-possible"), "{target}");
        }
        for origin in [
            "https://evil.example",
            "null",
            "http://app.example",
            "https://app.example:444",
            "https://a.b.shop.example",
        ] {
            let head = from(target, origin);
            assert_eq!(allowed(&head), None, "{target} {origin}");
            assert!(head.headers("vary").iter().any(|value| value.eq_ignore_ascii_case("origin")), "{target}");
        }
    }
    assert_eq!(from("/mine", APP).status, 401);
    assert_eq!(from("/stream?since=orders:0:900000000", APP).status, 410);
    let two = fixture.get("/events").header("Origin", APP).header("Origin", "https://evil.example").open().0;
    assert_eq!(allowed(&two), None);
}

#[test]
fn a_refusal_by_a_limit_carries_the_policy() {
    let fixture = Plan::new(ROUTES).build();
    let _one = fixture.get("/full").ndjson();
    let full = fixture.get("/full").header("Origin", APP).send();
    full.problem(429);
    assert_eq!(allowed(&full.head), Some(APP));
    let _one = fixture.get("/full/events").sse();
    let later = fixture.get("/full/events").header("Origin", APP).sse();
    assert_eq!(allowed(&later.head), Some(APP));
}

#[test]
fn a_route_may_have_a_policy_of_its_own() {
    let fixture = Plan::new(ROUTES).build();
    let open = fixture.get("/open").header("Origin", "https://any.example").open().0;
    assert_eq!((allowed(&open), open.header("access-control-allow-credentials")), (Some("*"), None));
    assert_eq!(allowed(&fixture.get("/closed").header("Origin", APP).open().0), None);
    let none = Fixture::standard();
    let head = none.get("/events").header("Origin", APP).open().0;
    assert_eq!((allowed(&head), head.header("vary")), (None, None));
}

#[test]
fn preflights_are_answered_or_go_to_the_service() {
    let fixture = Plan::new(ROUTES).build();
    let ask = |path: &str, origin: &str, method: &str| {
        let call = fixture.call("OPTIONS", path).header("Origin", origin);
        call.header("Access-Control-Request-Method", method).send()
    };
    let answer = ask("/mine", APP, "GET");
    assert_eq!((answer.status(), allowed(&answer.head)), (204, Some(APP)));
    assert_eq!(answer.header("access-control-max-age"), Some("300"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD"));
    let headers = answer.header("access-control-allow-headers").unwrap();
    for name in ["authorization", "last-event-id", "x-tenant"] {
        assert!(headers.split(", ").any(|listed| listed == name), "{name} in {headers}");
    }
    let answer = ask("/mine", "https://evil.example", "GET");
    assert_eq!((answer.status(), allowed(&answer.head)), (204, None));
    assert_eq!(answer.header("access-control-allow-methods"), None);
    assert_eq!(allowed(&ask("/posts", APP, "GET").head), Some(APP));
    assert_eq!(fixture.upstream.count("OPTIONS /posts"), 0);
    ask("/posts", APP, "POST");
    assert_eq!(fixture.upstream.count("OPTIONS /posts"), 1);
    // Without a policy, the service's own applies, whatever the method.
    let none = Plan::new(STANDARD).build();
    let call = none.call("OPTIONS", "/posts").header("Origin", APP).header("Access-Control-Request-Method", "GET");
    call.send();
    assert_eq!(none.upstream.count("OPTIONS /posts"), 1);
}

#[test]
fn the_policy_decides_on_websockets() {
    let fixture = Plan::new(ROUTES).build();
    let open = |origin: Option<&str>| {
        let call = fixture.get("/ws").upgrade();
        origin.into_iter().fold(call, |call, origin| call.header("Origin", origin)).open().0.status
    };
    assert_eq!(open(Some(APP)), 101);
    assert_eq!(open(None), 101, "no browser");
    assert_eq!(open(Some("http://shop.example")), 101, "the request's own host");
    for origin in ["https://evil.example", "null", "https://app.example.evil.test"] {
        assert_eq!(open(Some(origin)), 403, "{origin}");
    }
    let token = token::of("u1");
    let cookie = |origin: &str| {
        let call = fixture.get("/mine").upgrade().header("Cookie", format!("session={token}"));
        call.header("Origin", origin).open().0.status
    };
    assert_eq!((cookie(APP), cookie("https://evil.example")), (101, 403));
}

/// Chromium with a page of one origin and streams of another: it reads what the policy allows, and nothing else.
#[test]
fn a_browser_reads_what_its_origin_may() {
    let routes = |origin: &str| ROUTES.replace("https://app.example", origin);
    // Another server provides the page's origin; its port is known before the policy is written.
    let page = Fixture::standard();
    let origin = format!("http://{}", page.sidecar.listen);
    let fixture = Plan::new(routes(&origin)).build();
    let token = token::of("u1");
    let [first, second] = ["o1", "o2"].map(|order| fixture.broker.order(order));
    fixture.settle("/events", std::slice::from_ref(&second));
    let look = |page: &Fixture| -> Value {
        let url = format!("http://{}/resume.html?none", page.sidecar.listen);
        let client =
            Client::start("browser_cors.cjs", &[&url, &format!("http://{}", fixture.sidecar.listen), &token, &first]);
        loop {
            let line = client.line();
            if !line["cors"].is_null() {
                return line["cors"].clone();
            }
        }
    };
    let may = look(&page);
    assert_eq!(may["fetch"], 200);
    assert_eq!(may["eventSource"], "open");
    assert_eq!(may["webSocket"], "open");
    assert_eq!(may["bearer"], 200, "with a preflight");
    assert_eq!(may["refused"], 401, "an error is readable");
    assert_eq!(may["gone"], json!([410, "true"]), "and its header");
    assert_eq!(may["credentials"], 200);
    assert_eq!(may["closed"], "failed");
    let types =
        ["application/x-ndjson", "application/json-seq", "application/x-length-prefixed-json", "application/json"];
    assert_eq!(may["framings"], json!(types.map(|media_type| [media_type, &second])), "each framing, by fetch");
    let stranger = Fixture::standard();
    let may_not = look(&stranger);
    for name in ["fetch", "eventSource", "webSocket", "bearer", "refused", "gone", "credentials"] {
        assert_eq!(may_not[name], "failed", "{name}");
    }
    assert_eq!(may_not["framings"], json!(vec!["failed"; 4]));
    assert_eq!(may_not["open"], 200, "a route for every origin");
}
