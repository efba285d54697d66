//! The access of open streams: the service is called again before its last positive response has been in use for one
//! interval.
//!
//! A negative response ends the streams at once. Without a response, they end with the interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::answers::Entry;
use super::{Claims, Question, Service, ServiceSettings, Use, Verdict};
use crate::access::{Standing, Withdrawn};

/// When the service is called again, as shares of the interval: at a random time between them, so that streams that
/// opened together do not call together, and early enough for more than one attempt.
const AGAIN: [f64; 2] = [0.5, 0.75];
/// After a failure, it is called again after this share of the interval, within bounds.
const RETRY: f64 = 0.1;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

const ACCEPTED: u8 = 0;
const REVOKED: u8 = 1;
const UNVERIFIED: u8 = 2;

/// The access of all open streams with one question. The service is called again until the last of them has ended.
#[derive(Debug)]
pub(super) struct Lease {
    claims: Claims,
    is_for_one_target: bool,
    state: Arc<AtomicU8>,
    task: AbortHandle,
}

impl Lease {
    /// `asked`: the time of the request whose response accepted these claims. Runs on tokio.
    pub(super) fn start(
        service: Arc<Service>,
        entry: Arc<Entry>,
        question: Question,
        claims: Claims,
        asked: Instant,
    ) -> Arc<Self> {
        let state = Arc::new(AtomicU8::new(ACCEPTED));
        let is_for_one_target = service.kind.is_for_one_target;
        let task = tokio::spawn(follow(service, entry, question, claims.clone(), asked, state.clone())).abort_handle();
        Arc::new(Self { claims, is_for_one_target, state, task })
    }

    pub(super) fn is_good_for(&self, claims: &Claims) -> bool {
        self.withdrawn().is_none() && self.claims == *claims
    }

    /// False if the access has been withdrawn already.
    pub(super) fn revoke(&self) -> bool {
        self.state.compare_exchange(ACCEPTED, REVOKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Standing for Lease {
    fn withdrawn(&self) -> Option<Withdrawn> {
        match self.state.load(Ordering::Acquire) {
            ACCEPTED => None,
            REVOKED => Some(Withdrawn::Revoked),
            _ => Some(Withdrawn::Unverified),
        }
    }

    fn is_for_one_target(&self) -> bool {
        self.is_for_one_target
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    service: Arc<Service>,
    entry: Arc<Entry>,
    question: Question,
    claims: Claims,
    asked: Instant,
    state: Arc<AtomicU8>,
) {
    let Some(mut replacements) = service.running.get().map(|running| running.channel.replacements()) else { return };
    let mut until = asked + service.current().interval;
    let mut due = asked + again_after(service.current().interval);
    let withdrawn = loop {
        if timeout_at(due, replacements.changed()).await.is_ok() {
            // A shorter interval counts from now: there is time for one request, and the streams do not ask all at once.
            let ServiceSettings { interval, timeout, .. } = service.current();
            let now = Instant::now();
            until = until.min(now + interval).max(now + timeout);
            due = now + (until - now).saturating_sub(timeout).mul_f64(fastrand::f64());
            continue;
        }
        match timeout_at(until, service.confirm(&entry, &question, &claims)).await {
            Ok(Some(asked)) => {
                let interval = service.current().interval;
                (due, until) = (asked + again_after(interval), asked + interval);
            }
            Ok(None) => break REVOKED,
            Err(_) => break UNVERIFIED,
        }
    };
    if state.compare_exchange(ACCEPTED, withdrawn, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        service.withdrawn();
    }
}

/// A random part of the interval, so that streams do not ask together.
fn again_after(interval: Duration) -> Duration {
    let [least, most] = AGAIN;
    interval.mul_f64(least + (most - least) * fastrand::f64())
}

impl Service {
    /// Calls the service until it responds. Returns the time of the request if the same claims are accepted, otherwise
    /// `None`.
    async fn confirm(&self, entry: &Entry, question: &Question, claims: &Claims) -> Option<Instant> {
        loop {
            match self.verdict(entry, question, Use::Current).await {
                (Verdict::Allowed(now), asked) => return (now.claims == *claims).then_some(asked),
                (Verdict::Unauthorized(_) | Verdict::Forbidden, _) => return None,
                (Verdict::Unavailable, _) => {
                    sleep(self.current().interval.mul_f64(RETRY).clamp(RETRY_MIN, RETRY_MAX)).await;
                }
            }
        }
    }
}
