//! The attempts to reach the upstream: their limits, and when a failed one is retried.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::resolver::{RESOLVE_ERROR, Resolved, Resolver};
use crate::config::snapshot::Upstream;
use crate::descriptors;

/// The receive buffer of connections to an upstream on this host, in bytes; the kernel doubles the value for its own
/// overhead (socket(7)). It bounds a response that the client does not read. Connections to other hosts keep the
/// kernel's autotuning, because they have a latency.
const RECEIVE_BYTES: usize = 256 * 1024;

/// The attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    started: usize,
    to: Option<Arc<Resolved>>,
}

impl Attempts {
    /// The peer of the next attempt, with every timeout set: Pingora's defaults are unlimited.
    pub(super) async fn next(&mut self, resolver: &Resolver, upstream: &Upstream) -> pingora::Result<Box<HttpPeer>> {
        let resolved = resolver.resolve(&upstream.address, upstream.connect_timeout).await?;
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
        if address.ip().is_loopback() {
            peer.options.tcp_recv_buf = Some(RECEIVE_BYTES);
        }
        peer.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(|socket| check_descriptor(socket.as_raw_fd())));
        Ok(Box::new(peer))
    }

    /// The connection failed before anything was sent: every request may be retried, once per address of the name.
    pub(super) fn not_connected(&self, mut error: Box<Error>, upstream: &Upstream) -> Box<Error> {
        let addresses = self.to.as_ref().map_or(0, |resolved| resolved.len());
        if let Some(resolved) = &self.to {
            resolved.prefer_next();
        }
        error.set_retry(self.started <= upstream.retries.max(addresses.saturating_sub(1)));
        error
    }

    /// The connection broke. It is retried only if it was closed, no response byte was forwarded, no body byte was
    /// sent, and the method is idempotent (RFC 9110 section 9.2.2). A timeout is not retried: the upstream may still be
    /// processing the request.
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

/// Keeps the reserved descriptors free: clients can cause any number of connections to the upstream.
pub(super) fn check_descriptor(descriptor: RawFd) -> pingora::Result<()> {
    if descriptors::is_reserved(descriptor) {
        let exhausted = io::Error::from_raw_os_error(libc::EMFILE);
        return Err(Error::because(ErrorType::SocketError, "the last descriptors are reserved", exhausted).into_up());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::snapshot::{HeartbeatScope, UpstreamStreams};

    fn upstream(retries: usize) -> Upstream {
        Upstream {
            address: "127.0.0.1:3000".to_owned(),
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(3),
            keepalive: Duration::from_secs(4),
            pool: 8,
            retries,
            streams: UpstreamStreams {
                heartbeat: HeartbeatScope::Comments,
                heartbeat_interval: Duration::from_secs(15),
                read_timeout: Duration::from_secs(5),
                paths: Box::default(),
            },
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
        let resolved = Arc::new(Resolved::new("localhost:3000", addresses.clone(), 0));
        let attempts = Attempts { started: 1, to: Some(resolved.clone()) };
        assert_eq!(resolved.address(), Some(addresses[0]));
        assert!(attempts.not_connected(Error::new(ErrorType::ConnectRefused), &upstream(0)).retry());
        assert_eq!(resolved.address(), Some(addresses[1]));
    }
}
