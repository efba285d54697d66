//! Connections of hostile and idle clients: other clients are served.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::{Call, Connection};
use crate::support::raw_upstream::RawUpstream;
use crate::support::sidecar::Sidecar;

/// More than the admin listener serves at a time.
const MANY: usize = 200;

fn hostile(address: SocketAddr, bytes: &[u8], count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(bytes).unwrap();
        socket
    };
    (0..count).map(open).collect()
}

#[test]
fn probes_are_answered_despite_hostile_admin_connections() {
    let fixture = Fixture::standard();
    for bytes in [
        &b""[..],
        b"GET /livez HTT",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        // Refused.
        b"GET /livez\r\n\r\n",
        // Responses that are not read.
        &b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(64),
    ] {
        let held = hostile(fixture.sidecar.admin, bytes, MANY);
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(fixture.sidecar.admin(path).status(), 200, "{} beside {}", path, bytes.escape_ascii());
        }
        drop(held);
    }
    assert!(fixture.sidecar.metric("notifications_connections_evicted_total").unwrap() > 0.0);
}

#[test]
fn idle_connections_are_evicted_the_longest_idle_first() {
    let fixture = Plan::new(STANDARD).with("limits: { connections: 8, streams: 4 }").build();
    let stream = fixture.get("/stream").ndjson();
    let mut idle: Vec<_> = (0..7)
        .map(|_| {
            let mut connection = Connection::open(fixture.sidecar.listen);
            connection.write(&fixture.get("/echo").bytes());
            assert_eq!(connection.answer().status(), 200);
            connection
        })
        .collect();
    assert_eq!(fixture.get("/echo").send().status(), 200);
    assert!(idle[0].ended(), "the longest idle");
    idle[6].write(&fixture.get("/echo").bytes());
    assert_eq!(idle[6].answer().status(), 200, "the others stay");
    drop(stream);
}

#[test]
fn busy_connections_are_not_evicted() {
    let fixture = Plan::new(STANDARD).with("limits: { connections: 2, streams: 1 }").build();
    let mut busy: Vec<_> = (0..2)
        .map(|n| {
            let mut connection = Connection::open(fixture.sidecar.listen);
            connection.write(&fixture.get("/hold").bytes());
            eventually_true("the request at the upstream", || fixture.upstream.count("GET /hold") == n + 1);
            connection
        })
        .collect();
    fixture.get("/echo").send().problem(503);
    fixture.upstream.release();
    for connection in &mut busy {
        assert_eq!(connection.answer().status(), 200);
    }
}

#[test]
fn the_last_descriptors_are_for_probes() {
    let fixture = Fixture::standard();
    let sidecar = Sidecar::run_with_descriptors(&fixture.config, 256);
    eventually_true("/readyz", || sidecar.admin("/readyz").status() == 200);
    let held = hostile(sidecar.listen, b"", 512);
    let streams: Vec<_> = (0..512)
        .map(|_| {
            let mut socket = TcpStream::connect(sidecar.listen).unwrap();
            let _ = socket.write_all(&fixture.get("/stream").bytes());
            socket
        })
        .collect();
    for _ in 0..10 {
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(sidecar.admin(path).status(), 200);
        }
    }
    assert!(sidecar.metric("notifications_bad_requests_total{reason=\"descriptor-limit\"}").unwrap() > 0.0);
    drop((held, streams));
    eventually_true("room again", || {
        Call::new(sidecar.listen, "GET", "/echo").try_open().is_some_and(|(head, _)| head.status == 200)
    });
}

#[test]
fn unread_responses_have_a_common_limit() {
    let endless = RawUpstream::start(|_, socket| {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        while socket.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let fixture = Plan::new(STANDARD).upstream(&endless.key()).with("limits: { proxy_buffers: 3MiB }").build();
    let held = hostile(fixture.sidecar.listen, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", 20);
    let evicted = || fixture.sidecar.metric("notifications_connections_evicted_total").unwrap();
    eventually_true("those beyond the limit to be closed", || evicted() >= 16.0);
    assert_eq!(evicted(), 16.0, "3 MiB are four answers of 768 KiB");
    assert_eq!(fixture.sidecar.metric("notifications_unread_responses"), Some(4.0));
    // A client that reads is served meanwhile.
    let mut reads = TcpStream::connect(fixture.sidecar.listen).unwrap();
    reads.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    reads.read_exact(&mut vec![0; 64 << 20]).unwrap();
    drop(held);
}

#[test]
fn a_half_closed_client_gets_its_response() {
    let fixture = Fixture::standard();
    for request in [fixture.get("/echo/1").bytes(), fixture.call("POST", "/echo/1").body("all").bytes()] {
        let mut connection = Connection::open(fixture.sidecar.listen);
        connection.write(&request);
        connection.half_close();
        assert_eq!(connection.answer().json()["target"], "/echo/1");
        assert!(connection.ended());
    }
    let mut slow = Connection::open(fixture.sidecar.listen);
    slow.write(&fixture.get("/halves").bytes());
    slow.half_close();
    assert_eq!(slow.head().status, 200);
    fixture.upstream.release();
    assert_eq!(slow.exactly(2).as_deref(), Some(&b"B\r"[..]));
}

#[test]
fn only_the_same_host_may_use_admin_actions() {
    let fixture = Fixture::standard();
    let from = |source: Ipv4Addr, request: &str| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&fixture.sidecar.admin.into()).unwrap();
        let mut connection = Connection::on(socket.into());
        connection.write(request.replace('\n', "\r\n").as_bytes());
        connection.answer().status()
    };
    let reload = |fields: &str| format!("POST /-/reload HTTP/1.1\nHost: localhost\nContent-Length: 0\n{fields}\n");
    assert_eq!(from(Ipv4Addr::LOCALHOST, &reload("")), 200);
    assert_eq!(from(Ipv4Addr::new(127, 0, 0, 6), &reload("")), 403, "Istio");
    assert_eq!(from(Ipv4Addr::new(127, 0, 0, 6), "GET /livez HTTP/1.1\nHost: a\n\n"), 200);
    for fields in [
        "X-Forwarded-For: 10.0.0.2\n",
        "X_Forwarded_Proto: http\n",
        "Forwarded: for=10.0.0.2\n",
        "Via: 1.1 front\n",
        "X-Envoy-Attempt-Count: 1\n",
        "Origin: http://localhost\nOrigin: http://localhost\n",
    ] {
        assert_eq!(from(Ipv4Addr::LOCALHOST, &reload(fields)), 403, "{fields}");
    }
    for (host, status) in
        [("10.0.0.1", 403), ("my-pod:9090", 403), ("[::1]x", 400), ("127.0.0.6", 403), ("127.0.0.1", 200)]
    {
        let request = format!("POST /-/reload HTTP/1.1\nHost: {host}\nContent-Length: 0\n\n");
        assert_eq!(from(Ipv4Addr::LOCALHOST, &request), status, "{host}");
    }
}
