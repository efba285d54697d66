//! Reservations of streams that wait for the same quota.
//!
//! A stream that has to wait takes its next events in advance, and sends them when the rate allows. The next stream takes
//! what follows. A stream takes as much as becomes available in [`RESERVED_PERIOD`], and at least one event: so streams
//! share a rate evenly, in the order in which they began to wait.

use std::time::{Duration, Instant};

use super::Meter;

/// The period whose events a stream reserves: the resolution of timers. With a shorter one, a rate would not be used up,
/// or the first stream would use the rest.
pub const RESERVED_PERIOD: Duration = Duration::from_millis(20);

/// The events that a waiting stream has taken in advance. Dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    meters: Vec<Meter>,
    events: u64,
    bytes: u64,
    due: Instant,
}

impl Reservation {
    /// A reservation without events.
    pub fn new(meters: Vec<Meter>, now: Instant) -> Self {
        Self { meters, events: 0, bytes: 0, due: now }
    }

    /// Whether another event has room in it.
    pub fn has_room(&self) -> bool {
        let period_ns = u64::try_from(RESERVED_PERIOD.as_nanos()).unwrap_or(u64::MAX);
        self.events == 0 || self.meters.iter().all(|meter| self.cost_ns(meter) < period_ns)
    }

    /// Takes an event of this many bytes.
    pub fn take(&mut self, bytes: u64, now: Instant) {
        let wait = self.meters.iter().filter_map(|meter| meter.wait_to_send(bytes, now)).max();
        self.due = wait.and_then(|wait| now.checked_add(wait)).map_or(self.due, |due| self.due.max(due));
        self.meters.iter().for_each(|meter| meter.sends(bytes, now));
        (self.events, self.bytes) = (self.events + 1, self.bytes + bytes);
    }

    /// When its events may be sent.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Ends it: the number of events that may be sent.
    pub fn redeem(mut self) -> usize {
        let events = usize::try_from(self.events).unwrap_or(usize::MAX);
        (self.events, self.bytes) = (0, 0);
        events
    }

    fn cost_ns(&self, meter: &Meter) -> u64 {
        let events = meter.rates.events.map(|rate| rate.cost_ns(self.events));
        let bytes = meter.rates.bytes.map(|rate| rate.cost_ns(self.bytes));
        events.max(bytes).unwrap_or_default()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.meters.iter().for_each(|meter| meter.give_back(self.events, self.bytes));
    }
}
