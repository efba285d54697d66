//! The compiled configuration: what the running process reads. One snapshot serves a request for its whole life.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Verifier;
use crate::client::Target;
use crate::config::Certificates;
use crate::decode::Shape;
use crate::event::Topic;
use crate::hub::ReplayLimits;
use crate::route::RouteTable;

/// The most further attempts of a failed request that a configuration may ask for.
pub const RETRIES_MAX: u32 = 10;

/// A valid configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub upstream: Upstream,
    pub forwarded: ForwardedTrust,
    pub kafka: Kafka,
    /// Further clusters that topics are read from.
    pub clusters: Vec<Kafka>,
    /// What they prove themselves and their brokers by, as far as it can be read.
    pub certificates: Vec<Certificates>,
    pub routes: Arc<RouteTable>,
    /// Absent where no token is ever asked for: every route is public then.
    pub verifier: Option<Arc<Verifier>>,
    /// Whether clients may open streams that are silent when they ask for it, to try the way to here.
    pub probe: bool,
    pub limits: Limits,
    pub replay: ReplayLog,
    pub metrics_prefix: String,
    /// Absent: there are no traces.
    pub tracing: Option<Tracing>,
    pub drain: DrainLimits,
    /// Threads that write streams.
    pub writers: usize,
}

impl Snapshot {
    /// Takes the keys of issuers that the snapshot before has requested: a reload waits for no issuer.
    pub fn inherit_keys(&mut self, before: &Self) {
        match (&mut self.verifier, &before.verifier) {
            (Some(now), Some(before)) if now == before => *now = before.clone(),
            (Some(now), Some(before)) => now.inherit_keys(before),
            _ => {}
        }
    }

    /// Every cluster that is read from.
    pub fn sources(&self) -> impl Iterator<Item = &Kafka> {
        std::iter::once(&self.kafka).chain(&self.clusters)
    }
}

/// The REST service behind the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `host:port`; names are resolved per connection.
    pub address: String,
    pub connect_timeout: Duration,
    /// The longest silence while reading an answer: an idle limit, never a total one.
    pub read_timeout: Duration,
    /// The longest a single write may take.
    pub write_timeout: Duration,
    /// How long an unused connection is kept.
    pub keepalive: Duration,
    /// Connections kept for reuse.
    pub pool: usize,
    /// Further attempts after a failed one, never after the first byte of an answer, and of requests with a body
    /// only while none of it was sent.
    pub retries: usize,
}

/// Whose `X-Forwarded-*` headers are believed (and extended); everybody else's are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardedTrust {
    Nobody,
    Everybody,
    /// Networks as address and prefix length.
    Networks(Box<[(std::net::IpAddr, u8)]>),
}

/// What topics call the cluster of the section `kafka`.
pub const DEFAULT_CLUSTER: &str = "kafka";

/// A source of events: one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// What the configuration calls the cluster.
    pub cluster: Arc<str>,
    /// `host:port,...`
    pub brokers: String,
    /// librdkafka properties as written. Never logged.
    pub properties: Vec<(String, String)>,
    /// Those whose value stands in a file. It was read once to be checked, and is read again with every new client, so
    /// that a secret may change while the process runs.
    pub property_files: Vec<(String, PathBuf)>,
    /// What is read of it.
    pub topics: Vec<TopicConfig>,
    /// How long readiness waits for the replay window to be warmed from the log.
    pub warm_up: Duration,
    /// Whether `/readyz` fails while no broker answers.
    pub required_for_readiness: bool,
    /// Whether its brokers find offsets by time: all but the demo's do.
    pub finds_times: bool,
}

/// One topic: the shape of its records, and how much of it is kept for replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// What streams, event ids and metrics call it.
    pub name: Topic,
    /// What its cluster calls it.
    pub source: Topic,
    /// Its keys are the union of the keys declared by the streams that carry the topic, sorted.
    pub shape: Shape,
    /// Events kept for replay.
    pub replay_events: usize,
    /// Bytes of memory that these take; whichever limit is met first.
    pub replay_bytes: usize,
}

impl TopicConfig {
    /// Events kept for replay where the configuration does not say.
    pub const REPLAY_EVENTS: usize = 500;
    /// Bytes kept for replay where the configuration does not say.
    pub const REPLAY_BYTES: usize = 16 * 1024 * 1024;

    /// A topic of which nothing is said but the keys that streams declare.
    pub fn new(name: Topic, keys: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            source: name.clone(),
            name,
            shape: Shape::new(keys),
            replay_events: Self::REPLAY_EVENTS,
            replay_bytes: Self::REPLAY_BYTES,
        }
    }
}

/// Where spans are sent, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// The collector: where spans are posted.
    pub endpoint: Target,
    /// The share of the traces that begin here, 0 to 1.
    pub sample: f64,
    pub service_name: String,
}

/// How streams are ended, by a drain or by a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// How long it may take before the streams that are still open are cut.
    pub budget: Duration,
    /// How many streams a second are told to come back elsewhere, if the budget allows.
    pub reconnects_per_second: u32,
}

/// What is read from the log for replay, beyond the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLog {
    pub limits: ReplayLimits,
    /// Bytes of what was read that are kept for others, of all topics together.
    pub cache_bytes: usize,
}

/// Limits of the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams open at a time.
    pub max_streams: usize,
    /// Connections open at a time, streams included.
    pub max_connections: usize,
    /// Resident bytes at which the process gives up what it keeps; absent: there is no limit.
    pub memory: Option<usize>,
    /// Bytes of encodings that are kept for others.
    pub encodings: usize,
    /// How long a whole request head may take, from its first byte or the connection's start.
    pub header_timeout: Duration,
    /// How long a kept-alive connection may be idle between requests.
    pub idle_timeout: Duration,
    /// Bytes that answers of the upstream may take whose clients do not read them.
    pub proxy_buffers: usize,
    /// How long a stream's client may acknowledge nothing while something is on its way, before it counts as lost.
    pub tcp_user_timeout: Duration,
}
