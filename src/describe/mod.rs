//! Descriptions of the stream routes of a configuration, for tools: OpenAPI for requests, AsyncAPI for messages.
//!
//! They name paths, parameters, keys and forms, but neither claims nor rules. The data of events is any JSON.

mod asyncapi;
mod openapi;
mod records;

use serde_json::{Map, Value, json};

use crate::config::snapshot::Snapshot;
use crate::route::{Admission, Pattern, StreamRoute, Transport};

/// The path of the OpenAPI document.
pub const OPENAPI: &str = "/.well-known/sidestream/openapi.json";
/// The path of the AsyncAPI document.
pub const ASYNCAPI: &str = "/.well-known/sidestream/asyncapi.json";

/// The document at a path, if there is one.
pub fn document(path: &str, snapshot: &Snapshot) -> Option<Value> {
    match path {
        OPENAPI => Some(openapi::document(snapshot)),
        ASYNCAPI => Some(asyncapi::document(snapshot)),
        _ => None,
    }
}

/// What both documents say of themselves.
fn info() -> Value {
    json!({ "title": "Streams of sidestream", "version": env!("CARGO_PKG_VERSION") })
}

/// The names of the parameters in a route's path.
fn parameters(route: &StreamRoute) -> Vec<String> {
    let pattern = Pattern::parse(&route.pattern).ok();
    pattern.iter().flat_map(Pattern::parameters).map(str::to_owned).collect()
}

/// The transports of a route, each with the media type that selects it; WebSocket has none.
fn transports(route: &StreamRoute) -> Vec<(Transport, Option<&'static str>)> {
    let of = |transport: Transport| {
        let of_row = || transport.row().media_types().first().copied();
        (transport, transport.media_type().or_else(of_row))
    };
    Transport::by_preference().filter(|transport| route.offer.has(*transport)).map(of).collect()
}

/// The names of the security schemes that a route accepts, any of which suffices.
fn schemes(route: &StreamRoute, snapshot: &Snapshot) -> Vec<&'static str> {
    let fields = snapshot.verifier.as_deref().map(|verifier| verifier.fields()).filter(|_| needs_token(route));
    let Some(fields) = fields else { return Vec::new() };
    let cookie = fields.cookie.map(|_| "cookie");
    let api_key = fields.api_key.map(|_| "apiKey");
    [Some("bearer"), cookie, api_key].into_iter().flatten().collect()
}

fn needs_token(route: &StreamRoute) -> bool {
    route.admission == Admission::Token
}

/// The security schemes of the configuration. `kind` is the type of a scheme that is one field of the request.
fn security_schemes(snapshot: &Snapshot, kind: &str) -> Value {
    let mut schemes = Map::new();
    let Some(fields) = snapshot.verifier.as_deref().map(|verifier| verifier.fields()) else { return json!({}) };
    schemes.insert("bearer".into(), json!({ "type": "http", "scheme": "bearer" }));
    if let Some(name) = fields.cookie {
        schemes.insert("cookie".into(), json!({ "type": kind, "in": "cookie", "name": name }));
    }
    if let Some(name) = fields.api_key {
        schemes.insert("apiKey".into(), json!({ "type": kind, "in": "header", "name": name.as_str() }));
    }
    Value::Object(schemes)
}
