//! Connections: directly or through a proxy, with TLS where the URL's scheme is `https`.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_openssl::client::legacy::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::store::X509StoreBuilder;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{TlsError, TlsRoots};

/// The protocol offered in ALPN.
const HTTP11: &[u8] = b"\x08http/1.1";

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Opens a connection and encrypts it, within a time limit.
#[derive(Clone)]
pub(super) struct Connector {
    secured: HttpsConnector<Route>,
    matcher: Arc<Matcher>,
    timeout: Duration,
}

/// Opens the TCP connection to a server or its proxy.
#[derive(Clone, Debug)]
pub(super) struct Route {
    tcp: HttpConnector,
    matcher: Arc<Matcher>,
}

/// A TCP connection, possibly to a proxy that expects the absolute URL in the request line.
#[derive(Debug)]
pub(super) struct Socket {
    io: TokioIo<TcpStream>,
    by_proxy: bool,
}

impl Connector {
    pub(super) fn new(timeout: Duration, matcher: Matcher, roots: Option<&TlsRoots>) -> Result<Self, TlsError> {
        let mut tls = SslConnector::builder(SslMethod::tls_client())?;
        if let Some(roots) = roots {
            let mut store = X509StoreBuilder::new()?;
            for certificate in roots.certificates()? {
                store.add_cert(certificate)?;
            }
            tls.set_cert_store(store.build());
        }
        tls.set_alpn_protos(HTTP11)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let matcher = Arc::new(matcher);
        let route = Route { tcp, matcher: matcher.clone() };
        Ok(Self { secured: HttpsConnector::with_connector(route, tls)?, matcher, timeout })
    }

    /// The proxy credentials of a request without a tunnel (RFC 9110 section 11.7.2).
    pub(super) fn proxy_credentials(&self, uri: &Uri) -> Option<HeaderValue> {
        let proxy = proxy_of(&self.matcher, uri).filter(|_| uri.scheme() == Some(&Scheme::HTTP))?;
        proxy.basic_auth().cloned()
    }
}

/// The proxy for a URL. Loopback has none: a proxy cannot reach the pod's own loopback.
fn proxy_of(matcher: &Matcher, uri: &Uri) -> Option<Intercept> {
    if is_loopback(uri) { None } else { matcher.intercept(uri) }
}

/// Whether the host of a URL is `localhost` or a loopback address.
pub fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Socket>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.secured.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.secured.call(uri));
        Box::pin(async move { connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? })
    }
}

impl Service<Uri> for Route {
    type Response = Socket;
    type Error = BoxError;
    type Future = Connecting<Socket>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let proxy = proxy_of(&self.matcher, &uri);
        let mut tcp = self.tcp.clone();
        Box::pin(async move {
            let Some(proxy) = proxy else { return Ok(Socket { io: tcp.call(uri).await?, by_proxy: false }) };
            if proxy.uri().scheme() != Some(&Scheme::HTTP) {
                return Err("only proxies with an `http://` URL are supported".into());
            }
            if uri.scheme() == Some(&Scheme::HTTP) {
                return Ok(Socket { io: tcp.call(proxy.uri().clone()).await?, by_proxy: true });
            }
            let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            let mut tunnel = match proxy.basic_auth() {
                Some(credentials) => tunnel.with_auth(credentials.clone()),
                None => tunnel,
            };
            Ok(Socket { io: tunnel.call(uri).await?, by_proxy: false })
        })
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.by_proxy)
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
