//! Adds annotations to the metadata of objects and pod templates.

use serde_json::json;

use super::edit::{Edits, Insertion};
use super::tree::{Entry, Tree};
use super::{Error, quoted};

/// Adds annotations to the `metadata` of an object or pod template.
pub(super) fn annotate(
    tree: &Tree,
    metadata: Entry,
    annotations: &[(String, String)],
    edits: &mut Edits<'_>,
) -> Result<(), Error> {
    match tree.own(metadata.value, "annotations")? {
        Some(entry) if tree.is_null(entry.value) => {
            edits.fill(entry, &format!("{{{}}}", pairs(annotations).flow));
            Ok(())
        }
        Some(entry) => edits.insert_under(entry, &pairs(annotations)),
        None => edits.insert_under(metadata, &under("annotations", &pairs(annotations))),
    }
}

/// Annotations as entries of a map.
pub(super) fn pairs(annotations: &[(String, String)]) -> Insertion {
    let block = annotations.iter().map(|(key, value)| format!("{key}: {}\n", quoted(value))).collect();
    let flow: Vec<_> = annotations.iter().map(|(key, value)| format!("{}: {}", json!(key), json!(value))).collect();
    Insertion { block, flow: flow.join(", ") }
}

/// A map nested under a key.
pub(super) fn under(key: &str, inner: &Insertion) -> Insertion {
    let lines: String = inner.block.lines().map(|line| format!("  {line}\n")).collect();
    Insertion { block: format!("{key}:\n{lines}"), flow: format!("\"{key}\": {{{}}}", inner.flow) }
}
