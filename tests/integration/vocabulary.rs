//! Tests of the fixtures without the product: a fault here is not the sidecar's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::cutter::Cutter;
use crate::support::http::{Call, Connection};
use crate::support::upstream::Upstream;
use crate::support::websocket::{CLOSE, FIN, PING, PONG, TEXT};

/// Sends these bytes on every connection, and closes it.
fn canned(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(answer);
        }
    });
    address
}

#[test]
fn the_broker_reports_the_ids_of_records() {
    let broker = Broker::start(&[("orders", 1), ("spread", 4)]);
    assert_eq!(broker.order("a"), "orders:0:0");
    assert_eq!(broker.orders("a", 3), ["orders:0:1", "orders:0:2", "orders:0:3"]);
    assert_eq!(broker.produce("spread", 3, Some("key"), None), "spread:3:0");
    let large = vec![b'x'; 10 * 1024 * 1024];
    assert_eq!(broker.produce("spread", 0, None, Some(&large)), "spread:0:0");
}

#[test]
fn the_broker_goes_down_and_recovers() {
    let broker = Broker::start(&[("orders", 1)]);
    broker.order("a");
    broker.down();
    broker.up();
    assert_eq!(broker.order("a"), "orders:0:1");
}

#[test]
fn the_upstream_echoes_and_keeps_connections() {
    let upstream = Upstream::start();
    let mut connection = Connection::open(upstream.address);
    for n in 1..=2 {
        connection.write(&Call::new(upstream.address, "POST", "/echo?x=1").body("hello").bytes());
        let answer = connection.answer();
        assert_eq!(answer.json()["body"], "hello");
        assert_eq!(upstream.count("POST /echo?x=1"), n);
    }
    connection.write(b"PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n");
    assert_eq!(connection.answer().json()["body"], "hello!");
    assert_eq!((upstream.seen().connections, upstream.seen().body_bytes), (1, 16));
}

#[test]
fn the_upstream_waits_for_its_release() {
    let upstream = Upstream::start();
    let mut stream = Call::new(upstream.address, "GET", "/sse").sse();
    assert_eq!(stream.event().data.as_deref(), Some("first"));
    upstream.release();
    assert_eq!(stream.event().data.as_deref(), Some("second"));
    assert!(stream.rest().is_empty());
}

#[test]
fn the_upstream_misbehaves_on_request() {
    let upstream = Upstream::start();
    let mut connection = Connection::open(upstream.address);
    connection.write(&Call::new(upstream.address, "GET", "/close").bytes());
    assert!(connection.ended());
    let (head, mut body) = Call::new(upstream.address, "GET", "/partial").open();
    assert_eq!(head.status, 200);
    assert_eq!(body.next().unwrap().unwrap(), b"ten bytes.");
    assert!(body.next().is_err());
    let mut tunnel = Call::new(upstream.address, "GET", "/tunnel").raw_websocket();
    tunnel.connection.write(b"anything");
    assert_eq!(tunnel.connection.exactly(8).unwrap(), b"anything");
}

#[test]
fn the_sse_reader_sees_every_field() {
    let address = canned(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 5\nid: a:0:1\n\n: hi\n\nevent: x\ndata: {\ndata: }\n\n",
    );
    let mut stream = Call::new(address, "GET", "/").sse();
    let priming = stream.record().unwrap();
    assert_eq!((priming.retry, priming.id.as_deref(), priming.data), (Some(5), Some("a:0:1"), None));
    assert_eq!(stream.record().unwrap().comments, ["hi"]);
    let event = stream.record().unwrap();
    assert_eq!((event.event.as_deref(), event.data.as_deref()), (Some("x"), Some("{\n}")));
    assert!(stream.record().is_none());
    assert_eq!(stream.last_id.as_deref(), Some("a:0:1"));
}

#[test]
fn the_readers_distinguish_a_cut_from_an_end() {
    let whole =
        canned(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"id\":1}\r\n2\r\n\n\n\r\n0\r\n\r\n");
    let mut stream = Call::new(whole, "GET", "/").ndjson();
    assert_eq!(stream.line().as_deref(), Some("{\"id\":1}"));
    assert_eq!(stream.line().as_deref(), Some(""));
    assert!(stream.line().is_none() && !stream.cut);
    let cut = canned(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"id\"");
    let mut stream = Call::new(cut, "GET", "/").ndjson();
    assert!(stream.line().is_none() && stream.cut);
}

#[test]
fn the_cutter_cuts_at_the_given_byte() {
    let upstream = Upstream::start();
    let cutter = Cutter::start(upstream.address, &[40]);
    let mut connection = Connection::open(cutter.address);
    connection.write(&Call::new(cutter.address, "GET", "/echo").bytes());
    assert_eq!(connection.exactly(40).unwrap().len(), 40);
    assert!(connection.ended());
    assert_eq!(cutter.cuts(), 1);
    assert_eq!(Call::new(cutter.address, "GET", "/echo").send().status(), 200);
}

#[test]
fn the_websocket_clients_speak_to_an_independent_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut server = tungstenite::accept(socket).unwrap();
                let event = r#"{"id":"orders:0:1","type":"event","data":{}}"#;
                server.send(tungstenite::Message::text(event)).unwrap();
                while let Ok(message) = server.read() {
                    if let Ok(text) = message.to_text()
                        && let Ok(command) = serde_json::from_str::<serde_json::Value>(text)
                    {
                        let response = serde_json::json!({"type": "response", "inReplyTo": command["id"]});
                        server.send(tungstenite::Message::text(response.to_string())).unwrap();
                    }
                }
            });
        }
    });
    let mut polite = Call::new(address, "GET", "/ws").websocket();
    polite.ask(serde_json::json!({"command": "ping"}));
    assert_eq!(polite.ids(1), ["orders:0:1"]);
    assert_eq!(polite.close(1000), 1000);
    let mut raw = Call::new(address, "GET", "/ws").raw_websocket();
    assert_eq!(raw.json()["id"], "orders:0:1");
    raw.send(FIN | PING, b"are you there");
    assert_eq!(raw.frame_of(PONG).payload, b"are you there");
    raw.send(FIN | TEXT, &[b' '; 70_000]);
    raw.send(FIN | CLOSE, &1000u16.to_be_bytes());
    assert_eq!(raw.closed(), 1000);
}

/// Serves one event on each of two connections. The first one is cut within a second record, and the second one must
/// resume after the first event. Returns the address.
fn two_connections(answers: [String; 2], resumes_with: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (n, answer) in answers.into_iter().enumerate() {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut bytes = [0; 1024];
                let count = socket.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..count]);
            }
            let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
            if n == 1 && !request.contains(resumes_with) {
                return;
            }
            socket.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

/// The response head, a priming record if any, an event, and half of another one in an unfinished chunk.
fn cut_answer(content_type: &str, whole: &str, half: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}\r\nfff\r\n{half}",
        whole.len()
    )
}

#[test]
fn the_sse_clients_resume_by_themselves() {
    for script in ["eventsource.cjs", "sseclient_reader.py"] {
        let first = "retry: 50\n\nid: orders:0:0\ndata: {\"id\":\"orders:0:0\"}\n\n";
        let second = "id: orders:0:1\ndata: {\"id\":\"orders:0:1\"}\n\n";
        let answers = [first, second].map(|whole| cut_answer("text/event-stream", whole, "id: orders:0:9\ndata: {"));
        let address = two_connections(answers, "last-event-id: orders:0:0\r\n");
        let client = Client::start(script, &[&format!("http://{address}/events"), "2"]);
        client.await_open();
        assert_eq!(client.ids(2), ["orders:0:0", "orders:0:1"], "{script}");
    }
}

#[test]
fn the_ndjson_client_resumes_by_itself() {
    let lines = [0, 1].map(|n| format!("{{\"id\":\"orders:0:{n}\",\"cursor\":\"c:0:{n}\",\"type\":\"t\"}}\n"));
    let answers = lines.map(|line| cut_answer("application/x-ndjson", &line, "{\"id\":\"orders:0:9\""));
    let address = two_connections(answers, "since=c%3a0%3a0 ");
    let client = Client::start("ndjson_reader.py", &[&format!("http://{address}/stream"), "2"]);
    client.await_open();
    assert_eq!(client.ids(2), ["orders:0:0", "orders:0:1"]);
}

#[test]
#[allow(clippy::result_large_err)] // The signature of the callback is tungstenite's.
fn the_websocket_clients_resume_by_themselves() {
    for script in ["ws.cjs", "websockets_reader.py"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for n in 0..2 {
                let mut asked = String::new();
                let note = |request: &tungstenite::handshake::server::Request, response| {
                    asked = request.uri().to_string();
                    Ok(response)
                };
                let mut server = tungstenite::accept_hdr(listener.accept().unwrap().0, note).unwrap();
                assert_eq!(asked.ends_with("?since=c%3A0%3A0") || asked.ends_with("?since=c:0:0"), n == 1, "{asked}");
                let id = format!("orders:0:{n}");
                let event = serde_json::json!(
                    {"id": id, "cursor": format!("c:0:{n}"), "type": "event", "data": {"id": id, "type": "t"}}
                );
                server.send(tungstenite::Message::text(event.to_string())).unwrap();
                // Half of another frame, and the connection closes.
                server.get_mut().write_all(b"\x81\x7dhalf").unwrap();
            }
        });
        let client = Client::start(script, &[&format!("ws://{address}/ws"), "2"]);
        client.await_open();
        assert_eq!(client.ids(2), ["orders:0:0", "orders:0:1"], "{script}");
    }
}
