//! The connections with work: what a turn does, and what it leaves to the next one.

use std::collections::VecDeque;

use super::super::connection::Connection;
use super::Connections;

#[derive(Debug, Default)]
pub(super) struct Work {
    /// Connections with something to write in this turn. Each is here once, and has its `dirty` set.
    dirty: Vec<usize>,
    /// Connections in catch-up that wait for their turn.
    later: Vec<usize>,
    /// Connections with something to read, in the order of reading. Each is here once, and has its `unread` set.
    unread: VecDeque<usize>,
    /// Connections that wait to resume: every feed may be what they wait for.
    waiting: Vec<usize>,
}

impl Work {
    /// Whether a turn has left work to the next one.
    pub(super) fn is_left(&self) -> bool {
        !self.unread.is_empty() || !self.later.is_empty()
    }

    /// The number of connections with something to read.
    pub(super) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// The connection has something to write.
    pub(super) fn write<W>(&mut self, key: usize, connection: &mut Connection<W>) {
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    /// The connection has something to read.
    pub(super) fn read<W>(&mut self, key: usize, connection: &mut Connection<W>) {
        if !connection.unread {
            connection.unread = true;
            self.unread.push_back(key);
        }
    }

    /// The connection continues to write after the others had their turn.
    pub(super) fn write_later<W>(&mut self, key: usize, connection: &mut Connection<W>) {
        connection.dirty = true;
        self.later.push(key);
    }

    /// The connection waits for a feed.
    pub(super) fn wait_for_feed(&mut self, key: usize) {
        self.waiting.push(key);
    }

    /// The connection to read from next.
    pub(super) fn next_unread(&mut self) -> Option<usize> {
        self.unread.pop_front()
    }

    /// The connections to write to in this turn; those that another turn left come first.
    pub(super) fn take_writes(&mut self) -> impl Iterator<Item = usize> + use<> {
        std::mem::take(&mut self.later).into_iter().chain(std::mem::take(&mut self.dirty))
    }

    /// These connections have not had their turn: they precede those that had one and want another.
    pub(super) fn leave(&mut self, mut unserved: Vec<usize>) {
        unserved.append(&mut self.later);
        self.later = unserved;
    }

    /// A feed was applied.
    pub(super) fn feed_arrived<W>(&mut self, connections: &mut Connections<W>) {
        let waiting = std::mem::take(&mut self.waiting);
        for key in &waiting {
            if let Some(connection) = connections.get_mut(*key) {
                self.write(*key, connection);
            }
        }
        self.waiting = waiting;
    }

    /// Forgets the connections that no longer wait for a feed.
    pub(super) fn forget_resumed<W>(&mut self, connections: &Connections<W>) {
        self.waiting.retain(|key| connections.get(*key).is_some_and(|connection| connection.session.is_waiting()));
    }
}
