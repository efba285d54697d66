//! Revokes subjects, sessions and tokens. Records of a topic apply to every replica, requests to the admin listener to
//! this process.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::auth::{BadRevocation, Revocations, Revoked};
use crate::event::{Entry, Feed};
use crate::metrics::Metrics;
use crate::writer::Writers;

/// The pause between two searches for affected streams: a burst of revocations causes few searches.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// Adds revocations, and ends the streams that they apply to.
pub struct Revoker {
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    changed: Notify,
}

impl Revoker {
    pub fn new(keep: Duration, metrics: Arc<Metrics>) -> Self {
        Self { revocations: Arc::new(Revocations::new(keep)), metrics, changed: Notify::new() }
    }

    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Ends streams of revoked principals. Runs as long as the process.
    pub async fn run(self: Arc<Self>, writers: Writers) {
        loop {
            self.changed.notified().await;
            writers.end_withdrawn();
            tokio::time::sleep(SEARCH_PAUSE).await;
        }
    }

    /// Applies records of the topic. Tombstones are ignored.
    pub fn feed(&self, feed: &Feed) {
        let Feed::Batch(entries) = feed else { return };
        for entry in entries.iter() {
            let Entry::Event(event) = entry else { continue };
            let record = &event.envelope[event.payload.clone()];
            if record != b"null"
                && let Err(error) = self.revoke_at(record, event.ts)
            {
                tracing::warn!(event = %event.id, %error, "not a revocation");
            }
        }
    }

    /// Applies a revocation that is made now.
    ///
    /// # Errors
    ///
    /// The record is not a JSON object that names a subject, session or token.
    pub fn revoke(&self, record: &[u8]) -> Result<(), BadRevocation> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.revoke_at(record, i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn revoke_at(&self, record: &[u8], made_at: i64) -> Result<(), BadRevocation> {
        let added = self.revocations.add(record, made_at);
        let result = match added {
            Ok(Revoked::Added | Revoked::AddedForOther) => "added",
            Ok(Revoked::Expired) => "expired",
            Err(_) => "malformed",
        };
        self.metrics.revocations.received.with_label_values(&[result]).inc();
        if added == Ok(Revoked::AddedForOther) {
            self.metrics.revocations.dropped.inc();
        }
        self.metrics.revocations.known.set(i64::try_from(self.revocations.len()).unwrap_or(i64::MAX));
        self.changed.notify_one();
        added.map(drop)
    }
}
