//! `POST` for a ticket: an authenticated client receives a short-lived replacement of its token for the URL of one
//! stream.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use pingora::proxy::Session;
use serde_json::json;

use super::authorize::Means;
use super::cross_origin::CrossOrigin;
use super::identify::introspect;
use super::now_unix_ms;
use super::refusal::{Reason, Refusal};
use super::{authorize, query, target};
use crate::access::Binding;
use crate::auth::Verifier;
use crate::config::snapshot::Snapshot;
use crate::problem::Problem;
use crate::quota::Quota;
use crate::route::{Found, Params, StreamRoute};

const ALLOWED: HeaderValue = HeaderValue::from_static("POST, OPTIONS");

/// A response, or why no ticket is issued.
type Answer = Result<Response<Vec<u8>>, Refusal>;

/// The response to a ticket request, refused or not, with the CORS fields of its stream. `None` if the request is not a
/// ticket request.
pub(super) async fn answer(session: &mut Session, snapshot: &Snapshot) -> Option<(CrossOrigin, Answer)> {
    let has_body = !session.is_body_empty();
    let header = session.req_header();
    let (path, query) = target::split(header);
    let verifier = snapshot.verifier.as_deref()?;
    if verifier.tickets()?.path() != path {
        return None;
    }
    let wanted = query::single(query.unwrap_or_default(), "path").unwrap_or_default();
    let Found::Stream { route, params } = snapshot.routes.find(&wanted) else {
        return Some((CrossOrigin::default(), Err(not_found())));
    };
    let cross_origin = CrossOrigin::of(route, &header.headers);
    let answer = match header.method {
        // Also if the route takes no tickets, so that a page can read the response to its POST.
        Method::OPTIONS => {
            return Some((CrossOrigin::preflight_of(route, &header.headers, "POST"), Ok(options())));
        }
        _ if !route.token_from.ticket => Err(not_found()),
        Method::POST if has_body => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "a ticket is asked for without a body");
            Err(Refusal::new(Reason::Body, problem))
        }
        Method::POST => {
            let identified = introspect(verifier, &header.headers, None).await;
            identified.and_then(|identified| {
                let means = Means { verifier: Some(verifier), identified: identified.as_ref() };
                issue(route, &params, &wanted, &header.headers, means, &snapshot.limits.quotas)
            })
        }
        _ => {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "a ticket is asked for with POST");
            Err(Refusal::new(Reason::Method, problem.header(ALLOW, ALLOWED)))
        }
    };
    Some((cross_origin, answer))
}

fn issue(
    route: &StreamRoute,
    params: &Params,
    path: &str,
    headers: &HeaderMap,
    means: Means<'_>,
    quotas: &[Quota],
) -> Result<Response<Vec<u8>>, Refusal> {
    let now = now_unix_ms();
    let (principal, age) = authorize::ticket_holder(route, params, headers, means, now)?;
    let counted: Vec<_> = quotas.iter().chain(&*route.quotas).filter_map(Quota::binding).collect();
    let kept = || route.claims().chain(counted.iter().flat_map(Binding::claims));
    let issue = |verifier: &Verifier| verifier.issue_ticket((&principal, age), &route.pattern, path, kept(), now);
    let (ticket, expires) = means.verifier.ok_or_else(not_found).and_then(|verifier| {
        issue(verifier).map_err(|error| {
            tracing::error!(%error, "cannot sign a ticket");
            let detail = "the ticket cannot be signed";
            Refusal::new(Reason::Internal, Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
        })
    })?;
    let body = json!({ "ticket": ticket, "expires": expires }).to_string().into_bytes();
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::CREATED;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

fn options() -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, ALLOWED);
    response
}

fn not_found() -> Refusal {
    let detail = "`path` names no stream that takes tickets";
    Refusal::new(Reason::Ticket, Problem::new(StatusCode::NOT_FOUND, detail))
}
