//! Every metric: a line each with its field, type, name, help and labels.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use prometheus::{
    CounterVec, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::maker::{Maker, table};
use crate::route::Transport;

table! {
    /// The metrics of one process, shared by all modules.
    #[derive(Debug)]
    pub struct Metrics {
        pub(super) build_info: IntGaugeVec = "build_info", "Always 1; the label has the running version.", ["version"];
        pub(super) events_sent_by_type: IntCounterVec =
            "events_sent_total", "Events sent on all transports, by type.", ["type"];
        pub gaps: IntCounterVec = "gaps_total", "Gaps sent to clients.", ["cause"];
        /// From the queue of a session.
        pub events_dropped: IntCounterVec = "events_dropped_total", "Events dropped from full queues.", ["policy"];
        pub(super) key_fetches: IntCounterVec =
            "token_key_fetches_total", "Requests for the keys of token issuers, by issuer and result.", ["issuer", "result"];
        pub(super) keys_fetched: IntGaugeVec =
            "token_keys_fetched_timestamp_seconds", "Unix time at which the keys of a token issuer were received.", ["issuer"];
        /// `ok`, `unknown` or `failed`.
        pub registry_requests: IntCounterVec =
            "schema_registry_requests_total", "Requests of schemas, by registry and result.", ["registry", "result"];
        pub registry_schemas: IntGaugeVec =
            "schema_registry_schemas", "Schemas that are known, by registry.", ["registry"];
        /// The reasons are those of `gateway`.
        pub streams_rejected: IntCounterVec = "streams_rejected_total", "Rejected stream requests.", ["reason"];
        pub unauthenticated_websockets: IntGauge =
            "unauthenticated_websockets", "WebSockets that were opened without a token and have not sent one yet.";
        pub api_keys: IntGauge = "api_keys", "Accepted API keys.";
        pub quota_identities: IntGaugeVec =
            "quota_identities", "Users, tenants, client addresses or routes that a quota keeps counters for.", ["quota"];
        /// A route is named by its pattern.
        pub route_streams: IntGaugeVec = "route_streams", "Open streams, by route.", ["route"];
        pub route_events: IntCounterVec = "route_events_sent_total", "Events sent, by route.", ["route"];
        pub rule_errors: IntCounterVec =
            "rule_errors_total", "Evaluations of a route's rule that failed and denied an event.", ["route"];
        pub event_to_flush: HistogramVec =
            "event_to_flush_seconds", "Latency from a live event's own time to the write that carried it.", ["transport"];
        pub receive_to_flush: HistogramVec =
            "receive_to_flush_seconds", "Latency from a live record's receipt from Kafka to the write that carried it.",
            ["transport"];
        /// `window`, `log` or `refused`.
        pub resumes: IntCounterVec = "resumes_total", "Subscriptions that resume.", ["from"];
        pub writer_busy: CounterVec =
            "writer_busy_seconds_total", "Seconds in which a writer did not sleep.", ["writer"];
        /// They became gaps.
        pub writer_skipped: IntCounterVec =
            "writer_skipped_events_total", "Events that a writer did not accept in time.", ["writer"];
        pub websocket_errors: IntCounterVec =
            "ws_client_errors_total", "Invalid client frames and commands.", ["kind"];
        pub records: IntCounterVec = "kafka_records_total", "Records received from Kafka.", ["topic"];
        pub undecodable: IntCounterVec = "kafka_undecodable_total", "Records that are not events.", ["topic"];
        pub awaiting_schema: IntGaugeVec =
            "kafka_partitions_awaiting_schema", "Partitions whose next record waits for its schema.", ["topic"];
        pub invalid_records: IntCounterVec = "kafka_invalid_total", "Records whose data does not conform to the schema of their topic.", ["topic"];
        pub dropped_records: IntCounterVec =
            "kafka_dropped_records_total", "Records that the map of their topic drops.", ["topic"];
        pub missing_keys: IntCounterVec =
            "kafka_missing_keys_total", "Events that lack a key that a stream of their topic declares.", ["topic", "key"];
        /// No other metric counts them.
        pub replay_records: IntCounterVec =
            "replay_records_total", "Records read from the log for replay.", ["topic"];
        /// Of keys and values.
        pub replay_bytes: IntCounterVec = "replay_bytes_total", "Bytes read from the log for replay.", ["topic"];
        pub replay_pages: IntCounterVec = "replay_pages_total", "Chunks of the log read or cached.", ["from"];
        pub consumer_lag: IntGaugeVec =
            "kafka_consumer_lag", "Records between the source's position and the end of the partition.",
            ["topic", "partition"];
        pub uncommitted_offsets: IntGaugeVec =
            "kafka_uncommitted_offsets", "Offsets between the last stable offset and the end of the log.",
            ["topic", "partition"];
        pub stalled_seconds: IntGaugeVec =
            "kafka_stalled_seconds", "Seconds for which the source has not advanced although the log has more.",
            ["topic", "partition"];
        pub unreadable_batches: IntCounterVec =
            "kafka_unreadable_batches_total", "Batches that could not be read and were skipped.", ["topic"];
        pub state_keys: IntGaugeVec = "state_keys", "Keys of the state of a topic.", ["topic", "key"];
        pub state_bytes: IntGaugeVec = "state_bytes", "Memory of the state of a topic.", ["topic", "key"];
        pub state_ready: IntGaugeVec =
            "state_ready", "1 if clients may ask for the state of a topic, 0 while it is read or too large.", ["topic", "key"];
        pub kafka_errors: IntCounterVec = "kafka_errors_total", "Errors of the Kafka client.", ["kind"];
        pub kafka_connected: IntGauge = "kafka_connected", "Clusters with a broker that answers.";
        /// `2xx`, ...
        pub proxy_requests: IntCounterVec = "proxy_requests_total", "Proxied requests.", ["status"];
        pub proxy_request_seconds: HistogramVec =
            "proxy_request_seconds", "Duration of proxied requests, from their head to the end of the response.",
            ["status"];
        /// `connect`, `timeout`, `closed`, ...
        pub upstream_errors: IntCounterVec =
            "upstream_errors_total", "Proxied requests that failed upstream.", ["kind"];
        /// `sse` or `ndjson`.
        pub upstream_streams: IntCounterVec =
            "upstream_streams_total", "Responses of the upstream that are streams.", ["format"];
        pub upstream_stream_heartbeats: IntCounterVec =
            "upstream_stream_heartbeats_total", "Heartbeats in streams of the upstream.", ["format"];
        /// See `gateway::upstream_stream`.
        pub upstream_streams_untouched: IntCounterVec =
            "upstream_streams_untouched_total", "Streams of the upstream that had no heartbeats, or no more of them.", ["reason"];
        /// Before routing.
        pub bad_requests: IntCounterVec = "bad_requests_total", "Rejected malformed requests.", ["reason"];
        /// `success`, or why there was none (see `listener`).
        pub tls_handshakes: IntCounterVec = "tls_handshakes_total", "TLS handshakes, by result.", ["result"];
        pub connections_evicted: IntCounter =
            "connections_evicted_total", "Connections closed while they waited for their client, to make room for others.";
        pub unread_responses: IntGauge =
            "unread_responses", "Proxied responses that wait for their client to accept more.";
        pub spans_exported: IntCounter = "spans_exported_total", "Spans that the collector accepted.";
        /// The `queue` was full, or the `collector` rejected them.
        pub spans_dropped: IntCounterVec = "spans_dropped_total", "Dropped spans.", ["reason"];
        pub(super) certificate_expiry: IntGaugeVec =
            "certificate_expiry_timestamp_seconds", "Expiry of the certificates of the listener and of Kafka properties, as a Unix time.",
            ["cluster", "property", "file"];
        /// By thread (see `panics`).
        pub panics: IntCounterVec = "panics_total", "Panics, which are bugs.", ["place"];
        pub log_lines_dropped: IntCounter =
            "log_lines_dropped_total", "Log lines dropped because standard error was not read.";
        pub config_last_reload_successful: IntGauge =
            "config_last_reload_successful", "1 if the configuration that was read last is the running one.";
        pub config_last_reload_success_timestamp: Gauge =
            "config_last_reload_success_timestamp_seconds", "When the running configuration was applied, as a Unix time.";
        /// The results are those of `reload`.
        pub config_reloads: IntCounterVec = "config_reloads_total", "Reloads of the configuration.", ["result"];
        pub config_info: IntGaugeVec =
            "config_info", "The SHA-256 of the running configuration's file.", ["sha256"];
    } with |make| {
        pub(super) transports: Box<[TransportMetrics]> = transports(make, &event_to_flush, &receive_to_flush)?;
        pub(super) event_types: Mutex<HashSet<Arc<str>>> = Mutex::default();
        pub revocations: RevocationMetrics = RevocationMetrics::register(make)?;
        /// Of the authentication service.
        pub forward_auth: ServiceMetrics = ServiceMetrics {
            answers: make.metric(
                "forward_auth_answers_total", "Answers of the authentication service, by result and source.",
                &["result", "source"],
            )?,
            seconds: make.metric(
                "forward_auth_request_seconds", "Duration of requests to the authentication service.", &[],
            )?,
        };
        /// Of the authorization server.
        pub introspection: ServiceMetrics = ServiceMetrics {
            answers: make.metric(
                "introspection_answers_total", "Answers of the authorization server about tokens, by result and source.",
                &["result", "source"],
            )?,
            seconds: make.metric(
                "introspection_request_seconds", "Duration of requests to the authorization server.", &[],
            )?,
        };
        pub backlog: Backlog = Backlog::register(make)?;
        pub memory: MemoryMetrics = MemoryMetrics::register(make)?;
        pub(super) registry: Registry = make.registry.clone();
    }
}

table! {
    /// Revocations of subjects, sessions and tokens.
    #[derive(Debug)]
    pub struct RevocationMetrics {
        /// `added`, `expired` or `malformed`.
        pub received: IntCounterVec =
            "revocations_received_total", "Revocations from the topic and the admin listener, by result.", ["result"];
        /// They had not expired.
        pub dropped: IntCounter =
            "revocations_dropped_total", "Revocations that were dropped because too many were known.";
        pub known: IntGauge = "revocations", "Revocations in force.";
    }
}

/// What a service answered that says who a request is from.
#[derive(Debug)]
pub struct ServiceMetrics {
    pub(super) answers: IntCounterVec,
    pub(super) seconds: Histogram,
}

table! {
    /// Queued data of clients whose sockets are full, measured every few seconds.
    #[derive(Clone, Debug)]
    pub struct Backlog {
        pub streams: IntGauge = "slow_streams", "Streams whose clients currently accept no more data, or whose events are held.";
        pub events: IntGauge = "queued_events", "Events queued for slow streams.";
        pub bytes: IntGauge = "queued_bytes", "Bytes queued for slow streams, counted per stream.";
    }
}

table! {
    /// Memory in bytes, at the last measurement.
    #[derive(Debug)]
    pub struct MemoryMetrics {
        pub limit: IntGauge = "memory_limit_bytes", "Memory limit of the process in bytes, 0 without a limit.";
        /// The resident set, and the kernel buffers of slow streams.
        pub used: IntGauge = "memory_used_bytes", "Memory in bytes that counts towards the limit.";
        /// See `memory`.
        pub level: IntGauge = "memory_level", "Level of memory pressure, 0 (none) to 5.";
        pub held: IntGaugeVec = "memory_held_bytes", "Memory for events in bytes, by holder.", ["holder"];
    } with |_make| {
        pub windows: IntGauge = held.with_label_values(&["windows"]);
        /// Encodings that are kept for other sessions.
        pub encodings: IntGauge = held.with_label_values(&["encodings"]);
        /// Encodings that are only queued, each counted once.
        pub queues: IntGauge = held.with_label_values(&["queues"]);
        /// Chunks of the log.
        pub pages: IntGauge = held.with_label_values(&["pages"]);
    }
}

table! {
    /// The metrics of one transport, whose name they begin with.
    #[derive(Debug)]
    pub struct TransportMetrics {
        pub active_connections: IntGauge = "active_connections", "Open streams.";
        pub events_sent: IntCounter = "events_sent_total", "Events sent.";
        pub bytes: IntCounter = "bytes_total", "Bytes written to clients.";
        pub reconnects: IntCounter = "reconnects_total", "Streams opened with a resume position.";
        pub heartbeats: IntCounter = "heartbeats_total", "Heartbeats sent.";
        /// The reasons are those of `session::close`.
        pub disconnects: IntCounterVec = "disconnects_total", "Streams ended, by reason.", ["reason"];
    } with |_make, of_event: Histogram, of_receipt: Histogram| {
        pub event_to_flush: Histogram = of_event;
        pub receive_to_flush: Histogram = of_receipt;
    }
}

/// The metrics of each transport.
fn transports(
    make: &Maker,
    event_to_flush: &HistogramVec,
    receive_to_flush: &HistogramVec,
) -> prometheus::Result<Box<[TransportMetrics]>> {
    let of = |transport: Transport| {
        let prefix = format!("{}_{}", make.prefix, transport.row().metric_name());
        let latency = |family: &HistogramVec| family.with_label_values(&[transport.as_str()]);
        let make = Maker { registry: make.registry.clone(), prefix };
        TransportMetrics::register(&make, latency(event_to_flush), latency(receive_to_flush))
    };
    Transport::ALL.into_iter().map(of).collect()
}
