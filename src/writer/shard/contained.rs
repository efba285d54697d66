//! A panic in what is done for one stream ends that stream, and not the writer.

use crate::contain::contain;
use crate::session::{CloseReason, Now};
use crate::writer::Opening;

use super::Shard;

impl Shard {
    /// Does something for one connection; where that panics, the connection ends.
    pub(super) fn contained(&mut self, key: usize, now: Now, act: impl FnOnce(&mut Self)) {
        if contain(|| act(self)).is_none() {
            self.give_up(key, now);
        }
    }

    /// Takes a connection over; where that panics, it is closed.
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

    /// Ends a connection of which nothing is certain any more. What it was sent last ends where it may, if its session is
    /// still able to say so.
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
