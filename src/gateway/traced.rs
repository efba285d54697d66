//! The span of a request, from the headers of W3C Trace Context.

use http::HeaderName;
use pingora::http::RequestHeader;

use crate::traces::{RequestSpan, Tracer};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Begins the span of a request, if it is sampled.
pub(super) fn begin(tracer: &Tracer, header: &RequestHeader) -> Option<Box<RequestSpan>> {
    let mut lines = header.headers.get_all(TRACEPARENT).iter();
    // A repeated field is ignored (section 3.2: it has a single value).
    let parent = match (lines.next(), lines.next()) {
        (Some(only), None) => only.to_str().ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    RequestSpan::begin(tracer, parent, header.method.as_str(), header.uri.path())
}

/// Makes the upstream's spans children of the request's span. `tracestate` is forwarded unchanged (section 3.3.1).
pub(super) fn continue_in(span: &RequestSpan, request: &mut RequestHeader) -> pingora::Result<()> {
    request.insert_header(TRACEPARENT, span.place().to_string())
}
