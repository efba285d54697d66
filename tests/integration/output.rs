//! A command whose output cannot be written fails.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::eventually_true;
use crate::support::fixture::Fixture;
use crate::support::sidecar::binary;

/// The documented exit code.
const UNWRITABLE: Option<i32> = Some(74);

const CONFIGURATION: &str = "upstream: { address: '127.0.0.1:1' }\nkafka: { brokers: 'k:9092' }\n";
const INGRESS: &str = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: a, annotations: { \
                       nginx.ingress.kubernetes.io/proxy-read-timeout: '3600' } }\n";

/// Commands with their standard input; each writes to standard output, and exits.
fn commands(folder: &Path) -> Vec<(Vec<String>, &'static str)> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(folder.join("a.yaml"), CONFIGURATION).unwrap();
    std::fs::write(folder.join("b.yaml"), format!("{CONFIGURATION}writers: 3\n")).unwrap();
    let (a, b) = (path("a.yaml"), path("b.yaml"));
    let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    vec![
        (words(&["--help"]), ""),
        (words(&["--version"]), ""),
        (words(&["help", "run"]), ""),
        (words(&["check", "--config", &a]), ""),
        (words(&["check", "--config", &a, "--output", "json"]), ""),
        (words(&["config", "effective", "--config", &a]), ""),
        (words(&["config", "diff", &a, &b]), ""),
        (words(&["config", "schema"]), ""),
        (words(&["import-ingress"]), INGRESS),
        (words(&["inject"]), "a: b"),
        (words(&["inject", "--print", "policy"]), ""),
        (words(&["inject", "--print", "component"]), ""),
        (words(&["inject", "--print", "helm"]), ""),
        (words(&["completions", "bash"]), ""),
    ]
}

fn run(mut command: Command, input: &str) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command without input may have exited.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_full_disk_is_reported_as_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    for (words, input) in commands(folder.path()) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = binary(&words);
        command.stdout(full());
        let (code, said) = run(command, input);
        assert_eq!(code, UNWRITABLE, "{words:?}: {said}");
        assert!(said.contains("the output cannot be written: No space left on device"), "{words:?}: {said}");
    }
}

#[test]
fn a_closed_pipe_is_a_silent_failure() {
    let folder = tempfile::tempdir().unwrap();
    for (words, input) in commands(folder.path()) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = binary(&words);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        let (code, said) = run(command, input);
        assert_eq!(code, UNWRITABLE, "{words:?}: {said}");
        assert!(!said.contains("cannot be written"), "{words:?}: {said}");
    }
}

#[test]
fn a_failed_write_to_standard_error_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("x.yaml");
    std::fs::write(&wrong, "nonsense: 1\n").unwrap();
    for (words, input) in [(vec!["import-ingress"], INGRESS), (vec!["check", "--config", wrong.to_str().unwrap()], "")]
    {
        let mut child = binary(&words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(full()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        assert_eq!(child.wait().unwrap().code(), UNWRITABLE, "{words:?}");
    }
}

#[test]
fn commands_that_follow_a_process_fail_too() {
    let fixture = Fixture::standard();
    let url = format!("http://{}/stream", fixture.sidecar.listen);
    let mut tap = binary(&["tap", &url]).stdout(full()).stderr(Stdio::null()).spawn().unwrap();
    let mut code = None;
    eventually_true("an event that cannot be printed", || {
        fixture.broker.order("o1");
        code = tap.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), UNWRITABLE);
    let admin = fixture.sidecar.admin.to_string();
    for words in [
        &["doctor", &url, "--duration", "1s"][..],
        &["explain", "--admin", &admin, "--route", "/stream"],
        &["drain", "--admin", &admin],
    ] {
        let mut command = binary(words);
        command.stdout(full());
        let (code, said) = run(command, "");
        assert_eq!(code, UNWRITABLE, "{words:?}: {said}");
    }
}
