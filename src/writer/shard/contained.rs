//! A panic in the processing of one stream ends that stream instead of the writer.

use crate::contain::contain;
use crate::session::{CloseReason, Now};
use crate::writer::Opening;

use super::Shard;

impl Shard {
    /// Runs `act` for one connection; a panic ends the connection.
    pub(super) fn contained(&mut self, key: usize, now: Now, act: impl FnOnce(&mut Self)) {
        if contain(|| act(self)).is_none() {
            self.give_up(key, now);
        }
    }

    /// Takes over a connection; a panic closes it.
    pub(super) fn open_contained(&mut self, opening: Opening, now: Now) {
        let key = self.connections.vacant_key();
        match contain(|| self.open(opening, now)) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.count_out();
                tracing::warn!(%error, "a stream's socket could not be watched");
            }
            None if self.connections.contains(key) => self.give_up(key, now),
            None => {
                self.count_out();
                self.spans.remove(&key);
                self.index.forget(key as u32);
            }
        }
    }

    /// Ends a connection whose state is unknown after a panic. If possible, the stream ends at a record boundary.
    pub(super) fn give_up(&mut self, key: usize, now: Now) {
        if let Some(connection) = self.connections.get_mut(key) {
            contain(|| {
                connection.session.break_off();
                connection.flush(now, |_, _| {})
            });
        }
        if contain(|| self.remove(key, CloseReason::InternalError, now)).is_none() {
            self.count_out();
        }
        self.index.forget(key as u32);
    }
}
