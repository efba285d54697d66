//! Why a stream request is refused: a reason from a fixed set for metrics, and the response.

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use pingora::proxy::Session;

use super::admission::retry_delay;
use super::cross_origin::CrossOrigin;
use super::{Gateway, answer, stream_headers};
use crate::problem::Problem;
use crate::route::Transport;
use crate::session::Resume;

/// The values of the label `reason` of `streams_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A path that equals a stream route only after normalization.
    Disguised,
    Method,
    /// The request has a body.
    Body,
    NotAcceptable,
    /// The WebSocket handshake is missing or malformed.
    Handshake,
    /// A misspelt parameter name, or a path value that is too long.
    Parameter,
    /// `since` is not a cursor.
    Position,
    /// `batchSize` or `batchWindow` is out of range.
    Batch,
    /// Probes are disabled, or the interval is invalid.
    Probe,
    /// The path of a ticket request has no route that accepts tickets.
    Ticket,
    Unauthorized,
    /// The issuer's keys are not available.
    Keys,
    /// The authentication service is not available.
    ForwardAuth,
    /// The authorization server is not available.
    Introspection,
    /// The fields that authenticate a request are too long.
    Credentials,
    Forbidden,
    /// The rule of the route denies whatever the events are.
    Rule,
    Origin,
    ProcessLimit,
    RouteLimit,
    /// A user, tenant or client address has as many streams, or opens, as its quota allows.
    Quota,
    /// Too many WebSockets have not authenticated yet.
    UnauthenticatedLimit,
    Draining,
    /// Too little memory for another stream.
    Memory,
    /// The connection could not be taken from the proxy, or no writer accepted it.
    Internal,
    /// The state was not read yet, or is larger than its limit.
    State,
}

impl Reason {
    /// Whether it is not known who the request is from: the same request may be accepted later.
    pub(super) fn is_unverified(self) -> bool {
        matches!(self, Self::Keys | Self::ForwardAuth | Self::Introspection)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Disguised => "disguised",
            Self::Method => "method",
            Self::Body => "body",
            Self::NotAcceptable => "not-acceptable",
            Self::Handshake => "handshake",
            Self::Parameter => "parameter",
            Self::Position => "position",
            Self::Batch => "batch",
            Self::Probe => "probe",
            Self::Ticket => "ticket",
            Self::Unauthorized => "unauthorized",
            Self::Keys => "keys",
            Self::ForwardAuth => "forward-auth",
            Self::Introspection => "introspection",
            Self::Credentials => "credentials",
            Self::Forbidden => "forbidden",
            Self::Rule => "rule",
            Self::Origin => "origin",
            Self::ProcessLimit => "process-limit",
            Self::RouteLimit => "route-limit",
            Self::Quota => "quota",
            Self::UnauthenticatedLimit => "unauthenticated-limit",
            Self::Draining => "draining",
            Self::Memory => "memory",
            Self::Internal => "internal",
            Self::State => "state",
        }
    }
}

/// A refused stream request.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    // Boxed to keep results small: a refusal is rare.
    problem: Box<Problem>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, problem: Problem) -> Self {
        Self { reason, problem: Box::new(problem) }
    }

    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    pub(super) fn into_problem(self) -> Problem {
        *self.problem
    }
}

pub(super) async fn refuse(
    gateway: &Gateway,
    session: &mut Session,
    refusal: Refusal,
    cross_origin: &CrossOrigin,
) -> pingora::Result<bool> {
    count_refusal(gateway, refusal.reason());
    answer(session, cross_origin.on(refusal.into_problem().into_response())).await
}

pub(super) fn count_refusal(gateway: &Gateway, reason: Reason) {
    gateway.count_refusal(reason);
    tracing::debug!(reason = reason.as_str(), "refused a stream");
}

/// A response that makes a client reconnect that would fail permanently on any status but 200, as `EventSource` does
/// (WHATWG HTML section 9.2.3). It repeats the client's position, because an event without an id would reset
/// `lastEventId` (section 9.2.6).
pub(super) fn reconnect_later(transport: Transport, resume: Option<&Resume>) -> http::Response<Vec<u8>> {
    let delay = retry_delay();
    let cursor = resume.and_then(Resume::cursor_text);
    let retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let body = transport.row().priming(retry_ms, cursor.as_deref().map(str::as_bytes));
    let length = body.len();
    let mut response = http::Response::new(body);
    let content_type = transport.row().media_types().first().copied().unwrap_or_default();
    stream_headers(response.headers_mut(), content_type);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(delay.as_secs()));
    response
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn a_reconnect_response_is_an_event_stream() {
        let response = reconnect_later(Transport::Sse, None);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        let body = String::from_utf8(response.into_body()).unwrap();
        let delay: u64 = body.strip_prefix("retry: ").unwrap().trim_end().parse().unwrap();
        assert!((5_000..15_000).contains(&delay), "{delay}");
        assert!(body.ends_with("\n\n"));
    }

    #[test]
    fn a_reconnect_response_keeps_the_position() {
        let resume = Resume::From("orders:0:7".parse().unwrap());
        let body = String::from_utf8(reconnect_later(Transport::Sse, Some(&resume)).into_body()).unwrap();
        assert!(body.ends_with("\nid: orders:0:7\n\n"), "{body}");
    }
}
