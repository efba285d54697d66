//! The state of a topic as documents: pages, elements, conditions and waiting.

use std::thread;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::{Answer, Call};
use crate::support::token;

fn shop() -> Fixture {
    Plan::new(
        "auth: { key_file: jwt.key, algorithms: [HS256] }\nstreams:\n  orders: { topics: [orders], keys: [orderId, userId], \
         state: { key: orderId } }\n  notices: { topics: [notices] }\ntopics:\n  orders: { map: { keys: { orderId: key, userId: \
         /userId }, data: /data } }\nroutes:\n  - { path: /orders, stream: orders, public: true, data: payload, \
         other_methods: upstream, fields: { drop: [/data/secret] } }\n  - { path: \"/orders/{id}\", stream: orders, public: \
         true, data: payload, bind: { orderId: path.id } }\n  - { path: /mine, stream: orders, bind: { userId: claims.sub } \
         }\n  - { path: \"/mine/{id}\", stream: orders, bind: { orderId: path.id, userId: claims.sub } }\n  - { path: /socket, \
         stream: orders, transport: ws, public: true }\n  - { path: /notices, stream: notices, public: true }\n",
    )
    .build()
}

fn put(fixture: &Fixture, key: &str, n: u32) {
    let user = if n.is_multiple_of(2) { "even" } else { "odd" };
    let value = json!({ "userId": user, "data": { "id": key, "n": n, "secret": 1 } }).to_string();
    fixture.broker.produce("orders", 0, Some(key), Some(value.as_bytes()));
}

/// Five orders, `a` to `e`, with the numbers 0 to 4.
fn stocked() -> Fixture {
    let fixture = shop();
    for (n, key) in (0..).zip(["a", "b", "c", "d", "e"]) {
        put(&fixture, key, n);
    }
    await_keys(&fixture, 5.0);
    fixture
}

fn await_keys(fixture: &Fixture, keys: f64) {
    fixture.sidecar.await_metric("notifications_state_keys{key=\"orderId\",topic=\"orders\"}", keys);
    fixture.sidecar.await_metric("notifications_state_ready{key=\"orderId\",topic=\"orders\"}", 1.0);
}

fn json_of(fixture: &Fixture, target: &str) -> Call {
    fixture.get(target).header("Accept", "application/json")
}

fn page(fixture: &Fixture, target: &str) -> Value {
    let answer = json_of(fixture, target).send();
    assert_eq!((answer.status(), answer.header("Content-Type")), (200, Some("application/json")), "{}", answer.text());
    answer.json()
}

fn numbers(page: &Value) -> Vec<i64> {
    page["data"].as_array().unwrap().iter().map(|order| order["n"].as_i64().unwrap()).collect()
}

fn tag(answer: &Answer) -> String {
    answer.header("ETag").unwrap().to_owned()
}

#[test]
fn a_collection_has_pages_and_a_stream_goes_on_where_they_end() {
    let fixture = stocked();
    let whole = page(&fixture, "/orders?page=0&size=20");
    assert_eq!((numbers(&whole), &whole["data"][0]), (vec![0, 1, 2, 3, 4], &json!({ "id": "a", "n": 0 })));
    assert_eq!(whole["meta"]["pagination"], json!({ "page": 0, "size": 20, "totalElements": 5 }));
    assert_eq!(page(&fixture, "/orders"), whole, "the default page");
    assert_eq!(numbers(&page(&fixture, "/orders?page=1&size=2")), [2, 3]);
    let cursor = whole["meta"]["cursor"].as_str().unwrap();
    put(&fixture, "b", 7);
    let mut stream = fixture.get(&format!("/orders?since={cursor}")).ndjson();
    assert_eq!(stream.event()["n"], 7, "only what came after the document");
}

#[test]
fn pages_of_one_cut_follow_each_other_and_none_resumes_the_changes_early() {
    let fixture = stocked();
    let first = json_of(&fixture, "/orders?size=2").send();
    let cursor = first.json()["meta"]["cursor"].as_str().unwrap().to_owned();
    assert_eq!(first.header("Link"), Some(&*format!("<?since={cursor}&size=2>; rel=\"next\"")));
    put(&fixture, "a", 10);
    put(&fixture, "d", 13);
    eventually("the changes", || (numbers(&page(&fixture, "/orders")) == [10, 1, 2, 13, 4]).then_some(()));
    let second = page(&fixture, &format!("/orders?since={cursor}&size=2"));
    assert_eq!((numbers(&second), &second["meta"]["pagination"]["page"]), (vec![2, 3], &Value::Null), "as it was");
    // A stream from within sends the rest of the snapshot first.
    let mut rest = fixture.get(&format!("/orders?since={cursor}")).ndjson();
    let lines: Vec<Value> = (0..6).map(|_| rest.event()).collect();
    assert_eq!([0, 1, 2, 4, 5].map(|n| lines[n]["n"].as_i64().unwrap()), [2, 3, 4, 10, 13]);
    assert_eq!(lines[3]["phase"], "end");
    let last = page(&fixture, &format!("/orders?since={}&size=9", second["meta"]["cursor"].as_str().unwrap()));
    let end = last["meta"]["cursor"].as_str().unwrap();
    let mut changes = fixture.get(&format!("/orders?since={end}")).ndjson();
    assert_eq!([changes.event()["n"].clone(), changes.event()["n"].clone()], [10, 13]);
    // A page that was asked for by its number does not say what its client has.
    let third = page(&fixture, "/orders?page=2&size=2");
    let mut all = fixture.get(&format!("/orders?since={}", third["meta"]["cursor"].as_str().unwrap())).ndjson();
    assert_eq!(all.event()["phase"], "begin");
}

#[test]
fn an_element_has_a_path_of_its_own() {
    let fixture = stocked();
    assert_eq!(page(&fixture, "/orders/b"), json!({ "id": "b", "n": 1, "secret": 1 }));
    fixture.broker.produce("orders", 0, Some("b"), None);
    await_keys(&fixture, 4.0);
    json_of(&fixture, "/orders/b").send().problem(404);
    json_of(&fixture, "/orders/unknown").send().problem(404);
    json_of(&fixture, "/orders/a?page=0").send().problem(400);
}

#[test]
fn bindings_apply_to_documents() {
    let fixture = stocked();
    json_of(&fixture, "/mine").send().problem(401);
    let mine = |target: &str| json_of(&fixture, target).bearer(&token::of("odd")).send();
    let own = mine("/mine");
    let n: Vec<_> = own.json()["data"].as_array().unwrap().iter().map(|event| event["data"]["n"].clone()).collect();
    assert_eq!((n, &own.json()["meta"]["pagination"]["totalElements"]), (vec![json!(1), json!(3)], &json!(2)));
    assert_eq!(
        (own.header("Cache-Control"), own.header("Vary")),
        (Some("private, no-cache"), Some("accept, authorization, cookie"))
    );
    let known = |user: &str| {
        json_of(&fixture, "/mine").bearer(&token::of(user)).header("If-None-Match", tag(&own)).send().status()
    };
    assert_eq!((known("odd"), known("even")), (304, 200), "another user has another document of the same state");
    assert_eq!(mine("/mine/b").json()["orderId"], "b");
    mine("/mine/a").problem(404);
}

#[test]
fn a_condition_is_met_until_something_changes() {
    let fixture = stocked();
    let first = json_of(&fixture, "/orders").send();
    assert_eq!((first.header("Cache-Control"), first.header("Vary")), (Some("no-cache"), Some("accept")));
    let cursor = first.json()["meta"]["cursor"].as_str().unwrap().to_owned();
    assert!(tag(&first).starts_with(&format!("\"{cursor};")), "{}", tag(&first));
    let again = |target: &str, tag: &str| json_of(&fixture, target).header("If-None-Match", tag).send();
    let unchanged = again("/orders", &tag(&first));
    assert_eq!((unchanged.status(), unchanged.body.len(), tag(&unchanged)), (304, 0, tag(&first)));
    assert_eq!(json_of(&fixture, "/orders").header("If-None-Match", "\"x\"").send().status(), 200);
    let element = json_of(&fixture, "/orders/a").send();
    put(&fixture, "b", 9);
    eventually("the change", || (page(&fixture, "/orders/b")["n"] == 9).then_some(()));
    assert_eq!(again("/orders/a", &tag(&element)).status(), 304, "another element changed");
    assert_eq!(again("/orders/b", &tag(&element)).status(), 200);
    let changed = again("/orders", &tag(&first));
    assert_eq!((changed.status(), numbers(&changed.json())[1]), (200, 9));
    let head = fixture.call("HEAD", "/orders").header("Accept", "application/json").send();
    assert_eq!((head.status(), head.body.len(), tag(&head)), (200, 0, tag(&changed)));
    assert_eq!(head.header("Content-Length"), Some(&*changed.body.len().to_string()));
}

#[test]
fn a_request_waits_for_a_change() {
    let fixture = stocked();
    let wait = |target: &str, seconds: u32, tag: &str| {
        json_of(&fixture, target).header("If-None-Match", tag).header("Prefer", format!("wait={seconds}"))
    };
    let tag_of = |target: &str| tag(&json_of(&fixture, target).send());
    let over = wait("/orders/b", 1, &tag_of("/orders/b")).send();
    assert_eq!((over.status(), over.header("Preference-Applied")), (304, Some("wait=1")));
    let waiting = ["/orders/b", "/orders"].map(|target| {
        let call = wait(target, 30, &tag_of(target));
        thread::spawn(move || call.send().json())
    });
    put(&fixture, "b", 21);
    let [one, all] = waiting.map(|answer| answer.join().unwrap());
    assert_eq!((one["n"].as_i64(), numbers(&all)[1]), (Some(21), 21));
}

#[test]
fn what_is_not_asked_for_as_a_document_is_a_stream_or_for_the_service() {
    let fixture = stocked();
    for target in ["/orders", "/orders?from=state", "/orders?framing=ndjson"] {
        let accept = if target == "/orders" { "*/*" } else { "application/json" };
        let (head, _) = fixture.get(target).header("Accept", accept).open();
        assert!(head.header("ETag").is_none() && head.status == 200, "{target}");
    }
    let (head, _) = json_of(&fixture, "/notices?page=0&size=20").open();
    assert_eq!((head.status, head.header("X-Accel-Buffering")), (200, Some("no")), "a stream without a state");
    assert_eq!(fixture.get("/orders?page=0").send().json()["meta"]["pagination"]["page"], 0, "any type is accepted");
    json_of(&fixture, "/socket").send().problem(426);
    assert_eq!(fixture.call("POST", "/orders").body("{}").send().status(), 200, "the service's");
    for target in [
        "/orders?size=0",
        "/orders?page=x",
        "/orders?since=orders:0:1",
        "/orders?page=0&size=1001",
        "/orders?since=x~.x",
    ] {
        json_of(&fixture, target).send().problem(400);
    }
    json_of(&fixture, "/orders?since=orders:0:1~.AVtRXjUAAQM.by0x").send().problem(410);
    json_of(&fixture, "/orders").body("{}").send().problem(400);
}

#[test]
fn a_state_that_does_not_answer_is_unavailable() {
    let fixture = Plan::new(
        "streams:\n  orders: { topics: [orders], keys: [orderId], state: { key: orderId, bytes: 1KiB } }\nroutes:\n  - { \
         path: /orders, stream: orders, public: true }\n",
    )
    .build();
    (0..4).for_each(|n| drop(crate::state::order(&fixture, &format!("o-{n}"), n)));
    fixture.sidecar.await_log("the state is larger than its limit");
    let answer = json_of(&fixture, "/orders").send();
    assert!(answer.header("Retry-After").is_some());
    answer.problem(503);
    fixture.sidecar.await_metric("notifications_streams_rejected_total{reason=\"state\"}", 1.0);
    let broken = Plan::new(
        "streams:\n  orders: { topics: [orders], keys: [orderId], state: { key: orderId } }\nroutes:\n  - { path: /orders, \
         stream: orders, public: true }\n",
    );
    let unread = broken.broker_down().unready().build();
    let answer = json_of(&unread, "/orders").send();
    assert_eq!(answer.header("Retry-After"), Some("2"));
    answer.problem(503);
}
