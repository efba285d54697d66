//! The rules of docs/protocol.md as data: `tests/protocol/*.yaml`, run against the binary, or against any server
//! that is configured as `tests/protocol/server.yaml` says (`make protocol URL=... BROKERS=...`).

mod case;
mod matching;
mod run;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use crate::support::broker::Broker;
use crate::support::fixture::{Fixture, Plan};
use case::Case;
use run::Run;

const TOPICS: &[(&str, i32)] = &[("single", 1), ("spread", 4), ("text", 1), ("binary", 1)];
/// `http://host:port` of a running server, and the brokers that feed it.
const URL: &str = "SIDESTREAM_PROTOCOL_URL";
const BROKERS: &str = "SIDESTREAM_PROTOCOL_BROKERS";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocol")
}

fn cases(file: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(directory().join(file)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The server under test.
enum Server {
    Own(Box<Fixture>),
    Other(SocketAddr, Broker),
}

impl Server {
    fn start() -> Self {
        if let Ok(url) = std::env::var(URL) {
            let authority =
                url.trim_end_matches('/').strip_prefix("http://").expect("a URL of the form http://host:port");
            let address = authority.to_socket_addrs().unwrap().next().unwrap();
            return Self::Other(address, Broker::at(&std::env::var(BROKERS).expect(BROKERS)));
        }
        let settings = std::fs::read_to_string(directory().join("server.yaml")).unwrap();
        Self::Own(Box::new(Plan::new(settings).broker(Broker::start(TOPICS)).build()))
    }

    fn parts(&self) -> (SocketAddr, &Broker) {
        match self {
            Self::Own(fixture) => (fixture.sidecar.listen, &fixture.broker),
            Self::Other(address, broker) => (*address, broker),
        }
    }
}

/// Runs a file's cases in sequence, and reports all failures.
fn conforms(file: &str) {
    let server = Server::start();
    let (address, broker) = server.parts();
    let cases = cases(file);
    let failed: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Run::new(address, broker).all(case)));
            outcome.err().map(|_| format!("{file}: {} (docs/protocol.md{})", case.name, case.rule))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn server_sent_events() {
    conforms("sse.yaml");
}

#[test]
fn ndjson() {
    conforms("ndjson.yaml");
}

#[test]
fn framings_conform() {
    conforms("framings.yaml");
}

#[test]
fn websockets() {
    conforms("websocket.yaml");
}

#[test]
fn resuming() {
    conforms("resume.yaml");
}

#[test]
fn records() {
    conforms("records.yaml");
}

#[test]
fn requests() {
    conforms("requests.yaml");
}

/// A file that no test runs would contain unverified rules.
#[test]
fn every_file_runs_and_every_rule_exists() {
    let source = include_str!("mod.rs");
    let document = include_str!("../../../docs/protocol.md").to_lowercase();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".yaml") || name == "server.yaml" {
            continue;
        }
        assert!(source.contains(&format!("conforms(\"{name}\")")), "no test runs {name}");
        let mut names = std::collections::HashSet::new();
        for case in cases(&name) {
            assert!(names.insert(case.name.clone()), "{name}: two cases are named {:?}", case.name);
            let heading = case.rule.trim_start_matches('#').replace('-', " ");
            let found =
                document.lines().any(|line| line.starts_with('#') && line.replace('-', " ").ends_with(&heading));
            assert!(found, "{name}: {:?} names {}, which docs/protocol.md lacks", case.name, case.rule);
        }
    }
}

/// The matcher must be able to fail.
#[test]
fn a_wrong_item_does_not_match() {
    matching::tests();
}
