//! The load of a writer: periodically the queued data of slow clients. Delivering an event updates no counter here.

use std::time::{Duration, Instant};

use crate::metrics::{Backlog, Metrics};

use super::super::connection::Connection;
use super::Shard;

/// The interval of scanning all connections: ten thousand take about a millisecond.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Load {
    /// The queued data of all writers' slow clients.
    total: Backlog,
    /// This writer's share at the last scan.
    waiting: Waiting,
    look_at: Instant,
}

/// The queued data of slow clients.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    streams: i64,
    events: i64,
    bytes: i64,
}

impl Load {
    pub(super) fn new(metrics: &Metrics, now: Instant) -> Self {
        Self { total: metrics.backlog.clone(), waiting: Waiting::default(), look_at: now + LOOK_EVERY }
    }

    /// The longest sleep: no event may wake the writer when queued data is gone.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        (self.waiting != Waiting::default()).then(|| self.look_at.saturating_duration_since(now))
    }

    fn waits(&mut self, now: Waiting) {
        let before = std::mem::replace(&mut self.waiting, now);
        self.total.streams.add(now.streams - before.streams);
        self.total.events.add(now.events - before.events);
        self.total.bytes.add(now.bytes - before.bytes);
    }
}

impl<W> Shard<W> {
    /// Reports the windows, and from time to time the queued data.
    pub(super) fn take_stock(&mut self, now: Instant) {
        if self.state.writer == 0 {
            // All writers have the same events in their windows.
            self.count.metrics().memory.windows.set(self.state.hub.bytes() as i64);
        }
        if self.load.look_at <= now {
            self.load.look_at = now + LOOK_EVERY;
            let waiting = self.waiting_now();
            self.load.waits(waiting);
        }
    }

    /// Drops the queued events of slow clients.
    pub(crate) fn drop_backlogs(&mut self) {
        let Self { connections, work, count, .. } = self;
        for (key, connection) in connections.iter_mut().filter(|(_, connection)| is_slow(connection)) {
            if let Some((events, policy)) = connection.session.drop_backlog() {
                count.dropped(events, policy.as_str());
                work.write(key, connection);
            }
        }
    }

    fn waiting_now(&self) -> Waiting {
        let mut waiting = Waiting::default();
        for (_, connection) in self.connections.iter().filter(|(_, connection)| is_slow(connection)) {
            let (events, bytes) = connection.session.backlog();
            waiting.streams += 1;
            waiting.events += events as i64;
            waiting.bytes += bytes as i64;
        }
        waiting
    }
}

/// Whether queued events wait for the client: its socket is full, or credit or a rate holds them.
fn is_slow<W>(connection: &Connection<W>) -> bool {
    !connection.writable || connection.session.is_holding()
}
