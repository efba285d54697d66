//! Transfers bytes between wires and sessions: at most one write per connection and turn, except for connections in
//! catch-up, whose number per turn is limited.

use crate::session::{CloseReason, Now};

use super::super::connection::{ReadEnd, Wrote};
use super::super::wire::Wire;
use super::Shard;

/// Connections in catch-up that are served before live ones have their turn again.
const REPLAYS_PER_TURN: usize = 64;

impl<W: Wire> Shard<W> {
    /// A wire can be read, can be written, or both.
    pub(crate) fn is_ready(&mut self, key: usize, is_readable: bool, is_writable: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if is_writable {
            connection.writable = true;
            self.work.write(key, connection);
        }
        if is_readable {
            self.work.read(key, connection);
        }
    }

    /// The number of connections with something to read.
    pub(crate) fn unread(&self) -> usize {
        self.work.unread()
    }

    /// Reads from the connection with data that has waited longest.
    pub(crate) fn read_next(&mut self, scratch: &mut [u8], now: Now) {
        if let Some(key) = self.work.next_unread() {
            self.contained(key, now, |shard| shard.read(key, scratch, now));
        }
    }

    fn read(&mut self, key: usize, scratch: &mut [u8], now: Now) {
        let Self { connections, state, count, work, timers, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        connection.unread = false;
        match connection.read(scratch, &mut state.context(key, now), |refused| count.refused(refused.label())) {
            ReadEnd::Later => {}
            ReadEnd::Again => work.read(key, connection),
            ReadEnd::Gone(reason) => return self.remove(key, reason, now),
        }
        work.write(key, connection);
        timers.schedule(key, connection);
    }

    /// One write for every connection with something to write.
    pub(super) fn write_all(&mut self, now: Now) {
        let mut replays = REPLAYS_PER_TURN;
        let mut unserved = Vec::new();
        for key in self.work.take_writes() {
            if self.connections.get(key).is_some_and(|c| c.writable && c.session.is_behind()) {
                if replays == 0 {
                    unserved.push(key);
                    continue;
                }
                replays -= 1;
            }
            self.contained(key, now, |shard| shard.write(key, now));
        }
        self.work.leave(unserved);
        self.work.forget_resumed(&self.connections);
    }

    fn write(&mut self, key: usize, now: Now) {
        let Self { connections, state, count, work, timers, lifecycle, buffer, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        connection.dirty = false;
        let by = connection.counted_by();
        let mut context = state.context(key, now);
        match connection.write(buffer, &mut context, |item, now| count.item(by, item, now)) {
            Ok(Wrote { gathers: true, .. }) => return timers.schedule(key, connection),
            Ok(Wrote { bytes, more, .. }) => {
                count.wrote(by.transport, bytes);
                if more {
                    work.write_later(key, connection);
                }
            }
            Err(_) => return self.remove(key, CloseReason::ClientLost, now),
        }
        if connection.session.has_frames() {
            // Data that arrived before the response was decided.
            work.read(key, connection);
        }
        count.resumed(connection.session.take_resumes());
        if !connection.counted && !connection.session.is_unanswered() {
            connection.counted = true;
            count.opened(key, &connection.session);
        }
        if connection.session.closed().is_some() {
            connection.session.leave(&mut context);
            connection.say_goodbye(now.instant, lifecycle.until());
            timers.schedule(key, connection);
        } else if connection.session.is_behind()
            || connection.take_new_watch()
            || connection.session.pace_due().is_some()
        {
            timers.schedule(key, connection);
        }
    }
}
