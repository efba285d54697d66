//! TLS for clients: streams and proxied requests by independent clients, certificates that change, and hostile
//! handshakes.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVersion};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::cutter::Cutter;
use crate::support::fixture::{Plan, STANDARD};
use crate::support::real_broker::make_certificates;
use crate::support::{DEADLINE, eventually_true};

const TLS: &str = "tls: { certificate: server.crt, key: server.key }";

/// An authority, and a certificate of 127.0.0.1 that it signed.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path());
        Self { folder }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// The standard fixture with its certificate.
    fn plan(&self, settings: &str) -> Plan {
        let plan = Plan::new(settings).with(TLS);
        plan.file("server.crt", self.read("server.crt")).file("server.key", self.read("server.key"))
    }

    fn curl(&self, address: SocketAddr, path: &str, arguments: &[&str]) -> Output {
        let url = format!("https://{address}{path}");
        let always = ["-sS", "--cacert", &self.file(), "--max-time", "30", &url];
        Command::new("curl").args(always).args(arguments).output().unwrap()
    }

    /// A connection of OpenSSL's client.
    fn connect(&self, socket: TcpStream) -> SslStream<TcpStream> {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_ca_file(self.file()).unwrap();
        connector.build().connect("127.0.0.1", socket).unwrap()
    }
}

#[track_caller]
fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn clients_of_every_transport_see_everything_once() {
    const EVENTS: usize = 100;
    let authority = Authority::new();
    for (script, scheme, path) in [
        ("eventsource.cjs", "https", "/events"),
        ("ws.cjs", "wss", "/ws"),
        ("websockets_reader.py", "wss", "/ws"),
        ("package.mjs", "https", "/stream"),
    ] {
        let fixture = authority.plan(STANDARD).build();
        // Within the handshake, and within a record.
        let cutter = Cutter::start(fixture.sidecar.listen, &[1_000, 6_789]);
        let url = format!("{scheme}://{}{path}", cutter.address);
        let client = Client::start_trusting(script, &[&url, &EVENTS.to_string()], Path::new(&authority.file()));
        client.await_open();
        // A cut record has nothing for its client, and npm's `eventsource` takes no position from a record without data.
        let first = fixture.broker.orders("o1", 1);
        assert_eq!(client.ids(1), first, "{script}");
        let rest = fixture.broker.orders("o1", EVENTS - 1);
        assert_eq!(client.ids(EVENTS - 1), rest, "{script}");
        assert_eq!(cutter.cuts(), 2, "{script}");
    }
}

/// Over HTTP/1.1, a browser opens six connections per host.
#[test]
fn twenty_streams_of_a_page_share_a_connection() {
    const STREAMS: usize = 20;
    const EVENTS: usize = 5;
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).build();
    let url = format!("https://{}/page", fixture.sidecar.listen);
    let page = Client::start("browser_http2.cjs", &[&url, &STREAMS.to_string(), &EVENTS.to_string()]);
    page.await_open();
    fixture.sidecar.await_metric("notifications_sse_active_connections", 20.0);
    let ids = fixture.broker.orders("o1", EVENTS);
    for _ in 0..STREAMS {
        assert_eq!(page.line()["ids"], json!(ids));
    }
    assert_eq!(page.line()["protocol"], "h2");
}

#[test]
fn streams_and_requests_use_http2_after_alpn() {
    const EVENTS: usize = 100;
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).build();
    let version = ["-o", "/dev/null", "-w", "%{http_version}"];
    assert_eq!(text(authority.curl(fixture.sidecar.listen, "/echo", &version)), "2");
    let http1 = [&version[..], &["--http1.1"]].concat();
    assert_eq!(text(authority.curl(fixture.sidecar.listen, "/echo", &http1)), "1.1");
    let cutter = Cutter::start(fixture.sidecar.listen, &[6_000, 8_000]);
    let url = format!("https://{}/stream", cutter.address);
    let client = Client::start_trusting("http2_reader.py", &[&url, &EVENTS.to_string()], Path::new(&authority.file()));
    client.await_open();
    let first = fixture.broker.orders("o1", 1);
    assert_eq!(client.ids(1), first);
    let rest = fixture.broker.orders("o1", EVENTS - 1);
    assert_eq!(client.ids(EVENTS - 1), rest);
    assert_eq!(cutter.cuts(), 2);
}

#[test]
fn proxied_requests_pass_in_both_directions() {
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).build();
    let upload = authority.folder.path().join("upload");
    fs::write(&upload, vec![b'u'; 3_000_000]).unwrap();
    let body = format!("@{}", upload.display());
    for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let answer = authority.curl(fixture.sidecar.listen, "/echo", &version);
        let echo: Value = serde_json::from_str(&text(answer)).unwrap();
        let headers = echo["headers"].as_array().unwrap();
        let is_https = |header: &Value| {
            header[0].as_str().unwrap().eq_ignore_ascii_case("x-forwarded-proto") && header[1] == "https"
        };
        assert!(headers.iter().any(is_https), "{echo}");
        for coding in ["Content-Type: text/plain", "Transfer-Encoding: chunked"] {
            let arguments = [&version[..], &["--data-binary", &body, "-H", coding]].concat();
            let echo: Value =
                serde_json::from_str(&text(authority.curl(fixture.sidecar.listen, "/echo", &arguments))).unwrap();
            assert_eq!(echo["bytes"], 3_000_000, "{version:?} {coding}");
        }
    }
    let old = authority.curl(
        fixture.sidecar.listen,
        "/echo",
        &["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "ALL:@SECLEVEL=0"],
    );
    assert!(!old.status.success(), "TLS 1.1 is too old");
    fixture.sidecar.await_metric("notifications_tls_handshakes_total{result=\"success\"}", 6.0);
    fixture.sidecar.await_metric("notifications_tls_handshakes_total{result=\"failed\"}", 1.0);
}

#[test]
fn an_upgrade_is_forwarded_to_the_service() {
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).build();
    let mut client = authority.connect(TcpStream::connect(fixture.sidecar.listen).unwrap());
    let head = "GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    client.write_all(b"ping").unwrap();
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"ping");
}

/// A frame in the record of the handshake has been decrypted before the writer takes the socket over.
#[test]
fn a_command_in_the_record_of_the_handshake_is_read() {
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).build();
    let mut client = authority.connect(TcpStream::connect(fixture.sidecar.listen).unwrap());
    let mut first = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let padding = "x".repeat(9_000);
    let command =
        json!({ "id": "m1", "type": "command", "data": { "command": "ping", "padding": padding } }).to_string();
    first.extend([0x81, 0x80 | 126]);
    first.extend(u16::try_from(command.len()).unwrap().to_be_bytes());
    // A mask of zeros.
    first.extend([0; 4]);
    first.extend(command.as_bytes());
    client.write_all(&first).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("\"inReplyTo\":\"m1\"") {
        let mut bytes = [0; 1024];
        let read = client.read(&mut bytes).unwrap();
        assert!(read > 0, "{received:?}");
        received.extend_from_slice(&bytes[..read]);
    }
}

#[test]
fn a_replaced_certificate_is_used_while_streams_continue() {
    let (before, after) = (Authority::new(), Authority::new());
    let mut fixture = before.plan(STANDARD).build();
    let url = format!("https://{}/stream", fixture.sidecar.listen);
    let mut stream =
        Command::new("curl").args(["-sSN", "--cacert", &before.file(), &url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    fixture.sidecar.await_metric("notifications_stream_active_connections", 1.0);
    assert!(!after.curl(fixture.sidecar.listen, "/echo", &[]).status.success());
    fixture.replace("server.key", &after.read("server.key"));
    fixture.replace("server.crt", &after.read("server.crt"));
    eventually_true("the new certificate", || after.curl(fixture.sidecar.listen, "/echo", &[]).status.success());
    let expiry = fixture.sidecar.admin("/metrics").text();
    assert!(expiry.contains("certificate_expiry_timestamp_seconds{cluster=\"\",file="), "{expiry}");
    let id = fixture.broker.order("o1");
    assert!(lines.any(|line| line.unwrap().contains(&id)));
    fixture.sidecar.terminate();
    assert!(stream.wait().unwrap().success(), "the stream ends as HTTP and TLS require");
}

#[test]
fn handshakes_that_do_not_end_affect_no_other_client() {
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).with("limits: { header_timeout: 2s }").build();
    // The first bytes of a handshake record of 512 bytes.
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut socket = TcpStream::connect(fixture.sidecar.listen).unwrap();
            socket.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
            socket
        })
        .collect();
    text(authority.curl(fixture.sidecar.listen, "/echo", &[]));
    let mut plain = TcpStream::connect(fixture.sidecar.listen).unwrap();
    plain.set_read_timeout(Some(DEADLINE)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let _ = plain.read_to_end(&mut Vec::new());
    for (result, count) in [("http", 1.0), ("timeout", 200.0), ("success", 1.0)] {
        fixture.sidecar.await_metric(&format!("notifications_tls_handshakes_total{{result=\"{result}\"}}"), count);
    }
    drop(slow);
}

#[test]
fn a_slow_reader_receives_a_gap_for_what_it_misses() {
    const EVENTS: usize = 1_500;
    let authority = Authority::new();
    let route = "streams:\n  orders: { topics: [orders], keys: [orderId] }\nroutes:\n  - { path: /stream, stream: orders, \
                 transport: ndjson, public: true, queue: { events: 32, bytes: 1MiB, overflow: drop-oldest } }\n";
    let fixture = authority.plan(route).build();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect_timeout(&fixture.sidecar.listen.into(), DEADLINE).unwrap();
    let mut client = authority.connect(socket.into());
    client.write_all(b"GET /stream HTTP/1.0\r\nHost: h\r\n\r\n").unwrap();
    read_head(&mut client);
    let data = "x".repeat(16 * 1024);
    let produce = |n: usize| {
        let order = json!({ "type": "order-created", "orderId": "o1", "data": { "n": n, "text": data } }).to_string();
        fixture.broker.produce("orders", 0, None, Some(order.as_bytes()))
    };
    let mut wanted: HashSet<String> = (0..EVENTS).map(produce).collect();
    eventually_true("events are dropped", || fixture.sidecar.metric_sum("notifications_events_dropped_total") > 0.0);
    let last = produce(EVENTS);
    wanted.insert(last.clone());
    let mut missed = 0;
    for line in BufReader::new(client).lines().map(Result::unwrap).filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_str(&line).unwrap();
        missed += message["missed"].as_u64().unwrap_or_default() as usize;
        if let Some(id) = message["id"].as_str() {
            assert!(wanted.remove(id), "{id} twice");
            if id == last {
                break;
            }
        }
    }
    assert!(missed > 0);
    assert_eq!(wanted.len(), missed);
}

#[test]
fn protocols_other_than_http_are_rejected() {
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).build();
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_ca_file(authority.file()).unwrap();
    connector.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
    connector.set_alpn_protos(b"\x04imap").unwrap();
    let socket = TcpStream::connect(fixture.sidecar.listen).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(connector.build().connect("127.0.0.1", socket).is_err());
    fixture.sidecar.await_metric("notifications_tls_handshakes_total{result=\"failed\"}", 1.0);
}

#[test]
fn a_silent_stream_of_the_service_has_heartbeats() {
    let authority = Authority::new();
    let fixture = authority.plan(STANDARD).upstream("streams: { heartbeat_interval: 1s }").build();
    let mut client = authority.connect(TcpStream::connect(fixture.sidecar.listen).unwrap());
    client.write_all(&fixture.get("/sse").bytes()).unwrap();
    let mut received = String::new();
    while !received.ends_with("0\r\n\r\n") {
        let mut bytes = [0; 1024];
        let read = client.read(&mut bytes).unwrap();
        received += std::str::from_utf8(&bytes[..read]).unwrap();
        if received.matches("\r\n: keep-alive\n\n\r\n").count() >= 2 {
            fixture.upstream.release();
        }
    }
    assert!(received.contains("data: first\n\n") && received.contains("data: second\n\n"), "{received:?}");
}

/// Reads up to the end of a response head.
fn read_head(client: &mut SslStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap(), 1, "{head:?}");
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}
