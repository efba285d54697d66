//! The configuration from outside: exit codes, and mistakes told with their place.

use std::path::Path;
use std::process::Output;

use crate::support::house::STANDARD;
use crate::support::sidecar::binary;
use crate::support::token;

const GOOD: &str = "upstream: { address: 127.0.0.1:3000 }\nkafka: { brokers: 127.0.0.1:9092 }\n";

#[test]
fn a_good_file_is_a_0() {
    let output = check(&format!("{GOOD}{STANDARD}"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_bad_file_is_a_1_and_says_where() {
    let bad: &[(&str, &[&str])] = &[
        ("streams: [unclosed", &["sidestream.yaml"]),
        ("upstraem: { address: a:1 }", &["upstraem", "sidestream.yaml:3"]),
        ("drain: { budget: 10 }", &["budget"]),
        ("drain: { budget: soon }", &["budget", "soon"]),
        ("limits: { streams: -1 }", &["streams"]),
        ("streams:\n  a: { topics: [] }", &["topics"]),
        ("routes:\n  - { path: /a, stream: missing, transport: sse, public: true }", &["missing"]),
        (
            "streams:\n  a: { topics: [t] }\nroutes:\n  - { path: /a, stream: a, transport: smoke, public: true }",
            &["smoke"],
        ),
        (
            "streams:\n  a: { topics: [t] }\nroutes:\n  - { path: a, stream: a, transport: sse, public: true }",
            &["path"],
        ),
        ("metrics: { prefix: \"1 2\" }", &["prefix"]),
    ];
    for (mistake, words) in bad {
        let output = check(&format!("{GOOD}{mistake}\n"));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{mistake}: {said}");
        for word in *words {
            assert!(said.contains(word), "{mistake}: no {word:?} in {said}");
        }
    }
}

#[test]
fn a_stream_without_authentication_must_say_so() {
    let open = "streams:\n  a: { topics: [t] }\nroutes:\n  - { path: /a, stream: a, transport: sse }\n";
    let output = check(&format!("{GOOD}{open}"));
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("public"), "{}", said(&output));
    assert_eq!(
        check(&format!("{GOOD}auth: {{ key_file: jwt.key, algorithms: [HS256] }}\n{open}")).status.code(),
        Some(0)
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let two = "streams:\n  a: { topics: [t] }\nroutes:\n  - { path: /a, stream: one, transport: sse, public: true }\n  - \
               { path: /b, stream: two, transport: sse, public: true }\n";
    let said = said(&check(&format!("{GOOD}{two}")));
    assert!(said.contains("one") && said.contains("two"), "{said}");
}

#[test]
fn a_mistake_is_shown_in_its_line() {
    let said = said(&check(&format!("{GOOD}drain: {{ bugdet: 1s }}\n")));
    assert!(said.contains("(did you mean `budget`?)"), "{said}");
    assert!(said.contains("     3 | drain: { bugdet: 1s }\n       |          ^^^^^^\n"), "{said}");
}

#[test]
fn what_is_found_can_be_had_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let check = |yaml: &str| {
        let file = write(directory.path(), yaml);
        let output = binary(&["check", "--config", &file, "--output", "json"]).output().unwrap();
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), found, file)
    };
    assert_eq!(check(GOOD).1, serde_json::json!([]));
    let (code, found, file) =
        check(&format!("{}drain: {{ budget: 10 }}\n", GOOD.replace(" }\n", ", required_for_readiness: true }\n")));
    assert_eq!(code, Some(1));
    let severities: Vec<_> = found.as_array().unwrap().iter().map(|one| one["severity"].as_str().unwrap()).collect();
    assert!(severities.contains(&"error") && severities.contains(&"warning"), "{found}");
    let budget = found.as_array().unwrap().iter().find(|one| one["line"] == 3).unwrap();
    assert_eq!((&budget["file"], &budget["column"]), (&file.into(), &18.into()));
    assert!(budget["expected"].as_str().unwrap().contains("a duration with its unit"), "{budget}");
    let nowhere = binary(&["check", "--config", "/nowhere.yaml", "--output", "json"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nowhere.stdout).starts_with(r#"[{"#));
}

#[test]
fn an_unreadable_file_is_a_2() {
    assert_eq!(binary(&["check", "--config", "/nowhere/at/all.yaml"]).output().unwrap().status.code(), Some(2));
    let directory = tempfile::tempdir().unwrap();
    let output = binary(&["check", "--config", directory.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "a directory: {}", said(&output));
}

#[test]
fn run_refuses_a_bad_file_before_it_serves() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &format!("{GOOD}nonsense: 1\n"));
    let output = binary(&["run", "--config", &file]).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready "));
    assert!(said(&output).contains("nonsense"), "{}", said(&output));
}

#[test]
fn secrets_are_never_told() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pw"), "hunter2secret\n").unwrap();
    let kafka = "kafka: { brokers: 127.0.0.1:1, property_files: { sasl.password: pw } }";
    let yaml = format!("upstream: {{ address: 127.0.0.1:1 }}\n{kafka}\nnonsense: 1\n{STANDARD}");
    let output = binary(&["check", "--config", &write(directory.path(), &yaml)]).output().unwrap();
    let said = said(&output);
    assert!(!said.contains("hunter2secret") && !said.contains(token::SECRET), "{said}");
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), GOOD);
    let output = binary(&["run", "--config", &file, "--listen", &address, "--admin", "127.0.0.1:0"]).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(said(&output).contains(&address), "{}", said(&output));
}

fn check(yaml: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), yaml);
    binary(&["check", "--config", &file]).output().unwrap()
}

fn write(directory: &Path, yaml: &str) -> String {
    let file = directory.join("sidestream.yaml");
    std::fs::write(directory.join("jwt.key"), token::SECRET).unwrap();
    std::fs::write(&file, yaml).unwrap();
    file.to_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
