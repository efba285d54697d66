//! Serves the REST service over HTTP/1.1 with Pingora's server, on its own runtime.
//!
//! It listens on a free loopback port without TLS, HTTP/2 and logs: it represents any small service.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use pingora::apps::ServerApp;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

use super::rest::{Answer, BODY_BYTES_MAX, RestService, problem};

/// Connections served at a time; further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 1_024;
/// The time limit for a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting pauses after a failure, for example without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time limit for stopping.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The running service.
pub(super) struct RestServer {
    runtime: Runtime,
    address: SocketAddr,
}

impl RestServer {
    /// Binds a port and serves on a new thread.
    ///
    /// # Errors
    ///
    /// The port cannot be bound, or the thread or its runtime cannot be started.
    pub(super) fn start(service: RestService) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("demo-rest").enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, Arc::new(service)));
        Ok(Self { runtime, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and drops the service.
    pub(super) fn stop(self) {
        self.runtime.shutdown_timeout(STOP_TIMEOUT);
    }
}

async fn accept(listener: TcpListener, service: Arc<RestService>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Pingora requires a shutdown watch; this server ends with its runtime instead.
    let (_running, shutdown) = watch::channel(false);
    while let Ok(permit) = free.clone().acquire_owned().await {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (service, shutdown) = (service.clone(), shutdown.clone());
        tokio::spawn(async move {
            // Otherwise a response waits for the peer's delayed acknowledgement. A failure costs only that delay.
            let _ = socket.set_nodelay(true);
            service.process_new(Box::new(Stream::from(socket)), &shutdown).await;
            drop(permit);
        });
    }
}

#[async_trait]
impl ServeHttp for RestService {
    async fn response(&self, session: &mut ServerSession) -> Answer {
        let body = match tokio::time::timeout(BODY_TIMEOUT, read_body(session)).await {
            Ok(Ok(body)) => body,
            Ok(Err(answer)) => {
                session.set_keepalive(None);
                return answer;
            }
            Err(_) => {
                session.set_keepalive(None);
                return problem(StatusCode::REQUEST_TIMEOUT, "the body took too long");
            }
        };
        let head = session.req_header();
        self.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), &body)
    }
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, Answer> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(part)) if body.len() + part.len() <= BODY_BYTES_MAX => body.extend_from_slice(&part),
            Ok(Some(_)) => return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "an order has at most 64 KiB")),
            Ok(None) => return Ok(body),
            Err(_) => return Err(problem(StatusCode::BAD_REQUEST, "the body could not be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc::sync_channel;

    use super::super::shop::Shop;
    use super::*;

    /// Sends requests on one connection, the last of which closes it, and returns all responses.
    fn exchange(requests: &str) -> String {
        let (sender, _receiver) = sync_channel(8);
        let server = RestServer::start(RestService::new(Arc::new(Shop::open()), sender, &Vec::new())).unwrap();
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(requests.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        server.stop();
        answer
    }

    #[test]
    fn an_order_is_placed_over_http() {
        let answer = exchange("POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        assert!(answer.ends_with(r#"{"operationId":"op-1","status":"PROCESSING"}"#), "{answer}");
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let answer = exchange("HEAD /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused() {
        let body = " ".repeat(BODY_BYTES_MAX + 1);
        let head = format!("POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = exchange(&(head + &body));
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
}
