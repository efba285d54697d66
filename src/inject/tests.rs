//! Injects into manifests in every common style, and reverts the injection.

use serde_json::{Value, json};

use super::*;

/// A Deployment and its Service in the usual style.
const ORDERS: &str = r#"# The orders service.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders   # two spaces, on purpose
spec:
  template:
    metadata:
      labels:
        app: orders
        sidestream.io/inject: "true"
    spec:
      # One container.
      containers:
      - name: app
        image: 'example/orders:1'
        ports:
        - {name: http, containerPort: 3000}
---
apiVersion: v1
kind: Service
metadata:
  name: orders
spec:
  selector: {app: orders}
  ports:
    - port: 80
      targetPort: http # by name
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data:
  text: |+
    kind: Deployment

"#;

fn injected(text: &str) -> Changed {
    inject(text, &Options::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Asserts that `uninject` restores the original text, and that a second injection changes nothing.
#[track_caller]
fn round_trip(text: &str) -> String {
    let there = injected(text).text;
    assert_ne!(there, text);
    assert_eq!(injected(&there).text, there, "a second time");
    let back = uninject(&there).unwrap().text;
    assert_eq!(back, text, "by way of {there}");
    there
}

fn wrong(text: &str) -> String {
    inject(text, &Options::default()).unwrap_err().to_string()
}

/// The pod spec of the first document.
fn spec(text: &str) -> Value {
    let first = value(text.split("\n---").next().unwrap());
    let pointers = ["/spec/jobTemplate/spec/template/spec", "/spec/template/spec", "/spec"];
    pointers.iter().find_map(|pointer| first.pointer(pointer)).unwrap().clone()
}

#[test]
fn unchanged_text_stays_byte_for_byte() {
    let there = round_trip(ORDERS);
    let kept: Vec<&str> = ORDERS.lines().filter(|line| !line.contains("targetPort")).collect();
    let mut lines = there.lines();
    for line in kept {
        assert!(lines.any(|other| other == line), "{line:?} is not in its place in\n{there}");
    }
    assert!(there.contains("      targetPort: 18080 # by name\n"), "{there}");
    let pod = spec(&there);
    assert_eq!(pod["initContainers"][0]["name"], "sidestream");
    assert_eq!(pod["initContainers"][0]["restartPolicy"], "Always");
    assert_eq!(pod["terminationGracePeriodSeconds"], 40);
    assert_eq!(pod["volumes"][1]["secret"], json!({ "secretName": "sidestream", "optional": true }));
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
}

#[test]
fn every_change_is_reported() {
    let said = injected(ORDERS).said;
    let rewired = "Service orders: port 80 leads to the sidecar instead of http";
    let other = "ConfigMap other: unchanged: it is neither a workload nor a Service";
    let abrupt = "Deployment orders: warning: no `lifecycle.preStop` in app: a rollout loses requests; \
        `sleep: { seconds: 10 }` avoids that";
    assert_eq!(said, ["Deployment orders: injected", abrupt, other, rewired]);
    let again = injected(&injected(ORDERS).text).said;
    let kept = "Service orders: unchanged: it leads to the sidecar already";
    assert_eq!(again, ["Deployment orders: has the sidecar already", abrupt, other, kept]);
    let asleep =
        ORDERS.replace("        ports:\n", "        lifecycle: {preStop: {sleep: {seconds: 10}}}\n        ports:\n");
    assert_eq!(injected(&asleep).said, ["Deployment orders: injected", other, rewired]);
}

#[test]
fn workloads_that_are_not_selected_stay_unchanged() {
    for text in [
        "",
        "# nothing\n",
        "just text",
        "- 1\n- 2\n",
        &ORDERS.replace("sidestream.io/inject: \"true\"", "sidestream.io/inject: \"false\""),
        &ORDERS.replace("        sidestream.io/inject: \"true\"\n", ""),
        &ORDERS.replace("apps/v1", "apps.example/v1"),
        &ORDERS.replace("kind: Deployment\nmeta", "kind: Rollout\nmeta"),
    ] {
        let changed = injected(text);
        assert_eq!(changed.text, text);
        assert!(changed.said.iter().all(|line| line.contains(": unchanged: ")), "{:?}", changed.said);
        assert_eq!(uninject(text).unwrap().text, text);
    }
}

#[test]
fn every_kind_with_a_pod_template_is_injected() {
    let pod = "metadata: {labels: {sidestream.io/inject: \"true\"}}\nspec:\n  containers: []\n";
    let indented = |depth: usize| pod.lines().map(|line| format!("{}{line}\n", " ".repeat(depth))).collect::<String>();
    let mut containers = Vec::new();
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"] {
        let text = format!("apiVersion: apps/v1\nkind: {kind}\nspec:\n  template:\n{}", indented(4));
        containers.push(spec(&round_trip(&text)));
    }
    let job = format!("apiVersion: batch/v1\nkind: Job\nspec:\n  template:\n{}", indented(4));
    containers.push(spec(&round_trip(&job)));
    let nested = "apiVersion: batch/v1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n";
    containers.push(spec(&round_trip(&format!("{nested}{}", indented(8)))));
    containers.push(spec(&round_trip(&format!("apiVersion: v1\nkind: Pod\n{pod}"))));
    assert!(containers.windows(2).all(|pair| pair[0] == pair[1]), "{containers:#?}");
}

#[test]
fn lists_and_json() {
    let service =
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {selector: {app: orders}, ports: [{port: 80}]}}";
    let deployment = ORDERS.split("\n---").next().unwrap();
    let item: String = deployment.lines().map(|line| format!("    {line}\n")).collect();
    let list = format!("apiVersion: v1\nkind: List\nitems:\n  -\n{item}  - {service}\n");
    let there = value(&round_trip(&list));
    assert_eq!(there["items"][0]["spec"]["template"]["spec"]["initContainers"][0]["name"], "sidestream");
    assert_eq!(there["items"][1]["spec"]["ports"][0]["targetPort"], 18080);
    // The items of a typed list may omit their `kind` and `apiVersion`.
    let mut object = value(deployment);
    let bare = object.as_object_mut().unwrap();
    bare.remove("kind");
    bare.remove("apiVersion");
    let typed = json!({ "apiVersion": "apps/v1", "kind": "DeploymentList", "items": [object] });
    for json in [typed.to_string(), serde_json::to_string_pretty(&typed).unwrap()] {
        let there = round_trip(&json);
        let there: Value = serde_json::from_str(&there).expect("JSON stays JSON");
        assert_eq!(there["items"][0]["spec"]["template"]["spec"], spec(&injected(ORDERS).text));
    }
}

#[test]
fn existing_lists_and_fields_are_kept() {
    let choices = [
        ["", "      annotations:\n        # Whose it is.\n        team: a\n", "      annotations: {team: a}\n"],
        ["", "      volumes:\n      # The first.\n      - name: own\n        emptyDir: {}\n", "      volumes: []\n"],
        ["", "      initContainers: [{name: first, image: i}]\n", "      initContainers:\n        - name: first\n"],
        ["", "      terminationGracePeriodSeconds: 7 # short\n", "      terminationGracePeriodSeconds: 90\n"],
        ["\n", "\r\n", "\n\n"],
    ];
    for mixture in 0..3_usize.pow(5) {
        let choice = |at: usize| choices[at][mixture / 3_usize.pow(at as u32) % 3];
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    metadata:\n{}      labels: {{sidestream.io/inject: \"true\"}}\n    spec:\n{}{}{}      containers: []\n",
            choice(0),
            choice(1),
            choice(2),
            choice(3)
        );
        let there = round_trip(&text.replace('\n', choice(4)));
        let pod = spec(&there);
        assert_eq!(pod["initContainers"][0], spec(&injected(ORDERS).text)["initContainers"][0], "{there}");
        assert_eq!(pod["terminationGracePeriodSeconds"], if choice(3).contains("90") { 90 } else { 40 });
        assert_eq!(there.contains("\r\n"), choice(4) == "\r\n");
        assert!(choice(4) != "\r\n" || !there.replace("\r\n", "").contains('\n'), "{there:?}");
    }
}

#[test]
fn a_template_without_metadata_gets_some() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {labels: {sidestream.io/inject: \"true\"}}\nspec:\n  template:\n    spec:\n      containers: []\n";
    let there = round_trip(text);
    let annotations = &value(&there)["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], "19090");
}

#[test]
fn keys_without_values_are_filled() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {sidestream.io/inject: \"true\"}\n  annotations:\nspec:\n  volumes: null\n  initContainers: ~\n  containers: []\n";
    let there = injected(text).text;
    assert_eq!(value(&there)["spec"]["volumes"].as_array().unwrap().len(), 2);
    let mut back = value(&uninject(&there).unwrap().text);
    assert_eq!(back["metadata"]["annotations"].take(), json!({}));
    assert_eq!(back["spec"]["volumes"], json!([]));
}

#[test]
fn existing_annotations_for_prometheus_stay() {
    let own = "      annotations: {prometheus.io/scrape: \"true\", prometheus.io/port: \"3001\"}\n      labels:\n";
    let there = round_trip(&ORDERS.replace("      labels:\n", own));
    let first = value(there.split("\n---").next().unwrap());
    assert_eq!(first["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"], "3001");
}

#[test]
fn names_come_from_flags_and_annotations() {
    let names = Names { image: "r.example/s@sha256:0".into(), config_map: "streams".into(), secret: "keys".into() };
    let options = Options { names, upstream_port: Some(3000) };
    let there = inject(ORDERS, &options).unwrap().text;
    assert_eq!(uninject(&there).unwrap().text, ORDERS);
    let pod = spec(&there);
    assert_eq!(pod["initContainers"][0]["image"], "r.example/s@sha256:0");
    assert_eq!(pod["volumes"][0]["configMap"]["name"], "streams");
    assert_eq!(pod["volumes"][1]["secret"]["secretName"], "keys");
    assert!(there.contains("sidestream.io/upstream-port: \"3000\""), "{there}");
    let own = "      annotations: {sidestream.io/config-map: own, sidestream.io/secret: mine}\n      labels:\n";
    let pod = spec(&inject(&ORDERS.replace("      labels:\n", own), &options).unwrap().text);
    assert_eq!(
        (&pod["volumes"][0]["configMap"]["name"], &pod["volumes"][1]["secret"]["secretName"]),
        (&json!("own"), &json!("mine"))
    );
}

#[test]
fn services_of_the_application_are_redirected_to_the_sidecar() {
    let with_ports = |ports: &str| ORDERS.replace("    - port: 80\n      targetPort: http # by name\n", ports);
    let targets = |text: &str| {
        let service = value(text.split("\n---").nth(1).unwrap());
        service["spec"]["ports"].as_array().unwrap().iter().map(|port| port["targetPort"].clone()).collect::<Vec<_>>()
    };
    let several = "    - port: 3000\n      name: http\n    - {port: 9, targetPort: 9999, name: other}\n    - {name: named, targetPort: 'http', port: 81}\n    - {port: 3000, protocol: UDP, name: udp}\n";
    let named = Options { upstream_port: Some(3000), ..Options::default() };
    let there = inject(&with_ports(several), &named).unwrap().text;
    assert_eq!(targets(&there), [json!(18080), json!(9999), json!(18080), json!(null)]);
    assert_eq!(uninject(&there).unwrap().text, with_ports(several));
    assert_eq!(inject(&there, &named).unwrap().text, there);
    assert!(
        wrong(&with_ports(several)).contains("Service orders has several ports"),
        "{}",
        wrong(&with_ports(several))
    );
    // Services that select other pods, and one of another namespace.
    for other in [
        ORDERS.replace("selector: {app: orders}", "selector: {app: others}"),
        ORDERS.replace("selector: {app: orders}", "selector: {}"),
        ORDERS.replace("kind: Service\nmetadata:\n", "kind: Service\nmetadata:\n  namespace: elsewhere\n"),
    ] {
        assert_eq!(targets(&round_trip(&other)), [json!("http")]);
    }
}

#[test]
fn errors_have_a_position() {
    let twice = |body: &str| ORDERS.replace("    spec:\n      # One", &format!("    spec:{body}\n      # One"));
    for (text, said) in [
        (ORDERS.replace("spec:\n  template:", "spec: [\n  template:"), "no YAML"),
        (ORDERS.replace("containerPort: 3000", "containerPort: 18080"), "18:11: port 18080 is the sidecar's"),
        (ORDERS.replace("- name: app\n", "- name: sidestream\n"), "15:9: this name is the sidecar's, and"),
        (twice("\n      terminationGracePeriodSeconds: soon"), "is not a number of seconds"),
        (
            ORDERS
                .replace("      labels:\n", "      annotations: {sidestream.io/upstream-port: http}\n      labels:\n"),
            "is not a port: http",
        ),
    ] {
        let error = wrong(&text);
        assert!(error.contains(said), "{error}: {said}");
    }
}

#[test]
fn shared_and_merged_templates_are_left_alone() {
    let shared = "x: &pod\n  metadata: {labels: {sidestream.io/inject: \"true\"}}\n  spec: {containers: []}\napiVersion: apps/v1\nkind: Deployment\nspec:\n";
    assert_eq!(
        wrong(&format!("{shared}  template: *pod\n")),
        "7:13: `template` is shared by an alias; written out it could be changed"
    );
    let merged = wrong(&format!("{shared}  template:\n    <<: *pod\n"));
    assert_eq!(merged, "8:5: `spec` is merged into this from elsewhere, and can't be changed here");
}

#[test]
fn the_policy_and_the_component_have_the_configured_names() {
    let names = Names { image: "r.example/s:2".into(), ..Names::default() };
    assert!(policy(&names).unwrap().contains("  image: \"r.example/s:2\"\n"));
    assert!(component(&names).unwrap().contains("image: \"r.example/s:2\"\n"));
    assert!(!policy(&names).unwrap().contains('$'));
}

#[test]
fn unchanged_objects_are_reported_with_a_reason() {
    let said = |text: &str| injected(text).said.join("\n");
    let label = "sidestream.io/inject: \"true\"";
    for (text, why) in [
        (
            ORDERS.replace(&format!("        {label}\n"), ""),
            "neither it nor its pods have the label sidestream.io/inject",
        ),
        (
            ORDERS.replace(label, "sidestream.io/inject: \"yes\""),
            "its label sidestream.io/inject is \"yes\", not \"true\"",
        ),
        (
            ORDERS.replace("kind: Deployment\nmeta", "kind: Rollout\nmeta"),
            "but Rollout is not a kind whose pods can have a sidecar",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".into(),
            "ConfigMap x: unchanged: it is neither a workload",
        ),
        ("a: b\n".into(), "line 1: unchanged: no object of Kubernetes"),
        (ORDERS.replace("selector: {app: orders}", "selector: {app: others}"), "it selects no pods of this input"),
    ] {
        assert!(said(&text).contains(why), "{why} is not in {}", said(&text));
    }
    let udp = "    - port: 80\n      targetPort: http # by name\n    - {port: 53, protocol: UDP, name: dns}\n";
    let udp = ORDERS.replace("    - port: 80\n      targetPort: http # by name\n", udp);
    assert!(said(&udp).contains("Service orders: port 53 is unchanged: it is not of TCP"), "{}", said(&udp));
}

#[test]
fn a_container_of_the_users_is_not_taken_for_the_sidecar() {
    let own = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {sidestream.io/inject: \"true\"}}\nspec:\n  initContainers:\n  - name: sidestream\n    image: m:1\n    command: [migrate]\n  containers: [{name: a, image: a}]\n";
    assert!(wrong(own).starts_with("6:5: this name is the sidecar's"), "{}", wrong(own));
    let back = uninject(own).unwrap();
    assert_eq!((back.text.as_str(), back.said.len()), (own, 1));
    assert!(back.said[0].ends_with("its init container of that name is not sidestream's"), "{:?}", back.said);
}

#[test]
fn a_service_that_selects_pods_without_a_sidecar_is_left() {
    let stable = ORDERS.split("\n---").next().unwrap().replace("sidestream.io/inject: \"true\"", "track: stable");
    let stable = stable.replace("name: orders", "name: orders-stable");
    let both = format!("{stable}\n---\n{ORDERS}");
    let changed = injected(&both);
    let why = "Service orders: unchanged: it selects the pods of Deployment orders-stable as well";
    assert!(changed.said.iter().any(|line| line.starts_with(why)), "{:?}", changed.said);
    assert!(!changed.text.contains("targetPort: 18080"), "{}", changed.text);
}

#[test]
fn the_time_to_end_is_compared_with_the_drain_of_the_configuration() {
    let with = |budget: &str| {
        let data = format!("data:\n  sidestream.yaml: |\n    drain: {{ budget: {budget} }}\n");
        format!("{ORDERS}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: sidestream}}\n{data}")
    };
    let long = round_trip(&with("90s"));
    assert_eq!(spec(&long)["terminationGracePeriodSeconds"], 100);
    let said = injected(&with("90s")).said.join("\n");
    assert!(
        said.contains("`terminationGracePeriodSeconds` is 100 at least: `drain.budget` of the ConfigMap sidestream"),
        "{said}"
    );
    assert_eq!(spec(&round_trip(&with("30s")))["terminationGracePeriodSeconds"], 40);
    let again = injected(&long.replace("budget: 90s", "budget: 2m")).said.join("\n");
    assert!(again.contains("warning: `terminationGracePeriodSeconds` is 100, and should be 130"), "{again}");
    let empty = injected(&with("90s").replace("sidestream.yaml:", "other.yaml:")).said.join("\n");
    assert!(empty.contains("ConfigMap sidestream: it has no key `sidestream.yaml`"), "{empty}");
}
