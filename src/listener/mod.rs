//! Listeners: accept, count, read one checked head at a time, hand it to an HTTP application.
//!
//! Pingora's own listening service is not used: it has no limit of connections, no limit of a head's total time, no
//! way to learn a free port, and its shutdown sleeps blindly. The application is Pingora's `HttpProxy` (or any other
//! `HttpServerApp`), which still parses requests, proxies and answers.

mod connection;
mod framing;
mod head;
mod last;
#[cfg(test)]
mod tests;
mod waiting;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use pingora::apps::HttpServerApp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

pub use connection::{Connection, Parts};
pub use head::{BadHead, HEAD_BYTES_MAX, HEADER_FIELDS_MAX, TARGET_BYTES_MAX};
pub use last::is_last;

use crate::descriptors;
use crate::metrics::Metrics;
use crate::problem::{Problem, closing_bytes};
use connection::{NoHead, Places};
pub use waiting::Waiting;

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// How long accepting pauses where the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A refused client's bytes are read for so long and so many, or the reset would take the answer from it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// Connections that may stand in line for a place.
const NEWCOMERS_MAX: usize = 1024;
/// How long a newcomer waits for the place of a connection that was closed for it.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// Unsent bytes of an answer that the kernel keeps. More would only wait there, for clients that do not read.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// What an answer takes at most in this process and its sockets while its client does not read: see docs/operations.md.
pub const STALLED_BYTES: usize = 768 * 1024;
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
    /// Connections whose clients take no more of an answer, at a time.
    pub stalled: usize,
    /// Whether the last descriptors may be used as well.
    pub is_reserved: bool,
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
        let waiting = Arc::new(Waiting::new(usize::MAX));
        let stalled = Arc::new(Waiting::new(limits.stalled));
        let server = Arc::new(Server { app: Arc::new(app), limits, shutdown, waiting, stalled, metrics });
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
                    server.waiting.evict();
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
    waiting: Arc<Waiting>,
    stalled: Arc<Waiting>,
    metrics: Arc<Metrics>,
}

impl<A: HttpServerApp + Send + Sync + 'static> Server<A> {
    /// Serves a connection; where there is no place for it, one that waits for its client makes room.
    fn spawn(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, permits: &Arc<Semaphore>, open: mpsc::Sender<()>) {
        if !self.limits.is_reserved && descriptors::is_reserved(stream.as_raw_fd()) {
            self.waiting.evict();
            return self.turn_away(&stream, "descriptor-limit");
        }
        // Answers are written whole; waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%error, "the client disconnected before it was served");
        }
        // Without it more waits in the kernel: worse, not wrong.
        if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT is not available");
        }
        // A place that was made for those in line is theirs.
        let permit = if self.waiting.has_newcomers() { None } else { permits.clone().try_acquire_owned().ok() };
        if let Some(permit) = permit {
            tokio::spawn(async move {
                self.serve_until_evicted(stream, peer, permit).await;
                drop(open);
            });
            return;
        }
        let Some(newcomer) = self.waiting.make_room(NEWCOMERS_MAX) else {
            return self.turn_away(&stream, "connection-limit");
        };
        let permits = permits.clone();
        tokio::spawn(async move {
            let permit = timeout(PLACE_TIMEOUT, permits.acquire_owned()).await;
            drop(newcomer);
            match permit {
                Ok(Ok(permit)) => self.serve_until_evicted(stream, peer, permit).await,
                _ => self.turn_away(&stream, "connection-limit"),
            }
            drop(open);
        });
    }

    async fn serve_until_evicted(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let evicted = Arc::new(Notify::new());
        let places =
            Places { waiting: self.waiting.place(evicted.clone()), stalled: self.stalled.place(evicted.clone()) };
        let connection = Box::new(Connection::new(stream, peer, places, permit));
        tokio::select! {
            () = self.serve(connection) => {}
            () = evicted.notified() => self.metrics.connections_evicted.inc(),
        }
    }

    /// Tells a client for which there is no place; an empty socket takes the answer without waiting.
    fn turn_away(&self, stream: &TcpStream, reason: &'static str) {
        self.metrics.bad_requests.with_label_values(&[reason]).inc();
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the limit of connections is reached");
        let answer = closing_bytes(problem.retry_after(RETRY_AFTER).into_response());
        if let Err(error) = stream.try_write(&answer) {
            tracing::debug!(%error, "cannot notify a client that the limit of connections is reached");
        }
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
