//! Injects the sidecar into Kubernetes manifests, and prints manifests that make Kubernetes, kustomize or Helm inject
//! it: text in, text out.
//!
//! Unchanged parts of a manifest stay the same byte for byte, comments included, because edits are spliced into the
//! text at positions from the parser. This module reads no files and contacts no cluster.
//!
//! A workload gets a sidecar if it or its pod template has the label [`LABEL`] with the value `"true"`. `sidecar.yaml`
//! defines what is injected.

mod annotation;
mod component;
mod configuration;
mod edit;
mod helm;
mod injection;
mod object;
mod policy;
mod service;
mod sidecar;
#[cfg(test)]
mod tests;
mod tree;
mod workload;

use std::fmt;

pub use component::component;
pub use helm::helm;
pub use policy::policy;

use configuration::Configuration;
use edit::Edits;
use object::{Object, why_unchanged};
use sidecar::Sidecar;
use tree::{Id, Tree};
use workload::{Pods, Template};

/// The label that selects pods and namespaces for injection.
pub const LABEL: &str = "sidestream.io/inject";
/// An annotation of pods: the port of the application.
pub const UPSTREAM_PORT: &str = "sidestream.io/upstream-port";
/// An annotation of pods: the ConfigMap with the key `sidestream.yaml`.
pub const CONFIG_MAP: &str = "sidestream.io/config-map";
/// An annotation of pods: the Secret with keys and passwords.
pub const SECRET: &str = "sidestream.io/secret";
/// The annotation in which an injection records what it changed, for `uninject`.
const MEMORY: &str = "sidestream.io/injected";

/// The largest input, in bytes.
pub const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest name of an image or object, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// The names that parameterize the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub image: String,
    pub config_map: String,
    pub secret: String,
}

impl Default for Names {
    fn default() -> Self {
        let image = concat!("sidestream:", env!("CARGO_PKG_VERSION")).into();
        Self { image, config_map: "sidestream".into(), secret: "sidestream".into() }
    }
}

impl Names {
    /// The names appear in YAML and CEL between double quotes, so they must not contain a character that ends a string.
    fn check(&self) -> Result<(), String> {
        [&self.image, &self.config_map, &self.secret].into_iter().try_for_each(|written| name(written).map(drop))
    }
}

/// Validates the characters of an image or object name.
///
/// # Errors
///
/// The name is empty, too long, or contains another character.
pub fn name(written: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-._/:@".contains(c);
    match written {
        "" => Err("a name can't be empty".into()),
        _ if written.len() > NAME_BYTES_MAX => Err(format!("a name can't be longer than {NAME_BYTES_MAX} bytes")),
        _ if !written.chars().all(is_good) => Err(format!("`{written}` is not a valid name of an image or object")),
        _ => Ok(written.into()),
    }
}

/// The options of an injection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Defaults; annotations of the pods take precedence.
    pub names: Names,
    /// The application's port, for workloads whose pods do not state it.
    pub upstream_port: Option<u16>,
}

/// The edited text, and a line for each change.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    pub text: String,
    pub said: Vec<String>,
}

impl Changed {
    /// A text without messages.
    pub fn printed(text: String) -> Self {
        Self { text, said: Vec::new() }
    }
}

/// Why nothing was changed: the first invalid place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Injects the sidecar into every selected workload that has none, and redirects the Services that select its pods to
/// the sidecar. The input is YAML or JSON with any number of documents and lists. Other objects stay unchanged.
///
/// # Errors
///
/// The input is not valid YAML, or a selected object cannot be changed.
pub fn inject(text: &str, options: &Options) -> Result<Changed, Error> {
    let tree = Tree::parse(text)?;
    let objects = Object::all(&tree);
    let mut edits = Edits::new(text, &tree);
    let mut said = report_foreign(&tree);
    let (mut workloads, mut bare) = (Vec::new(), Vec::new());
    for object in objects.iter().filter(|object| !object.is_service()) {
        let Some(template) = Template::of(&tree, object)? else {
            said.push(format!("{}: unchanged: {}", object.title(), why_unchanged(&tree, object)));
            bare.extend(Pods::of(&tree, object));
            continue;
        };
        workloads.push(template.workload(options.upstream_port)?);
        let configuration = Configuration::of(&tree, &objects, &template.config_map(&options.names), &object.namespace);
        if template.has_sidecar() {
            said.push(format!("{}: has the sidecar already", object.title()));
            said.extend(template.warn_of_haste(&configuration));
        } else {
            said.push(format!("{}: injected", object.title()));
            said.extend(template.inject(options, &configuration, &mut edits)?);
        }
        said.extend(template.warn_of_abrupt_end());
        said.extend(configuration.missing_key());
    }
    let port = Sidecar::new(&options.names)?.ports().next().unwrap_or_default();
    for object in objects.iter().filter(|object| object.is_service()) {
        said.extend(service::rewire(&tree, object, &workloads, &bare, port, &mut edits)?);
    }
    Ok(Changed { text: edits.apply(), said })
}

/// Reverts [`inject`]. A sidecar from another source is removed, and nothing is restored.
///
/// # Errors
///
/// The input is not valid YAML, or an object cannot be changed.
pub fn uninject(text: &str) -> Result<Changed, Error> {
    let tree = Tree::parse(text)?;
    let mut edits = Edits::new(text, &tree);
    let mut said = report_foreign(&tree);
    for object in &Object::all(&tree) {
        if object.is_service() {
            said.extend(service::restore(&tree, object, &mut edits)?);
            continue;
        }
        match Template::of(&tree, object)? {
            Some(template) if template.has_sidecar() => {
                template.restore(&mut edits)?;
                said.push(format!("{}: the sidecar was taken out", object.title()));
            }
            Some(template) => said.push(format!("{}: unchanged: {}", object.title(), template.why_bare())),
            None => said.push(format!("{}: unchanged: {}", object.title(), why_unchanged(&tree, object))),
        }
    }
    Ok(Changed { text: edits.apply(), said })
}

/// Reports documents that are not Kubernetes objects.
fn report_foreign(tree: &Tree) -> Vec<String> {
    let is_object = |root: Id| ["kind", "apiVersion"].iter().all(|key| tree.text_at(root, &[key]).is_some());
    let others = tree.roots.iter().copied().filter(|root| !is_object(*root) && !tree.is_null(*root));
    others
        .map(|root| {
            format!(
                "line {}: unchanged: no object of Kubernetes, without `kind` and `apiVersion`",
                tree.node(root).line
            )
        })
        .collect()
}

/// A YAML scalar that is always read as text.
fn quoted(text: &str) -> String {
    if text.contains('"') { format!("'{}'", text.replace('\'', "''")) } else { format!("\"{text}\"") }
}
