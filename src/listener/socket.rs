//! The socket of a connection on the runtime, encrypted or not.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use openssl::ssl::{Error as TlsError, ErrorCode};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::registered::{Registered, register};
use crate::socket::Socket;
use crate::tls::{ServerTls, TlsSocket};

/// Bytes that are taken at once from a decrypted record.
const PENDING_READ_BYTES: usize = 4096;

/// A client's socket that is registered with the runtime.
#[derive(Debug)]
pub(super) enum AsyncSocket {
    Plain(TcpStream),
    Tls(Registered),
}

/// Why a handshake failed, with its label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHandshake {
    /// The client ended the connection.
    Closed,
    /// The client sent a request of HTTP without TLS.
    Http,
    /// No common version, cipher suite or protocol, or an invalid message.
    Failed,
}

impl NoHandshake {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Http => "http",
            Self::Failed => "failed",
        }
    }

    fn of(error: &TlsError) -> Self {
        let is_http = |error: &openssl::error::Error| error.reason_code() == HTTP_REQUEST;
        match error.ssl_error() {
            Some(stack) if stack.errors().iter().any(is_http) => Self::Http,
            Some(_) => Self::Failed,
            None => Self::Closed,
        }
    }
}

/// OpenSSL's reason for a first message that is a request of HTTP (`SSL_R_HTTP_REQUEST`).
const HTTP_REQUEST: i32 = 156;

impl AsyncSocket {
    /// Completes the handshake of a client. The caller limits its time.
    pub(super) async fn accept(stream: TcpStream, tls: &ServerTls) -> Result<Self, NoHandshake> {
        let lost = |_| NoHandshake::Closed;
        let socket = tls.begin(stream.into_std().map_err(lost)?).map_err(|_| NoHandshake::Failed)?;
        let mut socket = register(socket).map_err(lost)?;
        loop {
            let mut readiness = socket.readable_mut().await.map_err(lost)?;
            match readiness.get_inner_mut().accept() {
                Ok(()) => break,
                Err(error) if error.code() == ErrorCode::WANT_READ => readiness.clear_ready(),
                Err(error) => return Err(NoHandshake::of(&error)),
            }
            send(&mut socket).await.map_err(lost)?;
        }
        send(&mut socket).await.map_err(lost)?;
        Ok(Self::Tls(socket))
    }

    /// Deregisters the socket, and appends what is decrypted and not read to `early`.
    pub(super) fn into_socket(self, early: &mut BytesMut) -> io::Result<Socket> {
        match self {
            Self::Plain(stream) => Ok(Socket::Plain(stream.into_std()?)),
            Self::Tls(fd) => {
                let mut socket = fd.into_inner();
                let mut buffer = [0; PENDING_READ_BYTES];
                while socket.has_pending() {
                    let read = io::Read::read(&mut socket, &mut buffer)?;
                    early.extend_from_slice(&buffer[..read]);
                }
                Ok(Socket::Tls(socket))
            }
        }
    }

    /// The protocol version and the cipher suite of an encrypted connection.
    pub(super) fn parameters(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(fd) => Some(fd.get_ref().parameters()),
        }
    }

    /// Waits until a read may yield bytes.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            Self::Tls(fd) if fd.get_ref().has_pending() => Ok(()),
            Self::Tls(fd) => fd.readable().await.map(|mut readiness| readiness.retain_ready()),
        }
    }

    /// Whether bytes have arrived: the runtime has not observed the readiness of a new connection.
    pub(super) fn has_bytes(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match self {
            Self::Plain(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Tls(fd) if fd.get_ref().has_pending() => return true,
            Self::Tls(fd) => SockRef::from(fd.get_ref().socket()).peek(&mut byte),
        }
        .is_ok_and(|bytes| bytes > 0)
    }

    /// Lets the kernel close the connection once the client acknowledges nothing, or takes nothing, for this long.
    pub(super) fn set_peer_timeout(&self, timeout: Duration) {
        let socket = match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Tls(fd) => SockRef::from(fd.get_ref().socket()),
        };
        if let Err(error) = socket.set_tcp_user_timeout(Some(timeout)) {
            // Without it, a client that is gone is detected later.
            tracing::debug!(%error, "TCP_USER_TIMEOUT is not available");
        }
    }

    /// Whether the kernel has everything that was written.
    pub(super) fn is_sent(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(fd) => fd.get_ref().is_sent(),
        }
    }

    /// Reads without consuming.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_peek(cx, buffer),
            Self::Tls(fd) => poll_read_with(fd, cx, |socket| socket.peek(buffer.initialize_unfilled())),
        }
    }
}

impl AsRawFd for AsyncSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Plain(stream) => stream.as_raw_fd(),
            Self::Tls(fd) => fd.as_raw_fd(),
        }
    }
}

impl AsyncRead for AsyncSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(fd) => {
                let unfilled = buffer.initialize_unfilled();
                let read = ready!(poll_read_with(fd, cx, |socket| io::Read::read(socket, unfilled)))?;
                buffer.advance(read);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for AsyncSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(fd) => poll_write_with(fd, cx, |socket| socket.write_slices(slices.iter().map(|slice| &**slice))),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(fd) if fd.get_ref().is_sent() => Poll::Ready(Ok(())),
            Self::Tls(fd) => poll_write_with(fd, cx, TlsSocket::send),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(fd) => {
                fd.get_mut().end();
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Sends what the handshake has written.
async fn send(fd: &mut Registered) -> io::Result<()> {
    std::future::poll_fn(|cx| poll_write_with(fd, cx, TlsSocket::send)).await
}

fn poll_read_with<T>(
    fd: &mut Registered,
    cx: &mut Context<'_>,
    mut read: impl FnMut(&mut TlsSocket) -> io::Result<T>,
) -> Poll<io::Result<T>> {
    if fd.get_ref().has_pending() {
        return Poll::Ready(read(fd.get_mut()));
    }
    loop {
        let mut readiness = ready!(fd.poll_read_ready_mut(cx))?;
        if let Ok(done) = readiness.try_io(|fd| read(fd.get_mut())) {
            return Poll::Ready(done);
        }
    }
}

fn poll_write_with<T>(
    fd: &mut Registered,
    cx: &mut Context<'_>,
    mut write: impl FnMut(&mut TlsSocket) -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        let mut readiness = ready!(fd.poll_write_ready_mut(cx))?;
        if let Ok(done) = readiness.try_io(|fd| write(fd.get_mut())) {
            return Poll::Ready(done);
        }
    }
}
