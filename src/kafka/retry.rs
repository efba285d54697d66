//! Exponential backoff for retries and periodic checks.

use std::time::{Duration, Instant};

/// Pauses that double, from the first to the longest.
#[derive(Debug)]
pub(super) struct Retry {
    at: Option<Instant>,
    pause: Duration,
    first: Duration,
    longest: Duration,
}

impl Retry {
    /// Due at once.
    pub(super) fn new((first, longest): (Duration, Duration)) -> Self {
        Self { at: None, pause: Duration::ZERO, first, longest }
    }

    pub(super) fn is_due(&self) -> bool {
        self.at.is_none_or(|at| Instant::now() >= at)
    }

    pub(super) fn pause(&mut self) {
        self.pause = (2 * self.pause).clamp(self.first, self.longest);
        self.at = Some(Instant::now() + self.pause);
    }

    /// Due after the first pause at the latest; the backoff restarts.
    pub(super) fn hasten(&mut self) {
        self.pause = Duration::ZERO;
        self.at = self.at.map(|at| at.min(Instant::now() + self.first));
    }
}
