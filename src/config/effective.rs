//! A configuration with all defaults of the schema filled in.
//!
//! The schema follows from the descriptions in `keys/`. It validates nothing here, which is the compiler's task.

use std::path::Path;

use serde_json::{Map, Number, Value as Json, json};

use super::diagnostic::Diagnostics;
use super::file::{Node, Value};
use super::schema::{PARSED, resolve};
use super::snapshot::{Snapshot, TopicConfig};
use super::variables::Variable;
use super::{LoadError, ReadOptions, parse_with, read_text, tree};
use crate::decode::mapping::{Mapping, Origins};

/// Replaces a value that may be a secret.
const REDACTED: &str = "(redacted)";

/// The configuration of a file with all defaults filled in. Values of `properties` are redacted, and files with secrets
/// are named but not read.
///
/// # Errors
///
/// The file cannot be read, or is invalid.
pub fn effective(path: &Path, options: &ReadOptions) -> Result<Json, LoadError> {
    let origin = path.display().to_string();
    let text = read_text(path)?;
    let snapshot = parse_with(&text, &origin, path.parent().unwrap_or_else(|| Path::new("")), options)?;
    let tree = tree(&text, &Diagnostics::new(&origin));
    let mut filled = fill(&PARSED, tree.as_ref());
    fill_from(&snapshot, &mut filled);
    Ok(filled)
}

/// Fills in defaults that depend on other values or on the machine.
fn fill_from(snapshot: &Snapshot, filled: &mut Json) {
    filled["writers"] = json!(snapshot.writers);
    filled["limits"]["streams"] = json!(snapshot.limits.max_streams);
    if let Some(bytes) = snapshot.limits.memory {
        filled["limits"]["memory"] = json!(bytes);
    }
    for cluster in snapshot.sources() {
        for TopicConfig { name, source, shape, .. } in &cluster.topics {
            let topic = &mut filled["topics"][&**name];
            if topic.is_null() {
                *topic = fill(&PARSED["properties"]["topics"]["additionalProperties"], None);
            }
            if topic["topic"] != REDACTED {
                topic["topic"] = json!(escaped(source));
            }
            if let Some(mapping) = shape.mapping.as_deref().filter(|_| topic["shape"].is_string()) {
                topic["map"] = written(mapping);
            }
        }
    }
}

/// A mapping as `map` has it.
fn written(mapping: &Mapping) -> Json {
    let origins = |origins: &Origins| match &*origins.0 {
        [only] => json!(only.to_string()),
        several => several.iter().map(ToString::to_string).collect(),
    };
    let mut map = json!({
        "type": origins(&mapping.kind),
        "types": mapping.types.iter().map(|(found, kind)| (found.to_string(), json!(kind))).collect::<Map<_, _>>(),
        "drop": mapping.drop,
        "ts": origins(&mapping.ts),
        "keys": mapping.keys.iter().map(|(name, of)| (name.to_string(), origins(of))).collect::<Map<_, _>>(),
    });
    if let Some(data) = &mapping.data {
        map["data"] = origins(data);
    }
    map
}

/// The written values of this schema, with defaults.
fn fill(schema: &Json, node: Option<&Node>) -> Json {
    let schema = resolve(schema);
    let has_secret = node.is_some_and(|node| node.variables.iter().any(Variable::mentions_secret));
    match node.map(|node| &node.value) {
        None | Some(Value::Nothing) => unwritten(schema),
        Some(Value::Map(entries)) => {
            let written = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node);
            let mut object = declared(schema, written);
            for (name, node) in entries.iter().filter(|(name, _)| schema["properties"].get(&name.text).is_none()) {
                object.insert(name.text.clone(), fill(&schema["additionalProperties"], Some(node)));
            }
            Json::Object(object)
        }
        Some(Value::List(list)) => list.iter().map(|node| fill(&schema["items"], Some(node))).collect(),
        Some(_) if schema["writeOnly"] == true || has_secret => json!(REDACTED),
        Some(Value::Flag(flag)) => json!(flag),
        Some(Value::Integer(number)) => i64::try_from(*number).map_or(Json::Null, Json::from),
        Some(Value::Fraction(number)) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Some(Value::Text(text)) => json!(escaped(text)),
    }
}

/// A text as a configuration contains it: the output may be used as one.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

/// The defaults of a section that is not present.
fn unwritten(schema: &Json) -> Json {
    if schema["properties"].is_object() {
        return Json::Object(declared(schema, |_| None));
    }
    schema["default"].clone()
}

/// The keys that a schema declares, with their written values or defaults; without keys that have neither.
fn declared<'a>(schema: &Json, written: impl Fn(&str) -> Option<&'a Node>) -> Map<String, Json> {
    let mut object = Map::new();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let node = written(name).filter(|node| !matches!(node.value, Value::Nothing));
        let default = inner.get("default").or_else(|| resolve(inner).get("default"));
        match (node, default) {
            (None, None) => {}
            (None, Some(default)) if !resolve(inner)["properties"].is_object() => {
                object.insert(name.clone(), default.clone());
            }
            (node, _) => {
                object.insert(name.clone(), fill(inner, node));
            }
        }
    }
    object
}

#[cfg(test)]
#[path = "effective_tests.rs"]
mod tests;
