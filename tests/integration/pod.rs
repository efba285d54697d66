//! The life of a pod next to another one, with Apache Kafka: executes `k8s/sidecar.yaml` literally, and clients on all
//! transports miss no event.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::admin::Admin;
use crate::support::eventually_true;
use crate::support::fixture::Fixture;
use crate::support::real::{plan, shared};
use crate::support::returning::{Client, Load, PARTITIONS, Service, assert_exactly, open_streams, start_replica};
use crate::support::sidecar::{Sidecar, binary};
use crate::support::upstream::Upstream;

const CLIENTS: usize = 18;

#[test]
fn no_client_misses_an_event_over_the_life_of_a_pod() {
    let pod = Pod::read();
    // As in the manifest, and slow enough for events between the ends of two streams.
    let drain = format!("drain: {{ budget: {}s, reconnects_per_second: 6 }}", pod.budget.as_secs());
    let mut fixture = plan(shared(), &["pods"]).with(&drain).kafka("warm_up: 600s").unready().build();
    assert_eq!(fixture.sidecar.admin(pod.probe("startupProbe")).status(), 200, "it does not wait for Kafka");
    assert_eq!(fixture.sidecar.admin(pod.probe("readinessProbe")).reasons(), ["warming up"]);
    Admin::of(&shared().address).create_topic("pods", PARTITIONS, &[]);
    eventually_true("ready", || fixture.sidecar.admin(pod.probe("readinessProbe")).status() == 200);

    let other = start_replica(&fixture.config, "other");
    let is_terminating = Arc::new(AtomicBool::new(false));
    let clients = Client::start(CLIENTS, "", &service(&is_terminating, &fixture.sidecar, &other));
    let mut load = Load::new(&fixture.broker, "pods");
    eventually_true("all clients", || open_streams(&fixture.sidecar) == CLIENTS as f64);
    load.round();
    let events = (CLIENTS * load.wanted.len()) as f64;
    eventually_true("a cursor for each", || {
        fixture.sidecar.metric_sum("notifications_route_events_sent_total") == events
    });
    let requests = Requests::start(&fixture);

    // The pod terminates.
    let began = Instant::now();
    is_terminating.store(true, Ordering::Relaxed);
    let mut hook = pod.pre_stop(&fixture.sidecar);
    load.while_runs(&mut hook);
    // It still serves requests, since kube-proxy may have no other endpoint.
    assert_eq!(fixture.sidecar.admin(pod.probe("readinessProbe")).status(), 200);
    let said = String::from_utf8(hook.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.starts_with(&format!("drained: {CLIENTS} streams in ")) && said.ends_with("0 were cut\n"), "{said}");
    assert_eq!(fixture.sidecar.admin(pod.probe("livenessProbe")).status(), 200, "it is not killed for having drained");
    assert!(requests.stop() > 0, "requests were served until its end");
    end(&mut fixture.sidecar, &fixture.upstream);
    assert!(began.elapsed() < pod.grace_period, "{:?}", began.elapsed());

    eventually_true("all clients at the other", || {
        load.round();
        open_streams(&other) == CLIENTS as f64
    });
    let reconnects: f64 = ["sse", "stream", "ws"]
        .iter()
        .filter_map(|name| other.metric(&format!("notifications_{name}_reconnects_total")))
        .sum();
    assert_eq!(reconnects, CLIENTS as f64, "each came once, with its cursor");
    load.end();
    for client in clients {
        assert_exactly(&client.join().unwrap(), &load.wanted);
    }
}

/// Sends new streams to the pod until it terminates, and then to the other one: a terminating endpoint is never ready,
/// whatever its probe returns.
fn service(is_terminating: &Arc<AtomicBool>, one: &Sidecar, other: &Sidecar) -> Service {
    let (is_terminating, one, other) = (is_terminating.clone(), one.listen, other.listen);
    Arc::new(move || if is_terminating.load(Ordering::Relaxed) { other } else { one })
}

/// Ends it by SIGTERM during a request, which is completed.
fn end(sidecar: &mut Sidecar, upstream: &Upstream) {
    let held = sidecar.call("GET", "/hold");
    let request = thread::spawn(move || held.send());
    eventually_true("the request at the upstream", || upstream.count("GET /hold") == 1);
    sidecar.signal("TERM");
    upstream.release();
    assert_eq!(request.join().unwrap().status(), 200);
    assert_eq!(sidecar.wait().code(), Some(0));
}

/// Sequential ordinary requests, each of which the upstream must answer.
struct Requests {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Requests {
    fn start(fixture: &Fixture) -> Self {
        let (is_over, call) = (Arc::new(AtomicBool::new(false)), fixture.get("/echo"));
        let stop = is_over.clone();
        let thread = thread::spawn(move || {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(call.send().status(), 200);
                served += 1;
            }
            served
        });
        Self { is_over, thread }
    }

    /// The number of completed requests.
    fn stop(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The sidecar's part of `k8s/sidecar.yaml`.
struct Pod {
    sidecar: Value,
    grace_period: Duration,
    budget: Duration,
}

impl Pod {
    fn read() -> Self {
        let documents: Vec<Value> = include_str!("../../k8s/sidecar.yaml")
            .split("\n---\n")
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect();
        let kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
        let spec = &kind("Deployment")["spec"]["template"]["spec"];
        let containers = spec["initContainers"].as_array().unwrap();
        let sidecar = containers.iter().find(|container| container["name"] == "sidestream").unwrap();
        let text = kind("ConfigMap")["data"]["sidestream.yaml"].as_str().unwrap();
        let configuration: Value = serde_saphyr::from_str(text).unwrap();
        let budget = configuration["drain"]["budget"].as_str().unwrap().strip_suffix('s').unwrap();
        Self {
            sidecar: sidecar.clone(),
            grace_period: Duration::from_secs(spec["terminationGracePeriodSeconds"].as_u64().unwrap()),
            budget: Duration::from_secs(budget.parse().unwrap()),
        }
    }

    /// The path of a probe.
    fn probe(&self, name: &str) -> &str {
        self.sidecar[name]["httpGet"]["path"].as_str().unwrap()
    }

    /// Runs the preStop hook with the address of this admin listener.
    fn pre_stop(&self, sidecar: &Sidecar) -> Child {
        let command = &self.sidecar["lifecycle"]["preStop"]["exec"]["command"];
        let words: Vec<_> = command.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words[0], "sidestream");
        let port = self.sidecar["readinessProbe"]["httpGet"]["port"].as_u64().unwrap();
        let (there, here) = (format!("127.0.0.1:{port}"), sidecar.admin.to_string());
        let arguments: Vec<_> = words[1..].iter().map(|word| word.replace(&there, &here)).collect();
        assert!(arguments.iter().any(|argument| argument.contains(&here)), "the hook finds the listener: {words:?}");
        let mut command = binary(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}
