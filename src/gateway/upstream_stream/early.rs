//! Responses that begin before the upstream's: a stream of SSE with status 200, in which failures are events.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use serde_json::Value;

use super::{UpstreamStream, has_body, heartbeats, is_encoded};
use crate::codec::transport::Control;
use crate::codec::{TransferCoding, Transport};
use crate::config::snapshot::UpstreamStreams;
use crate::gateway::{now_unix_ms, response, stream_headers, target};
use crate::metrics::Metrics;
use crate::problem::Problem;

/// The longest body of a response that is no stream, in bytes, that the event about it contains.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The media type of all responses that begin early.
const MEDIA_TYPE: &str = "text/event-stream";

/// How far the upstream is, in a response that has begun early.
#[derive(Debug)]
pub(super) enum Early {
    /// It has not responded yet, or its response is the stream.
    Streams,
    /// Its response is no stream, and is read for the event about it.
    Fails(Failing),
}

/// A response of the upstream that is no stream.
#[derive(Debug)]
pub(super) struct Failing {
    status: StatusCode,
    /// What was read of its body, if that is JSON and not too long.
    body: Option<Vec<u8>>,
}

/// Begins the response to a request, if its path has `early`.
pub(in crate::gateway) async fn open(
    session: &mut Session,
    streams: &UpstreamStreams,
    metrics: &Metrics,
) -> pingora::Result<Option<UpstreamStream>> {
    let request = session.req_header();
    let path = streams.on_path(target::split(request).0).filter(|path| path.early && may_be_early(request));
    let path = path.filter(|_| !session.is_upgrade_req());
    let (Some(path), Some(transport)) = (path, Transport::of_media_type(MEDIA_TYPE)) else { return Ok(None) };
    let has_heartbeats = path.heartbeat.unwrap_or(streams.heartbeat).covers(transport);
    let mut response = http::Response::new(());
    stream_headers(response.headers_mut(), MEDIA_TYPE);
    response.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let head = ResponseHeader::from(response.into_parts().0);
    // The head of the upstream is passed on as an informational response, which is then dropped.
    session.set_ignore_info_resp(true);
    session.write_response_header(Box::new(head), false).await?;
    let format = [transport.as_str()];
    metrics.upstream_streams.with_label_values(&format).inc();
    let stream = UpstreamStream::new(transport, Some(Early::Streams));
    if let (true, Some(stream), Some(heartbeats)) = (has_heartbeats, &stream, heartbeats(session)) {
        let sent = metrics.upstream_stream_heartbeats.with_label_values(&format);
        heartbeats.start(streams.heartbeat_interval, TransferCoding::Chunked, sent);
        stream.permit(heartbeats);
    }
    Ok(stream)
}

/// Whether a response may begin before the upstream's. A client that expects 100 would not send its body after a 200.
fn may_be_early(request: &RequestHeader) -> bool {
    let has_stream = !matches!(request.method, Method::HEAD | Method::OPTIONS);
    has_stream && request.version == Version::HTTP_11 && !request.headers.contains_key(EXPECT)
}

impl Early {
    /// Takes the head of the upstream's response, which is not passed on. Returns the last bytes of the stream if the
    /// response has no body.
    pub(super) fn take_head(&mut self, session: &Session, head: &mut ResponseHeader) -> Option<Bytes> {
        if head.status.is_informational() {
            return None;
        }
        let is_stream = is_ours(head) && head.status == StatusCode::OK && !is_encoded(head);
        let has_body = has_body(session, head) && head.headers.get(CONTENT_LENGTH).is_none_or(|length| length != "0");
        let failing = (!is_stream).then(|| Failing::new(head));
        let event = failing.as_ref().filter(|_| !has_body).map(Failing::event);
        if let Some(failing) = failing {
            *self = Self::Fails(failing);
        }
        head.set_status(StatusCode::EARLY_HINTS).is_ok().then_some(event).flatten()
    }
}

impl Failing {
    fn new(head: &ResponseHeader) -> Self {
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is_json = essence.eq_ignore_ascii_case("application/json") || essence.ends_with("+json");
        // A success without a stream is none for a client that reads a stream.
        let status = if head.status.is_success() { StatusCode::BAD_GATEWAY } else { head.status };
        Self { status, body: (is_json && !is_encoded(head)).then(Vec::new) }
    }

    /// Takes the next part of the body. Returns the last bytes of the stream at its end.
    pub(super) fn take(&mut self, bytes: &[u8], is_end: bool) -> Option<Bytes> {
        match &mut self.body {
            Some(body) if body.len() + bytes.len() <= BODY_BYTES_MAX => body.extend_from_slice(bytes),
            _ => self.body = None,
        }
        is_end.then(|| self.event())
    }

    fn event(&self) -> Bytes {
        let problem = Problem::new(self.status, "the response of the service is not a stream");
        let body = self.body.as_deref().and_then(|body| serde_json::from_slice::<Value>(body).ok());
        event(match body {
            Some(body) => problem.member("response", body),
            None => problem,
        })
    }
}

/// Whether a response is of the media type that was announced.
fn is_ours(head: &ResponseHeader) -> bool {
    response::stream(head).is_some_and(|transport| Some(transport) == Transport::of_media_type(MEDIA_TYPE))
}

/// The event for a failure, with a problem document as its data.
pub(super) fn event(problem: Problem) -> Bytes {
    let data = problem.into_response().into_body();
    let record = Control { kind: "error", data, cursor: None, number: 0, unix_ms: now_unix_ms() };
    Transport::of_media_type(MEDIA_TYPE).map(|transport| transport.row().control(record)).unwrap_or_default().into()
}
