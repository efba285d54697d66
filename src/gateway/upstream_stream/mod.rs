//! Streams that the upstream sends: heartbeats while it is silent. Its bytes pass unchanged.

mod early;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use super::{response, target};
use crate::codec::{BYTE_ORDER_MARK, Boundaries, Position, TransferCoding, Transport};
use crate::config::snapshot::{Upstream, UpstreamStreams};
use crate::listener::{Connection, Heartbeats};
use crate::metrics::Metrics;
use crate::problem::Problem;
use early::Early;

pub(super) use early::open;

const DIGESTS: [HeaderName; 2] = [HeaderName::from_static("content-digest"), HeaderName::from_static("repr-digest")];

/// The stream that a response is, while it can have heartbeats.
#[derive(Debug)]
pub(super) struct UpstreamStream {
    boundaries: Boundaries,
    start: Start,
    /// Set if its response has begun before the upstream's.
    early: Option<Early>,
}

/// The first bytes of the stream. Readers ignore a byte order mark there, but not after a heartbeat: then it is removed.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// This many bytes of a mark are held back.
    Held(usize),
    Past,
}

/// Why a stream has no heartbeats, as a label in metrics.
#[derive(Clone, Copy, Debug)]
enum Untouched {
    /// It has a content coding.
    Encoded,
    /// The response states its length.
    Length,
    /// It is a part of a representation (RFC 9110 section 15.3.7).
    Range,
    /// The response states a digest of its bytes (RFC 9530).
    Digest,
    Malformed,
}

impl Untouched {
    /// By its head.
    fn of(response: &ResponseHeader) -> Option<Self> {
        let has = |name: &HeaderName| response.headers.contains_key(name);
        if is_encoded(response) {
            Some(Self::Encoded)
        } else if has(&CONTENT_LENGTH) {
            Some(Self::Length)
        } else if response.status == StatusCode::PARTIAL_CONTENT {
            Some(Self::Range)
        } else {
            DIGESTS.iter().any(has).then_some(Self::Digest)
        }
    }

    fn count(self, metrics: &Metrics) {
        let reason = match self {
            Self::Encoded => "encoded",
            Self::Length => "length",
            Self::Range => "range",
            Self::Digest => "digest",
            Self::Malformed => "malformed",
        };
        metrics.upstream_streams_untouched.with_label_values(&[reason]).inc();
    }
}

/// How long the upstream may be silent during this request.
pub(super) fn read_timeout(request: &RequestHeader, upstream: &Upstream) -> Duration {
    let is_stream = response::accepts_stream(request) || upstream.streams.on_path(target::split(request).0).is_some();
    if is_stream { upstream.read_timeout.max(upstream.streams.read_timeout) } else { upstream.read_timeout }
}

/// Begins with a response, if it is a stream that can have heartbeats.
pub(super) fn begin(
    session: &Session,
    response: &ResponseHeader,
    streams: &UpstreamStreams,
    metrics: &Metrics,
) -> Option<UpstreamStream> {
    let transport = response::stream(response).filter(|_| has_body(session, response))?;
    let stream = UpstreamStream::new(transport, None)?;
    let format = [transport.as_str()];
    metrics.upstream_streams.with_label_values(&format).inc();
    let (path, _) = target::split(session.req_header());
    if !streams.heartbeat_on(path).covers(transport) {
        return None;
    }
    if let Some(untouched) = Untouched::of(response) {
        untouched.count(metrics);
        return None;
    }
    let is_chunked = response.headers.contains_key(TRANSFER_ENCODING);
    let coding = if is_chunked { TransferCoding::Chunked } else { TransferCoding::None };
    let sent = metrics.upstream_stream_heartbeats.with_label_values(&format);
    let heartbeats = heartbeats(session)?;
    heartbeats.start(streams.heartbeat_interval, coding, sent);
    stream.permit(heartbeats);
    Some(stream)
}

impl UpstreamStream {
    fn new(transport: Transport, early: Option<Early>) -> Option<Self> {
        let boundaries = transport.row().boundaries()?;
        let start = if boundaries.may_begin_with_mark() { Start::Held(0) } else { Start::Past };
        Some(Self { boundaries, start, early })
    }

    /// Whether its response has begun before the upstream's.
    pub(super) fn is_early(&self) -> bool {
        self.early.is_some()
    }

    /// Takes the head of the upstream's response, if its own has begun before: it is not passed on. Returns the last bytes
    /// of the stream, if there is no more of it.
    pub(super) fn take_head(&mut self, session: &Session, head: &mut ResponseHeader) -> Option<Bytes> {
        let event = self.early.as_mut()?.take_head(session, head)?;
        stop(session);
        Some(event)
    }

    /// The last bytes of a stream whose response has begun before the upstream's, after this failure. `None` if it can
    /// only be cut.
    pub(super) fn fail(&self, problem: Problem) -> Option<Bytes> {
        let is_between = matches!(self.boundaries.position(), Position::Between(_));
        (self.is_early() && is_between).then(|| early::event(problem))
    }

    /// Takes the next part of the body, and the end of the stream. False if there are no more heartbeats.
    pub(super) fn pass(
        &mut self,
        session: &Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        metrics: &Metrics,
    ) -> bool {
        let Some(heartbeats) = heartbeats(session) else { return false };
        if let Some(Early::Fails(failing)) = &mut self.early {
            *body = failing.take(&body.take().unwrap_or_default(), is_end);
            if is_end {
                heartbeats.stop();
            }
            return !is_end;
        }
        self.boundaries.take(body.as_deref().unwrap_or_default());
        if let Start::Held(held) = self.start {
            if held > 0 || heartbeats.have_been_sent() {
                *body = Some(self.without_mark(held, body.take().unwrap_or_default(), is_end));
            } else if body.as_ref().is_some_and(|bytes| !bytes.is_empty()) {
                self.start = Start::Past;
            }
        }
        if is_end {
            heartbeats.stop();
            return false;
        }
        let is_well_formed = self.permit(heartbeats);
        if !is_well_formed {
            Untouched::Malformed.count(metrics);
        }
        is_well_formed
    }

    /// Permits a heartbeat at a boundary. False if the stream is malformed.
    fn permit(&self, heartbeats: &Heartbeats) -> bool {
        let position = self.boundaries.position();
        match position {
            Position::Between(heartbeat) => heartbeats.permit(Some(heartbeat)),
            Position::Within => heartbeats.permit(None),
            Position::Malformed => heartbeats.stop(),
        }
        position != Position::Malformed
    }

    /// The first bytes of the stream, of which the mark is removed. Holds back what may be a part of it.
    fn without_mark(&mut self, held: usize, bytes: Bytes, is_end: bool) -> Bytes {
        let bytes = [&BYTE_ORDER_MARK[..held], &*bytes].concat();
        if !is_end && bytes.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&bytes) {
            self.start = Start::Held(bytes.len());
            return Bytes::new();
        }
        self.start = Start::Past;
        let content = bytes.strip_prefix(BYTE_ORDER_MARK).map(<[u8]>::to_vec);
        content.unwrap_or(bytes).into()
    }
}

/// Ends the heartbeats of a response.
pub(super) fn stop(session: &Session) {
    if let Some(heartbeats) = heartbeats(session) {
        heartbeats.stop();
    }
}

/// The heartbeats of the client's connection.
fn heartbeats(session: &Session) -> Option<&Heartbeats> {
    let ServerSession::H1(http1) = &*session.downstream_session else { return None };
    (**http1.stream()).as_any().downcast_ref::<Connection>().map(Connection::heartbeats)
}

fn is_encoded(response: &ResponseHeader) -> bool {
    let mut codings = response::tokens(&response.headers, CONTENT_ENCODING);
    codings.any(|coding| !coding.eq_ignore_ascii_case("identity"))
}

/// Whether a response to this request has a body (RFC 9110 section 6.4.1).
fn has_body(session: &Session, response: &ResponseHeader) -> bool {
    let is_empty = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    session.req_header().method != Method::HEAD && !response.status.is_informational() && !is_empty
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of these parts of a stream after a heartbeat.
    fn passed(parts: &[&[u8]]) -> Vec<u8> {
        let mut stream = UpstreamStream::new(Transport::Sse, None).unwrap();
        let mut passed = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let Start::Held(held) = stream.start else {
                passed.extend_from_slice(part);
                continue;
            };
            let is_end = number + 1 == parts.len();
            passed.extend_from_slice(&stream.without_mark(held, Bytes::copy_from_slice(part), is_end));
        }
        passed
    }

    #[test]
    fn a_mark_is_removed_after_a_heartbeat() {
        for (stream, expected) in
            [(&b"\xef\xbb\xbfid\n"[..], &b"id\n"[..]), (b"\xef\xbbid", b"\xef\xbbid"), (b"id", b"id")]
        {
            for first in 0..=stream.len() {
                for second in first..=stream.len() {
                    let parts = [&stream[..first], &stream[first..second], &stream[second..]];
                    assert_eq!(passed(&parts), expected, "{parts:?}");
                }
            }
        }
        assert_eq!(passed(&[b"\xef", b"\xbb", b""]), b"\xef\xbb", "the end of the stream");
    }
}
