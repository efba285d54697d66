//! Takes a request's socket out of Pingora's session, which occupies some 30 KB until it is dropped.
//!
//! It neither reads nor writes the socket.

use bytes::Bytes;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use tokio::sync::OwnedSemaphorePermit;

use crate::listener::Connection;
use crate::response_stream::ResponseStream;
use crate::socket::Socket;

/// A socket that has left the proxy.
pub(super) struct Detached {
    /// TCP_NODELAY has been set since it was accepted.
    pub socket: Socket,
    /// Bytes that the client sent after the request head.
    pub early: Bytes,
    /// Held while the connection is open: it counts against the limit of connections.
    /// `None` for a stream of HTTP/2, whose connection stays with the listener.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Why a socket could not be taken. No response is possible: the connection is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    #[error("the session is not of a connection of ours")]
    Foreign,
    #[error("the socket cannot leave its runtime: {0}")]
    Socket(#[from] std::io::Error),
}

/// Takes the socket. It leaves an empty session behind, whose head must not be accessed.
pub(super) fn take(session: &mut Session) -> Result<Detached, HandoverError> {
    let empty = ServerSession::new_http1(Box::new(std::io::Cursor::new(Vec::<u8>::new())));
    let taken = std::mem::replace(&mut session.downstream_session, Box::new(empty));
    let http1 = match *taken {
        ServerSession::H1(http1) => http1,
        ServerSession::H2(http2) => {
            let socket = Socket::Http2(Box::new(ResponseStream::new(http2)));
            return Ok(Detached { socket, early: Bytes::new(), permit: None });
        }
        _ => return Err(HandoverError::Foreign),
    };
    let connection = http1.into_inner().into_any().downcast::<Connection>();
    let parts = connection.map_err(|_| HandoverError::Foreign)?.into_parts()?;
    Ok(Detached { socket: parts.socket, early: parts.early.freeze(), permit: Some(parts.permit) })
}
