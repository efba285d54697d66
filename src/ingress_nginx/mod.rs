//! Imports the settings of ingress-nginx: reads Ingresses and the controller's ConfigMap, and writes a configuration
//! and a report.
//!
//! Text in, text out: it contacts no cluster. An Ingress does not name topics or say which paths are streams, so the
//! configuration contains marked placeholders and guesses. Every setting has a line in the report: mapped, not needed,
//! left to the gateway, or unknown.

mod annotations;
mod class;
mod configmap;
mod cors;
mod directives;
mod draft;
mod foreign;
mod login;
mod manifest;
mod outcome;
mod path;
mod reader;
mod report;
mod rules;
mod setting;
mod snippet;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
mod written;

use crate::config::{Place, read_documents};
use class::{Classes, Owner};
use draft::Draft;
use manifest::{Malformed, Object};
use reader::Reader;
pub use report::{Class, Report};

/// The largest input, in bytes: some thousand Ingresses.
pub const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most values in it, including those that aliases repeat.
const VALUES_MAX: usize = 1_000_000;

/// The result of an import.
#[derive(Debug)]
pub struct Import {
    /// YAML that `check` accepts.
    pub configuration: String,
    pub report: Report,
}

/// Why an input is not YAML, or contains no Kubernetes objects.
#[derive(Debug, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct BadInput {
    /// 1-based.
    pub line: u64,
    /// 1-based, in characters.
    pub column: u64,
    pub message: String,
}

/// Imports any number of documents, including Lists. Kinds other than Ingress, IngressClass and ConfigMap are counted
/// and skipped.
///
/// # Errors
///
/// The input is not YAML, or not a sequence of Kubernetes objects.
pub fn import(text: &str) -> Result<Import, BadInput> {
    let documents = read_documents(text, VALUES_MAX).map_err(bad)?;
    let objects = manifest::objects(&documents).map_err(bad)?;
    let lines: Vec<&str> = text.lines().collect();
    let mut reader = Reader { lines: &lines, draft: Draft::default(), report: Report::default() };
    let classes = Classes::of(&objects);
    // ConfigMaps come first: Ingresses override them, and may depend on them.
    for object in objects.iter().filter(|object| object.kind == "ConfigMap") {
        reader.config_map(object);
    }
    for object in &objects {
        match object.kind {
            "Ingress" if is_ingress_api(object.api) => read_ingress(object, &classes, &mut reader),
            "ConfigMap" | "IngressClass" => {}
            kind => reader.report.skip(kind),
        }
    }
    let Reader { mut draft, mut report, .. } = reader;
    warn_of_services(&draft, &mut report);
    let settled = draft.settle(&mut report);
    Ok(Import { configuration: written::write(&draft, &settled), report })
}

fn bad((Place { line, column }, message): Malformed) -> BadInput {
    BadInput { line, column, message }
}

/// Other APIs have kinds of this name, too.
fn is_ingress_api(api: &str) -> bool {
    api.starts_with("networking.k8s.io/") || api.starts_with("extensions/")
}

fn read_ingress(ingress: &Object<'_>, classes: &Classes, reader: &mut Reader<'_>) {
    match classes.owner(ingress) {
        Owner::IngressNginx => {}
        Owner::Perhaps(subject, text) => reader.report.warn(&subject, text),
        Owner::Foreign(subject, text) => return reader.report.warn(&subject, text),
    }
    let facts = reader.annotations(ingress);
    rules::read(ingress, &facts, &mut reader.draft, &mut reader.report);
}

/// A sidestream process has one upstream.
fn warn_of_services(draft: &Draft, report: &mut Report) {
    let (Some(route), 2..) = (draft.routes.first(), draft.services.len()) else {
        return;
    };
    let services: Vec<_> = draft.services.iter().map(String::as_str).collect();
    let text = format!(
        "the Ingresses lead to {} services ({}), and sidestream serves one: leave each its routes, or import \
         the Ingresses of one at a time",
        services.len(),
        services.join("; ")
    );
    report.warn(&route.subject, text);
}
