//! Connections on their way to a writer: a bounded queue that allocates only for what is queued.
//!
//! A channel of the standard library would allocate all slots in advance, each as large as a request.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Opening;

/// Connections that may wait for one writer.
pub(super) const OPENINGS_AHEAD: usize = 4096;
/// The capacity that an empty queue keeps.
const PLACES_KEPT: usize = 16;

pub(super) struct Openings {
    /// `None` once the writer has ended.
    waiting: Mutex<Option<VecDeque<Opening>>>,
}

impl Default for Openings {
    fn default() -> Self {
        Self { waiting: Mutex::new(Some(VecDeque::new())) }
    }
}

impl Openings {
    /// Appends a connection. Returns it if [`OPENINGS_AHEAD`] are waiting, or if the writer has ended.
    pub(super) fn push(&self, opening: Opening) -> Result<(), Box<Opening>> {
        match &mut *self.waiting() {
            Some(waiting) if waiting.len() < OPENINGS_AHEAD => {
                waiting.push_back(opening);
                Ok(())
            }
            _ => Err(Box::new(opening)),
        }
    }

    /// The connection that has waited longest.
    pub(super) fn pop(&self) -> Option<Opening> {
        let mut waiting = self.waiting();
        let waiting = waiting.as_mut()?;
        let opening = waiting.pop_front();
        if waiting.is_empty() && waiting.capacity() > PLACES_KEPT {
            *waiting = VecDeque::new();
        }
        opening
    }

    /// Closes the waiting connections, and rejects further ones.
    pub(super) fn close(&self) {
        let waiting = self.waiting().take();
        drop(waiting);
    }

    fn waiting(&self) -> MutexGuard<'_, Option<VecDeque<Opening>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
