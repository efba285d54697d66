//! The composition root: the only module that depends on all others. It starts them, and stops them in order.

mod auth;
mod sources;
mod state;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::auth::{start_auth, start_revoker};
use self::sources::{
    SharedSources, Sources, connectors, forget_registries, lock, reconfigure, start_registries,
    start_source_of_revocations, start_sources, windows,
};
use crate::access::Authenticator;
use crate::admin::{Admin, Readiness, Status as AdminStatus};
use crate::codec::Encodings;
use crate::config::snapshot::{Limits, Snapshot};
use crate::config::{ADMIN_CONNECTIONS_MAX, Budget, Reading, STALLED_BYTES};
use crate::cores::cores_up_to;
use crate::descriptors;
use crate::drain::{self, Drain};
use crate::gateway::Gateway;
use crate::hub::Log;
use crate::listener::{Bound, Ends, ListenerLimits};
use crate::memory::{Memory, Pressure, Watch};
use crate::metrics::Metrics;
use crate::panics;
use crate::reload::{Adopt, Origin, ReloadHandle, Reloader, record_success};
use crate::session;
use crate::shutdown::{Draining, Ending, Signals};
use crate::source::{self, Call, Connector, Logs, Source};
use crate::states::States;
use crate::telemetry;
use crate::traces::{Exporter, Tracer};
use crate::writer::Writers;

/// The time limit of a request head on the admin listener.
const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The most threads that proxy requests by default.
const GATEWAY_THREADS_MAX: usize = 4;
/// The most threads for blocking work: a drain, a reload, surveys, name lookups.
const BLOCKING_THREADS_MAX: usize = 64;

/// The addresses of the running sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// The brokers in the section `kafka`, as configured.
    pub kafka: String,
}

/// Runs the configuration in a file, and follows its changes, until SIGTERM or SIGINT; then drains. A second signal
/// ends the process at once with exit code 1. `reading` is the result of reading `origin`.
///
/// # Errors
///
/// A component cannot be started.
pub fn run(origin: Origin, reading: Reading) -> anyhow::Result<()> {
    let Reading { snapshot, files, fingerprint, sha256, .. } = reading;
    let app = App::start(snapshot?)?;
    let (current, metrics) = (app.snapshot.clone(), app.metrics.clone());
    let reloader = Reloader::new(origin, current, metrics, fingerprint, &files, app.adopt());
    record_success(&app.metrics, &sha256);
    serve(app, Some(reloader), |_| {})
}

/// Runs a snapshot that does not come from a file. `on_ready` is called once requests are served, before the ready line
/// is printed.
///
/// # Errors
///
/// A component cannot be started.
pub fn run_with(snapshot: Snapshot, on_ready: impl FnOnce(&Addresses)) -> anyhow::Result<()> {
    serve(App::start(snapshot)?, None, on_ready)
}

fn serve(app: App, reloader: Option<Reloader>, on_ready: impl FnOnce(&Addresses)) -> anyhow::Result<()> {
    panics::report(&app.metrics);
    let mut signals = {
        let _entered = app.runtime.enter();
        Signals::install().context("cannot listen to signals")?
    };
    if let Some(reloader) = reloader {
        app.follow(reloader);
    }
    let reload = app.reload.clone();
    let on_hangup = move || match reload.get() {
        // The result is logged.
        Some(reload) => drop(reload.ask()),
        None => tracing::info!("SIGHUP ignored: there is no configuration file"),
    };
    on_ready(&app.addresses);
    print_ready(&app.addresses).context("cannot write to standard output")?;
    let name = app.runtime.block_on(signals.termination(on_hangup));
    tracing::info!(signal = name, "ending");
    app.runtime.spawn(async move {
        signals.termination(|| {}).await;
        tracing::warn!("a second signal ended the process");
        telemetry::flush();
        std::process::exit(1);
    });
    app.end();
    Ok(())
}

/// Runs an accept loop. A panic in the task of one connection ends that connection; a panic here would stop all
/// service, so it ends the process.
async fn watched<T: Send + 'static>(part: &str, serve: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(serve).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => panics::end_process(part),
        // The runtime is shutting down.
        Err(_) => std::future::pending().await,
    }
}

/// Lets the open streams adopt a new configuration or end, and applies its sampling ratio.
fn take_over(writers: Writers, tracer: Option<Tracer>, metrics: Arc<Metrics>) -> impl Fn(&Snapshot, &Snapshot) + Send {
    move |before, now| {
        if let (Some(tracer), Some(tracing)) = (&tracer, &now.tracing) {
            tracer.set_sample(tracing.sample);
        }
        start_auth(now, &writers, &metrics);
        forget_registries(before, now, &metrics);
        let trusted = now.verifier.iter().flat_map(|verifier| verifier.authorities());
        let reload = session::Reload::new(&before.routes, now.routes.clone(), trusted)
            .verified_by(now.verifier.clone().map(|verifier| verifier as Arc<dyn Authenticator>));
        writers.reload(reload, drain::pace(now.drain, Instant::now()));
    }
}

/// The running sidecar.
pub struct App {
    addresses: Addresses,
    runtime: Runtime,
    /// The snapshot that new requests take.
    snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    writers: Writers,
    drain: Arc<Drain>,
    ending: Ending,
    stop_gateway: watch::Sender<bool>,
    gateway: JoinHandle<std::io::Result<()>>,
    sources: SharedSources,
    /// Those that read topics for their states: readiness does not wait for them.
    state_sources: Vec<Box<dyn Source>>,
    history: Arc<Logs>,
    /// Watches memory until the app is dropped.
    _memory: Watch,
    tracer: Option<Tracer>,
    exporter: Option<Exporter>,
    /// Set if there is a file to follow.
    reload: Arc<OnceLock<ReloadHandle>>,
}

impl App {
    /// Binds both listeners, starts every component, and serves. Kafka may be unreachable.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or a component cannot be started.
    pub fn start(snapshot: Snapshot) -> anyhow::Result<Self> {
        let connectors = connectors(&snapshot);
        Self::start_with(snapshot, &connectors)
    }

    /// Like [`Self::start`], with these sources instead of the configured ones.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or a component cannot be started.
    pub fn start_with(snapshot: Snapshot, connectors: &[Box<dyn Connector>]) -> anyhow::Result<Self> {
        descriptors::raise_limit();
        let listen = Bound::bind(snapshot.listen).with_context(|| format!("cannot listen on {}", snapshot.listen))?;
        let admin = Bound::bind(snapshot.admin).with_context(|| format!("cannot listen on {}", snapshot.admin))?;
        let addresses = Addresses {
            listen: listen.local_addr()?,
            admin: admin.local_addr()?,
            kafka: snapshot.kafka.brokers.clone(),
        };
        let metrics = Arc::new(Metrics::new(&snapshot.metrics_prefix).context("the metrics' prefix")?);
        metrics.certificates(&snapshot.certificates);
        let (tracer, exporter) = start_tracing(&snapshot, &metrics)?.unzip();
        tracing::info!("{}", Budget::of(&snapshot));
        let encodings = Arc::new(Encodings::new(snapshot.limits.encodings));
        let states = States::new(&snapshot.states);
        let (writers, history) = start_writers(&snapshot, connectors, &states, &encodings, &metrics, tracer.as_ref())?;
        let pressure = Pressure::default();
        let memory = Memory {
            limit: snapshot.limits.memory,
            encodings_max: snapshot.limits.encodings,
            encodings,
            history: history.clone(),
            writers: writers.clone(),
            metrics: metrics.clone(),
            pressure: pressure.clone(),
        };
        let memory = memory.watch().context("cannot watch memory")?;
        let revoker = start_revoker(&snapshot, &metrics);
        let topics = start_sources(connectors, &writers, &history, &metrics, tracer.as_ref())?;
        let revocations = start_source_of_revocations(&snapshot, revoker.as_ref(), &metrics)?;
        let sources = Arc::new(Mutex::new(Sources { topics, revocations }));
        let state_sources = state::start_sources(&snapshot, states.clone(), &metrics)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("gateway")
            .worker_threads(cores_up_to(GATEWAY_THREADS_MAX))
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;

        let draining = Draining::default();
        let ending = Ending::default();
        let readiness = Arc::new(Readiness::new(ending.clone(), snapshot.kafka.required_for_readiness));
        let limits = listener_limits(&snapshot.limits);
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let gateway = Gateway::new(
            snapshot.clone(),
            writers.clone(),
            states,
            metrics.clone(),
            draining.clone(),
            pressure,
            tracer.clone(),
        );
        let drain = Arc::new(Drain::new(draining.clone(), snapshot.clone(), writers.clone()));
        let (stop_gateway, stopped) = watch::channel(false);
        let ends = Ends { draining, shutdown: stopped };
        let entered = runtime.enter();
        start_auth(&snapshot.load(), &writers, &metrics);
        start_registries(&snapshot.load(), &metrics)?;
        if let Some(revoker) = &revoker {
            runtime.spawn(revoker.clone().run(writers.clone()));
        }
        let current = snapshot.clone();
        let tls = Box::new(move || current.load().tls.clone());
        let served = listen.serve(gateway.into_app(), limits.clone(), ends, metrics.clone(), tls);
        let gateway = runtime.spawn(watched("listener", served));
        let admin_limits = ListenerLimits {
            connections: ADMIN_CONNECTIONS_MAX,
            header_timeout: ADMIN_HEADER_TIMEOUT.min(limits.header_timeout),
            stalled: ADMIN_CONNECTIONS_MAX,
            is_for_probes: true,
            ..limits
        };
        // Probes and scrapes are answered until the process exits.
        let (never, never_stopped) = watch::channel(false);
        let never_ends = Ends { draining: Draining::default(), shutdown: never_stopped };
        let shared_metrics = metrics.clone();
        let asked = drain.clone();
        let reload = Arc::<OnceLock<ReloadHandle>>::default();
        let admin_status = AdminStatus {
            snapshot: snapshot.clone(),
            writers: writers.clone(),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            reload: reload.clone(),
            revoker: revoker.clone(),
            log: history.clone(),
            started: Instant::now(),
        };
        let admin_app = Admin::new(admin_status, Arc::new(move || asked.run()));
        runtime.spawn(watched("admin listener", async move {
            let _never = never;
            admin.serve(admin_app, admin_limits, never_ends, shared_metrics, Box::new(|| None)).await
        }));
        drop(entered);
        let asked = sources.clone();
        readiness.serve_source(Box::new(move || lock(&asked).status()));
        record_success(&metrics, "");
        Ok(Self {
            addresses,
            runtime,
            snapshot,
            metrics,
            writers,
            drain,
            ending,
            stop_gateway,
            gateway,
            sources,
            state_sources,
            history,
            _memory: memory,
            tracer,
            exporter,
            reload,
        })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What a reload applies beside the snapshot.
    fn adopt(&self) -> Adopt {
        let (sources, logs, metrics) = (self.sources.clone(), self.history.clone(), self.metrics.clone());
        Adopt {
            before: Box::new(move |now| {
                if let Err(error) = start_registries(now, &metrics) {
                    tracing::error!("{error:#}");
                }
                reconfigure(&sources, &logs, now);
            }),
            after: Box::new(take_over(self.writers.clone(), self.tracer.clone(), self.metrics.clone())),
        }
    }

    /// Starts reloading the configuration when its files change, and on request.
    fn follow(&self, reloader: Reloader) {
        let _ = self.reload.set(reloader.handle());
        self.runtime.spawn(reloader.run());
    }

    /// Stops in order, within the drain budget: fails readiness and rejects new streams; ends the streams at event
    /// boundaries; closes the listener and finishes the requests in flight; stops the sources; exports the remaining
    /// spans. A drain that has run before is not repeated.
    pub fn end(self) {
        let started = Instant::now();
        self.ending.set();
        let drained = self.drain.run();
        self.stop_gateway.send_replace(true);
        let left = drained.time_left(Instant::now());
        let finished = self.runtime.block_on(async { tokio::time::timeout(left, self.gateway).await });
        if finished.is_err() {
            tracing::warn!("requests were still in flight when the drain budget ended");
        }
        let sources = std::mem::take(&mut *lock(&self.sources));
        sources.stop();
        source::stop_all(self.state_sources);
        self.history.stop();
        if let Some(exporter) = self.exporter {
            exporter.stop();
        }
        self.runtime.shutdown_background();
        tracing::info!(elapsed_ms = started.elapsed().as_millis() as u64, "ended");
    }
}

/// Starts tracing if a collector is configured.
fn start_tracing(snapshot: &Snapshot, metrics: &Metrics) -> anyhow::Result<Option<(Tracer, Exporter)>> {
    let started = snapshot.tracing.as_ref().map(|tracing| Tracer::start(tracing, metrics));
    started.transpose().context("cannot start sending traces")
}

/// Starts the writers, and the log replay behind their windows; each depends on the other.
fn start_writers(
    snapshot: &Snapshot,
    connectors: &[Box<dyn Connector>],
    states: &States,
    encodings: &Arc<Encodings>,
    metrics: &Arc<Metrics>,
    tracer: Option<&Tracer>,
) -> anyhow::Result<(Writers, Arc<Logs>)> {
    let called: Arc<OnceLock<Writers>> = Arc::default();
    let writers = called.clone();
    let call: Call = Arc::new(move |writer, sessions| {
        if let Some(writers) = writers.get() {
            writers.call(writer, sessions);
        }
    });
    let history = Logs::start(connectors, &snapshot.replay, states, metrics, &call);
    let history = Arc::new(history.context("cannot start reading the log")?);
    let log: Arc<dyn Log> = history.clone();
    let writers = Writers::start(snapshot.writers, &windows(connectors), &log, encodings, metrics, tracer);
    let writers = writers.context("cannot start the writers")?;
    Ok((called.get_or_init(|| writers).clone(), history))
}

fn listener_limits(limits: &Limits) -> ListenerLimits {
    ListenerLimits {
        connections: limits.max_connections,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        peer_timeout: limits.tcp_user_timeout,
        stalled: limits.proxy_buffers / STALLED_BYTES,
        is_for_probes: false,
    }
}

fn print_ready(addresses: &Addresses) -> std::io::Result<()> {
    let Addresses { listen, admin, kafka } = addresses;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready listen={listen} admin={admin} kafka={kafka}")?;
    out.flush()
}
