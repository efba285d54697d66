//! The thread that exports spans to the collector: OTLP over HTTP/1.1 in Protobuf, one batch per request.
//!
//! A batch that the collector rejects is dropped and counted, not retried: during an outage, retries would displace
//! newer spans. The start and the end of an outage are logged once each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prometheus::IntCounter;
use prost::Message as _;
use tokio::runtime::Runtime;

use super::Message;
use super::span::{Clock, Span, Value, attribute};
use crate::client::Target;
use crate::config::snapshot::Tracing;
use crate::contain::contain;
use crate::http_client::{HttpClient, RequestError, RequestLimits};
use crate::metrics::Metrics;

/// The most spans of one request to the collector.
const BATCH_SPANS_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(2);
/// The connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The limits of a response: complete within 10 s, and at most 64 KiB.
const LIMITS: RequestLimits = RequestLimits { time: Duration::from_secs(10), body: 64 * 1024 };
const USER_AGENT_VALUE: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// How long the process waits at its end for the remaining spans.
const STOP_WAIT: Duration = Duration::from_secs(1);
/// Linux's name of the host or the pod.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The running thread. Dropping this detaches the thread.
#[derive(Debug)]
pub struct Exporter {
    stop: Arc<AtomicBool>,
    wake: SyncSender<Message>,
    ended: Receiver<()>,
}

struct Thread {
    target: Target,
    endpoint: Uri,
    client: HttpClient,
    /// A runtime of its own, so that a slow collector delays nothing else.
    runtime: Runtime,
    resource: Resource,
    spans: Receiver<Message>,
    stop: Arc<AtomicBool>,
    exported: IntCounter,
    dropped: IntCounter,
    /// Whether the last batch was rejected.
    is_failing: bool,
}

/// Why a batch was rejected.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Unanswered(#[from] RequestError),
    #[error("{0}")]
    Malformed(#[from] http::Error),
    #[error("status {0}")]
    Status(u16),
}

impl Exporter {
    pub(super) fn start(
        config: &Tracing,
        metrics: &Metrics,
        spans: Receiver<Message>,
        wake: SyncSender<Message>,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel();
        let stop = Arc::<AtomicBool>::default();
        let mut thread = Thread {
            endpoint: config.endpoint.uri().map_err(io::Error::other)?,
            target: config.endpoint.clone(),
            client: HttpClient::new(CONNECT_TIMEOUT).map_err(io::Error::other)?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            resource: resource(&config.service_name),
            spans,
            stop: stop.clone(),
            exported: metrics.spans_exported.clone(),
            dropped: metrics.spans_dropped.with_label_values(&["collector"]),
            is_failing: false,
        };
        thread::Builder::new().name("traces".into()).spawn(move || {
            thread.run();
            drop(alive);
        })?;
        Ok(Self { stop, wake, ended })
    }

    /// Exports the remaining spans within [`STOP_WAIT`].
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // If the queue is full, the thread is awake.
        let _ = self.wake.try_send(Message::Wake);
        let _ = self.ended.recv_timeout(STOP_WAIT);
    }
}

impl Thread {
    fn run(&mut self) {
        loop {
            let is_last = self.stop.load(Ordering::Relaxed);
            let batch = if is_last { self.left() } else { self.batch() };
            if !batch.is_empty() {
                // A panic loses one batch.
                contain(|| self.send(batch));
            } else if is_last {
                return;
            }
        }
    }

    /// The spans that arrive within [`BATCH_WAIT`] of the first one.
    fn batch(&self) -> Vec<Span> {
        let Ok(Message::Span(first)) = self.spans.recv() else { return Vec::new() };
        let mut batch = vec![*first];
        let until = Instant::now() + BATCH_WAIT;
        while batch.len() < BATCH_SPANS_MAX {
            match self.spans.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Span(span)) => batch.push(*span),
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        batch
    }

    /// The queued spans.
    fn left(&self) -> Vec<Span> {
        let spans = self.spans.try_iter().filter_map(|message| match message {
            Message::Span(span) => Some(*span),
            Message::Wake => None,
        });
        spans.take(BATCH_SPANS_MAX).collect()
    }

    fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let clock = Clock::now();
        let spans = batch.into_iter().map(|span| span.into_otlp(clock)).collect();
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        };
        let result = self.post(request.encode_to_vec());
        match &result {
            Ok(()) => self.exported.inc_by(count),
            Err(_) => self.dropped.inc_by(count),
        }
        self.report(result);
    }

    /// OTLP/HTTP: a request with a Protobuf body, and a 2xx response. Each batch has its own connection: the runtime runs
    /// during a request only, so that it would not notice the end of a connection that it keeps.
    fn post(&self, body: Vec<u8>) -> Result<(), Refused> {
        let request = Request::post(&self.endpoint)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, USER_AGENT_VALUE)
            .header(CONNECTION, "close")
            .body(Bytes::from(body))?;
        let response = self.runtime.block_on(self.client.send(request, LIMITS))?;
        if response.status.is_success() { Ok(()) } else { Err(Refused::Status(response.status.as_u16())) }
    }

    fn report(&mut self, result: Result<(), Refused>) {
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        let collector = &*self.target.authority;
        match result {
            Err(error) if !was_failing => {
                tracing::warn!(collector, %error, "the collector does not accept spans; dropping them")
            }
            Ok(()) if was_failing => tracing::info!(collector, "the collector accepts spans again"),
            _ => {}
        }
    }
}

/// The resource that every span belongs to.
fn resource(service_name: &str) -> Resource {
    let mut attributes = vec![
        attribute("service.name", &Value::text(service_name.to_owned())),
        attribute("service.version", &Value::text(env!("CARGO_PKG_VERSION"))),
    ];
    if let Ok(host) = std::fs::read_to_string(HOSTNAME_FILE) {
        attributes.push(attribute("host.name", &Value::text(host.trim().to_owned())));
    }
    Resource { attributes, ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::traces::{RequestSpan, Tracer};

    /// Exports a span to a collector with this response, and stops. Returns the numbers of exported and dropped spans.
    fn send(answer: &'static [u8]) -> (u64, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap()).parse().unwrap();
        let collector = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let read = socket.read(&mut request).unwrap();
            assert!(String::from_utf8_lossy(&request[..read]).contains("\r\nconnection: close\r\n"));
            socket.write_all(answer).unwrap();
        });
        let metrics = Metrics::new("test").unwrap();
        let config = Tracing { endpoint, sample: 1.0, service_name: "test".into() };
        let (tracer, exporter) = Tracer::start(&config, &metrics).unwrap();
        RequestSpan::begin(&tracer, None, "GET", "/").unwrap().end(Some(200));
        exporter.stop();
        let counted = (metrics.spans_exported.get(), metrics.spans_dropped.with_label_values(&["collector"]).get());
        collector.join().unwrap();
        counted
    }

    #[test]
    fn queued_spans_are_exported_at_the_end() {
        assert_eq!(send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), (1, 0));
    }

    #[test]
    fn rejected_spans_are_counted() {
        assert_eq!(send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), (0, 1));
        assert_eq!(send(b"SSH-2.0-x\r\n"), (0, 1));
        assert_eq!(send(b"HTTP/1.1 200"), (0, 1));
    }
}
