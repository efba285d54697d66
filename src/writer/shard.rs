//! The state of one writer, and its turns: feeds, commands, readiness and time in; one write per connection and turn
//! out.
//!
//! A shard knows no sockets: its connections have a [`Wire`]. Time is an argument, so that a turn can be repeated; the
//! clock is only read for metrics. `event_loop` drives it.

mod contained;
mod delivery;
mod lifecycle;
mod load;
mod queued;
#[cfg(test)]
mod tests;
mod timers;
mod transfer;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::event::Topic;
use crate::hub::{Hub, Index, WindowLimits};
use crate::rule::Judge;
use crate::session::{CloseReason, Now, Reload, Session, WriterState};

use super::connection::Connection;
use super::counting::Counting;
use super::ending::Pace;
use super::event_spans::EventSpans;
use super::survey::{StreamStats, Survey};
use super::wire::Wire;
use super::{Opening, Shared};
use lifecycle::Lifecycle;
use load::Load;
use timers::Timers;
use work::Work;

type Connections<W> = Slab<Connection<W>>;

pub(crate) struct Shard<W> {
    connections: Connections<W>,
    /// The number of connections that this writer owns or is about to own.
    streams: Arc<AtomicUsize>,
    /// What sessions share: windows, index, log and encodings.
    state: WriterState,
    work: Work,
    timers: Timers,
    lifecycle: Lifecycle,
    load: Load,
    count: Counting,
    /// The buffer of writes.
    buffer: Vec<u8>,
}

impl<W: Wire> Shard<W> {
    pub(crate) fn new(number: u32, windows: &[(Topic, WindowLimits)], shared: &Shared, now: Instant) -> Self {
        let state = WriterState {
            hub: Hub::new(windows.iter().cloned()),
            index: Index::default(),
            log: shared.log.clone(),
            encodings: shared.encodings.clone(),
            judge: Judge::default(),
            writer: number,
        };
        Self {
            connections: Slab::new(),
            streams: Arc::default(),
            state,
            work: Work::default(),
            timers: Timers::new(now),
            lifecycle: Lifecycle::default(),
            load: Load::new(&shared.metrics, now),
            count: Counting::new(shared.metrics.clone(), EventSpans::new(shared.tracer.clone(), number)),
            buffer: Vec::new(),
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.state.writer
    }

    /// The number of connections that this writer owns or is about to own. Who hands one over counts it; the shard
    /// counts it out when it is gone.
    pub(crate) fn streams(&self) -> Arc<AtomicUsize> {
        self.streams.clone()
    }

    /// The number of the next connection.
    pub(super) fn next_key(&self) -> usize {
        self.connections.vacant_key()
    }

    /// Takes over a connection, which becomes [`Self::next_key`]. `jitter`, from 0 to 1, spreads its heartbeats and
    /// reconnects.
    pub(crate) fn open(&mut self, opening: Opening<W>, jitter: f64, now: Now) {
        self.open_contained(opening, jitter, now);
    }

    fn insert(&mut self, opening: Opening<W>, jitter: f64, now: Now) {
        let Self { connections, state, work, timers, lifecycle, count, .. } = self;
        let Opening { socket, peer_timeout, early, request, span, slot } = opening;
        let entry = connections.vacant_entry();
        let key = entry.key();
        let mut context = state.context(key, now);
        let session = Session::open(request, jitter, &mut context);
        if session.is_waiting() {
            work.wait_for_feed(key);
        }
        count.request(key, span);
        count.look_at_cursors(context.hub, &session.request().route.stream);
        let route = count.route_of(&session);
        let connection = entry.insert(Connection::new(socket, peer_timeout, session, route, slot, now.instant));
        connection.read_early(&early, &mut context, |refused| count.refused(refused.label()));
        work.write(key, connection);
        lifecycle.settle(key, connection, work, now);
        timers.schedule(key, connection);
    }

    /// Data that a session requested from the log may be available. The session may be gone, and its slot reused: an
    /// extra check is harmless.
    pub(crate) fn call(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            self.work.write(key, connection);
        }
    }

    /// Ends all streams.
    pub(crate) fn drain(&mut self, pace: Pace, now: Now) {
        self.lifecycle.drain(&mut self.connections, pace, now);
    }

    /// Lets the streams adopt another configuration, and ends those that cannot; a drain has precedence.
    pub(crate) fn reload(&mut self, reload: Arc<Reload>, pace: Pace, now: Now) {
        if self.lifecycle.is_draining() {
            return;
        }
        self.lifecycle.reload(reload, &mut self.connections, pace, now);
        for (key, connection) in &mut self.connections {
            self.timers.schedule(key, connection);
        }
    }

    /// Ends the streams whose principals are no longer accepted.
    pub(crate) fn end_withdrawn(&mut self, now: Now) {
        for (key, connection) in &mut self.connections {
            if connection.session.end_if_withdrawn(now) {
                self.work.write(key, connection);
            }
        }
    }

    /// Limits the bytes of all windows together; `None` restores the configured limits.
    pub(crate) fn limit_windows(&mut self, bytes_max: Option<usize>) {
        self.state.hub.limit(bytes_max);
    }

    pub(super) fn survey(&self, survey: &Survey) -> Vec<StreamStats> {
        survey.of(self.connections.iter().map(|(_, connection)| &connection.session))
    }

    /// Ends a turn: does what is due, and writes.
    pub(crate) fn finish_turn(&mut self, now: Now) {
        self.tick_due(now);
        self.lifecycle.end_due(&mut self.connections, &mut self.work, now);
        self.write_all(now);
        self.count.rule_failures(self.state.judge.take_failures());
        self.count.flush();
        self.count.event_spans.expire(now.instant);
        self.take_stock(now.instant);
    }

    /// How long the next turn may wait for readiness or a message; `None`: without a limit.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        if self.work.is_left() {
            return Some(Duration::ZERO);
        }
        let timers = self.timers.wait(now).into_iter().chain(self.lifecycle.wait());
        timers.chain(self.load.wait(now)).chain(self.count.event_spans.wait(now)).min()
    }

    /// Removes the streams that are still open when the writer ends.
    pub(crate) fn end(mut self, now: Now) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.remove(key, CloseReason::Drain, now);
        }
        self.count.flush();
        self.count.event_spans.end_all();
    }

    fn tick_due(&mut self, now: Now) {
        for key in self.timers.due(&mut self.connections, now.instant) {
            self.contained(key, now, |shard| shard.tick(key, now));
        }
    }

    /// A connection's timer is due.
    fn tick(&mut self, key: usize, now: Now) {
        let Self { connections, state, count, work, timers, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.linger.is_some_and(|until| until <= now.instant) {
            return self.remove(key, CloseReason::ClientLost, now);
        }
        if connection.linger.is_none()
            && let Some(reason) = connection.look(now.instant)
        {
            if reason == CloseReason::ClientLost {
                return self.remove(key, reason, now);
            }
            connection.session.close(reason);
        }
        connection.excuse_pong(now.instant);
        if connection.session.tick(&mut state.context(key, now)) {
            count.heartbeat(&connection.session);
        }
        work.write(key, connection);
        timers.schedule(key, connection);
    }

    /// One of the streams that were given to this writer is gone.
    pub(super) fn count_out(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Removes a connection; `reason` counts if the session itself has none.
    fn remove(&mut self, key: usize, reason: CloseReason, now: Now) {
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        connection.session.close(reason);
        connection.session.leave(&mut self.state.context(key, now));
        self.count.resumed(connection.session.take_resumes());
        if connection.counted {
            self.count.closed(&connection.session, &connection.tally, now);
        } else {
            self.count.unanswered(key);
        }
        self.count_out();
        if self.connections.is_empty() {
            // Releases the memory of a burst of connections.
            self.connections = Slab::new();
        }
    }
}
