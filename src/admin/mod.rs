//! The admin listener: `/metrics`, `/livez` and `/readyz` for all clients. Only for the same host: the admin page at
//! `/` with its data, and the actions `/-/drain`, `/-/reload`, `/-/revoke` and `/-/explain`. A request to `/-/explain`
//! contains a token, which no answer repeats. Being on the same host is the only protection.

mod exposition;
mod guard;
mod readiness;
mod status;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::json;
use tokio::sync::Semaphore;

pub use readiness::Readiness;
pub use status::Status;

use crate::describe;
use crate::drain::Drained;
use crate::explain::{QUESTION_BYTES_MAX, Question};
use crate::listener::is_last;
use crate::problem::Problem;
use crate::reload::{Outcome, ReloadHandle};
use exposition::Exposition;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// For all clients.
const PUBLIC: [&str; 3] = ["/metrics", "/livez", "/readyz"];
/// For the same host only.
const READ: [&str; 7] = ["/", "/page.css", "/page.js", "/status", "/-/streams", describe::OPENAPI, describe::ASYNCAPI];
/// Actions, for the same host only.
const ACTIONS: [&str; 4] = ["/-/drain", "/-/reload", REVOKE, EXPLAIN];
const REVOKE: &str = "/-/revoke";
const EXPLAIN: &str = "/-/explain";
/// The longest record of a revocation, in bytes.
const RECORD_BYTES_MAX: usize = 8 * 1024;
/// Questions that are answered at a time: each may read the log.
const EXPLAINING_MAX: usize = 4;
/// How long reading a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The page loads nothing from other origins, connects to none, submits no form, and cannot be framed.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                           form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The longest value in a search for streams by key, in bytes as encoded in the URL.
const VALUE_BYTES_MAX: usize = 1024;

/// Drains, or joins the drain in progress. Blocks its thread.
type Drain = Arc<dyn Fn() -> Drained + Send + Sync>;

/// The application of the admin listener.
pub struct Admin {
    exposition: Exposition,
    readiness: Arc<Readiness>,
    reload: Arc<OnceLock<ReloadHandle>>,
    status: Arc<Status>,
    drain: Drain,
    explaining: Arc<Semaphore>,
}

impl Admin {
    pub fn new(status: Status, drain: Drain) -> Self {
        let Status { metrics, readiness, reload, .. } = &status;
        let (exposition, readiness, reload) = (Exposition::new(metrics.clone()), readiness.clone(), reload.clone());
        Self {
            exposition,
            readiness,
            reload,
            status: Arc::new(status),
            drain,
            explaining: Arc::new(Semaphore::new(EXPLAINING_MAX)),
        }
    }

    async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        body: &[u8],
        is_neighbour: bool,
    ) -> Response<Vec<u8>> {
        let is_public = PUBLIC.contains(&path);
        if !is_public && !is_neighbour {
            return self.elsewhere(path);
        }
        let is_read = is_public || READ.contains(&path);
        let is_get = matches!(*method, Method::GET | Method::HEAD);
        match path {
            _ if is_read && !is_get => not_by("this is only read", "GET, HEAD"),
            _ if ACTIONS.contains(&path) && method != Method::POST => not_by("this acts: ask by POST", "POST"),
            "/metrics" => self.metrics().await,
            "/livez" => json(StatusCode::OK, &json!({"status": "live"})),
            "/readyz" => self.readyz(),
            "/" => page("text/html; charset=utf-8", include_str!("page/index.html")),
            "/page.css" => page("text/css; charset=utf-8", include_str!("page/page.css")),
            "/page.js" => page("text/javascript; charset=utf-8", include_str!("page/page.js")),
            "/status" => self.status().await,
            "/-/streams" => self.streams(query).await,
            describe::OPENAPI | describe::ASYNCAPI => self.describe(path),
            "/-/drain" => self.drain().await,
            "/-/reload" => self.reload().await,
            REVOKE => self.revoke(body),
            EXPLAIN => self.explain(body).await,
            _ => Problem::new(StatusCode::NOT_FOUND, "there is nothing here").into_response(),
        }
    }

    /// The response to other hosts for the paths that are limited to the same host.
    fn elsewhere(&self, path: &str) -> Response<Vec<u8>> {
        if READ.contains(&path) || path.starts_with("/-/") {
            let why = "this is answered on the same host only; `kubectl port-forward` counts as that, at `localhost`";
            return Problem::new(StatusCode::FORBIDDEN, why).into_response();
        }
        Problem::new(StatusCode::NOT_FOUND, "there is nothing here").into_response()
    }

    async fn metrics(&self) -> Response<Vec<u8>> {
        match self.exposition.text().await {
            Ok(text) => reply(StatusCode::OK, METRICS_TYPE, text),
            Err(error) => failed("the metrics cannot be rendered", &error),
        }
    }

    fn readyz(&self) -> Response<Vec<u8>> {
        let reasons = self.readiness.reasons_against();
        if reasons.is_empty() {
            return json(StatusCode::OK, &json!({"status": "ready"}));
        }
        json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready", "reasons": reasons}))
    }

    async fn status(&self) -> Response<Vec<u8>> {
        let status = self.status.clone();
        match tokio::task::spawn_blocking(move || status.report()).await {
            Ok(report) => json(StatusCode::OK, &report),
            Err(error) => failed("the status cannot be encoded", &error),
        }
    }

    /// The query is `?value=...`, percent-encoded.
    async fn streams(&self, query: &str) -> Response<Vec<u8>> {
        let written = query.split('&').find_map(|pair| pair.strip_prefix("value="));
        let decoded = |text| percent_encoding::percent_decode_str(text).decode_utf8().ok();
        let written = written.filter(|text| (1..=VALUE_BYTES_MAX).contains(&text.len()));
        let Some(value) = written.and_then(decoded).map(String::from) else {
            let why = "`?value=` has to be the value of a key, percent-encoded";
            return Problem::new(StatusCode::BAD_REQUEST, why).into_response();
        };
        let status = self.status.clone();
        match tokio::task::spawn_blocking(move || status.find(&value)).await {
            Ok(found) => json(StatusCode::OK, &json!({ "streams": found })),
            Err(error) => failed("the streams cannot be found", &error),
        }
    }

    fn describe(&self, path: &str) -> Response<Vec<u8>> {
        json(StatusCode::OK, &json!(describe::document(path, &self.status.snapshot.load())))
    }

    async fn drain(&self) -> Response<Vec<u8>> {
        let drain = self.drain.clone();
        match tokio::task::spawn_blocking(move || drain()).await {
            Ok(drained) => json(StatusCode::OK, &json!(drained)),
            Err(error) => failed("the drain failed", &error),
        }
    }

    /// 200 if the running configuration is that of the file, otherwise 422.
    async fn reload(&self) -> Response<Vec<u8>> {
        let Some(handle) = self.reload.get() else {
            let why = "there is no configuration file to reload";
            return Problem::new(StatusCode::CONFLICT, why).into_response();
        };
        let Some(report) = handle.ask() else {
            let why = "too many wait for a reload already";
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
        };
        match report.await {
            Ok(reloaded) if reloaded.outcome == Outcome::Success => json(StatusCode::OK, &json!(*reloaded)),
            Ok(reloaded) => json(StatusCode::UNPROCESSABLE_ENTITY, &json!(*reloaded)),
            Err(error) => failed("the reload failed", &error),
        }
    }

    /// Explains a decision of the running configuration. The question contains a token: no error quotes it.
    async fn explain(&self, question: &[u8]) -> Response<Vec<u8>> {
        let Ok(question) = serde_json::from_slice::<Question>(question) else {
            let why = "the body has to be an object with `path`, and optionally `token`, `event`, `record` and `topic`";
            return Problem::new(StatusCode::BAD_REQUEST, why).into_response();
        };
        let Ok(turn) = self.explaining.clone().try_acquire_owned() else {
            let why = "too many questions are being answered";
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
        };
        let status = self.status.clone();
        let explained = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            status.explain(&question)
        });
        match explained.await {
            Ok(explanation) => json(StatusCode::OK, &json!(explanation)),
            Err(error) => failed("the decision cannot be explained", &error),
        }
    }

    /// Applies a revocation to this process only.
    fn revoke(&self, record: &[u8]) -> Response<Vec<u8>> {
        let Some(revoker) = &self.status.revoker else {
            let why = "the configuration has no `auth.revocations`";
            return Problem::new(StatusCode::CONFLICT, why).into_response();
        };
        match revoker.revoke(record) {
            Ok(()) => json(StatusCode::OK, &json!({"status": "revoked"})),
            Err(error) => Problem::new(StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let is_neighbour = guard::is_for(session);
        if is_last(session.req_header()) {
            session.set_keepalive(None);
        }
        let header = session.req_header();
        let (method, path) = (header.method.clone(), header.uri.path().to_owned());
        let query = header.uri.query().unwrap_or_default().to_owned();
        let bytes_max = match &*path {
            REVOKE if is_neighbour && method == Method::POST => Some(RECORD_BYTES_MAX),
            EXPLAIN if is_neighbour && method == Method::POST => Some(QUESTION_BYTES_MAX),
            _ => None,
        };
        let body = tokio::time::timeout(BODY_TIMEOUT, body(session, bytes_max)).await;
        match body.unwrap_or_else(|_| Err(unreadable())) {
            Ok(body) => self.answer(&method, &path, &query, &body, is_neighbour).await,
            Err(problem) => problem.into_response(),
        }
    }
}

/// Reads the body of a request, if the path uses one: at most this many bytes.
async fn body(session: &mut ServerSession, bytes_max: Option<usize>) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    let Some(bytes_max) = bytes_max else { return Ok(body) };
    while let Some(bytes) = session.read_request_body().await.map_err(|_| unreadable())? {
        body.extend_from_slice(&bytes);
        if body.len() > bytes_max {
            session.set_keepalive(None);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"));
        }
    }
    Ok(body)
}

fn unreadable() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "the body cannot be read")
}

fn not_by(why: &'static str, allowed: &'static str) -> Response<Vec<u8>> {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, why);
    problem.header(ALLOW, HeaderValue::from_static(allowed)).into_response()
}

fn failed(what: &'static str, error: &dyn std::error::Error) -> Response<Vec<u8>> {
    tracing::error!(%error, "{what}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, what).into_response()
}

fn page(content_type: &'static str, text: &str) -> Response<Vec<u8>> {
    let mut response = reply(StatusCode::OK, content_type, text.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
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
    use std::path::Path;
    use std::time::Instant;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::hub::{Log, NoLog};
    use crate::metrics::Metrics;
    use crate::shutdown::Ending;
    use crate::writer::Writers;

    fn admin(ending: &Ending) -> Admin {
        let metrics = Arc::new(Metrics::new("notifications").unwrap());
        let readiness = Readiness::new(ending.clone(), false);
        readiness.serve_source(Box::new(|| crate::source::Status { warm: true, connected: false }));
        let written = "upstream: { address: a:1 }\nkafka: { brokers: a:1 }\nstreams: { s: { topics: [t] } }\n\
                       routes: [{ path: /x, stream: s, public: true }]\n";
        let snapshot = crate::config::parse(written, "", Path::new("")).unwrap();
        let log: Arc<dyn Log> = Arc::new(NoLog);
        let status = Status {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            writers: Writers::start(2, &[], &log, &Arc::new(crate::codec::Encodings::new(0)), &metrics, None).unwrap(),
            metrics,
            readiness: Arc::new(readiness),
            reload: Arc::default(),
            revoker: None,
            log,
            started: Instant::now(),
        };
        Admin::new(status, Arc::new(|| unreachable!("nobody asks for it")))
    }

    #[tokio::test]
    async fn paths_and_their_access() {
        let admin = admin(&Ending::default());
        for (method, path, elsewhere, here) in [
            (Method::GET, "/metrics", 200, 200),
            (Method::HEAD, "/livez", 200, 200),
            (Method::GET, "/readyz", 200, 200),
            (Method::POST, "/readyz", 405, 405),
            (Method::GET, "/", 403, 200),
            (Method::GET, "/page.js", 403, 200),
            (Method::GET, "/status", 403, 200),
            (Method::POST, "/status", 403, 405),
            (Method::GET, describe::OPENAPI, 403, 200),
            (Method::GET, "/-/streams", 403, 400),
            (Method::GET, "/nothing", 404, 404),
            (Method::POST, "/-/drain", 403, 405),
            (Method::POST, "/-/reload", 403, 409),
            (Method::POST, "/-/explain", 403, 400),
            (Method::POST, "/-/anything", 403, 404),
        ] {
            let method = if path == "/-/drain" { &Method::GET } else { &method };
            assert_eq!(
                admin.answer(method, path, "", b"", false).await.status(),
                elsewhere,
                "{method} {path} elsewhere"
            );
            assert_eq!(admin.answer(method, path, "", b"", true).await.status(), here, "{method} {path} here");
        }
        let text = String::from_utf8(admin.answer(&Method::GET, "/metrics", "", b"", false).await.into_body()).unwrap();
        assert!(text.contains("notifications_sse_active_connections 0"));
    }

    #[tokio::test]
    async fn the_status_names_the_routes() {
        let admin = admin(&Ending::default());
        let report = admin.answer(&Method::GET, "/status", "", b"", true).await.into_body();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!((&report["routes"][0]["path"], &report["routes"][0]["open"]), (&json!("/x"), &json!(0)));
        assert_eq!(
            (&report["reload"], &report["follows_file"], &report["slow"]),
            (&json!(null), &json!(false), &json!([]))
        );
    }

    #[tokio::test]
    async fn a_process_that_ends_is_alive_but_not_ready() {
        let ending = Ending::default();
        let admin = admin(&ending);
        ending.set();
        let ready = admin.answer(&Method::GET, "/readyz", "", b"", false).await;
        assert_eq!(ready.status(), 503);
        assert_eq!(ready.into_body(), br#"{"reasons":["draining"],"status":"not ready"}"#);
        assert_eq!(admin.answer(&Method::GET, "/livez", "", b"", false).await.status(), 200);
    }
}
