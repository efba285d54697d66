//! HTTP/2 for clients: after ALPN and by prior knowledge, streams and proxied requests on one connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::cutter::Cutter;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Call;
use crate::support::http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, WINDOW, frame, head};
use crate::support::raw_upstream::RawUpstream;
use crate::support::{DEADLINE, eventually_true};

/// `:status: 200` of the static table (RFC 7541 appendix A).
const STATUS_200: u8 = 0x88;

fn curl(address: SocketAddr, path: &str, arguments: &[&str]) -> Output {
    let url = format!("http://{address}{path}");
    Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "--max-time", "30", &url])
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn json(output: Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Follows a stream over HTTP/2.
fn follow(address: SocketAddr, path: &str) -> (Child, impl Iterator<Item = String>) {
    let url = format!("http://{address}{path}");
    let mut child =
        Command::new("curl").args(["-sSN", "--http2-prior-knowledge", &url]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

#[test]
fn proxied_requests_have_bodies_and_hosts() {
    let fixture = Fixture::standard();
    let echo = json(curl(fixture.sidecar.listen, "/echo", &["-H", "Host: shop.example", "--data-binary", "abc"]));
    assert_eq!((&echo["method"], &echo["body"]), (&"POST".into(), &"abc".into()));
    let hosts = echo["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field[0].as_str().unwrap().eq_ignore_ascii_case("host"));
    assert_eq!(hosts.map(|field| &field[1]).collect::<Vec<_>>(), ["shop.example"]);
}

/// The end of such a body is a frame without data. Written twice, the end of its coding would be the beginning of the next
/// request on the connection to the upstream.
#[test]
fn a_body_of_unknown_length_ends_once() {
    let (sender, received) = channel();
    let upstream = RawUpstream::start(move |_, socket| {
        let mut bytes = Vec::new();
        for end in [&b"0\r\n\r\n"[..], b"\r\n\r\n"] {
            let mut request = Vec::new();
            while !request.ends_with(end) {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            bytes.extend(request);
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        sender.send(String::from_utf8(bytes).unwrap()).unwrap();
    });
    let fixture = Plan::new(STANDARD).upstream(&upstream.key()).build();
    let mut upload = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-T", "-", &format!("http://{}/first", fixture.sidecar.listen)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    upload.stdin.take().unwrap().write_all(b"upload").unwrap();
    assert_eq!(upload.wait_with_output().unwrap().stdout, b"ok");
    assert_eq!(fixture.get("/second").send().status(), 200);
    let bytes = received.recv_timeout(DEADLINE).unwrap();
    assert!(bytes.starts_with("6\r\nupload\r\n0\r\n\r\nGET /second HTTP/1.1\r\n"), "{bytes:?}");
}

#[test]
fn large_bodies_pass_in_both_directions() {
    let fixture = Fixture::standard();
    let folder = tempfile::tempdir().unwrap();
    let upload = folder.path().join("upload");
    std::fs::write(&upload, vec![b'u'; 3_000_000]).unwrap();
    let body = format!("@{}", upload.display());
    let echo = json(curl(fixture.sidecar.listen, "/echo", &["--data-binary", &body]));
    assert_eq!(echo["bytes"], 3_000_000);
    let download = RawUpstream::start(|_, socket| {
        let _ = write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n");
        let _ = socket.write_all(&[b'd'; 3_000_000]);
    });
    let fixture = Plan::new(STANDARD).upstream(&download.key()).build();
    assert_eq!(curl(fixture.sidecar.listen, "/download", &[]).stdout, [b'd'; 3_000_000]);
}

/// An independent client, which is cut within its streams.
#[test]
fn a_client_that_is_cut_resumes_exactly() {
    const EVENTS: usize = 100;
    let fixture = Fixture::standard();
    let cutter = Cutter::start(fixture.sidecar.listen, &[1_000, 6_789]);
    let url = format!("http://{}/stream", cutter.address);
    let client = Client::start("http2_reader.py", &[&url, &EVENTS.to_string()]);
    client.await_open();
    // A frame that is cut has nothing for its client, which then has no position.
    let first = fixture.broker.orders("o1", 1);
    assert_eq!(client.ids(1), first);
    let rest = fixture.broker.orders("o1", EVENTS - 1);
    assert_eq!(client.ids(EVENTS - 1), rest);
    assert_eq!(cutter.cuts(), 2);
}

#[test]
fn streams_arrive_and_end_at_a_drain() {
    let mut fixture = Fixture::standard();
    let (mut sse, mut records) = follow(fixture.sidecar.listen, "/events");
    let (mut ndjson, mut lines) = follow(fixture.sidecar.listen, "/stream");
    fixture.sidecar.await_metric("notifications_sse_active_connections", 1.0);
    fixture.sidecar.await_metric("notifications_stream_active_connections", 1.0);
    let ids = fixture.broker.orders("o1", 300);
    for id in &ids {
        assert!(records.any(|line| line.starts_with("data:") && line.contains(&format!("{id}\""))), "{id}");
        assert!(lines.any(|line| line.contains(&format!("{id}\""))), "{id}");
    }
    fixture.sidecar.terminate();
    assert!(sse.wait().unwrap().success() && ndjson.wait().unwrap().success());
}

#[test]
fn a_client_that_leaves_frees_its_stream() {
    let fixture = Fixture::standard();
    let (mut child, _lines) = follow(fixture.sidecar.listen, "/events");
    fixture.sidecar.await_metric("notifications_sse_active_connections", 1.0);
    child.kill().unwrap();
    child.wait().unwrap();
    fixture.sidecar.await_metric("notifications_sse_active_connections", 0.0);
}

#[test]
fn a_refused_stream_is_a_problem() {
    let fixture = Fixture::standard();
    let refused = curl(fixture.sidecar.listen, "/mine/events", &["-D", "-"]);
    let text = String::from_utf8(refused.stdout).unwrap();
    assert!(text.starts_with("HTTP/2 401") && text.contains("application/problem+json"), "{text}");
}

/// Each wake-up sends one DATA frame, and the only one without data is the last.
#[test]
fn no_frame_is_empty_before_the_end() {
    let fixture = Plan::new(STANDARD).with("drain: { budget: 20s }").build();
    let mut client = Http2::connect(fixture.sidecar.listen, WINDOW);
    client.get(1, "/framed");
    client.until(HEADERS);
    let ids = fixture.broker.orders("o1", 20);
    let mut text = String::new();
    while !ids.iter().all(|id| text.contains(&format!("{id}\""))) {
        let frame = client.until(DATA);
        assert!(!frame.payload.is_empty());
        text += &String::from_utf8(frame.payload).unwrap();
    }
    let heartbeat = client.until(DATA).payload;
    assert!(!heartbeat.is_empty() && heartbeat.ends_with(b"\n"));
    // It ends at a record boundary, after the server has asked for no more requests.
    Call::of_admin(fixture.sidecar.admin, "POST", "/-/drain").send();
    let goaway = client.until(GOAWAY);
    assert_eq!(goaway.payload[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], "none of those in progress is refused");
    let mut last = client.until(DATA);
    while last.flags & END_STREAM == 0 {
        assert!(!last.payload.is_empty() && last.payload.ends_with(b"\n"));
        last = client.until(DATA);
    }
}

#[test]
fn an_idle_connection_is_asked_to_end() {
    let fixture = Plan::new(STANDARD).with("limits: { idle_timeout: 1s }").build();
    let mut client = Http2::connect(fixture.sidecar.listen, WINDOW);
    client.get(1, "/echo");
    client.until(DATA);
    // It does not acknowledge the ping that follows, and is closed nevertheless.
    assert_eq!(client.ended(), Some(0));
}

#[test]
fn connections_without_requests_are_evicted_and_those_with_streams_are_kept() {
    let fixture = Plan::new(STANDARD).with("limits: { connections: 4, streams: 4 }").build();
    let mut streaming = Http2::connect(fixture.sidecar.listen, WINDOW);
    streaming.get(1, "/stream");
    streaming.until(HEADERS);
    let idle: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Http2::connect(fixture.sidecar.listen, WINDOW);
            client.send(PING, 0, 0, &[7; 8]);
            client.until(PING);
            client
        })
        .collect();
    assert_eq!(fixture.get("/echo").send().status(), 200);
    assert_eq!(fixture.sidecar.metric("notifications_connections_evicted_total"), Some(1.0));
    let id = fixture.broker.order("o1");
    assert!(String::from_utf8(streaming.until(DATA).payload).unwrap().contains(&id));
    drop(idle);
}

/// Its requests count as connections do.
#[test]
fn requests_count_towards_the_limit_of_connections() {
    let fixture = Plan::new(STANDARD).with("limits: { connections: 4, streams: 4 }").build();
    let mut client = Http2::connect(fixture.sidecar.listen, WINDOW);
    for stream in [1, 3, 5] {
        client.get(stream, "/hold");
    }
    eventually_true("requests wait", || fixture.upstream.count("GET /hold") == 3);
    client.get(7, "/echo");
    let refused = client.until(DATA);
    assert!(refused.stream == 7 && String::from_utf8(refused.payload).unwrap().contains("limit of connections"));
    fixture.upstream.release();
    let mut answered = 0;
    while answered < 3 {
        let frame = client.until(DATA);
        answered += usize::from(frame.stream < 7 && frame.flags & END_STREAM > 0);
    }
}

#[test]
fn a_request_evicts_a_connection_that_waits_for_its_client() {
    let fixture = Plan::new(STANDARD).with("limits: { connections: 4, streams: 4 }").build();
    let silent: Vec<_> = (0..3).map(|_| TcpStream::connect(fixture.sidecar.listen).unwrap()).collect();
    let mut client = Http2::connect(fixture.sidecar.listen, WINDOW);
    client.get(1, "/echo");
    assert_eq!(client.until(HEADERS).payload[0], STATUS_200);
    assert_eq!(fixture.sidecar.metric("notifications_connections_evicted_total"), Some(1.0));
    drop(silent);
}

/// Not every client sends a request again that the end of the connection has overtaken.
#[test]
fn a_connection_that_is_opened_during_a_drain_gets_a_response() {
    let fixture = Plan::new(STANDARD).with("drain: { budget: 20s }").build();
    Call::of_admin(fixture.sidecar.admin, "POST", "/-/drain").send();
    let mut client = Http2::connect(fixture.sidecar.listen, WINDOW);
    client.send(PING, 0, 0, &[7; 8]);
    let before = std::iter::from_fn(|| client.frame()).find(|frame| matches!(frame.kind, PING | GOAWAY)).unwrap();
    assert_eq!(before.kind, PING);
    client.get(1, "/echo");
    assert_eq!(client.until(HEADERS).payload[0], STATUS_200);
    client.until(DATA);
    client.until(GOAWAY);
}

#[test]
fn an_upload_may_consist_of_small_frames() {
    const LINES: usize = 1000;
    let fixture = Fixture::standard();
    let mut client = Http2::connect(fixture.sidecar.listen, WINDOW);
    let mut post = head("/echo", "shop.example");
    post[0] = 0x83;
    let lines = frame(DATA, 0, 1, b"{\"line\":12}\n").repeat(LINES);
    client.send(HEADERS, END_HEADERS, 1, &post);
    client.socket.write_all(&[lines, frame(DATA, END_STREAM, 1, &[])].concat()).unwrap();
    assert_eq!(client.until(HEADERS).payload[0], STATUS_200);
    assert_eq!(serde_json::from_slice::<Value>(&client.until(DATA).payload).unwrap()["bytes"], 12 * LINES);
}
