//! The keys of the process: its listeners, metrics, traces, the end of streams, and the REST service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Change::{Live, Restart};
use super::{
    Absent, Address, Choice, Count, Defaulted, Each, Flag, Is, Key, Mixed, Optional, Period, Required, Share, Sub,
    Text, hours, mins, ms, secs, table,
};
use crate::config::snapshot::{HeartbeatScope, RETRIES_MAX};

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
    UPSTREAM_STREAMS: Defaulted<Sub> = (
        "streams", Sub(&UPSTREAM_STREAM), Is(()), Live,
        "responses of the service that are streams, by their media type: `text/event-stream` and `application/x-ndjson`",
    );
}}

const HEARTBEAT_SCOPES: Choice<HeartbeatScope> =
    Choice(|| vec![("sse", HeartbeatScope::Comments), ("all", HeartbeatScope::All), ("none", HeartbeatScope::None)]);

table! { UPSTREAM_STREAM {
    UPSTREAM_HEARTBEAT: Defaulted<Choice<HeartbeatScope>> = (
        "heartbeat", HEARTBEAT_SCOPES, Is(HeartbeatScope::Comments), Live,
        "which streams have [heartbeats](operations.md#streams-of-the-service): `sse`: a comment between two events; `all`: \
         also NDJSON, an empty line between two lines, which some readers do not accept",
    );
    UPSTREAM_HEARTBEAT_INTERVAL: Defaulted<Period> = (
        "heartbeat_interval", Period(secs(1)..=mins(10)), Is(secs(15)), Live,
        "the longest silence before a heartbeat. Keep it below the idle timeouts on the path (often 60s)",
    );
    STREAM_READ_TIMEOUT: Defaulted<Period> = (
        "read_timeout", Period(TIMEOUT), Is(hours(1)), Live,
        "in place of `upstream.read_timeout`, if it is longer, for requests whose `Accept` names a stream, and on `paths`: \
         the longest silence of the service, which heartbeats do not end",
    );
    UPSTREAM_PATHS: Defaulted<Each> = (
        "paths", Each { table: &UPSTREAM_PATH, min: 0, max: UPSTREAM_PATHS_MAX }, Is(()), Live,
        "settings of single paths; the first that matches applies",
    );
}}

/// Paths with settings of their own: each request compares its path with all of them.
pub(in crate::config) const UPSTREAM_PATHS_MAX: usize = 64;

table! { UPSTREAM_PATH {
    UPSTREAM_PATH_PATTERN: Key<Text, Required> = (
        "path", Text { type_name: "path", pattern: "^/", expected: "a path with parameters such as `/chats/{chatId}`" },
        Required("a path of the service"), Live,
        "a path of the service, written as that of a [route](#routes-the-streaming-paths)",
    );
    UPSTREAM_PATH_HEARTBEAT: Optional<Choice<HeartbeatScope>> = (
        "heartbeat", HEARTBEAT_SCOPES, Absent("that of `upstream.streams`"), Live, "in place of the one above",
    );
    UPSTREAM_PATH_EARLY: Defaulted<Flag> = (
        "early", Flag, Is(false), Live,
        "whether the response begins at once, with status 200 as SSE, [before the service responds]\
         (operations.md#streams-of-the-service). For paths that always respond with SSE",
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
