//! The kinds of sources, and what the app does with all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use crate::config::snapshot::{Snapshot, TopicConfig};
use crate::event::Topic;
use crate::hub::WindowLimits;
use crate::ingest::ingest;
use crate::kafka;
use crate::metrics::Metrics;
use crate::revoke::Revoker;
use crate::source::{Connector, Logs, Sink, Source};
use crate::traces::Tracer;
use crate::writer::Writers;

/// The running sources. Readiness reads their status, and the drain takes them.
pub(super) type SharedSources = Arc<Mutex<Vec<Box<dyn Source>>>>;

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

/// The sources are absent once the drain has taken them.
pub(super) fn lock(sources: &SharedSources) -> MutexGuard<'_, Vec<Box<dyn Source>>> {
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the replay window of each topic.
pub(super) fn windows(connectors: &[Box<dyn Connector>]) -> Vec<(Topic, WindowLimits)> {
    let topics = connectors.iter().flat_map(|connector| connector.topics());
    let limits = |topic: &TopicConfig| WindowLimits { events: topic.replay_events, bytes: topic.replay_bytes };
    topics.map(|topic| (topic.name.clone(), limits(topic))).collect()
}
