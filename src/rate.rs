//! Rates: how much may happen in a period, by the generic cell rate algorithm (GCRA, ITU-T Recommendation I.371, annex
//! A).
//!
//! A bucket is one time, which threads share without a lock. The current time is an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A number of units in a period. The units of a whole period may be taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    units: u64,
    period: Duration,
}

/// The state of one counter under a rate.
#[derive(Debug)]
pub struct Bucket {
    since: Instant,
    /// The theoretical arrival time of the GCRA: when everything that was taken is available again, in nanoseconds
    /// after `since`.
    arrival_ns: AtomicU64,
}

impl Rate {
    pub fn per_second(units: u64) -> Self {
        Self { units: units.max(1), period: Duration::from_secs(1) }
    }

    pub fn per_minute(units: u64) -> Self {
        Self { units: units.max(1), period: Duration::from_secs(60) }
    }

    pub fn units(self) -> u64 {
        self.units
    }

    pub fn period(self) -> Duration {
        self.period
    }

    /// The time in which this many units become available, in nanoseconds.
    pub fn cost_ns(self, units: u64) -> u64 {
        let ns = u128::from(units) * self.period.as_nanos() / u128::from(self.units);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    fn period_ns(self) -> u64 {
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Bucket {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self { since: now, arrival_ns: AtomicU64::new(0) }
    }

    /// How long it takes until this many units are available; `None` if they are.
    ///
    /// More units than those of a period never are. They count as available when the bucket is full, and what follows
    /// waits for them.
    pub fn wait(&self, rate: Rate, units: u64, now: Instant) -> Option<Duration> {
        let now_ns = self.ns(now);
        let arrival = self.arrival_ns.load(Ordering::Relaxed).max(now_ns);
        let next = arrival.saturating_add(rate.cost_ns(units).min(rate.period_ns()));
        let early = next.saturating_sub(now_ns).saturating_sub(rate.period_ns());
        (early > 0).then(|| Duration::from_nanos(early))
    }

    /// Takes units, whether they are available or not: what follows waits for them.
    pub fn take(&self, rate: Rate, units: u64, now: Instant) {
        let (now_ns, cost) = (self.ns(now), rate.cost_ns(units));
        let next = |arrival: u64| Some(arrival.max(now_ns).saturating_add(cost));
        // Always succeeds: `next` has no case without a value.
        let _ = self.arrival_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Gives back units that were just taken.
    pub fn give_back(&self, rate: Rate, units: u64) {
        let before = |arrival: u64| Some(arrival.saturating_sub(rate.cost_ns(units)));
        let _ = self.arrival_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, before);
    }

    /// Whether nothing is missing: the bucket is as good as a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.arrival_ns.load(Ordering::Relaxed) <= self.ns(now)
    }

    fn ns(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.since).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_period_at_once_and_then_at_the_rate() {
        let (start, rate) = (Instant::now(), Rate::per_second(4));
        let bucket = Bucket::new(start);
        let take = |at: Instant| {
            let wait = bucket.wait(rate, 1, at);
            if wait.is_none() {
                bucket.take(rate, 1, at);
            }
            wait
        };
        assert!((0..4).all(|_| take(start).is_none()));
        assert_eq!(take(start), Some(250 * MS));
        assert_eq!(take(start + 249 * MS), Some(MS));
        assert_eq!(take(start + 250 * MS), None);
        assert_eq!(take(start + 250 * MS), Some(250 * MS));
        let later = start + 100_000 * MS;
        assert_eq!((0..9).filter(|_| take(later).is_none()).count(), 4, "no more is saved than a period's");
    }

    #[test]
    fn more_than_a_period_holds_delays_what_follows() {
        let (start, rate) = (Instant::now(), Rate::per_second(1000));
        let bucket = Bucket::new(start);
        assert_eq!(bucket.wait(rate, 5000, start), None);
        bucket.take(rate, 5000, start);
        assert_eq!(bucket.wait(rate, 1, start), Some(4001 * MS));
        assert_eq!(bucket.wait(rate, 5000, start), Some(5000 * MS), "only a full bucket allows it");
        assert!(!bucket.is_full(start + 4999 * MS) && bucket.is_full(start + 5000 * MS));
    }

    #[test]
    fn what_is_given_back_costs_nothing() {
        let (start, rate) = (Instant::now(), Rate::per_minute(1));
        let bucket = Bucket::new(start);
        bucket.take(rate, 1, start);
        assert_eq!(bucket.wait(rate, 1, start), Some(60_000 * MS));
        bucket.give_back(rate, 1);
        assert_eq!(bucket.wait(rate, 1, start), None);
    }
}
