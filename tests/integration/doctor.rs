//! `sidestream doctor` behind proxies with correct and with common wrong configurations.

use std::net::SocketAddr;
use std::process::Output;
use std::thread;

use serde_json::Value;

use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::hop::{HTTP11, Hop, UPGRADE};
use crate::support::sidecar::binary;

/// Longer than every timeout of the proxies here, and than the detection of buffering requires.
const DURATION: &str = "8s";
const WEBSOCKETS: &str = "upgrade_configs: [{ upgrade_type: websocket }]";

/// A path to the sidecar, and the codes of its problems.
struct Case {
    name: &'static str,
    hop: fn(SocketAddr) -> Hop,
    path: &'static str,
    problems: &'static [&'static str],
}

const fn case(
    name: &'static str,
    path: &'static str,
    problems: &'static [&'static str],
    hop: fn(SocketAddr) -> Hop,
) -> Case {
    Case { name, hop, path, problems }
}

const CASES: &[Case] = &[
    case("nginx, HTTP/1.1", "/events", &[], |to| Hop::nginx(to, HTTP11)),
    case("nginx, its defaults", "/stream", &["downgrade"], |to| Hop::nginx(to, "")),
    case("nginx, buffering on, X-Accel-Buffering heeded", "/stream", &[], |to| {
        Hop::nginx(to, &format!("{HTTP11} proxy_buffering on;"))
    }),
    // Chunks are forwarded at once; without framing, data waits until the buffer is full.
    case("nginx, buffering on, X-Accel-Buffering ignored", "/events", &[], |to| {
        Hop::nginx(to, &format!("{HTTP11} proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"))
    }),
    case("nginx, the same with HTTP/1.0", "/events", &["buffering"], |to| {
        Hop::nginx(to, "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;")
    }),
    case("nginx, gzip", "/events", &["compression"], |to| {
        Hop::nginx(to, &format!("{HTTP11} gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;"))
    }),
    case("nginx, proxy_read_timeout 3s", "/events", &["idle-cut"], |to| {
        Hop::nginx(to, &format!("{HTTP11} proxy_read_timeout 3s;"))
    }),
    case("nginx, Cache-Control hidden", "/events", &["headers"], |to| {
        Hop::nginx(to, &format!("{HTTP11} proxy_hide_header Cache-Control;"))
    }),
    case("nginx, upgrade", "/ws", &[], |to| Hop::nginx(to, UPGRADE)),
    case("nginx, no upgrade", "/ws", &["upgrade"], |to| Hop::nginx(to, HTTP11)),
    case("nginx, upgrade, proxy_read_timeout 3s", "/ws", &["idle-cut"], |to| {
        Hop::nginx(to, &format!("{UPGRADE} proxy_read_timeout 3s;"))
    }),
    case("HAProxy", "/events", &[], |to| Hop::haproxy(to, "")),
    case("HAProxy, WebSocket", "/ws", &[], |to| Hop::haproxy(to, "timeout tunnel 1h")),
    case("HAProxy, compression, which heeds no-transform", "/events", &[], |to| {
        Hop::haproxy(to, "filter compression\n compression algo gzip\n compression type text/event-stream")
    }),
    case("HAProxy, timeout server 3s", "/stream", &["idle-cut"], |to| Hop::haproxy(to, "timeout server 3s")),
    case("HAProxy, timeout tunnel 3s", "/ws", &["idle-cut"], |to| Hop::haproxy(to, "timeout tunnel 3s")),
    case("HAProxy, Upgrade deleted", "/ws", &["upgrade"], |to| Hop::haproxy(to, "http-request del-header upgrade")),
    case("Envoy, no timeouts", "/events", &[], |to| Hop::envoy(to, "stream_idle_timeout: 0s", "timeout: 0s")),
    case("Envoy, route timeout 3s", "/events", &["total-cap"], |to| {
        Hop::envoy(to, "stream_idle_timeout: 0s", "timeout: 3s")
    }),
    case("Envoy, stream_idle_timeout 3s", "/stream", &["idle-cut"], |to| {
        Hop::envoy(to, "stream_idle_timeout: 3s", "timeout: 0s")
    }),
    case("Envoy, upgrade", "/ws", &[], |to| Hop::envoy(to, WEBSOCKETS, "timeout: 0s")),
    case("Envoy, no upgrade_configs", "/ws", &["upgrade"], |to| Hop::envoy(to, "", "timeout: 0s")),
];

#[test]
fn problems_on_the_path_are_named() {
    let fixture = probed();
    let listen = fixture.sidecar.listen;
    let wrong: Vec<String> = thread::scope(|scope| {
        let examine = move |case: &'static Case| {
            let hop = (case.hop)(listen);
            let output = doctor(&format!("http://{}{}", hop.address, case.path), &[]);
            let expected_exit = i32::from(!case.problems.is_empty());
            let is_right = problems(&output) == case.problems && output.status.code() == Some(expected_exit);
            println!("{}: {}", case.name, String::from_utf8_lossy(&output.stdout).trim());
            (!is_right).then(|| format!("{}, expected {:?}: {output:?}", case.name, case.problems))
        };
        let running: Vec<_> = CASES.iter().map(|case| scope.spawn(move || examine(case))).collect();
        running.into_iter().filter_map(|case| case.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_origin_has_to_be_allowed() {
    let fixture = probed();
    let origin = ["--origin", "https://app.example"];
    let bare = doctor(&format!("http://{}/events", fixture.sidecar.listen), &origin);
    assert_eq!(problems(&bare), ["cors"]);
    let hop = Hop::nginx(
        fixture.sidecar.listen,
        &format!("{HTTP11} add_header Access-Control-Allow-Origin https://app.example; add_header Vary Origin;"),
    );
    assert_eq!(problems(&doctor(&format!("http://{}/events", hop.address), &origin)), [""; 0]);
}

#[test]
fn without_probes_an_ordinary_stream_is_examined() {
    let fixture = Fixture::standard();
    let output = doctor(&format!("http://{}/events", fixture.sidecar.listen), &[]);
    assert_eq!((problems(&output).len(), output.status.code()), (0, Some(0)), "{output:?}");
    assert!(codes(&output, false).contains(&"no-probe".to_owned()), "{output:?}");
    let refused = fixture.get("/events?probe=500ms").send();
    assert_eq!(refused.status(), 403);
    assert_eq!(fixture.sidecar.metric("notifications_streams_rejected_total{reason=\"probe\"}"), Some(4.0));
}

#[test]
fn a_probe_has_no_events_and_the_rules_of_its_route() {
    let fixture = probed();
    assert_eq!(fixture.get("/mine/events?probe=500ms").send().status(), 401);
    assert_eq!(fixture.get("/stream?probe=soon").send().status(), 400);
    let mut probe = fixture.get("/stream?probe=200ms&since=-1h").ndjson();
    fixture.broker.order("o1");
    for _ in 0..5 {
        let line: Value = serde_json::from_str(&probe.line().unwrap()).unwrap();
        assert_eq!((line["type"].as_str(), line["http"].as_str()), (Some("probe"), Some("1.1")), "{line}");
    }
}

#[test]
fn an_unreachable_server_is_distinguished() {
    let output = doctor("http://127.0.0.1:1/events", &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

fn probed() -> Fixture {
    Plan::new(STANDARD).with("probe: true").build()
}

fn doctor(url: &str, more: &[&str]) -> Output {
    binary(&["doctor", url, "--duration", DURATION, "--output", "json"]).args(more).output().unwrap()
}

fn problems(output: &Output) -> Vec<String> {
    codes(output, true)
}

/// The codes of the problems, or of the notes.
fn codes(output: &Output, problem: bool) -> Vec<String> {
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let verdicts = findings["verdicts"].as_array().unwrap().iter();
    let wanted = verdicts.filter(|verdict| verdict["problem"] == problem);
    wanted.map(|verdict| verdict["code"].as_str().unwrap().to_owned()).collect()
}
