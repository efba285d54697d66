//! All clients resume at once: `cargo bench --bench resume [-- CLIENTS EVENTS]`.
//!
//! This many clients, each a different user, resume this many events back, far beyond the replay window, with Apache
//! Kafka (`make kafka` installs it) and the real binary. Reports the time until each has all of its events, what was
//! read of the log, and the latency of a few live clients meanwhile. Everything runs on one machine. Fails if an event
//! is missing. Loopback only; ends by itself.
#![allow(clippy::print_stdout, reason = "a benchmark's figures are its output")]

#[path = "../tests/integration/support/real_broker.rs"]
// Written for tests, which fail by panicking; here the run ends as well.
#[allow(clippy::unwrap_used, clippy::expect_used)]
#[allow(dead_code, unreachable_pub)] // Only the tests kill the node and read its data.
mod real_broker;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use real_broker::RealBroker;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const TOPIC: &str = "resume";
const PARTITIONS: i32 = 4;
/// The bytes of a record in addition to its unique part.
const PADDING_BYTES: usize = 150;
/// The time limit of the whole run.
const PATIENCE: Duration = Duration::from_secs(120);
/// Live events per second for a separate user, and for how long before the clients resume.
const LIVE_RATE: u32 = 100;
const LIVE_BEFORE: Duration = Duration::from_secs(5);

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |n: usize, default: usize| arguments.get(n).map_or(Ok(default), |text| text.parse());
    let (clients, events) = (number(0, 5000)?, number(1, 20_000)?);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let broker = RealBroker::start("resume", place, place);
    create_topic(&broker.address)?;
    let sidecar = Sidecar::start(&broker.address)?;
    let beginning = sidecar.position()?;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &broker.address).create()?;
    for n in 0..events {
        send(&producer, n, &format!("u{}", n % clients), "0")?;
    }
    producer.flush(PATIENCE)?;

    let start = Instant::now();
    let mut live = sidecar.open("live", None)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, address) = (stop.clone(), broker.address.clone());
    let feeding = thread::spawn(move || feed_live(&address, start, &stopped).map_err(|error| error.to_string()));
    let reading = thread::spawn(move || read_live(&mut live, start));
    thread::sleep(LIVE_BEFORE);

    let (began, cpu) = (Instant::now(), sidecar.cpu()?);
    come_back(&sidecar, &beginning, clients, events)?;
    let (took, cpu) = (began.elapsed(), sidecar.cpu()? - cpu);
    let resumed_ms = start.elapsed().as_millis();
    stop.store(true, Ordering::Relaxed);
    feeding.join().map_err(|_| "the producer failed")??;
    let live = reading.join().map_err(|_| "the live client failed")??;

    println!("{clients} clients, {events} events behind: all had theirs after {:.2} s", took.as_secs_f64());
    println!("server: {:.2} s of CPU", cpu.as_secs_f64());
    let (records, bytes) = (sidecar.metric("replay_records_total")?, sidecar.metric("replay_bytes_total")?);
    println!("read of the log: {records} records, {bytes} bytes ({:.2} of the range)", records / events as f64);
    let before = (began - start).as_millis();
    print_latency("live before", live.iter().filter(|(at, _)| *at < before));
    print_latency("live meanwhile", live.iter().filter(|(at, _)| (before..resumed_ms).contains(at)));
    Ok(())
}

fn print_latency<'a>(name: &str, latencies: impl Iterator<Item = &'a (u128, u64)>) {
    let mut latencies: Vec<u64> = latencies.map(|(_, latency)| *latency).collect();
    latencies.sort_unstable();
    let at = |percent: usize| {
        let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(f64::NAN, |us| *us as f64 / 1000.0)
    };
    println!("{name}: p50 {:.2} ms, p99 {:.2} ms ({} events)", at(50), at(99), latencies.len());
}

fn create_topic(brokers: &str) -> Fallible<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()))?.remove(0).map_err(|(_, code)| code)?;
    Ok(())
}

fn send(producer: &BaseProducer, n: usize, user: &str, sent_us: &str) -> Fallible<()> {
    let padding = "x".repeat(PADDING_BYTES);
    let value =
        format!(r#"{{"type":"bench","userId":"{user}","data":{{"n":{n},"padding":"{padding}","sent_us":{sent_us}}}}}"#);
    let partition = i32::try_from(n)? % PARTITIONS;
    let mut record = BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(&value);
    loop {
        match producer.send(record) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(Duration::from_millis(10));
                record = again;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

fn feed_live(brokers: &str, start: Instant, stop: &AtomicBool) -> Fallible<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create()?;
    let begin = Instant::now();
    for n in 0.. {
        let due = begin + Duration::from_secs(1) * n / LIVE_RATE;
        while Instant::now() < due {
            producer.poll(due.saturating_duration_since(Instant::now()));
        }
        let is_last = stop.load(Ordering::Relaxed);
        let sent = if is_last { "-1".into() } else { start.elapsed().as_micros().to_string() };
        send(&producer, 0, "live", &sent)?;
        if is_last || begin.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(producer.flush(PATIENCE)?)
}

/// When each live event arrived, in milliseconds since `start`, and its latency in microseconds.
fn read_live(socket: &mut TcpStream, start: Instant) -> std::io::Result<Vec<(u128, u64)>> {
    let mut seen = Vec::new();
    for line in BufReader::new(socket).lines() {
        let line = line?;
        let Some((_, sent)) = line.split_once("\"sent_us\":") else { continue };
        let Ok(sent) = sent.trim_end_matches('}').parse::<i64>() else { continue };
        if sent < 0 {
            break;
        }
        let now = i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX);
        seen.push((start.elapsed().as_millis(), u64::try_from(now - sent).unwrap_or(0)));
    }
    Ok(seen)
}

/// A resuming client.
struct Client {
    socket: mio::net::TcpStream,
    /// Events that it has not received yet.
    left: usize,
    /// Bytes after the last line break.
    rest: Vec<u8>,
}

/// Opens all streams at the same position, and reads them until each has the events of its user.
fn come_back(sidecar: &Sidecar, cursor: &str, clients: usize, events: usize) -> Fallible<()> {
    let mut poll = Poll::new()?;
    let mut all = Vec::with_capacity(clients);
    for n in 0..clients {
        let socket = sidecar.request(&format!("u{n}"), Some(cursor))?;
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(n), Interest::READABLE)?;
        let left = events / clients + usize::from(n < events % clients);
        all.push(Client { socket, left, rest: Vec::new() });
    }
    let (deadline, mut ready, mut unfinished) = (Instant::now() + PATIENCE, Events::with_capacity(1024), clients);
    let mut bytes = vec![0; 1 << 16];
    while unfinished > 0 {
        poll.poll(&mut ready, Some(Duration::from_secs(1)))?;
        for event in &ready {
            let client = &mut all[event.token().0];
            let had = client.left;
            client.read(&mut bytes)?;
            unfinished -= usize::from(had > 0 && client.left == 0);
        }
        if Instant::now() > deadline {
            return Err(format!("{unfinished} clients still miss events").into());
        }
    }
    Ok(())
}

impl Client {
    fn read(&mut self, bytes: &mut [u8]) -> Fallible<()> {
        loop {
            match self.socket.read(bytes) {
                Ok(0) => return Err("a stream ended".into()),
                Ok(length) => self.rest.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest.drain(..end);
        if lines.contains("event: gap") {
            return Err(format!("a client was told of a loss: {lines}").into());
        }
        let got = lines.lines().filter(|line| line.starts_with("data: ")).count();
        self.left = self.left.checked_sub(got).ok_or("an event came twice")?;
        Ok(())
    }
}

/// The sidecar's process, stopped when dropped.
struct Sidecar {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
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
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        // From here on it is stopped when dropped.
        let mut sidecar = Self { child, address: nowhere, admin: nowhere, _folder: folder };
        let line = BufReader::new(output).lines().next().ok_or("the sidecar ended")??;
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).ok_or("no ready line");
        (sidecar.address, sidecar.admin) = (word("listen=")?.parse()?, word("admin=")?.parse()?);
        Ok(sidecar)
    }

    /// The current position of the stream: the first id that a client receives.
    fn position(&self) -> Fallible<String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut lines = BufReader::new(self.open("nobody", None)?).lines().map_while(Result::ok);
            let mut record = lines.by_ref().skip_while(|line| !line.starts_with("retry")).take(2);
            if let Some(id) = record.find_map(|line| line.strip_prefix("id: ").map(str::to_owned)) {
                return Ok(id);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err("the log is not read".into())
    }

    fn request(&self, user: &str, cursor: Option<&str>) -> Fallible<TcpStream> {
        let mut socket = TcpStream::connect(self.address)?;
        let resume = cursor.map(|cursor| format!("Last-Event-ID: {cursor}\r\n")).unwrap_or_default();
        write!(socket, "GET /users/{user}/events HTTP/1.0\r\nHost: bench\r\n{resume}\r\n")?;
        Ok(socket)
    }

    /// Opens a stream, and waits for its head.
    fn open(&self, user: &str, cursor: Option<&str>) -> Fallible<TcpStream> {
        let mut socket = self.request(user, cursor)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            head.extend(byte);
        }
        if head.starts_with(b"HTTP/1.1 200") { Ok(socket) } else { Err("refused".into()) }
    }

    /// The sum of a metric's series.
    fn metric(&self, name: &str) -> Fallible<f64> {
        let mut socket = TcpStream::connect(self.admin)?;
        write!(socket, "GET /metrics HTTP/1.0\r\nHost: bench\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let series = text.lines().filter(|line| !line.starts_with('#') && line.contains(name));
        Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// User and system time so far (proc(5): fields 14 and 15, in ticks of 10 ms).
    fn cpu(&self) -> Fallible<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = text.rsplit(") ").next().ok_or("no stat")?.split(' ').collect();
        let ticks: u64 =
            fields.get(11).ok_or("no utime")?.parse::<u64>()? + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
        Ok(Duration::from_millis(10 * ticks))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(brokers: &str) -> String {
    format!(
        "upstream: {{ address: 127.0.0.1:9 }}\nkafka: {{ brokers: '{brokers}' }}\nstreams: {{ s: {{ topics: [{TOPIC}], \
         keys: [userId] }} }}\nroutes:\n  - {{ path: '/users/{{userId}}/events', stream: s, transport: sse, public: true, \
         bind: {{ userId: path.userId }} }}\n"
    )
}
