//! Takes a slot for a stream and hands its socket to a writer, which writes everything that an admitted client
//! receives.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};
use pingora::proxy::Session;

use super::admission::{Asked, Full, Slot, retry_delay};
use super::cross_origin::CrossOrigin;
use super::quota::{Claimant, Exceeded, FromTo};
use super::refusal::{Reason, Refusal, count_refusal, reconnect_later, refuse};
use super::{Gateway, answer, forwarded, handover};
use crate::config::snapshot::Snapshot;
use crate::problem::{Problem, closing_bytes};
use crate::session::Request;
use crate::traces::RequestSpan;
use crate::writer::Opening;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Takes a slot and hands the socket to a writer.
pub(super) async fn open(
    gateway: &Gateway,
    session: &mut Session,
    snapshot: &Snapshot,
    mut request: Request,
    span: &mut Option<Box<RequestSpan>>,
    cross_origin: &CrossOrigin,
) -> pingora::Result<bool> {
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
    let address = peer.map(|peer| forwarded::client(&session.req_header().headers, peer, &snapshot.forwarded));
    let slot = match admit(gateway, snapshot, &mut request, address) {
        Ok(slot) => slot,
        Err(refusal) if request.transport.fails_in_stream() => {
            count_refusal(gateway, refusal.reason());
            let response = reconnect_later(request.transport, request.resume.as_deref());
            return answer(session, cross_origin.on(response)).await;
        }
        Err(refusal) => return refuse(gateway, session, refusal, cross_origin).await,
    };
    let detached = match handover::take(session) {
        Ok(detached) => detached,
        Err(error) => {
            tracing::error!(%error, "a stream's connection is lost");
            gateway.count_refusal(Reason::Internal);
            if let Some(span) = span.take() {
                span.end(None);
            }
            return Ok(true);
        }
    };
    let slot = Box::new((slot, detached.permit));
    let opening = Opening {
        socket: detached.socket,
        peer_timeout: snapshot.limits.tcp_user_timeout,
        early: detached.early,
        request,
        span: span.take(),
        slot,
    };
    if let Err(mut refused) = gateway.writers.open(opening) {
        gateway.count_refusal(Reason::Internal);
        let status = reject(&mut refused, cross_origin);
        if let Some(span) = refused.span.take() {
            span.end(Some(status));
        }
    }
    Ok(true)
}

/// A WebSocket without a token takes a slot of its route only when it authenticates.
fn admit(
    gateway: &Gateway,
    snapshot: &Snapshot,
    request: &mut Request,
    address: Option<IpAddr>,
) -> Result<Slot, Refusal> {
    let later =
        |reason, status, detail| Err(Refusal::new(reason, Problem::new(status, detail).retry_after(retry_delay())));
    if gateway.draining.is_set() {
        return later(Reason::Draining, StatusCode::SERVICE_UNAVAILABLE, "this instance is shutting down");
    }
    if gateway.pressure.refuses_streams() {
        return later(Reason::Memory, StatusCode::SERVICE_UNAVAILABLE, "there is too little memory for another stream");
    }
    let asked = Asked {
        max_streams: snapshot.limits.max_streams,
        quotas: &snapshot.limits.quotas,
        claimant: Claimant {
            principal: request.principal.as_ref(),
            connection: Some(FromTo { address, route: &request.route.pattern }),
        },
        now: Instant::now(),
    };
    let taken = match &mut request.socket {
        Some(socket) if socket.unauthenticated.is_some() => {
            gateway.admission.admit_unauthenticated(&request.route, &asked).map(|(slot, waits)| {
                socket.slot = Some(waits);
                slot
            })
        }
        _ => gateway.admission.admit(&request.route, &asked),
    };
    match taken {
        Ok(slot) => {
            request.count_in(slot.meters());
            Ok(slot)
        }
        Err(Full::Unauthenticated) => {
            let detail = "too many WebSockets have not sent their token yet";
            later(Reason::UnauthenticatedLimit, StatusCode::SERVICE_UNAVAILABLE, detail)
        }
        Err(Full::Process) => {
            later(Reason::ProcessLimit, StatusCode::SERVICE_UNAVAILABLE, "the limit of streams is reached")
        }
        Err(Full::Quota(exceeded)) => Err(quota_exceeded(&exceeded)),
        Err(Full::Route) => {
            let limit = request.route.max_streams.unwrap_or_default() as u64;
            let problem = limited("the route's limit of streams is reached", "max_streams", limit, "", retry_delay());
            Err(Refusal::new(Reason::RouteLimit, problem))
        }
    }
}

/// 429 for a stream beyond a quota, which names the quota without its holder.
fn quota_exceeded(exceeded: &Exceeded) -> Refusal {
    let delay = exceeded.retry_after.unwrap_or_else(retry_delay);
    let detail = match exceeded.retry_after {
        Some(_) => format!("more than {} streams were opened in a minute (quota `{}`)", exceeded.limit, exceeded.quota),
        None => format!("{} streams are open (quota `{}`)", exceeded.limit, exceeded.quota),
    };
    let window = if exceeded.retry_after.is_some() { ";w=60" } else { "" };
    let problem = limited(detail, &exceeded.quota, exceeded.limit, window, delay);
    Refusal::new(Reason::Quota, problem)
}

/// 429 with the fields of draft-ietf-httpapi-ratelimit-headers. `window` is the parameter of a rate's period.
fn limited(detail: impl Into<Cow<'static, str>>, policy: &str, limit: u64, window: &str, delay: Duration) -> Problem {
    let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(delay);
    // The name of a claim may contain characters that a string must not.
    let Some(policy) = structured_string(policy) else { return problem };
    let left = format!("{policy};r=0;t={}", delay.as_millis().div_ceil(1000));
    let policy = format!("{policy};q={limit}{window}");
    for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            problem = problem.header(name, value);
        }
    }
    problem
}

/// A string of a structured field (RFC 9651 section 3.3.3). `None` if the text is not printable ASCII.
fn structured_string(text: &str) -> Option<String> {
    let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    is_printable.then(|| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Rejects a socket that no writer accepted and that no HTTP session owns any more. Returns the status of the response.
fn reject(refused: &mut Opening, cross_origin: &CrossOrigin) -> u16 {
    let transport = refused.request.transport;
    let response = if transport.fails_in_stream() {
        reconnect_later(transport, refused.request.resume.as_deref())
    } else {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no stream can be opened now");
        problem.retry_after(retry_delay()).into_response()
    };
    let response = cross_origin.on(response);
    let status = response.status().as_u16();
    // A small write to an empty send buffer does not block. A client that has disconnected needs no response.
    if let Err(error) = std::io::Write::write(&mut refused.socket, &closing_bytes(response)) {
        tracing::debug!(%error, "cannot answer a refused stream");
    }
    refused.socket.end();
    status
}

#[cfg(test)]
mod tests {
    use super::structured_string;

    #[test]
    fn a_policy_is_named_by_a_string_of_a_structured_field() {
        assert_eq!(structured_string("claims.sub on /orders").as_deref(), Some("\"claims.sub on /orders\""));
        assert_eq!(structured_string(r#"claims.a"b\c"#).as_deref(), Some(r#""claims.a\"b\\c""#));
        assert_eq!(structured_string("claims.größe"), None);
        assert_eq!(structured_string("claims.a\nb"), None);
    }
}
