//! Wakes a reading thread. Notifications are coalesced until the thread waits.

use std::time::Duration;

use super::sync::{Condvar, Mutex, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Wakeup {
    is_pending: Mutex<bool>,
    changed: Condvar,
}

impl Wakeup {
    /// Notifies the thread. Does not block.
    pub(super) fn wake(&self) {
        *self.is_pending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Returns after a notification, including one since the last call, and after `wait` at the latest. Spurious
    /// returns are possible.
    pub(super) fn wait(&self, wait: Duration) {
        let mut is_pending = self.is_pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_pending {
            (is_pending, _) = self.changed.wait_timeout(is_pending, wait).unwrap_or_else(PoisonError::into_inner);
        }
        *is_pending = false;
    }
}
