//! A client's socket, encrypted or not: it is passed from the listener to a writer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::response_stream::ResponseStream;
use crate::tls::TlsSocket;

/// A client's non-blocking socket.
#[derive(Debug)]
pub enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsSocket>),
    /// One stream of an HTTP/2 connection, which has no descriptor of its own.
    Http2(Box<ResponseStream>),
}

impl Socket {
    /// Ends our direction, after everything that was written.
    pub fn end(&mut self) {
        match self {
            // A peer that is gone needs no shutdown.
            Self::Plain(socket) => drop(socket.shutdown(Shutdown::Write)),
            Self::Tls(socket) => socket.end(),
            Self::Http2(stream) => stream.end(),
        }
    }

    /// The TCP connection, for its options and readiness. `None` for a stream of HTTP/2.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(socket) => Some(socket.socket()),
            Self::Http2(_) => None,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(socket) => socket.read(buffer),
            Self::Http2(stream) => stream.read(),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(socket) => socket.write(bytes),
            Self::Http2(stream) => stream.write([bytes].into_iter()),
        }
    }

    /// Sends the bytes that were accepted and are not with the kernel yet.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(socket) => socket.flush(),
            Self::Http2(_) => Ok(()),
        }
    }
}
