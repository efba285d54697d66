//! The span of one request, from its head to the end of its response; for a stream, to the response head.
//!
//! The attributes follow OpenTelemetry's semantic conventions for HTTP servers, without query and headers, which may
//! contain tokens.

use std::sync::Arc;
use std::time::Instant;

use super::Tracer;
use super::span::{Kind, Span, Value};
use crate::traceparent::TraceParent;

/// The methods that may appear in a span's name; all others are `_OTHER`.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// A sampled request.
#[derive(Debug)]
pub struct RequestSpan {
    tracer: Tracer,
    place: TraceParent,
    parent: Option<[u8; 8]>,
    start: Instant,
    method: &'static str,
    path: String,
    /// The route's pattern, for a stream.
    pub route: Option<Arc<str>>,
    /// The failure of the upstream, with its name in metrics.
    pub failure: Option<&'static str>,
}

impl RequestSpan {
    /// Begins the span, if it is sampled. `parent` comes from the client's `traceparent`.
    pub fn begin(tracer: &Tracer, parent: Option<TraceParent>, method: &str, path: &str) -> Option<Box<Self>> {
        let place = tracer.begin(parent)?;
        Some(Box::new(Self {
            tracer: tracer.clone(),
            place,
            parent: parent.map(|parent| parent.span),
            start: Instant::now(),
            method: METHODS.iter().find(|known| **known == method).unwrap_or(&"_OTHER"),
            path: path.to_owned(),
            route: None,
            failure: None,
        }))
    }

    /// The parent of the upstream's spans.
    pub fn place(&self) -> TraceParent {
        self.place
    }

    /// Ends the span. The status is absent if the client disconnected before the response.
    pub fn end(self, status: Option<u16>) {
        let is_error = status.is_none_or(|status| status >= 500);
        let mut attributes = vec![
            ("http.request.method", Value::text(self.method)),
            ("url.scheme", Value::text("http")),
            ("url.path", Value::text(self.path)),
        ];
        if let Some(status) = status {
            attributes.push(("http.response.status_code", Value::Number(status.into())));
        }
        if is_error {
            let kind = match (self.failure, status) {
                (Some(failure), _) => Value::text(failure),
                (None, Some(status)) => Value::text(status.to_string()),
                (None, None) => Value::text("client-left"),
            };
            attributes.push(("error.type", kind));
        }
        let name = match self.route {
            Some(route) => {
                attributes.push(("http.route", Value::text(route.to_string())));
                format!("{} {route}", self.method).into()
            }
            None => self.method.into(),
        };
        self.tracer.end(Span {
            place: self.place,
            parent: self.parent,
            name,
            kind: Kind::Server,
            start: self.start,
            end: Instant::now(),
            attributes,
            moments: Vec::new(),
            is_error,
        });
    }
}
