//! A hashed timing wheel (Varghese and Lauck, SOSP 1987, scheme 6): one timer per connection, cheap to set and never
//! cancelled. When a timer is set again, the previous one is recognized by its tick.

use std::time::{Duration, Instant};

/// The resolution.
const TICK: Duration = Duration::from_millis(20);
/// Slots, a power of two: some 20 seconds, which exceeds the default heartbeat. A timer beyond that goes around again.
const SLOTS: usize = 1024;

/// The time at which a timer fires, in ticks since the creation of the wheel.
pub(super) type Tick = u64;

pub(super) struct Wheel {
    start: Instant,
    /// The last expired tick.
    current: Tick,
    /// The timers of slot `tick % SLOTS`, with the key of their connection.
    slots: Vec<Vec<(usize, Tick)>>,
    /// One bit per slot: whether it is non-empty.
    occupied: [u64; SLOTS / 64],
}

impl Wheel {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, current: 0, slots: vec![Vec::new(); SLOTS], occupied: [0; SLOTS / 64] }
    }

    /// Sets a timer: it fires not before `at`, and at most a tick later.
    pub(super) fn set(&mut self, key: usize, at: Instant) -> Tick {
        let tick = self.tick_of(at).max(self.current + 1);
        self.put(key, tick);
        tick
    }

    /// Whether a timer for `at` would fire before one set for `tick`.
    pub(super) fn is_before(&self, at: Instant, tick: Tick) -> bool {
        self.tick_of(at) < tick
    }

    /// Calls `fire` for every due timer.
    pub(super) fn expire(&mut self, now: Instant, mut fire: impl FnMut(usize, Tick)) {
        let until = now.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos();
        let until = u64::try_from(until).unwrap_or(Tick::MAX);
        // After a long sleep, one revolution visits every slot.
        self.current = self.current.max(until.saturating_sub(SLOTS as u64));
        while self.current < until {
            self.current += 1;
            let slot = self.current as usize % SLOTS;
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            for (key, tick) in std::mem::take(&mut self.slots[slot]) {
                if tick <= self.current { fire(key, tick) } else { self.put(key, tick) }
            }
        }
    }

    /// The time until [`Self::expire`] has work; `None` if no timer is set.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let ahead = (1..=SLOTS as u64).find(|ahead| {
            let slot = (self.current + ahead) as usize % SLOTS;
            self.occupied[slot / 64] >> (slot % 64) & 1 == 1
        })?;
        let at = TICK.checked_mul(u32::try_from(self.current + ahead).unwrap_or(u32::MAX))?;
        Some((self.start + at).saturating_duration_since(now))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    fn tick_of(&self, at: Instant) -> Tick {
        let ticks = at.saturating_duration_since(self.start).as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(ticks).unwrap_or(Tick::MAX)
    }

    /// A timer beyond the horizon waits in the farthest slot, and is inserted again from there.
    fn put(&mut self, key: usize, tick: Tick) {
        let slot = tick.min(self.current + SLOTS as u64 - 1) as usize % SLOTS;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.slots[slot].push((key, tick));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For any timers and any jumps of time: a timer fires once, not early, and at the next check after it is due.
        #[test]
        fn timers_fire_once_and_in_time(
            timers in prop::collection::vec(0..300_000u64, 1..40),
            jumps in prop::collection::vec(1..100_000u64, 1..40),
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            let mut due: Vec<Option<u64>> = timers.iter().copied().map(Some).collect();
            for (key, ms) in timers.iter().enumerate() {
                wheel.set(key, start + Duration::from_millis(*ms));
            }
            let mut now = 0;
            for jump in jumps {
                let wait = wheel.wait(start + Duration::from_millis(now));
                prop_assert_eq!(wait.is_some(), due.iter().any(Option::is_some));
                now += jump;
                let mut fired = Vec::new();
                wheel.expire(start + Duration::from_millis(now), |key, _| fired.push(key));
                for key in fired {
                    let at = due[key].take();
                    prop_assert!(at.is_some_and(|at| at <= now));
                }
                let late = due.iter().flatten().any(|at| at + 2 * TICK.as_millis() as u64 <= now);
                prop_assert!(!late);
            }
        }
    }

    #[test]
    fn it_sleeps_until_the_next_timer() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        assert_eq!(wheel.wait(start), None);
        wheel.set(1, start + Duration::from_secs(15));
        assert_eq!(wheel.wait(start), Some(Duration::from_secs(15)));
    }
}
