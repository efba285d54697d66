//! An upper bound on the memory and descriptors of a configuration, as one formula. Pure.

use std::fmt;

use super::snapshot::{Kafka, Snapshot};
use super::units::write_size;
use crate::response_stream::HTTP2_SEND_BUFFER_BYTES;
use crate::route::StreamRoute;

/// The executable, its runtime, the stacks of its threads, and the allocator's reserve.
const PROCESS_BYTES: u64 = 32 << 20;
/// The tables and buffers of a writer.
const WRITER_BYTES: u64 = 256 << 10;
/// An entry of a writer's window, including the growth reserve of the queue.
const WINDOW_PLACE_BYTES: u64 = 112;
/// The least weight of an event in a window.
const EVENT_BYTES_MIN: u64 = 400;
/// Events that the source has read and the slowest writer has not yet taken; the writers share them
/// (`writer/inbox.rs`).
const INBOX_BYTES: u64 = 16 << 20;
/// An open stream without queued events: its session, its index entry, its slot.
const STREAM_BYTES: u64 = 2 << 10;
/// A connection that is not a stream, while its client reads. Those of clients that do not read have a common limit.
const CONNECTION_BYTES: u64 = 64 << 10;
/// What HTTP/2 adds to a stream: the bytes that its client has made no room for, and a connection beside it.
const HTTP2_STREAM_BYTES: u64 = HTTP2_SEND_BUFFER_BYTES as u64 + CONNECTION_BYTES;
/// What TLS adds to a connection whose client neither reads nor completes what it sends: the session, and a record of 16 KiB
/// in each direction.
const TLS_BYTES: u64 = 50 << 10;
/// The connections of the admin listener: probes, a scraper, a user.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// The most memory that a response takes in this process while its client does not read it: see docs/operations.md.
pub const STALLED_BYTES: usize = 768 << 10;
/// The default prefetch of a Kafka client (`queued.max.messages.kbytes`), in KiB.
const KAFKA_AHEAD_KIB: u64 = 16 << 10;
/// A fetch response in flight (`fetch.max.bytes`), in bytes.
const KAFKA_FETCH_BYTES: u64 = 16 << 20;
/// The largest decompressed batch (`receive.message.max.bytes`), in bytes: the default, and librdkafka's own beside a
/// `fetch.max.bytes`.
const KAFKA_RECEIVE_BYTES: u64 = 32 << 20;
const KAFKA_RECEIVE_BYTES_BESIDE_FETCH: u64 = 100_000_000;
/// The clients of a cluster: the consumer, and the one for replay.
const KAFKA_CLIENTS: u64 = 2;
/// The connections of one Kafka client to its brokers.
const KAFKA_CONNECTIONS: u64 = 32;
/// Listeners, epoll, pipes, files being read, connections to the admin listener.
const PROCESS_DESCRIPTORS: u64 = 192;

/// The sum of the limits. Actual use is usually lower, and is in the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The components that hold memory, with the most bytes of each.
    pub holders: Vec<(&'static str, u64)>,
    /// The memory limit of the process, in bytes. Above it, the process releases memory in the order of
    /// docs/operations.md.
    pub memory: Option<u64>,
    pub descriptors: u64,
}

impl Budget {
    pub fn of(snapshot: &Snapshot) -> Self {
        let limits = &snapshot.limits;
        let (streams, connections) = (limits.max_streams as u64, limits.max_connections as u64);
        let (writers, clusters) = (snapshot.writers as u64, snapshot.sources().count() as u64);
        let most = |of: fn(&StreamRoute) -> usize| snapshot.routes.routes().map(|route| of(route)).max().unwrap_or(0);
        let message = most(|route| route.websocket.message_bytes) as u64;
        let queue = most(|route| route.queue.bytes) as u64;
        let holders = vec![
            ("process", PROCESS_BYTES + writers * WRITER_BYTES),
            ("windows", windows(snapshot, writers)),
            ("encodings", limits.encodings as u64),
            ("pages", snapshot.replay.cache_bytes as u64),
            ("states", states(snapshot)),
            ("kafka", snapshot.sources().map(kafka).sum()),
            ("inboxes", INBOX_BYTES),
            ("streams", streams * (STREAM_BYTES + message)),
            ("queues", streams.saturating_mul(queue)),
            ("connections", connections.saturating_sub(streams) * CONNECTION_BYTES),
            ("http2", streams * HTTP2_STREAM_BYTES),
            ("tls", if snapshot.tls.is_some() { connections * TLS_BYTES } else { 0 }),
            ("proxy", limits.proxy_buffers as u64),
            ("admin", (ADMIN_CONNECTIONS_MAX * STALLED_BYTES) as u64),
        ];
        // A proxied request also has a connection to the service.
        let descriptors = 2 * connections
            + snapshot.upstream.pool as u64
            + (clusters * KAFKA_CLIENTS + snapshot.state_sources().count() as u64) * KAFKA_CONNECTIONS
            + writers * 2
            + PROCESS_DESCRIPTORS;
        Self { holders, memory: limits.memory.map(|bytes| bytes as u64), descriptors }
    }

    /// The sum of all components, in bytes.
    pub fn ceiling(&self) -> u64 {
        self.holders.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// `memory: at most 1.2GiB (process 33.0MiB + ...), limited to 256.0MiB; descriptors: at most 40384`
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory: at most {} (", rounded(self.ceiling()))?;
        for (n, (holder, bytes)) in self.holders.iter().enumerate() {
            write!(f, "{}{holder} {}", if n == 0 { "" } else { " + " }, rounded(*bytes))?;
        }
        match self.memory {
            Some(bytes) => write!(f, "), limited to {}", rounded(bytes))?,
            None => f.write_str("), without a limit")?,
        }
        write!(f, "; descriptors: at most {}", self.descriptors)
    }
}

/// The windows of all topics, whose events the writers share, and the entries of each writer.
fn windows(snapshot: &Snapshot, writers: u64) -> u64 {
    let topics = snapshot.sources().flat_map(|cluster| &cluster.topics);
    let window = |bytes: u64, events: u64| bytes + writers * events.min(bytes / EVENT_BYTES_MIN) * WINDOW_PLACE_BYTES;
    topics.map(|topic| window(topic.replay_bytes as u64, topic.replay_events as u64)).sum()
}

/// The states, and the client that reads them.
fn states(snapshot: &Snapshot) -> u64 {
    let tables: u64 = snapshot.states.iter().map(|table| table.bytes as u64).sum();
    tables + snapshot.state_sources().map(|cluster| kafka(&cluster) / KAFKA_CLIENTS).sum::<u64>()
}

fn kafka(cluster: &Kafka) -> u64 {
    let number = |name: &str| cluster.properties.iter().find(|(known, _)| known == name)?.1.trim().parse::<u64>().ok();
    let ahead = number("queued.max.messages.kbytes").unwrap_or(KAFKA_AHEAD_KIB).saturating_mul(1024);
    let fetch = number("fetch.max.bytes");
    let receive = if fetch.is_some() { KAFKA_RECEIVE_BYTES_BESIDE_FETCH } else { KAFKA_RECEIVE_BYTES };
    let receive = number("receive.message.max.bytes").unwrap_or(receive);
    ahead.saturating_add(fetch.unwrap_or(KAFKA_FETCH_BYTES)).saturating_add(receive).saturating_mul(KAFKA_CLIENTS)
}

/// One decimal, in the largest unit that yields at least 1.
fn rounded(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find(|(_, size)| bytes >= *size);
    unit.map_or_else(|| write_size(bytes), |(name, size)| format!("{:.1}{name}", bytes as f64 / *size as f64))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    fn budget(more: &str) -> Budget {
        let text = format!("upstream: {{ address: a:1 }}\nkafka: {{ brokers: a:1 }}\n{more}");
        Budget::of(&parse(&text, "x.yaml", Path::new("")).unwrap())
    }

    #[test]
    fn the_formula_follows_the_configuration() {
        let small = "writers: 1\nlimits: { streams: 10, connections: 20, memory: 100MiB, encodings: 1MiB, proxy_buffers: 1MiB }\n\
                     replay: { cache: 4MiB }\n";
        let bare = budget(small);
        let expected = [
            ("process", (32 << 20) + (256 << 10)),
            ("windows", 0),
            ("encodings", 1 << 20),
            ("pages", 4 << 20),
            ("states", 0),
            ("kafka", 128 << 20),
            ("inboxes", 16 << 20),
            ("streams", 10 * (2 << 10)),
            ("queues", 0),
            ("connections", 10 * (64 << 10)),
            ("http2", 10 * (128 << 10)),
            ("tls", 0),
            ("proxy", 1 << 20),
            ("admin", 48 << 20),
        ];
        assert_eq!(bare.holders, expected);
        assert_eq!((bare.ceiling(), bare.memory), (expected.iter().map(|(_, bytes)| bytes).sum(), Some(100 << 20)));
        assert_eq!(bare.descriptors, 2 * 20 + 128 + 64 + 2 + 192);
        let route = "streams: { s: { topics: [t] } }\ntopics: { t: { replay: { events: 100, bytes: 1MiB } } }\n\
                     routes: [{ path: /s, stream: s, transport: sse, public: true, queue: { bytes: 1KiB } }]\n";
        let more = budget(&format!("{small}{route}"));
        let bytes = |of: &Budget, holder| of.holders.iter().find(|(name, _)| *name == holder).unwrap().1;
        assert_eq!(bytes(&more, "windows"), (1 << 20) + 100 * 112);
        assert_eq!((bytes(&more, "queues"), bytes(&more, "streams")), (10 << 10, 10 * ((2 << 10) + (64 << 10))));
        let said = bare.to_string();
        assert!(said.starts_with("memory: at most 232.1MiB (process 32.2MiB + windows 0B + "), "{said}");
        assert!(said.ends_with("limited to 100.0MiB; descriptors: at most 426"), "{said}");
    }
}
