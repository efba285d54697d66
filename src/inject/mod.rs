//! Puts the sidecar into Kubernetes manifests, and prints the manifests that make Kubernetes or kustomize do so: text
//! in, text out. What of a manifest is not changed stays byte for byte, comments included, because changes are spliced
//! into the text at the places of a parser. Nothing here reads a file or knows a cluster.
//!
//! A workload gets a sidecar if its pods, or it itself, have the label [`LABEL`]: `"true"`. What goes in is
//! `sidecar.yaml` beside this file.

mod component;
mod configuration;
mod edit;
mod policy;
mod service;
mod sidecar;
#[cfg(test)]
mod tests;
mod tree;
mod workload;

use std::fmt;

pub use component::component;
pub use policy::policy;

use configuration::Configuration;
use edit::Edits;
use sidecar::Sidecar;
use tree::{Id, Tree};
use workload::{Object, Pods, Template};

/// Opts pods and namespaces in.
pub const LABEL: &str = "sidestream.io/inject";
/// An annotation of pods: the port that the app listens on.
pub const UPSTREAM_PORT: &str = "sidestream.io/upstream-port";
/// An annotation of pods: the ConfigMap with the key `sidestream.yaml`.
pub const CONFIG_MAP: &str = "sidestream.io/config-map";
/// An annotation of pods: the Secret with keys and passwords.
pub const SECRET: &str = "sidestream.io/secret";
/// An annotation that an injection leaves, for taking it back.
const MEMORY: &str = "sidestream.io/injected";

/// The largest input, in bytes.
pub const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest name of an image or object, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// Names that the sidecar is filled in with.
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
    /// They go into YAML and CEL between double quotes: nothing in them may end those.
    fn check(&self) -> Result<(), String> {
        [&self.image, &self.config_map, &self.secret].into_iter().try_for_each(|written| name(written).map(drop))
    }
}

/// The name of an image or object, of characters that those may have.
pub fn name(written: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-._/:@".contains(c);
    match written {
        "" => Err("a name can't be empty".into()),
        _ if written.len() > NAME_BYTES_MAX => Err(format!("a name can't be longer than {NAME_BYTES_MAX} bytes")),
        _ if !written.chars().all(is_good) => Err(format!("`{written}` is not a valid name of an image or object")),
        _ => Ok(written.into()),
    }
}

/// What an injection is told beside the manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The pods' own annotations go before.
    pub names: Names,
    /// The port that the app listens on, of workloads whose pods don't say.
    pub upstream_port: Option<u16>,
}

/// A changed text, and what was done, a line for each thing.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    pub text: String,
    pub said: Vec<String>,
}

impl Changed {
    /// A text that nothing is to be said of.
    pub fn printed(text: String) -> Self {
        Self { text, said: Vec::new() }
    }
}

/// Why nothing was changed: one place, the first that is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Puts the sidecar into every workload that asks for it and has none, and wires the Services that select its pods to
/// it. YAML or JSON, any number of documents, lists; what is none of it comes out as it went in.
pub fn inject(text: &str, options: &Options) -> Result<Changed, Error> {
    let tree = Tree::parse(text)?;
    let objects = Object::all(&tree);
    let mut edits = Edits::new(text, &tree);
    let mut said = strangers(&tree);
    let (mut workloads, mut bare) = (Vec::new(), Vec::new());
    for object in objects.iter().filter(|object| !object.is_service()) {
        let Some(template) = Template::of(&tree, object)? else {
            said.push(format!("{}: unchanged: {}", object.title(), workload::why_unchanged(&tree, object)));
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
        said.extend(configuration.missing_key());
    }
    let port = Sidecar::new(&options.names)?.ports().next().unwrap_or_default();
    for object in objects.iter().filter(|object| object.is_service()) {
        said.extend(service::rewire(&tree, object, &workloads, &bare, port, &mut edits)?);
    }
    Ok(Changed { text: edits.apply(), said })
}

/// Takes back what [`inject`] did. A sidecar that came from elsewhere is taken out, and nothing put back.
pub fn uninject(text: &str) -> Result<Changed, Error> {
    let tree = Tree::parse(text)?;
    let mut edits = Edits::new(text, &tree);
    let mut said = strangers(&tree);
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
            None => said.push(format!("{}: unchanged: {}", object.title(), workload::why_unchanged(&tree, object))),
        }
    }
    Ok(Changed { text: edits.apply(), said })
}

/// Documents that are no objects of Kubernetes.
fn strangers(tree: &Tree) -> Vec<String> {
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

/// A YAML scalar that is text whatever it says.
fn quoted(text: &str) -> String {
    if text.contains('"') { format!("'{}'", text.replace('\'', "''")) } else { format!("\"{text}\"") }
}
