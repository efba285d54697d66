//! The compiled configuration: what the running process reads. One snapshot serves a request for its whole life.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Verifier;
use crate::client::Target;
use crate::config::Certificates;
use crate::decode::Shape;
use crate::decode::registered::{Schemas as _, SharedSchemas};
use crate::event::Topic;
use crate::hub::{ReplayLimits, TableConfig, WindowLimits};
use crate::network::Network;
use crate::quota::Quota;
use crate::route::{Pattern, RouteTable, Transport};
use crate::schema_registry::Registry;
use crate::tls::ServerTls;

/// The most retries of a request that a configuration may set.
pub const RETRIES_MAX: u32 = 10;

/// How long a topic is read for its state: until its end is reached, because the state would be wrong otherwise.
const STATE_READING_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A valid configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    pub listen: SocketAddr,
    /// `None` if clients connect without TLS.
    pub tls: Option<Arc<ServerTls>>,
    pub admin: SocketAddr,
    pub upstream: Upstream,
    pub forwarded: ForwardedTrust,
    /// The schema registries.
    pub registries: Vec<Arc<Registry>>,
    pub kafka: Kafka,
    /// Further clusters with topics.
    pub clusters: Vec<Kafka>,
    /// The certificates of the listener and of clusters, as far as they are readable.
    pub certificates: Vec<Certificates>,
    pub routes: Arc<RouteTable>,
    /// `None` if no route requires a token.
    pub verifier: Option<Arc<Verifier>>,
    /// Absent if revocation is not configured.
    pub revocations: Option<RevocationSettings>,
    /// Whether clients may open probes: streams without events that test the network path.
    pub probe: bool,
    /// Whether clients get the descriptions of the streams.
    pub describe: bool,
    pub limits: Limits,
    pub replay: ReplayLog,
    /// The states that clients may ask for.
    pub states: Vec<TableConfig>,
    pub metrics_prefix: String,
    /// `None` if tracing is disabled.
    pub tracing: Option<Tracing>,
    pub drain: DrainLimits,
    /// The number of writer threads.
    pub writers: usize,
}

impl Snapshot {
    /// Takes over the issuers' keys that the previous snapshot has requested, so that a reload does not wait for an
    /// issuer.
    pub fn inherit_keys(&mut self, before: &Self) {
        match (&mut self.verifier, &before.verifier) {
            (Some(now), Some(before)) if now == before => *now = before.clone(),
            (Some(now), Some(before)) => now.inherit_keys(before),
            _ => {}
        }
    }

    /// Continues with the registries of the previous snapshot, which have schemas and send requests, under their new
    /// settings.
    pub fn inherit_registries(&mut self, before: &Self) {
        for registry in &mut self.registries {
            let Some(running) = before.registries.iter().find(|running| running.name() == registry.name()) else {
                continue;
            };
            if let Err(error) = running.reconfigure(registry) {
                tracing::error!(registry = registry.name(), %error, "the previous settings of the registry stay");
            }
            *registry = running.clone();
        }
        for topic in std::iter::once(&mut self.kafka).chain(&mut self.clusters).flat_map(|kafka| &mut kafka.topics) {
            let Some(SharedSchemas(schemas)) = &mut topic.shape.schemas else { continue };
            if let Some(running) = self.registries.iter().find(|running| running.name() == schemas.name()) {
                *schemas = running.clone();
            }
        }
    }

    /// The clusters with topics that have a state, and only these, which are read from their first records.
    pub fn state_sources(&self) -> impl Iterator<Item = Kafka> {
        self.sources().filter_map(|kafka| {
            let has_state = |topic: &&TopicConfig| self.states.iter().any(|table| table.topic == topic.name);
            let topics: Vec<_> = kafka.topics.iter().filter(has_state).cloned().collect();
            let topics = topics.into_iter().map(|topic| TopicConfig { from_start: true, ..topic }).collect::<Vec<_>>();
            (!topics.is_empty()).then(|| Kafka { topics, warm_up: STATE_READING_MAX, ..kafka.clone() })
        })
    }

    /// All clusters.
    pub fn sources(&self) -> impl Iterator<Item = &Kafka> {
        std::iter::once(&self.kafka).chain(&self.clusters)
    }
}

/// How principals are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationSettings {
    /// How long a revocation without `exp` is kept.
    pub keep: Duration,
    /// The cluster, with only this topic. Absent if revocations come from the admin listener only.
    pub source: Option<Kafka>,
}

/// The REST service behind the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `host:port`; names are resolved per connection.
    pub address: String,
    pub connect_timeout: Duration,
    /// The longest silence while reading a response: an idle timeout, not a total one.
    pub read_timeout: Duration,
    /// The longest time for a single write.
    pub write_timeout: Duration,
    /// How long an idle connection is kept.
    pub keepalive: Duration,
    /// The most idle connections.
    pub pool: usize,
    /// Retries after a failed attempt. A request is not retried after the first byte of a response, nor after a byte of
    /// its body was sent.
    pub retries: usize,
    /// Responses that are streams.
    pub streams: UpstreamStreams,
}

/// The streams that the REST service itself sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStreams {
    pub heartbeat: HeartbeatScope,
    /// The longest silence before a heartbeat.
    pub heartbeat_interval: Duration,
    /// In place of [`Upstream::read_timeout`], if it is longer.
    pub read_timeout: Duration,
    /// Settings of single paths; the first that matches applies.
    pub paths: Box<[UpstreamPath]>,
}

impl UpstreamStreams {
    /// The settings of a path that has some.
    pub fn on_path(&self, path: &str) -> Option<&UpstreamPath> {
        self.paths.iter().find(|of_path| of_path.pattern.matches(path))
    }

    /// The streams of a path that have heartbeats.
    pub fn heartbeat_on(&self, path: &str) -> HeartbeatScope {
        self.on_path(path).and_then(|of_path| of_path.heartbeat).unwrap_or(self.heartbeat)
    }
}

/// Streams of the REST service on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamPath {
    pub pattern: Pattern,
    /// In place of [`UpstreamStreams::heartbeat`].
    pub heartbeat: Option<HeartbeatScope>,
    /// Whether responses begin before the service responds.
    pub early: bool,
}

/// Which streams of the REST service have heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatScope {
    None,
    /// Those whose readers ignore comments.
    Comments,
    /// All, although some readers do not accept the empty line between two lines.
    All,
}

impl HeartbeatScope {
    pub fn covers(self, transport: Transport) -> bool {
        match self {
            Self::None => false,
            Self::Comments => transport.row().has_comments(),
            Self::All => true,
        }
    }
}

/// Which clients' `X-Forwarded-*` headers are trusted and extended; those of others are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedTrust {
    Nobody,
    Everybody,
    Networks(Box<[Network]>),
}

/// The name of the registry in the section `registry`.
pub const DEFAULT_REGISTRY: &str = "registry";

/// The name of the cluster in the section `kafka`.
pub const DEFAULT_CLUSTER: &str = "kafka";

/// A source of events: one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// The cluster's name in the configuration.
    pub cluster: Arc<str>,
    /// `host:port,...`
    pub brokers: String,
    /// librdkafka properties as written. Never logged.
    pub properties: Vec<(String, String)>,
    /// Properties whose values are in files. The files were read once for validation, and are reread for every new
    /// client, so that a secret can be rotated without a restart.
    pub property_files: Vec<(String, PathBuf)>,
    /// The topics that are read.
    pub topics: Vec<TopicConfig>,
    /// How long readiness waits until the replay windows are warm.
    pub warm_up: Duration,
    /// Whether `/readyz` fails while no broker responds.
    pub required_for_readiness: bool,
    /// Whether the brokers support offset lookup by time; only the demo's broker does not.
    pub finds_times: bool,
}

/// A topic: the shape of its records, and the size of its replay window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// The name in streams, event ids and metrics.
    pub name: Topic,
    /// The name in its cluster.
    pub source: Topic,
    /// Its keys are the union of the keys that the topic's streams declare, sorted.
    pub shape: Shape,
    /// The most events in the replay window.
    pub replay_events: usize,
    /// The most bytes of these events; the limit that is reached first applies.
    pub replay_bytes: usize,
    /// Whether every record is needed: logs are read from their first records, and the warm-up retains no entries.
    pub from_start: bool,
}

impl TopicConfig {
    /// The default number of events.
    pub const REPLAY_EVENTS: usize = 500;
    /// The default number of bytes.
    pub const REPLAY_BYTES: usize = 16 * 1024 * 1024;

    /// A topic with defaults, except for the keys that streams declare.
    pub fn new(name: Topic, keys: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            source: name.clone(),
            name,
            shape: Shape::new(keys),
            replay_events: Self::REPLAY_EVENTS,
            replay_bytes: Self::REPLAY_BYTES,
            from_start: false,
        }
    }

    /// The size of the replay window.
    pub fn window(&self) -> WindowLimits {
        WindowLimits { events: self.replay_events, bytes: self.replay_bytes }
    }
}

/// The destination and the sampling of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// The URL to which spans are posted.
    pub endpoint: Target,
    /// The sampling ratio of traces that begin here, 0 to 1.
    pub sample: f64,
    pub service_name: String,
}

/// The limits at which a drain or a reload ends streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// The time limit, after which the remaining streams are cut.
    pub budget: Duration,
    /// Streams ended per second, if the time limit allows it.
    pub reconnects_per_second: u32,
}

/// The limits of replay from the log, beyond the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLog {
    pub limits: ReplayLimits,
    /// The size of the cache of chunks, for all topics together, in bytes.
    pub cache_bytes: usize,
}

/// The limits of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open streams.
    pub max_streams: usize,
    /// Open connections, streams included.
    pub max_connections: usize,
    /// Resident bytes above which the process releases memory; `None` means unlimited.
    pub memory: Option<usize>,
    /// Bytes of encodings that are kept for other sessions.
    pub encodings: usize,
    /// The total time of a request head, from its first byte or the start of the connection.
    pub header_timeout: Duration,
    /// How long a keep-alive connection may be idle between requests.
    pub idle_timeout: Duration,
    /// Bytes of upstream responses whose clients do not read them.
    pub proxy_buffers: usize,
    /// How long sent data may stay unacknowledged before a stream's client counts as lost (TCP_USER_TIMEOUT).
    pub tcp_user_timeout: Duration,
    /// Limits of one user, tenant, client address or route, or of the process, across all routes.
    pub quotas: Arc<[Quota]>,
}
