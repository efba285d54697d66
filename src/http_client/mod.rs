//! Requests that sidestream itself sends: one HTTP/1.1 client with limits. A request takes a bounded time, and the body
//! of its response is read up to a limit. Redirects are not followed: an address is the one that was configured.
//!
//! [`StreamingResponse`] is for clients of streams: its body is read as it arrives, without a limit.

mod connector;
mod streaming;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use openssl::x509::X509;

use connector::Connector;
pub use connector::is_loopback;
pub use streaming::StreamingResponse;

/// Idle connections to one server that are kept, and for how long.
const IDLE_CONNECTIONS_MAX: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest response head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Limits of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// From the first address lookup to the last byte of the body.
    pub time: Duration,
    /// The longest response body, in bytes.
    pub body: usize,
}

/// A complete response.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no response. No message has a header value or a byte of a body.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("no whole response within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the response is not valid HTTP/1.1, or the connection broke: {0}")]
    Broken(String),
    #[error("the response has more than {0} bytes")]
    TooLong(usize),
}

/// TLS could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {0}")]
pub struct TlsError(#[from] openssl::error::ErrorStack);

/// Certificate authorities that replace the system's.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsRoots(Arc<[u8]>);

impl TlsRoots {
    /// `None` if the PEM text has no certificate, or an invalid one.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let certificates = X509::stack_from_pem(pem).ok()?;
        (!certificates.is_empty()).then(|| Self(pem.into()))
    }

    fn certificates(&self) -> Result<Vec<X509>, TlsError> {
        Ok(X509::stack_from_pem(&self.0)?)
    }
}

impl std::fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsRoots")
    }
}

/// A client with a pool of connections. Cheap to clone; requests run on tokio.
#[derive(Clone)]
pub struct HttpClient {
    connector: Connector,
    pool: Client<Connector, Full<Bytes>>,
}

impl HttpClient {
    /// Trusts the system's certificate authorities, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`. `connect_timeout`
    /// includes the TLS handshake. `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` select a proxy; loopback
    /// addresses never use one.
    ///
    /// # Errors
    ///
    /// OpenSSL cannot be initialized, or the certificate authorities cannot be loaded.
    pub fn new(connect_timeout: Duration) -> Result<Self, TlsError> {
        Self::trusting(connect_timeout, None)
    }

    /// The same with other authorities, if there are any.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn trusting(connect_timeout: Duration, roots: Option<&TlsRoots>) -> Result<Self, TlsError> {
        Ok(Self::over(Connector::new(connect_timeout, Matcher::from_env(), roots)?))
    }

    /// The same without proxies.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn direct(connect_timeout: Duration, roots: Option<&TlsRoots>) -> Result<Self, TlsError> {
        Ok(Self::over(Connector::new(connect_timeout, Matcher::builder().build(), roots)?))
    }

    fn over(connector: Connector) -> Self {
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector.clone());
        Self { connector, pool }
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    ///
    /// The connection fails, the response is invalid, or a limit is exceeded.
    pub async fn send(&self, mut request: Request<Bytes>, limits: RequestLimits) -> Result<Response, RequestError> {
        if let Some(credentials) = self.connector.proxy_credentials(request.uri()) {
            request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, credentials);
        }
        let exchange = self.exchange(request.map(Full::new), limits.body);
        tokio::time::timeout(limits.time, exchange).await.map_err(|_| RequestError::Timeout(limits.time))?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, body_max: usize) -> Result<Response, RequestError> {
        let (head, body) = self.pool.request(request).await.map_err(failure)?.into_parts();
        let body = Limited::new(body, body_max).collect().await.map_err(|error| match error.downcast_ref() {
            Some(LengthLimitError { .. }) => RequestError::TooLong(body_max),
            None => RequestError::Broken(causes(&*error)),
        })?;
        Ok(Response { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

fn failure(error: ClientError) -> RequestError {
    if error.is_connect() { RequestError::Connect(causes(&error)) } else { RequestError::Broken(causes(&error)) }
}

/// The message of the innermost cause of an error.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
