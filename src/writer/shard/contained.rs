//! A panic in the processing of one stream ends that stream instead of the writer.

use crate::contain::contain;
use crate::session::{CloseReason, Now};

use super::super::Opening;
use super::super::wire::Wire;
use super::Shard;

impl<W: Wire> Shard<W> {
    /// Runs `act` for one connection; a panic ends the connection.
    pub(super) fn contained(&mut self, key: usize, now: Now, act: impl FnOnce(&mut Self)) {
        if contain(|| act(self)).is_none() {
            self.give_up(key, now);
        }
    }

    /// Takes over a connection; a panic closes it.
    pub(super) fn open_contained(&mut self, opening: Opening<W>, jitter: f64, now: Now) {
        let key = self.next_key();
        if contain(|| self.insert(opening, jitter, now)).is_some() {
            return;
        }
        if self.connections.contains(key) {
            return self.give_up(key, now);
        }
        self.count_out();
        self.count.unanswered(key);
        self.state.index.forget(key as u32);
    }

    /// Ends a connection whose state is unknown after a panic. If possible, the stream ends at a record boundary.
    pub(super) fn give_up(&mut self, key: usize, now: Now) {
        let Self { connections, buffer, .. } = self;
        if let Some(connection) = connections.get_mut(key) {
            contain(|| {
                connection.session.break_off();
                connection.flush(buffer, now, |_, _| {})
            });
        }
        if contain(|| self.remove(key, CloseReason::InternalError, now)).is_none() {
            self.count_out();
        }
        self.state.index.forget(key as u32);
    }
}
