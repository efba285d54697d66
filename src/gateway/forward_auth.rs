//! Calls the authentication service (`auth.forward`) for stream requests without a token of an issuer.

use http::StatusCode;

use super::authorize::{has_token, unauthorized, unavailable};
use super::decide::Wanted;
use super::forwarded;
use super::refusal::{Reason, Refusal};
use crate::access::Principal;
use crate::auth::{Forward, ForwardError, Question, QuestionTooLong};
use crate::config::snapshot::Snapshot;
use crate::problem::Problem;
use crate::route::{Admission, Transport};

/// The principal of a request, according to the service.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) principal: Principal,
    /// A browser may have sent the credentials for a page of any site.
    pub(super) is_ambient: bool,
}

/// `None` if the service is not called: the route is public, the request has a token for the issuers, or it has no
/// credentials.
pub(super) async fn identify(
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
    transport: Transport,
) -> Result<Option<Identified>, Refusal> {
    let Some(verifier) = snapshot.verifier.as_deref() else { return Ok(None) };
    let Some(forward) = verifier.forward() else { return Ok(None) };
    let Wanted { route, header, query, .. } = wanted;
    let is_issuers = || verifier.has_issuers() && has_token(route, transport, &header.headers, query, Some(verifier));
    if route.admission == Admission::Public || is_issuers() {
        return Ok(None);
    }
    let Some(question) = question(snapshot, forward, wanted)? else { return Ok(None) };
    let is_ambient = question.is_ambient();
    let (principal, age) = forward.identify(question).await.map_err(refusal)?;
    let revoked = |_| unauthorized("Bearer", ForwardError::Unauthorized.to_string());
    let principal = verifier.identified(principal, age).map_err(revoked)?;
    Ok(Some(Identified { principal, is_ambient }))
}

fn question(snapshot: &Snapshot, forward: &Forward, wanted: Wanted<'_>) -> Result<Option<Question>, Refusal> {
    let Wanted { header, client, .. } = wanted;
    if !forward.has_credentials(&header.headers) {
        return Ok(None);
    }
    let mut sent = header.clone();
    forwarded::forward(&mut sent, client, &snapshot.forwarded).map_err(|_| too_long())?;
    let target = header.uri.path_and_query().map_or("/", |target| target.as_str());
    let question = forward.question(&sent.headers, &header.method, target).map_err(|_: QuestionTooLong| too_long())?;
    Ok(Some(question))
}

fn too_long() -> Refusal {
    let problem = Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, QuestionTooLong.to_string());
    Refusal::new(Reason::Credentials, problem)
}

fn refusal(error: ForwardError) -> Refusal {
    match error {
        ForwardError::Unauthorized => unauthorized("Bearer", error.to_string()),
        ForwardError::Forbidden => {
            Refusal::new(Reason::Forbidden, Problem::new(StatusCode::FORBIDDEN, error.to_string()))
        }
        ForwardError::Unavailable => unavailable(Reason::ForwardAuth, &error),
    }
}
