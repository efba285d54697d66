//! The topics that a cluster's thread is to read, which a reload replaces while it runs.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::snapshot::TopicConfig;
use crate::event::Applied;

/// Topics, and what is dropped once they are applied.
type Change = (Vec<TopicConfig>, Applied);

/// A list of topics that the thread has not applied yet. A newer one replaces it.
#[derive(Clone, Debug, Default)]
pub(super) struct Desired(Arc<Mutex<Option<Change>>>);

impl Desired {
    pub(super) fn set(&self, topics: Vec<TopicConfig>, applied: Applied) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((topics, applied));
    }

    pub(super) fn take(&self) -> Option<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
