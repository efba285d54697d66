//! Replay from the log by number of partitions: `cargo bench --bench replay [-- EVENTS CLIENTS [PARTITIONS...]]`.
//!
//! One client, then many at once, resume this many events back, far beyond the replay window, on topics with few and
//! many partitions, with each form of position. Apache Kafka (`make kafka` installs it) with its default settings, the
//! real binary, loopback. It prints the time until each client has all events, and the CPU time that sidestream used
//! for that, which depends less on what else the machine does. It fails only if events are missing. Ends by itself.
#![allow(clippy::print_stdout, reason = "a benchmark's figures are its output")]

#[path = "../tests/integration/support/real_broker.rs"]
// Written for tests, which fail by panicking; here the run ends as well.
#[allow(clippy::unwrap_used, clippy::expect_used)]
#[allow(dead_code, unreachable_pub)] // Only the tests kill the node and read its data.
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
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use real_broker::RealBroker;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const PARTITIONS: [i32; 4] = [1, 12, 64, 256];
/// The bytes of a record in addition to its unique part.
const PADDING_BYTES: usize = 100;
/// The unit of CPU times in /proc: USER_HZ, 100 on every architecture that Rust's standard library runs on.
const TICKS_PER_SECOND: u64 = 100;
/// The time limit of each step.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |n: usize, default: usize| arguments.get(n).map_or(Ok(default), |text| text.parse());
    let (events, clients) = (number(0, 20_000)?, number(1, 200)?);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let broker = RealBroker::start("replay", place, place);
    println!(
        "{:>10} {:>8} {:>10} {:>8} {:>8} {:>10}",
        "partitions", "clients", "position", "seconds", "CPU s", "events/s"
    );
    let chosen: Vec<i32> = arguments.iter().skip(2).map(|text| text.parse()).collect::<Result<_, _>>()?;
    for partitions in if chosen.is_empty() { PARTITIONS.to_vec() } else { chosen } {
        measure(&broker.address, partitions, events, clients)?;
    }
    Ok(())
}

fn measure(brokers: &str, partitions: i32, events: usize, clients: usize) -> Fallible<()> {
    let topic = format!("replay-{partitions}");
    create_topic(brokers, &topic, partitions)?;
    let sidecar = Sidecar::start(brokers, &topic)?;
    let cursor = sidecar.position()?;
    produce(brokers, &topic, partitions, events)?;
    // For a bare event id, the events of other partitions around its time are sent again.
    let forms = [
        ("cursor", cursor, events),
        ("event id", format!("{topic}:0:0"), events - 1),
        ("time", "1970-01-01T00:00:00Z".into(), events),
        ("time ago", "-1h".into(), events),
    ];
    for (form, since, wanted) in forms {
        // A new process each time, so that no chunk is cached.
        let sidecar = Sidecar::start(brokers, &topic)?;
        sidecar.position()?;
        report(partitions, 1, form, wanted, sidecar.read(1, &since, wanted)?);
    }
    let sidecar = Sidecar::start(brokers, &topic)?;
    sidecar.position()?;
    report(partitions, clients, "time", events, sidecar.read(clients, "1970-01-01T00:00:00Z", events)?);
    Ok(())
}

/// What it cost until all clients had their events.
struct Cost {
    elapsed: Duration,
    /// Of all threads of the sidecar.
    cpu: Duration,
}

fn report(partitions: i32, clients: usize, form: &str, events: usize, Cost { elapsed, cpu }: Cost) {
    let (elapsed, cpu) = (elapsed.as_secs_f64(), cpu.as_secs_f64());
    let rate = (clients * events) as f64 / elapsed;
    println!("{partitions:>10} {clients:>8} {form:>10} {elapsed:>8.2} {cpu:>8.2} {rate:>10.0}");
}

fn create_topic(brokers: &str, topic: &str, partitions: i32) -> Fallible<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()))?.remove(0).map_err(|(_, code)| code)?;
    Ok(())
}

/// Spreads the events evenly over the partitions.
fn produce(brokers: &str, topic: &str, partitions: i32, events: usize) -> Fallible<()> {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let padding = "x".repeat(PADDING_BYTES);
    for n in 0..events {
        let value = format!(r#"{{"type":"bench","data":{{"n":{n},"padding":"{padding}"}}}}"#);
        let mut record = BaseRecord::<(), _>::to(topic).partition(i32::try_from(n)? % partitions).payload(&value);
        while let Err((error, again)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
            record = again;
        }
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(PATIENCE)?)
}

/// The sidecar's process, stopped when dropped.
struct Sidecar {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    fn start(brokers: &str, topic: &str) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sidestream.yaml");
        fs::write(
            &file,
            format!(
                "upstream: {{ address: 127.0.0.1:9 }}\nkafka: {{ brokers: '{brokers}' }}\ntopics: {{ {topic}: {{ replay: {{ \
                 events: 100 }} }} }}\nstreams: {{ s: {{ topics: [{topic}] }} }}\nroutes:\n  - {{ path: /events, stream: s, \
                 transport: sse, public: true }}\n"
            ),
        )?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_sidestream"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or("no stdout")?;
        // From here on it is stopped when dropped.
        let mut sidecar = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), _folder: folder };
        let line = BufReader::new(output).lines().next().ok_or("the sidecar ended")??;
        let word = line.split(' ').find_map(|word| word.strip_prefix("listen=")).ok_or("no ready line")?;
        sidecar.address = word.parse()?;
        Ok(sidecar)
    }

    /// The current position of the stream: the first id that a client receives, once the log was read.
    fn position(&self) -> Fallible<String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut lines = BufReader::new(self.open(None)?).lines().map_while(Result::ok);
            let mut record = lines.by_ref().skip_while(|line| !line.starts_with("retry")).take(2);
            if let Some(id) = record.find_map(|line| line.strip_prefix("id: ").map(str::to_owned)) {
                return Ok(id);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err("the log is not read".into())
    }

    /// The cost until this many clients have received this many events each.
    fn read(&self, clients: usize, since: &str, events: usize) -> Fallible<Cost> {
        let (start, cpu) = (Instant::now(), self.cpu()?);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..clients)
                .map(|_| scope.spawn(|| self.read_one(since, events).map_err(|error| error.to_string())))
                .collect();
            readers.into_iter().try_for_each(|reader| Ok(reader.join().map_err(|_| "a client failed")??))
        })
        .map_err(|error: Box<dyn std::error::Error>| error.to_string())?;
        Ok(Cost { elapsed: start.elapsed(), cpu: self.cpu()?.saturating_sub(cpu) })
    }

    /// The CPU time that the process used so far (proc_pid_stat(5): the 14th and the 15th field).
    fn cpu(&self) -> Fallible<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("an unknown format of /proc/PID/stat")?;
        let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 1000 / TICKS_PER_SECOND))
    }

    fn read_one(&self, since: &str, events: usize) -> Fallible<()> {
        let (mut socket, mut left) = (self.open(Some(since))?, events);
        let (mut bytes, mut rest) = (vec![0; 1 << 16], Vec::new());
        while left > 0 {
            let length = socket.read(&mut bytes)?;
            if length == 0 {
                return Err(format!("the stream ended {left} events early").into());
            }
            rest.extend_from_slice(&bytes[..length]);
            let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines = String::from_utf8_lossy(&rest[..end]);
            if lines.contains("event: gap") {
                return Err(format!("a gap: {lines}").into());
            }
            let got = lines.lines().filter(|line| line.starts_with("data: ")).count();
            left = left.checked_sub(got).ok_or("an event came twice")?;
            rest.drain(..end);
        }
        Ok(())
    }

    fn open(&self, since: Option<&str>) -> Fallible<TcpStream> {
        let mut socket = TcpStream::connect(self.address)?;
        let since = since.map(|since| format!("Last-Event-ID: {since}\r\n")).unwrap_or_default();
        write!(socket, "GET /events HTTP/1.0\r\nHost: bench\r\n{since}\r\n")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
