//! The conformance tests of HTTP/2 (`make h2spec`), against proxied requests and a stream.

use std::path::Path;
use std::process::Command;

use crate::support::fixture::Fixture;

/// The port speaks HTTP/1.1 as well, and answers what is neither with 400. The test expects no answer.
const OTHER_PREFACE: &str = "Sends invalid connection preface";
/// These need a response that ends, that states its length, or that reads the body of its request.
const OF_OTHER_RESPONSES: [&str; 9] = [
    "Sends a second HEADERS frame without the END_STREAM flag",
    "Sends a PRIORITY frame on closed stream",
    "closed: Sends a DATA frame",
    "closed: Sends a HEADERS frame",
    "closed: Sends a CONTINUATION frame",
    "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE",
    "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame",
    "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame",
    "Sends a SETTINGS frame for window size to be negative",
];

/// The titles of the tests that fail for this path, without their numbers.
fn failures(fixture: &Fixture, path: &str) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/h2spec/h2spec");
    assert!(program.exists(), "`make h2spec` has not installed it");
    let address = fixture.sidecar.listen;
    let arguments = ["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-P", path, "-o", "5"];
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("145 tests,"), "{text}");
    let (_, listed) = text.split_once("Failures:").expect(&text);
    let titles = listed.lines().filter_map(|line| line.trim().strip_prefix("\u{d7} "));
    titles.map(|title| title.split_once(": ").unwrap().1.to_owned()).collect()
}

#[test]
fn proxied_requests_conform() {
    assert_eq!(failures(&Fixture::standard(), "/echo"), [OTHER_PREFACE]);
}

#[test]
fn streams_conform() {
    let failures = failures(&Fixture::standard(), "/events");
    let unexpected: Vec<_> = failures.iter().filter(|title| !OF_OTHER_RESPONSES.contains(&&***title)).collect();
    assert_eq!(unexpected, [OTHER_PREFACE]);
}
