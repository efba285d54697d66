//! The proxy on the wire: heads and tunnels of hostile upstreams and clients, and the log about them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use socket2::SockRef;

use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::{Call, Connection, Head};
use crate::support::raw_upstream::RawUpstream;
use crate::support::token;

const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi";

fn before(upstream: &RawUpstream) -> Plan {
    Plan::new(STANDARD).upstream(&upstream.key())
}

/// All bytes until the connection ends.
fn all(fixture: &Fixture, request: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(fixture.sidecar.listen).unwrap();
    socket.write_all(request).unwrap();
    let mut bytes = Vec::new();
    // A reset ends it as well as a close does.
    let _ = socket.read_to_end(&mut bytes);
    bytes
}

fn text(fixture: &Fixture, request: &str) -> String {
    String::from_utf8(all(fixture, request.replace('\n', "\r\n").as_bytes())).unwrap()
}

/// The response to a GET of this path, the last one on its connection.
fn get(fixture: &Fixture, path: &str) -> String {
    text(fixture, &format!("GET {path} HTTP/1.1\nHost: a\nConnection: close\n\n"))
}

#[test]
fn sidestream_writes_nothing_into_a_tunnel() {
    let resetting = RawUpstream::start(|_, socket| {
        socket.write_all(SWITCH).unwrap();
        // After the client has the frame; otherwise the frame could be lost with the connection.
        let _ = socket.read(&mut [0; 4]);
        SockRef::from(&*socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    let silent = RawUpstream::start(|_, socket| {
        socket.write_all(SWITCH).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    for (upstream, speaks) in [(resetting, true), (silent, false)] {
        let fixture = Plan::new(STANDARD).upstream(&format!("{}, read_timeout: 300ms", upstream.key())).build();
        let mut tunnel = fixture.get("/tunnel").raw_websocket();
        assert_eq!(tunnel.connection.exactly(4).as_deref(), Some(&SWITCH[SWITCH.len() - 4..]));
        if speaks {
            tunnel.connection.write(b"ping");
        }
        assert!(tunnel.connection.ended());
    }
}

#[test]
fn a_switch_to_another_protocol_is_refused() {
    let answers = vec![
        &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nsmuggled"[..],
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nsmuggled",
    ];
    let numbers = 0..answers.len();
    let fixture = before(&RawUpstream::saying(answers)).build();
    for n in numbers {
        let answer =
            text(&fixture, &format!("GET /{n} HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n"));
        assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("smuggled"), "{answer}");
    }
}

/// Java's client requests `h2c` by default, and so does `curl --http2`.
#[test]
fn an_upgrade_to_anything_else_is_not_passed_on() {
    let fixture = Fixture::standard();
    let mut connection = Connection::open(fixture.sidecar.listen);
    let asks = "GET /echo/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\nGET /echo/2 HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.write(asks.as_bytes());
    let seen = connection.answer().json();
    let names: Vec<_> = seen["headers"].as_array().unwrap().iter().map(|field| field[0].as_str().unwrap()).collect();
    let is_hop = |name: &&str| ["upgrade", "http2-settings", "connection"].contains(&&*name.to_ascii_lowercase());
    assert_eq!((&seen["target"], names.iter().any(is_hop)), (&"/echo/1".into(), false), "{names:?}");
    assert_eq!(connection.answer().json()["target"], "/echo/2", "the connection goes on");
}

#[test]
fn hop_by_hop_and_framing_fields_are_not_forwarded() {
    let answers: &[(&str, &'static [u8], &[&str])] = &[
        (
            "interim and final",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\
              Transfer-Encoding: chunked\r\nKeep-Alive: t\r\nUpgrade: h2c\r\n\r\nHTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\n\
              Trailer: X\r\nTE: gzip\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok",
            &["HTTP/1.1 103", "link: x", "HTTP/1.1 200", "x-end: 1", "content-length: 2", "date", "connection: close"],
        ),
        (
            "no content",
            b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nTransfer-Encoding: identity\r\n\r\n",
            &["HTTP/1.1 204", "date", "connection: close"],
        ),
        (
            "equal lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok",
            &["HTTP/1.1 200", "content-length: 2", "date", "connection: close"],
        ),
        (
            "a length on the list of the hop",
            b"HTTP/1.0 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok",
            &["HTTP/1.1 200", "content-length: 2", "date", "connection: close"],
        ),
    ];
    let fixture = before(&RawUpstream::saying(answers.iter().map(|(_, answer, _)| *answer).collect())).build();
    for (n, (case, _, expected)) in answers.iter().enumerate() {
        let answer = get(&fixture, &format!("/{n}"));
        let heads = answer.trim_end_matches("ok").lines().filter(|line| !line.is_empty());
        let lines: Vec<String> = heads
            .map(|line| match line.split_once(' ') {
                Some((version, rest)) if version.starts_with("HTTP/") => format!("{version} {}", &rest[..3]),
                Some((name, _)) if name.eq_ignore_ascii_case("date:") => "date".to_owned(),
                _ => line.to_ascii_lowercase(),
            })
            .collect();
        assert_eq!(lines, *expected, "{case}");
    }
}

#[test]
fn trailers_are_dropped_and_bodies_end_before_them() {
    // Responds with the bytes of the body, as they came, in a chunk with a trailer.
    let upstream = RawUpstream::start(|_, socket| {
        let (mut body, mut byte) = (Vec::new(), [0]);
        while !(body.ends_with(b"\r\n\r\n") && body.windows(5).any(|bytes| bytes == b"\r\n0\r\n")) {
            socket.read_exact(&mut byte).unwrap();
            body.push(byte[0]);
        }
        let body = body.escape_ascii().to_string();
        let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        write!(socket, "{head}{:x}\r\n{body}\r\n0\r\nX-Sum: 1\r\n\r\n", body.len()).unwrap();
    });
    let fixture = before(&upstream).build();
    let head = "POST /echo HTTP/1.1\nHost: a\nConnection: close\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n";
    let answer = text(&fixture, &format!("{head}2\nok\n0\nX-Sum: 1\n\n"));
    assert!(answer.contains(r"2\r\nok\r\n0\r\n\r\n"), "the request's trailer: {answer}");
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "the response's trailer: {answer}");
    assert!(!answer.to_ascii_lowercase().contains("trailer"), "{answer}");
}

#[test]
fn answers_of_two_lengths_are_refused() {
    let answers = vec![
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    ];
    let numbers = 0..answers.len();
    let fixture = before(&RawUpstream::saying(answers)).build();
    for n in numbers {
        let answer = get(&fixture, &format!("/{n}"));
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("problem+json"), "{answer}");
        let counted = fixture.sidecar.metric("notifications_upstream_errors_total{kind=\"protocol\"}");
        assert_eq!(counted, Some(n as f64 + 1.0));
    }
}

#[test]
fn a_request_with_close_gets_a_response_with_close() {
    let fixture = Fixture::standard();
    let connection = |head: &str| {
        let answer = text(&fixture, head);
        Head::parse(answer.split_inclusive("\r\n\r\n").next().unwrap().as_bytes())
            .header("connection")
            .map(str::to_owned)
    };
    for lines in ["Connection: close", "Connection: foo, Close", "Connection: foo\nConnection: close"] {
        for start in ["GET /echo", "HEAD /events", "POST /events", "GET /events/", "GET /e\u{e9}"] {
            let answer = connection(&format!("{start} HTTP/1.1\nHost: a\nContent-Length: 0\n{lines}\n\n"));
            assert_eq!(answer.as_deref(), Some("close"), "{start} {lines}");
        }
    }
    let mut stream = Connection::open(fixture.sidecar.listen);
    stream.write(b"GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(stream.head().header("connection"), Some("close"));
    let mut admin = Connection::open(fixture.sidecar.admin);
    admin.write(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: foo\r\nConnection: close\r\n\r\n");
    assert_eq!(admin.answer().header("connection"), Some("close"));
    assert!(admin.ended());
}

#[test]
fn targets_that_are_no_uri_pass() {
    let fixture = Fixture::standard();
    for (target, seen) in [
        ("/echo?query=up{job=\"x\"}", "/echo?query=up{job=%22x%22}"),
        ("/echo?a=<b>&c=%22", "/echo?a=%3Cb%3E&c=%22"),
        ("/echo/<`a`>", "/echo/%3C%60a%60%3E"),
        ("/echo?a=[]|\\^{}'", "/echo?a=[]|\\^{}'"),
    ] {
        assert_eq!(fixture.get(target).send().json()["target"], seen);
    }
}

#[test]
fn every_refusal_is_a_problem_and_counted() {
    let fixture = Fixture::standard();
    let refused = || fixture.sidecar.metric_sum("notifications_bad_requests_total");
    for byte in (0x01u8..=0xff).filter(|byte| !b"\r\n".contains(byte)) {
        for place in [
            "GET /echo{}x HTTP/1.1\nHost: a\n",
            "GET /echo?x={} HTTP/1.1\nHost: a\n",
            "GET /echo HTTP/1.1\nHost: a{}\n",
        ] {
            let before = refused();
            let (start, end) = place.split_once("{}").unwrap();
            let request = [start.as_bytes(), &[byte], end.as_bytes(), b"Connection: close\n\n"].concat();
            let request: Vec<u8> =
                request.iter().flat_map(|&b| if b == b'\n' { vec![b'\r', b] } else { vec![b] }).collect();
            let answer = String::from_utf8_lossy(&all(&fixture, &request)).into_owned();
            let is_passed = answer.starts_with("HTTP/1.1 200 ");
            let is_refused = answer.contains("problem+json") && refused() > before;
            assert!(is_passed || is_refused, "{}: {answer}", request.escape_ascii());
        }
    }
}

#[test]
fn claims_of_untrusted_clients_are_not_forwarded() {
    let claims = [
        "X-Real-IP",
        "X_Real_IP",
        "X_Forwarded_For",
        "X-Forwarded_Proto",
        "X-Forwarded-Client-Cert",
        "Forwarded",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Client-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-Forwarded-For",
        "Proxy",
    ];
    let seen = |fixture: &Fixture| {
        let request = claims.iter().fold(fixture.get("/echo"), |request, name| request.header(name, "evil"));
        request.send().text().matches("evil").count()
    };
    assert_eq!(seen(&Fixture::standard()), 0);
    let trusting = Plan::new(STANDARD).with("forwarded: { trust: all }").build();
    assert_eq!(seen(&trusting), claims.len());
}

#[test]
fn a_token_is_found_among_all_cookies() {
    let fixture = Fixture::standard();
    let good = token::of("u1");
    let lines = |cookies: &[&[u8]]| {
        let mut request = b"GET /mine/events HTTP/1.1\r\nHost: a\r\n".to_vec();
        for line in cookies {
            request.extend([b"Cookie: ", *line, b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        let mut connection = Connection::open(fixture.sidecar.listen);
        connection.write(&request);
        connection.head().status
    };
    let session = format!("session={good}").into_bytes();
    let with = |before: &[u8], after: &[u8]| [before, &session, after].concat();
    assert_eq!(lines(&[&session]), 200);
    assert_eq!(lines(&[b"theme=dark", &session]), 200);
    assert_eq!(lines(&[&session, b"theme=dark"]), 200);
    assert_eq!(lines(&[&with(b"a=\xff\xfe; ", b"; b=\"x y\"")]), 200);
    assert_eq!(lines(&[&with(b"=x; nameless; c={\"d\":[1,2]}; ", b"")]), 200);
    assert_eq!(lines(&[&with(b"session=old; ", b"")]), 200, "a stale cookie of the same name");
    assert_eq!(lines(&[&with(b"a=1, ", b", b=2")]), 200);
    assert_eq!(lines(&[b"session=old", b"a=b"]), 401);
    assert_eq!(lines(&[b"session"]), 401);
}

#[test]
fn the_log_quotes_no_answer_and_is_bounded() {
    let broken = RawUpstream::start(|_, socket| {
        let _ =
            socket.write_all(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=S3CR3T; HttpOnly\r\nbroken line\r\n\r\nS3CR3T");
        let _ = socket.write_all(&b"S3CR3T".repeat(100_000));
    });
    let fixture = before(&broken).build();
    for _ in 0..100 {
        fixture.get("/x?token=S3CR3T").header("Authorization", "Bearer S3CR3T").send().problem(502);
    }
    fixture.sidecar.await_log("cannot serve a request from the upstream");
    let log = fixture.sidecar.log();
    assert!(!log.contains("S3CR3T"), "{log}");
    assert!(log.lines().all(|line| line.len() < 8192));
    let lines = log.lines().filter(|line| line.contains("cannot serve")).count();
    assert!(lines < 60, "{lines} lines for 100 failures");
}

#[test]
fn a_missing_directory_is_logged_once() {
    let fixture = Plan::new(STANDARD).kafka("properties: { ssl.ca.location: /nonexistent/ca.pem }").build();
    for _ in 0..50 {
        Call::of_admin(fixture.sidecar.admin, "POST", "/-/reload").send();
    }
    fixture.sidecar.await_log("cannot watch");
    assert_eq!(fixture.sidecar.log().matches("cannot watch").count(), 1);
}
