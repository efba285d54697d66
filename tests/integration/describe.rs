//! Descriptions of the streams, validated by implementations of their specifications.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::fixture::{Fixture, Plan, STANDARD};

const OPENAPI: &str = "/.well-known/sidestream/openapi.json";
const ASYNCAPI: &str = "/.well-known/sidestream/asyncapi.json";

fn public() -> Fixture {
    Plan::new(STANDARD).with("describe: true").build()
}

fn url(fixture: &Fixture, path: &str) -> String {
    format!("http://{}{path}", fixture.sidecar.listen)
}

#[test]
fn the_openapi_document_is_valid() {
    let fixture = public();
    let validator = Client::start("openapi.py", &[&url(&fixture, OPENAPI)]);
    assert_eq!(validator.line(), json!({ "version": "3.2.0" }));
    let document = fixture.get(OPENAPI).send().json();
    let operation = |path: &str| document["paths"][path]["get"].clone();
    let events = operation("/mine/events");
    let item = &events["responses"]["200"]["content"]["text/event-stream"]["itemSchema"];
    assert_eq!(item["properties"]["data"]["contentMediaType"], "application/json", "{events}");
    let names = |list: &Value| list.as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>();
    assert!(names(&events["security"]).contains(&json!({ "bearer": [] }).to_string()), "{events}");
    assert_eq!(operation("/events")["security"], json!([]));
    assert_eq!(operation("/ws"), Value::Null, "it has no response body");
}

#[test]
fn the_asyncapi_document_is_valid() {
    let fixture = public();
    let parsed = Client::start("asyncapi.cjs", &[&url(&fixture, ASYNCAPI)]).line();
    assert_eq!(parsed["errors"], json!([]));
    let channels = parsed["channels"].as_array().unwrap();
    for path in ["/events", "/ws", "/mine/events"] {
        assert!(channels.contains(&path.into()), "{path}: {channels:?}");
    }
    let document = fixture.get(ASYNCAPI).send().json();
    assert_eq!(
        (&document["operations"]["receive-ws"]["action"], document["operations"].get("receive-events")),
        (&"receive".into(), None)
    );
}

#[test]
fn the_descriptions_are_for_the_same_host_unless_they_are_public() {
    let private = Fixture::standard();
    assert_eq!(private.get(OPENAPI).send().json()["target"], OPENAPI, "the upstream responds");
    let public = public();
    for path in [OPENAPI, ASYNCAPI] {
        let document = private.sidecar.admin(path);
        assert_eq!((document.status(), document.header("content-type")), (200, Some("application/json")));
        assert_eq!(public.get(path).send().json(), document.json());
        let head = public.call("HEAD", path).send();
        assert_eq!((head.status(), head.body.len()), (200, 0));
        assert_eq!(public.call("POST", path).send().json()["method"], "POST", "the upstream responds");
    }
}
