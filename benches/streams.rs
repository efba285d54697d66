//! What streams cost, against a floor in the same run: `cargo bench --bench streams [-- STREAMS EVENTS_PER_S SECONDS]`.
//!
//! The real binary with a mock broker serves STREAMS idle SSE streams, then EVENTS_PER_S events a second to all of
//! them; then a floor, a loop that sends the same number of bytes to as many sockets and does nothing else, does the
//! same. Figures are the server process's own: resident memory per idle stream and CPU time per delivery (event and
//! stream). Clients share the machine, so trust the ratio, not the absolute figures. Loopback only; ends by itself.

#![allow(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The bytes of one delivery in the floor; the sidecar's are measured and printed beside.
const PAYLOAD_BYTES: usize = 200;
/// How long after the last event its deliveries may take.
const TAIL: Duration = Duration::from_secs(10);

struct Load {
    streams: usize,
    events_per_s: u64,
    seconds: u64,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "floor") {
        return floor(arguments[1].parse()?, arguments[2].parse()?);
    }
    let number = |n: usize, default: u64| arguments.get(n).map_or(Ok(default), |text| text.parse());
    let load = Load { streams: number(0, 1000)? as usize, events_per_s: number(1, 100)?, seconds: number(2, 5)? };
    println!("{} streams, {} events/s for {} s", load.streams, load.events_per_s, load.seconds);
    let sidecar = measure_sidecar(&load)?;
    let floor = measure_floor(&load, (sidecar.bytes_per_delivery).max(1.0) as usize)?;
    sidecar.print("sidestream");
    floor.print("floor");
    println!("CPU per delivery: {:.2} times the floor", sidecar.us_per_delivery / floor.us_per_delivery);
    Ok(())
}

struct Figures {
    bytes_per_idle: f64,
    us_per_delivery: f64,
    bytes_per_delivery: f64,
    deliveries: u64,
}

impl Figures {
    fn print(&self, name: &str) {
        println!(
            "{name:>10}: {:7.0} bytes resident per idle stream, {:6.2} us CPU per delivery of {:.0} bytes ({} deliveries)",
            self.bytes_per_idle, self.us_per_delivery, self.bytes_per_delivery, self.deliveries
        );
    }
}

fn measure_sidecar(load: &Load) -> Fallible<Figures> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic("orders", 1, 1)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sidestream.yaml");
    fs::write(&file, configuration(&cluster.bootstrap_servers(), load.streams))?;
    let mut child = Running::start(
        Command::new(env!("CARGO_BIN_EXE_sidestream"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(&file),
    )?;
    let ready = child.line("ready ")?;
    let address = ready.split("listen=").nth(1).and_then(|rest| rest.split(' ').next()).ok_or("no address")?;
    let clients = Clients::connect(address.parse()?, load.streams, b"GET /events HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).set("linger.ms", "0").create()?;
    clients.run(&child, load, |_| produce(&producer, "x".repeat(PAYLOAD_BYTES)))
}

fn measure_floor(load: &Load, bytes: usize) -> Fallible<Figures> {
    let mut child = Running::start(Command::new(std::env::current_exe()?).args([
        "floor",
        &load.streams.to_string(),
        &bytes.to_string(),
    ]))?;
    let address: SocketAddr = child.line("listen ")?.trim_start_matches("listen ").trim().parse()?;
    let clients = Clients::connect(address, load.streams, b"")?;
    let mut input = child.child.stdin.take().ok_or("no stdin")?;
    clients.run(&child, load, |_| Ok(input.write_all(b".").and_then(|()| input.flush())?))
}

/// The least a fan-out can do: one send of ready bytes to each socket.
fn floor(streams: usize, bytes: usize) -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listen {}", listener.local_addr()?);
    let payload = vec![b'x'; bytes];
    let mut sockets = Vec::with_capacity(streams);
    for socket in listener.incoming().take(streams) {
        let mut socket = socket?;
        socket.set_nodelay(true)?;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        sockets.push(socket);
    }
    for tick in BufReader::new(std::io::stdin()).bytes() {
        tick?;
        for socket in &mut sockets {
            socket.write_all(&payload)?;
        }
    }
    Ok(())
}

fn produce(producer: &BaseProducer<DefaultProducerContext>, text: String) -> Fallible<()> {
    let record = format!(r#"{{"type":"bench","data":"{text}"}}"#);
    producer.send(BaseRecord::<(), _>::to("orders").payload(&record)).map_err(|(error, _)| error)?;
    producer.poll(Duration::ZERO);
    Ok(())
}

fn configuration(brokers: &str, streams: usize) -> String {
    format!(
        "upstream: {{ address: 127.0.0.1:9 }}\n\
         kafka: {{ brokers: '{brokers}', properties: {{ fetch.wait.max.ms: 5 }} }}\n\
         streams: {{ orders: {{ topics: [orders] }} }}\n\
         limits: {{ streams: {0}, connections: {0} }}\n\
         routes: [{{ path: /events, stream: orders, transport: sse, public: true, heartbeat_interval: 60s }}]\n",
        streams + 100
    )
}

/// Many connections that one thread reads and throws away, counting bytes.
struct Clients {
    sockets: Vec<TcpStream>,
}

impl Clients {
    fn connect(address: SocketAddr, count: usize, request: &[u8]) -> Fallible<Self> {
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let mut socket = TcpStream::connect(address)?;
            socket.write_all(request)?;
            sockets.push(socket);
        }
        for socket in &mut sockets {
            socket.set_read_timeout(Some(TAIL))?;
            if socket.read(&mut [0; 4096])? == 0 {
                return Err("a stream was refused".into());
            }
            socket.set_nonblocking(true)?;
        }
        Ok(Self { sockets })
    }

    fn run(self, server: &Running, load: &Load, mut tick: impl FnMut(u64) -> Fallible<()>) -> Fallible<Figures> {
        let streams = self.sockets.len() as f64;
        let idle = server.resident_bytes()? - server.resident_at_start;
        let received = Arc::new(AtomicU64::new(0));
        let events = load.events_per_s * load.seconds;
        let (counter, mut poll) = (received.clone(), mio::Poll::new()?);
        let mut sockets: Vec<_> = self.sockets.into_iter().map(mio::net::TcpStream::from_std).collect();
        for (n, socket) in sockets.iter_mut().enumerate() {
            poll.registry().register(socket, mio::Token(n), mio::Interest::READABLE)?;
        }
        let reader = thread::spawn(move || {
            let mut ready = mio::Events::with_capacity(1024);
            let mut buffer = vec![0; 1 << 16];
            let mut quiet_since = Instant::now();
            while quiet_since.elapsed() < Duration::from_secs(2) {
                if poll.poll(&mut ready, Some(Duration::from_millis(100))).is_err() {
                    continue;
                }
                for event in &ready {
                    quiet_since = Instant::now();
                    while let Ok(n @ 1..) = sockets[event.token().0].read(&mut buffer) {
                        counter.fetch_add(n as u64, Ordering::Relaxed);
                    }
                }
            }
            sockets
        });
        let cpu = server.cpu()?;
        let start = Instant::now();
        for n in 0..events {
            tick(n)?;
            let next = start + Duration::from_secs_f64((n + 1) as f64 / load.events_per_s as f64);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let sockets = reader.join().map_err(|_| "the reader failed")?;
        let cpu = server.cpu()? - cpu;
        drop(sockets);
        let deliveries = events * load.streams as u64;
        Ok(Figures {
            bytes_per_idle: idle as f64 / streams,
            us_per_delivery: cpu.as_secs_f64() * 1e6 / deliveries as f64,
            bytes_per_delivery: received.load(Ordering::Relaxed) as f64 / deliveries as f64,
            deliveries,
        })
    }
}

/// A server process, stopped when dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    resident_at_start: u64,
}

impl Running {
    fn start(command: &mut Command) -> Fallible<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self { child, output, resident_at_start: 0 })
    }

    /// Waits for the line that says it serves, and notes its memory then.
    fn line(&mut self, start: &str) -> Fallible<String> {
        let mut line = String::new();
        while !line.starts_with(start) {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err("the server ended".into());
            }
        }
        // The warm-up of the source is over soon after; its memory is no stream's.
        thread::sleep(Duration::from_secs(2));
        self.resident_at_start = self.resident_bytes()?;
        Ok(line)
    }

    fn resident_bytes(&self) -> Fallible<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// User and system time so far.
    fn cpu(&self) -> Fallible<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().ok_or("no stat")?.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // Linux counts in USER_HZ, which is 100 on every architecture that matters here.
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
