//! The keys of the process: its listeners, metrics, traces, the end of streams, and the REST service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Change::{Live, Restart};
use super::{
    Absent, Address, Count, Defaulted, Is, Key, Mixed, Optional, Period, Required, Share, Text, hours, mins, ms, secs,
    table,
};
use crate::config::snapshot::RETRIES_MAX;

pub(in crate::config) const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9090);
const TIMEOUT: RangeInclusive<Duration> = ms(1)..=hours(24);

table! { ADMIN {
    ADMIN_LISTEN: Defaulted<Address> = (
        "listen", Address, Is(ADMIN_ADDRESS), Restart,
        "serves `/metrics`, `/livez`, `/readyz`, and to the same host the [admin page](operations.md#the-admin-page), \
         `/-/drain`, `/-/reload` and `/-/revoke`; `--admin` overrides it",
    );
}}

table! { METRICS {
    METRICS_PREFIX: Defaulted<Text> = (
        "prefix",
        Text {
            type_name: "text",
            pattern: "^[a-zA-Z_][a-zA-Z0-9_]*$",
            expected: "a metric name's beginning: `[a-zA-Z_][a-zA-Z0-9_]*`",
        },
        Is("notifications"), Restart,
        "prefix of every metric except `kafka_consumer_lag`; `[a-zA-Z_][a-zA-Z0-9_]*`",
    );
}}

table! { TRACING {
    TRACING_ENDPOINT: Optional<Text> = (
        "endpoint",
        Text {
            type_name: "URL",
            pattern: "^http://[^/?#@]+[^?#]*$",
            expected: "the URL of an OpenTelemetry collector's receiver such as `http://127.0.0.1:4318`; \
                       `https` is not supported: send to a collector in the pod or on the node",
        },
        Absent("none: no traces"), Restart,
        "the receiver of an OpenTelemetry collector (OTLP over HTTP), such as `http://127.0.0.1:4318`; sidestream appends \
         `/v1/traces`. No `https`: see [Traces](operations.md#traces)",
    );
    // One trace in a hundred costs little.
    TRACING_SAMPLE: Defaulted<Share> = (
        "sample", Share, Is(0.01), Live,
        "the fraction of traces sampled, of those that sidestream starts; an incoming `traceparent` carries its own \
         decision",
    );
    SERVICE_NAME: Defaulted<Text> = (
        "service_name",
        Text { type_name: "1 to 255 bytes", pattern: "^[\\s\\S]{1,255}$", expected: "a text of 1 to 255 bytes" },
        Is("sidestream"), Restart, "`service.name` of all spans",
    );
}}

table! { DRAIN {
    DRAIN_BUDGET: Defaulted<Period> = (
        "budget", Period(ms(100)..=mins(10)), Is(secs(10)), Live,
        "the maximum duration of a [drain](operations.md#drain); streams that are still open then are cut",
    );
    RECONNECTS_PER_SECOND: Defaulted<Count> = (
        "reconnects_per_second", Count(1..=100_000), Is(100), Live,
        "how many streams a drain ends per second; more if the budget is too short",
    );
}}

table! { UPSTREAM {
    UPSTREAM_ADDRESS: Key<Text, Required> = (
        "address",
        Text {
            type_name: "`host:port`",
            pattern: r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$",
            expected: "`host:port` such as `127.0.0.1:3000`",
        },
        Required("the `host:port` of the REST service"), Live,
        "the name is resolved for each new connection. The environment variable `SIDESTREAM_UPSTREAM_PORT` overrides the \
         address with that port of 127.0.0.1",
    );
    CONNECT_TIMEOUT: Defaulted<Period> =
        ("connect_timeout", Period(TIMEOUT), Is(secs(5)), Live, "how long a connection may take; beyond: 504");
    READ_TIMEOUT: Defaulted<Period> = (
        "read_timeout", Period(TIMEOUT), Is(secs(60)), Live,
        "the longest silence while reading a response, not a limit of the whole response; beyond: 504",
    );
    WRITE_TIMEOUT: Defaulted<Period> =
        ("write_timeout", Period(TIMEOUT), Is(secs(60)), Live, "the longest a single write may take");
    KEEPALIVE: Defaulted<Period> =
        ("keepalive", Period(TIMEOUT), Is(secs(60)), Live, "how long an unused connection is kept");
    POOL: Defaulted<Count> = ("pool", Count(1..=65_536), Is(128), Restart, "connections kept for reuse");
    RETRIES: Defaulted<Count> = (
        "retries", Count(0..=RETRIES_MAX), Is(1), Live,
        "further attempts: never after the first byte of a response, and with a request body only before any of it was \
         sent",
    );
}}

table! { FORWARDED {
    TRUST: Defaulted<Mixed> = (
        "trust",
        Mixed {
            type_name: "`none`, `all`, or a list of networks",
            schema: r#"{ "anyOf": [
                { "enum": ["none", "all"] },
                { "type": "array", "items": { "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" } }
            ] }"#,
            expected: "`none`, `all` or a list of networks such as `[10.0.0.0/8]`",
        },
        Is("\"none\""), Live,
        "sidestream keeps and extends `X-Forwarded-For`, `-Proto` and `-Host` from these peers. From all other peers it \
         replaces them, and removes other fields with such claims",
    );
}}
