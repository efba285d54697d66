//! The access of open streams: the service is asked again before its last positive answer has held for one interval.
//!
//! A negative answer ends the streams at once. Where there is no answer, they end when the interval is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::answers::Entry;
use super::question::Question;
use super::verdict::{Claims, Verdict};
use super::{Forward, Use};
use crate::access::{Standing, Withdrawn};

/// When the service is asked again, as shares of the interval: at a time between them, so that streams which opened together
/// do not ask together, and early enough to ask more than once.
const AGAIN: [f64; 2] = [0.5, 0.75];
/// After a failure it is asked again after this share of the interval, within bounds.
const RETRY: f64 = 0.1;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

const ACCEPTED: u8 = 0;
const REVOKED: u8 = 1;
const UNVERIFIED: u8 = 2;

/// The access of all open streams with one question. The service is asked again until the last of them has ended.
#[derive(Debug)]
pub(super) struct Lease {
    claims: Claims,
    state: Arc<AtomicU8>,
    task: AbortHandle,
}

impl Lease {
    /// `asked`: when the answer was asked for that accepted these claims. Runs on tokio.
    pub(super) fn start(
        forward: Arc<Forward>,
        entry: Arc<Entry>,
        question: Question,
        claims: Claims,
        asked: Instant,
    ) -> Arc<Self> {
        let state = Arc::new(AtomicU8::new(ACCEPTED));
        let task = tokio::spawn(follow(forward, entry, question, claims.clone(), asked, state.clone())).abort_handle();
        Arc::new(Self { claims, state, task })
    }

    pub(super) fn is_good_for(&self, claims: &Claims) -> bool {
        self.withdrawn().is_none() && self.claims == *claims
    }

    /// False: the access was withdrawn before.
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
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    forward: Arc<Forward>,
    entry: Arc<Entry>,
    question: Question,
    claims: Claims,
    mut asked: Instant,
    state: Arc<AtomicU8>,
) {
    let interval = forward.settings.interval;
    let withdrawn = loop {
        let [least, most] = AGAIN;
        sleep_until(asked + interval.mul_f64(least + (most - least) * fastrand::f64())).await;
        match timeout_at(asked + interval, forward.confirm(&entry, &question, &claims)).await {
            Ok(Some(again)) => asked = again,
            Ok(None) => break REVOKED,
            Err(_) => break UNVERIFIED,
        }
    };
    if state.compare_exchange(ACCEPTED, withdrawn, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        forward.withdrawn();
    }
}

impl Forward {
    /// Asks until there is an answer. Gives when the one was asked for that accepts the same claims; nothing where it does not.
    async fn confirm(&self, entry: &Entry, question: &Question, claims: &Claims) -> Option<Instant> {
        loop {
            match self.verdict(entry, question, Use::Current).await {
                (Verdict::Allowed(now), asked) => return (now == *claims).then_some(asked),
                (Verdict::Unauthorized | Verdict::Forbidden, _) => return None,
                (Verdict::Unavailable, _) => {
                    sleep(self.settings.interval.mul_f64(RETRY).clamp(RETRY_MIN, RETRY_MAX)).await;
                }
            }
        }
    }
}
