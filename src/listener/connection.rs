//! A client's TCP connection, which yields exactly one request at a time.
//!
//! The proxy receives a complete, checked head, then the bytes of that request's body and none after them. Pipelined
//! bytes stay buffered here for the next request, or for the stream that takes the socket over.
//! `http2` reads a connection of HTTP/2 through it.

mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use pingora::prelude::fast_timeout::fast_timeout;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{Digest, SocketDigest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::framing::Framing;
use super::head::{self, BadHead, HEAD_BYTES_MAX};
use super::heartbeats::Heartbeats;
use super::http2::{FLOOD, Frames};
use super::socket::AsyncSocket;
use super::waiting::Place;
use crate::socket::Socket;

/// The read size while a head is incomplete, in bytes.
const HEAD_READ_BYTES: usize = 4096;
/// How long a client that half-closed its connection may go without taking a byte of the response. Afterwards it counts
/// as disconnected.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);
/// Smaller writes are coalesced up to this size in bytes, so that a head and a short body leave in one packet.
const OUT_BYTES_MAX: usize = 4096;

/// The preface of HTTP/2 (RFC 9113 section 3.4). It begins like a head.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP2_PREFACE_HEAD: usize = 18;

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: AsyncSocket,
    digest: Arc<SocketDigest>,
    /// Set if the connection is encrypted.
    tls: Option<Arc<SslDigest>>,
    /// Read from the socket, not yet consumed. May hold pipelined requests.
    ahead: BytesMut,
    /// Written by the proxy, not yet by the socket. At most [`OUT_BYTES_MAX`].
    out: BytesMut,
    /// The rest of the current request's body.
    framing: Framing,
    /// Set once the connection is one of HTTP/2.
    frames: Option<Box<Frames>>,
    /// Set once the client has half-closed the connection during a response: the time at which it counts as
    /// disconnected.
    half_closed: Option<Pin<Box<Sleep>>>,
    heartbeats: Heartbeats,
    places: Places,
    permit: OwnedSemaphorePermit,
}

/// A connection's places in the two eviction queues.
#[derive(Debug)]
pub(super) struct Places {
    /// In the queue of all connections that wait for their clients.
    pub waiting: Place,
    /// In the queue of connections whose clients do not read a response.
    pub stalled: Place,
}

/// The parts of a connection that leaves the proxy.
#[derive(Debug)]
pub struct Parts {
    pub socket: Socket,
    /// Bytes that the client sent after the last head.
    pub early: BytesMut,
    /// Held while the connection is open: it counts against the limit of connections.
    pub permit: OwnedSemaphorePermit,
}

/// Why a connection yields no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The client disconnected, or was idle for too long. No response is needed.
    Closed,
    Refused(BadHead),
    /// The preface of HTTP/2 has begun. It is still to be read.
    Http2,
}

impl Connection {
    pub(super) fn new(stream: AsyncSocket, peer: SocketAddr, places: Places, permit: OwnedSemaphorePermit) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // A new cell is empty, so this succeeds.
        let _ = digest.peer_addr.set(Some(peer.into()));
        let tls = stream.parameters();
        let tls = tls.map(|(version, cipher)| Arc::new(SslDigest::new(cipher, version, None, None, Vec::new())));
        Self {
            stream,
            digest: Arc::new(digest),
            tls,
            ahead: BytesMut::new(),
            out: BytesMut::new(),
            framing: Framing::Length(0),
            frames: None,
            half_closed: None,
            heartbeats: Heartbeats::default(),
            places,
            permit,
        }
    }

    /// The heartbeats of the response that the proxy writes.
    pub fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    /// Takes the connection from the proxy. Unflushed output is discarded: the proxy must not have written any.
    ///
    /// # Errors
    ///
    /// The socket cannot be deregistered from the runtime, or a record is invalid.
    pub fn into_parts(self) -> io::Result<Parts> {
        let mut early = self.ahead;
        Ok(Parts { socket: self.stream.into_socket(&mut early)?, early, permit: self.permit })
    }

    /// Passes on all bytes from now on. Returns what describes the connection to its requests, and another place of it among
    /// those that wait for their clients.
    pub(super) fn begin_http2(&mut self, peer_timeout: Duration) -> (Digest, Place) {
        self.framing = Framing::Tunnel;
        self.frames = Some(Box::new(Frames::new(HTTP2_PREFACE.len(), Instant::now())));
        self.stream.set_peer_timeout(peer_timeout);
        let (ssl_digest, socket_digest) = (self.tls.clone(), Some(self.digest.clone()));
        (Digest { ssl_digest, socket_digest, ..Digest::default() }, self.places.waiting.another())
    }

    /// Waits for the client's next bytes without holding buffers. False if it disconnects or `idle` passes.
    pub(super) async fn wait_for_bytes(&mut self, idle: Duration) -> bool {
        if !self.ahead.is_empty() {
            // Requests that were sent ahead do not keep the thread from other connections.
            tokio::task::yield_now().await;
            return true;
        }
        self.ahead = BytesMut::new();
        self.out = BytesMut::new();
        if !self.stream.has_bytes() {
            self.places.waiting.wait();
        }
        let has_bytes = matches!(fast_timeout(idle, self.read_first()).await, Ok(Ok(1..)));
        self.places.waiting.progress();
        has_bytes
    }

    async fn read_first(&mut self) -> io::Result<usize> {
        loop {
            // Readiness may be stale, so only a read shows whether there are bytes.
            self.stream.readable().await?;
            self.ahead.reserve(HEAD_READ_BYTES);
            // Unlike `try_read_buf`, `read_buf` clears the readiness after a short read. `poll_hangup` then needs no
            // system call.
            let mut read = pin!(self.stream.read_buf(&mut self.ahead));
            match poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await {
                Poll::Ready(read) => return read,
                Poll::Pending => self.ahead = BytesMut::new(),
            }
        }
    }

    /// Reads and checks the next head within `limit`.
    pub(super) async fn next_head(&mut self, limit: Duration) -> Result<BytesMut, NoHead> {
        self.heartbeats.stop();
        match fast_timeout(limit, self.read_head()).await {
            Ok(head) => head,
            Err(_) if self.ahead.is_empty() => Err(NoHead::Closed),
            Err(_) => Err(NoHead::Refused(BadHead::Timeout)),
        }
    }

    async fn read_head(&mut self) -> Result<BytesMut, NoHead> {
        let mut seen = 0;
        loop {
            // RFC 9112 section 2.2: a server ignores empty lines before a request line.
            let blank = self.ahead.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.ahead.advance(blank);
            if let Some(end) = head::end(&self.ahead, seen) {
                if self.ahead[..end] == HTTP2_PREFACE[..HTTP2_PREFACE_HEAD] {
                    return Err(NoHead::Http2);
                }
                if end > HEAD_BYTES_MAX {
                    return Err(NoHead::Refused(BadHead::TooLarge));
                }
                self.framing = head::check(&self.ahead[..end]).map_err(NoHead::Refused)?;
                return Ok(head::readable(self.ahead.split_to(end)));
            }
            seen = self.ahead.len();
            if seen > HEAD_BYTES_MAX {
                return Err(NoHead::Refused(BadHead::TooLarge));
            }
            self.ahead.reserve(HEAD_READ_BYTES);
            self.places.waiting.wait();
            let read = self.stream.read_buf(&mut self.ahead).await;
            self.places.waiting.progress();
            match read {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(NoHead::Closed),
            }
        }
    }

    /// Reads and discards what the client still sends, up to this many bytes. The connection counts as one that waits for
    /// its client, whatever the client sends.
    pub(super) async fn discard(&mut self, mut left: usize) -> io::Result<()> {
        let mut scrap = [0; HEAD_READ_BYTES];
        self.places.waiting.wait();
        while left > 0 {
            match self.stream.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }

    /// Moves buffered bytes of the body into `buf`.
    fn read_ahead(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let offered = self.ahead.len().min(buf.remaining());
        let taken = self.framing.take(&self.ahead[..offered]).map_err(malformed)?;
        buf.put_slice(&self.ahead[..taken]);
        self.ahead.advance(taken);
        Ok(())
    }

    /// Reads from the socket, and buffers the bytes after the body.
    fn poll_read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) else {
            // A tunnel may be idle: it has its own timeout.
            if self.framing != Framing::Tunnel {
                self.places.waiting.wait();
            }
            return Poll::Pending;
        };
        self.places.waiting.progress();
        read?;
        let new = &buf.filled()[before..];
        let taken = self.framing.take(new).map_err(malformed)?;
        self.ahead.extend_from_slice(&new[taken..]);
        buf.set_filled(before + taken);
        Poll::Ready(Ok(()))
    }

    /// The body has ended: the proxy only waits for the client to disconnect.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        match ready!(self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            // A half-close and a disconnection look alike until a write fails.
            Ok(0) => {
                let gone = self.half_closed.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED_MAX)));
                gone.as_mut().poll(cx).map(Ok)
            }
            // A pipelined request: the task is not woken for it before the response ends.
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Writes to the socket.
    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if sent.is_ready() {
            self.half_closed = None;
        }
        if let (Poll::Ready(Ok(sent)), Some(frames)) = (&sent, &mut self.frames) {
            frames.send(*sent);
        }
        self.note_reader(sent.is_pending());
        sent
    }

    /// Notes whether the connection waits for its client to read.
    fn note_reader(&mut self, is_waiting: bool) {
        for place in [&mut self.places.waiting, &mut self.places.stalled] {
            if is_waiting { place.wait() } else { place.progress() }
        }
    }

    fn poll_flush_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            let sent = self.poll_send(cx, &[io::IoSlice::new(&out)]);
            self.out = out;
            let written = ready!(sent)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        if self.stream.is_sent() {
            return Poll::Ready(Ok(()));
        }
        let sent = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_reader(sent.is_pending());
        sent
    }

    /// The same, and a heartbeat if one is due: only after everything else, so that a client that does not read has at
    /// most one ahead of it.
    fn poll_flush_with_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush_out(cx))?;
        let Some(heartbeat) = self.heartbeats.poll(cx) else { return Poll::Ready(Ok(())) };
        self.out.extend_from_slice(&heartbeat);
        self.poll_flush_out(cx)
    }
}

fn malformed(error: super::framing::BadChunk) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The proxy reads after it has written everything: flush, so that no output waits for a response to it.
        if let Poll::Ready(Err(error)) = this.poll_flush_with_heartbeat(cx) {
            return Poll::Ready(Err(error));
        }
        if this.framing.is_over() {
            return this.poll_hangup(cx);
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(this.poll_read_body(cx, buf))?;
        } else {
            this.read_ahead(buf)?;
        }
        if let Some(frames) = &mut this.frames {
            let flood = |flood| io::Error::new(FLOOD, flood);
            frames.receive(&buf.filled()[before..], Instant::now()).map_err(flood)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if this.out.len() + total > OUT_BYTES_MAX {
            ready!(this.poll_flush_out(cx))?;
        }
        if total >= OUT_BYTES_MAX {
            return this.poll_send(cx, slices);
        }
        for slice in slices {
            this.out.extend_from_slice(slice);
        }
        Poll::Ready(Ok(total))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_flush_out(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
