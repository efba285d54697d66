//! The timers of connections: one each, for the next time at which it needs attention.
//!
//! A timer that an earlier one replaces is kept, and is valid again once that one has fired: a stream that waits for
//! its rate many times within one heartbeat interval adds one entry at a time to the wheel.

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
            connection.later_timer = std::mem::replace(&mut connection.timer, self.wheel.set(key, deadline));
        }
    }

    /// The connections whose timers are due. Those that they replaced are set again.
    pub(super) fn due<W>(&mut self, connections: &mut Connections<W>, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        self.wheel.expire(now, |key, tick| match connections.get_mut(key) {
            Some(connection) if connection.timer == tick => {
                connection.timer = 0;
                due.push(key);
            }
            Some(connection) if connection.later_timer == tick => connection.later_timer = 0,
            Some(_) | None => {}
        });
        for key in &due {
            if let Some(connection) = connections.get_mut(*key) {
                connection.timer = std::mem::take(&mut connection.later_timer);
            }
        }
        due
    }

    /// The number of timers in the wheel.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wheel.len()
    }

    /// The time until [`Self::due`] has work; `None` if no timer is set.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.wheel.wait(now)
    }
}
