//! Listeners: accept and count connections, read one checked head at a time, and pass it to an HTTP application.
//!
//! They replace Pingora's listening service, which limits neither the number of connections nor the total time of a
//! head, does not report an ephemeral port, and sleeps for a fixed time at shutdown. The application is Pingora's
//! `HttpProxy` or another `HttpServerApp`: it parses requests, proxies them and responds.

mod connection;
mod framing;
mod head;
mod heartbeats;
mod http2;
mod last;
mod registered;
mod socket;
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
use pingora::prelude::fast_timeout::fast_timeout;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

pub use connection::{Connection, Parts};
pub use head::{BadHead, HEAD_BYTES_MAX, HEADER_FIELDS_MAX, TARGET_BYTES_MAX};
pub use heartbeats::Heartbeats;
pub use http2::Unread;
pub use last::is_last;

use crate::descriptors;
use crate::metrics::Metrics;
use crate::problem::{Problem, closing_bytes};
use crate::shutdown::Draining;
use crate::tls::ServerTls;
use connection::{NoHead, Places};
use socket::AsyncSocket;
use waiting::Place;
pub use waiting::Waiting;

/// The backlog of the listening socket.
const BACKLOG: i32 = 4096;
/// How long accepting pauses after the process runs out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For how long, and up to how many bytes, a rejected client's data is read. Closing the socket earlier would reset the
/// connection, and the client could lose the response.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// Connections that may wait for another one to be evicted, and for how long.
const PENDING_MAX: usize = 1024;
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// The same where probes depend on the listener. All of these descriptors are in the budget of the process.
const PROBES_PENDING_MAX: usize = 64;
const PROBE_PLACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Unsent bytes of a response in the kernel (TCP_NOTSENT_LOWAT). More would only accumulate for clients that do not
/// read.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// The most memory that a response takes in the two sockets of its request while its client does not read it. What it
/// takes in this process is in the budget of the configuration.
pub const STALLED_SOCKET_BYTES: u64 = 640 * 1024;
/// TLS handshakes in progress. One more evicts the one that has waited longest for its client: each holds some 50 KB.
const HANDSHAKES_MAX: usize = 1024;
/// `Retry-After` for clients beyond the limit of connections.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The limits of a listener.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// Open connections, including those that left the proxy for a stream, and requests of HTTP/2 that are no stream.
    pub connections: usize,
    /// The total time for a head, from the start of the connection or the first byte of the head; and for a TLS handshake.
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long the client of an HTTP/2 connection may acknowledge nothing, or take nothing, while there is something to send.
    pub peer_timeout: Duration,
    /// Open connections whose clients do not read a response.
    pub stalled: usize,
    /// Whether probes depend on it. Its connections may use the reserved descriptors and wait longer for a place, and
    /// while too many wait, the kernel queues further ones.
    pub is_for_probes: bool,
}

impl ListenerLimits {
    /// How many connections may wait for a place, and for how long.
    fn pending(&self) -> (usize, Duration) {
        if self.is_for_probes { (PROBES_PENDING_MAX, PROBE_PLACE_TIMEOUT) } else { (PENDING_MAX, PLACE_TIMEOUT) }
    }
}

/// When a listener ends.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Clients of HTTP/2 send further requests on other connections.
    pub draining: Draining,
    /// The listener and idle connections close.
    pub shutdown: ShutdownWatch,
}

/// The certificates for new connections; `None`: they are not encrypted.
pub type CurrentTls = Box<dyn Fn() -> Option<Arc<ServerTls>> + Send + Sync>;

/// A bound listener that does not accept yet: the kernel queues connections.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
}

impl Bound {
    /// Binds the address; port 0 selects a free port.
    ///
    /// # Errors
    ///
    /// The socket cannot be created, bound or listened on.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self { listener: socket.into() })
    }

    /// The bound address.
    ///
    /// # Errors
    ///
    /// The operating system does not report it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `ends.shutdown` becomes true, then closes the listener and idle connections and waits for the requests
    /// in flight. Does not wait for sockets that left for a stream.
    ///
    /// # Errors
    ///
    /// The runtime rejects the listening socket.
    pub async fn serve<A>(
        self,
        app: A,
        limits: ListenerLimits,
        ends: Ends,
        metrics: Arc<Metrics>,
        tls: CurrentTls,
    ) -> io::Result<()>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        self.serve_in_order(app, limits, ends, metrics, Arc::new(Waiting::new(usize::MAX)), tls).await
    }

    /// The same with this queue of connections that wait for their clients.
    async fn serve_in_order<A>(
        self,
        app: A,
        limits: ListenerLimits,
        ends: Ends,
        metrics: Arc<Metrics>,
        waiting: Arc<Waiting>,
        tls: CurrentTls,
    ) -> io::Result<()>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let listener = TcpListener::from_std(self.listener)?;
        let permits = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let stalled = Arc::new(Waiting::shown(limits.stalled, metrics.unread_responses.clone()));
        let handshakes = Arc::new(Waiting::new(HANDSHAKES_MAX));
        let Ends { draining, shutdown } = ends;
        let app = Arc::new(app);
        let server = Server { app, limits, draining, shutdown, permits, waiting, stalled, handshakes, metrics, tls };
        let server = Arc::new(server);
        let mut stop = server.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = server.accept(&listener) => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => server.clone().spawn(stream, peer, open.clone()),
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

/// Shared by the connections of one listener.
struct Server<A> {
    app: Arc<A>,
    limits: ListenerLimits,
    draining: Draining,
    shutdown: ShutdownWatch,
    /// The places that are free below the limit of connections.
    permits: Arc<Semaphore>,
    waiting: Arc<Waiting>,
    stalled: Arc<Waiting>,
    /// The connections whose handshakes are in progress.
    handshakes: Arc<Waiting>,
    metrics: Arc<Metrics>,
    tls: CurrentTls,
}

impl<A: HttpServerApp + Send + Sync + 'static> Server<A> {
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        if self.limits.is_for_probes {
            self.waiting.await_pending_below(PROBES_PENDING_MAX).await;
        }
        listener.accept().await
    }

    /// Serves a connection. At the limit of connections, evicts one that waits for its client.
    fn spawn(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, open: mpsc::Sender<()>) {
        if !self.limits.is_for_probes && descriptors::is_reserved(stream.as_raw_fd()) {
            self.waiting.evict();
            return self.reject(&stream, "descriptor-limit");
        }
        // Nagle's algorithm would only delay responses, which are written whole.
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%error, "the client disconnected before it was served");
        }
        // Without it, more bytes wait in the kernel: more memory, same behavior.
        if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT is not available");
        }
        let permit = self.permit();
        tokio::spawn(async move {
            match permit.await {
                Some(permit) => self.serve_until_evicted(stream, peer, permit).await,
                None => self.reject(&stream, "connection-limit"),
            }
            drop(open);
        });
    }

    /// A place below the limit of connections, at once or that of a connection that is evicted for it. `None` if too many
    /// wait for one, or if none becomes free in time.
    fn permit(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + use<A> {
        // A free permit belongs first to those that wait for one.
        let free = if self.waiting.has_pending() { None } else { self.permits.clone().try_acquire_owned().ok() };
        let (pending_max, place_timeout) = self.limits.pending();
        let pending = if free.is_some() { None } else { self.waiting.make_room(pending_max) };
        let permits = self.permits.clone();
        async move {
            if free.is_some() {
                return free;
            }
            let pending = pending?;
            let permit = timeout(place_timeout, permits.acquire_owned()).await;
            drop(pending);
            permit.ok()?.ok()
        }
    }

    async fn serve_until_evicted(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let evicted = Arc::new(Notify::new());
        let serve = async {
            let place = |queue: &Arc<Waiting>| queue.place(evicted.clone());
            let mut places = Places { waiting: place(&self.waiting), stalled: place(&self.stalled) };
            let socket = match (self.tls)() {
                None => AsyncSocket::Plain(stream),
                Some(tls) => {
                    places.waiting.wait();
                    let Some(socket) = self.accept_tls(stream, &tls, place(&self.handshakes)).await else { return };
                    places.waiting.progress();
                    socket
                }
            };
            self.serve(Box::new(Connection::new(socket, peer, places, permit))).await;
        };
        tokio::select! {
            // An evicted connection does no more work, so that its memory is free at once.
            biased;
            () = evicted.notified() => self.metrics.connections_evicted.inc(),
            () = serve => {}
        }
    }

    /// Completes a handshake within the time of a head. `place` is its place among the handshakes in progress.
    async fn accept_tls(&self, stream: TcpStream, tls: &ServerTls, mut place: Place) -> Option<AsyncSocket> {
        place.wait();
        let mut shutdown = self.shutdown.clone();
        let accepted = tokio::select! {
            accepted = fast_timeout(self.limits.header_timeout, AsyncSocket::accept(stream, tls)) => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return None,
        };
        let (socket, result) = match accepted {
            Ok(Ok(socket)) => (Some(socket), "success"),
            Ok(Err(failure)) => (None, failure.as_str()),
            Err(_) => (None, "timeout"),
        };
        self.metrics.tls_handshakes.with_label_values(&[result]).inc();
        if socket.is_none() {
            tracing::debug!(result, "a TLS handshake failed");
        }
        socket
    }

    /// Rejects a connection beyond the limit. The write does not block, because the socket's send buffer is empty.
    fn reject(&self, stream: &TcpStream, reason: &'static str) {
        self.metrics.bad_requests.with_label_values(&[reason]).inc();
        if (self.tls)().is_some() {
            // A client that expects TLS can read nothing else, and a handshake would cost more than a refusal may.
            return;
        }
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the limit of connections is reached");
        let answer = closing_bytes(problem.retry_after(RETRY_AFTER).into_response());
        if let Err(error) = stream.try_write(&answer) {
            tracing::debug!(%error, "cannot notify a client that the limit of connections is reached");
        }
    }

    /// Serves requests in sequence until one closes the connection or takes it over. While another connection waits for a
    /// place and none was evicted for it, the connection ends after its response: a client that sends requests ahead gets
    /// one in its turn.
    async fn serve(&self, mut connection: Box<Connection>) {
        let mut shutdown = self.shutdown.clone();
        let mut idle = self.limits.header_timeout;
        loop {
            let has_bytes = tokio::select! {
                has_bytes = connection.wait_for_bytes(idle) => has_bytes,
                _ = shutdown.wait_for(|stop| *stop) => false,
            };
            if !has_bytes {
                return;
            }
            let head = match connection.next_head(self.limits.header_timeout).await {
                Ok(head) => head,
                Err(NoHead::Closed) => return,
                Err(NoHead::Http2) if self.limits.is_for_probes => {
                    return self.refuse(connection, BadHead::Version).await;
                }
                Err(NoHead::Http2) => return self.serve_http2(connection).await,
                Err(NoHead::Refused(bad)) => return self.refuse(connection, bad).await,
            };
            let mut session = ServerSession::new_http1(connection);
            session.set_pipelined_prefix(head);
            session.set_keepalive(Some(self.limits.idle_timeout.as_secs().max(1)));
            let reusable = self.app.process_new_http(session, &shutdown).await;
            let Some(next) = reusable.and_then(|reused| as_connection(reused.consume().0)) else { return };
            if self.waiting.is_wanted() {
                return linger(next).await;
            }
            connection = next;
            idle = self.limits.idle_timeout;
        }
    }

    async fn refuse(&self, mut connection: Box<Connection>, bad: BadHead) {
        tracing::debug!(reason = bad.as_str(), "refused a request head");
        self.metrics.bad_requests.with_label_values(&[bad.as_str()]).inc();
        let answer = closing_bytes(bad.problem().into_response());
        if let Ok(Ok(())) = timeout(LINGER, connection.write_all(&answer)).await {
            linger(connection).await;
        }
    }
}

/// Closes a connection after a response. Unread bytes of the client would reset the connection, and the
/// client would lose the response (RFC 9112 section 9.6). A client that does not read it within the linger time loses it.
async fn linger(mut connection: Box<Connection>) {
    let _ = timeout(LINGER, async {
        AsyncWriteExt::shutdown(&mut connection).await?;
        connection.discard(LINGER_BYTES_MAX).await
    })
    .await;
}

/// Downcasts a reusable stream; sessions hold no other type.
fn as_connection(stream: Stream) -> Option<Box<Connection>> {
    stream.into_any().downcast::<Connection>().ok()
}
