//! Listeners: accept, count, read one checked head at a time, hand it to an HTTP application.
//!
//! Pingora's own listening service is not used: it has no limit of connections, no limit of a head's total time, no
//! way to learn a free port, and its shutdown sleeps blindly. The application is Pingora's `HttpProxy` (or any other
//! `HttpServerApp`), which still parses requests, proxies and answers.

mod connection;
mod framing;
mod head;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use pingora::apps::HttpServerApp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

pub use connection::{Connection, Parts};
pub use head::{BadHead, HEAD_BYTES_MAX, HEADER_FIELDS_MAX, TARGET_BYTES_MAX, is_last};

use crate::metrics::Metrics;
use crate::problem::{Problem, closing_bytes};
use connection::NoHead;

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How long accepting pauses where the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A refused client's bytes are read for so long and so many, or the reset would take the answer from it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// When clients beyond the limit of connections may come again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a listener allows.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// Connections open at a time, those that left the proxy for a stream included.
    pub connections: usize,
    /// How long a head may take in all, from the connection's start or the head's first byte.
    pub header_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
}

/// A bound listener that nobody serves yet: clients may connect and wait.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
}

impl Bound {
    /// Binds; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self { listener: socket.into() })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` turns true, then closes the listener and waits for the requests in flight. Idle
    /// connections are closed at once; sockets that left for a stream are not waited for.
    pub async fn serve<A>(
        self,
        app: A,
        limits: ListenerLimits,
        shutdown: ShutdownWatch,
        metrics: Arc<Metrics>,
    ) -> io::Result<()>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let listener = TcpListener::from_std(self.listener)?;
        let permits = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let server = Arc::new(Server { app: Arc::new(app), limits, shutdown, metrics });
        let mut stop = server.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => server.clone().spawn(stream, peer, &permits, open.clone()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((listener, open));
        all_closed.recv().await;
        Ok(())
    }
}

/// What the connections of one listener share.
struct Server<A> {
    app: Arc<A>,
    limits: ListenerLimits,
    shutdown: ShutdownWatch,
    metrics: Arc<Metrics>,
}

impl<A: HttpServerApp + Send + Sync + 'static> Server<A> {
    fn spawn(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, permits: &Arc<Semaphore>, open: mpsc::Sender<()>) {
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            self.metrics.bad_requests.with_label_values(&["connection-limit"]).inc();
            return turn_away(&stream);
        };
        // Answers are written whole; waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%error, "the client left before it was served");
        }
        let connection = Box::new(Connection::new(stream, peer, permit));
        tokio::spawn(async move {
            self.serve(connection).await;
            drop(open);
        });
    }

    /// Serves requests one after the other until one ends the connection or takes it away.
    async fn serve(&self, mut connection: Box<Connection>) {
        let mut shutdown = self.shutdown.clone();
        let mut idle = self.limits.header_timeout;
        loop {
            let is_speaking = tokio::select! {
                is_speaking = connection.is_speaking(idle) => is_speaking,
                _ = shutdown.wait_for(|stop| *stop) => false,
            };
            if !is_speaking {
                return;
            }
            let head = match connection.next_head(self.limits.header_timeout).await {
                Ok(head) => head,
                Err(NoHead::Closed) => return,
                Err(NoHead::Refused(bad)) => return self.refuse(connection, bad).await,
            };
            let mut session = ServerSession::new_http1(connection);
            session.set_pipelined_prefix(head);
            session.set_keepalive(Some(self.limits.idle_timeout.as_secs().max(1)));
            let reusable = self.app.process_new_http(session, &shutdown).await;
            let Some(next) = reusable.and_then(|reused| as_connection(reused.consume().0)) else { return };
            connection = next;
            idle = self.limits.idle_timeout;
        }
    }

    async fn refuse(&self, mut connection: Box<Connection>, bad: BadHead) {
        tracing::debug!(reason = bad.as_str(), "refused a request head");
        self.metrics.bad_requests.with_label_values(&[bad.as_str()]).inc();
        let answer = closing_bytes(bad.problem().into_response());
        // A client that does not take its answer within the linger time goes without.
        let _ = timeout(LINGER, async {
            connection.write_all(&answer).await?;
            AsyncWriteExt::shutdown(&mut connection).await?;
            drain(&mut connection).await
        })
        .await;
    }
}

/// Gives a reusable stream back its type; none but ours is ever put into a session.
fn as_connection(stream: Stream) -> Option<Box<Connection>> {
    stream.into_any().downcast::<Connection>().ok()
}

/// Reads and forgets what the client still sends.
async fn drain(connection: &mut Connection) -> io::Result<()> {
    let mut scrap = [0; 4096];
    let mut left = LINGER_BYTES_MAX;
    connection.forget_framing();
    while left > 0 {
        match connection.read(&mut scrap).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Tells a client beyond the limit of connections; an empty socket takes the answer without waiting.
fn turn_away(stream: &TcpStream) {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the limit of connections is reached");
    let answer = closing_bytes(problem.retry_after(RETRY_AFTER).into_response());
    if let Err(error) = stream.try_write(&answer) {
        tracing::debug!(%error, "cannot tell a client that the limit of connections is reached");
    }
}
