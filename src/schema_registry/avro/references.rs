//! The named types of a schema's references, each as a schema of its own: apache-avro resolves names of whole schemas
//! only, and a reference may also be used for a type that is defined within it.

use serde_json::Value;

/// The texts of all named types in these schemas, with their full names and without other definitions in them.
///
/// # Errors
///
/// A text is not JSON. serde_json limits its nesting.
pub(super) fn named_types<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for text in texts {
        let mut schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        extract(&mut schema, "", &mut found);
    }
    Ok(found)
}

/// Replaces every definition in this schema by its full name.
fn extract(schema: &mut Value, namespace: &str, found: &mut Vec<String>) {
    if let Value::Array(variants) = schema {
        return variants.iter_mut().for_each(|variant| extract(variant, namespace, found));
    }
    let Some(name) = full_name(schema, namespace) else {
        for member in ["type", "items", "values"] {
            if let Some(inner) = schema.get_mut(member) {
                extract(inner, namespace, found);
            }
        }
        return;
    };
    let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
    for field in schema.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(kind) = field.get_mut("type") {
            extract(kind, &inner, found);
        }
    }
    // A name without a namespace means another type within a namespace.
    if inner.is_empty() && !namespace.is_empty() {
        return;
    }
    schema["name"] = name.as_str().into();
    if let Some(members) = schema.as_object_mut() {
        members.remove("namespace");
    }
    found.push(schema.to_string());
    *schema = name.into();
}

/// The full name of a definition.
fn full_name(schema: &Value, enclosing: &str) -> Option<String> {
    schema.get("type").and_then(Value::as_str).filter(|kind| matches!(*kind, "record" | "error" | "enum" | "fixed"))?;
    let name = schema.get("name")?.as_str()?;
    let namespace = schema.get("namespace").and_then(Value::as_str).unwrap_or(enclosing);
    let is_full = namespace.is_empty() || name.contains('.');
    Some(if is_full { name.to_owned() } else { format!("{namespace}.{name}") })
}
