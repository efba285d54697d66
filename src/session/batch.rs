//! Batching: if the client requested it, live events wait a short time to be written together.
//!
//! It decides whether queued events wait; without a request for batches, they never do.

use std::time::Instant;

use super::Session;

impl Session {
    /// Whether queued events wait for the batch to fill, at the latest until [`Self::deadline`].
    ///
    /// Only live events wait, and only while none of them has been partly written, the batch is not full, the queue is
    /// far from its limits, neither credit nor a rate held them, and the stream neither catches up nor ends.
    pub fn gathers(&mut self, now: Instant) -> bool {
        let Some(batch) = self.request.batch else { return false };
        if self.is_behind() {
            return false;
        }
        let limits = &self.request.route.queue;
        let events = (batch.events() as usize).min(limits.events);
        if self.closed.is_some() || self.is_paced() || !self.queue.is_open_batch(events, limits.bytes / 2) {
            self.look_at = None;
            return false;
        }
        if *self.look_at.get_or_insert_with(|| now + batch.window()) > now {
            return true;
        }
        self.look_at = None;
        false
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
