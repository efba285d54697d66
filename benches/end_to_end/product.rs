//! The measured product: the release binary with a configuration of the benchmark, and its producer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::Fallible;
use crate::clients::MARK;
use crate::process::Running;

/// The topics of broadcast events and of events for a user.
pub const BROADCAST: &str = "broadcast";
pub const KEYED: &str = "keyed";
/// The transports, whose names are also the paths of their streams.
pub const TRANSPORTS: [&str; 3] = ["sse", "ndjson", "ws"];
/// The default size of an event's data.
pub const PAYLOAD_BYTES: usize = 200;
/// How long it may take to find its topics.
const READY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const SETTLE: Duration = Duration::from_secs(1);
const FLUSH: Duration = Duration::from_secs(30);

pub struct Product {
    pub server: Running,
    pub address: SocketAddr,
    #[allow(dead_code, reason = "what operators ask is measured by another program")]
    pub admin: SocketAddr,
    /// Its configuration, which it follows.
    #[allow(dead_code, reason = "the same")]
    pub file: PathBuf,
}

impl Product {
    pub fn start(brokers: &str, upstream: &str) -> Fallible<Self> {
        Self::start_with(brokers, upstream, "")
    }

    /// With additional configuration lines.
    pub fn start_with(brokers: &str, upstream: &str, more: &str) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sidestream.yaml");
        fs::write(&file, configuration(brokers, upstream) + more)?;
        let binary = std::env::var_os("SIDESTREAM_BENCH_BINARY");
        let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_sidestream").into()));
        command.args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]).arg(&file);
        let mut server = Running::start_with(folder, &mut command)?;
        let ready = server.line("ready ")?;
        let word = |name| ready.split_whitespace().find_map(|word| word.strip_prefix(name)).ok_or("no address");
        let (address, admin) = (word("listen=")?.parse()?, word("admin=")?.parse()?);
        await_ready(admin)?;
        // Connections of the warm-up close soon after, and must not count for streams.
        thread::sleep(SETTLE);
        Ok(Self { server, address, admin, file })
    }
}

/// A client that connects before the topics are found would miss earlier events.
fn await_ready(admin: SocketAddr) -> Fallible<()> {
    let end = Instant::now() + READY;
    while Instant::now() < end {
        let mut socket = TcpStream::connect(admin)?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        socket.read_exact(&mut head)?;
        if head.ends_with(b"200") {
            return Ok(());
        }
        thread::sleep(LOOK_AGAIN);
    }
    Err("it did not become ready".into())
}

fn configuration(brokers: &str, upstream: &str) -> String {
    // The clients count bytes and do not respond to pings: none must be sent during a run.
    let options = "public: true, heartbeat_interval: 10m";
    let everybody: String = TRANSPORTS
        .iter()
        .map(|transport| {
            format!("  - {{ path: /{transport}, stream: everybody, transport: {transport}, {options} }}\n")
        })
        .collect();
    format!(
        "upstream: {{ address: '{upstream}' }}\n\
         kafka: {{ brokers: '{brokers}', properties: {{ fetch.wait.max.ms: 10 }} }}\n\
         streams:\n  everybody: {{ topics: [{BROADCAST}] }}\n  users: {{ topics: [{KEYED}], keys: [user] }}\n\
         limits: {{ streams: 20000, connections: 20000 }}\n\
         routes:\n{everybody}  \
         - {{ path: '/users/{{user}}', stream: users, transport: sse, bind: {{ user: path.user }}, {options} }}\n"
    )
}

/// The request for a stream.
pub fn request(path: &str) -> String {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let headers = if path == "/ws" { upgrade } else { "" };
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n")
}

/// The name of a user; all names have the same length.
pub fn user(number: usize) -> String {
    format!("user-{number:05}")
}

/// The data of an event: a string of this many bytes with one mark.
pub fn data(bytes: usize) -> String {
    format!("{}{}", char::from(MARK), "x".repeat(bytes.saturating_sub(1)))
}

/// A record for the product, and a message for peers.
pub fn envelope(user: Option<&str>, data: &str) -> String {
    match user {
        Some(user) => format!(r#"{{"type":"bench","user":"{user}","data":"{data}"}}"#),
        None => format!(r#"{{"type":"bench","data":"{data}"}}"#),
    }
}

pub type Mock = MockCluster<'static, DefaultProducerContext>;

/// librdkafka's mock broker in this process.
pub fn mock(partitions: i32) -> Fallible<Mock> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(BROADCAST, partitions, 1)?;
    cluster.create_topic(KEYED, partitions, 1)?;
    Ok(cluster)
}

/// A producer.
pub struct Feed(BaseProducer<DefaultProducerContext>);

impl Feed {
    /// Sends each record at once.
    pub fn to(brokers: &str) -> Fallible<Self> {
        Self::with_linger(brokers, "0")
    }

    /// Sends records in batches with a short delay, which is Kafka's own default since 4.0.
    pub fn in_batches(brokers: &str) -> Fallible<Self> {
        Self::with_linger(brokers, "5")
    }

    fn with_linger(brokers: &str, linger_ms: &str) -> Fallible<Self> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("linger.ms", linger_ms)
            // Every record goes to a random partition, if there are several.
            .set("sticky.partitioning.linger.ms", "0")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        Ok(Self(producer))
    }

    pub fn send(&self, topic: &str, partition: Option<i32>, value: &str) -> Fallible<()> {
        let end = Instant::now() + FLUSH;
        loop {
            let mut record = BaseRecord::<(), _>::to(topic).payload(value);
            record.partition = partition;
            match self.0.send(record) {
                Ok(()) => {
                    self.0.poll(Duration::ZERO);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if Instant::now() < end => {
                    self.0.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    pub fn flush(&self) -> Fallible<()> {
        Ok(self.0.flush(FLUSH)?)
    }
}
