//! The sources that feed the states of topics.
//!
//! These sources are separate, so that streams do not wait while topics are read from their first records.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use crate::config::snapshot::Snapshot;
use crate::event::Feed;
use crate::hub::NoState;
use crate::kafka;
use crate::metrics::Metrics;
use crate::source::{Connector, Sink, Source};
use crate::states::{State, States};

/// Starts one source for each cluster with states.
pub(super) fn start_sources(
    snapshot: &Snapshot,
    states: States,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Vec<Box<dyn Source>>> {
    let clusters: Vec<_> = snapshot.state_sources().collect();
    // Not exposed: those of the streams count each record once.
    let apart = Arc::new(Metrics::new(&snapshot.metrics_prefix).context("the metrics of states")?);
    let metrics = metrics.clone();
    let sink: Sink = Arc::new(move |feed| states.iter().for_each(|state| apply(state, &feed, &metrics)));
    kafka::Clusters::new(&clusters).read(&sink, &apart, None).context("cannot start the source of states")
}

fn apply(state: &State, feed: &Feed, metrics: &Metrics) {
    let table = state.table();
    let before = table.size().answers;
    state.feed(feed, Instant::now());
    let size = table.size();
    let config = table.config();
    let labels = [&*config.topic, &*config.key];
    metrics.state_keys.with_label_values(&labels).set(i64::try_from(size.keys).unwrap_or(i64::MAX));
    metrics.state_bytes.with_label_values(&labels).set(i64::try_from(size.bytes).unwrap_or(i64::MAX));
    metrics.state_ready.with_label_values(&labels).set(i64::from(size.answers.is_ok()));
    if before == size.answers {
        return;
    }
    let (topic, key) = (&*config.topic, &*config.key);
    match size.answers {
        Ok(()) => tracing::info!(topic, key, keys = size.keys, bytes = size.bytes, "the state was read"),
        Err(NoState::NotRead) => tracing::warn!(topic, key, "the state is read again from the log"),
        Err(NoState::TooLarge) => {
            tracing::error!(topic, key, limit = config.bytes, "the state is larger than its limit")
        }
    }
}
