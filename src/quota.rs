//! Quotas: what one user, tenant, client address, route or the process may use, in streams and in rates.
//!
//! The gateway counts open streams and opens. A session counts what it does in its meters.

mod reservation;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::{Binding, Rule, Source};
use crate::rate::{Bucket, Rate};

pub use reservation::{RESERVED_PERIOD, Reservation};

/// What one identity may use. At least one of the limits is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Identifies its counters: `claims.sub`, or `claims.sub on /orders` for a quota of one route.
    pub name: Arc<str>,
    pub by: QuotaBy,
    /// Streams that are open at a time.
    pub streams: Option<u32>,
    pub rates: Rates,
}

/// The limits of what is counted over time; `None` means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub opens: Option<Rate>,
    /// Commands of WebSockets.
    pub commands: Option<Rate>,
    /// Bytes that replay reads from the log.
    pub replay: Option<Rate>,
    /// Events sent.
    pub events: Option<Rate>,
    /// Bytes of these events.
    pub bytes: Option<Rate>,
}

/// What identifies those for whom a quota counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaBy {
    /// All streams together.
    Process,
    /// The route that a stream is opened on.
    Route,
    /// The client's address; its /64 network for IPv6.
    Address,
    /// A claim of the token, by its path.
    Claim(Box<[Box<str>]>),
}

/// The counters of one identity under one quota.
#[derive(Debug)]
pub struct Buckets {
    pub opens: Bucket,
    commands: Bucket,
    replay: Bucket,
    events: Bucket,
    bytes: Bucket,
}

/// A quota that an open stream counts in: its rates, and the counters that the streams of one identity share.
#[derive(Clone, Debug)]
pub struct Meter {
    pub quota: Arc<str>,
    pub rates: Rates,
    pub buckets: Arc<Buckets>,
}

impl Quota {
    /// The claim that it counts by, as a binding, so that it is kept where the claims of bindings are.
    pub fn binding(&self) -> Option<Binding> {
        match &self.by {
            QuotaBy::Claim(path) => {
                Some(Binding { key: "".into(), sources: [Source::Claim(path.clone())].into(), rule: Rule::Any })
            }
            QuotaBy::Process | QuotaBy::Route | QuotaBy::Address => None,
        }
    }
}

/// As written in the configuration: `address`, `claims.org.id`.
impl fmt::Display for QuotaBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("process"),
            Self::Route => f.write_str("route"),
            Self::Address => f.write_str("address"),
            Self::Claim(path) => write!(f, "claims.{}", path.join(".")),
        }
    }
}

impl Buckets {
    pub fn new(now: Instant) -> Self {
        let new = || Bucket::new(now);
        Self { opens: new(), commands: new(), replay: new(), events: new(), bytes: new() }
    }

    /// Whether nothing is missing in any of them.
    pub fn are_full(&self, now: Instant) -> bool {
        let Self { opens, commands, replay, events, bytes } = self;
        [opens, commands, replay, events, bytes].iter().all(|bucket| bucket.is_full(now))
    }
}

impl Meter {
    /// Whether both count the same identity under the same quota.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.buckets, &other.buckets)
    }

    /// Whether an open stream has to count anything in it.
    pub fn is_needed(&self) -> bool {
        let Rates { opens: _, commands, replay, events, bytes } = self.rates;
        [commands, replay, events, bytes].iter().any(Option::is_some)
    }

    /// Whether it limits events or their bytes.
    pub fn limits_events(&self) -> bool {
        self.rates.events.is_some() || self.rates.bytes.is_some()
    }

    /// How long it takes until an event of this many bytes is allowed; `None` if it is.
    pub fn wait_to_send(&self, bytes: u64, now: Instant) -> Option<Duration> {
        let Self { rates, buckets, .. } = self;
        let events = rates.events.and_then(|rate| buckets.events.wait(rate, 1, now));
        let bytes = rates.bytes.and_then(|rate| buckets.bytes.wait(rate, bytes, now));
        events.max(bytes)
    }

    /// Takes an event of this many bytes.
    pub fn sends(&self, bytes: u64, now: Instant) {
        let Self { rates, buckets, .. } = self;
        rates.events.into_iter().for_each(|rate| buckets.events.take(rate, 1, now));
        rates.bytes.into_iter().for_each(|rate| buckets.bytes.take(rate, bytes, now));
    }

    /// Gives back events that were taken and not sent.
    fn give_back(&self, events: u64, bytes: u64) {
        let Self { rates, buckets, .. } = self;
        rates.events.into_iter().for_each(|rate| buckets.events.give_back(rate, events));
        rates.bytes.into_iter().for_each(|rate| buckets.bytes.give_back(rate, bytes));
    }

    /// How long it takes until replay may read more; `None` if it may.
    pub fn wait_to_replay(&self, now: Instant) -> Option<Duration> {
        self.rates.replay.and_then(|rate| self.buckets.replay.wait(rate, 1, now))
    }

    /// Takes bytes that replay has read.
    pub fn replays(&self, bytes: u64, now: Instant) {
        self.rates.replay.into_iter().for_each(|rate| self.buckets.replay.take(rate, bytes, now));
    }

    /// How long it takes until a command is allowed; `None` if it is.
    pub fn wait_for_command(&self, now: Instant) -> Option<Duration> {
        self.rates.commands.and_then(|rate| self.buckets.commands.wait(rate, 1, now))
    }

    /// Takes one command.
    pub fn takes_command(&self, now: Instant) {
        self.rates.commands.into_iter().for_each(|rate| self.buckets.commands.take(rate, 1, now));
    }
}
