//! Who a stream request is from, where that is not decided by keys alone: an authorization server is asked about an
//! opaque token; a request without a token has the certificate that a proxy verified, or the authentication service is
//! asked about it.

use std::time::Duration;

use http::HeaderMap;

use super::authorize::{has_token, refused_token, sent_by, set_by_client, verify};
use super::decide::Wanted;
use super::forward_auth;
use super::now_unix_ms;
use super::refusal::Refusal;
use crate::access::Principal;
use crate::admission::SentBy;
use crate::auth::{self, TokenError, TokenOrigin, Verifier};
use crate::config::snapshot::Snapshot;
use crate::route::{Admission, Transport};

/// The most tokens of one request that an authorization server is asked about. A browser sends a cookie for each path and
/// domain, and of these, one is the newest.
const INTROSPECTED_MAX: usize = 2;

/// The principal of a request, according to a service or a proxy.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) principal: Principal,
    /// How long ago a service was asked.
    pub(super) age: Duration,
    pub(super) sent_by: SentBy,
}

/// `None` if nothing else than keys decides: the route is public, keys verify the token, or there are no credentials.
pub(super) async fn identify(
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
    transport: Transport,
) -> Result<Option<Identified>, Refusal> {
    let Some(verifier) = snapshot.verifier.as_deref() else { return Ok(None) };
    let Wanted { route, header, query, client, .. } = wanted;
    if route.admission == Admission::Public {
        return Ok(None);
    }
    if verifier.takes_tokens() && has_token(route, transport, &header.headers, query, Some(verifier)) {
        let set_by_client = set_by_client(route, transport, &header.headers, query);
        let set_by_client = set_by_client.as_ref().map(|(origin, token)| (*origin, &**token));
        return introspect(verifier, &header.headers, set_by_client).await;
    }
    if let Some(found) = verifier.identify_certificate(&header.headers, client, now_unix_ms()) {
        let identified = |principal| Some(Identified { principal, age: Duration::ZERO, sent_by: SentBy::Certificate });
        return found.map(identified).map_err(refused_token);
    }
    forward_auth::identify(snapshot, verifier, wanted).await
}

/// Asks the authorization server about the tokens of a request. `None` if keys decide: they verify one of the tokens, or
/// the server is asked about none.
pub(super) async fn introspect(
    verifier: &Verifier,
    headers: &HeaderMap,
    set_by_client: Option<(TokenOrigin, &str)>,
) -> Result<Option<Identified>, Refusal> {
    let presented = auth::presented(headers, set_by_client, verifier.fields());
    let is_asked = |(origin, token): &(TokenOrigin, &str)| {
        !matches!(origin, TokenOrigin::Ticket | TokenOrigin::ApiKey) && verifier.introspects(token).is_some()
    };
    let (asked, others): (Vec<_>, Vec<_>) = presented.into_iter().partition(is_asked);
    let now = now_unix_ms();
    let is_verified = |(origin, token): &(TokenOrigin, &str)| verify(verifier, *origin, token, now).is_ok();
    if asked.is_empty() || others.iter().any(is_verified) {
        return Ok(None);
    }
    let mut refused: Option<TokenError> = None;
    for (origin, token) in asked.into_iter().take(INTROSPECTED_MAX) {
        match verifier.introspect(token).await {
            // A reload cannot change the verifier of a request.
            None => {}
            Some(Ok((principal, age))) => {
                return Ok(Some(Identified { principal, age, sent_by: sent_by(origin) }));
            }
            // A token about which there is no answer may be the valid one.
            Some(Err(_)) if refused == Some(TokenError::NoAnswer) => {}
            Some(Err(error)) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if others.is_empty() || error == TokenError::NoAnswer => Err(refused_token(error)),
        _ => Ok(None),
    }
}
