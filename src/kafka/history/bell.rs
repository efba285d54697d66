//! Wakes a reading thread. Notifications are coalesced until the thread waits.

use std::time::Duration;

use super::sync::{Condvar, Mutex, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Bell {
    has_rung: Mutex<bool>,
    rang: Condvar,
}

impl Bell {
    /// Notifies the thread. Does not block.
    pub(super) fn ring(&self) {
        *self.has_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rang.notify_one();
    }

    /// Returns after a notification, including one since the last call, and after `wait` at the latest. Spurious
    /// returns are possible.
    pub(super) fn wait(&self, wait: Duration) {
        let mut has_rung = self.has_rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*has_rung {
            (has_rung, _) = self.rang.wait_timeout(has_rung, wait).unwrap_or_else(PoisonError::into_inner);
        }
        *has_rung = false;
    }
}
