//! How many streams may be open: in the process, and on each route, where the further subscriptions of WebSockets count
//! as well. Counts, and refuses; nothing waits here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntGauge, IntGaugeVec};

use crate::admission::Slots;
use crate::metrics::Metrics;
use crate::route::StreamRoute;

/// When a client whose stream was refused may come again: at least this much later, plus up to [`RETRY_SPREAD`].
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
pub(super) const RETRY_SPREAD: Duration = Duration::from_secs(10);

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Process,
    Route,
}

/// The streams open now. Counters outlive configurations: a route that stays keeps its count.
#[derive(Debug)]
pub(super) struct Admission {
    process: Arc<AtomicUsize>,
    /// By pattern; as many as configurations ever named.
    routes: Mutex<HashMap<Arc<str>, OnRoute>>,
    shown: IntGaugeVec,
}

/// The streams of one route: the number that is held against a limit, and the one that is shown.
#[derive(Clone, Debug)]
struct OnRoute {
    open: Arc<AtomicUsize>,
    shown: IntGauge,
}

/// The right to have one stream open.
#[derive(Debug)]
pub(super) struct Slot {
    _process: Counted,
    _route: RouteSlot,
}

/// One of the streams that a route may have.
#[derive(Debug)]
struct RouteSlot {
    _counted: Counted,
    shown: IntGauge,
}

impl Admission {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { process: Arc::default(), routes: Mutex::default(), shown: metrics.route_streams.clone() }
    }

    /// Takes a slot, if `max_streams` of the process and the route's own limit allow.
    pub(super) fn admit(&self, route: &StreamRoute, max_streams: usize) -> Result<Slot, Full> {
        let process = Counted::take(&self.process, max_streams).ok_or(Full::Process)?;
        let on_route = self.on_route(route).ok_or(Full::Route)?;
        Ok(Slot { _process: process, _route: on_route })
    }

    fn on_route(&self, route: &StreamRoute) -> Option<RouteSlot> {
        let OnRoute { open, shown } = self.of_route(&route.pattern);
        let counted = Counted::take(&open, route.max_streams.unwrap_or(usize::MAX))?;
        shown.inc();
        Some(RouteSlot { _counted: counted, shown })
    }

    fn of_route(&self, pattern: &Arc<str>) -> OnRoute {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || OnRoute { open: Arc::default(), shown: self.shown.with_label_values(&[&**pattern]) };
        routes.entry(pattern.clone()).or_insert_with(new).clone()
    }
}

impl Slots for Admission {
    fn take(&self, route: &StreamRoute) -> Option<crate::admission::Slot> {
        self.on_route(route).map(|slot| Box::new(slot) as crate::admission::Slot)
    }
}

impl Drop for RouteSlot {
    fn drop(&mut self) {
        self.shown.dec();
    }
}

/// One, counted until it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn take(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |open: usize| (open < limit).then_some(open + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self(count.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A delay between [`RETRY_AFTER`] and [`RETRY_AFTER`] + [`RETRY_SPREAD`], so that those refused together don't come
/// back together.
pub(super) fn retry_delay() -> Duration {
    RETRY_AFTER + RETRY_SPREAD.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::route;

    #[test]
    fn limits_hold_and_slots_return() {
        let metrics = Metrics::new("x").unwrap();
        let admission = Admission::new(&metrics);
        let narrow = StreamRoute { max_streams: Some(1), ..route("/narrow") };
        let wide = route("/wide");
        let first = admission.admit(&narrow, 2).unwrap();
        assert_eq!(admission.admit(&narrow, 2).unwrap_err(), Full::Route);
        assert_eq!(metrics.route_streams.with_label_values(&["/narrow"]).get(), 1);
        let second = admission.admit(&wide, 2).unwrap();
        assert_eq!(admission.admit(&wide, 2).unwrap_err(), Full::Process);
        drop(first);
        drop(admission.admit(&narrow, 2).unwrap());
        drop(second);
        assert_eq!(admission.process.load(Ordering::Acquire), 0);
        assert_eq!(metrics.route_streams.with_label_values(&["/narrow"]).get(), 0);
    }

    #[test]
    fn delays_are_spread() {
        let delays: Vec<_> = std::iter::repeat_with(retry_delay).take(64).collect();
        assert!(delays.iter().all(|delay| (RETRY_AFTER..RETRY_AFTER + RETRY_SPREAD).contains(delay)));
        assert!(delays.iter().any(|delay| delay != &delays[0]));
    }
}
