//! The wire of a stream: how a writer reads from a peer and writes to it. Everything above it runs without sockets.

use std::io::{self, IoSlice, Read, Write};
use std::time::Duration;

use socket2::SockRef;

use crate::codec::Parts;
use crate::response_stream::ResponseStream;
use crate::socket::Socket;

use super::tcp_info::Peer;

/// One peer. Reads and writes do not block: an error of the kind `WouldBlock` means that the wire reports readiness
/// once it can continue.
pub(crate) trait Wire {
    /// Reads into `buffer`. 0 means that the peer has ended its direction.
    ///
    /// # Errors
    ///
    /// Nothing has arrived, or the peer is gone.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes these parts in order, in one call. Returns how many bytes of them the wire has taken.
    ///
    /// # Errors
    ///
    /// The wire takes nothing at present, or the peer is gone.
    fn write(&mut self, parts: &Parts<'_, '_>) -> io::Result<usize>;

    /// Sends what the wire has taken and still holds. A wire that holds nothing needs no more than this.
    ///
    /// # Errors
    ///
    /// It still holds bytes (`WouldBlock`), or the peer is gone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Ends our direction, after everything that was written.
    fn end(&mut self);

    /// What the peer has acknowledged.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    fn peer(&self) -> io::Result<Peer>;

    /// Lets the wire give up a peer that acknowledges nothing for this long, and probe it before; `None`: it decides
    /// nothing.
    ///
    /// # Errors
    ///
    /// It is not supported, or the peer is gone.
    fn set_peer_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;
}

/// TCP, TLS over it, and a stream of HTTP/2.
impl Wire for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn write(&mut self, parts: &Parts<'_, '_>) -> io::Result<usize> {
        match (self, parts.only()) {
            (Self::Plain(socket), Some(only)) => socket.write(only),
            (Self::Plain(socket), None) => socket.write_vectored(&parts.slices().map(IoSlice::new).collect::<Vec<_>>()),
            (Self::Tls(socket), Some(only)) => socket.write(only),
            (Self::Tls(socket), None) => socket.write_slices(parts.slices()),
            (Self::Http2(stream), _) => stream.write(parts.slices()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }

    fn end(&mut self) {
        Self::end(self);
    }

    fn peer(&self) -> io::Result<Peer> {
        match self {
            Self::Plain(socket) => Peer::of(socket),
            Self::Tls(socket) => Peer::of(&**socket),
            Self::Http2(stream) => Ok(of_window(stream)),
        }
    }

    fn set_peer_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.tcp() {
            Some(tcp) => SockRef::from(tcp).set_tcp_user_timeout(timeout),
            // The connection has other streams.
            None => Ok(()),
        }
    }
}

/// What the client of a stream of HTTP/2 has made room for. Its connection finds out whether it is gone.
fn of_window(stream: &ResponseStream) -> Peer {
    let (is_blocked, written) = stream.progress();
    Peer {
        is_unacked: false,
        is_unsent: is_blocked,
        is_probed: false,
        acked: written,
        sent: Duration::ZERO,
        silent: Duration::ZERO,
    }
}
