//! The settings of TLS as a server: versions, ciphers, and the certificate for a server name.

use std::fmt;
use std::net::TcpStream;

use openssl::error::ErrorStack;
use openssl::ssl::{
    AlpnError, NameType, SniError, Ssl, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslMode, SslOptions,
    SslRef, SslSessionCacheMode, select_next_proto,
};
use sha2::{Digest, Sha256};

use super::{Identity, IdentityError, TlsSocket};

/// The protocols in ALPN, in the order of preference.
const PROTOCOLS: &[u8] = b"\x02h2\x08http/1.1";

/// A TLS server with one or more identities. Two are equal if their certificates are.
pub struct ServerTls {
    context: SslContext,
    /// The SHA-256 of all certificates.
    digest: [u8; 32],
}

impl ServerTls {
    /// A server with these identities. The first one also serves clients that send no name, or an unknown one.
    ///
    /// # Errors
    ///
    /// There is no identity, or OpenSSL rejects one: a key is too short, for example. The position is that of the
    /// identity.
    pub fn new(identities: &[Identity]) -> Result<Self, (usize, IdentityError)> {
        let mut named = Vec::new();
        for (at, identity) in identities.iter().enumerate().skip(1) {
            let context = context(identity).map_err(|error| (at, error.into()))?.build().into_context();
            named.push((identity.names(), context));
        }
        let first = identities.first().ok_or((0, IdentityError::NoCertificate))?;
        let mut builder = context(first).map_err(|error| (0, error.into()))?;
        let own = first.names();
        builder.set_servername_callback(move |ssl, _| select(ssl, &own, &named));
        let digest = digest(identities).map_err(|error| (0, error.into()))?;
        Ok(Self { context: builder.build().into_context(), digest })
    }

    /// A connection whose handshake has not begun. The socket is non-blocking.
    ///
    /// # Errors
    ///
    /// OpenSSL has no memory.
    pub fn begin(&self, socket: TcpStream) -> Result<TlsSocket, ErrorStack> {
        TlsSocket::new(Ssl::new(&self.context)?, socket)
    }
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

/// Mozilla's intermediate recommendation: TLS 1.2 with forward secrecy and authenticated encryption, and TLS 1.3.
fn context(identity: &Identity) -> Result<SslAcceptorBuilder, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    // A client could cost a handshake per message. A connection that ends without an alert is common; the framing of
    // HTTP detects a message that was cut short.
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::IGNORE_UNEXPECTED_EOF);
    // An idle connection holds no record buffers, which are 34 KB.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    // Tickets resume sessions without memory of the server.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_num_tickets(1)?;
    builder.set_private_key(&identity.key)?;
    if let Some((own, others)) = identity.chain.split_first() {
        builder.set_certificate(own)?;
        for other in others {
            builder.add_extra_chain_cert(other.clone())?;
        }
    }
    builder.check_private_key()?;
    builder.set_alpn_select_callback(|_, offered| select_next_proto(PROTOCOLS, offered).ok_or(AlpnError::ALERT_FATAL));
    Ok(builder)
}

/// Selects the context for the server name that the client sent (RFC 6066 section 3).
fn select(ssl: &mut SslRef, own: &[String], named: &[(Vec<String>, SslContext)]) -> Result<(), SniError> {
    let Some(asked) = ssl.servername(NameType::HOST_NAME).map(str::to_ascii_lowercase) else { return Ok(()) };
    let is_named = |exactly: bool, names: &[String]| names.iter().any(|name| matches(name, &asked, exactly));
    // An exact name precedes a wildcard, whatever the order of certificates.
    for exactly in [true, false] {
        if is_named(exactly, own) {
            return Ok(());
        }
        if let Some((_, context)) = named.iter().find(|(names, _)| is_named(exactly, names)) {
            return ssl.set_ssl_context(context).map_err(|_| SniError::ALERT_FATAL);
        }
    }
    Ok(())
}

/// Whether a name of a certificate is the asked one, or a wildcard for its first label (RFC 9525 section 6.3).
fn matches(name: &str, asked: &str, exactly: bool) -> bool {
    match name.strip_prefix("*.") {
        Some(suffix) => {
            !exactly && asked.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == suffix)
        }
        None => exactly && name == asked,
    }
}

fn digest(identities: &[Identity]) -> Result<[u8; 32], ErrorStack> {
    let mut hash = Sha256::new();
    for identity in identities {
        for certificate in &identity.chain {
            hash.update(certificate.to_der()?);
        }
        // Separates the chains.
        hash.update(identity.key.public_key_to_der()?);
    }
    Ok(hash.finalize().into())
}
