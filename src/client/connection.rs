//! A TCP connection, with TLS if the URL requires it.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslStream};

use super::{Failure, Target};

/// The protocol offered in ALPN.
const HTTP11: &[u8] = b"\x08http/1.1";

#[derive(Debug)]
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Connection {
    /// Connects, with `patience` as the time limit for each address and for the TLS handshake.
    pub(super) fn open(target: &Target, patience: Duration) -> Result<Self, Failure> {
        let unreachable = |error: io::Error| Failure::Unreachable(error.to_string());
        let mut last = Failure::Unreachable("the name has no address".to_owned());
        for address in (&*target.host, target.port).to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(unreachable)?;
                    socket.set_read_timeout(Some(patience)).map_err(unreachable)?;
                    socket.set_write_timeout(Some(patience)).map_err(unreachable)?;
                    return if target.tls { encrypt(target, socket) } else { Ok(Self::Plain(socket)) };
                }
                Err(error) => last = unreachable(error),
            }
        }
        Err(last)
    }

    /// Sets the read timeout.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        };
        // Zero would disable the timeout.
        socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))
    }
}

/// The certificate must be trusted by this host, and valid for this name.
fn encrypt(target: &Target, socket: TcpStream) -> Result<Connection, Failure> {
    let connector = SslConnector::builder(SslMethod::tls()).and_then(|mut builder| {
        builder.set_alpn_protos(HTTP11)?;
        Ok(builder.build())
    });
    let connector = connector.map_err(|error| Failure::Unreachable(error.to_string()))?;
    match connector.connect(&target.host, socket) {
        Ok(stream) => Ok(Connection::Tls(Box::new(stream))),
        Err(error) => Err(Failure::Unreachable(format!("TLS: {error}"))),
    }
}

impl Read for Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
