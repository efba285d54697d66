//! TLS as a server: certificates with their keys, the choice among them by server name, and the encrypted connection.
//!
//! It opens no sockets and reads no files. TLS as a client is in `http_client`.

mod identity;
mod server;
mod session;

pub(crate) use identity::unix_seconds;
pub use identity::{Identity, IdentityError};
pub use server::ServerTls;
pub use session::TlsSocket;

#[cfg(test)]
mod tests;
