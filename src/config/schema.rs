//! The JSON Schema of the configuration, parsed: keys, defaults, and which values may be secrets.

use std::sync::LazyLock;

use serde_json::Value as Json;

/// The JSON Schema (draft 2020-12) of a configuration.
pub const SCHEMA: &str = include_str!("../../conf/sidestream.schema.json");

pub(super) static PARSED: LazyLock<Json> = LazyLock::new(|| serde_json::from_str(SCHEMA).unwrap_or_default());

/// Resolves a reference into `$defs`.
pub(super) fn resolve(schema: &Json) -> &Json {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &PARSED["$defs"][name])
}
