//! A hundred reloads with many live streams and events in between: with valid files, invalid files, and files that
//! change back before they are read. Streams on unchanged routes are not affected, and the last valid file is always
//! the running one.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Call;
use crate::support::ndjson::Ndjson;
use crate::support::sidecar::Sidecar;
use crate::support::sse::Sse;
use crate::support::token;
use crate::support::websocket::WebSocket;

/// The number of streams that stay open; `SIDESTREAM_RELOAD_STREAMS` overrides it, and `make reloads` uses 5,000.
const LIVE_STREAMS: usize = 300;
const RELOADS: usize = 100;
/// The number of kinds of rounds, which alternate.
const KINDS: usize = 5;
/// The number of rounds per event.
const EVENT_EVERY: usize = 10;
/// The pause between two short-lived clients: each leaves a port that cannot be reused for a minute.
const NEWCOMER_EVERY: Duration = Duration::from_millis(20);
/// The most growth of the process over four fifths of the reloads, in KiB; an older snapshot takes several of them.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

#[test]
fn a_hundred_reloads_affect_no_stream_on_an_unchanged_route() {
    let streams = std::env::var("SIDESTREAM_RELOAD_STREAMS").map_or(LIVE_STREAMS, |text| text.parse().unwrap());
    let mut fixture = Plan::new(STANDARD.replace("path: /ws,", "path: /ws, heartbeat_interval: 10m,")).build();
    let standard = fs::read_to_string(&fixture.config).unwrap();
    let mut volume = Volume::new(&standard);
    fixture.sidecar.terminate();
    fixture.sidecar = Sidecar::run(&volume.file());
    eventually_true("/readyz", || fixture.sidecar.admin("/readyz").status() == 200);

    let mut live: Vec<_> = (0..streams).map(|n| Live::open(&fixture, n)).collect();
    let newcomers = Newcomers::start(fixture.sidecar.listen);
    let (mut events, mut settled, mut runs) = (Vec::new(), 0, 0);
    for n in 1..=RELOADS {
        runs = round(&fixture, &mut volume, &standard, n, runs);
        if n % EVENT_EVERY == 0 {
            events.push(fixture.broker.order("a"));
        }
        if n == RELOADS / 5 {
            settled = fixture.sidecar.resident_kib();
        }
    }
    let grown = fixture.sidecar.resident_kib().saturating_sub(settled);
    assert!(grown <= GROWTH_KIB_MAX, "{grown} KiB more than after {} reloads", RELOADS / 5);
    let came = newcomers.stop();
    assert!(came > 0);
    assert_eq!(fixture.upstream.count("GET /events"), 0, "at no time was it the upstream's");
    live.iter_mut().for_each(|stream| assert_eq!(stream.ids(events.len()), events));
    let open = || -> f64 {
        let of = |route: &str| fixture.sidecar.metric(&format!("notifications_route_streams{{route=\"{route}\"}}"));
        ["/events", "/stream", "/ws"].into_iter().filter_map(of).sum()
    };
    eventually_true("all on the sockets that they were opened on", || open() == streams as f64);
    eprintln!(
        "{streams} streams and {came} that came and went over {RELOADS} reloads; {grown} KiB more than after {}",
        RELOADS / 5
    );
}

/// Changes the file in round `n`. `runs` is the round of the running file, 0 for the first. Returns the round of the
/// file that runs afterwards.
fn round(fixture: &Fixture, volume: &mut Volume, standard: &str, n: usize, runs: usize) -> usize {
    let broken = format!("{standard}nonsense: 1\n");
    let good = |n: usize| match n {
        0 => standard.to_owned(),
        n => {
            let added = format!("  - {{ path: /round/{n}, stream: orders, transport: sse, public: true }}\n");
            standard.replace("retry: 200ms", "retry: 300ms") + &added
        }
    };
    let (files, next) = match n % KINDS {
        1 => (vec![good(n)], n),
        2 => (vec![broken], runs),
        3 => (vec![standard.replace("retry: 200ms", "retry: 400ms"), good(n)], n),
        4 => (vec![good(0)], 0),
        _ => (vec![good(n), broken.clone(), good(0), broken, good(0), good(n)], n),
    };
    // Only the last one is requested; the others are replaced at once.
    files.iter().for_each(|text| volume.swap(text));
    let answer = Call::of_admin(fixture.sidecar.admin, "POST", "/-/reload").send();
    assert_eq!(answer.status(), if n % KINDS == 2 { 422 } else { 200 }, "round {n}");
    assert!(running(fixture).contains(&sha256(&good(next))), "round {n}: {} is not file {next}", running(fixture));
    assert_eq!(is_route(fixture, next), next != 0, "round {n}: the routes are those of the file");
    assert!(runs == next || !is_route(fixture, runs), "round {n}: and no others");
    next
}

/// The metric that identifies the running file.
fn running(fixture: &Fixture) -> String {
    let text = fixture.sidecar.admin("/metrics").text();
    text.lines().find(|line| line.starts_with("notifications_config_info{")).unwrap().to_owned()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a new request reaches the route that this round's file adds, instead of the upstream.
fn is_route(fixture: &Fixture, round: usize) -> bool {
    let request = format!("GET /round/{round}");
    let before = fixture.upstream.count(&request);
    fixture.get(&format!("/round/{round}")).open();
    fixture.upstream.count(&request) == before
}

/// A stream that stays open; transports alternate.
enum Live {
    Sse(Sse),
    Ndjson(Ndjson),
    WebSocket(WebSocket),
}

impl Live {
    fn open(fixture: &Fixture, n: usize) -> Self {
        match n % 3 {
            0 => Self::Sse(fixture.get("/events").sse()),
            1 => Self::Ndjson(fixture.get("/stream").ndjson()),
            _ => Self::WebSocket(fixture.get("/ws").websocket()),
        }
    }

    fn ids(&mut self, count: usize) -> Vec<String> {
        match self {
            Self::Sse(stream) => stream.ids(count),
            Self::Ndjson(stream) => stream.ids(count),
            Self::WebSocket(stream) => stream.ids(count),
        }
    }
}

/// Short-lived clients that open and close a stream, one after the other, on a route of every file.
struct Newcomers {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Newcomers {
    fn start(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let come = move || {
            let mut came = 0;
            while !stop.load(Ordering::Relaxed) {
                Call::new(address, "GET", "/events").sse().record().unwrap();
                came += 1;
                thread::sleep(NEWCOMER_EVERY);
            }
            came
        };
        Self { is_over, thread: thread::spawn(come) }
    }

    /// The number of clients.
    fn stop(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A volume as a kubelet creates and updates it: files are links into `..data`, a link that is replaced by renaming.
struct Volume {
    folder: TempDir,
    versions: usize,
}

impl Volume {
    fn new(text: &str) -> Self {
        let mut volume = Self { folder: tempfile::tempdir().unwrap(), versions: 0 };
        volume.swap(text);
        for name in ["sidestream.yaml", "jwt.key"] {
            symlink(Path::new("..data").join(name), volume.folder.path().join(name)).unwrap();
        }
        volume
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("sidestream.yaml")
    }

    fn swap(&mut self, text: &str) {
        let folder = self.folder.path();
        let version = format!("..{}", self.versions);
        fs::create_dir(folder.join(&version)).unwrap();
        fs::write(folder.join(&version).join("sidestream.yaml"), text).unwrap();
        fs::write(folder.join(&version).join("jwt.key"), token::SECRET).unwrap();
        symlink(&version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if let Some(before) = self.versions.checked_sub(1) {
            fs::remove_dir_all(folder.join(format!("..{before}"))).unwrap();
        }
        self.versions += 1;
    }
}
