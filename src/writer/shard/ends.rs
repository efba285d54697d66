//! Streams that the process ends: all in a drain, and those that cannot continue after a reload.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::route::RouteTable;
use crate::session::{CloseReason, Now, Reload};

use super::super::ending::{Ending, Pace};
use super::{Shard, mark};

/// The recent reloads: a stream may arrive with routes that have been replaced meanwhile.
#[derive(Default)]
pub(super) struct Reloads {
    last: Option<Arc<Reload>>,
    /// Replaced routes that requests still refer to.
    before: Vec<Weak<RouteTable>>,
}

impl Reloads {
    fn add(&mut self, reload: &Arc<Reload>) {
        self.before.retain(|routes| routes.strong_count() > 0);
        self.before.push(reload.before());
        self.last = Some(reload.clone());
    }
}

impl Shard {
    pub(super) fn start_drain(&mut self, pace: Pace, now: Now) {
        self.connections.iter_mut().for_each(|(_, connection)| connection.is_ending = true);
        self.start_ending(CloseReason::Drain, pace, now);
    }

    /// Lets streams adopt the configuration. One that cannot is ended, whatever the next reload contains.
    pub(super) fn reload(&mut self, reload: Arc<Reload>, pace: Pace, now: Now) {
        if self.is_draining() {
            return;
        }
        self.reloads.add(&reload);
        let open = self.connections.iter_mut().filter(|(_, connection)| !connection.is_ending);
        for (_, connection) in open {
            connection.is_ending = !connection.session.take_over(&reload);
        }
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.schedule(key));
        self.start_ending(CloseReason::Reload, pace, now);
    }

    /// Ends the streams whose principals are no longer accepted, if that is to be looked at.
    pub(super) fn end_withdrawn(&mut self, now: Now) {
        if !self.withdrawals.swap(false, Ordering::AcqRel) {
            return;
        }
        let Self { connections, dirty, .. } = self;
        for (key, connection) in connections.iter_mut() {
            if connection.session.end_if_withdrawn(now) {
                mark(dirty, key, connection);
            }
        }
    }

    /// Applies what was decided while a stream was on its way here.
    pub(super) fn settle(&mut self, key: usize, now: Now) {
        let is_draining = self.is_draining();
        let Self { connections, reloads, dirty, ending, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.session.end_if_withdrawn(now) {
            return mark(dirty, key, connection);
        }
        if let Some(ending) = ending.as_mut().filter(|_| is_draining) {
            connection.is_ending = true;
            ending.add(key);
        } else if let Some(last) = &reloads.last
            && reloads.before.iter().any(|routes| connection.session.is_of(routes))
            && !connection.session.take_over(last)
        {
            connection.session.end(CloseReason::Reload, now);
            mark(dirty, key, connection);
        }
    }

    /// Ends the streams that are due.
    pub(super) fn end_some(&mut self, now: Now) {
        let Some(ending) = &mut self.ending else { return };
        let reason = ending.reason;
        for key in ending.due(now.instant) {
            // The number may belong to another stream now.
            if let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.is_ending) {
                connection.session.end(reason, now);
                mark(&mut self.dirty, key, connection);
            }
        }
    }

    /// Removes the streams that are still open when the writer ends.
    pub(super) fn remove_all(&mut self, now: Now) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.remove(key, CloseReason::Drain, now);
        }
    }

    fn start_ending(&mut self, reason: CloseReason, pace: Pace, now: Now) {
        let is_left = |connection: &super::Connection| connection.is_ending && connection.session.closed().is_none();
        let left: Vec<usize> =
            self.connections.iter().filter(|(_, connection)| is_left(connection)).map(|(key, _)| key).collect();
        if !left.is_empty() {
            tracing::info!(streams = left.len(), reason = reason.closing().label, "ending streams");
        }
        self.ending = Some(Ending::start(reason, left, pace, now.instant));
    }

    fn is_draining(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.reason == CloseReason::Drain)
    }
}
