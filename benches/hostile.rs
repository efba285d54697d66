//! The effect of flooding clients on others: `cargo bench --bench hostile`.
//!
//! One SSE client receives events at a steady rate, alternately without and with flooders on the same writer, in pairs
//! of short runs. Flooders send as fast as possible from one thread, and reconnect when they are disconnected. Reports
//! the median and the 99th percentile of the event latency in both halves, the ratio of the medians over the pairs, and
//! the CPU time of the process. Kafka is librdkafka's mock broker; everything runs on one machine.
//! `SIDESTREAM_BENCH_BINARY` names another binary to measure, and `QUICK=1` runs one pair instead of five. Prints a
//! table in Markdown without a verdict. Loopback only; ends by itself.

#![allow(clippy::print_stdout, reason = "a benchmark's figures are its output")]
#![allow(unreachable_pub, reason = "a program, whose modules are nobody else's")]

#[path = "end_to_end/clients.rs"]
#[allow(dead_code, reason = "its other half counts deliveries")]
mod clients;
#[path = "end_to_end/process.rs"]
#[allow(dead_code, reason = "other servers are started by more of it")]
mod process;
#[path = "end_to_end/product.rs"]
#[allow(dead_code, reason = "other scenarios feed it otherwise")]
mod product;
#[path = "end_to_end/row.rs"]
#[allow(dead_code, reason = "nothing is judged here")]
mod row;
#[path = "end_to_end/times.rs"]
#[allow(dead_code, reason = "its percentile is another")]
mod times;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use product::{BROADCAST, Feed, Product};
use row::{median, short};
use times::Taken;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const EVENTS_PER_S: u32 = 200;
const PAIRS: usize = 5;
/// With `QUICK=1`.
const QUICK_PAIRS: usize = 1;
/// The duration of half a pair.
const RUN: Duration = Duration::from_secs(2);
/// The pause after which earlier events have arrived.
const SETTLE: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_secs(2);
/// Bytes per write of a flooder.
const WRITE_BYTES: usize = 64 * 1024;
/// How long all flooders pause if none of them can write.
const PAUSE: Duration = Duration::from_millis(1);

/// A kind of flood: the path, the first bytes, and the bytes that are repeated.
struct Flood {
    name: &'static str,
    path: &'static str,
    first: &'static [u8],
    repeated: &'static [u8],
}

/// Masked frames with an empty payload, and bytes after the request of an HTTP stream.
const FLOODS: [Flood; 5] = [
    Flood { name: "WebSocket pongs", path: "/ws", first: b"", repeated: b"\x8a\x80\0\0\0\0" },
    Flood { name: "empty fragments", path: "/ws", first: b"\x01\x80\0\0\0\0", repeated: b"\x00\x80\0\0\0\0" },
    Flood { name: "WebSocket pings", path: "/ws", first: b"", repeated: b"\x89\x80\0\0\0\0" },
    Flood { name: "unknown commands", path: "/ws", first: b"", repeated: b"\x81\x82\0\0\0\0{}" },
    Flood { name: "bytes behind a request", path: "/sse", first: b"", repeated: b"GET /sse HTTP/1.1\r\n\r\n" },
];

fn main() -> Fallible<()> {
    let broker = product::mock(1)?;
    let product = Product::start_with(&broker.bootstrap_servers(), "127.0.0.1:9", "writers: 1\n")?;
    let live = Live::start(&product, &broker.bootstrap_servers())?;
    thread::sleep(WARM_UP);
    let mut measured = Vec::new();
    for flood in &FLOODS {
        for flooders in [1, 4, 20] {
            measured.push(measure(&product, &live, flood, flooders)?);
            println!("{} from {flooders}: measured", flood.name);
        }
    }
    let taken = live.stop()?;
    println!(
        "\n| flood | flooders | p50 in ms without | with | p99 in ms without | with | ratio | cores without | with |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    measured.iter().for_each(|flood| println!("{}", flood.row(&taken)));
    Ok(())
}

/// The measured client, and its producer.
struct Live {
    start: Instant,
    reader: JoinHandle<Result<Vec<Taken>, String>>,
    is_over: Arc<AtomicBool>,
    feeder: JoinHandle<Result<(), String>>,
}

impl Live {
    fn start(product: &Product, brokers: &str) -> Fallible<Self> {
        let start = Instant::now();
        let sockets = clients::connect(product.address, [product::request("/sse")].into_iter())?;
        let reader = thread::spawn(move || times::read(sockets, start).map_err(|error| error.to_string()));
        let (is_over, feed) = (Arc::new(AtomicBool::new(false)), Feed::to(brokers)?);
        let stop = is_over.clone();
        let feeder = thread::spawn(move || send(&feed, start, &stop).map_err(|error| error.to_string()));
        Ok(Self { start, reader, is_over, feeder })
    }

    fn now_us(&self) -> Fallible<u64> {
        Ok(u64::try_from(self.start.elapsed().as_micros())?)
    }

    fn stop(self) -> Fallible<Vec<Taken>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.feeder.join().map_err(|_| "the producer failed")??;
        Ok(self.reader.join().map_err(|_| "the reader failed")??)
    }
}

fn send(feed: &Feed, start: Instant, is_over: &AtomicBool) -> Fallible<()> {
    let begin = Instant::now();
    let due = |n| begin + Duration::from_secs(1) * n / EVENTS_PER_S;
    for n in (0..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
        thread::sleep(due(n).saturating_duration_since(Instant::now()));
        feed.send(BROADCAST, Some(0), &times::envelope(start))?;
    }
    feed.send(BROADCAST, Some(0), &times::last())?;
    feed.flush()
}

/// A period in microseconds since the start, and the CPU time of the process in it.
#[derive(Clone, Copy)]
struct Run {
    from_us: u64,
    to_us: u64,
    cpu: Duration,
}

struct Measured {
    name: &'static str,
    flooders: usize,
    pairs: Vec<[Run; 2]>,
}

fn measure(product: &Product, live: &Live, flood: &'static Flood, flooders: usize) -> Fallible<Measured> {
    let half = |is_with: bool| {
        let crowd = is_with.then(|| Crowd::start(product.address, flood, flooders));
        thread::sleep(SETTLE);
        let (from_us, threads) = (live.now_us()?, product.server.threads()?);
        thread::sleep(RUN);
        let run = Run { from_us, to_us: live.now_us()?, cpu: product.server.cpu_since(&threads)? };
        if let Some(crowd) = crowd {
            crowd.stop()?;
        }
        Fallible::Ok(run)
    };
    let pairs = if std::env::var_os("QUICK").is_some() { QUICK_PAIRS } else { PAIRS };
    let pairs = (0..pairs).map(|_| Ok([half(false)?, half(true)?])).collect::<Fallible<_>>()?;
    Ok(Measured { name: flood.name, flooders, pairs })
}

/// Clients that send as much as they can.
struct Crowd {
    is_over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Crowd {
    fn start(address: SocketAddr, flood: &'static Flood, flooders: usize) -> Self {
        let (is_over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (is_over.clone(), sent.clone());
        let thread = thread::spawn(move || {
            let bytes = flood.repeated.repeat(WRITE_BYTES / flood.repeated.len());
            let mut crowd: Vec<Option<Flooder>> = (0..flooders).map(|_| None).collect();
            while !stop.load(Ordering::Relaxed) {
                let mut wrote = 0;
                for flooder in &mut crowd {
                    match flooder.as_mut().map(|flooder| flooder.write(&bytes)) {
                        Some(Ok(written)) => wrote += written,
                        // Disconnected, or not connected yet: connects again.
                        Some(Err(_)) | None => *flooder = Flooder::open(address, flood).ok(),
                    }
                }
                count.fetch_add(wrote as u64, Ordering::Relaxed);
                if wrote == 0 {
                    thread::sleep(PAUSE);
                }
            }
        });
        Self { is_over, sent, thread }
    }

    fn stop(self) -> Fallible<()> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the flooders failed")?;
        if self.sent.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err("nothing was sent".into()) }
    }
}

struct Flooder {
    socket: TcpStream,
    /// The offset in the repeated bytes: frames must not be cut.
    at: usize,
}

impl Flooder {
    fn open(address: SocketAddr, flood: &Flood) -> Fallible<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(RUN))?;
        socket.write_all(product::request(flood.path).as_bytes())?;
        if socket.read(&mut [0; 4096])? == 0 {
            return Err("refused".into());
        }
        socket.write_all(flood.first)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, at: 0 })
    }

    /// The number of bytes written; 0 if it would block.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.socket.write(&bytes[self.at..]) {
            Ok(written) => {
                self.at = (self.at + written) % bytes.len();
                Ok(written)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Measured {
    fn row(&self, taken: &[Taken]) -> String {
        let all = |percent| -> Vec<[f64; 2]> {
            self.pairs.iter().map(|pair| pair.map(|run| percentile_ms(taken, run, percent))).collect()
        };
        let (p50, p99) = (all(50), all(99));
        let of = |pairs: &[[f64; 2]], half: usize| median(pairs.iter().map(|pair| pair[half]));
        let cores = |half: usize| {
            median(
                self.pairs
                    .iter()
                    .map(|pair| pair[half].cpu.as_secs_f64() * 1e6 / (pair[half].to_us - pair[half].from_us) as f64),
            )
        };
        let ratio = median(p99.iter().map(|[without, with]| with / without));
        let figures = [of(&p50, 0), of(&p50, 1), of(&p99, 0), of(&p99, 1), ratio, cores(0), cores(1)];
        let figures: Vec<String> = figures.into_iter().map(|figure| short(figure).to_string()).collect();
        format!("| {} | {} | {} |", self.name, self.flooders, figures.join(" | "))
    }
}

/// Of the events sent in a run; NaN if there are none.
fn percentile_ms(taken: &[Taken], run: Run, percent: usize) -> f64 {
    let within = taken.iter().filter(|event| (run.from_us..run.to_us).contains(&event.sent_us));
    let mut took: Vec<u64> = within.map(|event| event.took_us).collect();
    took.sort_unstable();
    took.get(took.len() * percent / 100).map_or(f64::NAN, |us| *us as f64 / 1000.0)
}
