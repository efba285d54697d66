//! Quotas: how many streams one user, tenant or client address has open, and how many it opens a minute.
//!
//! A quota counts by identity: the text of a claim, or a network address. Opens are limited by the generic cell rate
//! algorithm (GCRA, ITU-T Recommendation I.371, annex A), which keeps one time per identity. Time is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;

use crate::access::Principal;
use crate::config::snapshot::{Quota, QuotaBy};
use crate::metrics::Metrics;

/// The most identities that a quota keeps beside those that have a stream open. Beyond, it forgets the opens of all
/// identities without an open stream.
const IDENTITIES_MAX: usize = 16_384;
/// The window of `opens_per_minute`, in microseconds.
const WINDOW_US: i64 = 60_000_000;
/// The prefix of an IPv6 address that counts as one client: networks assign a /64 to a site (RFC 6177).
const IPV6_CLIENT_PREFIX: u32 = 64;

/// The counters of all quotas, by the quota's name. They outlive configurations.
#[derive(Debug)]
pub(super) struct Quotas {
    counters: Mutex<HashMap<Box<str>, Arc<Counters>>>,
    identities: prometheus::IntGaugeVec,
}

/// The identity that an open stream is counted for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claimant<'a> {
    pub(super) principal: Option<&'a Principal>,
    pub(super) address: Option<IpAddr>,
}

/// Why a stream is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    /// The quota's name: `address`, `claims.sub`.
    pub(super) quota: Box<str>,
    pub(super) limit: u32,
    /// When the rate limit allows the next open. `None` if the limit of open streams is exceeded.
    pub(super) retry_after: Option<Duration>,
}

/// A unit of a quota: one open stream of one identity. Dropping it releases the unit.
#[derive(Debug)]
pub(super) struct Unit {
    counters: Arc<Counters>,
    identity: Box<str>,
    /// What the open cost of the rate, in microseconds.
    cost_us: i64,
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

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: u32,
    /// The theoretical arrival time of the GCRA, in microseconds since the Unix epoch.
    arrival_us: i64,
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
    pub(super) fn take(&self, quotas: &[Quota], claimant: Claimant<'_>, now_ms: i64) -> Result<Box<[Unit]>, Exceeded> {
        let mut units = Vec::new();
        for quota in quotas {
            if let Some(identity) = identity(&quota.by, claimant) {
                match self.counters(&quota.by).take(identity, quota, now_ms.saturating_mul(1000)) {
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

    fn counters(&self, by: &QuotaBy) -> Arc<Counters> {
        let name = by.to_string();
        let mut counters = lock(&self.counters);
        let shown = || self.identities.with_label_values(&[&*name]);
        let new = || Arc::new(Counters { identities: Mutex::default(), shown: shown() });
        counters.entry(name.as_str().into()).or_insert_with(new).clone()
    }
}

impl Counters {
    fn take(self: &Arc<Self>, identity: Box<str>, quota: &Quota, now_us: i64) -> Result<Unit, Exceeded> {
        let mut identities = lock(&self.identities);
        let mut count = identities.counts.get(&identity).copied().unwrap_or_default();
        let exceeded = |limit, retry_after| Exceeded { quota: quota.by.to_string().into(), limit, retry_after };
        if let Some(limit) = quota.streams.filter(|limit| count.open >= *limit) {
            return Err(exceeded(limit, None));
        }
        let cost_us = quota.opens_per_minute.map_or(0, |limit| WINDOW_US / i64::from(limit.max(1)));
        if let Some(limit) = quota.opens_per_minute {
            count.arrival_us =
                next_arrival(count.arrival_us, cost_us, now_us).map_err(|wait| exceeded(limit, Some(wait)))?;
        }
        identities.open(&identity, count);
        self.show(&identities);
        Ok(Unit { counters: self.clone(), identity, cost_us })
    }

    fn show(&self, identities: &Identities) {
        self.shown.set(i64::try_from(identities.counts.len()).unwrap_or(i64::MAX));
    }
}

impl Identities {
    /// Counts one more open stream.
    fn open(&mut self, identity: &str, mut count: Count) {
        let is_known = self.counts.contains_key(identity);
        if !is_known && self.counts.len() - self.open >= IDENTITIES_MAX {
            self.counts.retain(|_, count| count.open > 0);
        }
        self.open += usize::from(count.open == 0);
        count.open += 1;
        self.counts.insert(identity.into(), count);
    }

    fn close(&mut self, identity: &str) {
        let Some(count) = self.counts.get_mut(identity) else { return };
        count.open = count.open.saturating_sub(1);
        if count.open == 0 {
            self.open = self.open.saturating_sub(1);
            if count.arrival_us == 0 {
                self.counts.remove(identity);
            }
        }
    }
}

impl Unit {
    /// Gives back what the open cost of the rate, where another quota refuses the stream.
    fn refund(&self) {
        if let Some(count) = lock(&self.counters.identities).counts.get_mut(&self.identity) {
            count.arrival_us = count.arrival_us.saturating_sub(self.cost_us);
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let mut identities = lock(&self.counters.identities);
        identities.close(&self.identity);
        self.counters.show(&identities);
    }
}

/// The arrival time after one more open, or how long until one is allowed. A burst of a whole window is allowed. No
/// arrival lies more than a window ahead, unless the clock was set back.
fn next_arrival(arrival_us: i64, cost_us: i64, now_us: i64) -> Result<i64, Duration> {
    let next = arrival_us.clamp(now_us, now_us.saturating_add(WINDOW_US)) + cost_us;
    match next - now_us - WINDOW_US {
        early @ 1.. => Err(Duration::from_micros(early.unsigned_abs())),
        _ => Ok(next),
    }
}

/// The identity of the claimant under a quota.
fn identity(by: &QuotaBy, claimant: Claimant<'_>) -> Option<Box<str>> {
    match by {
        QuotaBy::Address => Some(client(claimant.address?).to_string().into()),
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::holder;

    fn quota(by: QuotaBy, streams: Option<u32>, opens_per_minute: Option<u32>) -> Quota {
        Quota { by, streams, opens_per_minute }
    }

    fn at(address: &str) -> Claimant<'static> {
        Claimant { principal: None, address: Some(address.parse().unwrap()) }
    }

    #[test]
    fn open_streams_are_counted_by_identity_and_return() {
        let metrics = Metrics::new("x").unwrap();
        let quotas = Quotas::new(&metrics);
        let rules = [quota(QuotaBy::Address, Some(2), None)];
        let take = |address: &str| quotas.take(&rules, at(address), 0);
        let first = take("10.0.0.1").unwrap();
        let _second = take("::ffff:10.0.0.1").unwrap();
        let exceeded = Exceeded { quota: "address".into(), limit: 2, retry_after: None };
        assert_eq!(take("10.0.0.1").unwrap_err(), exceeded);
        let _other = take("10.0.0.2").unwrap();
        drop(first);
        let _third = take("10.0.0.1").unwrap();
        let network = [take("2001:db8::1").unwrap(), take("2001:db8::ffff:1").unwrap()];
        assert!(take("2001:db8::2").is_err() && take("2001:db8:0:1::2").is_ok());
        drop(network);
        assert_eq!(metrics.quota_identities.with_label_values(&["address"]).get(), 2, "those with open streams");
    }

    #[test]
    fn opens_are_limited_by_a_rate_with_a_burst() {
        let quotas = Quotas::new(&Metrics::new("x").unwrap());
        let rules = [quota(QuotaBy::Claim(["sub".into()].into()), None, Some(3))];
        let holder = holder(&json!({ "sub": "u1" }));
        let claimant = Claimant { principal: Some(&holder), address: None };
        let start = 1_700_000_000_000;
        let take = |after_ms: i64| quotas.take(&rules, claimant, start + after_ms).map(drop);
        assert!((0..3).all(|_| take(0).is_ok()));
        let wait = take(0).unwrap_err().retry_after.unwrap();
        assert_eq!(wait, Duration::from_secs(20));
        assert!(take(19_999).is_err() && take(20_000).is_ok() && take(20_001).is_err());
    }

    #[test]
    fn a_quota_that_is_exceeded_takes_no_unit_of_the_others() {
        let quotas = Quotas::new(&Metrics::new("x").unwrap());
        let by_tenant = QuotaBy::Claim(["tenant".into()].into());
        let rules = [quota(QuotaBy::Address, Some(1), None), quota(by_tenant, Some(1), None)];
        let holder = holder(&json!({ "tenant": "t" }));
        let of = |address: &str| Claimant { principal: Some(&holder), ..at(address) };
        let first = quotas.take(&rules, of("10.0.0.1"), 0).unwrap();
        assert_eq!(&*quotas.take(&rules, of("10.0.0.2"), 0).unwrap_err().quota, "claims.tenant");
        drop(first);
        assert!(quotas.take(&rules, of("10.0.0.2"), 0).is_ok());
    }

    #[test]
    fn an_open_that_another_quota_refuses_costs_nothing_of_a_rate() {
        let quotas = Quotas::new(&Metrics::new("x").unwrap());
        let by_tenant = QuotaBy::Claim(["tenant".into()].into());
        let rules = [quota(QuotaBy::Address, None, Some(2)), quota(by_tenant, Some(1), None)];
        let holder = holder(&json!({ "tenant": "t" }));
        let of = |address: &str| Claimant { principal: Some(&holder), ..at(address) };
        let start = 1_700_000_000_000;
        let first = quotas.take(&rules, of("10.0.0.1"), start).unwrap();
        (0..9).for_each(|_| assert!(quotas.take(&rules, of("10.0.0.2"), start).is_err()));
        drop(first);
        assert!((0..2).all(|_| quotas.take(&rules, of("10.0.0.2"), start).is_ok()));
    }

    #[test]
    fn a_clock_that_is_set_back_delays_opens_by_a_window_at_most() {
        let quotas = Quotas::new(&Metrics::new("x").unwrap());
        let rules = [quota(QuotaBy::Address, None, Some(2))];
        let (hour, start) = (3_600_000, 1_700_000_000_000);
        assert!(quotas.take(&rules, at("10.0.0.1"), start).is_ok());
        let wait = quotas.take(&rules, at("10.0.0.1"), start - hour).unwrap_err().retry_after.unwrap();
        assert!(wait <= Duration::from_secs(60), "{wait:?}");
    }

    #[test]
    fn identities_without_a_stream_are_bounded() {
        let metrics = Metrics::new("x").unwrap();
        let quotas = Quotas::new(&metrics);
        let rules = [quota(QuotaBy::Address, Some(2), Some(2))];
        let kept = quotas.take(&rules, at("10.0.0.1"), 1).unwrap();
        for n in 0..=u32::try_from(IDENTITIES_MAX).unwrap() {
            let address = IpAddr::from(std::net::Ipv4Addr::from(0x0b00_0000 + n));
            drop(quotas.take(&rules, Claimant { principal: None, address: Some(address) }, 1).unwrap());
        }
        let shown = metrics.quota_identities.with_label_values(&["address"]).get();
        assert!(shown <= i64::try_from(IDENTITIES_MAX).unwrap(), "{shown}");
        let second = quotas.take(&rules, at("10.0.0.1"), 1).unwrap();
        assert!(quotas.take(&rules, at("10.0.0.1"), 1).is_err(), "an identity with a stream is not forgotten");
        drop((kept, second));
    }
}
