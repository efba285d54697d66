//! The pod's view of the process: `/metrics`, `/livez`, `/readyz`. Reads only; nothing here acts.

mod readiness;

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::json;

pub use readiness::Readiness;

use crate::metrics::Metrics;
use crate::problem::Problem;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The application of the admin listener.
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

impl Admin {
    pub fn new(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Self {
        Self { metrics, readiness }
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
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let header = session.req_header();
        self.answer(&header.method, header.uri.path())
    }
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
        Admin::new(metrics, Arc::new(readiness))
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
            (Method::POST, "/-/reload", 404),
        ] {
            assert_eq!(admin.answer(&method, path).status(), status, "{method} {path}");
        }
        let text = String::from_utf8(admin.answer(&Method::GET, "/metrics").into_body()).unwrap();
        assert!(text.contains("notifications_sse_active_connections 0"));
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
