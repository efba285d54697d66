//! The pod's view of the process: `/metrics`, `/livez`, `/readyz`, which only read; and `/-/drain`, which acts, and so
//! is answered where the peer is on the same host only. There is no other protection, and nothing else is served.

mod readiness;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr;
use serde_json::json;

pub use readiness::Readiness;

use crate::drain::Drained;
use crate::metrics::Metrics;
use crate::problem::Problem;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What acts is below this path.
const ACTIONS: &str = "/-/";

/// Drains, or waits for the drain under way; blocks its thread.
type Drain = Arc<dyn Fn() -> Drained + Send + Sync>;

/// The application of the admin listener.
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    drain: Drain,
}

impl Admin {
    pub fn new(metrics: Arc<Metrics>, readiness: Arc<Readiness>, drain: Drain) -> Self {
        Self { metrics, readiness, drain }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Vec<u8>> {
        if !["/metrics", "/livez", "/readyz"].contains(&path) {
            return Problem::new(StatusCode::NOT_FOUND, "there is nothing here").into_response();
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this is only read");
            return problem.header(ALLOW, HeaderValue::from_static("GET, HEAD")).into_response();
        }
        match path {
            "/metrics" => self.metrics(),
            "/livez" => json(StatusCode::OK, &json!({"status": "live"})),
            _ => self.readyz(),
        }
    }

    fn metrics(&self) -> Response<Vec<u8>> {
        match self.metrics.render() {
            Ok(text) => reply(StatusCode::OK, METRICS_TYPE, text),
            Err(error) => {
                tracing::error!(%error, "cannot render the metrics");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be rendered").into_response()
            }
        }
    }

    fn readyz(&self) -> Response<Vec<u8>> {
        let reasons = self.readiness.reasons_against();
        if reasons.is_empty() {
            return json(StatusCode::OK, &json!({"status": "ready"}));
        }
        json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "reasons": reasons}))
    }

    async fn act(&self, method: &Method, path: &str, is_neighbour: bool) -> Response<Vec<u8>> {
        if !is_neighbour {
            return Problem::new(StatusCode::FORBIDDEN, "this is answered on the same host only").into_response();
        }
        if path != "/-/drain" {
            return Problem::new(StatusCode::NOT_FOUND, "there is nothing here").into_response();
        }
        if *method != Method::POST {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this acts: ask by POST");
            return problem.header(ALLOW, HeaderValue::from_static("POST")).into_response();
        }
        let drain = self.drain.clone();
        match tokio::task::spawn_blocking(move || drain()).await {
            Ok(drained) => json(StatusCode::OK, &json!(drained)),
            Err(error) => {
                tracing::error!(%error, "the drain failed");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the drain failed").into_response()
            }
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let host = |address: Option<&SocketAddr>| Some(address?.as_inet()?.ip());
        let is_neighbour = is_neighbour(host(session.client_addr()), host(session.server_addr()));
        let header = session.req_header();
        let (method, path) = (header.method.clone(), header.uri.path().to_owned());
        if path.starts_with(ACTIONS) {
            return self.act(&method, &path, is_neighbour).await;
        }
        self.answer(&method, &path)
    }
}

/// Whether the peer is on this host: it comes from loopback, or from the very address that it connected to.
fn is_neighbour(peer: Option<IpAddr>, local: Option<IpAddr>) -> bool {
    let (peer, local) = (peer.map(|ip| ip.to_canonical()), local.map(|ip| ip.to_canonical()));
    peer.is_some_and(|peer| peer.is_loopback() || Some(peer) == local)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Vec<u8>> {
    reply(status, "application/json", value.to_string().into_bytes())
}

fn reply(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::Draining;

    fn admin(draining: &Draining) -> Admin {
        let metrics = Arc::new(Metrics::new("notifications").unwrap());
        let readiness = Readiness::new(draining.clone(), false);
        readiness.serve_source(Box::new(|| crate::kafka::Status { warm: true, connected: false }));
        Admin::new(metrics, Arc::new(readiness), Arc::new(|| unreachable!("nobody asks for it")))
    }

    #[test]
    fn what_is_here_and_what_is_not() {
        let admin = admin(&Draining::default());
        for (method, path, status) in [
            (Method::GET, "/metrics", 200),
            (Method::HEAD, "/livez", 200),
            (Method::GET, "/readyz", 200),
            (Method::POST, "/readyz", 405),
            (Method::GET, "/", 404),
        ] {
            assert_eq!(admin.answer(&method, path).status(), status, "{method} {path}");
        }
        let text = String::from_utf8(admin.answer(&Method::GET, "/metrics").into_body()).unwrap();
        assert!(text.contains("notifications_sse_active_connections 0"));
    }

    #[tokio::test]
    async fn what_acts_is_for_the_same_host_and_by_post() {
        let admin = admin(&Draining::default());
        for (method, path, is_neighbour, status) in [
            (Method::POST, "/-/drain", false, 403),
            (Method::POST, "/-/anything", false, 403),
            (Method::POST, "/-/anything", true, 404),
            (Method::GET, "/-/drain", true, 405),
        ] {
            assert_eq!(admin.act(&method, path, is_neighbour).await.status(), status, "{method} {path}");
        }
    }

    #[test]
    fn who_is_on_the_same_host() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (peer, local) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.9", "10.0.0.1"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
        ] {
            assert!(is_neighbour(ip(peer), ip(local)), "{peer} at {local}");
        }
        for (peer, local) in [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1"), ("::ffff:10.0.0.2", "10.0.0.1")] {
            assert!(!is_neighbour(ip(peer), ip(local)), "{peer} at {local}");
        }
        assert!(!is_neighbour(None, None) && !is_neighbour(None, ip("127.0.0.1")));
    }

    #[test]
    fn a_draining_process_is_alive_but_not_ready() {
        let draining = Draining::default();
        let admin = admin(&draining);
        draining.set();
        let ready = admin.answer(&Method::GET, "/readyz");
        assert_eq!(ready.status(), 503);
        assert_eq!(ready.into_body(), br#"{"reasons":["draining"],"status":"not ready"}"#);
        assert_eq!(admin.answer(&Method::GET, "/livez").status(), 200);
    }
}
