//! Calls the authentication service (`auth.forward`) about a stream request without a token.

use http::StatusCode;

use super::authorize::{challenged, unavailable};
use super::decide::Wanted;
use super::forwarded;
use super::identify::Identified;
use super::refusal::{Reason, Refusal};
use crate::admission::SentBy;
use crate::auth::{Challenges, Forward, Question, QuestionTooLong, ServiceError, Verifier};
use crate::config::snapshot::Snapshot;
use crate::problem::Problem;

/// `None` if the service is not called, because the request has no credentials.
pub(super) async fn identify(
    snapshot: &Snapshot,
    verifier: &Verifier,
    wanted: Wanted<'_>,
) -> Result<Option<Identified>, Refusal> {
    let Some(forward) = verifier.forward() else { return Ok(None) };
    let Some(question) = question(snapshot, verifier, forward, wanted)? else { return Ok(None) };
    let sent_by = if question.is_ambient() { SentBy::Cookie } else { SentBy::Client };
    let (principal, age) = forward.identify(question).await.map_err(refusal)?;
    let revoked = |_| refusal(ServiceError::Unauthorized(Challenges::default()));
    let principal = verifier.identified(principal, age).map_err(revoked)?;
    Ok(Some(Identified { principal, age, sent_by }))
}

fn question(
    snapshot: &Snapshot,
    verifier: &Verifier,
    forward: &Forward,
    wanted: Wanted<'_>,
) -> Result<Option<Question>, Refusal> {
    let Wanted { header, client, is_encrypted, .. } = wanted;
    let mut sent = header.clone();
    if let Some(certificates) = verifier.client_certificates() {
        forwarded::remove_certificates(&mut sent, client, certificates);
    }
    if !forward.has_credentials(&sent.headers) {
        return Ok(None);
    }
    forwarded::forward(&mut sent, client, is_encrypted, &snapshot.forwarded).map_err(|_| too_long())?;
    let target = header.uri.path_and_query().map_or("/", |target| target.as_str());
    let question = forward.question(&sent.headers, &header.method, target).map_err(|_: QuestionTooLong| too_long())?;
    Ok(Some(question))
}

fn too_long() -> Refusal {
    let problem = Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, QuestionTooLong.to_string());
    Refusal::new(Reason::Credentials, problem)
}

fn refusal(error: ServiceError) -> Refusal {
    match &error {
        ServiceError::Unauthorized(challenges) => challenged(challenges, error.to_string()),
        ServiceError::Forbidden => {
            Refusal::new(Reason::Forbidden, Problem::new(StatusCode::FORBIDDEN, error.to_string()))
        }
        ServiceError::Unavailable => unavailable(Reason::ForwardAuth, &error),
    }
}
