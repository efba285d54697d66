//! Who a stream request is from, where that is not decided by keys alone: an authorization server is asked about an
//! opaque token, and the authentication service about a request without one.

use http::HeaderMap;

use super::authorize::{has_token, refused_token, set_by_client};
use super::decide::Wanted;
use super::forward_auth;
use super::refusal::Refusal;
use crate::access::Principal;
use crate::auth::{self, TokenOrigin, Verifier};
use crate::config::snapshot::Snapshot;
use crate::route::{Admission, Transport};

/// The principal of a request, according to a service.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) principal: Principal,
    /// A browser may have sent the credentials for a page of any site.
    pub(super) is_ambient: bool,
}

/// `None` if no service is asked: the route is public, keys verify the token, or there are no credentials.
pub(super) async fn identify(
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
    transport: Transport,
) -> Result<Option<Identified>, Refusal> {
    let asks = |verifier: &&Verifier| verifier.introspection().is_some() || verifier.forward().is_some();
    let Some(verifier) = snapshot.verifier.as_deref().filter(asks) else { return Ok(None) };
    let Wanted { route, header, query, .. } = wanted;
    if route.admission == Admission::Public {
        return Ok(None);
    }
    if verifier.takes_tokens() && has_token(route, transport, &header.headers, query, Some(verifier)) {
        let set_by_client = set_by_client(route, transport, &header.headers, query);
        let set_by_client = set_by_client.as_ref().map(|(origin, token)| (*origin, &**token));
        return introspect(verifier, &header.headers, set_by_client).await;
    }
    forward_auth::identify(snapshot, verifier, wanted).await
}

/// Asks the authorization server about the tokens of a request. `None` if keys verify them.
pub(super) async fn introspect(
    verifier: &Verifier,
    headers: &HeaderMap,
    set_by_client: Option<(TokenOrigin, &str)>,
) -> Result<Option<Identified>, Refusal> {
    let mut refused = None;
    for (origin, token) in auth::presented(headers, set_by_client, verifier.fields()) {
        if matches!(origin, TokenOrigin::Ticket | TokenOrigin::ApiKey) {
            return Ok(None);
        }
        match verifier.introspect(token).await {
            None => return Ok(None),
            Some(Ok(principal)) => {
                return Ok(Some(Identified { principal, is_ambient: origin == TokenOrigin::Cookie }));
            }
            Some(Err(error)) => refused = Some(refused_token(error)),
        }
    }
    refused.map_or(Ok(None), Err)
}
