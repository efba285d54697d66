//! From produce to client, over Apache Kafka: `cargo bench --bench latency [-- EVENTS_PER_S SECONDS]`.
//!
//! One node (`make kafka` installs it), the real binary with its default Kafka properties, and one client a transport.
//! Each record carries the time it was handed to the producer, which sends at once (`linger.ms=0`); a client notes the
//! time it reads it. All of it shares one machine, the JVM too: figures are of a small pod, not of a network. Nothing
//! is judged here. Loopback only; ends by itself.
#![allow(clippy::print_stdout, reason = "a benchmark's figures are its output")]

#[path = "../tests/integration/support/real_broker.rs"]
#[allow(clippy::unwrap_used, clippy::expect_used)] // Written for tests, which fail by it; here the run ends as well.
#[allow(dead_code, unreachable_pub)] // The tests kill it and read its disk.
mod real_broker;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use real_broker::RealBroker;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const TOPIC: &str = "latency";
/// Enough for the rate: one would do.
const PARTITIONS: i32 = 3;
/// The bytes of a record beside its time.
const PADDING_BYTES: usize = 200;
/// How long a client may wait for its first or its next byte.
const SILENCE: Duration = Duration::from_secs(20);
/// The first of them find cold caches and a JVM that still compiles.
const WARM_UP: Duration = Duration::from_secs(5);
/// What a record's time stands behind.
const MARK: &[u8] = b"\"sent_us\":";

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |n: usize, default: u32| arguments.get(n).map_or(Ok(default), |text| text.parse());
    let (rate, seconds) = (number(0, 1000)?, number(1, 20)?);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let broker = RealBroker::start("latency", place, place);
    create_topic(&broker.address)?;
    let sidecar = Sidecar::start(&broker.address)?;
    println!("{rate} events/s for {seconds} s, one client a transport, {PARTITIONS} partitions");
    let start = Instant::now();
    let (warm_up, measured) = (rate * u32::try_from(WARM_UP.as_secs())?, rate * seconds);
    let clients = ["sse", "ndjson", "ws"].map(|transport| {
        (transport, open(sidecar.address, transport).map(|socket| read(socket, start, warm_up, measured)))
    });
    produce(&broker.address, start, warm_up + measured, rate)?;
    for (transport, client) in clients {
        let mut latencies = client?.join().map_err(|_| "a client failed")??;
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)] as f64 / 1000.0;
        let (count, [p50, p90, p99, max]) = (latencies.len(), [50, 90, 99, 100].map(at));
        println!("{transport:>7}: p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, max {max:.2} ms ({count} events)");
    }
    Ok(())
}

fn create_topic(brokers: &str) -> Fallible<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()))?.remove(0).map_err(|(_, code)| code)?;
    Ok(())
}

/// At an even pace; what a late wake-up missed is made up for at once.
fn produce(brokers: &str, start: Instant, count: u32, rate: u32) -> Fallible<()> {
    let producer: BaseProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create()?;
    producer.client().fetch_metadata(Some(TOPIC), SILENCE)?;
    let padding = "x".repeat(PADDING_BYTES);
    let begin = Instant::now();
    for n in 0..count {
        let due = begin + Duration::from_secs(1) * n / rate;
        while Instant::now() < due {
            producer.poll(due.saturating_duration_since(Instant::now()));
        }
        let sent = start.elapsed().as_micros();
        let value = format!(r#"{{"type":"bench","data":{{"padding":"{padding}","sent_us":{sent}}}}}"#);
        let partition = i32::try_from(n)? % PARTITIONS;
        producer
            .send(BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(&value))
            .map_err(|(error, _)| error)?;
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(SILENCE)?)
}

/// Opens a stream and waits for its head.
fn open(address: SocketAddr, transport: &str) -> Fallible<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let headers = if transport == "ws" { upgrade } else { "" };
    write!(socket, "GET /{transport} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.extend(byte);
    }
    if head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.1 101") {
        Ok(socket)
    } else {
        Err("refused".into())
    }
}

type Reading = thread::JoinHandle<std::io::Result<Vec<u64>>>;

/// The latencies of `count` records after the first `skip`, in microseconds. The framing of all transports is passed
/// over: a record is where its mark is.
fn read(mut socket: TcpStream, start: Instant, skip: u32, count: u32) -> Reading {
    thread::spawn(move || {
        let (mut latencies, mut seen, mut text, mut bytes) = (Vec::new(), 0, Vec::new(), vec![0; 1 << 16]);
        while seen < skip + count {
            let length = socket.read(&mut bytes)?;
            if length == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            text.extend_from_slice(&bytes[..length]);
            let mut taken = 0;
            while let Some((sent, end)) = next_time(&text[taken..]) {
                taken += end;
                seen += 1;
                if seen > skip {
                    latencies.push(now.saturating_sub(sent));
                }
            }
            text.drain(..taken);
        }
        Ok(latencies)
    })
}

/// The first time in the text, and where it ends; nothing where it is not whole yet.
fn next_time(text: &[u8]) -> Option<(u64, usize)> {
    let digits = memchr::memmem::find(text, MARK)? + MARK.len();
    let end = digits + memchr::memchr(b'}', &text[digits..])?;
    Some((std::str::from_utf8(&text[digits..end]).ok()?.parse().ok()?, end))
}

/// The sidecar's process, stopped when dropped.
struct Sidecar {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    fn start(brokers: &str) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sidestream.yaml");
        fs::write(&file, configuration(brokers))?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_sidestream"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or("no stdout")?;
        // From here on it is stopped whatever happens.
        let mut sidecar = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), _folder: folder };
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some(listen) = line.split(' ').find_map(|word| word.strip_prefix("listen=")) {
                sidecar.address = listen.parse()?;
                return Ok(sidecar);
            }
        }
        Err("the sidecar ended".into())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(brokers: &str) -> String {
    // The client passes over frames and answers no pings: none must come while it runs.
    let options = "public: true, heartbeat_interval: 10m";
    let route =
        |transport: &str| format!("  - {{ path: /{transport}, stream: s, transport: {transport}, {options} }}\n");
    let routes = ["sse", "ndjson", "ws"].map(route).concat();
    format!(
        "upstream: {{ address: 127.0.0.1:9 }}\nkafka: {{ brokers: '{brokers}' }}\nstreams: {{ s: {{ topics: [{TOPIC}] }} \
         }}\nroutes:\n{routes}"
    )
}
