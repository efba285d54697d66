//! The complete fixture: a broker, an upstream, and the sidecar between them.

use std::collections::HashSet;
use std::path::PathBuf;

use tempfile::TempDir;

use super::broker::Broker;
use super::http::Call;
use super::sidecar::Sidecar;
use super::upstream::Upstream;
use super::{eventually_true, token};

/// Streams and routes for most tests.
pub const STANDARD: &str = include_str!("standard.yaml");

/// The topics of every fixture, and their partitions.
const TOPICS: &[(&str, i32)] = &[("orders", 1), ("spread", 4), ("notices", 1)];

/// Short waits: the mock cluster does not complete a waiting fetch when data arrives, and a test that stops the broker
/// waits for its return.
pub const KAFKA_PROPERTIES: &str = "{ fetch.wait.max.ms: 10, reconnect.backoff.ms: 50, reconnect.backoff.max.ms: 200, \
                                topic.metadata.refresh.interval.ms: 500 }";

/// There are two writers, and a test has a few streams open.
const STREAMS_TO_REACH_ALL_WRITERS: usize = 8;

/// The settings of a fixture.
pub struct Plan {
    upstream: String,
    kafka: String,
    settings: String,
    broker: Option<Broker>,
    broker_down: bool,
    writers: u64,
    await_ready: bool,
    faults: Option<&'static str>,
    files: Vec<(&'static str, String)>,
}

impl Plan {
    /// The topics, streams, auth and routes, and other sections, as YAML.
    pub fn new(settings: impl Into<String>) -> Self {
        Self {
            upstream: String::new(),
            kafka: String::new(),
            settings: settings.into(),
            broker: None,
            broker_down: false,
            writers: 2,
            await_ready: true,
            faults: None,
            files: Vec::new(),
        }
    }

    /// Further keys of the `upstream` section: `read_timeout: 1s`; with `address`, they replace the test's own
    /// upstream.
    pub fn upstream(mut self, keys: &str) -> Self {
        self.upstream = keys.to_owned();
        self
    }

    /// Further keys of the `kafka` section.
    pub fn kafka(mut self, keys: &str) -> Self {
        self.kafka = keys.to_owned();
        self
    }

    /// A further section.
    pub fn with(mut self, section: &str) -> Self {
        self.settings += &format!("\n{section}\n");
        self
    }

    /// Uses this broker instead of a mock cluster.
    pub fn broker(mut self, broker: Broker) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Sets the number of writers.
    pub fn writers(mut self, writers: u64) -> Self {
        self.writers = writers;
        self
    }

    /// The broker is down when the sidecar starts.
    pub fn broker_down(mut self) -> Self {
        self.broker_down = true;
        self
    }

    /// Does not wait for `/readyz`.
    pub fn unready(mut self) -> Self {
        self.await_ready = false;
        self
    }

    /// A further file beside the configuration.
    pub fn file(mut self, name: &'static str, content: impl Into<String>) -> Self {
        self.files.push((name, content.into()));
        self
    }

    /// Injects panics, see `src/fault.rs`.
    pub fn faults(mut self, faults: &'static str) -> Self {
        self.faults = Some(faults);
        self
    }

    pub fn build(mut self) -> Fixture {
        let broker = self.broker.take().unwrap_or_else(|| Broker::start(TOPICS));
        let upstream = Upstream::start();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("sidestream.yaml");
        std::fs::write(directory.path().join("jwt.key"), token::SECRET).unwrap();
        for (name, content) in &self.files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        std::fs::write(&config, self.yaml(&broker, &upstream)).unwrap();
        if self.broker_down {
            broker.down();
        }
        let sidecar = match self.faults {
            Some(faults) => Sidecar::run_faulty(&config, faults),
            None => Sidecar::run(&config),
        };
        let fixture =
            Fixture { broker, upstream, sidecar, config, await_ready: self.await_ready, _directory: directory };
        fixture.await_ready();
        fixture
    }

    fn yaml(&self, broker: &Broker, upstream: &Upstream) -> String {
        let own = |keys: &str, key: &str, value: &str| {
            if keys.contains(&format!("{key}:")) { keys.to_owned() } else { format!("{key}: {value}, {keys}") }
        };
        let upstream = own(&self.upstream, "address", &upstream.address.to_string());
        let kafka = own(&self.kafka, "brokers", &format!("\"{}\"", broker.address()));
        let kafka = own(&kafka, "properties", KAFKA_PROPERTIES);
        format!("upstream: {{ {upstream} }}\nkafka: {{ {kafka} }}\nwriters: {}\n{}", self.writers, self.settings)
    }
}

/// The running fixture; fields are dropped in this order, the sidecar first.
pub struct Fixture {
    pub sidecar: Sidecar,
    pub broker: Broker,
    pub upstream: Upstream,
    pub config: PathBuf,
    await_ready: bool,
    _directory: TempDir,
}

impl Fixture {
    /// With the standard streams and routes.
    pub fn standard() -> Self {
        Plan::new(STANDARD).build()
    }

    /// With the standard streams and routes, and paths of these routes open to sockets of `/ws`.
    pub fn with_routes_open_to_ws(paths: &[&str]) -> Self {
        Self::open_to_ws(STANDARD, paths)
    }

    /// With these settings, and paths of these routes open to sockets of `/ws`.
    pub fn open_to_ws(settings: &str, paths: &[&str]) -> Self {
        let route = "path: /ws, stream: orders, transport: ws,";
        let opened = settings.replace(route, &format!("{route} websocket: {{ subscribe: {paths:?} }},"));
        assert_ne!(opened, settings);
        Plan::new(opened).build()
    }

    /// With one stream, `orders`, one public route of it, and these further keys of the route.
    pub fn with_route(path: &str, transport: &str, keys: &str) -> Self {
        Self::plan_route(path, transport, keys).build()
    }

    pub fn plan_route(path: &str, transport: &str, keys: &str) -> Plan {
        Plan::new(format!(
            "streams:\n  orders: {{ topics: [orders], keys: [orderId] }}\nroutes:\n  - {{ path: \"{path}\", stream: \
             orders, transport: {transport}, public: true, {keys} }}\n"
        ))
    }

    /// Replaces a file beside the configuration by renaming, as editors and deployments do.
    pub fn replace(&self, name: &str, content: &str) {
        let beside = self.config.with_extension("next");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(&beside, self.config.with_file_name(name)).unwrap();
    }

    pub fn get(&self, target: &str) -> Call {
        self.sidecar.call("GET", target)
    }

    pub fn call(&self, method: &str, target: &str) -> Call {
        self.sidecar.call(method, target)
    }

    /// Waits until every writer has these events in its window, so that a client can resume at them.
    ///
    /// A stream goes to the writer with the fewest streams: enough of them at once reach all writers. `path` is an SSE
    /// route, which sends the whole window for an unknown position.
    pub fn settle(&self, path: &str, ids: &[String]) {
        let streams: Vec<_> = (0..STREAMS_TO_REACH_ALL_WRITERS)
            .map(|_| self.get(path).header("Last-Event-ID", "from the beginning").sse())
            .collect();
        for mut stream in streams {
            let mut awaited: HashSet<&str> = ids.iter().map(String::as_str).collect();
            while !awaited.is_empty() {
                awaited.remove(&*stream.event().id_or_gap());
            }
        }
    }

    /// Stops the sidecar with SIGTERM, and starts another one with the same configuration on other ports.
    pub fn restart(&mut self) {
        self.sidecar.terminate();
        self.sidecar = Sidecar::run(&self.config);
        self.await_ready();
    }

    fn await_ready(&self) {
        if self.await_ready {
            eventually_true("/readyz", || self.sidecar.admin("/readyz").status() == 200);
        }
    }
}
