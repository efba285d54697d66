//! Opens streams: route, method, transport, authorization, resume position and a slot. Then the socket goes to a
//! writer, which writes everything that an admitted client receives.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::proxy::Session;

use super::admission::{Full, Slot, retry_delay};
use super::cross_origin::{CrossOrigin, Preflight};
use super::decide::{Wanted, decide, is_event_source, keys_settled};
use super::handover;
use super::query::Query;
use super::refusal::{Reason, Refusal};
use super::{Gateway, answer, asked, handshake, target, ticket};
use crate::codec::sse;
use crate::config::snapshot::Snapshot;
use crate::problem::{Problem, closing_bytes};
use crate::route::{Found, OtherMethods, StreamRoute, Transport};
use crate::session::{Request, Resume};
use crate::traces::RequestSpan;
use crate::writer::Opening;

/// `Allow` of a stream's path.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Response fields that keep proxies and caches from holding back a stream.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const BATCH_SIZE: HeaderName = HeaderName::from_static("x-batch-size");
const NO_CACHING: HeaderValue = HeaderValue::from_static("no-cache, no-store, no-transform");

/// Serves a request whose path is a stream's. False if the request is for the upstream.
pub(super) async fn intercept(
    gateway: &Gateway,
    session: &mut Session,
    snapshot: &Snapshot,
    span: &mut Option<Box<RequestSpan>>,
) -> pingora::Result<bool> {
    let mut ticket = ticket::answer(session, snapshot);
    if matches!(&ticket, Some((_, Err(refusal))) if refusal.reason() == Reason::Keys) {
        keys_settled(snapshot).await;
        ticket = ticket::answer(session, snapshot);
    }
    if let Some((cross_origin, answered)) = ticket {
        return match answered {
            Ok(response) => answer(session, cross_origin.on(response)).await,
            Err(refusal) => refuse(gateway, session, refusal, &cross_origin).await,
        };
    }
    let header = session.req_header();
    let (path, query) = target::split(header);
    let (route, params) = match snapshot.routes.find(path) {
        Found::Upstream => return Ok(false),
        Found::Disguised => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "the path must be written in its normal form");
            let refusal = Refusal::new(Reason::Disguised, problem);
            return refuse(gateway, session, refusal, &CrossOrigin::default()).await;
        }
        Found::Stream { route, params } => (route.clone(), params),
    };
    if let Some(span) = span {
        span.route = Some(route.pattern.clone());
    }
    let cross_origin = CrossOrigin::of(&route, &header.headers);
    match header.method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => {
            return match cross_origin.preflight(&route, &header.headers) {
                Preflight::Upstream => pass(session, &route),
                Preflight::Answer(fields) => answer(session, options(fields)).await,
            };
        }
        _ if route.other_methods == OtherMethods::Upstream => return pass(session, &route),
        _ => return refuse(gateway, session, method_not_allowed(), &cross_origin).await,
    }
    let method = header.method.clone();
    let query = query.unwrap_or_default().to_owned();
    let has_body = !session.is_body_empty();
    let query = Query::parse(&query);
    let client = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
    let wanted =
        Wanted { route: &route, params: &params, header: session.req_header(), query: &query, has_body, client };
    match decide(gateway, snapshot, wanted).await {
        Err(refusal) if refusal.reason().is_unverified() && is_event_source(session.req_header(), &route) => {
            count_refusal(gateway, refusal.reason());
            let resume = asked::resume(Transport::Sse, &route.stream, &session.req_header().headers, &query);
            return answer(session, cross_origin.on(reconnect_later(resume.ok().flatten().as_ref()))).await;
        }
        Err(refusal) => refuse(gateway, session, refusal, &cross_origin).await,
        Ok(request) if method == Method::HEAD => answer(session, cross_origin.on(head(&request))).await,
        Ok(request) => {
            let request = Request { headers: cross_origin.lines(), ..request };
            open(gateway, session, snapshot, request, span, &cross_origin).await
        }
    }
}

/// Leaves a request to the upstream, without the tokens and tickets that belong to this route.
fn pass(session: &mut Session, route: &StreamRoute) -> pingora::Result<bool> {
    if route.token_from.ticket {
        target::drop_parameter(session.req_header_mut(), "ticket")?;
    }
    if route.token_from.subprotocol {
        handshake::drop_tokens(session.req_header_mut())?;
    }
    Ok(false)
}

/// Takes a slot and hands the socket over.
async fn open(
    gateway: &Gateway,
    session: &mut Session,
    snapshot: &Snapshot,
    mut request: Request,
    span: &mut Option<Box<RequestSpan>>,
    cross_origin: &CrossOrigin,
) -> pingora::Result<bool> {
    let slot = match admit(gateway, snapshot, &mut request) {
        Ok(slot) => slot,
        Err(refusal) if request.transport == Transport::Sse => {
            count_refusal(gateway, refusal.reason());
            return answer(session, cross_origin.on(reconnect_later(request.resume.as_ref()))).await;
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
        let status = reject(&refused, cross_origin);
        if let Some(span) = refused.span.take() {
            span.end(Some(status));
        }
    }
    Ok(true)
}

/// A WebSocket without a token takes a slot of its route only when it authenticates.
fn admit(gateway: &Gateway, snapshot: &Snapshot, request: &mut Request) -> Result<Slot, Refusal> {
    let later =
        |reason, status, detail| Err(Refusal::new(reason, Problem::new(status, detail).retry_after(retry_delay())));
    if gateway.draining.is_set() {
        return later(Reason::Draining, StatusCode::SERVICE_UNAVAILABLE, "this instance is shutting down");
    }
    if gateway.pressure.refuses_streams() {
        return later(Reason::Memory, StatusCode::SERVICE_UNAVAILABLE, "there is too little memory for another stream");
    }
    let max_streams = snapshot.limits.max_streams;
    let taken = match &mut request.socket {
        Some(socket) if socket.unauthenticated.is_some() => {
            gateway.admission.admit_unauthenticated(max_streams).map(|(slot, waits)| {
                socket.slot = Some(waits);
                slot
            })
        }
        _ => gateway.admission.admit(&request.route, max_streams),
    };
    match taken {
        Ok(slot) => Ok(slot),
        Err(Full::Unauthenticated) => {
            let detail = "too many WebSockets have not sent their token yet";
            later(Reason::UnauthenticatedLimit, StatusCode::SERVICE_UNAVAILABLE, detail)
        }
        Err(Full::Process) => {
            later(Reason::ProcessLimit, StatusCode::SERVICE_UNAVAILABLE, "the limit of streams is reached")
        }
        Err(Full::Route) => {
            later(Reason::RouteLimit, StatusCode::TOO_MANY_REQUESTS, "the route's limit of streams is reached")
        }
    }
}

async fn refuse(
    gateway: &Gateway,
    session: &mut Session,
    refusal: Refusal,
    cross_origin: &CrossOrigin,
) -> pingora::Result<bool> {
    count_refusal(gateway, refusal.reason());
    answer(session, cross_origin.on(refusal.into_problem().into_response())).await
}

fn count_refusal(gateway: &Gateway, reason: Reason) {
    gateway.count_refusal(reason);
    tracing::debug!(reason = reason.as_str(), "refused a stream");
}

/// Rejects a socket that no writer accepted and that no HTTP session owns any more. Returns the status of the response.
fn reject(refused: &Opening, cross_origin: &CrossOrigin) -> u16 {
    let response = match refused.request.transport {
        Transport::Sse => reconnect_later(refused.request.resume.as_ref()),
        Transport::Ndjson | Transport::WebSocket => {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no stream can be opened now");
            problem.retry_after(retry_delay()).into_response()
        }
    };
    let response = cross_origin.on(response);
    let status = response.status().as_u16();
    // A small write to an empty send buffer does not block. A client that has disconnected needs no response.
    if let Err(error) = std::io::Write::write(&mut &refused.socket, &closing_bytes(response)) {
        tracing::debug!(%error, "cannot answer a refused stream");
    }
    status
}

/// A response that makes `EventSource` reconnect: any status but 200 would fail it permanently (WHATWG HTML section
/// 9.2.3). It repeats the client's position, because an event without an id would reset `lastEventId` (section 9.2.6).
fn reconnect_later(resume: Option<&Resume>) -> http::Response<Vec<u8>> {
    let delay = retry_delay();
    let cursor = resume.and_then(Resume::cursor).map(|cursor| cursor.to_string());
    let retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let body = sse::priming(retry_ms, cursor.as_deref().map(str::as_bytes));
    let length = body.len();
    let mut response = http::Response::new(body);
    stream_headers(response.headers_mut(), "text/event-stream");
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(delay.as_secs()));
    response
}

/// The response to GET without the stream.
fn head(request: &Request) -> http::Response<Vec<u8>> {
    let mut response = http::Response::new(Vec::new());
    stream_headers(response.headers_mut(), request.content_type);
    if let Some(batch) = request.batch {
        response.headers_mut().insert(BATCH_SIZE, HeaderValue::from(batch.events()));
    }
    response
}

fn stream_headers(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, NO_CACHING);
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
}

fn options(cross_origin: CrossOrigin) -> http::Response<Vec<u8>> {
    let mut response = http::Response::new(Vec::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, ALLOWED);
    cross_origin.on(response)
}

fn method_not_allowed() -> Refusal {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "a stream is read with GET").header(ALLOW, ALLOWED);
    Refusal::new(Reason::Method, problem)
}

pub(super) fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconnect_response_is_an_event_stream() {
        let response = reconnect_later(None);
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
        let body = String::from_utf8(reconnect_later(Some(&resume)).into_body()).unwrap();
        assert!(body.ends_with("\nid: orders:0:7\n\n"), "{body}");
    }
}
