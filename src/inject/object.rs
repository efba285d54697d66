//! Kubernetes objects in a text: which of them are workloads, and whether the label selects them.

use std::collections::BTreeMap;

use super::LABEL;
use super::tree::{Id, Tree};

/// The kinds that have pods, with their API group and the path to the pod template.
const KINDS: [(&str, &str, &[&str]); 7] = [
    ("", "Pod", &[]),
    ("apps", "Deployment", &["spec", "template"]),
    ("apps", "StatefulSet", &["spec", "template"]),
    ("apps", "DaemonSet", &["spec", "template"]),
    ("apps", "ReplicaSet", &["spec", "template"]),
    ("batch", "Job", &["spec", "template"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
];
/// The path from an object or pod template to the label.
const LABELLED: [&str; 3] = ["metadata", "labels", LABEL];

/// A Kubernetes object.
pub(super) struct Object {
    pub(super) id: Id,
    group: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

impl Object {
    /// All objects of a text, including the items of lists. Documents that are not objects are skipped.
    pub(super) fn all(tree: &Tree) -> Vec<Self> {
        let mut found = Vec::new();
        for root in &tree.roots {
            collect(tree, *root, None, &mut found);
        }
        found
    }

    /// For messages: `Deployment orders`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    pub(super) fn is_service(&self) -> bool {
        self.group.is_empty() && self.kind == "Service"
    }

    pub(super) fn is_config_map(&self) -> bool {
        self.group.is_empty() && self.kind == "ConfigMap"
    }

    pub(super) fn is_job(&self) -> bool {
        self.group == "batch"
    }

    /// The path to the pod template, for kinds that have pods.
    pub(super) fn template(&self) -> Option<&'static [&'static str]> {
        let kind = KINDS.iter().find(|(group, kind, _)| *group == self.group && *kind == self.kind);
        kind.map(|(_, _, path)| *path)
    }
}

/// Appends the object, or the objects of a list, to `found`. Items of a typed list may omit their kind.
fn collect(tree: &Tree, id: Id, typed: Option<(&str, &str)>, found: &mut Vec<Object>) {
    let kind = tree.text_at(id, &["kind"]).or_else(|| typed.map(|(kind, _)| kind));
    let version = tree.text_at(id, &["apiVersion"]).or_else(|| typed.map(|(_, version)| version));
    let (Some(kind), Some(version)) = (kind, version) else { return };
    if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), tree.get(id, "items")) {
        let typed = Some((item_kind, version)).filter(|_| !item_kind.is_empty());
        tree.items(items).for_each(|item| collect(tree, item, typed, found));
        return;
    }
    let text = |path: &[&str]| tree.text_at(id, path).unwrap_or_default().to_owned();
    found.push(Object {
        id,
        group: version.split_once('/').map_or("", |(group, _)| group).into(),
        kind: kind.into(),
        name: text(&["metadata", "name"]),
        namespace: text(&["metadata", "namespace"]),
    });
}

/// A map of strings, such as labels.
pub(super) fn texts(tree: &Tree, map: Option<Id>) -> BTreeMap<String, String> {
    let entries = map.map_or(&[][..], |map| tree.entries(map));
    entries.iter().filter_map(|entry| Some((tree.text(entry.key)?.into(), tree.text(entry.value)?.into()))).collect()
}

/// Whether the label is on the pod template, or on the workload itself.
pub(super) fn is_chosen(tree: &Tree, object: Id, template: &[&str]) -> bool {
    let on_pods: Vec<&str> = template.iter().chain(&LABELLED).copied().collect();
    [&LABELLED[..], &on_pods].iter().any(|path| tree.text_at(object, path) == Some("true"))
}

/// Why an object gets no sidecar.
pub(super) fn why_unchanged(tree: &Tree, object: &Object) -> String {
    let template = object.template();
    let on_pods: Vec<&str> = template.unwrap_or(&["spec", "template"]).iter().chain(&LABELLED).copied().collect();
    let label = tree.text_at(object.id, &on_pods).or_else(|| tree.text_at(object.id, &LABELLED));
    match (template, label) {
        (None, None) => "it is neither a workload nor a Service".into(),
        (None, Some(_)) => {
            format!("it has the label {LABEL}, but {} is not a kind whose pods can have a sidecar", object.kind)
        }
        (Some(_), None) => format!("neither it nor its pods have the label {LABEL}: \"true\""),
        (Some(_), Some("true")) => "it has no template of pods".into(),
        (Some(_), Some(other)) => format!("its label {LABEL} is {other:?}, not \"true\""),
    }
}
