//! Rate limit of each place in the source that logs: a burst, then one line per interval.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The burst of one place, in lines.
pub(super) const AT_ONCE: u32 = 20;
/// Afterwards, the interval between lines.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// Places with their own limit. There are as many as logging statements; further ones share one limit.
const PLACES_MAX: usize = 4096;

/// The recent lines of each place.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    hasher: RandomState,
    places: Mutex<HashMap<u64, Place>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// When the whole burst is available again.
    free_at: Instant,
    left_out: u64,
}

impl Repeats {
    /// The number of suppressed lines of this place since the last one, if a line may be written.
    pub(super) fn admit(&self, place: &impl Hash, now: Instant) -> Option<u64> {
        let mut key = self.hasher.hash_one(place);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX && !places.contains_key(&key) {
            key = 0;
        }
        let place = places.entry(key).or_insert(Place { free_at: now, left_out: 0 });
        let free_at = place.free_at.max(now);
        if free_at.duration_since(now) > EVERY * (AT_ONCE - 1) {
            place.left_out += 1;
            return None;
        }
        place.free_at = free_at + EVERY;
        Some(std::mem::take(&mut place.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_burst_and_then_one_line_per_interval() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        for _ in 0..AT_ONCE {
            assert_eq!(repeats.admit(&"a", start), Some(0));
        }
        assert_eq!(repeats.admit(&"a", start), None);
        assert_eq!(repeats.admit(&"b", start), Some(0), "each place has its own");
        assert_eq!(repeats.admit(&"a", start + EVERY / 2), None);
        assert_eq!(repeats.admit(&"a", start + EVERY), Some(2));
        assert_eq!(repeats.admit(&"a", start + EVERY), None);
        let later = start + EVERY * 100;
        let written = (0..100).filter(|_| repeats.admit(&"a", later).is_some()).count();
        assert_eq!(written, AT_ONCE as usize);
    }

    #[test]
    fn places_are_limited() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        for place in 0..PLACES_MAX * 2 {
            repeats.admit(&place, now);
        }
        assert!(repeats.places.lock().unwrap().len() <= PLACES_MAX + 1);
    }
}
