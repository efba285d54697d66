//! The keys of limits: of the process, of one user, and of replay from the log.

use serde_json::{Value as Json, json};

use super::Change::{Live, Restart};
use super::{
    Absent, Count, Defaulted, Each, Entry, Is, Key, Optional, Period, Required, Size, Text, Usually, hours, secs, table,
};

/// Beyond any useful number of streams, connections and queued events.
pub(super) const COUNT_MAX: u32 = 10_000_000;
/// The most quotas: each open stream counts in all of them.
pub(in crate::config) const QUOTAS_MAX: usize = 8;
const QUOTA_MAX: u32 = 1_000_000;

table! { LIMITS {
    STREAMS: Key<Count, Usually<u32>> = (
        "streams", Count(1..=COUNT_MAX), Usually(10_000, ", or `connections` if that is less"), Live,
        "concurrent streams, not more than `connections`; beyond: 503, or a jittered `retry` for SSE",
    );
    CONNECTIONS: Defaulted<Count> = (
        "connections", Count(1..=COUNT_MAX), Is(20_000), Restart,
        "concurrent connections, including streams, and requests of HTTP/2 in progress; beyond: 503",
    );
    // Less would reject streams even with empty caches.
    MEMORY: Optional<Size> = (
        "memory", Size(64 << 20..=1 << 40),
        Absent("the memory limit of the cgroup (in Kubernetes, of the container), or none"), Restart,
        "the limit of resident memory. Near it, sidestream first releases caches and then rejects new streams: \
         [Memory](operations.md#memory)",
    );
    // With 0, encodings are shared only between sessions that receive an event in the same turn of a writer.
    ENCODINGS: Defaulted<Size> = (
        "encodings", Size(0..=64 << 30), Is(8 << 20), Restart,
        "cache of encoded events, shared by clients that receive the same form",
    );
    // Of whole connections: less than a second would close healthy ones.
    HEADER_TIMEOUT: Defaulted<Period> =
        ("header_timeout", Period(secs(1)..=hours(24)), Is(secs(10)), Restart, "how long a request head may take");
    IDLE_TIMEOUT: Defaulted<Period> = (
        "idle_timeout", Period(secs(1)..=hours(24)), Is(secs(75)), Restart,
        "how long a connection may be idle between requests",
    );
    PROXY_BUFFERS: Defaulted<Size> = (
        "proxy_buffers", Size(1 << 20..=64 << 30), Is(64 << 20), Restart,
        "memory of upstream responses that clients do not read, 768 KiB each: \
         [operations.md](operations.md#connections)",
    );
    TCP_USER_TIMEOUT: Defaulted<Period> = (
        "tcp_user_timeout", Period(secs(1)..=hours(24)), Is(secs(30)), Live,
        "how long the client of a stream may acknowledge nothing, not even the kernel's window probes, while data is in \
         flight; then it is dead (`client-lost`). A client that only stops reading still acknowledges; see \
         `stall_timeout`. Less than 2s counts as 2s: kernels answer probes at most twice a second",
    );
    QUOTAS: Defaulted<Each> = (
        "quotas", Each { table: &QUOTA, min: 0, max: QUOTAS_MAX }, Is(()), Live,
        "[limits](#quotas) of one user, tenant, client address or route, or of the process, across all routes; at most 8",
    );
}}

table! { QUOTA rules at_least_one_limit {
    QUOTA_BY: Key<Text, Required> = (
        "by",
        Text {
            type_name: "text",
            pattern: r"^(process|route|address|claims\..+)$",
            expected: "`process`, `route`, `address` or `claims.<claim>`, such as `claims.sub`",
        },
        Required("what identifies those for whom the quota counts"), Live,
        "who shares its limits. `claims.<claim>`: the streams with the same value of a claim of the token; a stream without this \
         claim does not count. `address`: those of one client address (behind trusted proxies, see `forwarded.trust`), for IPv6 \
         of its /64 network. `route`: those of one route. `process`: all; not in `routes.quotas`",
    );
    QUOTA_STREAMS: Optional<Count> = (
        "streams", Count(1..=QUOTA_MAX), Absent("no limit"), Live,
        "streams that are open; beyond: 429, or a jittered `retry` for SSE",
    );
    OPENS_PER_MINUTE: Optional<Count> = (
        "opens_per_minute", Count(1..=QUOTA_MAX), Absent("no limit"), Live,
        "streams that are opened; beyond: 429 with `Retry-After` and the `RateLimit` fields, or a `retry` for SSE",
    );
    QUOTA_COMMANDS: Optional<Count> = (
        "commands_per_second", Count(1..=QUOTA_MAX), Absent("no limit"), Live,
        "commands of WebSockets; beyond: an error response. `websocket.commands_per_second` limits one socket, and closes it",
    );
    REPLAY_BYTES_PER_MINUTE: Optional<Size> = (
        "replay_bytes_per_minute", Size(1024..=1 << 40), Absent("no limit"), Live,
        "bytes of envelopes that replay reads from Kafka's log; beyond: the replay waits, and loses nothing. `replay` limits one \
         resume, with a gap",
    );
    EVENTS_PER_SECOND: Optional<Count> = (
        "events_per_second", Count(1..=QUOTA_MAX), Absent("no limit"), Live,
        "events that are sent; beyond: events wait in their stream's queue, under its `overflow` policy",
    );
    BYTES_PER_SECOND: Optional<Size> = (
        "bytes_per_second", Size(1024..=1 << 40), Absent("no limit"), Live,
        "bytes of these events, as sent; beyond: as above",
    );
}}

/// The keys of a quota that limit something.
pub(in crate::config) fn quota_limits() -> impl Iterator<Item = &'static dyn Entry> {
    QUOTA.keys().filter(|key| !key.is_required())
}

fn at_least_one_limit() -> Json {
    json!({ "anyOf": quota_limits().map(|key| json!({ "required": [key.name()] })).collect::<Vec<_>>() })
}

table! { REPLAY {
    // Per client, from the log.
    REPLAY_EVENTS: Defaulted<Count> =
        ("events", Count(0..=100_000_000), Is(100_000), Restart, "events; 0 disables replay from the log");
    REPLAY_BYTES: Defaulted<Size> = ("bytes", Size(1024..=64 << 30), Is(64 << 20), Restart, "bytes of envelopes");
    REPLAY_TIME: Defaulted<Period> = (
        "time", Period(secs(1)..=hours(1)), Is(secs(60)), Restart,
        "time since the request, without the time in which no broker answered",
    );
    // Less would not hold one chunk of each partition until the waiting sessions have consumed it.
    REPLAY_CACHE: Defaulted<Size> = (
        "cache", Size(4 << 20..=64 << 30), Is(32 << 20), Restart,
        "memory of the chunks that are cached for other clients, for all topics",
    );
}}
