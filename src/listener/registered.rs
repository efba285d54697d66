//! Registers an encrypted socket with the runtime.

#![allow(unsafe_code)]

use std::io;

use tokio::io::unix::AsyncFd;

use crate::tls::TlsSocket;

/// An encrypted socket whose readiness the runtime reports.
pub(super) type Registered = AsyncFd<Box<TlsSocket>>;

/// # Errors
///
/// The runtime rejects the descriptor.
pub(super) fn register(socket: TlsSocket) -> io::Result<Registered> {
    // SAFETY: the descriptor belongs to the socket, which the result owns. A `TlsSocket` closes its descriptor only when
    // it is dropped, and never exchanges it.
    unsafe { AsyncFd::register(Box::new(socket)) }.map_err(io::Error::from)
}
