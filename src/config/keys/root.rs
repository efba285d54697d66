//! The keys at the top level.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Change::{Live, Restart};
use super::{
    ADMIN, AUTH, Absent, Address, CLUSTER, CORS, Count, DRAIN, Defaulted, Each, FORWARDED, Flag, Is, KAFKA, Key,
    LIMITS, METRICS, Named, Optional, REGISTRY, REPLAY, ROUTE, Required, STREAM, Sub, TLS, TOPIC, TRACING, UPSTREAM,
    table,
};

table! { ROOT {
    LISTEN: Defaulted<Address> = (
        "listen", Address, Is(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080)), Restart,
        "where clients connect; `--listen` overrides it",
    );
    TLS_SECTION: Optional<Sub> = (
        "tls", Sub(&TLS), Absent("clients connect without TLS"), Live,
        "TLS for clients on the address of `listen`, in the versions 1.2 and 1.3",
    );
    ADMIN_SECTION: Defaulted<Sub> = ("admin", Sub(&ADMIN), Is(()), Restart, "the admin listener");
    METRICS_SECTION: Defaulted<Sub> = ("metrics", Sub(&METRICS), Is(()), Restart, "Prometheus metrics");
    TRACING_SECTION: Defaulted<Sub> =
        ("tracing", Sub(&TRACING), Is(()), Restart, "traces of requests and events, for an OpenTelemetry collector");
    DRAIN_SECTION: Defaulted<Sub> =
        ("drain", Sub(&DRAIN), Is(()), Live, "how streams end when the process ends, or by a reload");
    WRITERS: Optional<Count> = (
        "writers", Count(1..=256), Absent("the cores available to the process (CPU limit, affinity), 4 at most"),
        Restart, "threads that write streams",
    );
    UPSTREAM_SECTION: Key<Sub, Required> = (
        "upstream", Sub(&UPSTREAM), Required("the REST service"), Live,
        "the REST service. sidestream forwards every request outside the stream routes to it",
    );
    FORWARDED_SECTION: Defaulted<Sub> = (
        "forwarded", Sub(&FORWARDED), Is(()), Live,
        "the peers whose `X-Forwarded-For`, `-Proto` and `-Host` are kept and extended. Those of other peers are replaced",
    );
    KAFKA_SECTION: Key<Sub, Required> = (
        "kafka", Sub(&KAFKA), Required("the source of events"), Restart,
        "the source of events. Neither start-up nor proxying depends on it",
    );
    CLUSTERS: Defaulted<Named> = (
        "clusters", Named { table: &CLUSTER, names: "" }, Is(()), Restart,
        "further clusters, by a name of your choice except `kafka`; at most 16 clusters in all",
    );
    REGISTRY_SECTION: Optional<Sub> = (
        "registry", Sub(&REGISTRY), Absent("none"), Live,
        "the schema registry of topics with the format `avro` or `protobuf`",
    );
    REGISTRIES: Defaulted<Named> = (
        "registries", Named { table: &REGISTRY, names: "" }, Is(()), Live,
        "further schema registries, by a name of your choice except `registry`; at most 16 in all",
    );
    TOPICS: Defaulted<Named> = (
        "topics", Named { table: &TOPIC, names: "" }, Is(()), Live,
        "the format, origin and replay window of topics. Topics that are not listed have the defaults",
    );
    STREAMS_SECTION: Defaulted<Named> = (
        "streams", Named { table: &STREAM, names: "^[A-Za-z0-9._-]{1,249}$" }, Is(()), Live,
        "what routes serve: topics, merged into one order, and the keys that identify the subject of their events",
    );
    AUTH_SECTION: Optional<Sub> = (
        "auth", Sub(&AUTH), Absent("every route must have `public: true`"), Live,
        "who opens streams: the issuers whose tokens (JWT) are accepted, a service that is asked, or both. A single issuer \
         may be written directly here, several in `issuers`",
    );
    CORS_SECTION: Optional<Sub> = (
        "cors", Sub(&CORS), Absent("none"), Live,
        "which pages of other origins may use the streams, on every route without a `cors` of its own",
    );
    ROUTES: Defaulted<Each> = (
        "routes", Each { table: &ROUTE, min: 0, max: usize::MAX }, Is(()), Live,
        "the streaming paths. Literal segments take precedence over parameters; paths are case-sensitive",
    );
    REPLAY_SECTION: Defaulted<Sub> = (
        "replay", Sub(&REPLAY), Is(()), Restart,
        "limits of replay from the log, per client. The first limit that is reached applies",
    );
    LIMITS_SECTION: Defaulted<Sub> = ("limits", Sub(&LIMITS), Is(()), Live, "limits of the whole process");
    PROBE: Defaulted<Flag> = (
        "probe", Flag, Is(false), Live,
        "whether clients may request [probes](protocol.md#probes): streams without events that are silent for an interval \
         of their choice",
    );
    DESCRIBE: Defaulted<Flag> = (
        "describe", Flag, Is(false), Live,
        "whether clients, too, get the [descriptions of the streams](operations.md#descriptions-of-the-streams), \
         `/.well-known/sidestream/openapi.json` and `asyncapi.json`",
    );
}}
