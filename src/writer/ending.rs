//! Streams that are ended at a bounded rate, so that their clients do not reconnect at once. It selects the streams;
//! the shard closes them.

use std::time::{Duration, Instant};

use crate::session::CloseReason;

/// The rate of ending streams.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Streams per second, of all writers together.
    pub per_second: f64,
    /// The time in which all streams are ended, even if that exceeds the rate.
    pub within: Duration,
    /// Until then, a slow client may read its queued data.
    pub until: Instant,
}

impl Pace {
    /// How long it takes to end this many streams.
    pub fn spread(&self, streams: usize) -> Duration {
        let seconds = streams.saturating_sub(1) as f64 / self.per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(self.within).min(self.within)
    }

    /// The share of one writer.
    pub(super) fn shared_by(self, writers: usize) -> Self {
        Self { per_second: self.per_second / writers.max(1) as f64, ..self }
    }
}

/// The streams of one writer that are being ended.
pub(super) struct Ending {
    pub(super) reason: CloseReason,
    pub(super) until: Instant,
    started: Instant,
    spread: Duration,
    /// The number of streams at the start.
    total: usize,
    /// The remaining streams, the last one first.
    left: Vec<usize>,
}

impl Ending {
    pub(super) fn start(reason: CloseReason, streams: Vec<usize>, pace: Pace, now: Instant) -> Self {
        let spread = pace.spread(streams.len());
        Self { reason, until: pace.until, started: now, spread, total: streams.len(), left: streams }
    }

    /// Adds a stream that arrived meanwhile.
    pub(super) fn add(&mut self, stream: usize) {
        self.left.push(stream);
    }

    pub(super) fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// The streams that are due; the first one at once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<usize> {
        let elapsed = now.saturating_duration_since(self.started);
        let keep = if elapsed >= self.spread {
            0
        } else {
            let share = elapsed.as_secs_f64() / self.spread.as_secs_f64();
            self.total.saturating_sub(1) - (self.total.saturating_sub(1) as f64 * share) as usize
        };
        self.left.split_off(keep.min(self.left.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: f64) -> Pace {
        Pace { per_second, within: Duration::from_secs(6), until: Instant::now() }
    }

    #[test]
    fn few_are_ended_quickly_and_many_within_the_time() {
        let spread = |streams| pace(100.0).spread(streams).as_millis();
        assert_eq!([0, 1, 2, 101, 601, 10_000].map(spread), [0, 0, 10, 1_000, 6_000, 6_000]);
        assert_eq!(pace(100.0).shared_by(4).spread(101), Duration::from_secs(4));
        assert_eq!(pace(f64::MIN_POSITIVE).spread(2), Duration::from_secs(6));
    }

    #[test]
    fn every_stream_is_ended_once_within_the_rate() {
        let start = Instant::now();
        let mut ending = Ending::start(CloseReason::Drain, (0..200).collect(), pace(100.0), start);
        let mut ended = Vec::new();
        for step in 0..=40 {
            let before = ended.len();
            ended.extend(ending.due(start + Duration::from_millis(50 * step)));
            assert!(ended.len() - before <= 6, "{before} to {}", ended.len());
            assert!(step > 0 || ended.len() == 1, "the first goes at once");
        }
        ended.sort_unstable();
        assert_eq!(ended, (0..200).collect::<Vec<_>>());
        assert!(ending.is_over());
        ending.add(7);
        assert_eq!(ending.due(start + Duration::from_secs(3)), [7]);
    }

    #[test]
    fn no_stream_is_ended_without_streams() {
        let mut ending = Ending::start(CloseReason::Drain, Vec::new(), pace(1.0), Instant::now());
        assert!(ending.is_over() && ending.due(Instant::now()).is_empty());
    }
}
