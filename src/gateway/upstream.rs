//! The way to the upstream: its address, its limits, and whether a failed attempt may be repeated.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use crate::config::snapshot::Upstream;

/// How long a resolved name is used before it is asked for again.
const RESOLVED_FOR: Duration = Duration::from_secs(5);
/// The most addresses of one name that are tried.
pub(super) const ADDRESSES_MAX: usize = 4;
/// A name that cannot be resolved; `failure` gives it a status.
pub(super) const RESOLVE_ERROR: ErrorType = ErrorType::Custom("ResolveError");

/// Resolves the upstream's name, and remembers which of its addresses answered.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: ArcSwapOption<Resolved>,
}

/// What a name meant a moment ago.
#[derive(Debug)]
pub(super) struct Resolved {
    name: String,
    addresses: Vec<SocketAddr>,
    /// The address that is tried first.
    preferred: AtomicUsize,
    at: Instant,
}

impl Resolver {
    /// The addresses of `upstream`, looked up in at most its connect timeout.
    pub(super) async fn resolve(&self, upstream: &Upstream) -> pingora::Result<Arc<Resolved>> {
        if let Some(known) = self.known.load_full().filter(|known| known.is_fresh(&upstream.address)) {
            return Ok(known);
        }
        let lookup = tokio::net::lookup_host(&upstream.address);
        let addresses: io::Result<Vec<_>> = match tokio::time::timeout(upstream.connect_timeout, lookup).await {
            Ok(found) => found.map(|found| found.take(ADDRESSES_MAX).collect()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match addresses {
            Ok(addresses) if !addresses.is_empty() => Ok(self.remember(&upstream.address, addresses)),
            Ok(_) => Err(Error::explain(RESOLVE_ERROR, "the upstream's name has no address").into_up()),
            Err(error) => Err(Error::because(RESOLVE_ERROR, "looking up the upstream's name", error).into_up()),
        }
    }

    fn remember(&self, name: &str, addresses: Vec<SocketAddr>) -> Arc<Resolved> {
        let before = self.known.load_full().filter(|known| known.addresses == addresses);
        let preferred = before.map_or(0, |known| known.preferred.load(Ordering::Relaxed));
        let resolved = Arc::new(Resolved {
            name: name.to_owned(),
            addresses,
            preferred: AtomicUsize::new(preferred),
            at: Instant::now(),
        });
        self.known.store(Some(resolved.clone()));
        resolved
    }
}

impl Resolved {
    fn is_fresh(&self, name: &str) -> bool {
        self.name == name && self.at.elapsed() < RESOLVED_FOR
    }

    fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.preferred.load(Ordering::Relaxed) % self.addresses.len().max(1)).copied()
    }

    /// The preferred address did not answer: the next one is preferred from now on.
    fn prefer_next(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }
}

/// The attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    started: usize,
    to: Option<Arc<Resolved>>,
}

impl Attempts {
    /// The peer of the next attempt, with every limit set: Pingora's own are none at all.
    pub(super) async fn next(&mut self, resolver: &Resolver, upstream: &Upstream) -> pingora::Result<Box<HttpPeer>> {
        let resolved = resolver.resolve(upstream).await?;
        let address =
            resolved.address().ok_or_else(|| Error::explain(RESOLVE_ERROR, "the upstream has no address").into_up())?;
        self.started += 1;
        self.to = Some(resolved);
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.connection_timeout = Some(upstream.connect_timeout);
        peer.options.total_connection_timeout = Some(upstream.connect_timeout);
        peer.options.read_timeout = Some(upstream.read_timeout);
        peer.options.write_timeout = Some(upstream.write_timeout);
        peer.options.idle_timeout = Some(upstream.keepalive);
        Ok(Box::new(peer))
    }

    /// No connection: nothing was sent, so every request may try again, and each address of the name gets its turn.
    pub(super) fn not_connected(&self, mut error: Box<Error>, upstream: &Upstream) -> Box<Error> {
        let addresses = self.to.as_ref().map_or(0, |resolved| resolved.addresses.len());
        if let Some(resolved) = &self.to {
            resolved.prefer_next();
        }
        error.set_retry(self.started <= upstream.retries.max(addresses.saturating_sub(1)));
        error
    }

    /// A connection that broke: repeated only if it closed, no byte of an answer was passed on, nothing of a body was
    /// sent, and the method is idempotent (RFC 9110 section 9.2.2). Silence is no reason: the upstream may be at work.
    pub(super) fn broken(&self, mut error: Box<Error>, upstream: &Upstream, session: &Session) -> Box<Error> {
        let is_closed =
            matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError);
        let is_safe = session.req_header().method.is_idempotent()
            && session.upstream_body_bytes_sent().unwrap_or(0) == 0
            && session.response_written().is_none();
        let is_upstreams = *error.esource() == ErrorSource::Upstream;
        error.set_retry(is_closed && is_safe && is_upstreams && self.started <= upstream.retries);
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(retries: usize) -> Upstream {
        Upstream {
            address: "127.0.0.1:3000".to_owned(),
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(3),
            keepalive: Duration::from_secs(4),
            pool: 8,
            retries,
        }
    }

    #[tokio::test]
    async fn every_limit_is_set() {
        let mut attempts = Attempts::default();
        let peer = attempts.next(&Resolver::default(), &upstream(0)).await.unwrap();
        let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs());
        assert_eq!(seconds(peer.options.connection_timeout), Some(1));
        assert_eq!(seconds(peer.options.total_connection_timeout), Some(1));
        assert_eq!(seconds(peer.options.read_timeout), Some(2));
        assert_eq!(seconds(peer.options.write_timeout), Some(3));
        assert_eq!(seconds(peer.options.idle_timeout), Some(4));
    }

    #[tokio::test]
    async fn attempts_are_bounded() {
        let upstream = upstream(2);
        let resolver = Resolver::default();
        let mut attempts = Attempts::default();
        let mut tries = 0;
        loop {
            attempts.next(&resolver, &upstream).await.unwrap();
            tries += 1;
            let error = attempts.not_connected(Error::new(ErrorType::ConnectRefused), &upstream);
            if !error.retry() {
                break;
            }
        }
        assert_eq!(tries, 3);
    }

    #[test]
    fn each_address_gets_its_turn() {
        let addresses = vec!["[::1]:3000".parse().unwrap(), "127.0.0.1:3000".parse().unwrap()];
        let resolved = Resolver::default().remember("localhost:3000", addresses.clone());
        let attempts = Attempts { started: 1, to: Some(resolved.clone()) };
        assert_eq!(resolved.address(), Some(addresses[0]));
        assert!(attempts.not_connected(Error::new(ErrorType::ConnectRefused), &upstream(0)).retry());
        assert_eq!(resolved.address(), Some(addresses[1]));
    }
}
