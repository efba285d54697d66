//! Kubernetes manifests: the binary's and those of tools that `make k8s` installed, and validation by their schemas.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::sidecar::binary;

/// The annotation in which `inject` records what `uninject` needs.
const MEMORY: &str = "sidestream.io/injected";
/// Groups of resources that Kubernetes itself does not define.
const CUSTOM: [&str; 2] = ["gateway.networking.k8s.io/", "monitoring.coreos.com/"];

/// The objects of a text by kind and name, without the annotation of `inject`.
pub fn objects(text: &str) -> BTreeMap<String, Value> {
    let parse = |document: &str| -> Value { serde_saphyr::from_str(document).unwrap() };
    let documents = text.strip_prefix("---\n").unwrap_or(text).split("\n---\n");
    let objects = documents.map(parse).map(|mut object| {
        forget(&mut object);
        if let Some(template) = object.pointer_mut("/spec/template") {
            forget(template);
        }
        let title = format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        (title, object)
    });
    objects.collect()
}

/// Removes the annotation of `inject`.
pub fn forget(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.remove(MEMORY);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// The errors of the objects by the schemas of Kubernetes 1.36 and of the custom resources; empty if they conform.
pub fn schema_errors<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    let is_custom = |object: &&Value| {
        CUSTOM.iter().any(|group| object["apiVersion"].as_str().is_some_and(|version| version.starts_with(group)))
    };
    let (custom, own): (Vec<&Value>, Vec<&Value>) = objects.into_iter().partition(is_custom);
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = own
        .iter()
        .enumerate()
        .map(|(n, object)| {
            let file = folder.path().join(format!("{n}.json"));
            std::fs::write(&file, object.to_string()).unwrap();
            file
        })
        .collect();
    let mut errors = String::new();
    if !files.is_empty() {
        let mut validate = Command::new(tool("venv/bin/kubernetes-validate"));
        let output = validate.args(["--strict", "--kubernetes-version", "1.36"]).args(&files).output().unwrap();
        errors += &failure(&output);
    }
    if !custom.is_empty() {
        let mut node = Command::new("node");
        node.args(["--input-type=module", "--eval", &read("tests/k8s/custom-resources.mjs")]);
        node.current_dir(tool("node_modules").parent().unwrap());
        errors += &failure(&with_input(&mut node, &json!(custom).to_string()));
    }
    errors
}

/// The output of a command that failed.
pub fn failure(output: &Output) -> String {
    if output.status.success() {
        return String::new();
    }
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    if text.is_empty() { output.status.to_string() } else { text }
}

/// The binary's output for this input.
#[track_caller]
pub fn sidestream(arguments: &[&str], input: &str) -> String {
    let output = with_input(&mut binary(arguments), input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn with_input(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A tool that `make k8s` installed.
pub fn tool(name: &str) -> PathBuf {
    let tool = path("target/k8s").join(name);
    assert!(tool.exists(), "{} is not there: run `make k8s`", tool.display());
    tool
}

pub fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

pub fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
