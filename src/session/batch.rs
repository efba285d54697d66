//! Gathering: where the client asked for batches, events wait for others to be written with, for a little time.
//!
//! It decides whether what is queued waits; nobody who did not ask for it ever does.

use std::time::Instant;

use super::Session;

impl Session {
    /// Whether what is queued waits for more to go with it; at the latest until [`Self::deadline`].
    ///
    /// Only live events wait, and only as long as none of them is on its way, the batch is not full, the queue is far from
    /// its limits, and the stream neither catches up nor ends.
    pub fn gathers(&mut self, now: Instant) -> bool {
        let Some(batch) = self.request.batch else { return false };
        if self.is_behind() {
            return false;
        }
        let limits = &self.request.route.queue;
        let events = (batch.events() as usize).min(limits.events);
        if self.closed.is_some() || !self.queue.is_open_batch(events, limits.bytes / 2) {
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
