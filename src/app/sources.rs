//! The kinds of sources, and what the app does with all of them.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::config::snapshot::{Kafka, Snapshot};
use crate::decode::registered::Schemas as _;
use crate::event::Topic;
use crate::hub::WindowLimits;
use crate::ingest::ingest;
use crate::kafka;
use crate::metrics::Metrics;
use crate::revoke::Revoker;
use crate::schema_registry::RegistryHooks;
use crate::source::{self, Connector, Logs, Sink, Source, Status};
use crate::traces::Tracer;
use crate::writer::Writers;

/// How long a reload waits until all writers have applied changes of topics.
const APPLY_WAIT: Duration = Duration::from_secs(5);

/// The running sources.
#[derive(Default)]
pub(super) struct Sources {
    /// Those of the topics of streams.
    pub(super) topics: Vec<Box<dyn Source>>,
    pub(super) revocations: Vec<Box<dyn Source>>,
}

impl Sources {
    pub(super) fn status(&self) -> Status {
        Status::of(self.topics.iter().chain(&self.revocations).map(|source| &**source))
    }

    pub(super) fn stop(self) {
        source::stop_all(self.topics.into_iter().chain(self.revocations).collect());
    }
}

/// The running sources. Readiness reads their status, and the drain takes them.
pub(super) type SharedSources = Arc<Mutex<Sources>>;

/// Lets the sources read the topics of a new configuration, and waits until all writers have applied what changes:
/// routes of the new configuration then select events of the new shapes only.
pub(super) fn reconfigure(sources: &SharedSources, logs: &Logs, snapshot: &Snapshot) {
    let clusters: Vec<&Kafka> = snapshot.sources().collect();
    let (applied, waits) = mpsc::channel();
    logs.reconfigure(&clusters);
    lock(sources).topics.iter().for_each(|source| source.reconfigure(&clusters, &applied));
    drop(applied);
    if let Err(RecvTimeoutError::Timeout) = waits.recv_timeout(APPLY_WAIT) {
        tracing::warn!("changes of topics are still being applied; not waiting for them");
    }
}

/// The kinds of sources, one line each.
pub(super) fn connectors(snapshot: &Snapshot) -> Vec<Box<dyn Connector>> {
    vec![Box::new(kafka::Clusters::new(snapshot.sources()))]
}

/// Starts a separate source, so that slow writers do not delay revocations.
pub(super) fn start_source_of_revocations(
    snapshot: &Snapshot,
    revoker: Option<&Arc<Revoker>>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Vec<Box<dyn Source>>> {
    let source = snapshot.revocations.as_ref().and_then(|settings| settings.source.clone());
    let Some(revoker) = revoker.cloned() else { return Ok(Vec::new()) };
    let sink: Sink = Arc::new(move |feed| revoker.feed(&feed));
    kafka::Clusters::new(&source).read(&sink, metrics, None).context("cannot start the source of revocations")
}

/// Starts all sources, which feed the same writers.
pub(super) fn start_sources(
    connectors: &[Box<dyn Connector>],
    writers: &Writers,
    history: &Arc<Logs>,
    metrics: &Arc<Metrics>,
    tracer: Option<&Tracer>,
) -> anyhow::Result<Vec<Box<dyn Source>>> {
    let (writers, history) = (writers.clone(), history.clone());
    let sink: Sink = Arc::new(move |feed| ingest(&feed, &*history, &writers));
    let mut sources = Vec::new();
    for connector in connectors {
        sources.extend(connector.read(&sink, metrics, tracer).context("cannot start a source")?);
    }
    Ok(sources)
}

/// Starts requesting schemas in the background.
pub(super) fn start_registries(snapshot: &Snapshot, metrics: &Arc<Metrics>) -> anyhow::Result<()> {
    for registry in &snapshot.registries {
        let (requests, schemas) = (metrics.registry_requests.clone(), metrics.registry_schemas.clone());
        let hooks = RegistryHooks {
            on_request: Arc::new(move |name, result| requests.with_label_values(&[name, result]).inc()),
            on_change: Arc::new(move |name, known| schemas.with_label_values(&[name]).set(known as i64)),
        };
        registry.start(hooks).context("cannot request schemas")?;
    }
    Ok(())
}

/// Removes the gauges of registries that are no longer configured.
pub(super) fn forget_registries(before: &Snapshot, now: &Snapshot, metrics: &Metrics) {
    for name in before.registries.iter().map(|registry| registry.name()) {
        if now.registries.iter().all(|registry| registry.name() != name) {
            // A registry without a known schema has none.
            let _ = metrics.registry_schemas.remove_label_values(&[name]);
        }
    }
}

/// The sources are absent once the drain has taken them.
pub(super) fn lock(sources: &SharedSources) -> MutexGuard<'_, Sources> {
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the replay window of each topic.
pub(super) fn windows(connectors: &[Box<dyn Connector>]) -> Vec<(Topic, WindowLimits)> {
    let topics = connectors.iter().flat_map(|connector| connector.topics());
    topics.map(|topic| (topic.name.clone(), topic.window())).collect()
}
