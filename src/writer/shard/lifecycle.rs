//! Which streams the process ends, and when: all in a drain, those that cannot continue after a reload, and those whose
//! principals are no longer accepted.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::route::RouteTable;
use crate::session::{CloseReason, Now, Reload};

use super::super::connection::Connection;
use super::super::ending::{Ending, Pace};
use super::Connections;
use super::work::Work;

/// The interval of ending streams.
const ENDING_STEP: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Lifecycle {
    /// Streams that are being ended; may be empty.
    ending: Option<Ending>,
    /// The last reload.
    reload: Option<Arc<Reload>>,
    /// Replaced routes that requests still refer to: a stream may arrive with routes that have been replaced meanwhile.
    replaced: Vec<Weak<RouteTable>>,
}

impl Lifecycle {
    /// Ends all streams.
    pub(super) fn drain<W>(&mut self, connections: &mut Connections<W>, pace: Pace, now: Now) {
        connections.iter_mut().for_each(|(_, connection)| connection.is_ending = true);
        self.start_ending(CloseReason::Drain, connections, pace, now);
    }

    /// Lets streams adopt the configuration. One that cannot is ended, whatever the next reload contains.
    pub(super) fn reload<W>(&mut self, reload: Arc<Reload>, connections: &mut Connections<W>, pace: Pace, now: Now) {
        for (_, connection) in connections.iter_mut().filter(|(_, connection)| !connection.is_ending) {
            connection.is_ending = !connection.session.take_over(&reload);
        }
        self.replaced.retain(|routes| routes.strong_count() > 0);
        self.replaced.push(reload.before());
        self.reload = Some(reload);
        self.start_ending(CloseReason::Reload, connections, pace, now);
    }

    /// Applies what was decided while a stream was on its way here.
    pub(super) fn settle<W>(&mut self, key: usize, connection: &mut Connection<W>, work: &mut Work, now: Now) {
        if connection.session.end_if_withdrawn(now) {
            return work.write(key, connection);
        }
        let is_draining = self.is_draining();
        if let Some(ending) = self.ending.as_mut().filter(|_| is_draining) {
            connection.is_ending = true;
            ending.add(key);
        } else if let Some(last) = &self.reload
            && self.replaced.iter().any(|routes| connection.session.is_of(routes))
            && !connection.session.take_over(last)
        {
            connection.session.end(CloseReason::Reload, now);
            work.write(key, connection);
        }
    }

    /// Ends the streams that are due.
    pub(super) fn end_due<W>(&mut self, connections: &mut Connections<W>, work: &mut Work, now: Now) {
        let Some(ending) = &mut self.ending else { return };
        for key in ending.due(now.instant) {
            // The number may belong to another stream now.
            if let Some(connection) = connections.get_mut(key).filter(|connection| connection.is_ending) {
                connection.session.end(ending.reason, now);
                work.write(key, connection);
            }
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.reason == CloseReason::Drain)
    }

    /// Until then, the client of a stream that is being ended may read its queued data.
    pub(super) fn until(&self) -> Option<Instant> {
        self.ending.as_ref().map(|ending| ending.until)
    }

    /// The time until [`Self::end_due`] has work.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.ending.as_ref().filter(|ending| !ending.is_over()).map(|_| ENDING_STEP)
    }

    fn start_ending<W>(&mut self, reason: CloseReason, connections: &Connections<W>, pace: Pace, now: Now) {
        let is_left = |connection: &Connection<W>| connection.is_ending && connection.session.closed().is_none();
        let left: Vec<usize> =
            connections.iter().filter(|(_, connection)| is_left(connection)).map(|(key, _)| key).collect();
        if !left.is_empty() {
            tracing::info!(streams = left.len(), reason = reason.closing().label, "ending streams");
        }
        self.ending = Some(Ending::start(reason, left, pace, now.instant));
    }
}
