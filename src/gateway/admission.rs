//! Limits how many streams are open: in the process and per route, including the further subscriptions of WebSockets.
//! It admits or rejects at once; nothing waits here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntGauge, IntGaugeVec};

use super::quota::{Claimant, Exceeded, FromTo, Quotas, Unit};
use crate::access::Principal;
use crate::admission::{Admitted, NoSlot, Slots};
use crate::metrics::Metrics;
use crate::quota::{Meter, Quota, QuotaBy};
use crate::route::StreamRoute;

/// `Retry-After` of a rejected stream: at least this long, plus up to [`RETRY_SPREAD`] at random.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
pub(super) const RETRY_SPREAD: Duration = Duration::from_secs(10);

/// WebSockets of the process that were opened without a token and have not authenticated yet.
const UNAUTHENTICATED_MAX: usize = 1024;

/// The limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Process,
    Route,
    Unauthenticated,
    Quota(Exceeded),
}

/// The open streams. The counters outlive configurations: a route that stays in the configuration keeps its count.
#[derive(Debug)]
pub(super) struct Admission {
    process: Arc<AtomicUsize>,
    /// By pattern. As many as the configurations of this process have named.
    routes: Mutex<HashMap<Arc<str>, Count>>,
    shown: IntGaugeVec,
    unauthenticated: Count,
    quotas: Quotas,
}

/// A request for a slot, and the limits of the process that apply to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) max_streams: usize,
    pub(super) quotas: &'a [Quota],
    pub(super) claimant: Claimant<'a>,
    pub(super) now: Instant,
}

/// The slots that one WebSocket takes after its handshake, under the quotas of its snapshot.
#[derive(Debug)]
pub(super) struct SocketSlots {
    pub(super) admission: Arc<Admission>,
    pub(super) quotas: Arc<[Quota]>,
    /// The address of the client.
    pub(super) address: Option<IpAddr>,
}

/// The open streams of one route, or those without a token: the counter that the limit applies to, and its gauge.
#[derive(Clone, Debug)]
struct Count {
    open: Arc<AtomicUsize>,
    shown: IntGauge,
}

/// The right to have one stream open. It holds one unit of the process's limit, and one of its route's limit or of the
/// limit of unauthenticated WebSockets.
#[derive(Debug)]
pub(super) struct Slot {
    _process: Counted,
    _route: Option<ShownSlot>,
    quotas: Box<[Unit]>,
}

/// One unit of a counter that has a gauge.
#[derive(Debug)]
struct ShownSlot {
    _counted: Counted,
    shown: IntGauge,
}

impl Slot {
    /// The quotas that the open stream counts in.
    pub(super) fn meters(&self) -> Vec<Meter> {
        self.quotas.iter().filter_map(Unit::meter).collect()
    }
}

impl Count {
    fn take(&self, limit: usize) -> Option<ShownSlot> {
        let counted = Counted::take(&self.open, limit)?;
        self.shown.inc();
        Some(ShownSlot { _counted: counted, shown: self.shown.clone() })
    }
}

impl Admission {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let unauthenticated = Count { open: Arc::default(), shown: metrics.unauthenticated_websockets.clone() };
        Self {
            process: Arc::default(),
            routes: Mutex::default(),
            shown: metrics.route_streams.clone(),
            unauthenticated,
            quotas: Quotas::new(metrics),
        }
    }

    /// Takes a slot if the limits of the process, the route's own limit and the claimant's quotas allow it.
    pub(super) fn admit(&self, route: &StreamRoute, asked: &Asked<'_>) -> Result<Slot, Full> {
        let process = Counted::take(&self.process, asked.max_streams).ok_or(Full::Process)?;
        let on_route = self.on_route(route).ok_or(Full::Route)?;
        let quotas = self.take_quotas(route, asked)?;
        Ok(Slot { _process: process, _route: Some(on_route), quotas })
    }

    /// Takes a slot of the process for a WebSocket without a token, and one of [`UNAUTHENTICATED_MAX`], which the
    /// socket holds until it authenticates.
    pub(super) fn admit_unauthenticated(
        &self,
        route: &StreamRoute,
        asked: &Asked<'_>,
    ) -> Result<(Slot, crate::admission::Slot), Full> {
        let process = Counted::take(&self.process, asked.max_streams).ok_or(Full::Process)?;
        let waits = self.unauthenticated.take(UNAUTHENTICATED_MAX).ok_or(Full::Unauthenticated)?;
        let quotas = self.take_quotas(route, asked)?;
        Ok((Slot { _process: process, _route: None, quotas }, Box::new(waits)))
    }

    fn take_quotas(&self, route: &StreamRoute, asked: &Asked<'_>) -> Result<Box<[Unit]>, Full> {
        let quotas = asked.quotas.iter().chain(&*route.quotas);
        self.quotas.take(quotas, asked.claimant, asked.now).map_err(Full::Quota)
    }

    fn on_route(&self, route: &StreamRoute) -> Option<ShownSlot> {
        self.of_route(&route.pattern).take(route.max_streams.unwrap_or(usize::MAX))
    }

    fn of_route(&self, pattern: &Arc<str>) -> Count {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Count { open: Arc::default(), shown: self.shown.with_label_values(&[&**pattern]) };
        routes.entry(pattern.clone()).or_insert_with(new).clone()
    }
}

impl Slots for SocketSlots {
    fn subscribe(&self, route: &StreamRoute, holder: Option<&Principal>, now: Instant) -> Result<Admitted, NoSlot> {
        let connection = FromTo { address: self.address, route: &route.pattern };
        let claimant = Claimant { principal: holder, connection: Some(connection) };
        let by_route = self.quotas.iter().filter(|quota| quota.by == QuotaBy::Route);
        self.take(route, by_route, claimant, now)
    }

    fn take_for(&self, route: &StreamRoute, holder: &Principal, now: Instant) -> Result<Admitted, NoSlot> {
        let claimant = Claimant { principal: Some(holder), connection: None };
        self.take(route, self.quotas.iter(), claimant, now)
    }
}

impl SocketSlots {
    /// Takes a slot of the route, one of each of these quotas and one of each quota of the route.
    fn take<'a>(
        &'a self,
        route: &'a StreamRoute,
        quotas: impl Iterator<Item = &'a Quota>,
        claimant: Claimant<'_>,
        now: Instant,
    ) -> Result<Admitted, NoSlot> {
        let on_route = self.admission.on_route(route).ok_or(NoSlot::Route)?;
        let quotas = quotas.chain(&*route.quotas);
        let units = self.admission.quotas.take(quotas, claimant, now);
        let units = units.map_err(|exceeded| NoSlot::Quota(exceeded.quota))?;
        let meters = units.iter().filter_map(Unit::meter).collect();
        Ok(Admitted { slot: Box::new((on_route, units)), meters })
    }
}

impl Drop for ShownSlot {
    fn drop(&mut self) {
        self.shown.dec();
    }
}

/// One unit of a counter, until it is dropped.
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

/// A random delay between [`RETRY_AFTER`] and [`RETRY_AFTER`] + [`RETRY_SPREAD`], so that clients that were rejected
/// together do not return together.
pub(super) fn retry_delay() -> Duration {
    RETRY_AFTER + RETRY_SPREAD.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::route;

    fn asked(max_streams: usize) -> Asked<'static> {
        Asked { max_streams, quotas: &[], claimant: Claimant::default(), now: Instant::now() }
    }

    #[test]
    fn limits_hold_and_slots_return() {
        let metrics = Metrics::new("x").unwrap();
        let admission = Admission::new(&metrics);
        let narrow = StreamRoute { max_streams: Some(1), ..route("/narrow") };
        let wide = route("/wide");
        let first = admission.admit(&narrow, &asked(2)).unwrap();
        assert_eq!(admission.admit(&narrow, &asked(2)).unwrap_err(), Full::Route);
        assert_eq!(metrics.route_streams.with_label_values(&["/narrow"]).get(), 1);
        let second = admission.admit(&wide, &asked(2)).unwrap();
        assert_eq!(admission.admit(&wide, &asked(2)).unwrap_err(), Full::Process);
        drop(first);
        drop(admission.admit(&narrow, &asked(2)).unwrap());
        drop(second);
        assert_eq!(admission.process.load(Ordering::Acquire), 0);
        assert_eq!(metrics.route_streams.with_label_values(&["/narrow"]).get(), 0);
    }

    #[test]
    fn sockets_without_a_token_are_limited_in_number_and_take_no_slot_of_a_route() {
        let metrics = Metrics::new("x").unwrap();
        let admission = Admission::new(&metrics);
        let mut waiting: Vec<_> = (0..UNAUTHENTICATED_MAX)
            .map(|_| admission.admit_unauthenticated(&route("/x"), &asked(usize::MAX)).unwrap())
            .collect();
        assert_eq!(
            admission.admit_unauthenticated(&route("/x"), &asked(usize::MAX)).unwrap_err(),
            Full::Unauthenticated
        );
        assert_eq!(admission.process.load(Ordering::Acquire), UNAUTHENTICATED_MAX, "a refused one takes nothing");
        assert_eq!(metrics.unauthenticated_websockets.get(), UNAUTHENTICATED_MAX as i64);
        let (_process, waits) = waiting.pop().unwrap();
        drop(waits);
        assert!(
            admission.admit_unauthenticated(&route("/x"), &asked(UNAUTHENTICATED_MAX)).is_err(),
            "it is still one of the process"
        );
        assert!(admission.admit_unauthenticated(&route("/x"), &asked(usize::MAX)).is_ok());
        drop(waiting);
        assert_eq!(metrics.unauthenticated_websockets.get(), 0);
    }

    #[test]
    fn delays_are_spread() {
        let delays: Vec<_> = std::iter::repeat_with(retry_delay).take(64).collect();
        assert!(delays.iter().all(|delay| (RETRY_AFTER..RETRY_AFTER + RETRY_SPREAD).contains(delay)));
        assert!(delays.iter().any(|delay| delay != &delays[0]));
    }
}
