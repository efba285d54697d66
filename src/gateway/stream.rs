//! Serves the requests whose paths are those of streams.

use http::header::ALLOW;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::proxy::Session;

use super::cross_origin::{CrossOrigin, Preflight};
use super::decide::{Wanted, decide, keys_settled, transport_without_errors};
use super::query::Query;
use super::refusal::{Reason, Refusal, count_refusal, reconnect_later, refuse};
use super::{
    Gateway, answer, asked, description, document, forwarded, handshake, open, stream_headers, target, ticket,
};
use crate::config::snapshot::Snapshot;
use crate::problem::Problem;
use crate::route::{Found, OtherMethods, StreamRoute};
use crate::session::Request;
use crate::traces::RequestSpan;

/// `Allow` of a stream's path.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const BATCH_SIZE: HeaderName = HeaderName::from_static("x-batch-size");

/// Serves a request whose path is a stream's. False if the request is for the upstream.
pub(super) async fn intercept(
    gateway: &Gateway,
    session: &mut Session,
    snapshot: &Snapshot,
    span: &mut Option<Box<RequestSpan>>,
) -> pingora::Result<bool> {
    if let Some(description) = description::response(session.req_header(), snapshot) {
        return answer(session, description).await;
    }
    let mut ticket = ticket::answer(session, snapshot).await;
    if matches!(&ticket, Some((_, Err(refusal))) if refusal.reason() == Reason::Keys) {
        keys_settled(snapshot).await;
        ticket = ticket::answer(session, snapshot).await;
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
    let raw = query.unwrap_or_default().to_owned();
    let has_body = !session.is_body_empty();
    let query = Query::parse(&raw);
    let client = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
    let wanted = Wanted {
        route: &route,
        params: &params,
        header: session.req_header(),
        query: &query,
        has_body,
        client,
        is_encrypted: forwarded::is_encrypted(session),
    };
    if let Some(transport) = document::asked_for(wanted, &raw) {
        return match document::respond(gateway, snapshot, wanted, &raw, transport).await {
            Ok(response) if method == Method::HEAD => {
                answer(session, cross_origin.on(response.map(|_| Vec::new()))).await
            }
            Ok(response) => answer(session, cross_origin.on(response)).await,
            Err(refusal) => refuse(gateway, session, refusal, &cross_origin).await,
        };
    }
    match decide(gateway, snapshot, wanted).await {
        Err(refusal) => {
            let headers = &session.req_header().headers;
            match transport_without_errors(headers, &query, &route).filter(|_| refusal.reason().is_unverified()) {
                Some(transport) => {
                    count_refusal(gateway, refusal.reason());
                    let resume = asked::resume(transport, &route.stream, headers, &query).ok().flatten();
                    answer(session, cross_origin.on(reconnect_later(transport, resume.as_ref()))).await
                }
                None => refuse(gateway, session, refusal, &cross_origin).await,
            }
        }
        Ok(request) if method == Method::HEAD => answer(session, cross_origin.on(head(&request))).await,
        Ok(request) => {
            let request = Request { headers: cross_origin.lines(), ..request };
            open::open(gateway, session, snapshot, request, span, &cross_origin).await
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

/// The response to GET without the stream.
fn head(request: &Request) -> http::Response<Vec<u8>> {
    let mut response = http::Response::new(Vec::new());
    stream_headers(response.headers_mut(), request.content_type);
    if let Some(batch) = request.batch {
        response.headers_mut().insert(BATCH_SIZE, HeaderValue::from(batch.events()));
    }
    response
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
