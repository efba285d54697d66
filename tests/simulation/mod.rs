//! Deterministic simulation: replicas, their clients and their logs in one thread, with a clock and faults that a seed
//! determines.
//!
//! | file | real | simulated |
//! |---|---|---|
//! | `cluster` | | brokers and producers |
//! | `reader` | the state of topics while they are read, decoding | the client that polls |
//! | `replay` | | chunks of the log |
//! | `writer` | windows, index, sessions, timers, turns of a writer | sockets |
//! | `client`, `frames` | | clients |
//! | `replica` | | what connects them |
//!
//! The history is judged by the checker of the soak (`tests/checker`). A seed gives the same history every time. `make
//! simulate SEEDS=1000` runs more of them, and `make simulate SEED=7` one.

// A test panics to fail; the findings are its output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod client;
pub(crate) mod cluster;
mod frames;
mod replay;
mod replica;

#[path = "../checker/judge.rs"]
#[allow(dead_code, unreachable_pub)] // The soak uses all of it, in a crate of its own.
mod checker;
#[path = "../checker/history.rs"]
#[allow(dead_code, unreachable_pub)]
mod history;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::checker::{Verdict, judge};
use self::client::{Client, Surroundings, everybody};
use self::cluster::Cluster;
use self::history::{Op, Phase, Record, Text};
use self::replica::{Replica, Settings};
use crate::access::Source;
use crate::config::snapshot::TopicConfig;
use crate::cursor::{Positions, TopicPosition};
use crate::event::EventId;
use crate::hub::ReplayLimits;
use crate::metrics::Metrics;
use crate::route::{Overflow, QueueLimits, Stream, StreamRoute};
use crate::session::Now;

/// The number of seeds of the test, and of threads that run them.
const SEEDS: u64 = 20;
const THREADS_MAX: usize = 8;
/// The virtual time of a step.
const STEP: Duration = Duration::from_millis(25);
/// Steps with faults, and the most steps after them.
const STEPS: usize = 400;
const FINISH_STEPS_MAX: usize = 4_000;
/// The start of the virtual clock, in milliseconds since the Unix epoch.
const START_MS: i64 = 1_800_000_000_000;
/// `ledger` keeps its log; that of `orders` may be truncated, or recreated.
const TOPICS: [&str; 2] = ["ledger", "orders"];
const ORDERS: usize = 1;
/// How long producers do not write to a truncated log.
const QUIET_MS: i64 = 5_000;
const REPLICAS: usize = 2;
/// How long a replica takes to drain.
const DRAIN: Duration = Duration::from_secs(1);

struct World {
    rng: Rng,
    now: Now,
    cluster: Arc<Mutex<Cluster>>,
    settings: Settings,
    replicas: Vec<Option<Replica>>,
    clients: Vec<Client>,
    history: Vec<Record>,
}

/// Runs a seed, and returns its history.
fn run(seed: u64) -> Vec<Record> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.disturb();
        world.step(false);
    }
    world.heal();
    for _ in 0..FINISH_STEPS_MAX {
        if world.clients.iter().all(Client::is_done) {
            break;
        }
        world.step(true);
    }
    world.finish()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Now { instant: Instant::now(), unix_ms: START_MS };
        let cluster = Arc::new(Mutex::new(Cluster::new(&TOPICS, &mut rng)));
        let topic = |name: &str| TopicConfig {
            replay_events: rng.usize(3..40),
            ..TopicConfig::new(name.into(), ["tenant".into(), "user".into()])
        };
        let topics = TOPICS.map(topic).to_vec();
        let limits = ReplayLimits {
            events: [0, 30, 1_000, 1_000][rng.usize(..4)],
            bytes: 1 << 20,
            time: Duration::from_secs(10),
        };
        let settings =
            Settings { topics, writers: rng.u32(1..3), limits, metrics: Arc::new(Metrics::new("simulation").unwrap()) };
        let replicas = (0..REPLICAS).map(|_| Some(Replica::start(&settings, &cluster, now, &mut rng))).collect();
        let clients = clients(&cluster.lock().unwrap(), &mut rng);
        Self { rng, now, cluster, settings, replicas, clients, history: Vec::new() }
    }

    /// What producers, brokers and replicas do.
    fn disturb(&mut self) {
        let Self { rng, now, cluster, settings, replicas, history, .. } = self;
        let ms = now.unix_ms;
        let mut cluster_now = cluster.lock().unwrap();
        for _ in 0..rng.usize(0..4) {
            cluster_now.produce(ms, rng);
        }
        let mut fault = |kind| history.push(Record { t: ms as u64, op: Op::Fault { kind, phase: Phase::Begin } });
        match rng.u16(..1_000) {
            0..=40 => cluster_now.transact(ms, rng),
            41..=50 => cluster_now.hold(ms, rng),
            51..=60 => cluster_now.retain(ms, rng),
            61..=80 => cluster_now.compact(rng),
            81..=84 => cluster_now.add_partition(rng),
            85..=92 => {
                fault("leader");
                cluster_now.toggle_leader(ms + QUIET_MS, rng);
            }
            93..=95 => {
                fault("truncation");
                cluster_now.truncate(ORDERS, ms + QUIET_MS, rng);
            }
            96 => {
                fault("recreation");
                cluster_now.recreate(ORDERS, rng);
            }
            97..=102 => {
                fault("pause");
                let replica = rng.usize(..REPLICAS);
                replicas[replica].iter_mut().for_each(|replica| replica.pause(ms + rng.i64(100..2_000)));
            }
            103..=108 => {
                fault("replica");
                drop(cluster_now);
                let replica = rng.usize(..REPLICAS);
                match &mut replicas[replica] {
                    Some(running) if rng.bool() => running.drain(DRAIN, *now),
                    running @ Some(_) => *running = None,
                    none @ None => *none = Some(Replica::start(settings, cluster, *now, rng)),
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, is_calm: bool) {
        self.now = Now { instant: self.now.instant + STEP, unix_ms: self.now.unix_ms + STEP.as_millis() as i64 };
        let Self { rng, now, cluster, replicas, clients, history, .. } = self;
        for replica in replicas.iter_mut() {
            replica.iter_mut().for_each(|replica| replica.step(*now, rng));
            replica.take_if(|replica| replica.has_ended(*now));
        }
        let mut locked = cluster.lock().unwrap();
        let t = now.unix_ms as u64;
        history.extend(locked.news.drain(..).map(|op| Record { t, op }));
        drop(locked);
        for client in clients {
            client.step(&mut Surroundings { cluster, replicas, history, now: *now, rng, is_calm });
        }
    }

    /// Ends all faults, and appends the fences.
    fn heal(&mut self) {
        let Self { rng, now, cluster, settings, replicas, .. } = self;
        for replica in replicas {
            match replica {
                Some(replica) if !replica.is_draining() => replica.pause(0),
                ended => *ended = Some(Replica::start(settings, cluster, *now, rng)),
            }
        }
        cluster.lock().unwrap().heal();
        // Readers notice what happened to the logs before they grow.
        for _ in 0..QUIET_MS / STEP.as_millis() as i64 {
            self.step(true);
        }
        let Self { rng, now, cluster, .. } = self;
        let mut cluster = cluster.lock().unwrap();
        cluster.fence(now.unix_ms, rng);
        let truth = cluster.truth();
        self.clients.iter_mut().for_each(|client| client.await_fences(&truth));
    }

    fn finish(mut self) -> Vec<Record> {
        let Self { rng, now, cluster, replicas, clients, history, .. } = &mut self;
        for client in clients {
            client.give_up(&mut Surroundings { cluster, replicas, history, now: *now, rng, is_calm: true });
        }
        let truth = cluster.lock().unwrap().truth();
        let t = now.unix_ms as u64;
        self.history.extend(truth.into_iter().map(|op| Record { t, op }));
        self.history
    }
}

/// Clients from before the first record.
fn clients(cluster: &Cluster, rng: &mut Rng) -> Vec<Client> {
    let keys: Box<[_]> = ["tenant".into(), "user".into()].into();
    let stream = |id: u16, topics: &[&str]| {
        let topics = topics.iter().map(|topic| (*topic).into()).collect();
        Arc::new(Stream { id, name: format!("stream-{id}").into(), topics, keys: keys.clone(), state: None })
    };
    let streams = [stream(1, &TOPICS), stream(2, &TOPICS[..1])];
    let policies = [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect];
    let (events, policy) = (rng.usize(4..100), policies[rng.usize(..policies.len())]);
    let route = |n: usize| StreamRoute {
        stream: streams[usize::from(n % 3 == 2)].clone(),
        // The key that a WebSocket may choose is the one that is not bound.
        bindings: [crate::testing::binding("tenant", Source::Claim([].into()))].into(),
        queue: QueueLimits { events, bytes: 1 << 16, overflow: policy },
        heartbeat: Duration::from_secs(1),
        ..crate::testing::route("/stream")
    };
    let personas = everybody(route, rng);
    let client = |(number, persona): (usize, client::Persona)| {
        let cursor = first_cursor(cluster, &persona.route.stream);
        Client::new(number, persona, cursor)
    };
    personas.into_iter().enumerate().map(client).collect()
}

/// The cursor before the first record of every partition.
fn first_cursor(cluster: &Cluster, stream: &Stream) -> Text {
    let position = |topic| {
        let topic = cluster.topic(topic).unwrap();
        let partitions = topic.partitions.len();
        TopicPosition { epoch: if partitions == 0 { 0 } else { topic.epoch }, next: vec![0; partitions] }
    };
    let positions = Positions(stream.topics.iter().map(position).collect());
    let id = EventId { topic: stream.topics[0].clone(), partition: 0, offset: -1 };
    positions.cursor(&stream.topics, id).to_string().into()
}

/// A variable of the environment, if it is set.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn check(seed: u64) -> Verdict {
    let history = run(seed);
    let verdict = judge(&history);
    if verdict.has_violation() {
        let findings = verdict.findings.join("\n");
        println!("{findings}\nseed {seed}: {verdict}\nto run it again: make simulate SEED={seed} HISTORY=file");
        if let Some(path) = std::env::var_os("HISTORY").filter(|path| !path.is_empty()) {
            std::fs::write(path, text(&history)).unwrap();
        }
    }
    verdict
}

fn text(history: &[Record]) -> String {
    history.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
}

#[test]
fn no_seed_finds_a_violation() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let (next, failed) = (Mutex::new(seeds), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.lock().unwrap().next();
            let Some(seed) = seed else { return };
            if check(seed).has_violation() {
                failed.lock().unwrap().push(seed);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    assert!(failed.is_empty(), "seeds {failed:?}");
}

#[test]
fn a_seed_gives_the_same_history_twice() {
    for seed in 0..3 {
        assert_eq!(text(&run(seed)), text(&run(seed)), "seed {seed}");
    }
}
