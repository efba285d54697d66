//! The requests of an order API, as its documentation shows them, against the demo.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::sidecar::Sidecar;

struct Api {
    sidecar: Sidecar,
    _directory: tempfile::TempDir,
}

impl Api {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let api =
            Self { sidecar: Sidecar::start(&["demo"], &directory.path().join("demo.log")), _directory: directory };
        // The orders of the demo change all the time.
        eventually("the current orders", || {
            let answer = api.get("/v1/orders", "application/json");
            (answer.status() == 200 && answer.json()["data"].as_array().unwrap().len() == 3).then_some(())
        });
        api
    }

    fn get(&self, target: &str, accept: &str) -> crate::support::http::Answer {
        self.sidecar.call("GET", target).header("Accept", accept).send()
    }
}

/// Whether an object has exactly these members.
#[track_caller]
fn assert_members(object: &Value, names: &[&str]) {
    let found: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, names, "{object}");
}

#[test]
fn a_collection_is_an_array_with_pagination_and_an_element_is_an_object() {
    let api = Api::start();
    for target in ["/v1/orders?page=0&size=20", "/orders?page=0&size=20"] {
        let answer = api.get(target, "application/json");
        assert_eq!((answer.status(), answer.header("Content-Type")), (200, Some("application/json")), "{target}");
        let page = answer.json();
        assert_members(&page["data"][0], &["id", "status", "total"]);
        assert_eq!(page["meta"]["pagination"], json!({ "page": 0, "size": 20, "totalElements": 3 }), "{target}");
    }
    for target in ["/v1/orders/order-123", "/orders/order-123"] {
        let order = api.get(target, "application/json").json();
        assert_members(&order, &["id", "status", "total"]);
        assert_eq!((&order["id"], &order["total"]), (&json!("order-123"), &json!(99.99)));
        api.get("/v1/orders/unknown", "application/json").problem(404);
    }
}

#[test]
fn an_order_is_created_changed_and_deleted_in_the_service_and_in_the_collection() {
    let api = Api::start();
    let order = r#"{"customerId":"cust-123","items":[]}"#;
    let accepted = api.sidecar.call("POST", "/v1/orders").header("Content-Type", "application/json").body(order).send();
    assert_eq!(accepted.status(), 202);
    let operation = accepted.header("Location").unwrap().to_owned();
    assert_eq!(accepted.json()["status"], "PROCESSING");
    assert_eq!(operation, format!("/operations/{}", accepted.json()["operationId"].as_str().unwrap()));
    let id = eventually("the operation completes", || {
        let state = api.get(&operation, "application/json").json();
        (state["status"] == "COMPLETED").then(|| state["result"]["orderId"].as_str().unwrap().to_owned())
    });
    let path = format!("/v1/orders/{id}");
    let document = || api.get(&path, "application/json");
    eventually("the order is in the collection", || (document().status() == 200).then_some(()));
    let changed = api.sidecar.call("PUT", &path).body(r#"{"total":12.5}"#).send();
    assert_eq!((changed.status(), &changed.json()["total"]), (200, &json!(12.5)));
    eventually("the change", || (document().json()["total"] == 12.5).then_some(()));
    let deleted = api.sidecar.call("DELETE", &path).send();
    assert_eq!((deleted.status(), deleted.body.len()), (204, 0));
    eventually("the deletion", || (document().status() == 404).then_some(()));
    assert_eq!(api.sidecar.call("DELETE", &path).send().status(), 404);
}

#[test]
fn a_collection_is_a_stream_of_its_elements() {
    let api = Api::start();
    let call = api.sidecar.call("GET", "/v1/orders/stream?from=state").header("Accept", "application/x-ndjson");
    let (head, _) = call.open();
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("application/x-ndjson")));
    assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
    let mut stream = call.ndjson();
    let lines: Vec<Value> = (0..6).map(|_| stream.event()).collect();
    assert_eq!((&lines[0]["phase"], &lines[4]["phase"]), (&json!("begin"), &json!("end")), "{lines:?}");
    [1, 2, 3, 5].iter().for_each(|n| assert_members(&lines[*n], &["id", "status", "total"]));
    let batched = api.sidecar.call("GET", "/v1/orders/stream?batchSize=10").header("Accept", "application/x-ndjson");
    assert_eq!(batched.open().0.header("X-Batch-Size"), Some("10"));
}

#[test]
fn events_have_names_and_bare_data() {
    let api = Api::start();
    for target in ["/v1/orders/order-123/events", "/v1/events/order-updates"] {
        let call = api.sidecar.call("GET", target).header("Accept", "text/event-stream");
        let (head, _) = call.open();
        assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")), "{target}");
        let event = call.sse().event();
        assert!(event.event.as_deref().is_some_and(|name| name.starts_with("order-")), "{event:?}");
        assert!(event.id.is_some(), "{event:?}");
        assert_members(&event.json(), &["orderId", "status", "total"]);
    }
}

#[test]
fn a_websocket_returns_the_status_and_sends_updates() {
    let api = Api::start();
    let mut socket = api.sidecar.call("GET", "/v1/orders/order-123/ws").websocket();
    let update = socket.event();
    assert_eq!((&update["type"], &update["data"]["orderId"]), (&json!("event"), &json!("order-123")));
    let answer = socket.ask(json!({ "command": "get-status" }));
    assert_eq!((&answer["type"], &answer["data"]["status"]), (&json!("response"), &json!("ok")), "{answer}");
}
