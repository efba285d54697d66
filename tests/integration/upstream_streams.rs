//! Streams that the upstream sends: heartbeats while it is silent, and nothing else changes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};

use crate::support::client::Client;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::{Body, Call};
use crate::support::raw_upstream::RawUpstream;
use crate::support::slow::deaf;
use crate::support::{DEADLINE, eventually_true};

const SSE: &str = "Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n";
const NDJSON: &str = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";
/// Keys of the `upstream` section.
const EACH_SECOND: &str = "streams: { heartbeat_interval: 1s }";
const EARLY: &str = "streams: { heartbeat_interval: 1s, paths: [{ path: \"/early/{n}\", early: true }] }";
const HEARTBEATS: &str = "notifications_upstream_stream_heartbeats_total{format=\"sse\"}";

/// A response: the fields of its head, the first part of its body, and the rest after the gate was opened.
#[derive(Clone)]
struct Script {
    status: &'static str,
    fields: &'static str,
    first: Vec<u8>,
    rest: Vec<u8>,
    /// Whether the head comes after the gate was opened, too.
    is_late: bool,
    /// Whether the connection ends without the end of the body.
    is_cut: bool,
}

impl Script {
    fn new(fields: &'static str, first: impl AsRef<[u8]>, rest: impl AsRef<[u8]>) -> Self {
        let (first, rest) = (first.as_ref().to_vec(), rest.as_ref().to_vec());
        Self { status: "200 OK", fields, first, rest, is_late: false, is_cut: false }
    }

    fn late(self) -> Self {
        Self { is_late: true, ..self }
    }

    fn cut(self) -> Self {
        Self { is_cut: true, ..self }
    }

    fn status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }
}

#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap();
        let _ = self.opened.wait_timeout_while(is_open, DEADLINE * 3, |is_open| !*is_open).unwrap();
    }
}

/// A sidecar before an upstream that responds to `/N` by the script of this number, and to other
/// paths by the first one.
struct Service {
    fixture: Fixture,
    gate: Arc<Gate>,
    _upstream: RawUpstream,
}

impl Service {
    fn start(scripts: Vec<Script>, keys: &str) -> Self {
        let gate = Arc::new(Gate::default());
        let for_responses = gate.clone();
        let upstream = RawUpstream::start(move |head, socket| {
            read_body(head, socket);
            let path = head.split(' ').nth(1).unwrap();
            let script = &scripts[path.rsplit('/').next().unwrap().parse::<usize>().unwrap_or(0)];
            let is_chunked = script.fields.contains("chunked");
            let part = |bytes: &[u8]| match bytes.len() {
                0 => Vec::new(),
                len if is_chunked => [format!("{len:x}\r\n").as_bytes(), bytes, b"\r\n"].concat(),
                _ => bytes.to_vec(),
            };
            let head = format!("HTTP/1.1 {}\r\n{}\r\n", script.status, script.fields);
            if script.is_late {
                for_responses.pass();
            }
            let _ = socket.write_all(&[head.as_bytes(), &part(&script.first)].concat());
            for_responses.pass();
            let end: &[u8] = if is_chunked && !script.is_cut { b"0\r\n\r\n" } else { b"" };
            let _ = socket.write_all(&[&part(&script.rest), end].concat());
        });
        let keys = format!("{}, {keys}", upstream.key());
        Self { fixture: Plan::new(STANDARD).upstream(&keys).build(), gate, _upstream: upstream }
    }

    fn get(&self, number: usize) -> Call {
        self.fixture.get(&format!("/{number}"))
    }

    fn metric(&self, series: &str) -> f64 {
        self.fixture.sidecar.metric(series).unwrap_or(0.0)
    }

    /// Waits until a silent stream has had this many heartbeats: then every other one has had time for one.
    fn await_heartbeats(&self, count: usize) {
        eventually_true("heartbeats", || self.metric(HEARTBEATS) >= count as f64);
    }
}

fn read_body(head: &str, socket: &mut TcpStream) {
    let field = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; field.unwrap_or(0)];
    let _ = socket.read_exact(&mut body);
}

fn rest(body: &mut Body) -> Vec<u8> {
    std::iter::from_fn(|| body.next().expect("the proper end")).flatten().collect()
}

/// A stream without its heartbeats, and how many those were.
fn without(heartbeat: &str, stream: &[u8]) -> (Vec<u8>, usize) {
    let text = String::from_utf8(stream.to_vec()).unwrap();
    (text.replace(heartbeat, "").into_bytes(), text.matches(heartbeat).count())
}

#[test]
fn a_silent_stream_has_heartbeats() {
    let service = Service::start(vec![Script::new(SSE, "", "data: late\n\n")], EACH_SECOND);
    let (head, mut body) = service.get(0).open();
    assert_eq!((head.status, head.header("x-accel-buffering"), head.header("content-length")), (200, Some("no"), None));
    for _ in 0..2 {
        assert_eq!(body.next().unwrap().unwrap(), b": keep-alive\n\n");
    }
    service.gate.open();
    let (passed, _) = without(": keep-alive\n\n", &rest(&mut body));
    assert_eq!(passed, b"data: late\n\n");
    assert_eq!(service.metric("notifications_upstream_streams_total{format=\"sse\"}"), 1.0);
}

#[test]
fn records_pass_unchanged_cut_at_every_byte() {
    let streams = [
        "id: 1\ndata: a\n: note\ndata\n\n: note\n\n:\nid\n\n",
        "\u{feff}data: \u{e9}\r\n\r\nid\r\n\r\n",
        "id\r\rid\r\r",
    ];
    let heartbeats = [": keep-alive\n\n", ": keep-alive\r\n\r\n", ": keep-alive\r\r"];
    let cuts = streams
        .iter()
        .zip(heartbeats)
        .flat_map(|(stream, heartbeat)| (0..=stream.len()).map(move |cut| (stream.as_bytes(), heartbeat, cut)));
    let cuts: Vec<_> = cuts.collect();
    let scripts = cuts.iter().map(|(stream, _, cut)| Script::new(SSE, &stream[..*cut], &stream[*cut..]));
    let scripts: Vec<_> = scripts.chain([Script::new(SSE, "", "")]).collect();
    let service = Service::start(scripts, EACH_SECOND);
    let mut bodies: Vec<_> = (0..cuts.len()).map(|number| service.get(number).open().1).collect();
    let mut last = service.get(cuts.len()).open().1;
    for _ in 0..2 {
        last.next().unwrap().unwrap();
    }
    service.gate.open();
    let mut sent = 0;
    for ((stream, heartbeat, cut), body) in cuts.iter().zip(&mut bodies) {
        let received = rest(body);
        let (mut passed, mut count) = without(heartbeat, &received);
        if !is_boundary(&stream[..*cut]) {
            assert_eq!(count, 0, "within a record: {:?}", String::from_utf8_lossy(&received));
        } else if count == 0 {
            // How lines end is not known before the first one.
            (passed, count) = without(heartbeats[0], &received);
            assert!(count > 0, "no heartbeat at {cut}: {:?}", String::from_utf8_lossy(&received));
        }
        let mark = "\u{feff}".as_bytes();
        let expected = if count > 0 && *cut == 0 { stream.strip_prefix(mark).unwrap_or(stream) } else { stream };
        assert_eq!(passed, expected, "{cut}: {:?}", String::from_utf8_lossy(&received));
        sent += count;
    }
    assert!(sent > 0);
}

/// Whether a record has ended here, by its definition rather than by a parser.
fn is_boundary(stream: &[u8]) -> bool {
    let ends = ["\n\n", "\r\n\r\n", "\r\r"].iter().any(|end| stream.ends_with(end.as_bytes()));
    let is_after_comment = [&b"\n\n: note\n"[..], b"\n\n:\n"].iter().any(|end| stream.ends_with(end));
    ends || is_after_comment || stream == "\u{feff}".as_bytes() || stream.is_empty()
}

#[test]
fn ndjson_has_heartbeats_where_a_path_says_so() {
    let lines = "{\"a\":1}\n{\"a\":2}\n";
    let scripts = vec![Script::new(NDJSON, &lines[..8], &lines[8..]); 2];
    let service = Service::start(
        scripts,
        "streams: { heartbeat_interval: 1s, paths: [{ path: \"/lines/{n}\", heartbeat: all }] }",
    );
    let mut silent = service.get(0).open().1;
    let mut beating = service.fixture.get("/lines/1").open().1;
    assert_eq!(beating.next().unwrap().unwrap(), lines.as_bytes()[..8]);
    for _ in 0..2 {
        assert_eq!(beating.next().unwrap().unwrap(), b"\n");
    }
    service.gate.open();
    assert_eq!(rest(&mut silent), lines.as_bytes());
    assert!(rest(&mut beating).ends_with(&lines.as_bytes()[8..]));
}

#[test]
fn responses_that_cannot_have_heartbeats_pass_untouched() {
    let encoded = "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n";
    let counted = "Content-Type: text/event-stream\r\nContent-Length: 8\r\n";
    let digest = "Content-Type: text/event-stream\r\nContent-Digest: sha-256=:aQ==:\r\nTransfer-Encoding: chunked\r\n";
    let bodyless = "Content-Type: text/event-stream\r\n";
    let scripts = vec![
        Script::new(encoded, "\x1f\n\n", "end"),
        Script::new(counted, "id\n\n", "id\n\n"),
        Script::new(digest, "id\n\n", "id\n\n"),
        Script::new(SSE, "id\n\n", "id\n\n").status("206 Partial Content"),
        Script::new(SSE, "<p>\n\n", "</p>\n\n"),
        Script::new(bodyless, "", "").status("204 No Content"),
        Script::new(bodyless, "", "").status("304 Not Modified"),
        Script::new(SSE, "", ""),
        Script::new(SSE, "", ""),
    ];
    let service = Service::start(scripts.clone(), EACH_SECOND);
    let mut bodies: Vec<_> = (0..5).map(|number| service.get(number).open().1).collect();
    let _silent = service.get(8).open();
    service.await_heartbeats(2);
    service.gate.open();
    for (script, body) in scripts.iter().zip(&mut bodies) {
        assert_eq!(rest(body), [&*script.first, &*script.rest].concat());
    }
    for number in [5, 6] {
        assert_eq!(service.get(number).send().body, b"");
    }
    assert_eq!(service.fixture.call("HEAD", "/7").send().body, b"");
    for reason in ["encoded", "length", "range", "digest", "malformed"] {
        let series = format!("notifications_upstream_streams_untouched_total{{reason=\"{reason}\"}}");
        assert_eq!(service.metric(&series), 1.0, "{reason}");
    }
    assert_eq!(service.metric("notifications_upstream_streams_total{format=\"sse\"}"), 6.0);
}

#[test]
fn a_body_without_chunks_has_heartbeats() {
    let service =
        Service::start(vec![Script::new("Content-Type: text/event-stream\r\n", "id\n\n", "id\n\n")], EACH_SECOND);
    let (head, mut old) = service.get(0).http10().open();
    assert_eq!(head.header("transfer-encoding"), None);
    let mut new = service.get(0).open().1;
    service.await_heartbeats(4);
    service.gate.open();
    for body in [&mut old, &mut new] {
        let (passed, count) = without(": keep-alive\n\n", &rest(body));
        assert_eq!(passed, b"id\n\nid\n\n");
        assert!(count > 0);
    }
}

#[test]
fn a_client_that_does_not_read_has_no_heartbeats_ahead() {
    const FLOOD: usize = 8 * 1024 * 1024;
    let records = "data: x\n\n".repeat(FLOOD / 9);
    let service = Service::start(vec![Script::new(SSE, &records, ""), Script::new(SSE, "", "")], EACH_SECOND);
    let (_, mut slow) = deaf(&service.fixture, service.get(0));
    let mut silent = service.get(1).open().1;
    for _ in 0..3 {
        silent.next().unwrap().unwrap();
    }
    service.gate.open();
    let (passed, count) = without(": keep-alive\n\n", &rest(&mut slow));
    assert_eq!((passed.len(), count), (records.len(), 0));
}

#[test]
fn a_silent_stream_outlives_the_read_timeout() {
    let scripts = vec![Script::new(SSE, "", "id\n\n"); 2];
    let keys = "read_timeout: 1500ms, streams: { heartbeat_interval: 1s, paths: [{ path: /long/1 }] }";
    let service = Service::start(scripts, keys);
    let accepting = service.get(0).header("Accept", "text/html, text/event-stream;q=0.5").open().1;
    let on_path = service.fixture.get("/long/1").open().1;
    let mut short = service.get(0).open().1;
    while short.next().is_ok_and(|bytes| bytes.is_some()) {}
    service.gate.open();
    for mut body in [accepting, on_path] {
        assert!(rest(&mut body).ends_with(b"id\n\n"));
    }
}

#[test]
fn the_connection_of_a_stream_serves_the_next_request() {
    let plain = "Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n";
    let scripts = vec![Script::new(SSE, "", "id\n\n"), Script::new(plain, "ok", ""), Script::new(plain, "", "ok")];
    let service = Service::start(scripts, EACH_SECOND);
    let (_, mut body) = service.get(0).open();
    body.connection.write(&service.get(1).bytes());
    service.await_heartbeats(2);
    service.gate.open();
    assert!(rest(&mut body).ends_with(b"id\n\n"));
    assert_eq!(body.connection.answer().text(), "ok", "it was sent ahead");
    body.connection.write(&service.get(2).bytes());
    assert_eq!(body.connection.answer().text(), "ok");
}

/// The data of the only event of a stream that has failed, without heartbeats.
fn failure(body: &mut Body) -> serde_json::Value {
    let (stream, _) = without(": keep-alive\n\n", &rest(body));
    let text = String::from_utf8(stream).unwrap();
    let data = text.strip_prefix("event: error\ndata: ").and_then(|data| data.strip_suffix("\n\n"));
    serde_json::from_str(data.unwrap_or_else(|| panic!("{text:?}"))).unwrap()
}

#[test]
fn a_response_may_begin_before_the_upstreams() {
    let scripts = vec![Script::new(SSE, "id\n\n", "data: x\n\n").late()];
    let service = Service::start(scripts, EARLY);
    let call = service.fixture.call("POST", "/early/0").header("Accept-Encoding", "gzip").body("{}");
    let (head, mut body) = call.open();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(body.next().unwrap().unwrap(), b": keep-alive\n\n");
    service.gate.open();
    assert_eq!(without(": keep-alive\n\n", &rest(&mut body)).0, b"id\n\ndata: x\n\n");
    assert_eq!(service.metric("notifications_upstream_streams_total{format=\"sse\"}"), 1.0);
}

#[test]
fn failures_after_an_early_response_are_events() {
    let json = "Content-Type: application/json; charset=utf-8\r\nContent-Length: 12\r\n";
    let scripts = vec![
        Script::new(json, "{\"code\":", "\"x\"}").status("429 Too Many Requests"),
        Script::new("Content-Length: 0\r\n", "", "").status("503 Service Unavailable"),
        Script::new("Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n", "<p>", "</p>"),
        Script::new(SSE, "", "").cut(),
        Script::new(SSE, "data: whole\n\ndata: cu", "t").cut(),
        Script::new("X: y\r\n", "", "").status("HTTP/1.1"),
    ];
    let service = Service::start(scripts, EARLY);
    let mut bodies: Vec<_> = (0..6).map(|number| service.fixture.get(&format!("/early/{number}")).open().1).collect();
    service.gate.open();
    let refused = failure(&mut bodies[0]);
    assert_eq!((&refused["status"], &refused["response"]["code"]), (&429.into(), &"x".into()), "{refused}");
    assert_eq!(failure(&mut bodies[1])["status"], 503);
    let html = failure(&mut bodies[2]);
    assert_eq!((&html["status"], html.get("response")), (&502.into(), None));
    assert_eq!(failure(&mut bodies[3])["status"], 502, "at a boundary");
    let cut = &mut bodies[4];
    while cut.next().is_ok_and(|part| part.is_some()) {}
    assert!(cut.connection.ended(), "within a record");
    assert_eq!(failure(&mut bodies[5])["status"], 502, "no response");
}

#[test]
fn responses_without_a_stream_do_not_begin_early() {
    let plain = "Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n";
    let service = Service::start(vec![Script::new(plain, "ok", "").status("201 Created")], EARLY);
    service.gate.open();
    let get = service.fixture.get("/early/0");
    assert_eq!(service.fixture.call("HEAD", "/early/0").send().status(), 201);
    assert_eq!(get.clone().http10().send().status(), 201);
    let post = service.fixture.call("POST", "/early/0").header("Expect", "100-continue").body("{}");
    assert_eq!(post.send().status(), 201);
    assert_eq!(service.get(0).send().status(), 201);
}

#[test]
fn the_openai_client_reads_a_silent_stream() {
    let chunk =
        |text: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let scripts = vec![Script::new(SSE, chunk("hel"), chunk("lo") + "data: [DONE]\n\n")];
    let service = Service::start(scripts, EACH_SECOND);
    let client = Client::start("openai.cjs", &[&format!("http://{}/v1", service.fixture.sidecar.listen)]);
    assert_eq!(client.line()["text"], "hel");
    service.await_heartbeats(2);
    service.gate.open();
    assert_eq!((client.line()["text"].as_str(), client.line()["done"].as_bool()), (Some("lo"), Some(true)));
}

#[test]
fn the_mcp_client_calls_a_slow_tool() {
    let server = Client::start("mcp_server.cjs", &[]);
    let port = server.line()["port"].as_u64().unwrap();
    let keys = format!("address: \"127.0.0.1:{port}\", {EACH_SECOND}");
    let fixture = Plan::new(STANDARD).upstream(&keys).build();
    let client = Client::start("mcp_client.cjs", &[&format!("http://{}/mcp", fixture.sidecar.listen)]);
    assert_eq!(client.line()["progress"], 1);
    eventually_true("heartbeats", || fixture.sidecar.metric(HEARTBEATS).unwrap_or(0.0) >= 2.0);
    assert_eq!(fixture.get("/release").send().status(), 200);
    assert_eq!(client.line()["text"], "finished");
}
