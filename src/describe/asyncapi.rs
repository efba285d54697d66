//! AsyncAPI 3.1: the messages of streams, and the commands of WebSocket clients.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::records::{CONTROLS, event_name, reference, schemas};
use super::{info, parameters, schemes, security_schemes, transports};
use crate::config::snapshot::Snapshot;
use crate::route::StreamRoute;

/// The version of the WebSocket binding.
const BINDING: &str = "0.1.0";

pub(super) fn document(snapshot: &Snapshot) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let mut names = HashSet::new();
    for route in snapshot.routes.routes() {
        let name = name(&route.pattern, &mut names);
        let takes_commands = transports(route).iter().any(|(transport, _)| transport.takes_commands());
        channels.insert(name.clone(), channel(route, takes_commands));
        operations.insert(format!("send-{name}"), operation("send", &name, &sent(), route, snapshot));
        if takes_commands {
            operations.insert(format!("receive-{name}"), operation("receive", &name, &["command"], route, snapshot));
        }
    }
    let mut schemas = schemas(snapshot);
    schemas.insert("command".into(), command());
    json!({
        "asyncapi": "3.1.0",
        "info": info(),
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "schemas": schemas, "securitySchemes": security_schemes(snapshot, "httpApiKey") }
    })
}

/// A distinct name of a channel: a key of the document cannot contain slashes and braces.
fn name(pattern: &str, taken: &mut HashSet<String>) -> String {
    let path = pattern.trim_matches('/').replace('/', ".").replace(['{', '}'], "");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let plain: String = path.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let numbered = (2..).map(|number| format!("{plain}-{number}"));
    let name = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(plain);
    taken.insert(name.clone());
    name
}

/// The names of the messages that a client receives.
fn sent() -> [&'static str; 3] {
    let [gap, heartbeat] = CONTROLS;
    ["event", gap, heartbeat]
}

fn channel(route: &StreamRoute, takes_commands: bool) -> Value {
    let message = |schema: &str| json!({ "payload": reference(schema) });
    let mut messages = Map::from_iter([("event".to_owned(), message(&event_name(route)))]);
    messages.extend(CONTROLS.map(|name| (name.to_owned(), message(name))));
    let parameters: Map<_, _> = parameters(route).into_iter().map(|name| (name, json!({}))).collect();
    let mut channel = json!({ "address": &*route.pattern, "messages": messages, "parameters": parameters });
    if takes_commands {
        channel["messages"]["command"] = message("command");
        channel["bindings"] = json!({ "ws": { "method": "GET", "bindingVersion": BINDING } });
    }
    channel
}

fn operation(action: &str, channel: &str, messages: &[&str], route: &StreamRoute, snapshot: &Snapshot) -> Value {
    let to = |path: String| json!({ "$ref": path });
    let messages: Vec<_> = messages.iter().map(|name| to(format!("#/channels/{channel}/messages/{name}"))).collect();
    let mut operation =
        json!({ "action": action, "channel": to(format!("#/channels/{channel}")), "messages": messages });
    let schemes = schemes(route, snapshot);
    if !schemes.is_empty() {
        let schemes: Vec<_> = schemes.iter().map(|name| to(format!("#/components/securitySchemes/{name}"))).collect();
        operation["security"] = json!(schemes);
    }
    operation
}

/// A command of a WebSocket client.
fn command() -> Value {
    json!({
        "type": "object",
        "required": ["id", "type", "data"],
        "properties": {
            "id": { "type": "string" },
            "type": { "const": "command" },
            "data": {
                "type": "object",
                "required": ["command"],
                "properties": { "command": { "type": "string" } }
            }
        }
    })
}
