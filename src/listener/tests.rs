//! Tests a listener and a small application with raw bytes.

use async_trait::async_trait;
use pingora::apps::http_app::ServeHttp;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

/// Responds with the request's path and the length of its body, and reports when a request begins. A request for `/hold`
/// waits for its release.
struct Echo {
    began: mpsc::UnboundedSender<String>,
    released: Arc<Notify>,
}

#[async_trait]
impl ServeHttp for Echo {
    async fn response(&self, session: &mut ServerSession) -> http::Response<Vec<u8>> {
        let path = session.req_header().uri.path().to_owned();
        self.began.send(path.clone()).unwrap();
        if path == "/hold" {
            self.released.notified().await;
        }
        let mut length = 0;
        while let Ok(Some(bytes)) = session.read_request_body().await {
            length += bytes.len();
        }
        let body = format!("[{path} {length}]").into_bytes();
        http::Response::builder().header("content-length", body.len()).body(body).unwrap()
    }
}

struct Fixture {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<io::Result<()>>,
    /// The paths of requests that have begun.
    began: mpsc::UnboundedReceiver<String>,
    released: Arc<Notify>,
    waiting: Arc<Waiting>,
}

/// Never reached, but ends a test that hangs.
const LONG: Duration = Duration::from_secs(30);

fn serve(connections: usize, header_timeout: Duration, idle_timeout: Duration) -> Fixture {
    serve_with(ListenerLimits {
        connections,
        header_timeout,
        idle_timeout,
        peer_timeout: LONG,
        stalled: connections,
        is_for_probes: false,
    })
}

fn serve_with(limits: ListenerLimits) -> Fixture {
    let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = bound.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let metrics = Arc::new(Metrics::new("test").unwrap());
    let (begins, began) = mpsc::unbounded_channel();
    let (released, waiting) = (Arc::new(Notify::new()), Arc::new(Waiting::new(usize::MAX)));
    let ends = Ends { draining: Draining::default(), shutdown: stopped };
    let app = Echo { began: begins, released: released.clone() };
    let server = tokio::spawn(bound.serve_in_order(app, limits, ends, metrics, waiting.clone(), Box::new(|| None)));
    Fixture { address, stop, server, began, released, waiting }
}

impl Fixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes, keeps the connection open for writing, and returns what the server sends until it closes.
    async fn until_closed(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        until_closed(&mut stream).await
    }

    /// A task that sends a request for this path on a connection of its own, and returns what the server sends.
    fn ask(&self, path: &str) -> JoinHandle<String> {
        let (address, request) = (self.address, format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            until_closed(&mut stream).await
        })
    }

    /// Waits until this is true of the connections that wait.
    async fn eventually(&self, holds: impl Fn(&Arc<Waiting>) -> bool) {
        let waits = async {
            while !holds(&self.waiting) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, waits).await.unwrap();
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        timeout(LONG, self.server).await.unwrap().unwrap().unwrap();
    }
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends a response as well as a close does.
    let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// The bodies of responses, in order.
fn bodies(answers: &str) -> Vec<&str> {
    answers.split('[').skip(1).filter_map(|rest| rest.split(']').next()).collect()
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = serve(8, LONG, LONG);
    let answers = server
        .until_closed(
            b"\r\nPOST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
              POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n\
              GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert_eq!(bodies(&answers), ["/a 5", "/b 3", "/c 0"]);
    server.stop().await;
}

#[tokio::test]
async fn a_body_in_pieces_is_one_body() {
    let server = serve(8, LONG, LONG);
    let mut stream = server.connect().await;
    for piece in ["POST /a HT", "TP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r", "\nab", "cd"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(bodies(&until_closed(&mut stream).await), ["/a 4"]);
    server.stop().await;
}

#[tokio::test]
async fn what_follows_a_body_in_one_read_is_the_next_request() {
    let mut server = serve(8, LONG, LONG);
    let mut stream = server.connect().await;
    stream.write_all(b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    server.began.recv().await.unwrap();
    let rest = b"3\r\nabc\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(rest).await.unwrap();
    assert_eq!(bodies(&until_closed(&mut stream).await), ["/a 3", "/b 0"]);
    server.stop().await;
}

#[tokio::test]
async fn rejected_heads_get_a_response_and_a_close() {
    let server = serve(8, LONG, LONG);
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    for (head, status) in [("GET / HTTP/1.1\r\n\r\n", "400"), (&long, "431"), ("GET / HTTP/3.0\r\n\r\n", "505")] {
        let answer = server.until_closed(head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_total_time_of_a_head_is_limited() {
    let server = serve(8, Duration::from_millis(50), LONG);
    assert!(server.until_closed(b"GET / HTTP/1.1\r\nHost: h\r\n").await.starts_with("HTTP/1.1 408 "));
    assert_eq!(server.until_closed(b"").await, "");
    server.stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = serve(8, LONG, Duration::from_millis(50));
    let answer = server.until_closed(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(bodies(&answer), ["/a 0"]);
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_evicted_at_the_limit() {
    let server = serve(1, LONG, LONG);
    let mut first = server.connect().await;
    first.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = [0; 16];
    first.read_exact(&mut answer).await.unwrap();
    let newcomer = server.until_closed(b"GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(bodies(&newcomer), ["/b 0"]);
    assert_eq!(bodies(&until_closed(&mut first).await), ["/a 0"]);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_requests_ahead_gets_one_in_its_turn() {
    let mut server = serve(1, LONG, LONG);
    let mut greedy = server.connect().await;
    let ahead = b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\nGET /second HTTP/1.1\r\nHost: h\r\n\r\n";
    greedy.write_all(ahead).await.unwrap();
    assert_eq!(server.began.recv().await.unwrap(), "/hold");
    let other = server.ask("/other");
    server.eventually(|waiting| waiting.has_pending()).await;
    server.released.notify_one();
    assert_eq!(bodies(&other.await.unwrap()), ["/other 0"]);
    assert_eq!(server.began.recv().await.unwrap(), "/other");
    server.stop().await;
}

#[tokio::test]
async fn a_refused_client_gives_its_place_up() {
    let server = serve(1, LONG, LONG);
    let mut refused = server.connect().await;
    refused.write_all(b"x\r\n\r\n").await.unwrap();
    refused.read_exact(&mut [0; 12]).await.unwrap();
    server.eventually(|waiting| waiting.evict()).await;
    until_closed(&mut refused).await;
    server.stop().await;
}

#[tokio::test]
async fn no_probe_is_rejected_while_others_wait() {
    let limits = ListenerLimits {
        connections: 1,
        header_timeout: LONG,
        idle_timeout: LONG,
        peer_timeout: LONG,
        stalled: 1,
        is_for_probes: true,
    };
    let mut server = serve_with(limits);
    let busy = server.ask("/hold");
    assert_eq!(server.began.recv().await.unwrap(), "/hold");
    let probes: Vec<_> = (0..PROBES_PENDING_MAX + 8).map(|n| server.ask(&format!("/{n}"))).collect();
    server.eventually(|waiting| waiting.pending() == PROBES_PENDING_MAX).await;
    server.released.notify_one();
    assert_eq!(bodies(&busy.await.unwrap()), ["/hold 0"]);
    for (n, probe) in probes.into_iter().enumerate() {
        assert_eq!(bodies(&probe.await.unwrap()), [format!("/{n} 0")]);
    }
    server.stop().await;
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_waits_for_requests() {
    let mut server = serve(8, LONG, LONG);
    let mut idle = server.connect().await;
    idle.write_all(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut busy = server.connect().await;
    busy.write_all(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na").await.unwrap();
    while server.began.recv().await.unwrap() != "/a" {}
    server.stop.send_replace(true);
    assert_eq!(bodies(&until_closed(&mut idle).await), ["/b 0"]);
    assert!(!server.server.is_finished());
    busy.write_all(b"b").await.unwrap();
    assert_eq!(bodies(&until_closed(&mut busy).await), ["/a 2"]);
    server.stop().await;
}
