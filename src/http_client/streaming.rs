//! A response whose body is read as it arrives: a connection of its own, without a proxy.

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tower_service::Service as _;

use super::connector::Connector;
use super::{HEAD_BYTES_MAX, RequestError, causes};

/// A response after its head.
#[derive(Debug)]
pub struct StreamingResponse {
    pub head: response::Parts,
    body: Incoming,
}

impl StreamingResponse {
    /// Connects to the server of the request's absolute URL, and sends the request. `patience` is the time limit for
    /// connecting and for the response head, each. Runs on tokio.
    ///
    /// # Errors
    ///
    /// There is no connection, or no valid head in time.
    pub async fn open(mut request: Request<()>, patience: Duration) -> Result<Self, RequestError> {
        let direct = Matcher::builder().build();
        let connect_error = |error: &(dyn std::error::Error + 'static)| RequestError::Connect(causes(error));
        let mut connector = Connector::new(patience, direct, None).map_err(|error| connect_error(&error))?;
        let uri = request.uri().clone();
        let socket = connector.call(uri.clone()).await.map_err(|error| connect_error(&*error))?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(socket).await.map_err(broken)?;
        // A failure of the connection is also one of the response.
        tokio::spawn(connection.with_upgrades());
        address(&mut request, &uri);
        let sent = sender.send_request(request.map(|()| Empty::<Bytes>::new()));
        let response = tokio::time::timeout(patience, sent).await.map_err(|_| RequestError::Timeout(patience))?;
        let (head, body) = response.map_err(broken)?.into_parts();
        Ok(Self { head, body })
    }

    /// The next bytes of the body; `None` at its end. May be cancelled.
    pub async fn next(&mut self) -> Option<Result<Bytes, RequestError>> {
        loop {
            match self.body.frame().await?.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => return Some(Ok(bytes)),
                // Trailers.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(broken(error))),
            }
        }
    }

    /// The connection after a response that switches protocols (RFC 9110 section 15.2.2).
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn upgrade(self) -> Result<TokioIo<Upgraded>, RequestError> {
        let response = http::Response::from_parts(self.head, self.body);
        Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(broken)?))
    }
}

/// Sets the target in origin form and the host (RFC 9112 section 3.2).
fn address(request: &mut Request<()>, uri: &Uri) {
    let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host.filter(|_| !request.headers().contains_key(HOST)) {
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = uri.path_and_query().map_or_else(|| PathAndQuery::from_static("/"), Clone::clone).into();
}

fn broken(error: hyper::Error) -> RequestError {
    RequestError::Broken(causes(&error))
}
