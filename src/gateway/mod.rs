//! The proxy: Pingora's phases, each of which delegates in a few lines.
//!
//! A request is forwarded to the upstream, or opens a stream and leaves Pingora with its socket. One configuration
//! snapshot serves the whole request. This module does not write streams and does not depend on Kafka.

mod admission;
mod answer;
mod asked;
mod authorize;
mod cross_origin;
mod decide;
mod description;
mod document;
mod failure;
mod forward_auth;
mod forwarded;
mod handover;
mod handshake;
mod identify;
mod negotiate;
mod open;
mod query;
mod quota;
mod refusal;
mod resolver;
mod response;
mod stream;
mod target;
mod ticket;
mod traced;
mod upgrade;
mod upstream;
mod upstream_stream;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora::Error;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::Semaphore;

use crate::auth::Verifier;
use crate::config::snapshot::{RETRIES_MAX, Snapshot};
use crate::listener::{Unread, is_last};
use crate::memory::Pressure;
use crate::metrics::Metrics;
use crate::shutdown::Draining;
use crate::states::States;
use crate::traces::{RequestSpan, Tracer};
use crate::writer::Writers;
use admission::Admission;
use answer::answer;
use failure::{Failure, Fault, cause};
use refusal::Reason;
use resolver::Resolver;
use upstream::Attempts;
use upstream_stream::UpstreamStream;

/// Response fields that keep proxies and caches from holding back a stream.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const NO_CACHING: HeaderValue = HeaderValue::from_static("no-cache, no-store, no-transform");

/// Shared by all requests.
pub struct Gateway {
    snapshot: Arc<ArcSwap<Snapshot>>,
    writers: Writers,
    states: States,
    /// Requests that wait for a change of a document.
    document_waits: Semaphore,
    metrics: Arc<Metrics>,
    draining: Draining,
    pressure: Pressure,
    admission: Arc<Admission>,
    resolver: Resolver,
    tracer: Option<Tracer>,
}

/// The state of one request across the phases.
pub struct Exchange {
    snapshot: Arc<Snapshot>,
    attempts: Attempts,
    /// When the head had arrived.
    began: Instant,
    /// Set once the request has passed the stream routes: it is forwarded to the upstream.
    is_proxied: bool,
    /// The stream that the upstream sends, while it can have heartbeats.
    stream: Option<UpstreamStream>,
    /// The span of a sampled request, until the request becomes a stream.
    span: Option<Box<RequestSpan>>,
}

impl Gateway {
    /// Creates the application for a listener. The size of the connection pool comes from the current snapshot.
    pub fn into_app(self) -> HttpProxy<Self> {
        let snapshot = self.snapshot.load();
        let conf = ServerConf {
            upstream_keepalive_pool_size: snapshot.upstream.pool,
            // A backstop: `Attempts` applies the actual limits.
            max_retries: RETRIES_MAX as usize + resolver::ADDRESSES_MAX,
            ..ServerConf::default()
        };
        let mut proxy = HttpProxy::new(self, Arc::new(conf));
        proxy.handle_init_modules();
        proxy
    }

    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        writers: Writers,
        states: States,
        metrics: Arc<Metrics>,
        draining: Draining,
        pressure: Pressure,
        tracer: Option<Tracer>,
    ) -> Self {
        Self {
            snapshot,
            writers,
            states,
            document_waits: Semaphore::new(document::WAITS_MAX),
            admission: Arc::new(Admission::new(&metrics)),
            metrics,
            draining,
            pressure,
            resolver: Resolver::default(),
            tracer,
        }
    }

    fn count_refusal(&self, reason: Reason) {
        self.metrics.streams_rejected.with_label_values(&[reason.as_str()]).inc();
    }

    fn report(&self, failure: Failure, error: &Error) {
        match failure.fault {
            Fault::Client => self.metrics.bad_requests.with_label_values(&[failure.kind]).inc(),
            Fault::Upstream | Fault::Internal => {
                self.metrics.upstream_errors.with_label_values(&[failure.kind]).inc();
                tracing::warn!(kind = failure.kind, cause = cause(error), "cannot serve a request from the upstream");
            }
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange {
            snapshot: self.snapshot.load_full(),
            attempts: Attempts::default(),
            began: Instant::now(),
            is_proxied: false,
            stream: None,
            span: None,
        }
    }

    /// No modules: bodies are forwarded unchanged.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> pingora::Result<()> {
        exchange.span = self.tracer.as_ref().and_then(|tracer| traced::begin(tracer, session.req_header()));
        let upstream = &exchange.snapshot.upstream;
        // The upstream's timeouts also apply to the client.
        session.set_read_timeout(Some(upstream.read_timeout));
        session.set_write_timeout(Some(upstream.write_timeout));
        if session.req_header().version == Version::HTTP_10 {
            // HTTP/1.0 has no 1xx responses (RFC 9110 section 15.2).
            session.set_ignore_info_resp(true);
        }
        if self.draining.is_set() || is_last(session.req_header()) {
            session.set_keepalive(None);
        }
        upgrade::decline_others(session.req_header_mut())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> pingora::Result<bool> {
        let is_answered = stream::intercept(self, session, &exchange.snapshot, &mut exchange.span).await?;
        exchange.is_proxied = !is_answered;
        if !is_answered {
            let streams = &exchange.snapshot.upstream.streams;
            exchange.stream = upstream_stream::open(session, streams, &self.metrics).await?;
        }
        Ok(is_answered)
    }

    /// Pingora would write the end of a chunked body twice for a final frame of HTTP/2 without data, and the next request on
    /// the connection to the upstream would fail (cloudflare/pingora issue 935).
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        is_last: bool,
        _exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        if is_last && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> pingora::Result<Box<HttpPeer>> {
        let upstream = &exchange.snapshot.upstream;
        let mut peer = exchange.attempts.next(&self.resolver, upstream).await?;
        peer.options.read_timeout = Some(upstream_stream::read_timeout(session.req_header(), upstream));
        if session.is_upgrade_req() {
            upgrade::prepare(&mut peer, upstream.connect_timeout);
        }
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        target::make_local(request)?;
        if exchange.stream.is_some() {
            request.remove_header(&ACCEPT_ENCODING); // the head that was sent names no coding
        }
        let client = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
        let verifier = exchange.snapshot.verifier.as_deref();
        if let Some(certificates) = verifier.and_then(Verifier::client_certificates) {
            forwarded::remove_certificates(request, client, certificates);
        }
        forwarded::forward(request, client, forwarded::is_encrypted(session), &exchange.snapshot.forwarded)?;
        exchange.span.as_ref().map_or(Ok(()), |span| traced::continue_in(span, request))
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        response::check(session.req_header(), response).map_err(Error::into_up)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        let is_http10 = session.req_header().version == Version::HTTP_10;
        if response::correct(response, is_http10)? || self.draining.is_set() {
            session.set_keepalive(None);
        }
        let streams = &exchange.snapshot.upstream.streams;
        match exchange.stream.as_mut().filter(|stream| stream.is_early()) {
            None => exchange.stream = upstream_stream::begin(session, response, streams, &self.metrics),
            Some(stream) => {
                if let Some(event) = stream.take_head(session, response) {
                    session.write_response_body(Some(event), true).await?;
                }
            }
        }
        Ok(())
    }

    /// Data of a response over HTTP/2 counts as unread until the client has made room for it.
    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        exchange: &mut Exchange,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(stream) = &mut exchange.stream
            && !stream.pass(session, body, is_end, &self.metrics)
        {
            exchange.stream = None;
        }
        if let Some(unread) = session.req_header().extensions.get::<Unread>() {
            *body = body.take().map(|bytes| unread.track(bytes));
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        error: Box<Error>,
    ) -> Box<Error> {
        exchange.attempts.not_connected(error, &exchange.snapshot.upstream)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Exchange,
        _was_kept: bool,
    ) -> Box<Error> {
        exchange.attempts.broken(error, &exchange.snapshot.upstream, session)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
        upstream_stream::stop(session);
        let none = FailToProxy { error_code: 0, can_reuse_downstream: false };
        let Some(failure) = Failure::of(error) else { return none };
        self.report(failure, error);
        if let Some(span) = &mut exchange.span {
            span.failure = Some(failure.kind);
        }
        session.set_keepalive(None);
        if session.response_written().is_some_and(|written| response::is_final(written.status)) {
            // The response has begun: it can only be cut short, or end with an event.
            if let Some(event) = exchange.stream.take().and_then(|stream| stream.fail(failure.problem()))
                && let Err(error) = session.write_response_body(Some(event), true).await
            {
                tracing::debug!(cause = cause(&error), "the client disconnected before the end of the response");
            }
            return none;
        }
        if let Err(error) = answer(session, failure.problem().into_response()).await {
            tracing::debug!(cause = cause(&error), "the client disconnected before the response");
        }
        FailToProxy { error_code: failure.status.as_u16(), can_reuse_downstream: false }
    }

    /// `fail_to_proxy` counts the failure and logs it at a limited rate.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    /// For proxied requests only. After a handover the session is empty, and its head must not be accessed; the socket
    /// has taken the span along.
    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Exchange) {
        let status = |session: &Session| session.response_written().map(|response| response.status.as_u16());
        if let Some(span) = exchange.span.take() {
            span.end(status(session));
        }
        if !exchange.is_proxied {
            return;
        }
        let status = status(session);
        let class = [status_class(status)];
        self.metrics.proxy_requests.with_label_values(&class).inc();
        self.metrics.proxy_request_seconds.with_label_values(&class).observe(exchange.began.elapsed().as_secs_f64());
        tracing::debug!(method = %session.req_header().method, path = session.req_header().uri.path(), status, "proxied");
    }
}

fn status_class(status: Option<u16>) -> &'static str {
    match status {
        Some(100..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        _ => "none",
    }
}

pub(super) fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Sets the header fields of a stream's response.
pub(super) fn stream_headers(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, NO_CACHING);
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
}
