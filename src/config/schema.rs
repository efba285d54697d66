//! The JSON Schema of the configuration, from the descriptions of its keys: for editors, for defaults that are written
//! out, and for which values may be secrets.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use super::keys::ROOT;

pub(super) static PARSED: LazyLock<Json> = LazyLock::new(|| {
    let mut schema = ROOT.schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("sidestream");
    schema["description"] = json!(
        "The configuration of sidestream. `sidestream check` also finds what a schema cannot express: unresolved names, \
         overlapping routes, keys that serve no algorithm."
    );
    schema["$defs"] = definitions();
    schema
});

/// The JSON Schema (draft 2020-12) of a configuration, as text.
pub fn schema() -> String {
    format!("{:#}", *PARSED)
}

/// Types that several keys have.
fn definitions() -> Json {
    json!({
        "address": { "type": "string", "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$" },
        "bindingSource": { "type": "string", "pattern": "^(path|claims)\\..+$" },
        "bindingSources": {
            "oneOf": [
                { "$ref": "#/$defs/bindingSource" },
                { "type": "array", "items": { "$ref": "#/$defs/bindingSource" }, "minItems": 1, "maxItems": 16 },
            ],
        },
        "duration": {
            "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h)$", "examples": ["250ms", "15s", "2m", "1h"],
        },
        "origin": {
            "type": "string", "pattern": "^(value|key|key:/.*|field:.+|header:.+|const:.+|/.*)$",
            "examples": ["/user/id", "field:id", "key", "key:/id", "header:tenant", "const:order-changed"],
        },
        "origins": {
            "anyOf": [
                { "$ref": "#/$defs/origin" },
                { "type": "array", "items": { "$ref": "#/$defs/origin" }, "minItems": 1, "maxItems": 8 },
            ],
        },
        "size": {
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+( *(B|KiB|MiB|GiB|KB|MB|GB))?$" },
            ],
            "examples": ["64KiB", "16MB"],
        },
        "variable": { "type": "string", "pattern": "\\$\\{", "examples": ["${NAME}", "${NAME:-default}"] },
    })
}

/// Resolves a reference into `$defs`.
pub(super) fn resolve(schema: &Json) -> &Json {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &PARSED["$defs"][name])
}
