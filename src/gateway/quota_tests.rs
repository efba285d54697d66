use serde_json::json;

use super::*;
use crate::quota::Rates;
use crate::rate::Rate;
use crate::testing::holder;

fn quota(by: QuotaBy, streams: Option<u32>, opens_per_minute: Option<u64>) -> Quota {
    let rates = Rates { opens: opens_per_minute.map(Rate::per_minute), ..Rates::default() };
    Quota { name: by.to_string().into(), by, streams, rates }
}

fn by_claim(name: &str) -> QuotaBy {
    QuotaBy::Claim([name.into()].into())
}

fn at(address: &str) -> Claimant<'static> {
    let connection = FromTo { address: Some(address.parse().unwrap()), route: "/x" };
    Claimant { principal: None, connection: Some(connection) }
}

#[test]
fn open_streams_are_counted_by_identity_and_return() {
    let metrics = Metrics::new("x").unwrap();
    let quotas = Quotas::new(&metrics);
    let rules = [quota(QuotaBy::Address, Some(2), None)];
    let take = |address: &str| quotas.take(&rules, at(address), Instant::now());
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
    let rules = [quota(by_claim("sub"), None, Some(3))];
    let holder = holder(&json!({ "sub": "u1" }));
    let claimant = Claimant { principal: Some(&holder), connection: None };
    let start = Instant::now();
    let take = |after_ms: u64| quotas.take(&rules, claimant, start + Duration::from_millis(after_ms)).map(drop);
    assert!((0..3).all(|_| take(0).is_ok()));
    let wait = take(0).unwrap_err().retry_after.unwrap();
    assert_eq!(wait, Duration::from_secs(20));
    assert!(take(19_999).is_err() && take(20_000).is_ok() && take(20_001).is_err());
}

#[test]
fn routes_and_the_process_are_identities_of_streams_that_are_being_opened() {
    let quotas = Quotas::new(&Metrics::new("x").unwrap());
    let rules = [quota(QuotaBy::Route, Some(1), None), quota(QuotaBy::Process, Some(2), None)];
    let take = |route: &'static str| {
        let connection = Some(FromTo { address: None, route });
        quotas.take(&rules, Claimant { principal: None, connection }, Instant::now())
    };
    let _first = take("/a").unwrap();
    assert_eq!(&*take("/a").unwrap_err().quota, "route");
    let _second = take("/b").unwrap();
    assert_eq!(&*take("/c").unwrap_err().quota, "process");
    let units = quotas.take(&rules, Claimant::default(), Instant::now()).unwrap();
    assert!(units.is_empty(), "a socket that authenticates was counted when it was opened");
}

#[test]
fn the_streams_of_an_identity_share_its_buckets() {
    let quotas = Quotas::new(&Metrics::new("x").unwrap());
    let rates = Rates { commands: Some(Rate::per_second(2)), ..Rates::default() };
    let rules = [Quota { rates, ..quota(QuotaBy::Address, None, None) }, quota(QuotaBy::Route, Some(9), None)];
    let now = Instant::now();
    let meters = |address: &str| {
        let units = quotas.take(&rules, at(address), now).unwrap();
        let meters: Vec<Meter> = units.iter().filter_map(Unit::meter).collect();
        (units, meters)
    };
    let (first, second, other) = (meters("10.0.0.1"), meters("10.0.0.1"), meters("10.0.0.2"));
    assert_eq!(first.1.len(), 1, "a quota of streams alone has nothing to count");
    let takes = |meters: &[Meter]| {
        let are_allowed = meters.iter().all(|meter| meter.wait_for_command(now).is_none());
        meters.iter().filter(|_| are_allowed).for_each(|meter| meter.takes_command(now));
        are_allowed
    };
    assert!(takes(&first.1) && takes(&second.1) && !takes(&first.1) && takes(&other.1));
    drop((first, second));
    assert!(!takes(&meters("10.0.0.1").1), "a stream that is opened again finds the same buckets");
}

#[test]
fn a_quota_that_is_exceeded_takes_no_unit_of_the_others() {
    let quotas = Quotas::new(&Metrics::new("x").unwrap());
    let rules = [quota(QuotaBy::Address, Some(1), None), quota(by_claim("tenant"), Some(1), None)];
    let holder = holder(&json!({ "tenant": "t" }));
    let of = |address: &str| Claimant { principal: Some(&holder), ..at(address) };
    let now = Instant::now();
    let first = quotas.take(&rules, of("10.0.0.1"), now).unwrap();
    assert_eq!(&*quotas.take(&rules, of("10.0.0.2"), now).unwrap_err().quota, "claims.tenant");
    drop(first);
    assert!(quotas.take(&rules, of("10.0.0.2"), now).is_ok());
}

#[test]
fn an_open_that_another_quota_refuses_costs_nothing_of_a_rate() {
    let quotas = Quotas::new(&Metrics::new("x").unwrap());
    let rules = [quota(QuotaBy::Address, None, Some(2)), quota(by_claim("tenant"), Some(1), None)];
    let holder = holder(&json!({ "tenant": "t" }));
    let of = |address: &str| Claimant { principal: Some(&holder), ..at(address) };
    let now = Instant::now();
    let first = quotas.take(&rules, of("10.0.0.1"), now).unwrap();
    (0..9).for_each(|_| assert!(quotas.take(&rules, of("10.0.0.2"), now).is_err()));
    drop(first);
    assert!((0..2).all(|_| quotas.take(&rules, of("10.0.0.2"), now).is_ok()));
}

#[test]
fn identities_without_a_stream_are_bounded() {
    let metrics = Metrics::new("x").unwrap();
    let quotas = Quotas::new(&metrics);
    let rules = [quota(QuotaBy::Address, Some(2), Some(2))];
    let now = Instant::now();
    let kept = quotas.take(&rules, at("10.0.0.1"), now).unwrap();
    for n in 0..=u32::try_from(IDENTITIES_MAX).unwrap() {
        let address = IpAddr::from(std::net::Ipv4Addr::from(0x0b00_0000 + n));
        let connection = Some(FromTo { address: Some(address), route: "/x" });
        drop(quotas.take(&rules, Claimant { principal: None, connection }, now).unwrap());
    }
    let shown = metrics.quota_identities.with_label_values(&["address"]).get();
    assert!(shown <= i64::try_from(IDENTITIES_MAX).unwrap(), "{shown}");
    let second = quotas.take(&rules, at("10.0.0.1"), now).unwrap();
    assert!(quotas.take(&rules, at("10.0.0.1"), now).is_err(), "an identity with a stream is not forgotten");
    drop((kept, second));
}
