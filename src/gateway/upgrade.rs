//! Connections to the upstream for upgrades (WebSockets of the service), which delay the 101 response.
//!
//! Pingora interprets the end of the request's empty body as the end of the tunnel if it arrives after the 101 response
//! (cloudflare/pingora issue 946). If the upstream responded fast, the tunnel would be closed as soon as it opens.
//! These connections therefore read a response only at the third poll after a request was written. By then Pingora has
//! forwarded the end of the body: both halves of its exchange have been polled once, in one task.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::header::UPGRADE;
use pingora::connectors::L4Connect;
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{handshake, upstream};

/// Polls that are skipped before a response is read.
const POLLS: u8 = 2;
/// A pool group of their own: such connections are not reused for ordinary requests.
const GROUP: u64 = 1;

/// Removes an `Upgrade` to anything but WebSocket from a request, as a server may (RFC 9110 section 7.8). Pingora would
/// not forward it, but would still read the client's next bytes as a tunnel.
pub(super) fn decline_others(request: &mut RequestHeader) -> pingora::Result<()> {
    if !request.headers.contains_key(UPGRADE) {
        return Ok(());
    }
    let is_websocket = handshake::is_asked(&request.headers);
    if is_websocket {
        return request.insert_header(UPGRADE, "websocket");
    }
    request.remove_header(&UPGRADE);
    request.remove_header("http2-settings");
    Ok(())
}

/// Makes the connections of this peer delay their responses.
pub(super) fn prepare(peer: &mut HttpPeer, connect_timeout: Duration) {
    peer.group_key = GROUP;
    peer.options.custom_l4 = Some(Arc::new(Connector { connect_timeout }));
}

#[derive(Debug)]
struct Connector {
    connect_timeout: Duration,
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let address = address.as_inet().ok_or_else(|| Error::new(ErrorType::SocketError))?;
        let connecting = tokio::time::timeout(self.connect_timeout, TcpStream::connect(address));
        let stream = match connecting.await {
            Ok(connected) => connected.map_err(not_connected)?,
            Err(elapsed) => return Err(Error::because(ErrorType::ConnectTimedout, "upgrade", elapsed)),
        };
        upstream::check_descriptor(stream.as_raw_fd())?;
        let delayed = DelayedRead { stream, polls_left: 0 };
        Ok(Stream::from(VirtualSocketStream::new(Box::new(delayed))))
    }
}

fn not_connected(error: io::Error) -> Box<Error> {
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::because(kind, "upgrade", error)
}

/// A connection that delays its first read after a write.
#[derive(Debug)]
struct DelayedRead {
    stream: TcpStream,
    /// Polls left to skip.
    polls_left: u8,
}

impl AsyncRead for DelayedRead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.polls_left > 0 {
            self.polls_left -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for DelayedRead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.polls_left = POLLS;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl VirtualSocket for DelayedRead {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.set_nodelay(true),
            // Not used: an idle tunnel has its own timeout.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_response_is_delayed_by_two_polls() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        let mut delayed = DelayedRead { stream, polls_left: 0 };
        delayed.write_all(b"ask").await.unwrap();
        upstream.write_all(b"answer").await.unwrap();
        delayed.stream.readable().await.unwrap();

        let mut polls = 0;
        let mut buffer = [0; 6];
        let mut read = ReadBuf::new(&mut buffer);
        std::future::poll_fn(|cx| {
            polls += 1;
            Pin::new(&mut delayed).poll_read(cx, &mut read)
        })
        .await
        .unwrap();
        assert_eq!((polls, read.filled()), (3, &b"answer"[..]));
        upstream.write_all(b"!").await.unwrap();
        delayed.stream.readable().await.unwrap();
        assert_eq!(delayed.read_u8().await.unwrap(), b'!');
        assert_eq!(delayed.polls_left, 0, "no more waiting until something is written");
    }
}
