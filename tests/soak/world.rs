//! Everything that can fail: brokers, a network between them and each replica, the replicas and their files. It
//! executes the plan and records the times.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{ClientFault, Ground};
use crate::flood::Flood;
use crate::history::{Op, Phase, Proto, Text};
use crate::personas::{Persona, everybody, sections};
use crate::plan::{BROKERS, Fault, REPLICAS, Step, TOPICS, Topic};
use crate::producer::Partitions;
use crate::support::admin::Admin;
use crate::support::real_broker::RealBroker;
use crate::support::relay::Relay;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::Upstream;
use crate::support::{eventually_true, token};

/// An address without a listener: a network that leads nowhere.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
/// The number of brokers that must have a record before it is acknowledged, so that losing a leader loses no record.
const COPIES_MIN: &str = "2";

const SUCCESSES: &str = "notifications_config_reloads_total{result=\"success\"}";
const SUCCESSFUL: &str = "notifications_config_last_reload_successful";

/// Fields are dropped in this order: replicas first.
pub struct World {
    replicas: Vec<Replica>,
    nodes: Vec<RealBroker>,
    admin: Admin,
    pub partitions: Arc<Partitions>,
    ground: Arc<Ground>,
    clients: Vec<Sender<ClientFault>>,
    /// The floods by replica.
    floods: Vec<(usize, Flood)>,
    _upstream: Upstream,
}

impl World {
    /// Starts brokers with empty topics, and replicas that have found them. Their logs are in `target/test-logs`.
    pub fn start(name: &str, ground: Arc<Ground>) -> Self {
        let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-logs").join(name);
        let _ = fs::remove_dir_all(&logs);
        let mut networks: Vec<_> = (0..REPLICAS).map(|_| Network::start()).collect();
        let fronts: Vec<Vec<_>> = (0..BROKERS)
            .map(|broker| networks.iter().map(|network| network.relays[broker].address).collect())
            .collect();
        let fronts: Vec<&[_]> = fronts.iter().map(Vec::as_slice).collect();
        let nodes = RealBroker::start_cluster(name, Path::new(env!("CARGO_TARGET_TMPDIR")), &logs, &fronts);
        for (n, network) in networks.iter_mut().enumerate() {
            network.behind = nodes.iter().map(|node| node.behind[n]).collect();
            network.mend();
        }
        let admin = Admin::of(&addresses(&nodes));
        TOPICS.iter().for_each(|topic| create(&admin, topic));
        let upstream = Upstream::start();
        let replicas = networks.into_iter().enumerate();
        let replicas =
            replicas.map(|(n, network)| Replica::new(&logs.join(n.to_string()), network, upstream.address)).collect();
        let partitions = Arc::new(TOPICS.map(|topic| AtomicI32::new(topic.partitions)));
        let (clients, floods) = Default::default();
        let mut world = Self { replicas, nodes, admin, partitions, ground, clients, floods, _upstream: upstream };
        (0..REPLICAS).for_each(|n| world.start_replica(n));
        world
    }

    /// The brokers' addresses for an independent Kafka client, bypassing the networks that faults cut.
    pub fn brokers(&self) -> String {
        addresses(&self.nodes)
    }

    /// The position of this client's stream before the first record.
    pub fn first_cursor(&self, persona: &Persona) -> Text {
        let sidecar = self.replicas[0].sidecar();
        let target = format!("/tenant/{}/sse", persona.stream);
        let token = persona.token(&mut fastrand::Rng::with_seed(0));
        let mut stream = sidecar.call("GET", &target).bearer(&token).sse();
        stream.record().and_then(|record| record.id).expect("a priming record with an id").into()
    }

    /// The clients that faults affect, by index.
    pub fn attend(&mut self, clients: Vec<Sender<ClientFault>>) {
        self.clients = clients;
    }

    /// Executes the plan, at its times or later if a step took longer.
    pub fn carry_out(&mut self, steps: &[Step]) {
        let start = Instant::now();
        for Step { at, fault, begins } in steps {
            thread::sleep((start + *at).saturating_duration_since(Instant::now()));
            self.look_after_replicas();
            // Recorded before it begins, and after it has ended.
            if *begins {
                self.note(fault, Phase::Begin);
                self.begin(fault);
            } else {
                self.end(fault);
                self.note(fault, Phase::End);
            }
        }
    }

    /// Records replicas that have exited by themselves, and restarts them.
    pub fn look_after_replicas(&mut self) {
        for n in 0..REPLICAS {
            let is_gone = self.replicas[n].sidecar.as_mut().is_some_and(|sidecar| !sidecar.is_running());
            if is_gone && let Some(mut sidecar) = self.take_replica(n) {
                self.ground.recorder.note(Op::Crash { replica: n, status: sidecar.wait().to_string() });
                self.start_replica(n);
            }
        }
    }

    fn note(&self, fault: &Fault, phase: Phase) {
        self.ground.recorder.note(Op::Fault { kind: fault.name(), phase });
    }

    fn begin(&mut self, fault: &Fault) {
        match fault {
            Fault::Kill(n) => drop(self.take_replica(*n)),
            Fault::Drain(n) => self.take_replica(*n).into_iter().for_each(|mut sidecar| sidecar.terminate()),
            Fault::Cut(n) => self.replicas[*n].network.cut(),
            Fault::Reload(n) => self.replicas[*n].reload(),
            Fault::BadReload(n) => self.replicas[*n].spoil(),
            Fault::Broker(n) => self.nodes[*n].kill(),
            Fault::Flood(n) => self.flood(*n),
            Fault::Grow(topic) => self.grow(*topic),
            Fault::Reset(clients) => self.inject(clients, ClientFault::Reset),
            Fault::Stall(clients, time) => self.inject(clients, ClientFault::Stall(*time)),
            Fault::Leave(clients, time) => self.inject(clients, ClientFault::Leave(*time)),
        }
    }

    fn end(&mut self, fault: &Fault) {
        match fault {
            Fault::Kill(n) | Fault::Drain(n) => self.start_replica(*n),
            Fault::Cut(n) => self.replicas[*n].network.mend(),
            Fault::Flood(n) => self.floods.retain(|(flooded, _)| flooded != n),
            Fault::BadReload(n) => self.replicas[*n].repair(),
            Fault::Broker(n) => self.nodes[*n].start_again(),
            Fault::Reload(_) | Fault::Grow(_) | Fault::Reset(_) | Fault::Stall(..) | Fault::Leave(..) => {}
        }
    }

    fn take_replica(&mut self, n: usize) -> Option<Sidecar> {
        self.ground.addresses.lock().unwrap()[n] = None;
        self.replicas[n].sidecar.take()
    }

    fn start_replica(&mut self, n: usize) {
        let sidecar = Sidecar::run(&self.replicas[n].config);
        self.ground.addresses.lock().unwrap()[n] = Some(sidecar.listen);
        self.replicas[n].sidecar = Some(sidecar);
    }

    /// Waits until every replica has read its topics.
    pub fn await_ready(&self) {
        for replica in &self.replicas {
            eventually_true("/readyz", || replica.sidecar().admin("/readyz").status() == 200);
        }
    }

    fn grow(&self, topic: usize) {
        let partitions = self.partitions[topic].load(Ordering::Relaxed) + 1;
        // A restarted broker takes a moment until it may hold replicas.
        eventually_true("a partition more", || self.admin.try_grow(TOPICS[topic].name, partitions as usize));
        self.partitions[topic].store(partitions, Ordering::Relaxed);
    }

    fn flood(&mut self, n: usize) {
        let personas = everybody();
        let hostile = personas.iter().find(|persona| persona.proto == Proto::Ws).expect("a WebSocket client");
        let token = hostile.token(&mut fastrand::Rng::with_seed(0));
        let path = hostile.path.clone();
        self.floods.push((n, Flood::start(self.replicas[n].sidecar().listen, &path, &token)));
    }

    fn inject(&self, clients: &[usize], fault: ClientFault) {
        for client in clients {
            // A client that has finished no longer receives.
            let _ = self.clients[*client].send(fault);
        }
    }
}

/// A topic with a replica of each partition on every broker, so that one broker may be lost.
fn create(admin: &Admin, topic: &Topic) {
    let ids: Vec<i32> = (1..=BROKERS as i32).collect();
    let places = (0..topic.partitions as usize).map(|partition| {
        let mut places = ids.clone();
        places.rotate_left(partition % BROKERS);
        places
    });
    let places: Vec<Vec<i32>> = places.collect();
    admin.create_topic_on(topic.name, &places.iter().map(Vec::as_slice).collect::<Vec<_>>());
    admin.configure(topic.name, &[("min.insync.replicas", COPIES_MIN)]);
}

fn addresses(nodes: &[RealBroker]) -> String {
    nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
}

/// The network between a replica and the brokers.
struct Network {
    /// One per broker.
    relays: Vec<Relay>,
    behind: Vec<SocketAddr>,
}

impl Network {
    /// A network that leads nowhere.
    fn start() -> Self {
        Self { relays: (0..BROKERS).map(|_| Relay::start(NOWHERE)).collect(), behind: Vec::new() }
    }

    fn cut(&self) {
        self.relays.iter().for_each(|relay| relay.point_at(NOWHERE));
        self.relays.iter().for_each(Relay::cut);
    }

    fn mend(&self) {
        self.relays.iter().zip(&self.behind).for_each(|(relay, behind)| relay.point_at(*behind));
    }

    fn brokers(&self) -> String {
        self.relays.iter().map(|relay| relay.address.to_string()).collect::<Vec<_>>().join(",")
    }
}

/// A sidestream process, its network to the brokers, and its configuration.
struct Replica {
    network: Network,
    config: PathBuf,
    /// The valid configuration, and the number of its changes.
    text: String,
    reloads: usize,
    sidecar: Option<Sidecar>,
}

impl Replica {
    fn new(folder: &Path, network: Network, upstream: SocketAddr) -> Self {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("jwt.key"), token::SECRET).unwrap();
        let text = configuration(&network.brokers(), upstream);
        let config = folder.join("sidestream.yaml");
        fs::write(&config, &text).unwrap();
        Self { network, config, text, reloads: 0, sidecar: None }
    }

    fn sidecar(&self) -> &Sidecar {
        self.sidecar.as_ref().expect("a replica that runs")
    }

    /// Adds a route.
    fn reload(&mut self) {
        let before = self.sidecar().metric(SUCCESSES).unwrap_or(0.0);
        self.reloads += 1;
        self.text += &format!("  - {{ path: /more/{}, stream: all, public: true }}\n", self.reloads);
        self.write(&self.text);
        eventually_true("a reload", || self.sidecar().metric(SUCCESSES).is_some_and(|now| now > before));
    }

    fn spoil(&self) {
        self.write(&format!("{}nonsense: 1\n", self.text));
        self.sidecar().await_metric(SUCCESSFUL, 0.0);
    }

    fn repair(&self) {
        self.write(&self.text);
        self.sidecar().await_metric(SUCCESSFUL, 1.0);
    }

    /// Replaces the file by renaming, as deployments do.
    fn write(&self, text: &str) {
        let beside = self.config.with_extension("next");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &self.config).unwrap();
    }
}

/// Routes are last, so that one can be appended.
fn configuration(brokers: &str, upstream: SocketAddr) -> String {
    let topic = |topic: &Topic| format!("{}: {{ replay: {{ events: {} }} }}", topic.name, topic.replay_events);
    let topics = TOPICS.iter().map(topic).collect::<Vec<_>>().join(", ");
    format!(
        "upstream: {{ address: \"{upstream}\" }}\nkafka: {{ brokers: \"{brokers}\", warm_up: 5s \
         }}\nwriters: 2\ndrain: {{ budget: {:?} }}\ntopics: {{ {topics} }}\nauth: {{ key_file: jwt.key, \
         algorithms: [HS256], leeway: 0s }}\n{}",
        DRAIN,
        sections()
    )
}

/// Short, because stalled clients do not read.
const DRAIN: Duration = Duration::from_secs(1);
