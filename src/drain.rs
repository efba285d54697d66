//! The drain: rejects new streams, and ends the open ones at a rate that the other replicas can absorb.
//!
//! It runs once, whatever requests it and however often: `POST /-/drain`, or a signal. Requests are still proxied
//! afterwards; `app` ends the process.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::config::snapshot::{DrainLimits, Snapshot};
use crate::shutdown::Draining;
use crate::writer::{Pace, Writers};

/// The part of the budget for the steps after the streams: requests in flight, the sources, the exit.
const RESERVE: Duration = Duration::from_secs(1);

/// What a drain needs.
pub struct Drain {
    draining: Draining,
    snapshot: Arc<ArcSwap<Snapshot>>,
    writers: Writers,
    drained: OnceLock<Drained>,
}

/// The result of a drain.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Drained {
    /// Streams that were open at the start.
    pub streams: usize,
    /// Streams that were still open at the end of the time limit, and were cut.
    pub left: usize,
    pub elapsed_ms: u64,
    /// The end of the whole budget.
    #[serde(skip)]
    deadline: Instant,
    /// The least time for requests in flight.
    #[serde(skip)]
    reserve: Duration,
}

impl Drain {
    pub fn new(draining: Draining, snapshot: Arc<ArcSwap<Snapshot>>, writers: Writers) -> Self {
        Self { draining, snapshot, writers, drained: OnceLock::new() }
    }

    /// Drains, joins the drain in progress, or returns the result of the previous one. Blocks its thread, at most for
    /// the budget.
    pub fn run(&self) -> Drained {
        *self.drained.get_or_init(|| self.drain())
    }

    fn drain(&self) -> Drained {
        let started = Instant::now();
        let limits = self.snapshot.load().drain;
        self.draining.set();
        let (streams, pace) = (self.writers.streams(), pace(limits, started));
        tracing::info!(streams, spread_ms = pace.spread(streams).as_millis() as u64, "draining");
        warn_of_haste(limits, pace, streams);
        let left = self.writers.drain(pace);
        if left > 0 {
            tracing::warn!(left, "streams were still open at the end of the drain budget");
        }
        let elapsed_ms = started.elapsed().as_millis() as u64;
        tracing::info!(streams, left, elapsed_ms, "drained");
        Drained { streams, left, elapsed_ms, deadline: started + limits.budget, reserve: reserve(limits) }
    }
}

impl Drained {
    /// The rest of the budget, for requests in flight.
    pub fn time_left(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now).max(self.reserve)
    }
}

/// The pace of a drain that starts now within these limits. A quarter of the time is reserved for clients that read
/// slowly.
pub fn pace(limits: DrainLimits, now: Instant) -> Pace {
    let streams = limits.budget - reserve(limits);
    Pace { per_second: limits.reconnects_per_second.into(), within: streams * 3 / 4, until: now + streams }
}

fn reserve(limits: DrainLimits) -> Duration {
    RESERVE.min(limits.budget / 2)
}

fn warn_of_haste(limits: DrainLimits, pace: Pace, streams: usize) {
    let rate = streams as f64 / pace.within.as_secs_f64();
    if rate > f64::from(limits.reconnects_per_second) {
        let wanted = limits.reconnects_per_second;
        tracing::warn!(streams, rate = rate as u64, wanted, "`drain.budget` is too short to keep to the rate");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_leaves_time_for_the_steps_after_the_streams() {
        let now = Instant::now();
        let of = |budget| {
            let pace = pace(DrainLimits { budget: Duration::from_millis(budget), reconnects_per_second: 100 }, now);
            (pace.within.as_millis(), (pace.until - now).as_millis())
        };
        assert_eq!(of(10_000), (6_750, 9_000));
        assert_eq!(of(100), (37, 50));
    }
}
