//! The admission policies: the definition as a JSON Patch in CEL, and a validating policy that rejects selected pods
//! without a sidecar.

use serde_json::{Value, json};

use super::sidecar::{self, Sidecar};
use super::tree::{Entry, Id, Kind};
use super::{CONFIG_MAP, Error, LABEL, Names, SECRET};

const TEMPLATE: &str = include_str!("policy.yaml");
/// Placeholder names for values that the policy computes at admission.
const VARIABLES: [(&str, &str); 3] =
    [("IMAGE", "params.data.image"), ("CONFIG_MAP", "variables.configMap"), ("SECRET", "variables.secret")];

/// All objects for `kubectl apply`: parameters, both policies, and their bindings.
///
/// # Errors
///
/// A name contains an invalid character.
pub fn policy(names: &Names) -> Result<String, Error> {
    let unfilled = Names { image: "IMAGE".into(), config_map: "CONFIG_MAP".into(), secret: "SECRET".into() };
    let sidecar = Sidecar::new(&unfilled)?;
    let patches = patches(&sidecar);
    let patches: String = patches.lines().map(|line| format!("          {line}\n")).collect();
    Ok(TEMPLATE
        .replace("          $PATCHES\n", &patches)
        .replace("$LABEL", LABEL)
        .replace("$NAME", sidecar::NAME)
        .replace("$CONFIG_MAP_ANNOTATION", CONFIG_MAP)
        .replace("$SECRET_ANNOTATION", SECRET)
        .replace("$IMAGE", &names.image)
        .replace("$CONFIG_MAP", &names.config_map)
        .replace("$SECRET", &names.secret))
}

/// A CEL sum of patch lists, each with a condition.
fn patches(sidecar: &Sidecar) -> String {
    let mut sum = Vec::new();
    for list in ["initContainers", "volumes"] {
        let is_there = format!("has(object.spec.{list})");
        sum.push(format!("({is_there} ? [] : {})", one(&format!("/spec/{list}"), "[]")));
        // Each patch inserts at the front, so they are in reverse order.
        let items: Vec<Id> = sidecar.list(list).collect();
        let path = format!("/spec/{list}/0");
        sum.extend(items.iter().rev().map(|item| one(&path, &cel(sidecar, *item, &format!("Object.spec.{list}"), 0))));
    }
    let grace = sidecar.grace();
    let grace_is = "object.spec.?terminationGracePeriodSeconds.orValue(0)";
    let patch = one("/spec/terminationGracePeriodSeconds", &grace.to_string());
    sum.push(format!("({grace_is} >= {grace} ? [] : {patch})"));
    sum.push(format!("(has(object.metadata.annotations) ? [] : {})", one("/metadata/annotations", "{}")));
    let scraped = "object.metadata.?annotations[?\"prometheus.io/scrape\"].hasValue()";
    let annotations: Vec<String> = sidecar.annotations().map(|(key, value)| annotation(key, value)).collect();
    sum.push(format!("({scraped} ? [] : [\n  {}\n])", annotations.join(",\n  ")));
    sum.join(" +\n")
}

fn annotation(key: &str, value: &str) -> String {
    let path = format!("/metadata/annotations/{}", key.replace('~', "~0").replace('/', "~1"));
    format!("JSONPatch{{op: \"add\", path: {}, value: {}}}", json!(path), json!(value))
}

fn one(path: &str, value: &str) -> String {
    format!("[JSONPatch{{op: \"add\", path: {}, value: {value}}}]", json!(path))
}

/// A node of the definition in CEL. Kubernetes' CEL has no maps of mixed types: it uses objects, whose type name is the
/// path to the field.
fn cel(sidecar: &Sidecar, id: Id, type_name: &str, depth: usize) -> String {
    let tree = &sidecar.tree;
    let (indent, inner) = ("  ".repeat(depth), "  ".repeat(depth + 1));
    match &tree.node(id).kind {
        Kind::Map { entries, .. } => {
            let field = |Entry { key, value }: &Entry| {
                let key = tree.text(*key).unwrap_or_default();
                format!("{inner}{key}: {}", cel(sidecar, *value, &format!("{type_name}.{key}"), depth + 1))
            };
            let fields: Vec<String> = entries.iter().map(field).collect();
            format!("{type_name}{{\n{}\n{indent}}}", fields.join(",\n"))
        }
        Kind::Seq { items, .. } => {
            let items: Vec<String> = items.iter().map(|item| cel(sidecar, *item, type_name, depth)).collect();
            format!("[{}]", items.join(", "))
        }
        _ => scalar(&sidecar::json(tree, id)),
    }
}

fn scalar(value: &Value) -> String {
    let variable = VARIABLES.iter().find(|(name, _)| value == name);
    variable.map_or_else(|| value.to_string(), |(_, variable)| (*variable).into())
}
