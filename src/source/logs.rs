//! The logs of all kinds of sources as one: each topic is read by the source that has it.

use std::io;
use std::sync::Arc;

use super::{Call, Connector, History};
use crate::config::snapshot::{Kafka, ReplayLog};
use crate::event::{Epoch, Topic};
use crate::hub::{Asker, Log, Lookup, OffsetsAt, Page, Place, ReplayLimits, Table, TopicDescription};
use crate::ingest::Chunks;
use crate::metrics::Metrics;
use crate::route::Stream;
use crate::states::{State, States};

/// All logs.
#[derive(Debug)]
pub struct Logs {
    all: Vec<Arc<dyn History>>,
    limits: ReplayLimits,
    states: States,
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
        states: &States,
        metrics: &Arc<Metrics>,
        call: &Call,
    ) -> io::Result<Self> {
        let all =
            connectors.iter().map(|connector| connector.history(replay, metrics, call)).collect::<io::Result<_>>()?;
        Ok(Self { all, limits: replay.limits, states: states.clone() })
    }

    fn of(&self, topic: &Topic) -> Option<&dyn History> {
        self.all.iter().map(|log| &**log).find(|log| log.has(topic))
    }

    /// Reads the topics of these clusters from now on. Called before the sources are.
    pub fn reconfigure(&self, clusters: &[&Kafka]) {
        self.all.iter().for_each(|log| log.reconfigure(clusters));
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

    fn reshaped(&self, topic: &Topic) {
        self.of(topic).into_iter().for_each(|log| log.reshaped(topic));
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

    fn table(&self, stream: &Stream) -> Option<&Table> {
        self.states.of(stream).map(State::table)
    }
}
