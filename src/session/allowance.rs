//! How many messages a WebSocket may send: a token bucket of its own.

use std::time::Instant;

/// A rate per second, with a burst of the same size.
#[derive(Debug)]
pub(super) struct Allowance {
    left: f64,
    refilled: Instant,
}

impl Allowance {
    pub(super) fn full(per_second: u32, now: Instant) -> Self {
        Self { left: f64::from(per_second), refilled: now }
    }

    /// Takes one; false if none is left.
    pub(super) fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let most = self.left.max(f64::from(per_second));
        self.left = (self.left + refill(per_second, self.refilled, now)).min(most) - 1.0;
        self.refilled = now;
        self.left >= 0.0
    }

    /// Adds what the rate allows in this time, beyond a full bucket: for messages that waited.
    pub(super) fn extend(&mut self, per_second: u32, since: Instant, now: Instant) {
        self.left += refill(per_second, since, now);
        self.refilled = now;
    }

    /// Drops what is beyond a full bucket.
    pub(super) fn settle(&mut self, per_second: u32) {
        self.left = self.left.min(f64::from(per_second));
    }
}

fn refill(per_second: u32, since: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(since).as_secs_f64() * f64::from(per_second)
}
