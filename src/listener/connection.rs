//! One client's TCP connection, as the proxy is allowed to see it: exactly one request at a time.
//!
//! The proxy behind gets a whole, checked head, then the bytes of that request's body and not one more; what the
//! client sent ahead stays here for the next request, or for the stream that takes the socket. It knows no TLS and
//! no HTTP/2.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::prelude::fast_timeout::fast_timeout;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::framing::Framing;
use super::head::{self, BadHead, HEAD_BYTES_MAX};
use super::waiting::Place;

/// What is read at a time while a head is incomplete, in bytes.
const HEAD_READ_BYTES: usize = 4096;
/// How long a client that has closed its side waits for the next byte of its answer before it counts as gone.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);
/// Small writes are gathered up to this many bytes: a head and a short body leave in one packet.
const OUT_BYTES_MAX: usize = 4096;

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    digest: Arc<SocketDigest>,
    /// Read from the socket, not yet given to anybody.
    ahead: BytesMut,
    /// Written by the proxy, not yet to the socket.
    out: BytesMut,
    /// What is left of the current request's body.
    framing: Framing,
    /// Set where the client has sent its last byte while it is being answered: when it counts as gone.
    half_closed: Option<Pin<Box<Sleep>>>,
    places: Places,
    permit: OwnedSemaphorePermit,
}

/// Where a connection stands that waits for its client.
#[derive(Debug)]
pub(super) struct Places {
    /// Among all that wait.
    pub waiting: Place,
    /// Among those whose clients take no more of an answer.
    pub stalled: Place,
}

/// A connection taken from the proxy.
#[derive(Debug)]
pub struct Parts {
    /// Non-blocking.
    pub socket: std::net::TcpStream,
    /// What the client sent behind the last head.
    pub early: BytesMut,
    /// Counts as an open connection while it is held.
    pub permit: OwnedSemaphorePermit,
}

/// Why no request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The client left, or was idle for too long: nobody waits for an answer.
    Closed,
    Refused(BadHead),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, places: Places, permit: OwnedSemaphorePermit) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // Fresh, so it is empty and takes the value.
        let _ = digest.peer_addr.set(Some(peer.into()));
        Self {
            stream,
            digest: Arc::new(digest),
            ahead: BytesMut::new(),
            out: BytesMut::new(),
            framing: Framing::Length(0),
            half_closed: None,
            places,
            permit,
        }
    }

    /// The socket, for whoever goes on without the proxy. What the proxy wrote is not flushed: it must not have.
    pub fn into_parts(self) -> io::Result<Parts> {
        Ok(Parts { socket: self.stream.into_std()?, early: self.ahead, permit: self.permit })
    }

    /// Waits for the client's next bytes, without holding buffers meanwhile; false where it left or `idle` passed.
    pub(super) async fn is_speaking(&mut self, idle: Duration) -> bool {
        if !self.ahead.is_empty() {
            return true;
        }
        self.ahead = BytesMut::new();
        self.out = BytesMut::new();
        if !self.has_bytes() {
            self.places.waiting.wait();
        }
        let is_speaking = matches!(fast_timeout(idle, self.read_first()).await, Ok(Ok(1..)));
        self.places.waiting.progress();
        is_speaking
    }

    /// Whether bytes have come already: the runtime does not know of those of a new connection.
    fn has_bytes(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        SockRef::from(&self.stream).peek(&mut byte).is_ok_and(|bytes| bytes > 0)
    }

    async fn read_first(&mut self) -> io::Result<usize> {
        loop {
            // Readiness may be left over from before: only bytes are bytes.
            self.stream.readable().await?;
            self.ahead.reserve(HEAD_READ_BYTES);
            // Not `try_read_buf`: after a short read this one knows that there is no more, and who looks for a hangup
            // later needs no system call to learn it.
            let mut read = pin!(self.stream.read_buf(&mut self.ahead));
            match poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await {
                Poll::Ready(read) => return read,
                Poll::Pending => self.ahead = BytesMut::new(),
            }
        }
    }

    /// Reads and checks the next head, in at most `limit` from now.
    pub(super) async fn next_head(&mut self, limit: Duration) -> Result<BytesMut, NoHead> {
        match fast_timeout(limit, self.read_head()).await {
            Ok(head) => head,
            Err(_) if self.ahead.is_empty() => Err(NoHead::Closed),
            Err(_) => Err(NoHead::Refused(BadHead::Timeout)),
        }
    }

    async fn read_head(&mut self) -> Result<BytesMut, NoHead> {
        let mut seen = 0;
        loop {
            // RFC 9112 section 2.2: empty lines before a request line are ignored.
            let blank = self.ahead.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.ahead.advance(blank);
            if let Some(end) = head::end(&self.ahead, seen) {
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

    /// Reads everything from now on, whatever it is.
    pub(super) fn forget_framing(&mut self) {
        self.framing = Framing::Tunnel;
    }

    /// Gives the body's share of what was read ahead.
    fn read_ahead(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let offered = self.ahead.len().min(buf.remaining());
        let taken = self.framing.take(&self.ahead[..offered]).map_err(malformed)?;
        buf.put_slice(&self.ahead[..taken]);
        self.ahead.advance(taken);
        Ok(())
    }

    /// Reads from the socket and keeps what lies behind the body.
    fn poll_read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) else {
            // A tunnel may be silent for as long as its ends like.
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

    /// The body is over: the proxy only wants to know whether the client is still there.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        match ready!(self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            // It has sent all that it wanted to, or has left: that looks the same until it refuses what is sent.
            Ok(0) => {
                let gone = self.half_closed.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED_MAX)));
                gone.as_mut().poll(cx).map(Ok)
            }
            // The next request: it waits its turn, and nobody needs to be woken for it.
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
        for place in [&mut self.places.waiting, &mut self.places.stalled] {
            if sent.is_pending() { place.wait() } else { place.progress() }
        }
        sent
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
        Poll::Ready(Ok(()))
    }
}

fn malformed(error: super::framing::BadChunk) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Who waits for the client has said what there was to say: nothing written may stay behind.
        if let Poll::Ready(Err(error)) = this.poll_flush_out(cx) {
            return Poll::Ready(Err(error));
        }
        if this.framing.is_over() {
            return this.poll_hangup(cx);
        }
        if !this.ahead.is_empty() {
            return Poll::Ready(this.read_ahead(buf));
        }
        this.poll_read_body(cx, buf)
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

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The peer may be gone already, which is what was wanted.
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.stream.as_raw_fd()
    }
}

impl Ssl for Connection {}

impl Peek for Connection {}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}
