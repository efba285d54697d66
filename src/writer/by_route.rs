//! Counts sent events by route: a plain counter per event, which is added to the shared metric once per turn.
//!
//! A stream's route is looked up once, when the stream is opened. A reload does not change it: a stream that continues
//! does so on a route of the same pattern.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec};
use rustc_hash::FxHashMap;

/// The most patterns that are counted, over all configurations of a process; events on further ones are not counted by
/// route. An open stream stores two bytes for this.
const ROUTES_MAX: usize = u16::MAX as usize;

/// The index of a route in one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteNumber(u16);

pub(super) struct ByRoute {
    shown: IntCounterVec,
    /// By pattern.
    numbers: FxHashMap<Arc<str>, RouteNumber>,
    counts: Vec<Count>,
    /// Routes with events in this turn.
    busy: Vec<RouteNumber>,
}

struct Count {
    /// The events sent in this turn.
    events: u64,
    total: IntCounter,
}

impl ByRoute {
    pub(super) fn new(shown: IntCounterVec) -> Self {
        Self { shown, numbers: FxHashMap::default(), counts: Vec::new(), busy: Vec::new() }
    }

    pub(super) fn number(&mut self, pattern: &Arc<str>) -> RouteNumber {
        if let Some(number) = self.numbers.get(pattern) {
            return *number;
        }
        let number = RouteNumber(u16::try_from(self.counts.len()).unwrap_or(u16::MAX));
        if self.counts.len() == ROUTES_MAX {
            return number;
        }
        self.counts.push(Count { events: 0, total: self.shown.with_label_values(&[&**pattern]) });
        self.numbers.insert(pattern.clone(), number);
        number
    }

    pub(super) fn sent(&mut self, route: RouteNumber) {
        let Some(count) = self.counts.get_mut(usize::from(route.0)) else { return };
        if count.events == 0 {
            self.busy.push(route);
        }
        count.events += 1;
    }

    /// Adds this turn's events to the shared metric.
    pub(super) fn hand_over(&mut self) {
        for route in self.busy.drain(..) {
            if let Some(count) = self.counts.get_mut(usize::from(route.0)) {
                count.total.inc_by(std::mem::take(&mut count.events));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn routes_are_counted_apart_and_writers_together() {
        let metrics = Metrics::new("x").unwrap();
        let sent = |pattern: &str| metrics.route_events.with_label_values(&[pattern]).get();
        let mut writers = [(); 2].map(|()| ByRoute::new(metrics.route_events.clone()));
        let [a, b] = ["/a", "/b"].map(Arc::<str>::from);
        for writer in &mut writers {
            let (first, second) = (writer.number(&a), writer.number(&b));
            assert_eq!(writer.number(&a), first);
            [first, second, first].into_iter().for_each(|route| writer.sent(route));
        }
        assert_eq!((sent("/a"), sent("/b")), (0, 0), "nothing before the turn is over");
        writers.iter_mut().for_each(ByRoute::hand_over);
        writers.iter_mut().for_each(ByRoute::hand_over);
        assert_eq!((sent("/a"), sent("/b")), (4, 2));
    }
}
