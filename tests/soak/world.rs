//! Everything that can fail: a broker, a network between it and each replica, the replicas and their files. It does
//! what the plan says and notes when.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Ground, Whim};
use crate::history::{Op, Phase, Text};
use crate::people::{Persona, sections};
use crate::plan::{Fault, REPLICAS, Step, TOPICS};
use crate::producer::Partitions;
use crate::support::admin::Admin;
use crate::support::real_broker::RealBroker;
use crate::support::relay::Relay;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::Upstream;
use crate::support::{eventually_true, token};

/// Nobody listens there: a network that leads nowhere.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
/// Short waits, so that what comes back is found soon.
const PROPERTIES: &str =
    "{ reconnect.backoff.ms: 50, reconnect.backoff.max.ms: 200, topic.metadata.refresh.interval.ms: 500 }";

const SUCCESSES: &str = "notifications_config_reloads_total{result=\"success\"}";
const SUCCESSFUL: &str = "notifications_config_last_reload_successful";

/// Fields are dropped in this order: replicas first.
pub struct World {
    replicas: Vec<Replica>,
    node: RealBroker,
    admin: Admin,
    pub partitions: Arc<Partitions>,
    ground: Arc<Ground>,
    clients: Vec<Sender<Whim>>,
    _upstream: Upstream,
}

impl World {
    /// A broker with the topics, empty, and replicas that have found them. What they log stays in `target/test-logs`.
    pub fn start(name: &str, ground: Arc<Ground>) -> Self {
        let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-logs").join(name);
        let _ = fs::remove_dir_all(&logs);
        let relays: Vec<_> = (0..REPLICAS).map(|_| Relay::start(NOWHERE)).collect();
        let fronts: Vec<_> = relays.iter().map(|relay| relay.address).collect();
        let node = RealBroker::start_behind(name, Path::new(env!("CARGO_TARGET_TMPDIR")), &logs, &fronts);
        let admin = Admin::of(&node.address);
        TOPICS.iter().for_each(|topic| admin.create_topic(topic.name, topic.partitions, &[]));
        let upstream = Upstream::start();
        let replicas = relays.into_iter().zip(&node.behind).enumerate();
        let replicas = replicas
            .map(|(n, (relay, behind))| Replica::new(&logs.join(n.to_string()), relay, *behind, upstream.address))
            .collect();
        let partitions = Arc::new(TOPICS.map(|topic| AtomicI32::new(topic.partitions)));
        let clients = Vec::new();
        let mut world = Self { replicas, node, admin, partitions, ground, clients, _upstream: upstream };
        (0..REPLICAS).for_each(|n| world.start_replica(n));
        world
    }

    /// Where a plain Kafka client finds the broker, past all networks that are cut.
    pub fn brokers(&self) -> &str {
        &self.node.address
    }

    /// Where a stream of this client stands before anything was produced.
    pub fn first_cursor(&self, persona: &Persona) -> Text {
        let sidecar = self.replicas[0].sidecar();
        let target = format!("/tenant/{}/sse", persona.stream);
        let token = persona.token(&mut fastrand::Rng::with_seed(0));
        let mut stream = sidecar.call("GET", &target).bearer(&token).sse();
        stream.record().and_then(|record| record.id).expect("a priming record with an id").into()
    }

    /// Who is going to be reset and stalled, by number.
    pub fn attend(&mut self, clients: Vec<Sender<Whim>>) {
        self.clients = clients;
    }

    /// Does what the plan says at its times, or later where something took its time.
    pub fn carry_out(&mut self, steps: &[Step]) {
        let start = Instant::now();
        for Step { at, fault, begins } in steps {
            thread::sleep((start + *at).saturating_duration_since(Instant::now()));
            self.look_after_replicas();
            // Noted before it begins and after it ended.
            if *begins {
                self.note(fault, Phase::Begin);
                self.begin(fault);
            } else {
                self.end(fault);
                self.note(fault, Phase::End);
            }
        }
    }

    /// Notes who ended by itself, and starts it again.
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
            Fault::Cut(n) => self.replicas[*n].cut(),
            Fault::Reload(n) => self.replicas[*n].reload(),
            Fault::BadReload(n) => self.replicas[*n].spoil(),
            Fault::Broker => self.node.kill(),
            Fault::Grow(topic) => self.grow(*topic),
            Fault::Reset(clients) => self.tell(clients, Whim::Reset),
            Fault::Stall(clients, time) => self.tell(clients, Whim::Stall(*time)),
            Fault::Leave(clients, time) => self.tell(clients, Whim::Leave(*time)),
        }
    }

    fn end(&mut self, fault: &Fault) {
        match fault {
            Fault::Kill(n) | Fault::Drain(n) => self.start_replica(*n),
            Fault::Cut(n) => self.replicas[*n].mend(),
            Fault::BadReload(n) => self.replicas[*n].repair(),
            Fault::Broker => self.node.start_again(),
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
        self.admin.grow(TOPICS[topic].name, partitions as usize);
        self.partitions[topic].store(partitions, Ordering::Relaxed);
    }

    fn tell(&self, clients: &[usize], whim: Whim) {
        for client in clients {
            // One that is through is not there any more.
            let _ = self.clients[*client].send(whim);
        }
    }
}

/// A sidestream, the network it reads the broker through, and its file.
struct Replica {
    relay: Relay,
    behind: SocketAddr,
    config: PathBuf,
    /// The configuration as it should be, and how often it was changed.
    text: String,
    reloads: usize,
    sidecar: Option<Sidecar>,
}

impl Replica {
    fn new(folder: &Path, relay: Relay, behind: SocketAddr, upstream: SocketAddr) -> Self {
        relay.point_at(behind);
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("jwt.key"), token::SECRET).unwrap();
        let text = configuration(relay.address, upstream);
        let config = folder.join("sidestream.yaml");
        fs::write(&config, &text).unwrap();
        Self { relay, behind, config, text, reloads: 0, sidecar: None }
    }

    fn sidecar(&self) -> &Sidecar {
        self.sidecar.as_ref().expect("a replica that runs")
    }

    fn cut(&self) {
        self.relay.point_at(NOWHERE);
        self.relay.cut();
    }

    fn mend(&self) {
        self.relay.point_at(self.behind);
    }

    /// One route more.
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

    /// By the renaming of a whole file, as deployments do.
    fn write(&self, text: &str) {
        let beside = self.config.with_extension("next");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &self.config).unwrap();
    }
}

/// Routes come last, so that one more can be added at the end.
fn configuration(brokers: SocketAddr, upstream: SocketAddr) -> String {
    let topic =
        |topic: &crate::plan::Topic| format!("{}: {{ replay: {{ events: {} }} }}", topic.name, topic.replay_events);
    let topics = TOPICS.iter().map(topic).collect::<Vec<_>>().join(", ");
    format!(
        "upstream: {{ address: \"{upstream}\" }}\nkafka: {{ brokers: \"{brokers}\", warm_up: 5s, properties: \
         {PROPERTIES} }}\nwriters: 2\ndrain: {{ budget: {:?} }}\ntopics: {{ {topics} }}\nauth: {{ key_file: jwt.key, \
         algorithms: [HS256], leeway: 0s }}\n{}",
        DRAIN,
        sections()
    )
}

/// Short, since nobody reads on who is stalled.
const DRAIN: Duration = Duration::from_secs(1);
