//! The load of a writer: the duration of its turns, and periodically the queued data of slow clients. Delivering an
//! event updates no counter here.

use std::time::{Duration, Instant};

use prometheus::Counter;

use crate::metrics::{Backlog, Metrics};

use super::{Shard, mark};

/// The interval of scanning all connections: ten thousand take about a millisecond.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Load {
    /// The seconds in which this writer was not asleep.
    busy: Counter,
    /// The queued data of all writers' slow clients.
    total: Backlog,
    /// This writer's share at the last scan.
    waiting: Waiting,
    look_at: Instant,
}

/// The queued data of clients whose sockets are full.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    streams: i64,
    events: i64,
    bytes: i64,
}

impl Load {
    pub(super) fn new(writer: u32, metrics: &Metrics, now: Instant) -> Self {
        Self {
            busy: metrics.writer_busy.with_label_values(&[&*writer.to_string()]),
            total: metrics.backlog.clone(),
            waiting: Waiting::default(),
            look_at: now + LOOK_EVERY,
        }
    }

    /// The longest sleep: no event may wake the writer when queued data is gone.
    pub(super) fn wait(&self) -> Option<Duration> {
        (self.waiting != Waiting::default()).then(|| self.look_at.saturating_duration_since(Instant::now()))
    }

    fn waits(&mut self, now: Waiting) {
        let before = std::mem::replace(&mut self.waiting, now);
        self.total.streams.add(now.streams - before.streams);
        self.total.events.add(now.events - before.events);
        self.total.bytes.add(now.bytes - before.bytes);
    }
}

impl Shard {
    /// Ends a turn that began at `began`.
    pub(super) fn take_stock(&mut self, began: Instant) {
        let now = Instant::now();
        self.load.busy.inc_by(now.saturating_duration_since(began).as_secs_f64());
        if self.number == 0 {
            // All writers have the same events in their windows.
            self.count.metrics().memory.windows.set(self.hub.bytes() as i64);
        }
        if self.load.look_at <= now {
            self.load.look_at = now + LOOK_EVERY;
            let waiting = self.waiting_now();
            self.load.waits(waiting);
        }
    }

    /// Drops the queued events of clients whose sockets are full.
    pub(super) fn drop_backlogs(&mut self) {
        let Self { connections, dirty, count, .. } = self;
        for (key, connection) in connections.iter_mut().filter(|(_, connection)| !connection.writable) {
            if let Some((events, policy)) = connection.session.drop_backlog() {
                count.dropped(events, policy.as_str());
                mark(dirty, key, connection);
            }
        }
    }

    fn waiting_now(&self) -> Waiting {
        let mut waiting = Waiting::default();
        for (_, connection) in self.connections.iter().filter(|(_, connection)| !connection.writable) {
            let (events, bytes) = connection.session.backlog();
            waiting.streams += 1;
            waiting.events += events as i64;
            waiting.bytes += bytes as i64;
        }
        waiting
    }
}
