//! The span of a request, as its headers say it: W3C Trace Context.

use http::HeaderName;
use pingora::http::RequestHeader;

use crate::traces::{RequestSpan, Tracer};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Begins the span of a request that is to be told of.
pub(super) fn begin(tracer: &Tracer, header: &RequestHeader) -> Option<Box<RequestSpan>> {
    let mut lines = header.headers.get_all(TRACEPARENT).iter();
    // Given twice it says nothing (section 3.2: it is a single value).
    let parent = match (lines.next(), lines.next()) {
        (Some(only), None) => only.to_str().ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    RequestSpan::begin(tracer, parent, header.method.as_str(), header.uri.path())
}

/// Lets what the upstream tells of stand below the request's span. `tracestate` passes as it came (section 3.3.1).
pub(super) fn continue_in(span: &RequestSpan, request: &mut RequestHeader) -> pingora::Result<()> {
    request.insert_header(TRACEPARENT, span.place().to_string())
}
