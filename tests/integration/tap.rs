//! `sidestream tap`: its output, its reconnects, and its exit codes.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::cutter::Cutter;
use crate::support::fixture::Fixture;
use crate::support::hop::{HTTP11, Hop};
use crate::support::sidecar::binary;
use crate::support::token;

const EVENTS: usize = 100;
/// Bytes from the server until each cut, which is within a record.
const CUTS: &[usize] = &[2_345, 3_456];
const OPEN: &str = "notifications_sse_active_connections";

#[test]
fn sse_is_followed_over_cuts() {
    is_followed("/events", &[]);
}

#[test]
fn ndjson_is_followed_over_cuts() {
    is_followed("/stream", &["--transport", "ndjson"]);
}

#[test]
fn framings_are_followed_over_cuts() {
    for transport in ["length", "json-seq", "json-array"] {
        is_followed("/auto", &["--transport", transport]);
    }
}

#[test]
fn websockets_are_followed_over_cuts() {
    is_followed("/ws", &["--transport", "ws"]);
}

/// Prints every event once over a network that cuts twice within a record.
#[track_caller]
fn is_followed(path: &str, more: &[&str]) {
    let fixture = Fixture::standard();
    let before = settled(&fixture);
    let wanted = fixture.broker.orders("o1", EVENTS);
    let cutter = Cutter::start(fixture.sidecar.listen, CUTS);
    let url = format!("http://{}{path}", cutter.address);
    let mut tap = tap(&url, &["--raw", "--since", &before, "--stats", "--max", "100"]);
    let output = tap.args(more).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(ids(&output), wanted);
    assert_eq!(cutter.cuts(), CUTS.len());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("reconnecting in") && said.contains("100 events, "), "{said}");
    assert!(said.trim_end().ends_with(wanted.last().unwrap()), "{said}");
}

#[test]
fn a_token_is_read_from_a_file() {
    let fixture = Fixture::standard();
    let file = fixture.config.with_file_name("token");
    std::fs::write(&file, format!("{}\n", token::of("ann"))).unwrap();
    let url = format!("http://{}/mine/stream", fixture.sidecar.listen);
    let flags = ["--raw", "--max", "2", "--token-file", file.to_str().unwrap()];
    let child = tap(&url, &flags).stdout(Stdio::piped()).spawn().unwrap();
    fixture.sidecar.await_metric("notifications_stream_active_connections", 1.0);
    let id = fixture.broker.notice("ann");
    fixture.broker.notice("bob");
    let last = fixture.broker.notice("ann");
    assert_eq!(ids(&child.wait_with_output().unwrap()), [id, last]);
    let refused = tap(&url, &["--header", "Authorization: Bearer nonsense"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
fn tls_requires_a_trusted_certificate() {
    let fixture = Fixture::standard();
    let before = settled(&fixture);
    let wanted = fixture.broker.order("o1");
    let hop = Hop::nginx_tls(fixture.sidecar.listen, HTTP11);
    let url = format!("https://{}/events", hop.address);
    let flags = ["--raw", "--since", &before, "--max", "1"];
    let trusting = tap(&url, &flags).env("SSL_CERT_FILE", hop.authority()).output().unwrap();
    assert_eq!((trusting.status.code(), ids(&trusting)), (Some(0), vec![wanted]), "{trusting:?}");
    let strange = tap(&url, &flags).output().unwrap();
    assert_eq!(strange.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&strange.stderr).contains("certificate verify failed"), "{strange:?}");
}

#[test]
fn a_gap_is_printed_among_the_events() {
    let fixture = Fixture::standard();
    let url = format!("http://{}/events", fixture.sidecar.listen);
    // No record was ever there.
    let flags = ["--raw", "--since", "orders:0:999", "--max", "1"];
    let child = tap(&url, &flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fixture.sidecar.await_metric("notifications_gaps_total{cause=\"truncated\"}", 1.0);
    let id = fixture.broker.order("o1");
    let output = child.wait_with_output().unwrap();
    let printed = printed(&output);
    assert_eq!((printed[0]["type"].as_str(), printed[1]["id"].as_str()), (Some("gap"), Some(&*id)), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("a gap: "), "{output:?}");
}

#[test]
fn events_are_printed_with_every_digit() {
    let fixture = Fixture::standard();
    let before = settled(&fixture);
    let value = br#"{"type":"t","data":{"amount":12345678901234567890.10}}"#;
    fixture.broker.produce("orders", 0, None, Some(value));
    // The second path is a WebSocket, which tap detects.
    for path in ["/bare/events", "/bare/ws"] {
        let url = format!("http://{}{path}", fixture.sidecar.listen);
        let output = tap(&url, &["--since", &before, "--max", "1"]).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed, "{\n  \"amount\": 12345678901234567890.10\n}\n", "{output:?}");
    }
}

#[test]
fn exit_codes() {
    let mut fixture = Fixture::standard();
    let url = |path: &str| format!("http://{}{path}", fixture.sidecar.listen);
    let code = |output: Output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(code(tap(&url("/mine/events"), &[]).output().unwrap()).0, Some(1));
    assert_eq!(code(tap("http://127.0.0.1:1/", &[]).output().unwrap()).0, Some(2));
    assert_eq!(code(tap("nonsense", &[]).output().unwrap()).0, Some(2));
    let cutter = Cutter::start(fixture.sidecar.listen, &[220]);
    let cut = tap(&format!("http://{}/events", cutter.address), &["--once"]).output().unwrap();
    assert_eq!(code(cut).0, Some(3));
    let ended = tap(&url("/events"), &["--once"]).stderr(Stdio::null()).spawn().unwrap();
    fixture.sidecar.await_metric(OPEN, 1.0);
    fixture.sidecar.terminate();
    assert_eq!(ended.wait_with_output().unwrap().status.code(), Some(0));
}

/// An event that every writer has, as a resume position.
fn settled(fixture: &Fixture) -> String {
    let id = fixture.broker.order("before");
    fixture.settle("/events", std::slice::from_ref(&id));
    id
}

fn tap(url: &str, flags: &[&str]) -> Command {
    let mut command = binary(&["tap", url]);
    command.args(flags);
    command
}

fn ids(output: &Output) -> Vec<String> {
    printed(output).iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()).collect()
}

fn printed(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_path_that_is_not_a_stream_is_reported_at_once() {
    let fixture = Fixture::standard();
    let url = format!("http://{}/echo", fixture.sidecar.listen);
    let output = tap(&url, &["--max", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not a stream: the response is 200"), "{said}");
    let output = binary(&["doctor", &url, "--duration", "30s"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the response is not a stream"), "{said}");
}
