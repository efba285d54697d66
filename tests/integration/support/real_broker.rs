//! Apache Kafka as child processes: one node in KRaft mode, or a cluster of several. Each node has a plaintext and a
//! SASL/TLS listener on loopback, and further listeners behind proxies if a test places one between the node and its
//! clients.
//!
//! `make kafka` installs it into `target/kafka`. The benchmarks share this file, so it does not depend on other modules
//! of the tests. A node never outlives the process that started it, however that process ends.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A JVM on a busy two-core machine, including log recovery.
const START: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Below the kernel's ephemeral ports, so that no outgoing connection takes a node's port while the node is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const SIGKILL: i32 = 9;
/// The heap of a single node, and of each node in a cluster.
const HEAP: &str = "-Xmx512m";
const HEAP_IN_CLUSTER: &str = "-Xmx256m";
/// The number of replicas of Kafka's internal topics, if there are enough nodes.
const REPLICAS_MAX: usize = 3;

/// The user of the SASL listener, and the password.
pub const USER: &str = "sidestream";
pub const PASSWORD: &str = "correct horse battery staple";

pub struct RealBroker {
    /// `host:port` of the plaintext listener.
    pub address: String,
    /// `host:port` of the listener with TLS and SCRAM-SHA-512.
    pub secure_address: String,
    /// `host:port` of the plaintext listeners behind the proxies it was started with, in order.
    #[allow(dead_code)] // For the soak test, which places a proxy between the node and its clients.
    pub behind: Vec<SocketAddr>,
    folder: PathBuf,
    child: Child,
    launcher: Launcher,
}

impl RealBroker {
    /// Starts a new node. `place` is the directory for its data, and `logs` the one for its output, `NAME.log`.
    pub fn start(name: &str, place: &Path, logs: &Path) -> Self {
        Self::start_behind(name, place, logs, &[])
    }

    /// Starts a node with an additional plaintext listener for each of these addresses, which it advertises: a Kafka
    /// client connects to the advertised address, whatever address it bootstrapped from.
    pub fn start_behind(name: &str, place: &Path, logs: &Path, fronts: &[SocketAddr]) -> Self {
        let mut nodes = Self::start_cluster(name, place, logs, &[fronts]);
        nodes.remove(0)
    }

    /// Starts a cluster with a node for each of these lists of proxies, which may be empty. Node ids begin at 1; node
    /// `n` logs to `NAME-n.log`. All nodes are brokers and controllers, so a minority of them may be killed.
    pub fn start_cluster(name: &str, place: &Path, logs: &Path, fronts: &[&[SocketAddr]]) -> Vec<Self> {
        fs::create_dir_all(logs).unwrap();
        let controllers: Vec<u16> = fronts.iter().map(|_| free_port()).collect();
        let start = |(n, fronts): (usize, &&[SocketAddr])| {
            let name = if controllers.len() == 1 { name.to_owned() } else { format!("{name}-{}", n + 1) };
            let folder = new_folder(place, &name);
            let (plain, secure) = (free_port(), free_port());
            let behind: Vec<_> = fronts.iter().map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))).collect();
            make_certificates(&folder);
            let fronts: Vec<_> = behind.iter().copied().zip(fronts.iter().copied()).collect();
            let properties = properties(&folder, n, plain, secure, &controllers, &fronts);
            fs::write(folder.join("server.properties"), properties).unwrap();
            let heap = if controllers.len() == 1 { HEAP } else { HEAP_IN_CLUSTER };
            let launcher = Launcher { folder: folder.clone(), log: logs.join(format!("{name}.log")), heap };
            File::create(&launcher.log).unwrap();
            launcher.format();
            let child = launcher.launch();
            let (address, secure_address) = (format!("127.0.0.1:{plain}"), format!("127.0.0.1:{secure}"));
            Self { address, secure_address, behind, folder, child, launcher }
        };
        let mut nodes: Vec<Self> = fronts.iter().enumerate().map(start).collect();
        nodes.iter_mut().for_each(Self::await_start);
        nodes
    }

    /// The certificate of the authority that signed the secure listener's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The first segment of a partition's log.
    pub fn segment(&self, topic: &str, partition: i32) -> Vec<u8> {
        fs::read(self.folder.join(format!("data/{topic}-{partition}/{:020}.log", 0))).unwrap()
    }

    /// Changes the last byte of the batch of partition 0 that begins at this offset, so that its checksum is wrong.
    /// Brokers send batches from the file.
    #[allow(dead_code)] // Not for the benchmarks and the soak test.
    pub fn corrupt(&self, topic: &str, offset: i64) {
        let path = self.folder.join(format!("data/{topic}-0/{:020}.log", 0));
        let end = batch_at(&fs::read(&path).unwrap(), offset + 1) as u64;
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut last = [0];
        file.read_exact_at(&mut last, end - 1).unwrap();
        file.write_all_at(&[!last[0]], end - 1).unwrap();
    }

    /// Truncates the log of partition 0 at this offset while the node is down. Each record has to be a batch of its
    /// own.
    #[allow(dead_code)] // Not for the benchmarks and the soak test.
    pub fn cut(&self, topic: &str, offset: i64) {
        let path = self.folder.join(format!("data/{topic}-0/{:020}.log", 0));
        let log = fs::read(&path).unwrap();
        let at = batch_at(&log, offset);
        File::options().write(true).open(&path).unwrap().set_len(at as u64).unwrap();
    }

    /// Adds a user of the secure listener with Kafka's own tool.
    pub fn add_user(&self, name: &str, password: &str) {
        let status = self
            .launcher
            .java("kafka.admin.ConfigCommand")
            .args(["--bootstrap-server", &self.address, "--alter", "--entity-type", "users", "--entity-name", name])
            .args(["--add-config", &format!("SCRAM-SHA-512=[password={password}]")])
            .status();
        assert!(status.expect("java").success(), "see {}", self.launcher.log.display());
    }

    /// Kills the node, like a power failure.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(SIGKILL));
    }

    /// Restarts the node on its data.
    pub fn start_again(&mut self) {
        self.child = self.launcher.launch();
        self.await_start();
    }

    fn await_start(&mut self) {
        let deadline = Instant::now() + START;
        while [&self.address, &self.secure_address].iter().any(|address| TcpStream::connect(address).is_err()) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "Kafka ended ({ended:?}): see {}", self.launcher.log.display());
            assert!(Instant::now() < deadline, "no Kafka in {START:?}: see {}", self.launcher.log.display());
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for RealBroker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Launcher {
    folder: PathBuf,
    log: PathBuf,
    /// The JVM's heap option.
    heap: &'static str,
}

impl Launcher {
    fn format(&self) {
        let scram = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        let status = self
            .java("kafka.tools.StorageTool")
            .args(["format", "--cluster-id", "c2lkZXN0cmVhbS10ZXN0cw", "--add-scram", &scram, "--config"])
            .arg(self.folder.join("server.properties"))
            .status();
        assert!(status.expect("java").success(), "see {}", self.log.display());
    }

    fn launch(&self) -> Child {
        let mut command = self.java("kafka.Kafka");
        command.arg(self.folder.join("server.properties"));
        spawn(command)
    }

    fn java(&self, class: &str) -> Command {
        let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka/lib");
        assert!(jars.exists(), "Kafka is not in {}: run `make kafka`", jars.display());
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "java", self.heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dlog4j2.level=INFO", "-cp"])
            .arg(jars.join("*"))
            .arg(class)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }
}

/// Starts a process that is killed when this one ends.
///
/// The kernel kills it when the *thread* that started it ends, so that thread must never end.
fn spawn(command: Command) -> Child {
    static SPAWNER: std::sync::OnceLock<Sender<(Command, Sender<Child>)>> = std::sync::OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, commands): (_, Receiver<(Command, Sender<Child>)>) = channel();
        thread::spawn(move || {
            for (mut command, answer) in commands {
                let _ = answer.send(command.spawn().expect("setpriv and java"));
            }
        });
        sender
    });
    let (answer, child) = channel();
    spawner.send((command, answer)).unwrap();
    child.recv().unwrap()
}

/// `PLACE/kafka-PID-NAME`; removes the directories of processes that have ended.
fn new_folder(place: &Path, name: &str) -> PathBuf {
    fs::create_dir_all(place).unwrap();
    for entry in fs::read_dir(place).unwrap().flatten() {
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let pid = file_name.strip_prefix("kafka-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = place.join(format!("kafka-{}-{name}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    folder
}

pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    /// Ports between the first ports of processes with consecutive ids.
    const APART: u32 = 61;
    // Concurrent processes start at different ports: a node binds its ports seconds after they were found.
    let first = (std::process::id().wrapping_mul(APART) % u32::from(span)) as u16;
    (0..span)
        .map(|_| PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % span)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port")
}

/// Creates `ca.pem`, and `server.pem` for 127.0.0.1 signed by it, including the key.
pub fn make_certificates(folder: &Path) {
    const SCRIPT: &str = "set -e; cd \"$1\"; day=1
        new='openssl req -newkey rsa:2048 -nodes -batch'
        $new -x509 -days $day -subj '/CN=test authority' -keyout ca.key -out ca.pem
        $new -subj '/CN=127.0.0.1' -keyout server.key -out server.csr
        printf 'subjectAltName=IP:127.0.0.1' > server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days $day \\
            -extfile server.ext -out server.crt
        cat server.key server.crt ca.pem > server.pem";
    let output = Command::new("sh").args(["-c", SCRIPT, "sh"]).arg(folder).output().expect("sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The properties of the `n`th node, 0-based. `controllers` are the ports of all nodes, and `fronts` are listeners (the
/// bound and the advertised address). A killed node can rejoin once its session has expired, after nine seconds by
/// default. With shorter sessions, a busy machine would miss heartbeats.
fn properties(
    folder: &Path,
    n: usize,
    plain: u16,
    secure: u16,
    controllers: &[u16],
    fronts: &[(SocketAddr, SocketAddr)],
) -> String {
    let folder = folder.display();
    let (id, controller, replicas) = (n + 1, controllers[n], controllers.len().min(REPLICAS_MAX));
    let voters = controllers.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}"));
    let voters = voters.collect::<Vec<_>>().join(",");
    let each = |line: &dyn Fn(usize, SocketAddr, SocketAddr) -> String| -> String {
        fronts.iter().enumerate().map(|(n, (is, says))| line(n, *is, *says)).collect()
    };
    let behind = each(&|n, is, _| format!(",FRONT{n}://{is}"));
    let advertised = each(&|n, _, says| format!(",FRONT{n}://{says}"));
    let protocols = each(&|n, _, _| format!(",FRONT{n}:PLAINTEXT"));
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAIN://127.0.0.1:{plain},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}{behind}
advertised.listeners=PLAIN://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}{advertised}
listener.security.protocol.map=PLAIN:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT{protocols}
inter.broker.listener.name=PLAIN
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=\\
    org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr=1
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=200
"
    )
}

/// The position in a segment of the first batch whose base offset is not below this one.
#[allow(dead_code)] // Not for the benchmarks and the soak test.
fn batch_at(log: &[u8], offset: i64) -> usize {
    // A batch begins with its base offset and the number of bytes that follow the two fields (KIP-98).
    const BASE: usize = 8 + 4;
    let mut at = 0;
    while at < log.len() && i64::from_be_bytes(log[at..at + 8].try_into().unwrap()) < offset {
        at += BASE + u32::from_be_bytes(log[at + 8..at + BASE].try_into().unwrap()) as usize;
    }
    at
}
