//! Authorization of a stream request: the token, and the page it came from. [`crate::admission`] decides what the
//! stream receives.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::admission::retry_delay;
use super::handshake;
use super::identify::Identified;
use super::query::{Parameter, Query};
use super::refusal::{Reason, Refusal};
use crate::access::{Denied, Principal};
use crate::admission::{self, Caller, Refused, Rights, SentBy, Site};
use crate::auth::{self, TokenError, TokenOrigin, Verifier};
use crate::problem::Problem;
use crate::route::{Admission, Params, StreamRoute, Transport};

/// The access rights of a stream request.
#[derive(Debug)]
pub(super) struct Authorized {
    pub rights: Rights,
    pub principal: Option<Principal>,
    /// The page that opens a WebSocket.
    pub site: Option<Site>,
    /// Whether the first message of a WebSocket has to contain the token; nothing is sent before.
    pub is_unauthenticated: bool,
}

/// What identifies the client of a request.
#[derive(Clone, Copy, Default)]
pub(super) struct Means<'a> {
    pub(super) verifier: Option<&'a Verifier>,
    /// The result of a service, if one was asked.
    pub(super) identified: Option<&'a Identified>,
}

/// Verifies the token if the route requires one, and decides on the request. Public routes ignore tokens.
pub(super) fn authorize(
    route: &StreamRoute,
    params: &Params,
    transport: Transport,
    (path, query): (&str, &Query<'_>),
    headers: &HeaderMap,
    Means { verifier, identified }: Means<'_>,
    now_unix_ms: i64,
) -> Result<Authorized, Refusal> {
    let may_wait = route.token_from.message && route.admission == Admission::Token && transport.takes_commands();
    if may_wait && identified.is_none() && !has_token(route, transport, headers, query, verifier) {
        let site = site(headers, SentBy::Client);
        admission::admit_unauthenticated(route, transport, &site).map_err(refusal)?;
        let rights = Rights::default();
        return Ok(Authorized { rights, principal: None, site: Some(site), is_unauthenticated: true });
    }
    let (principal, sent_by) = match (route.admission, identified) {
        (Admission::Public, _) => (None, SentBy::Client),
        (Admission::Token, Some(identified)) => (Some(identified.principal.clone()), identified.sent_by),
        (Admission::Token, None) => {
            let set_by_client = set_by_client(route, transport, headers, query);
            let set_by_client = set_by_client.as_ref().map(|(origin, token)| (*origin, &**token));
            let (principal, origin) =
                identify(headers, set_by_client, verifier, |verifier, origin, token| match origin {
                    TokenOrigin::Ticket => verifier.redeem_ticket(token, &route.pattern, path, now_unix_ms),
                    _ => verify(verifier, origin, token, now_unix_ms),
                })?;
            (Some(principal), sent_by(origin))
        }
    };
    let site = transport.is_upgrade().then(|| site(headers, sent_by));
    let caller = Caller { transport, principal: principal.as_ref(), site: site.as_ref() };
    let rights = admission::admit(route, params, &caller).map_err(refusal)?;
    Ok(Authorized { rights, principal, site, is_unauthenticated: false })
}

/// The token outside of `Authorization` and cookies, if the route accepts it from there.
pub(super) fn set_by_client<'a>(
    route: &StreamRoute,
    transport: Transport,
    headers: &HeaderMap,
    query: &Query<'a>,
) -> Option<(TokenOrigin, Cow<'a, str>)> {
    let is_offered = route.token_from.subprotocol && transport.is_upgrade();
    let offered = is_offered.then(|| handshake::token(headers)).flatten();
    let ticket = || route.token_from.ticket.then(|| query.single(Parameter::Ticket)).flatten();
    let offered = offered.map(|token| (TokenOrigin::Subprotocol, token.into()));
    offered.or_else(|| ticket().map(|ticket| (TokenOrigin::Ticket, ticket)))
}

/// Whether the request contains a token, valid or not.
pub(super) fn has_token(
    route: &StreamRoute,
    transport: Transport,
    headers: &HeaderMap,
    query: &Query<'_>,
    verifier: Option<&Verifier>,
) -> bool {
    let fields = verifier.map(Verifier::fields).unwrap_or_default();
    set_by_client(route, transport, headers, query).is_some() || !auth::presented(headers, None, fields).is_empty()
}

/// The holder of the token in a ticket request, if a ticket may be issued for this path, and how long ago a service was
/// asked about it.
pub(super) fn ticket_holder(
    route: &StreamRoute,
    params: &Params,
    headers: &HeaderMap,
    Means { verifier, identified }: Means<'_>,
    now_unix_ms: i64,
) -> Result<(Principal, Duration), Refusal> {
    let verify = |verifier: &Verifier, origin, token: &str| verify(verifier, origin, token, now_unix_ms);
    let (principal, age, sent_by) = match identified {
        Some(identified) => (identified.principal.clone(), identified.age, identified.sent_by),
        None => {
            let (principal, origin) = identify(headers, None, verifier, verify)?;
            (principal, Duration::ZERO, sent_by(origin))
        }
    };
    let site = site(headers, sent_by);
    admission::admit_ticket(route, params, &principal, &site).map_err(refusal)?;
    Ok((principal, age))
}

/// Verifies what may be sent this way. An API key is not accepted from a cookie, which pages of any site send.
pub(super) fn verify(
    verifier: &Verifier,
    origin: TokenOrigin,
    token: &str,
    now_unix_ms: i64,
) -> Result<Principal, TokenError> {
    match origin {
        TokenOrigin::ApiKey => verifier.verify_api_key(token, now_unix_ms),
        TokenOrigin::Cookie => verifier.verify_token(token, now_unix_ms),
        TokenOrigin::Bearer | TokenOrigin::Subprotocol | TokenOrigin::Ticket => verifier.verify(token, now_unix_ms),
    }
}

/// Only a browser sends a cookie without the client's doing.
pub(super) fn sent_by(origin: TokenOrigin) -> SentBy {
    match origin {
        TokenOrigin::Cookie => SentBy::Cookie,
        TokenOrigin::Bearer | TokenOrigin::Subprotocol | TokenOrigin::Ticket | TokenOrigin::ApiKey => SentBy::Client,
    }
}

/// Verifies the tokens of the first source that has one.
fn identify(
    headers: &HeaderMap,
    set_by_client: Option<(TokenOrigin, &str)>,
    verifier: Option<&Verifier>,
    verify: impl Fn(&Verifier, TokenOrigin, &str) -> Result<Principal, TokenError>,
) -> Result<(Principal, TokenOrigin), Refusal> {
    // Unreachable for valid configurations: a route that requires tokens needs a verifier.
    let verifier = verifier.ok_or_else(|| unauthorized("Bearer", "no token is accepted here"))?;
    let mut refused = unauthorized("Bearer", "a token is required");
    for (origin, token) in auth::presented(headers, set_by_client, verifier.fields()) {
        match verify(verifier, origin, token) {
            Ok(principal) => return Ok((principal, origin)),
            // A token that cannot be verified now may be the valid one.
            Err(_) if refused.reason().is_unverified() => {}
            Err(error) => refused = refused_token(error),
        }
    }
    Err(refused)
}

pub(super) fn refused_token(error: TokenError) -> Refusal {
    tracing::debug!(%error, "refused a token");
    match error {
        TokenError::Unavailable => unavailable(Reason::Keys, &error),
        TokenError::NoAnswer => unavailable(Reason::Introspection, &error),
        _ => unauthorized("Bearer error=\"invalid_token\"", error.to_string()),
    }
}

/// A line that is not text counts as well: an unreadable origin must not hide another one.
fn site(headers: &HeaderMap, sent_by: SentBy) -> Site {
    let lines = |name: HeaderName| headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default());
    Site::new(lines(ORIGIN), lines(HOST).next(), sent_by)
}

fn refusal(refused: Refused) -> Refusal {
    let detail = refused.to_string();
    match refused {
        Refused::Unidentified => unauthorized("Bearer", detail),
        Refused::Transport => Refusal::new(Reason::NotAcceptable, Problem::new(StatusCode::NOT_ACCEPTABLE, detail)),
        Refused::Origin => Refusal::new(Reason::Origin, Problem::new(StatusCode::FORBIDDEN, detail)),
        Refused::Rule => Refusal::new(Reason::Rule, Problem::new(StatusCode::FORBIDDEN, detail)),
        Refused::Denied(Denied::LongValue(_)) => {
            Refusal::new(Reason::Parameter, Problem::new(StatusCode::BAD_REQUEST, detail))
        }
        Refused::Denied(_) => Refusal::new(Reason::Forbidden, Problem::new(StatusCode::FORBIDDEN, detail)),
    }
}

/// The credentials may be valid: a client would not retry after a 401.
pub(super) fn unavailable(reason: Reason, error: &dyn std::error::Error) -> Refusal {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    Refusal::new(reason, problem.retry_after(retry_delay()))
}

/// A 401 with the challenges of the service that was asked.
pub(super) fn challenged(challenges: &[HeaderValue], detail: String) -> Refusal {
    if challenges.is_empty() {
        return unauthorized("Bearer", detail);
    }
    let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
    let challenge = |problem: Problem, value: &HeaderValue| problem.header(WWW_AUTHENTICATE, value.clone());
    Refusal::new(Reason::Unauthorized, challenges.iter().fold(problem, challenge))
}

/// RFC 6750 section 3: without a token, no error code is sent.
pub(super) fn unauthorized(challenge: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    let problem =
        Problem::new(StatusCode::UNAUTHORIZED, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    Refusal::new(Reason::Unauthorized, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::route;

    #[test]
    fn no_token_no_stream() {
        let private = StreamRoute { admission: Admission::Token, ..route("/x") };
        let open = |route: &StreamRoute| {
            authorize(
                route,
                &Params::default(),
                Transport::Sse,
                ("/x", &Query::default()),
                &HeaderMap::new(),
                Means::default(),
                0,
            )
        };
        assert!(open(&route("/x")).is_ok());
        let refusal = open(&private).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Unauthorized);
    }

    #[test]
    fn a_second_origin_is_seen_whatever_it_is() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("api.example"));
        headers.append(ORIGIN, HeaderValue::from_static("https://api.example"));
        let one = site(&headers, SentBy::Cookie);
        headers.append(ORIGIN, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_ne!(site(&headers, SentBy::Cookie), one);
        assert_eq!(site(&headers, SentBy::Cookie), Site::new(["a", "b"].into_iter(), None, SentBy::Cookie));
    }
}
