//! Records of official serializers: Python writes them to Apache Kafka, and a client of SSE receives events. Their schemas
//! are in the registry within Confluent's client, or in Apicurio.

use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::fixture::Plan;
use crate::support::real::shared;
use crate::support::schema_registry::{Apicurio, Stub};

/// More than a double holds.
const LONG: i64 = 9_007_199_254_740_993;

/// A topic, a stream and a route of each kind. `header` topics have their schemas in another registry.
fn plan(prefix: &str, ids: &str, guids: &str) -> String {
    let mut settings = [
        format!(
            "registries: {{ ids: {{ url: '{ids}', wait: 1m }}, guids: {{ url: '{guids}', wait: 1m }} }}\ntopics:\n"
        ),
        "streams:\n".to_owned(),
        "routes:\n".to_owned(),
    ];
    for (kind, format) in [("avro", "avro"), ("protobuf", "protobuf"), ("json", "json-schema")] {
        for (suffix, registry) in [("", "ids"), ("-header", "guids")] {
            let name = format!("{kind}{suffix}");
            let topic = format!("{prefix}-{name}");
            // Keys have a prefix in both forms, and only one registry has their schema.
            let keys = if suffix.is_empty() { "keys: { recordKey: key }" } else { "keys: {}" };
            let key_format = if suffix.is_empty() { "key_format: avro, " } else { "" };
            settings[0] +=
                &format!("  {topic}: {{ format: {format}, {key_format}registry: {registry}, map: {{ {keys} }} }}\n");
            settings[1] += &format!(
                "  {name}: {{ topics: [{topic}], keys: [{}] }}\n",
                if suffix.is_empty() { "recordKey" } else { "" }
            );
            settings[2] += &format!("  - {{ path: /{name}, stream: {name}, public: true, transport: sse }}\n");
        }
    }
    settings.concat()
}

/// What the values of `tests/clients/registry_writer.py` are as JSON.
fn values(kind: &str) -> Vec<Value> {
    match kind {
        "avro" => vec![json!({
            "orderId": LONG, "level": "REGULAR",
            "customer": { "name": "Ada", "address": { "city": "London" }, "level": "NEW" },
            "total": "42.50", "created": "2026-01-02T03:04:05.678Z", "day": "2026-01-02",
            "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "note": null, "counts": { "a": 1 },
        })],
        "protobuf" => vec![
            json!({
                "orderId": LONG.to_string(), "customer": { "name": "Ada" }, "created": "2026-01-02T03:04:05Z",
                "total": { "currencyCode": "EUR", "units": "42", "nanos": 500_000_000 },
                "discount": { "value": "BQ==", "precision": 3, "scale": 1 }, "lines": [{ "sku": "a" }],
            }),
            json!({ "sku": "b" }),
        ],
        _ => vec![json!({ "orderId": LONG })],
    }
}

/// With the schemas of ids in the registry at this URL, or else in that of the writer.
fn read_official_records(prefix: &str, registry: Option<&str>) {
    let (node, stub) = (shared(), Stub::start());
    let stub_url = format!("http://{}", stub.address);
    let kinds = ["avro", "protobuf", "json"].map(|kind| [(kind, kind.to_owned()), (kind, format!("{kind}-header"))]);
    let kinds = kinds.concat();
    let admin = Admin::of(&node.address);
    kinds.iter().for_each(|(_, name)| admin.create_topic(&format!("{prefix}-{name}"), 1, &[]));
    let plan = Plan::new(plan(prefix, registry.unwrap_or(&stub_url), &stub_url));
    let fixture = plan.broker(Broker::at(&node.address)).build();
    let mut streams: Vec<_> = kinds.iter().map(|(_, name)| fixture.get(&format!("/{name}")).sse()).collect();
    let writer = Client::start("registry_writer.py", &[&node.address, registry.unwrap_or("mock://writer"), prefix]);
    for (path, answer) in writer.line().as_object().unwrap() {
        stub.put(path, answer.clone());
    }
    for ((kind, name), stream) in kinds.iter().zip(&mut streams) {
        for value in values(kind) {
            let event = stream.event().json();
            assert_eq!(event["data"], value, "{name}");
            if name == kind {
                assert_eq!(event["recordKey"], LONG.to_string(), "{name}");
            }
        }
    }
}

#[test]
fn events_have_what_official_serializers_wrote() {
    read_official_records("official", None);
}

#[test]
#[ignore = "a download of 140 MB: make registry"]
fn schemas_of_apicurio_describe_what_official_serializers_wrote() {
    read_official_records("apicurio", Some(&Apicurio::start().url()));
}
