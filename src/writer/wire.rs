//! The wire of a stream: how a writer reads from a peer and writes to it. Everything above it runs without sockets.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::codec::Parts;

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

/// Plain TCP.
impl Wire for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn write(&mut self, parts: &Parts<'_, '_>) -> io::Result<usize> {
        match parts.only() {
            Some(only) => Write::write(self, only),
            None => self.write_vectored(&parts.slices().map(IoSlice::new).collect::<Vec<_>>()),
        }
    }

    fn end(&mut self) {
        // A peer that is gone needs no shutdown.
        let _ = self.shutdown(Shutdown::Write);
    }

    fn peer(&self) -> io::Result<Peer> {
        Peer::of(self)
    }

    fn set_peer_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        SockRef::from(&*self).set_tcp_user_timeout(timeout)
    }
}
