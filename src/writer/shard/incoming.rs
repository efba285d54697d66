//! Data from clients, and new connections. Each has a bounded share of a turn.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use crate::session::{Now, Session, WriterContext};

use super::super::Opening;
use super::super::connection::{Connection, ReadEnd};
use super::{Shard, mark};

/// New connections per turn.
const OPENINGS_PER_TURN: usize = 256;
/// The most time per turn for reading sockets, and for new connections: the amount of work from clients must not delay
/// events and writes.
const SHARE: Duration = Duration::from_millis(2);
/// Unsent bytes in the kernel per stream (TCP_NOTSENT_LOWAT): the rest waits in the session's queue, where it is
/// bounded, counted, and dropped by policy.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;

impl Shard {
    /// Reads once from each connection with data, within this turn's share. The others come first in the next turn.
    pub(super) fn read_some(&mut self, scratch: &mut [u8], now: Now) {
        let until = Instant::now() + SHARE;
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop_front() else { break };
            self.read(key, scratch, now);
            if Instant::now() >= until {
                break;
            }
        }
    }

    fn read(&mut self, key: usize, scratch: &mut [u8], now: Now) {
        self.contained(key, now, |shard| shard.read_of(key, scratch, now));
    }

    fn read_of(&mut self, key: usize, scratch: &mut [u8], now: Now) {
        let Self { connections, hub, index, log, encodings, number, count, dirty, unread, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        connection.unread = false;
        let mut context =
            WriterContext { hub, index, log: &**log, encodings, writer: *number, session: key as u32, now };
        match connection.read(scratch, &mut context, |refused| count.refused(refused.label())) {
            ReadEnd::Later => mark(dirty, key, connection),
            ReadEnd::Again => {
                mark_unread(unread, key, connection);
                mark(dirty, key, connection);
            }
            ReadEnd::Gone(reason) => self.remove(key, reason, now),
        }
        self.schedule(key);
    }

    /// Takes over new connections. Returns whether there may be more.
    pub(super) fn take_over(&mut self, now: Now) -> bool {
        let until = Instant::now() + SHARE;
        for _ in 0..OPENINGS_PER_TURN {
            let Some(opening) = self.openings.pop() else { return false };
            self.open_contained(opening, now);
            if Instant::now() >= until {
                break;
            }
        }
        true
    }

    pub(super) fn open(&mut self, opening: Opening, now: Now) -> io::Result<()> {
        let Opening { socket, peer_timeout, early, request, span, slot } = opening;
        // Without it, more bytes wait in the kernel, and policies apply later: more memory, same behavior.
        if let Err(error) = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT is not available");
        }
        let mut socket = mio::net::TcpStream::from_std(socket);
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        self.poll.registry().register(&mut socket, Token(key), Interest::READABLE | Interest::WRITABLE)?;
        let mut context = WriterContext {
            hub: &self.hub,
            index: &mut self.index,
            log: &*self.log,
            encodings: &self.encodings,
            writer: self.number,
            session: key as u32,
            now,
        };
        let session = Session::open(request, fastrand::f64(), &mut context);
        if session.is_waiting() {
            self.waiting.push(key);
        }
        if let Some(span) = span {
            self.spans.insert(key, span);
        }
        self.count.look_at_cursors(&self.hub, &session.request().route.stream);
        let route = self.count.route_of(&session);
        let connection = entry.insert(Connection::new(socket, peer_timeout, session, route, slot, now.instant));
        connection.read_early(&early, &mut context, |refused| self.count.refused(refused.label()));
        mark(&mut self.dirty, key, connection);
        self.settle(key, now);
        self.schedule(key);
        Ok(())
    }
}

pub(super) fn mark_unread(unread: &mut VecDeque<usize>, key: usize, connection: &mut Connection) {
    if !connection.unread {
        connection.unread = true;
        unread.push_back(key);
    }
}
