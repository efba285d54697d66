//! Environment variables in the configuration, as users see them.

use std::path::Path;
use std::process::Output;

use crate::support::sidecar::binary;

const FILE: &str = "\
upstream:
  address: ${REST_HOST:-127.0.0.1}:${REST_PORT} # ${COMMENT}
  retries: ${RETRIES:-3}
kafka:
  brokers: \"${KAFKA_BROKERS}\"
  properties:
    client.id: ${POD_NAME:-none}
metrics:
  prefix: ${METRICS_TOKEN}
";

const ENVIRONMENT: [(&str, &str); 4] =
    [("REST_PORT", "3000"), ("KAFKA_BROKERS", "k:9092"), ("METRICS_TOKEN", "hunter2"), ("POD_NAME", "hunter3")];

fn run(directory: &Path, arguments: &[&str], text: &str, without: &str) -> Output {
    let file = directory.join("x.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = binary(&[arguments, &["--config", file.to_str().unwrap()]].concat());
    command.current_dir(directory).env_clear();
    command.envs(ENVIRONMENT.into_iter().filter(|(name, _)| *name != without)).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_effective_configuration_has_the_values_of_variables() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["config", "effective"], FILE, "");
    let effective: serde_json::Value = serde_saphyr::from_str(text(&output.stdout)).unwrap();
    assert_eq!(effective["upstream"]["address"], "127.0.0.1:3000");
    assert_eq!(effective["upstream"]["retries"], 3);
    assert_eq!(effective["kafka"]["brokers"], "k:9092");
    assert_eq!(effective["metrics"]["prefix"], "(redacted)");
    assert!(!text(&output.stdout).contains("hunter"), "{effective}");
}

#[test]
fn check_lists_variables_without_values_that_may_be_secret() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["check", "--explain-env"], FILE, "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let file = directory.path().join("x.yaml");
    let expected = [
        "2:12: ${REST_HOST} is \"127.0.0.1\", the default",
        "2:36: ${REST_PORT} is \"3000\", from the environment",
        "3:12: ${RETRIES} is \"3\", the default",
        "5:13: ${KAFKA_BROKERS} is \"k:9092\", from the environment",
        "7:16: ${POD_NAME} is (redacted), from the environment",
        "9:11: ${METRICS_TOKEN} is (redacted), from the environment",
    ]
    .map(|line| format!("{}:{line}", file.display()));
    let lines: Vec<&str> = text(&output.stdout).lines().take(expected.len()).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_variable_that_is_not_set_is_an_error_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["check"], FILE, "REST_PORT");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("x.yaml:2:36: the environment variable `REST_PORT` is not set"), "{said}");
    assert!(said.contains("     2 |   address: ${REST_HOST:-127.0.0.1}:${REST_PORT}"), "{said}");
}

#[test]
fn secrets_do_not_come_from_variables() {
    let directory = tempfile::tempdir().unwrap();
    let text_of_file = FILE.replace("client.id: ${POD_NAME:-none}", "ssl.key.password: ${METRICS_TOKEN}");
    let output = run(directory.path(), &["check"], &text_of_file, "");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("x.yaml:7:23: `ssl.key.password` is a secret and cannot come from an"), "{said}");
    assert!(!said.contains("hunter"), "{said}");
}
