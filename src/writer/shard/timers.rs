//! The timers of connections: one each, for the next time at which it needs attention.

use std::time::{Duration, Instant};

use super::super::connection::Connection;
use super::super::wheel::Wheel;
use super::super::wire::Wire;
use super::Connections;

pub(super) struct Timers {
    wheel: Wheel,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        Self { wheel: Wheel::new(now) }
    }

    /// Sets the timer of a connection, unless an earlier one is set.
    pub(super) fn schedule<W: Wire>(&mut self, key: usize, connection: &mut Connection<W>) {
        let deadline = connection.deadline();
        if connection.timer == 0 || self.wheel.is_before(deadline, connection.timer) {
            connection.timer = self.wheel.set(key, deadline);
        }
    }

    /// The connections whose timers are due. Their timers are no longer set.
    pub(super) fn due<W>(&mut self, connections: &mut Connections<W>, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        self.wheel.expire(now, |key, tick| {
            if let Some(connection) = connections.get_mut(key).filter(|connection| connection.timer == tick) {
                connection.timer = 0;
                due.push(key);
            }
        });
        due
    }

    /// The time until [`Self::due`] has work; `None` if no timer is set.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.wheel.wait(now)
    }
}
