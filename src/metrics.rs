//! Every metric: its name, help, labels and buckets. No other module names a metric.
//!
//! Label values are bounded: transports, reasons and causes are enums, event types are limited to [`EVENT_TYPES_MAX`]
//! distinct ones, and topics, partitions and routes are those of the configuration.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    CounterVec, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::config::Certificates;
use crate::route::Transport;

/// The most event types with a label value of their own; the others count as `other`.
pub const EVENT_TYPES_MAX: usize = 64;
/// The longest event type that gets a label value of its own, in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 64;

/// Seconds, from a tenth of a millisecond to ten seconds.
const LATENCY_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of one process, shared by all modules.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// By transport.
    transports: Box<[TransportMetrics]>,
    events_sent: IntCounterVec,
    event_types: Mutex<HashSet<Arc<str>>>,
    /// Gaps sent to clients, by cause.
    pub gaps: IntCounterVec,
    /// Events dropped from a session's queue, by overflow policy.
    pub events_dropped: IntCounterVec,
    /// Requests for the keys of issuers, by issuer and result.
    key_fetches: IntCounterVec,
    /// The time when the current keys were received, in seconds since the Unix epoch, by issuer.
    keys_fetched: IntGaugeVec,
    pub revocations: RevocationMetrics,
    /// Answers of the authentication service.
    pub forward_auth: ForwardAuthMetrics,
    /// Rejected requests on stream routes, by reason (see `gateway`).
    pub streams_rejected: IntCounterVec,
    /// Open streams, by the pattern of their route.
    pub route_streams: IntGaugeVec,
    pub unauthenticated_websockets: IntGauge,
    pub quota_identities: IntGaugeVec,
    /// Events sent on streams, by the pattern of the route.
    pub route_events: IntCounterVec,
    /// Event time to flush of live events, in seconds.
    pub event_to_flush: HistogramVec,
    /// Kafka receipt to flush of live events, in seconds.
    pub receive_to_flush: HistogramVec,
    /// Subscriptions with a resume position, by the origin of the replay: `window`, `log`, `refused`.
    pub resumes: IntCounterVec,
    /// Queued data of slow clients.
    pub backlog: Backlog,
    /// Memory use by component.
    pub memory: MemoryMetrics,
    /// The time in which a writer was not asleep, in seconds, by writer.
    pub writer_busy: CounterVec,
    /// Events that became gaps because a writer was too far behind, by writer.
    pub writer_skipped: IntCounterVec,
    /// Invalid frames and messages of WebSocket clients, by kind.
    pub websocket_errors: IntCounterVec,
    /// Records received from Kafka, by topic.
    pub records: IntCounterVec,
    /// Undecodable records, by topic.
    pub undecodable: IntCounterVec,
    /// Records read from the log for replay, by topic. Other metrics do not count them.
    pub replay_records: IntCounterVec,
    /// The bytes of the keys and values of these records.
    pub replay_bytes: IntCounterVec,
    /// Chunks of the log for replay, by whether they were read from Kafka or found in the cache.
    pub replay_pages: IntCounterVec,
    /// Records between the source's position and the end of the log.
    pub consumer_lag: IntGaugeVec,
    /// Offsets between the last stable one and the end of the log, by topic and partition.
    pub uncommitted_offsets: IntGaugeVec,
    /// For how long the source's position has not advanced although the log has, in seconds, by topic and partition.
    pub stalled_seconds: IntGaugeVec,
    /// Skipped batches that the Kafka client cannot read, by topic.
    pub unreadable_batches: IntCounterVec,
    /// Errors of the Kafka client, by kind.
    pub kafka_errors: IntCounterVec,
    /// The number of clusters with a broker that responds.
    pub kafka_connected: IntGauge,
    /// Proxied requests, by status class (`2xx`, ...).
    pub proxy_requests: IntCounterVec,
    /// Proxied requests that failed at the upstream, by kind (`connect`, `timeout`, `closed`, ...).
    pub upstream_errors: IntCounterVec,
    /// Requests rejected before routing, by reason.
    pub bad_requests: IntCounterVec,
    /// Connections evicted while they waited for their clients, because others needed the permit.
    pub connections_evicted: IntCounter,
    /// Exported spans.
    pub spans_exported: IntCounter,
    /// Dropped spans: the `queue` was full, or the `collector` rejected them.
    pub spans_dropped: IntCounterVec,
    /// The expiry of certificates, in seconds since the Unix epoch.
    certificate_expiry: IntGaugeVec,
    /// Panics, by thread (see `panics`).
    pub panics: IntCounterVec,
    /// Log lines that were dropped because standard error is too slow.
    pub log_lines_dropped: IntCounter,
    /// 1 if the last configuration that was read is the running one.
    pub config_last_reload_successful: IntGauge,
    /// When the running configuration was applied, in seconds since the Unix epoch.
    pub config_last_reload_success_timestamp: Gauge,
    /// Reloads, by result (see `reload`).
    pub config_reloads: IntCounterVec,
    /// 1 for the hash of the running configuration's file.
    pub config_info: IntGaugeVec,
}

/// Revocations of subjects, sessions and tokens.
#[derive(Debug)]
pub struct RevocationMetrics {
    /// By result: `added`, `expired`, `malformed`.
    pub received: IntCounterVec,
    /// Evicted by later ones before they expired.
    pub dropped: IntCounter,
    pub known: IntGauge,
}

/// What the authentication service answered.
#[derive(Debug)]
pub struct ForwardAuthMetrics {
    answers: IntCounterVec,
    seconds: Histogram,
}

impl ForwardAuthMetrics {
    /// Counts an answer: with the time that it took, or nothing where it came from the cache.
    pub fn answered(&self, result: &str, took: Option<Duration>) {
        let source = if took.is_some() { "service" } else { "cache" };
        self.answers.with_label_values(&[result, source]).inc();
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }
}

/// Queued data of clients whose sockets are full, measured every few seconds.
#[derive(Clone, Debug)]
pub struct Backlog {
    pub streams: IntGauge,
    pub events: IntGauge,
    pub bytes: IntGauge,
}

/// Memory in bytes, at the last measurement.
#[derive(Debug)]
pub struct MemoryMetrics {
    /// 0 means unlimited.
    pub limit: IntGauge,
    /// The resident set, and the kernel buffers of slow streams.
    pub used: IntGauge,
    /// The memory pressure level, 0 to 5 (see `memory`).
    pub level: IntGauge,
    pub windows: IntGauge,
    /// Encodings that are kept for other sessions.
    pub encodings: IntGauge,
    /// Encodings that are only queued, each counted once.
    pub queues: IntGauge,
    /// Chunks of the log.
    pub pages: IntGauge,
}

impl MemoryMetrics {
    fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let held = make.gauges("memory_held_bytes", "Memory for events in bytes, by holder.", &["holder"])?;
        let of = |holder: &str| held.with_label_values(&[holder]);
        Ok(Self {
            limit: make.gauge("memory_limit_bytes", "Memory limit of the process in bytes, 0 without a limit.")?,
            used: make.gauge("memory_used_bytes", "Memory in bytes that counts towards the limit.")?,
            level: make.gauge("memory_level", "Level of memory pressure, 0 (none) to 5.")?,
            windows: of("windows"),
            encodings: of("encodings"),
            queues: of("queues"),
            pages: of("pages"),
        })
    }
}

/// The metrics of one transport.
#[derive(Debug)]
pub struct TransportMetrics {
    pub active_connections: IntGauge,
    pub events_sent: IntCounter,
    pub bytes: IntCounter,
    /// Streams opened with a resume position.
    pub reconnects: IntCounter,
    pub heartbeats: IntCounter,
    /// By close reason (see `session::close`).
    pub disconnects: IntCounterVec,
    pub event_to_flush: Histogram,
    pub receive_to_flush: Histogram,
}

impl Metrics {
    /// Registers all metrics under `prefix` (by default `notifications`).
    ///
    /// # Errors
    ///
    /// The prefix is not a valid metric name.
    pub fn new(prefix: &str) -> prometheus::Result<Self> {
        let make = Maker { registry: Registry::new(), prefix };
        let event_to_flush = make.histograms(
            "event_to_flush_seconds",
            "Latency from a live event's own time to the write that carried it.",
            &["transport"],
        )?;
        let receive_to_flush = make.histograms(
            "receive_to_flush_seconds",
            "Latency from a live record's receipt from Kafka to the write that carried it.",
            &["transport"],
        )?;
        let of = |transport| TransportMetrics::new(&make, transport, &event_to_flush, &receive_to_flush);
        let transports = Transport::ALL.into_iter().map(of).collect::<prometheus::Result<_>>()?;
        Ok(Self {
            transports,
            events_sent: make.counters("events_sent_total", "Events sent on all transports, by type.", &["type"])?,
            event_types: Mutex::default(),
            gaps: make.counters("gaps_total", "Gaps sent to clients.", &["cause"])?,
            events_dropped: make.counters("events_dropped_total", "Events dropped from full queues.", &["policy"])?,
            key_fetches: make.counters(
                "token_key_fetches_total",
                "Requests for the keys of token issuers, by issuer and result.",
                &["issuer", "result"],
            )?,
            keys_fetched: make.gauges(
                "token_keys_fetched_timestamp_seconds",
                "Unix time at which the keys of a token issuer were received.",
                &["issuer"],
            )?,
            revocations: RevocationMetrics {
                received: make.counters(
                    "revocations_received_total",
                    "Revocations from the topic and the admin listener, by result.",
                    &["result"],
                )?,
                dropped: make.counter(
                    "revocations_dropped_total",
                    "Revocations that were dropped because too many were known.",
                )?,
                known: make.gauge("revocations", "Revocations in force.")?,
            },
            forward_auth: ForwardAuthMetrics {
                answers: make.counters(
                    "forward_auth_answers_total",
                    "Answers of the authentication service, by result and source.",
                    &["result", "source"],
                )?,
                seconds: make
                    .histogram("forward_auth_request_seconds", "Duration of requests to the authentication service.")?,
            },
            streams_rejected: make.counters("streams_rejected_total", "Rejected stream requests.", &["reason"])?,
            unauthenticated_websockets: make.gauge(
                "unauthenticated_websockets",
                "WebSockets that were opened without a token and have not sent one yet.",
            )?,
            quota_identities: make.gauges(
                "quota_identities",
                "Users, tenants or client addresses that a quota of limits.quotas keeps counters for.",
                &["quota"],
            )?,
            route_streams: make.gauges("route_streams", "Open streams, by route.", &["route"])?,
            route_events: make.counters("route_events_sent_total", "Events sent, by route.", &["route"])?,
            event_to_flush,
            receive_to_flush,
            resumes: make.counters("resumes_total", "Subscriptions that resume.", &["from"])?,
            backlog: Backlog {
                streams: make.gauge("slow_streams", "Streams whose clients currently accept no more data.")?,
                events: make.gauge("queued_events", "Events queued for slow streams.")?,
                bytes: make.gauge("queued_bytes", "Bytes queued for slow streams, counted per stream.")?,
            },
            memory: MemoryMetrics::new(&make)?,
            writer_busy: make.float_counters(
                "writer_busy_seconds_total",
                "Seconds in which a writer did not sleep.",
                &["writer"],
            )?,
            writer_skipped: make.counters(
                "writer_skipped_events_total",
                "Events that a writer did not accept in time.",
                &["writer"],
            )?,
            websocket_errors: make.counters(
                "ws_client_errors_total",
                "Invalid client frames and commands.",
                &["kind"],
            )?,
            records: make.counters("kafka_records_total", "Records received from Kafka.", &["topic"])?,
            undecodable: make.counters("kafka_undecodable_total", "Records that are not events.", &["topic"])?,
            replay_records: make.counters(
                "replay_records_total",
                "Records read from the log for replay.",
                &["topic"],
            )?,
            replay_bytes: make.counters("replay_bytes_total", "Bytes read from the log for replay.", &["topic"])?,
            replay_pages: make.counters("replay_pages_total", "Chunks of the log read or cached.", &["from"])?,
            consumer_lag: make.unprefixed_gauges(
                "kafka_consumer_lag",
                "Records between the source's position and the end of the partition.",
                &["topic", "partition"],
            )?,
            uncommitted_offsets: make.gauges(
                "kafka_uncommitted_offsets",
                "Offsets between the last stable offset and the end of the log.",
                &["topic", "partition"],
            )?,
            stalled_seconds: make.gauges(
                "kafka_stalled_seconds",
                "Seconds for which the source has not advanced although the log has more.",
                &["topic", "partition"],
            )?,
            unreadable_batches: make.counters(
                "kafka_unreadable_batches_total",
                "Batches that could not be read and were skipped.",
                &["topic"],
            )?,
            kafka_errors: make.counters("kafka_errors_total", "Errors of the Kafka client.", &["kind"])?,
            kafka_connected: make.gauge("kafka_connected", "Clusters with a broker that answers.")?,
            proxy_requests: make.counters("proxy_requests_total", "Proxied requests.", &["status"])?,
            upstream_errors: make.counters(
                "upstream_errors_total",
                "Proxied requests that failed upstream.",
                &["kind"],
            )?,
            bad_requests: make.counters("bad_requests_total", "Rejected malformed requests.", &["reason"])?,
            connections_evicted: make.counter(
                "connections_evicted_total",
                "Connections closed while they waited for their client, to make room for others.",
            )?,
            spans_exported: make.counter("spans_exported_total", "Spans that the collector accepted.")?,
            spans_dropped: make.counters("spans_dropped_total", "Dropped spans.", &["reason"])?,
            certificate_expiry: make.gauges(
                "certificate_expiry_timestamp_seconds",
                "Expiry of the certificates of a Kafka property, as a Unix time.",
                &["cluster", "property", "file"],
            )?,
            panics: make.counters("panics_total", "Panics, which are bugs.", &["place"])?,
            log_lines_dropped: make
                .counter("log_lines_dropped_total", "Log lines dropped because standard error was not read.")?,
            config_last_reload_successful: make.gauge(
                "config_last_reload_successful",
                "1 if the configuration that was read last is the running one.",
            )?,
            config_last_reload_success_timestamp: make.register(Gauge::with_opts(make.opts(
                "config_last_reload_success_timestamp_seconds",
                "When the running configuration was applied, as a Unix time.",
            ))?)?,
            config_reloads: make.counters("config_reloads_total", "Reloads of the configuration.", &["result"])?,
            config_info: make.gauges("config_info", "The SHA-256 of the running configuration's file.", &["sha256"])?,
            registry: make.registry,
        })
    }

    pub fn transport(&self, transport: Transport) -> &TransportMetrics {
        &self.transports[transport as usize]
    }

    /// The counter of sent events of this type. Callers keep it instead of looking it up per event.
    pub fn events_sent(&self, kind: &Arc<str>) -> IntCounter {
        let mut known = self.event_types.lock().unwrap_or_else(PoisonError::into_inner);
        let own_label = known.contains(kind) || (known.len() < EVENT_TYPES_MAX && kind.len() <= EVENT_TYPE_BYTES_MAX);
        if own_label {
            known.insert(kind.clone());
        }
        self.events_sent.with_label_values(&[if own_label { &**kind } else { "other" }])
    }

    /// Reports these certificates, and removes all others.
    pub fn certificates(&self, found: &[Certificates]) {
        self.certificate_expiry.reset();
        for Certificates { cluster, property, file, end } in found {
            let labels = [&**cluster, *property, &*file.to_string_lossy()];
            self.certificate_expiry.with_label_values(&labels).set(*end);
        }
    }

    /// Counts a request for an issuer's keys by its result; `None` means that none has been sent yet.
    pub fn key_fetch(&self, issuer: &str, succeeded: Option<bool>) {
        for (result, is_it) in [("success", succeeded == Some(true)), ("failure", succeeded == Some(false))] {
            self.key_fetches.with_label_values(&[issuer, result]).inc_by(u64::from(is_it));
        }
        if succeeded == Some(true) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.keys_fetched.with_label_values(&[issuer]).set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Renders all metrics in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// A metric cannot be encoded.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl TransportMetrics {
    fn new(
        make: &Maker<'_>,
        transport: Transport,
        event_to_flush: &HistogramVec,
        receive_to_flush: &HistogramVec,
    ) -> prometheus::Result<Self> {
        let name = transport.row().metric_name();
        Ok(Self {
            active_connections: make.gauge(&format!("{name}_active_connections"), "Open streams.")?,
            events_sent: make.counter(&format!("{name}_events_sent_total"), "Events sent.")?,
            bytes: make.counter(&format!("{name}_bytes_total"), "Bytes written to clients.")?,
            reconnects: make.counter(&format!("{name}_reconnects_total"), "Streams opened with a resume position.")?,
            heartbeats: make.counter(&format!("{name}_heartbeats_total"), "Heartbeats sent.")?,
            disconnects: make.counters(
                &format!("{name}_disconnects_total"),
                "Streams ended, by reason.",
                &["reason"],
            )?,
            event_to_flush: event_to_flush.with_label_values(&[transport.as_str()]),
            receive_to_flush: receive_to_flush.with_label_values(&[transport.as_str()]),
        })
    }
}

/// Creates and registers metrics under one prefix.
struct Maker<'a> {
    registry: Registry,
    prefix: &'a str,
}

impl Maker<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.prefix), help)
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::with_opts(self.opts(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(self.opts(name, help), labels)?)
    }

    fn float_counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        self.register(CounterVec::new(self.opts(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::with_opts(self.opts(name, help))?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(self.opts(name, help), labels)?)
    }

    fn unprefixed_gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(LATENCY_BUCKETS.to_vec());
        self.register(Histogram::with_opts(opts)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(LATENCY_BUCKETS.to_vec());
        self.register(HistogramVec::new(opts, labels)?)
    }
}
