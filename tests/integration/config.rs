//! The configuration as users see it: exit codes, and diagnostics with positions.

use std::path::Path;
use std::process::Output;

use crate::support::client::Client;
use crate::support::fixture::STANDARD;
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
        (
            "streams:\n  a: { topics: [t] }\nroutes:\n  - { path: /a, stream: a, public: true, on_gap: state }",
            &["on_gap", "has no state", "sidestream.yaml:6"],
        ),
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
fn all_errors_are_reported_at_once() {
    let two = "streams:\n  a: { topics: [t] }\nroutes:\n  - { path: /a, stream: one, transport: sse, public: true }\n  - \
               { path: /b, stream: two, transport: sse, public: true }\n";
    let said = said(&check(&format!("{GOOD}{two}")));
    assert!(said.contains("one") && said.contains("two"), "{said}");
}

#[test]
fn an_error_is_shown_in_its_line() {
    let said = said(&check(&format!("{GOOD}drain: {{ bugdet: 1s }}\n")));
    assert!(said.contains("(did you mean `budget`?)"), "{said}");
    assert!(said.contains("     3 | drain: { bugdet: 1s }\n       |          ^^^^^^\n"), "{said}");
}

#[test]
fn diagnostics_are_available_as_json() {
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
fn secrets_are_never_shown() {
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

/// Configurations that cannot run, each after the required keys, with the expected message.
const UNRUNNABLE: &[(&str, &str)] = &[
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1', properties: { security.protocol: SASL_SSL } }",
        "no Kafka client can be made",
    ),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1', properties: { ssl.ca.location: nowhere.pem } }",
        "nowhere.pem` cannot be read",
    ),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1', properties: { ssl.ca.location: /dev/null } }",
        "not a file, but a device",
    ),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1', properties: { ssl.truststore.location: x.jks } }",
        "use `ssl.ca.location`",
    ),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1', properties: { group.id: mine } }",
        "concerns consumer groups",
    ),
    ("upstream: { address: 'a:1' }\nkafka: { brokers: 'http://k:9092' }", "expected `host:port`"),
    ("upstream: { address: 'a:1' }\nkafka: { brokers: 'k:99999' }", "expected `host:port`"),
    ("upstream: { address: 'a:1' }\nkafka: { brokers: 'k:' }", "expected `host:port`"),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'SASL_SSL://k:1' }",
        "is another protocol than that of `security.protocol`",
    ),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1' }\nlisten: 0.0.0.0:1\nadmin: { listen: '127.0.0.1:1' }",
        "are the same port",
    ),
    (
        "upstream: { address: 'localhost:8080' }\nkafka: { brokers: 'k:1' }",
        "leads back to sidestream, which listens on 0.0.0.0:8080",
    ),
    ("upstream: { address: '127.0.0.1:9090' }\nkafka: { brokers: 'k:1' }", "leads to the admin listener"),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1' }\ntracing: { endpoint: 'http://127.0.0.1:8080' }",
        "`tracing.endpoint` (127.0.0.1:8080) leads back",
    ),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1' }\nstreams: { s: { topics: [t] } }\nroutes: [{ path: '/orders/*/events', stream: s, public: true }]",
        "is `{name}`",
    ),
    (
        "upstream: { address: 'a:1' }\nkafka: { brokers: 'k:1' }\nstreams: { s: { topics: [t] } }\nroutes: [{ path: '/orders/:id', stream: s, public: true }]",
        "is `{id}`",
    ),
    ("upstream: { address: 'REPLACE-a:1' }\nkafka: { brokers: 'k:1' }", "is a placeholder: replace it"),
];

#[test]
fn configurations_that_cannot_run_fail_check() {
    for (yaml, why) in UNRUNNABLE {
        let output = check(yaml);
        assert_eq!(output.status.code(), Some(1), "{yaml}: {}", said(&output));
        assert!(said(&output).contains(why), "{yaml}: {}", said(&output));
    }
}

#[test]
fn check_accepts_the_overrides_of_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "upstream: { address: '127.0.0.1:8080' }\nkafka: { brokers: 'k:1' }\n");
    let check = |more: &[&str]| binary(&[&["check", "--config", &file], more].concat()).output().unwrap().status.code();
    assert_eq!(check(&[]), Some(1));
    assert_eq!(check(&["--listen", "0.0.0.0:18080", "--admin", "0.0.0.0:19090"]), Some(0));
    assert_eq!(check(&["--listen", "0.0.0.0:18080", "--admin", "0.0.0.0:8080"]), Some(1));
    let by_port = binary(&["check", "--config", &file]).env("SIDESTREAM_UPSTREAM_PORT", "3000").output().unwrap();
    assert_eq!(by_port.status.code(), Some(0), "{}", said(&by_port));
}

#[test]
fn a_configuration_can_be_checked_without_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let text = "\
upstream: { address: '127.0.0.1:3000' }
kafka:
  brokers: k:1
  properties: { security.protocol: SASL_SSL, sasl.mechanism: PLAIN, sasl.username: u, ssl.ca.location: ca.pem }
  property_files: { sasl.password: password }
streams: { s: { topics: [t] } }
auth: { jwks_file: keys.json, algorithms: [RS256] }
routes: [{ path: /x, stream: s }]
";
    let file = write(directory.path(), text);
    let other = directory.path().join("other.yaml");
    std::fs::write(&other, text.replace("RS256", "ES256").replace("path: /x", "path: /y")).unwrap();
    let run = |words: &[&str], more: &[&str]| binary(&[words, more].concat()).output().unwrap();
    for (words, code) in [
        (&["check", "--config", &file][..], 0),
        (&["config", "effective", "--config", &file], 0),
        (&["config", "diff", &file, &file], 0),
        (&["config", "diff", &file, other.to_str().unwrap()], 1),
    ] {
        assert!(run(words, &[]).status.code() != Some(code) || code == 1, "{words:?} reads the files");
        let output = run(words, &["--without-secrets"]);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
    }
    let diff = run(&["config", "diff", &file, other.to_str().unwrap()], &["--without-secrets"]);
    assert!(said(&diff).contains("changed: auth") && said(&diff).contains("/y"), "{}", said(&diff));
    // Errors in the file itself are found nevertheless.
    let wrong = write(directory.path(), &text.replace("SASL_SSL", "SASL_SLS"));
    assert_eq!(run(&["check", "--config", &wrong], &["--without-secrets"]).status.code(), Some(1));
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

/// The required keys.
const LEAST: &str = "upstream: { address: 'a:1' }\nkafka: { brokers: 'a:1' }\n";

/// Malformed lines, each after `LEAST`.
const MISFORMED: &[&str] = &[
    "nonsense: 1",
    "listen: 8080",
    "listen: localhost:1",
    "writers: 0",
    "writers: 257",
    "limits: { streams: -1 }",
    "metrics: { prefix: 1a }",
    "drain: { budget: 5 }",
    "replay: { bytes: many }",
    "forwarded: { trust: some }",
    "streams: { s: {} }",
    "streams: { s: { topics: [] } }",
    "streams: { s: { topics: ['a b'] } }",
    "routes: {}",
    "routes: [{ path: /x }]",
    "clusters: { eu: {} }",
    "auth: { algorithms: [HS256] }",
    "auth: { key_file: jwt.key }",
    "auth: { key_file: jwt.key, jwks_file: jwt.key, algorithms: [HS256] }",
    "auth: { key_file: jwt.key, algorithms: [none] }",
    "auth: { issuers: [] }",
    "auth: { issuers: [{ key_file: jwt.key, algorithms: [HS256] }] }",
];

/// Malformed keys, on a route that is valid without them.
const MISFORMED_KEYS: &[&str] = &[
    "transport: tcp",
    "heartbeat_interval: 15",
    "queue: { events: 0 }",
    "queue: { overflow: drop }",
    "queue: 5",
    "bind: { k: sub }",
    "other_methods: drop",
    "max_streams: 1.5",
    "refresh: x",
    "allowed_origins: ['*']",
    "websocket: { message: 1kb }",
    "websocket: { subprotocols: ['a b'] }",
    "event: 5",
    "retries: 1",
];

#[test]
fn a_validator_and_check_agree_on_malformed_values() {
    let route = |keys: &str| {
        let streams = "streams: { s: { topics: [t], keys: [k] } }\n";
        format!("{LEAST}{streams}routes: [{{ path: /x, stream: s, {keys} }}]\n")
    };
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sidestream.yaml")).unwrap();
    let mut files = vec![(example, true), (LEAST.to_owned(), true), (route("public: true"), true)];
    files.extend(MISFORMED.iter().map(|line| (format!("{LEAST}{line}\n"), false)));
    files.extend(MISFORMED_KEYS.iter().map(|keys| (route(&format!("{keys}, public: true")), false)));
    let folder = tempfile::tempdir().unwrap();
    for (n, (text, _)) in files.iter().enumerate() {
        let value: serde_json::Value = serde_saphyr::from_str(text).unwrap();
        std::fs::write(folder.path().join(format!("{n:03}.json")), value.to_string()).unwrap();
    }
    let schema = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(schema.path(), binary(&["config", "schema"]).output().unwrap().stdout).unwrap();
    let validator = Client::start("schema.py", &[schema.path().to_str().unwrap(), folder.path().to_str().unwrap()]);
    assert_eq!(validator.line()["schema"], true);
    for (n, (text, is_good)) in files.iter().enumerate() {
        let wrong = validator.line()["wrong"].as_array().unwrap().clone();
        assert_eq!(wrong.is_empty(), *is_good, "the schema on {text}: {wrong:?}");
        // The example is validated in the directory of its keys.
        let is_checked = n == 0 || check(text).status.success();
        assert_eq!(is_checked, *is_good, "`check` on {text}");
    }
}

#[test]
fn a_configuration_is_shown_with_its_defaults_and_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &GOOD.replace("brokers:", "properties: { sasl.username: hunter2 }, brokers:"));
    let output = binary(&["config", "effective", "--config", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let shown: serde_json::Value = serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(shown["drain"]["budget"], "10s");
    assert_eq!(shown["kafka"]["properties"]["sasl.username"], "(redacted)");
    assert!(!shown.to_string().contains("hunter2"));
    assert_eq!(binary(&["config", "effective", "--config", "/nowhere"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn two_configurations_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let route = |keys: &str| {
        format!(
            "{LEAST}streams: {{ s: {{ topics: [t] }} }}\nroutes:\n  - {{ path: /auto, stream: s, public: true, {keys} }}\n"
        )
    };
    let before = write(directory.path(), &route(""));
    let diff = |text: &str| {
        let after = directory.path().join("after.yaml");
        std::fs::write(&after, text).unwrap();
        let output = binary(&["config", "diff", &before, after.to_str().unwrap()]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(diff(&route("")), (0, "nothing changed\n".into()));
    assert_eq!(diff(&route("retry: 1s")), (1, "routes changed: /auto\n".into()));
    assert_eq!(diff(&route("event: type")), (1, "routes changed: /auto\nstreams end: /auto (sse)\n".into()));
    assert_eq!(diff(&route("data: payload")), (1, "routes changed: /auto\nstreams end: /auto\n".into()));
    let (code, said) = diff(&format!("{}writers: 77\n", route("data: payload")));
    assert!(code == 1 && said.starts_with("needs a restart: writers; routes changed: /auto\na reload would"), "{said}");
    assert_eq!(diff("nonsense: 1").0, 2);
}
