//! The compiled configuration: what the running process reads. One snapshot serves a request for its whole life.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Verifier;
use crate::event::Topic;
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
    pub routes: Arc<RouteTable>,
    /// Absent where no token is ever asked for: every route is public then.
    pub verifier: Option<Arc<Verifier>>,
    pub limits: Limits,
    pub metrics_prefix: String,
    /// How long a SIGTERM may take before the process ends with streams still open.
    pub drain_budget: Duration,
    /// Threads that write streams.
    pub writers: usize,
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

/// The source of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port,...`
    pub brokers: String,
    /// librdkafka properties as written, those from files already read. Never logged.
    pub properties: Vec<(String, String)>,
    pub topics: Vec<TopicConfig>,
    /// How long readiness waits for the replay window to be warmed from the log.
    pub warm_up: Duration,
    /// Whether `/readyz` fails while no broker answers.
    pub required_for_readiness: bool,
}

/// One topic: what is taken from its envelopes and how much of it is kept for replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub name: Topic,
    /// The union of the keys declared by the streams that carry the topic, sorted.
    pub keys: Box<[Arc<str>]>,
    /// Events kept for replay.
    pub replay_events: usize,
    /// Bytes of envelopes kept for replay; whichever limit is met first.
    pub replay_bytes: usize,
}

/// Limits of the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams open at a time.
    pub max_streams: usize,
    /// Connections open at a time, streams included.
    pub max_connections: usize,
    /// How long a whole request head may take, from its first byte or the connection's start.
    pub header_timeout: Duration,
    /// How long a kept-alive connection may be idle between requests.
    pub idle_timeout: Duration,
    /// `TCP_USER_TIMEOUT` of streams: how long sent bytes may stay unacknowledged.
    pub tcp_user_timeout: Duration,
}
