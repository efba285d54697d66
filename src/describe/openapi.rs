//! OpenAPI 3.2: the requests that open streams. `itemSchema` describes the records of a response body.

use serde_json::{Map, Value, json};

use super::records::{CONTROLS, event_name, reference, schemas};
use super::{info, parameters, schemes, security_schemes, transports};
use crate::codec::problem;
use crate::codec::transport::ResumeParameter;
use crate::config::snapshot::Snapshot;
use crate::route::{StreamRoute, Transport};

const SSE: &str = "text/event-stream";
/// The media type of a whole document.
const DOCUMENT: &str = "application/json";
/// The statuses of refusals, each with its meaning.
const REFUSALS: [(&str, &str); 6] = [
    ("400", "the request is malformed"),
    ("401", "the token is missing or not accepted"),
    ("403", "the client may not open the stream"),
    ("410", "the requested events are no longer available"),
    ("429", "a limit of the client is reached"),
    ("503", "streams cannot be opened now"),
];

pub(super) fn document(snapshot: &Snapshot) -> Value {
    let paths = snapshot.routes.routes().filter_map(|route| {
        let get = operation(route, snapshot)?;
        Some((route.pattern.to_string(), json!({ "get": get })))
    });
    let mut schemas = schemas(snapshot);
    schemas.insert("problem".into(), json!({ "type": "object", "description": "RFC 9457" }));
    let content = json!({ problem::MEDIA_TYPE: { "schema": reference("problem") } });
    json!({
        "openapi": "3.2.0",
        "info": info(),
        "paths": paths.collect::<Map<_, _>>(),
        "components": {
            "schemas": schemas,
            "responses": { "problem": { "description": "a problem document", "content": content } },
            "securitySchemes": security_schemes(snapshot, "apiKey")
        }
    })
}

/// `None` if the route has no response body: AsyncAPI describes it.
fn operation(route: &StreamRoute, snapshot: &Snapshot) -> Option<Value> {
    let framings: Vec<_> = transports(route).into_iter().filter_map(|(it, media)| Some((it, media?))).collect();
    let content = framings.iter().map(|(_, media_type)| ((*media_type).to_owned(), body(route, media_type)));
    let content: Map<_, _> = content.collect();
    if content.is_empty() {
        return None;
    }
    let security: Vec<_> = schemes(route, snapshot).iter().map(|name| json!({ *name: [] })).collect();
    let refusals = REFUSALS.iter().map(|(status, meaning)| {
        let refusal = json!({ "$ref": "#/components/responses/problem", "description": meaning });
        ((*status).to_owned(), refusal)
    });
    let mut responses: Map<_, _> = refusals.collect();
    responses.insert("200".into(), json!({ "description": "the stream", "content": content }));
    Some(json!({
        "summary": format!("The stream `{}`", route.stream.name),
        "parameters": request_parameters(route, &framings),
        "responses": responses,
        "security": security
    }))
}

fn request_parameters(route: &StreamRoute, framings: &[(Transport, &str)]) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let in_path = |name: &String| json!({ "name": name, "in": "path", "required": true, "schema": text });
    let mut all: Vec<_> = parameters(route).iter().map(in_path).collect();
    let resumes = |by| framings.iter().any(|(transport, _)| transport.row().resume().contains(&by));
    if resumes(ResumeParameter::LastEventId) {
        let description = "the last id that was received: resumes after it";
        all.push(json!({ "name": "Last-Event-ID", "in": "header", "description": description, "schema": text }));
    }
    if resumes(ResumeParameter::Since) {
        let description = "the last cursor that was received, or a time: resumes after it";
        all.push(json!({ "name": "since", "in": "query", "description": description, "schema": text }));
    }
    if framings.len() > 1 {
        let names: Vec<_> = framings.iter().map(|(transport, _)| transport.as_str()).collect();
        let description = "the transport, in place of `Accept`";
        let schema = json!({ "type": "string", "enum": names });
        all.push(json!({ "name": "framing", "in": "query", "description": description, "schema": schema }));
    }
    if route.stream.state.is_some() {
        let description = "`state`: the newest event of each key first";
        let schema = json!({ "type": "string", "enum": ["state"] });
        all.push(json!({ "name": "from", "in": "query", "description": description, "schema": schema }));
    }
    all
}

/// The description of a response body.
fn body(route: &StreamRoute, media_type: &str) -> Value {
    let event = event_name(route);
    let records: Vec<_> = [&*event].into_iter().chain(CONTROLS).map(reference).collect();
    let record = json!({ "anyOf": records });
    match media_type {
        SSE => json!({ "itemSchema": sse(&record) }),
        DOCUMENT if route.stream.state.is_some() => {
            json!({ "schema": { "description": "a page of the state, or one element" } })
        }
        DOCUMENT => json!({ "schema": { "type": "array", "items": record } }),
        _ => json!({ "itemSchema": record }),
    }
}

/// The fields of an event of SSE.
fn sse(record: &Value) -> Value {
    json!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "event": { "type": "string" },
            "retry": { "type": "integer" },
            "data": { "type": "string", "contentMediaType": DOCUMENT, "contentSchema": record }
        }
    })
}
