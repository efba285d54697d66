//! `examples/` works as documented, without Docker: the same files with local addresses.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::client::installed;
use crate::support::eventually_true;
use crate::support::http::Call;
use crate::support::kubernetes::{failure, tool};
use crate::support::real_broker::free_port;
use crate::support::sidecar::{Sidecar, binary};

fn compose() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/compose")
}

/// The example's service, stopped when dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_configuration_of_the_compose_example_passes_check() {
    let config = compose().join("sidestream.yaml");
    let checked = binary(&["check", "--config", config.to_str().unwrap()]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn an_order_of_the_compose_example_arrives_as_an_event() {
    let broker = Broker::start(&[("orders", 3)]);
    let port = free_port();
    let service = Command::new(installed().join("venv/bin/python"))
        .arg(compose().join("service/service.py"))
        .env("BROKERS", broker.address())
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _service = Service(service);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sidestream.yaml");
    let text = std::fs::read_to_string(compose().join("sidestream.yaml")).unwrap();
    let text = text.replace("kafka:9092", &format!("\"{}\"", broker.address()));
    std::fs::write(&config, text.replace("127.0.0.1:3000", &format!("127.0.0.1:{port}"))).unwrap();
    let sidecar = Sidecar::run(&config);
    eventually_true("the service", || sidecar.call("GET", "/orders").send().status() == 200);
    eventually_true("/readyz", || sidecar.admin("/readyz").status() == 200);

    let page = sidecar.call("GET", "/").send();
    assert!(page.header("content-type").unwrap().starts_with("text/html") && page.text().contains("EventSource"));
    let mut events = sidecar.call("GET", "/orders/events").sse();
    let placed = sidecar.call("POST", "/orders").body("tea").send();
    assert_eq!(placed.status(), 201, "{}", placed.text());
    let event = events.event().json();
    let got = ["/type", "/orderId", "/data/item"].map(|at| event.pointer(at).and_then(Value::as_str));
    assert_eq!(got, [Some("order-created"), placed.json()["orderId"].as_str(), Some("tea")]);
    let target = format!("/orders/{}/events", placed.json()["orderId"].as_str().unwrap());
    assert_eq!(Call::new(sidecar.listen, "GET", &target).sse().head.status, 200);
}

/// By the parser of Docker Compose itself.
#[test]
fn the_compose_file_is_valid_and_mounts_files_that_exist() {
    let file = project("compose.yaml");
    let services = file["services"].as_object().unwrap();
    let mounts = services.values().filter_map(|service| service["volumes"].as_array()).flatten();
    let sources: Vec<&str> = mounts.map(|mount| mount["source"].as_str().unwrap()).collect();
    assert!(sources.len() >= 7, "{sources:?}");
    sources.iter().for_each(|source| assert!(Path::new(source).exists(), "{source}"));

    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("compose.yaml");
    std::fs::write(&wrong, "services: { a: { image: b, readonly: true } }").unwrap();
    let output = Command::new(tool("bin/compose")).arg(&wrong).output().unwrap();
    assert!(failure(&output).contains("services.a.readonly"), "{output:?}");
}

#[test]
fn prometheus_of_the_compose_example_scrapes_sidestream_for_the_alerts() {
    let read = |name: &str| -> Value {
        serde_saphyr::from_str(&std::fs::read_to_string(compose().join(name)).unwrap()).unwrap()
    };
    let (prometheus, config, file) = (read("prometheus.yaml"), read("sidestream.yaml"), project("compose.yaml"));
    let scrape = &prometheus["scrape_configs"][0];
    assert_eq!(scrape["job_name"], "sidestream");
    let (host, port) = scrape["static_configs"][0]["targets"][0].as_str().unwrap().split_once(':').unwrap();
    assert_eq!(file["services"]["sidestream"]["network_mode"], format!("service:{host}"));
    assert_eq!(config["admin"]["listen"], format!("0.0.0.0:{port}"));
    let mounts = file["services"]["prometheus"]["volumes"].as_array().unwrap();
    let rules = format!("/etc/prometheus/{}", prometheus["rule_files"][0].as_str().unwrap());
    assert!(mounts.iter().any(|mount| mount["target"] == rules), "{rules}");
}

/// A compose file as Docker Compose understands it.
fn project(file: &str) -> Value {
    let mut parser = Command::new(tool("bin/compose"));
    let output = parser.args(["--format", "json", file]).current_dir(compose()).output().unwrap();
    assert_eq!(failure(&output), "");
    serde_json::from_slice(&output.stdout).unwrap()
}
