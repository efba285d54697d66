//! What the app does for authentication: keys of issuers, services that are asked, and revocations.

use std::sync::Arc;

use crate::access::Waiter;
use crate::auth::{ApiKeys, OnFetch, ServiceHooks};
use crate::config::snapshot::Snapshot;
use crate::metrics::{Metrics, ServiceMetrics};
use crate::revoke::Revoker;
use crate::writer::Writers;

/// Starts requesting the keys of issuers in the background, and enables requests to the services that say who a request
/// is from.
pub(super) fn start_auth(snapshot: &Snapshot, writers: &Writers, metrics: &Arc<Metrics>) {
    let api_keys = snapshot.verifier.iter().filter_map(|verifier| verifier.api_keys()).map(ApiKeys::len);
    metrics.api_keys.set(i64::try_from(api_keys.sum::<usize>()).unwrap_or(i64::MAX));
    let Some(verifier) = &snapshot.verifier else { return };
    let counted = metrics.clone();
    let on_fetch: OnFetch = Arc::new(move |issuer, succeeded| counted.key_fetch(issuer, succeeded));
    verifier.follow_keys(&on_fetch);
    let hooks = |answers: fn(&Metrics) -> &ServiceMetrics| {
        let (counted, withdrawing, verifying) = (metrics.clone(), writers.clone(), writers.clone());
        ServiceHooks {
            on_answer: Arc::new(move |outcome, took| answers(&counted).answered(outcome.as_str(), took)),
            on_withdrawal: Arc::new(move || withdrawing.end_withdrawn()),
            on_verified: Arc::new(move |Waiter { writer, session }| verifying.call(writer, vec![session])),
        }
    };
    if let Some(forward) = verifier.forward() {
        forward.start(&hooks(|metrics| &metrics.forward_auth));
    }
    if let Some(introspection) = verifier.introspection() {
        introspection.start(&hooks(|metrics| &metrics.introspection));
    }
}

/// Enables revocation if it is configured. The verifiers of later configurations share the revocations.
pub(super) fn start_revoker(snapshot: &Snapshot, metrics: &Arc<Metrics>) -> Option<Arc<Revoker>> {
    let settings = snapshot.revocations.as_ref()?;
    let revoker = Revoker::new(settings.keep, metrics.clone());
    if let Some(verifier) = &snapshot.verifier {
        verifier.revoke_by(revoker.revocations());
    }
    Some(Arc::new(revoker))
}
