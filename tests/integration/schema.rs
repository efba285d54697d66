//! JSON Schemas of topics: what clients receive for records that do not conform, live, in replay and after a reload.

use serde_json::{Value, json};

use crate::support::fixture::{Fixture, Plan};
use crate::support::http::Call;

const POSITIVE: &str = r#"{ "type": "object", "properties": { "total": { "type": "number", "minimum": 0 } } }"#;
const NEGATIVE: &str = r#"{ "type": "object", "properties": { "total": { "type": "number", "maximum": 0 } } }"#;

fn fixture(invalid: &str) -> Fixture {
    let topics = format!("topics: {{ orders: {{ schema: {{ file: orders.schema.json, invalid: {invalid} }} }} }}\n");
    let routes = "streams: { orders: { topics: [orders], keys: [orderId] } }\nroutes: [{ path: /stream, stream: orders, public: \
                  true, transport: ndjson }]\n";
    Plan::new(topics + routes).file("orders.schema.json", POSITIVE).build()
}

fn order(fixture: &Fixture, total: i64) -> String {
    fixture.broker.event("orders", 0, json!({ "orderId": "secret-order", "data": { "total": total } }))
}

fn is_gap(item: &Value, id: &str) {
    assert_eq!((&item["type"], &item["cause"]), (&json!("gap"), &json!("invalid")), "{item}");
    let range = &item["ranges"][0];
    assert_eq!(format!("{}:{}:{}", range["topic"].as_str().unwrap(), range["partition"], range["from"]), id);
}

#[test]
fn a_record_that_does_not_conform_is_a_gap() {
    let fixture = fixture("gap");
    let mut live = fixture.get("/stream").ndjson();
    let (first, invalid, last) = (order(&fixture, 1), order(&fixture, -1), order(&fixture, 2));
    assert_eq!(live.event()["id"], first);
    is_gap(&live.event(), &invalid);
    assert_eq!(live.event()["id"], last);
    let mut replayed = fixture.get(&format!("/stream?since={first}")).ndjson();
    is_gap(&replayed.event(), &invalid);
    assert_eq!(replayed.event()["id"], last);
    fixture.sidecar.await_metric("notifications_kafka_invalid_total{topic=\"orders\"}", 1.0);
    fixture.sidecar.await_log("/properties/total/minimum");
    assert!(!fixture.sidecar.log().contains("secret-order"));

    let question = json!({ "path": "/stream", "record": r#"{"total":-1}"# }).to_string();
    let answer = Call::of_admin(fixture.sidecar.admin, "POST", "/-/explain").body(question).send().json();
    assert_eq!((&answer["receives"], &answer["decided_by"]), (&json!(false), &json!("validation")), "{answer}");
}

#[test]
fn a_changed_schema_applies_to_later_records() {
    let fixture = fixture("gap");
    let mut live = fixture.get("/stream").ndjson();
    let first = order(&fixture, 1);
    assert_eq!(live.event()["id"], first);
    fixture.replace("orders.schema.json", NEGATIVE);
    // It may have been applied before the request.
    let result = reload(&fixture)["result"].clone();
    assert!(result == "applied" || result == "unchanged", "{result}");
    let (invalid, valid) = (order(&fixture, 1), order(&fixture, -1));
    is_gap(&live.event(), &invalid);
    assert_eq!(live.event()["id"], valid);

    fixture.replace("orders.schema.json", r#"{ "type": "objekt" }"#);
    let answer = reload(&fixture);
    assert_eq!(answer["result"], "invalid", "{answer}");
    assert!(answer.to_string().contains("line 1, column 11: `/type`"), "{answer}");
    let invalid = order(&fixture, 2);
    is_gap(&live.event(), &invalid);
}

fn reload(fixture: &Fixture) -> Value {
    Call::of_admin(fixture.sidecar.admin, "POST", "/-/reload").send().json()
}

#[test]
fn a_record_that_does_not_conform_may_pass() {
    let fixture = fixture("pass");
    let mut live = fixture.get("/stream").ndjson();
    let invalid = order(&fixture, -1);
    assert_eq!(live.event()["id"], invalid);
    fixture.sidecar.await_metric("notifications_kafka_invalid_total{topic=\"orders\"}", 1.0);
    fixture.sidecar.await_log("sending it");
}
