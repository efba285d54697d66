//! How the tables of metrics become registered metrics.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// The name that dashboards of Kafka expect, without a prefix.
const UNPREFIXED: &str = "kafka_consumer_lag";
/// Seconds, from a tenth of a millisecond to ten seconds.
const LATENCY_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Creates and registers metrics under one prefix.
pub(super) struct Maker {
    pub(super) registry: Registry,
    pub(super) prefix: String,
}

impl Maker {
    pub(super) fn metric<M: Metric>(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<M> {
        let name = if name == UNPREFIXED { name.into() } else { format!("{}_{name}", self.prefix) };
        let metric = M::create(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// A type of metrics.
pub(super) trait Metric: Collector + Clone + 'static {
    fn create(opts: Opts, labels: &[&str]) -> prometheus::Result<Self>;
}

macro_rules! single {
    ($($type:ty),+) => {$(
        impl Metric for $type {
            fn create(opts: Opts, _labels: &[&str]) -> prometheus::Result<Self> {
                Self::with_opts(opts)
            }
        }
    )+};
}

macro_rules! labelled {
    ($($type:ty),+) => {$(
        impl Metric for $type {
            fn create(opts: Opts, labels: &[&str]) -> prometheus::Result<Self> {
                Self::new(opts, labels)
            }
        }
    )+};
}

single!(IntCounter, IntGauge, Gauge);
labelled!(IntCounterVec, CounterVec, IntGaugeVec);

fn latency(opts: Opts) -> HistogramOpts {
    HistogramOpts::from(opts).buckets(LATENCY_BUCKETS.to_vec())
}

impl Metric for Histogram {
    fn create(opts: Opts, _labels: &[&str]) -> prometheus::Result<Self> {
        Self::with_opts(latency(opts))
    }
}

impl Metric for HistogramVec {
    fn create(opts: Opts, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(latency(opts), labels)
    }
}

/// Declares a struct of metrics, a line each: field, type, name, help, labels. The fields behind `with` are not metrics
/// of their own; their values may use those above them.
macro_rules! table {
    ($(#[$attribute:meta])* pub struct $table:ident {
        $($(#[$note:meta])* $visibility:vis $field:ident: $type:ty = $name:literal, $help:literal $(, [$($label:literal),+])?;)+
    } $(with |$make:ident $(, $argument:ident: $argument_type:ty)*| {
        $($(#[$other_note:meta])* $other_visibility:vis $other:ident: $other_type:ty = $value:expr;)+
    })?) => {
        $(#[$attribute])*
        pub struct $table {
            $(#[doc = $help] $(#[$note])* $visibility $field: $type,)+
            $($($(#[$other_note])* $other_visibility $other: $other_type,)+)?
        }

        impl $table {
            pub(super) fn register(make: &Maker $($(, $argument: $argument_type)*)?) -> prometheus::Result<Self> {
                $(let $field: $type = make.metric($name, $help, &[$($($label),+)?])?;)+
                $(let $make = make; $(let $other = $value;)+)?
                Ok(Self { $($field,)+ $($($other,)+)? })
            }
        }
    };
}
pub(super) use table;
