//! The effect of an operator's actions on live streams: `cargo bench --bench operations`.
//!
//! With thousands of open streams, the configuration is reloaded, `/metrics` is scraped, or the admin page polls, four
//! times a second, alternating with periods without it, in pairs of short runs. Reports the duration of each action,
//! its CPU time, and the 99th percentile of the latency of live events in both halves: medians, and the median of the
//! pairs' ratios. Kafka is one node of Apache Kafka (`make kafka` installs it); everything runs on one machine. Prints
//! a table in Markdown without a verdict, but fails if a stream ended or an action failed. Loopback only; ends by
//! itself.

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
#[path = "../tests/integration/support/real_broker.rs"]
// Written for tests, which fail by panicking; here the run ends as well.
#[allow(clippy::unwrap_used, clippy::expect_used)]
#[allow(dead_code, unreachable_pub)] // Only the tests kill the node and read its data.
mod real_broker;
#[path = "end_to_end/row.rs"]
#[allow(dead_code, reason = "nothing is judged here")]
mod row;
#[path = "end_to_end/times.rs"]
mod times;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use product::{BROADCAST, Feed, KEYED, Product, TRANSPORTS};
use real_broker::RealBroker;
use row::{median, short};
use times::Taken;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Live clients, a third on each transport, and the events per second to each of them.
const LIVE: usize = 99;
const EVENTS_PER_S: u32 = 100;
/// All open streams: the number for reloads, and the number that uses all descriptors.
const STREAMS: usize = 5_000;
const STREAMS_MAX: usize = 19_000;
const PAIRS: usize = 15;
/// The duration of half a pair.
const RUN: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(250);
/// Consecutive actions, to measure their CPU time.
const BURST: usize = 100;
/// The first events meet cold caches and a JVM that is still compiling.
const WARM_UP: Duration = Duration::from_secs(5);

/// An action. False if it had no effect, so that its duration is meaningless.
type Act = fn(&Product, usize) -> Fallible<bool>;

fn main() -> Fallible<()> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let broker = RealBroker::start("operations", place, place);
    create_topics(&broker.address)?;
    let product = Product::start(&broker.address, "127.0.0.1:9")?;
    let live = Live::start(&product, &broker.address)?;
    let mut idle = open_idle(&product, LIVE, STREAMS)?;
    thread::sleep(WARM_UP);
    let mut measured = vec![measure(&product, &live, "reload", STREAMS, reload)?];
    idle.extend(open_idle(&product, STREAMS, STREAMS_MAX)?);
    for (name, act) in [("reload", reload as Act), ("scrape of `/metrics`", scrape), ("look of the admin page", look)] {
        measured.push(measure(&product, &live, name, STREAMS_MAX, act)?);
    }
    let taken = live.stop()?;
    assert_open(&mut idle)?;
    println!(
        "\n| what, 4 a second | open streams | ms each, median | highest | ms of CPU each | live p99 in ms without | with | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    measured.iter().for_each(|what| println!("{}", what.row(&taken)));
    Ok(())
}

fn create_topics(brokers: &str) -> Fallible<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topics = [BROADCAST, KEYED].map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for result in runtime.block_on(admin.create_topics(&topics, &AdminOptions::new()))? {
        result.map_err(|(_, code)| code)?;
    }
    Ok(())
}

/// Streams of users without events.
fn open_idle(product: &Product, from: usize, to: usize) -> Fallible<Vec<TcpStream>> {
    clients::connect(product.address, (from..to).map(|n| product::request(&format!("/users/{}", product::user(n)))))
}

/// Asserts that none of them has ended.
fn assert_open(idle: &mut [TcpStream]) -> Fallible<()> {
    for socket in idle {
        socket.set_nonblocking(true)?;
        if matches!(socket.read(&mut [0; 4096]), Ok(0)) {
            return Err("a stream ended".into());
        }
    }
    Ok(())
}

/// Clients on all transports that receive every event, and their producer.
struct Live {
    start: Instant,
    readers: Vec<JoinHandle<Result<Vec<Taken>, String>>>,
    is_over: Arc<AtomicBool>,
    feeder: JoinHandle<Result<(), String>>,
}

impl Live {
    fn start(product: &Product, brokers: &str) -> Fallible<Self> {
        let start = Instant::now();
        let open = |transport: &&str| {
            let requests = (0..LIVE / TRANSPORTS.len()).map(|_| product::request(&format!("/{transport}")));
            let sockets = clients::connect(product.address, requests)?;
            Ok(thread::spawn(move || times::read(sockets, start).map_err(|error| error.to_string())))
        };
        let readers = TRANSPORTS.iter().map(open).collect::<Fallible<_>>()?;
        let (is_over, feed) = (Arc::new(AtomicBool::new(false)), Feed::to(brokers)?);
        let stop = is_over.clone();
        let feeder = thread::spawn(move || send(&feed, start, &stop).map_err(|error| error.to_string()));
        Ok(Self { start, readers, is_over, feeder })
    }

    fn now_us(&self) -> Fallible<u64> {
        Ok(u64::try_from(self.start.elapsed().as_micros())?)
    }

    /// What all clients received.
    fn stop(self) -> Fallible<Vec<Taken>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.feeder.join().map_err(|_| "the producer failed")??;
        let mut all = Vec::new();
        for reader in self.readers {
            all.extend(reader.join().map_err(|_| "a reader failed")??);
        }
        Ok(all)
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

/// The results of repeating an action.
struct Measured {
    name: &'static str,
    streams: usize,
    /// The duration of each action, in milliseconds.
    each_ms: Vec<f64>,
    /// The CPU time of one action, in milliseconds.
    cpu_ms: f64,
    /// The periods of each pair, without and with the action.
    pairs: Vec<[Run; 2]>,
}

/// A period in microseconds since the start, and the CPU time of the process in it.
#[derive(Clone, Copy)]
struct Run {
    from_us: u64,
    to_us: u64,
    cpu: Duration,
}

fn measure(product: &Product, live: &Live, name: &'static str, streams: usize, act: Act) -> Fallible<Measured> {
    let (mut acts, mut pairs) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let mut half =
            |is_with: bool| paced(product, live, || if is_with { timed(&mut acts, product, act) } else { Ok(()) });
        pairs.push(if pair % 2 == 0 {
            let without = half(false)?;
            [without, half(true)?]
        } else {
            let with = half(true)?;
            [half(false)?, with]
        });
    }
    let cpu_ms = burst(product, live, act, median(pairs.iter().map(|pair| pair[0].share())))?;
    println!("{name}, {streams} streams: measured");
    Ok(Measured { name, streams, each_ms: acts, cpu_ms, pairs })
}

fn timed(acts: &mut Vec<f64>, product: &Product, act: Act) -> Fallible<()> {
    let start = Instant::now();
    if act(product, acts.len())? {
        acts.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(())
}

/// Repeats an action at intervals, for the time of a run.
fn paced(product: &Product, live: &Live, mut act: impl FnMut() -> Fallible<()>) -> Fallible<Run> {
    let begin = Instant::now();
    run(product, live, || {
        let mut next = begin;
        while next < begin + RUN {
            act()?;
            next += EVERY;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    })
}

/// The CPU time of one action, in milliseconds: of many in sequence, less this share of the time, which is what the
/// process needs for live streams.
fn burst(product: &Product, live: &Live, act: Act, share: f64) -> Fallible<f64> {
    let run = run(product, live, || {
        (0..BURST).try_for_each(|n| act(product, n).map(drop))?;
        // Writers apply a reload after its response.
        thread::sleep(EVERY);
        Ok(())
    })?;
    Ok((run.cpu.as_secs_f64() - share * run.seconds()) * 1000.0 / BURST as f64)
}

fn run(product: &Product, live: &Live, act: impl FnOnce() -> Fallible<()>) -> Fallible<Run> {
    let (from_us, threads) = (live.now_us()?, product.server.threads()?);
    act()?;
    Ok(Run { from_us, to_us: live.now_us()?, cpu: product.server.cpu_since(&threads)? })
}

impl Run {
    fn seconds(self) -> f64 {
        (self.to_us - self.from_us) as f64 / 1e6
    }

    /// CPU time divided by time.
    fn share(self) -> f64 {
        self.cpu.as_secs_f64() / self.seconds()
    }

    /// Of the events sent in it.
    fn p99_ms(self, taken: &[Taken]) -> f64 {
        let within = taken.iter().filter(|event| (self.from_us..self.to_us).contains(&event.sent_us));
        times::p99_ms(&within.copied().collect::<Vec<_>>())
    }
}

impl Measured {
    fn row(&self, taken: &[Taken]) -> String {
        let p99: Vec<_> = self.pairs.iter().map(|pair| pair.map(|run| run.p99_ms(taken))).collect();
        let of_half = |half: usize| median(p99.iter().map(|pair| pair[half]));
        let (ratio, highest) = (
            median(p99.iter().map(|[without, with]| with / without)),
            self.each_ms.iter().copied().fold(0.0, f64::max),
        );
        let figures = [median(self.each_ms.iter().copied()), highest, self.cpu_ms, of_half(0), of_half(1), ratio];
        let figures: Vec<String> = figures.into_iter().map(|figure| short(figure).to_string()).collect();
        format!("| {} | {} | {} |", self.name, self.streams, figures.join(" | "))
    }
}

/// Two configurations in turn, one of which has an additional route.
fn reload(product: &Product, n: usize) -> Fallible<bool> {
    const MORE: &str = "  - { path: /more, stream: everybody, transport: sse, public: true }\n";
    let text = fs::read_to_string(&product.file)?;
    let next = text.strip_suffix(MORE).map_or_else(|| format!("{text}{MORE}"), str::to_owned);
    let beside = product.file.with_extension("next");
    fs::write(&beside, next)?;
    fs::rename(&beside, &product.file)?;
    let answer = ask(product, "POST", "/-/reload")?;
    match ["\"applied\"", "\"unchanged\""].map(|result| answer.contains(result)) {
        // The process also follows the file by itself, and was faster.
        [_, true] => Ok(false),
        [true, _] => Ok(true),
        _ => Err(format!("reload {n}: {answer}").into()),
    }
}

fn scrape(product: &Product, n: usize) -> Fallible<bool> {
    shows(&ask(product, "GET", "/metrics")?, "_route_streams", n)
}

/// The requests of the admin page.
fn look(product: &Product, n: usize) -> Fallible<bool> {
    scrape(product, n)?;
    shows(&ask(product, "GET", "/status")?, "\"routes\"", n)
}

fn shows(answer: &str, wanted: &str, n: usize) -> Fallible<bool> {
    if answer.contains(wanted) { Ok(true) } else { Err(format!("answer {n}: {answer}").into()) }
}

/// The complete response, including its head.
fn ask(product: &Product, method: &str, path: &str) -> Fallible<String> {
    let mut socket = TcpStream::connect(product.admin)?;
    let host = product.admin;
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer.into()) }
}
