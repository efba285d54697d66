//! The Helm charts: Helm's own linter and template engine, Kubernetes' schemas, and comparison with `inject`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::kubernetes::{failure, objects, path, read, schema_errors, tool};
use crate::support::sidecar::binary;

const RELEASE: &str = "orders";
const NAME: &str = "orders-sidestream";

#[test]
fn charts_have_the_version_of_the_binary() {
    for chart in ["k8s/chart/Chart.yaml", "k8s/chart/charts/sidestream-sidecar/Chart.yaml"] {
        let chart: Value = serde_saphyr::from_str(&read(chart)).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!([&chart["version"], &chart["appVersion"]], [version, version]);
        assert!(chart["dependencies"].as_array().is_none_or(|all| all.iter().all(|one| one["version"] == version)));
    }
}

#[test]
fn the_chart_renders_valid_objects_and_configurations() {
    for (values, kinds) in [
        ("plain", "ConfigMap, Deployment, PodDisruptionBudget, Service"),
        ("public", "ConfigMap, Deployment, HTTPRoute, Ingress, PodDisruptionBudget, Service"),
        (
            "monitored",
            "ConfigMap, ConfigMap, Deployment, NetworkPolicy, PodDisruptionBudget, PrometheusRule, Service, Service, ServiceMonitor",
        ),
    ] {
        let objects = gateway(values);
        let found: Vec<&str> = objects.values().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(found.join(", "), kinds, "{values}");
        assert_eq!(schema_errors(objects.values()), "", "{values}");
        check(objects[&format!("ConfigMap {NAME}")]["data"]["sidestream.yaml"].as_str().unwrap());
    }
}

#[test]
fn the_gateway_runs_the_container_of_the_sidecar() {
    let injected = objects(&read("k8s/sidecar.yaml"));
    let pod = &injected["Deployment orders"]["spec"]["template"]["spec"];
    let mut container = pod["initContainers"][0].clone();
    for key in ["restartPolicy", "env"] {
        assert!(container.as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    let gateway_pod = |values| gateway(values)[&format!("Deployment {NAME}")]["spec"]["template"]["spec"].clone();
    let plain = gateway_pod("plain");
    assert_eq!(plain["containers"], json!([container]));
    assert_eq!(plain["terminationGracePeriodSeconds"], pod["terminationGracePeriodSeconds"]);
    let mut volumes = pod["volumes"].clone();
    volumes[0]["configMap"]["name"] = json!(NAME);
    assert_eq!(plain["volumes"], volumes);

    let public = gateway_pod("public");
    container["image"] = json!("registry.example/sidestream:0.1.0-debian");
    container["resources"]["limits"]["memory"] = json!("512Mi");
    assert_eq!(public["containers"], json!([container]));
    assert_eq!(public["terminationGracePeriodSeconds"], 70);
    assert_eq!(public["volumes"], volumes);
}

#[test]
fn routes_of_the_chart_limit_no_stream_and_lead_to_its_service() {
    let objects = gateway("public");
    let rule = &objects[&format!("HTTPRoute {NAME}")]["spec"]["rules"][0];
    assert_eq!(rule["timeouts"], json!({ "request": "0s", "backendRequest": "0s" }));
    assert_eq!(rule["backendRefs"], json!([{ "name": NAME, "port": 8080 }]));
    let ingress = &objects[&format!("Ingress {NAME}")]["spec"]["rules"][0]["http"]["paths"][0]["backend"];
    let service = &objects[&format!("Service {NAME}")]["spec"];
    assert_eq!(ingress["service"], json!({ "name": NAME, "port": { "name": service["ports"][0]["name"] } }));
    assert_eq!(service["ports"][0]["targetPort"], 18080);
    let pods = &objects[&format!("Deployment {NAME}")]["spec"]["template"]["metadata"]["labels"];
    assert!(is_selected(pods, &service["selector"]));
}

#[test]
fn the_chart_contains_the_alerts_and_the_dashboard() {
    let objects = gateway("monitored");
    let rules: Value = serde_saphyr::from_str(&read("k8s/chart/files/prometheus-rules.yaml")).unwrap();
    assert_eq!(objects[&format!("PrometheusRule {NAME}")]["spec"], rules);
    let dashboard = objects[&format!("ConfigMap {NAME}-dashboard")]["data"]["sidestream.json"].as_str().unwrap();
    let original: Value = serde_json::from_str(&read("k8s/chart/files/grafana-dashboard.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(dashboard).unwrap(), original);
}

#[test]
fn prometheus_and_no_other_peer_reaches_the_admin_port() {
    let objects = gateway("monitored");
    let service = &objects[&format!("Service {NAME}-metrics")];
    let monitor = &objects[&format!("ServiceMonitor {NAME}")]["spec"];
    assert!(is_selected(&service["metadata"]["labels"], &monitor["selector"]["matchLabels"]));
    let clients = &objects[&format!("Service {NAME}")];
    assert!(!is_selected(&clients["metadata"]["labels"], &monitor["selector"]["matchLabels"]));
    assert_eq!(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    // The value of this label is the `job` of the alerts.
    let job = monitor["jobLabel"].as_str().unwrap();
    assert_eq!(service["metadata"]["labels"][job], "sidestream");
    let template = &objects[&format!("Deployment {NAME}")]["spec"]["template"]["metadata"];
    assert!(template["annotations"].is_null(), "Prometheus would scrape the pods twice");

    let policy = &objects[&format!("NetworkPolicy {NAME}")]["spec"];
    assert!(is_selected(&template["labels"], &policy["podSelector"]["matchLabels"]));
    let ingress = policy["ingress"].as_array().unwrap();
    let peers = |port: u16| -> Vec<&Value> {
        ingress.iter().filter(|rule| rule["ports"][0]["port"] == port).map(|rule| &rule["from"]).collect()
    };
    let namespace =
        |name: &str| json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } }]);
    assert_eq!(peers(18080), [&namespace("gateways")]);
    assert_eq!(peers(19090), [&namespace("monitoring")]);
    assert_eq!(ingress.len(), 2);
}

#[test]
fn the_schema_of_the_values_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    for (values, error) in [
        ("config: {}", "at '/config': missing property 'upstream'"),
        ("config: { upstream: { address: a:1 } }\nreplica: 3", "at '': additional properties 'replica' not allowed"),
        (
            "config: { upstream: { address: a:1 } }\nhttpRoute: { enabled: true }",
            "at '/httpRoute/parentRefs': minItems",
        ),
    ] {
        let file = folder.path().join("values.yaml");
        std::fs::write(&file, values).unwrap();
        let output = rendered(&path("k8s/chart"), Some(&file));
        assert!(!output.status.success() && failure(&output).contains(error), "{values}: {output:?}");
    }
}

#[test]
fn the_library_does_what_inject_does() {
    let folder = tempfile::tempdir().unwrap();
    // As `helm dependency build` does.
    copy(&path("k8s/example/chart"), folder.path());
    copy(&path("k8s/chart/charts"), &folder.path().join("charts"));
    let output = rendered(folder.path(), None);
    assert_eq!(failure(&output), "");
    let by_library = objects(&String::from_utf8(output.stdout).unwrap());
    let mut injected = objects(&read("k8s/sidecar.yaml"));
    for object in injected.values_mut() {
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            let labels = object.pointer_mut(labels).and_then(Value::as_object_mut);
            labels.and_then(|labels| labels.remove("sidestream.io/inject"));
        }
    }
    assert_eq!(by_library.len(), 3);
    for (name, object) in &injected {
        assert_eq!(by_library.get(name), Some(object), "{name}");
    }
}

/// The objects of the chart with the values of a file in `k8s/chart/ci`.
fn gateway(values: &str) -> BTreeMap<String, Value> {
    let output = rendered(&path("k8s/chart"), Some(&path(&format!("k8s/chart/ci/{values}-values.yaml"))));
    assert_eq!(failure(&output), "", "{values}");
    objects(&String::from_utf8(output.stdout).unwrap())
}

fn rendered(chart: &Path, values: Option<&Path>) -> Output {
    Command::new(tool("bin/chart")).arg(chart).args([RELEASE, "shop"]).args(values).output().unwrap()
}

/// As docs/kubernetes.md checks a configuration for a pod.
fn check(configuration: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sidestream.yaml");
    std::fs::write(&file, configuration).unwrap();
    let mut check =
        binary(&["check", "--without-secrets", "--listen", "0.0.0.0:18080", "--admin", "0.0.0.0:19090", "--config"]);
    assert_eq!(failure(&check.arg(&file).output().unwrap()), "");
}

fn is_selected(labels: &Value, selector: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-rT").args([from, to]).status().unwrap().success());
}
