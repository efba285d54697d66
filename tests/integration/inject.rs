//! Injection, verified by independent tools: Kubernetes' schemas, kustomize, and the admission plugins of its API
//! server.
//!
//! The resulting pods are compared. `sidestream inject` also adds an annotation for `uninject`, which the other methods
//! do not; it is removed before comparing.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::http::Call;
use crate::support::kubernetes::{forget, objects, path, read, schema_errors, sidestream, tool, with_input};
use crate::support::sidecar::binary;
use crate::support::upstream::Upstream;

/// The namespaces of the pods; the first one has the label.
const NAMESPACES: &str = "\
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { sidestream.io/inject: \"true\" } }
---
apiVersion: v1
kind: Namespace
metadata: { name: elsewhere }
";

#[test]
fn the_manifests_in_the_repository_are_the_printed_ones() {
    let printed = [
        ("k8s/component/kustomization.yaml", sidestream(&["inject", "--print", "component"], "")),
        ("k8s/chart/charts/sidestream-sidecar/templates/_sidecar.tpl", sidestream(&["inject", "--print", "helm"], "")),
        ("k8s/policy.yaml", sidestream(&["inject", "--print", "policy"], "")),
        ("k8s/sidecar.yaml", sidestream(&["inject"], &read("k8s/example/app.yaml"))),
    ];
    for (file, text) in printed {
        assert!(read(file) == text, "{file} is not what is printed: run `make manifests`");
    }
}

#[test]
fn an_injection_can_be_reverted() {
    assert_eq!(sidestream(&["inject", "--uninject"], &read("k8s/sidecar.yaml")), read("k8s/example/app.yaml"));
}

#[test]
fn an_injection_that_fails_writes_nothing_and_reports_the_position() {
    let output = with_input(&mut binary(&["inject"]), "kind: Pod\nspec: [unclosed\n");
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("(standard input):2:7: no YAML"), "{said}");
}

#[test]
fn every_manifest_conforms_to_kubernetes_schema() {
    for file in ["k8s/sidecar.yaml", "k8s/policy.yaml", "k8s/example/http-route.yaml", "k8s/example/ingress.yaml"] {
        assert_eq!(schema_errors(objects(&read(file)).values()), "", "{file}");
    }
    // The schemas must reject invalid manifests.
    let wrong = read("k8s/sidecar.yaml").replace("startupProbe:", "startUpProbe:");
    assert!(schema_errors(objects(&wrong).values()).contains("startUpProbe"));
    let wrong = read("k8s/example/http-route.yaml").replace("request: 30s", "request: 30");
    assert!(schema_errors(objects(&wrong).values()).contains("timeouts/request must be string"));
}

#[test]
fn the_component_does_what_inject_does() {
    let built = Command::new(tool("bin/kustomize")).arg("build").arg(path("k8s/example")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let built = objects(&String::from_utf8(built.stdout).unwrap());
    let injected = objects(&read("k8s/sidecar.yaml"));
    assert_eq!(built.len(), 3);
    for (name, object) in &injected {
        assert_eq!(built.get(name), Some(object), "{name}");
    }
}

#[test]
fn the_policy_does_what_inject_does() {
    let folder = tempfile::tempdir().unwrap();
    let files = [path("k8s/policy.yaml"), namespaces(folder.path())];
    let pods = [
        pod(json!({}), json!({})),
        pod(json!({ "team": "a", "prometheus.io/scrape": "true", "prometheus.io/port": "3001" }), json!({})),
        pod(json!({ "sidestream.io/config-map": "own", "sidestream.io/secret": "mine" }), json!({})),
        pod(json!({}), json!({ "terminationGracePeriodSeconds": 90 })),
        pod(
            json!({}),
            json!({
                "initContainers": [{ "name": "first", "image": "i:1" }],
                "volumes": [{ "name": "own", "emptyDir": {} }],
                "terminationGracePeriodSeconds": 30,
            }),
        ),
    ];
    let by_policy = admitted(&files, &pods);
    // Injected pods are admitted unchanged, which converts them to the API server's form.
    let injected: Vec<Value> = pods.iter().map(|pod| json_of(&sidestream(&["inject"], &pod.to_string()))).collect();
    let by_inject = admitted(&files, &injected);
    for (by_policy, by_inject) in by_policy.iter().zip(&by_inject) {
        let (mut one, mut other) = (by_policy["pod"].clone(), by_inject["pod"].clone());
        forget(&mut one);
        forget(&mut other);
        assert_eq!(one["spec"]["initContainers"][0]["name"], "sidestream", "{by_policy}");
        assert_eq!(one, other);
    }
    assert_eq!(by_policy.len(), pods.len());
}

#[test]
fn the_policy_ignores_pods_that_are_not_selected() {
    let folder = tempfile::tempdir().unwrap();
    let files = [path("k8s/policy.yaml"), namespaces(folder.path())];
    let mut unlabelled = pod(json!({}), json!({}));
    unlabelled["metadata"]["labels"] = json!({ "app": "orders" });
    let once = admitted(&files, &[unlabelled.clone(), pod(json!({}), json!({}))]);
    assert_eq!(once[0]["pod"]["spec"]["initContainers"], Value::Null, "{}", once[0]);
    let twice = admitted(&files, &[once[1]["pod"].clone()]);
    assert_eq!(twice[0], once[1], "a second time");
}

#[test]
fn the_guard_rejects_selected_pods_without_a_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let files = [path("k8s/policy.yaml"), namespaces(folder.path())];
    let mut elsewhere = pod(json!({}), json!({}));
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    let injected = json_of(&sidestream(&["inject"], &elsewhere.to_string()));
    // An init container that ends before the application starts is not a sidecar, whatever its name.
    let mut ended = elsewhere.clone();
    ended["spec"]["initContainers"] = json!([{ "name": "sidestream", "image": "example/other:1" }]);
    let found = admitted(&files, &[elsewhere, injected, ended]);
    assert!(denied(&found[2]).contains("without the sidecar"), "{}", found[2]);
    assert!(denied(&found[0]).contains("without the sidecar. Is its namespace labelled"), "{}", found[0]);
    assert_eq!(found[1]["pod"]["spec"]["initContainers"][0]["name"], "sidestream", "{}", found[1]);

    // The policy's binding or its parameters are missing.
    let asks = [pod(json!({}), json!({}))];
    let without = |kind: &str| {
        let policy = read("k8s/policy.yaml");
        let rest: Vec<_> =
            policy.split("\n---\n").filter(|text| !text.contains(&format!("\nkind: {kind}\n"))).collect();
        let file = folder.path().join(format!("{kind}.yaml"));
        std::fs::write(&file, rest.join("\n---\n")).unwrap();
        admitted(&[file, namespaces(folder.path())], &asks)
    };
    let unbound = without("MutatingAdmissionPolicyBinding");
    assert!(denied(&unbound[0]).contains("without the sidecar"), "{}", unbound[0]);
    let unknown = without("ConfigMap");
    assert!(denied(&unknown[0]).contains("inject.sidestream.io"), "{}", unknown[0]);
}

#[test]
fn a_pods_annotation_sets_the_port_of_the_application() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sidestream.yaml");
    std::fs::write(&config, "upstream: { address: 127.0.0.1:1 }\nkafka: { brokers: 127.0.0.1:1 }\n").unwrap();
    let run = |port: &str| {
        let mut run = binary(&["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]);
        run.arg(&config)
            .env("SIDESTREAM_UPSTREAM_PORT", port)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = run(&upstream.address.port().to_string());
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let listen = ready.split("listen=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let answer = listen.map(|listen| Call::new(listen, "GET", "/echo").send());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer.expect("a ready line").status(), 200);

    let output = run("http").wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("SIDESTREAM_UPSTREAM_PORT is not a port: http"), "{said}");
}

/// A labelled pod before admission, with these annotations and these fields beside its container.
fn pod(annotations: Value, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "orders-1", "namespace": "shop", "labels": { "app": "orders", "sidestream.io/inject": "true" },
        },
        "spec": { "containers": [{ "name": "app", "image": "example/orders:1" }] },
    });
    if annotations.as_object().is_some_and(|annotations| !annotations.is_empty()) {
        pod["metadata"]["annotations"] = annotations;
    }
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pod
}

/// The pods after the API server's admission plugins.
fn admitted(files: &[PathBuf], pods: &[Value]) -> Vec<Value> {
    let output = with_input(Command::new(tool("bin/admission")).args(files), &json!(pods).to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.lines().map(|line| json_of(&line.unwrap())).collect()
}

fn denied(verdict: &Value) -> &str {
    verdict["denied"].as_str().unwrap_or_default()
}

fn namespaces(folder: &Path) -> PathBuf {
    let file = folder.join("namespaces.yaml");
    std::fs::write(&file, NAMESPACES).unwrap();
    file
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
