//! The logs of all kinds of sources as one: each topic is read by the source that has it.

use std::io;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Call, Connector, History};
use crate::config::snapshot::ReplayLog;
use crate::event::{Epoch, Topic};
use crate::hub::{Asker, Log, Lookup, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
use crate::ingest::Chunks;
use crate::metrics::Metrics;

/// All logs.
#[derive(Debug)]
pub struct Logs {
    all: Vec<Arc<dyn History>>,
    /// The index of each topic's log in `all`.
    topics: FxHashMap<Topic, usize>,
    limits: ReplayLimits,
}

impl Logs {
    /// Starts the logs of these connectors.
    ///
    /// # Errors
    ///
    /// A thread cannot be started.
    pub fn start(
        connectors: &[Box<dyn Connector>],
        replay: &ReplayLog,
        metrics: &Arc<Metrics>,
        call: &Call,
    ) -> io::Result<Self> {
        let (mut all, mut topics) = (Vec::new(), FxHashMap::default());
        for connector in connectors {
            topics.extend(connector.topics().iter().map(|topic| (topic.name.clone(), all.len())));
            all.push(connector.history(replay, metrics, call)?);
        }
        Ok(Self { all, topics, limits: replay.limits })
    }

    fn of(&self, topic: &Topic) -> Option<&dyn History> {
        self.topics.get(topic).map(|log| &*self.all[*log])
    }

    /// Caches almost no chunks while memory pressure is high.
    pub fn be_short(&self, is_short: bool) {
        self.all.iter().for_each(|log| log.be_short(is_short));
    }

    /// The bytes of cached chunks.
    pub fn cached_bytes(&self) -> usize {
        self.all.iter().map(|log| log.cached_bytes()).sum()
    }

    /// Stops all of them.
    pub fn stop(&self) {
        self.all.iter().for_each(|log| log.stop());
    }
}

impl Chunks for Logs {
    fn assigned(&self, topic: &Topic, epoch: Epoch) {
        self.of(topic).into_iter().for_each(|log| log.assigned(topic, epoch));
    }

    fn truncated(&self, topic: &Topic) {
        self.of(topic).into_iter().for_each(|log| log.truncated(topic));
    }
}

impl Log for Logs {
    fn page(&self, place: &Place, asker: Asker) -> Lookup<Arc<Page>> {
        self.of(&place.topic).map_or(Lookup::Busy, |log| log.page(place, asker))
    }

    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<OffsetsAt> {
        self.of(topic).map_or(Lookup::Busy, |log| log.offsets_at(topic, ms, asker))
    }

    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription> {
        self.of(topic).map_or(Lookup::Busy, |log| log.description(topic, since_ms, asker))
    }

    fn finds_times(&self, topic: &Topic) -> bool {
        self.of(topic).is_none_or(|log| log.finds_times(topic))
    }

    fn limits(&self) -> ReplayLimits {
        self.limits
    }
}
