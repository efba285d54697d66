//! The kustomize Component: the definition as strategic merge patches, one per place where kinds hold a pod template.

use std::fmt::Write as _;

use super::sidecar::Sidecar;
use super::{Error, LABEL, Names};

const HEAD: &str = "\
# Adds sidestream to every workload with the label `sidestream.io/inject: \"true\"`, and points the first port of
# every Service with that label at it. Printed by `sidestream inject --print component`; don't edit it.
#
#   components: [path/to/this/folder]
#
# `images:` changes the image; generators and name prefixes change the names of the ConfigMap and Secret, as for any
# other resource. A merge patch overwrites annotations and grace period of the workload.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches:
";
/// The API group, the kinds, and the keys that enclose a pod template.
const TARGETS: [(&str, &str, &[&str]); 3] = [
    ("apps|batch", "Deployment|StatefulSet|DaemonSet|ReplicaSet|Job", &["spec", "template"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
    ("", "Pod", &[]),
];

/// The Component's `kustomization.yaml`.
///
/// # Errors
///
/// A name contains an invalid character.
pub fn component(names: &Names) -> Result<String, Error> {
    let sidecar = Sidecar::new(names)?;
    let mut text = HEAD.to_owned();
    for (group, kinds, path) in TARGETS {
        text += &target(group, kinds);
        text += "    patch: |-\n";
        // kustomize requires these fields in a patch, although `target` selects the objects.
        text += "      apiVersion: any/v1\n      kind: Any\n";
        // A Pod's `metadata` is part of the definition.
        let mut lines = sidecar.text().to_owned();
        if path.is_empty() {
            lines = lines.replacen("metadata:\n", "metadata:\n  name: any\n", 1);
        } else {
            text += "      metadata:\n        name: any\n";
        }
        for (depth, key) in path.iter().enumerate() {
            let _ = writeln!(text, "{:indent$}{key}:", "", indent = 6 + 2 * depth);
        }
        let indent = 6 + 2 * path.len();
        lines.lines().for_each(|line| text += &format!("{:indent$}{line}\n", ""));
    }
    let port = sidecar.ports().next().unwrap_or_default();
    text += &target("", "Service");
    text += &format!("    patch: |-\n      - op: add\n        path: /spec/ports/0/targetPort\n        value: {port}\n");
    Ok(text)
}

fn target(group: &str, kinds: &str) -> String {
    let group = if group.is_empty() { String::new() } else { format!("      group: {group}\n") };
    format!("  - target:\n{group}      kind: {kinds}\n      labelSelector: {LABEL}=true\n")
}
