//! JSON Schemas of what streams send: events, and control records.

use serde_json::{Map, Value, json};

use crate::codec::DataForm;
use crate::config::snapshot::Snapshot;
use crate::route::StreamRoute;

/// The name of the schema of a route's events.
pub(super) fn event_name(route: &StreamRoute) -> String {
    match route.data {
        DataForm::Envelope => format!("event-{}", route.stream.name),
        DataForm::Payload => "data".into(),
    }
}

/// A reference to a schema of [`schemas`].
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The control records, by name.
pub(super) const CONTROLS: [&str; 2] = ["gap", "heartbeat"];

/// The schemas of all records.
pub(super) fn schemas(snapshot: &Snapshot) -> Map<String, Value> {
    let mut schemas = Map::new();
    for route in snapshot.routes.routes() {
        let event = match route.data {
            DataForm::Envelope => envelope(route),
            DataForm::Payload => json!({ "description": "the data of an event" }),
        };
        schemas.insert(event_name(route), event);
    }
    schemas.insert("gap".into(), gap());
    schemas.insert("heartbeat".into(), heartbeat());
    schemas
}

fn envelope(route: &StreamRoute) -> Value {
    let mut properties = Map::new();
    for key in &route.stream.keys {
        properties.insert(key.to_string(), json!({ "type": "string" }));
    }
    let cursor = "the position after this event, if it is not its id";
    for (name, schema) in [
        ("id", json!({ "type": "string", "description": "the position of the event, which resumes the stream" })),
        ("ts", json!({ "type": "integer", "description": "milliseconds since the Unix epoch" })),
        ("type", json!({ "type": "string" })),
        ("cursor", json!({ "type": "string", "description": cursor })),
        ("data", json!({ "description": "any JSON" })),
    ] {
        properties.insert(name.into(), schema);
    }
    json!({ "type": "object", "required": ["id", "ts", "type"], "properties": properties })
}

fn gap() -> Value {
    let range = json!({
        "type": "object",
        "required": ["topic", "partition", "from", "to"],
        "properties": {
            "topic": { "type": "string" },
            "partition": { "type": "integer" },
            "from": { "type": "integer" },
            "to": { "type": ["integer", "null"] }
        }
    });
    json!({
        "type": "object",
        "description": "names events that the client does not receive",
        "required": ["type", "cause", "ranges"],
        "properties": {
            "type": { "const": "gap" },
            "cause": { "type": "string" },
            "ranges": { "type": "array", "items": range },
            "missed": { "type": ["integer", "null"] },
            "refresh": { "type": "string" },
            "cursor": { "type": "string" }
        }
    })
}

fn heartbeat() -> Value {
    json!({
        "type": "object",
        "required": ["type", "ts"],
        "properties": {
            "type": { "const": "heartbeat" },
            "ts": { "type": "integer" },
            "interval": { "type": "integer" },
            "cursor": { "type": "string" }
        }
    })
}
