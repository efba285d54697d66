//! One TLS connection over a non-blocking socket, as proxies and writers read and write it.
//!
//! A record that OpenSSL has encrypted must be sent, whatever happens to the queue that its content came from. So a
//! write that was accepted is final: the rest of a record that the kernel does not accept is kept here, and nothing
//! more is encrypted before it is sent. At most one write's record is kept.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use openssl::error::ErrorStack;
use openssl::ssl::{Error, ErrorCode, Ssl, SslStream};

/// The most bytes of one record (RFC 8446 section 5.1).
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024;

/// A TLS connection. Its reads and writes do not block.
pub struct TlsSocket {
    stream: SslStream<Carrier>,
}

/// The socket below, which accepts every record as a whole.
#[derive(Debug)]
struct Carrier {
    socket: TcpStream,
    /// The rest of the records that the kernel has not accepted.
    unsent: Vec<u8>,
}

impl TlsSocket {
    pub(super) fn new(ssl: Ssl, socket: TcpStream) -> Result<Self, ErrorStack> {
        Ok(Self { stream: SslStream::new(ssl, Carrier { socket, unsent: Vec::new() })? })
    }

    /// Continues the handshake. An error of the kind `WouldBlock`: more has to arrive, and [`Self::send`] may have to
    /// send what the client waits for.
    ///
    /// # Errors
    ///
    /// The handshake waits or fails, or the connection is lost.
    pub fn accept(&mut self) -> Result<(), Error> {
        self.stream.accept()
    }

    /// The protocol version and the cipher suite.
    pub fn parameters(&self) -> (&'static str, &'static str) {
        let ssl = self.stream.ssl();
        (ssl.version_str(), ssl.current_cipher().map_or("", |cipher| cipher.name()))
    }

    /// Whether bytes are decrypted and not read: the socket does not become readable for them.
    pub fn has_pending(&self) -> bool {
        self.stream.ssl().pending() > 0
    }

    /// Whether everything that was written is with the kernel.
    pub fn is_sent(&self) -> bool {
        self.stream.get_ref().unsent.is_empty()
    }

    /// Reads without consuming. 0 means that the client has ended its direction.
    ///
    /// # Errors
    ///
    /// Nothing has arrived, or the connection is lost.
    pub fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.ssl_peek(buffer) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => Ok(0),
            Err(error) => Err(error.into_io_error().unwrap_or_else(io::Error::other)),
        }
    }

    /// Sends the rest of a record.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: the kernel does not accept all of it. Others: the connection is lost.
    pub fn send(&mut self) -> io::Result<()> {
        self.stream.get_mut().send()
    }

    /// Encrypts these slices, as one message, in full records. Returns how many of their bytes were accepted: fewer
    /// once the kernel accepts no more.
    ///
    /// # Errors
    ///
    /// Nothing is accepted at present, or the connection is lost.
    pub fn write_slices<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut record = Vec::with_capacity(RECORD_BYTES_MAX);
        let mut written = 0;
        for mut slice in slices {
            while !slice.is_empty() {
                let (fitting, rest) = slice.split_at(slice.len().min(RECORD_BYTES_MAX - record.len()));
                record.extend_from_slice(fitting);
                slice = rest;
                if record.len() == RECORD_BYTES_MAX {
                    written += self.write(&record)?;
                    record.clear();
                    if !self.is_sent() {
                        return Ok(written);
                    }
                }
            }
        }
        if !record.is_empty() {
            written += self.write(&record)?;
        }
        Ok(written)
    }

    /// Ends our direction after everything that was written: an alert, and the end of the TCP stream.
    pub fn end(&mut self) {
        // A client that is gone needs neither. The alert is small: a kernel that accepted all before accepts it, too.
        let _ = self.stream.shutdown();
        let _ = self.stream.get_ref().socket.shutdown(Shutdown::Write);
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream.get_ref().socket
    }
}

impl Read for TlsSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for TlsSocket {
    /// Accepts at most one record, as a whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?;
        self.stream.write(&bytes[..bytes.len().min(RECORD_BYTES_MAX)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl AsRawFd for TlsSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

impl std::fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsSocket").field(self.socket()).finish()
    }
}

impl Carrier {
    /// How many of these bytes the kernel accepts at once.
    fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        match (&self.socket).write(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            offered => offered,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                // An idle connection keeps no buffer.
                Ok(sent) if sent == self.unsent.len() => self.unsent = Vec::new(),
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Carrier {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Carrier {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = if self.unsent.is_empty() { &bytes[self.offer(bytes)?..] } else { bytes };
        self.unsent.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
