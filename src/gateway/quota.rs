//! Quotas: how many streams one user, tenant, client address or route has open, how many it opens a minute, and the
//! buckets that its open streams share.
//!
//! A quota counts by identity: the text of a claim, a network address, a route's pattern. Time is an argument, except
//! where a stream ends.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntGauge;

use crate::access::Principal;
use crate::metrics::Metrics;
use crate::quota::{Buckets, Meter, Quota, QuotaBy};

/// The most identities that a quota keeps beside those that have a stream open. Beyond, it forgets those whose buckets
/// are full; if that is not enough, all that have no open stream.
const IDENTITIES_MAX: usize = 16_384;
/// The prefix of an IPv6 address that counts as one client: networks assign a /64 to a site (RFC 6177).
const IPV6_CLIENT_PREFIX: u32 = 64;

/// The counters of all quotas, by the quota's name. They outlive configurations.
#[derive(Debug)]
pub(super) struct Quotas {
    counters: Mutex<HashMap<Arc<str>, Arc<Counters>>>,
    identities: prometheus::IntGaugeVec,
}

/// The identity that an open stream is counted for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claimant<'a> {
    pub(super) principal: Option<&'a Principal>,
    /// `None` where it has been counted: for a WebSocket that authenticates after it was opened.
    pub(super) connection: Option<FromTo<'a>>,
}

/// The client and the route of a stream that is being opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct FromTo<'a> {
    pub(super) address: Option<IpAddr>,
    pub(super) route: &'a str,
}

/// Why a stream is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    /// The quota's name: `address`, `claims.sub`.
    pub(super) quota: Arc<str>,
    pub(super) limit: u64,
    /// When the rate limit allows the next open. `None` if the limit of open streams is exceeded.
    pub(super) retry_after: Option<Duration>,
}

/// A unit of a quota: one open stream of one identity. Dropping it releases the unit.
#[derive(Debug)]
pub(super) struct Unit {
    counters: Arc<Counters>,
    identity: Box<str>,
    meter: Meter,
}

#[derive(Debug)]
struct Counters {
    identities: Mutex<Identities>,
    shown: IntGauge,
}

#[derive(Debug, Default)]
struct Identities {
    counts: HashMap<Box<str>, Count>,
    /// How many of them have a stream open.
    open: usize,
}

#[derive(Clone, Debug)]
struct Count {
    open: u32,
    buckets: Arc<Buckets>,
}

impl Quotas {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { counters: Mutex::default(), identities: metrics.quota_identities.clone() }
    }

    /// Takes one unit of each quota that applies to the claimant. A quota by a claim that the claimant does not have
    /// does not apply.
    ///
    /// # Errors
    ///
    /// The first quota that is exceeded. Then no unit is held.
    pub(super) fn take<'a>(
        &self,
        quotas: impl IntoIterator<Item = &'a Quota>,
        claimant: Claimant<'_>,
        now: Instant,
    ) -> Result<Box<[Unit]>, Exceeded> {
        let mut units = Vec::new();
        for quota in quotas {
            if let Some(identity) = identity(&quota.by, claimant) {
                match self.counters(&quota.name).take(identity, quota, now) {
                    Ok(unit) => units.push(unit),
                    Err(exceeded) => {
                        units.iter().for_each(Unit::refund);
                        return Err(exceeded);
                    }
                }
            }
        }
        Ok(units.into())
    }

    fn counters(&self, name: &Arc<str>) -> Arc<Counters> {
        let mut counters = lock(&self.counters);
        let shown = || self.identities.with_label_values(&[&**name]);
        let new = || Arc::new(Counters { identities: Mutex::default(), shown: shown() });
        counters.entry(name.clone()).or_insert_with(new).clone()
    }
}

impl Counters {
    fn take(self: &Arc<Self>, identity: Box<str>, quota: &Quota, now: Instant) -> Result<Unit, Exceeded> {
        let mut identities = lock(&self.identities);
        let known = identities.counts.get(&identity).cloned();
        let count = known.unwrap_or_else(|| Count { open: 0, buckets: Arc::new(Buckets::new(now)) });
        let exceeded = |limit, retry_after| Exceeded { quota: quota.name.clone(), limit, retry_after };
        if let Some(limit) = quota.streams.filter(|limit| count.open >= *limit) {
            return Err(exceeded(limit.into(), None));
        }
        let buckets = count.buckets.clone();
        if let Some(rate) = quota.rates.opens {
            if let Some(wait) = buckets.opens.wait(rate, 1, now) {
                return Err(exceeded(rate.units(), Some(wait)));
            }
            buckets.opens.take(rate, 1, now);
        }
        identities.open(&identity, count, now);
        self.show(&identities);
        let meter = Meter { quota: quota.name.clone(), rates: quota.rates, buckets };
        Ok(Unit { counters: self.clone(), identity, meter })
    }

    fn show(&self, identities: &Identities) {
        self.shown.set(i64::try_from(identities.counts.len()).unwrap_or(i64::MAX));
    }
}

impl Identities {
    /// Counts one more open stream.
    fn open(&mut self, identity: &str, mut count: Count, now: Instant) {
        let is_known = self.counts.contains_key(identity);
        if !is_known && self.is_crowded() {
            self.counts.retain(|_, count| count.open > 0 || !count.buckets.are_full(now));
            if self.is_crowded() {
                self.counts.retain(|_, count| count.open > 0);
            }
        }
        self.open += usize::from(count.open == 0);
        count.open += 1;
        self.counts.insert(identity.into(), count);
    }

    fn is_crowded(&self) -> bool {
        self.counts.len() - self.open >= IDENTITIES_MAX
    }

    fn close(&mut self, identity: &str, now: Instant) {
        let Some(count) = self.counts.get_mut(identity) else { return };
        count.open = count.open.saturating_sub(1);
        if count.open == 0 {
            self.open = self.open.saturating_sub(1);
            if count.buckets.are_full(now) {
                self.counts.remove(identity);
            }
        }
    }
}

impl Unit {
    /// What the open stream has to count in, if anything.
    pub(super) fn meter(&self) -> Option<Meter> {
        Some(&self.meter).filter(|meter| meter.is_needed()).cloned()
    }

    /// Gives back what the open cost of the rate, where another quota refuses the stream.
    fn refund(&self) {
        if let Some(rate) = self.meter.rates.opens {
            self.meter.buckets.opens.give_back(rate, 1);
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let mut identities = lock(&self.counters.identities);
        identities.close(&self.identity, Instant::now());
        self.counters.show(&identities);
    }
}

/// The identity of the claimant under a quota.
fn identity(by: &QuotaBy, claimant: Claimant<'_>) -> Option<Box<str>> {
    match by {
        QuotaBy::Process => claimant.connection.map(|_| Box::default()),
        QuotaBy::Route => Some(claimant.connection?.route.into()),
        QuotaBy::Address => Some(client(claimant.connection?.address?).to_string().into()),
        QuotaBy::Claim(path) => claimant.principal?.claim_text(path),
    }
}

/// The address that stands for a client: an IPv4 address, or the network of an IPv6 address.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> (128 - IPV6_CLIENT_PREFIX) << (128 - IPV6_CLIENT_PREFIX);
            Ipv6Addr::from(network).into()
        }
        v4 => v4,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
