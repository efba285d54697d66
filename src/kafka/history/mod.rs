//! The log behind the windows, read in chunks: each part once, for all sessions that replay it.
//!
//! | file | purpose |
//! |---|---|
//! | `store` | the meeting point of sessions that request chunks and the threads that read them: one lock |
//! | `cache`, `requests`, `times` | its parts: chunks, waiting sessions, offsets of times (pure) |
//! | `draft` | a chunk under construction (pure) |
//! | `thread` | one thread per cluster, and its client |
//! | `reading`, `topic` | a partition that is read; records as entries |
//! | `questions`, `wakeup` | requests to the brokers other than fetches; wakes the thread |
//!
//! No call blocks: a request returns at once, and the session is called when a new request may help. Sessions apply the
//! replay limits and report gaps.

mod cache;
mod draft;
mod questions;
mod reading;
mod requests;
mod store;
#[cfg(test)]
mod tests;
mod thread;
mod times;
mod topic;
mod wakeup;
/// The locks, which the model of `store` (tests/model) replaces.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
}

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::Builder;
use std::time::Instant;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use rustc_hash::FxHashMap;

use self::requests::{TopicPartition, Wanted};
use self::store::ChunkStore;
use self::sync::{Mutex, PoisonError};
use self::thread::Thread;
use self::wakeup::Wakeup;
use crate::config::snapshot::{Kafka, ReplayLog, TopicConfig};
use crate::decode::schema::VALIDATION_STACK_BYTES;
use crate::event::{Epoch, Topic};
use crate::hub::{Asker, Log, Lookup, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
use crate::ingest::Chunks;
use crate::metrics::Metrics;
use crate::source::{Call, History, STOP_WAIT};

/// A cluster with its thread.
struct Cluster {
    name: Arc<str>,
    wakeup: Arc<Wakeup>,
    /// Topics that the thread has not adopted yet.
    changed: Changed,
    /// Whether its brokers have a time index.
    finds_times: bool,
}

/// Topics for a thread, by their indexes.
type Changed = Arc<Mutex<BTreeMap<usize, TopicConfig>>>;

/// The logs of all clusters. Dropping it stops the threads without waiting.
pub struct KafkaHistory {
    store: Arc<ChunkStore>,
    /// The index of each topic's cluster, and its own, which a topic that is removed keeps.
    topics: ArcSwap<FxHashMap<Topic, (usize, usize)>>,
    clusters: Vec<Cluster>,
    limits: ReplayLimits,
    found: IntCounter,
    stop: Arc<AtomicBool>,
    /// Each is disconnected when its thread has ended.
    ended: Mutex<Vec<Receiver<Infallible>>>,
}

impl KafkaHistory {
    /// Starts a thread per cluster, which connects when a chunk is requested.
    ///
    /// # Errors
    ///
    /// A thread cannot be started.
    pub fn start<'a>(
        sources: impl IntoIterator<Item = &'a Kafka>,
        replay: &ReplayLog,
        metrics: &Arc<Metrics>,
        call: &Call,
    ) -> io::Result<Self> {
        let sources: Vec<&Kafka> = sources.into_iter().collect();
        let mut history = Self {
            store: Arc::new(ChunkStore::new(sources.len(), replay.cache_bytes)),
            topics: ArcSwap::default(),
            clusters: Vec::new(),
            limits: replay.limits,
            found: metrics.replay_pages.with_label_values(&["cache"]),
            stop: Arc::default(),
            ended: Mutex::default(),
        };
        let mut ended = Vec::new();
        for source in sources {
            ended.push(history.start_thread(source, metrics, call)?);
        }
        history.ended = Mutex::new(ended);
        Ok(history)
    }

    fn start_thread(
        &mut self,
        config: &Kafka,
        metrics: &Arc<Metrics>,
        call: &Call,
    ) -> io::Result<Receiver<Infallible>> {
        let cluster = self.clusters.len();
        let (wakeup, changed) = (Arc::<Wakeup>::default(), Changed::default());
        let (name, finds_times) = (config.cluster.clone(), config.finds_times);
        self.clusters.push(Cluster { name, wakeup: wakeup.clone(), changed: changed.clone(), finds_times });
        self.reconfigure(&[config]);
        let topics = BTreeMap::new();
        let (store, stop) = (self.store.clone(), self.stop.clone());
        let (config, call, metrics) = (config.clone(), call.clone(), metrics.clone());
        let thread = Thread { cluster, config, topics, changed, store, wakeup, call, metrics, stop };
        let (alive, ended) = mpsc::channel();
        Builder::new().name("kafka-replay".into()).stack_size(VALIDATION_STACK_BYTES).spawn(move || {
            thread.run();
            drop(alive);
        })?;
        Ok(ended)
    }

    fn place(&self, topic: &Topic) -> Option<(usize, usize)> {
        self.topics.load().get(topic).copied()
    }

    fn signal_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clusters.iter().for_each(|cluster| cluster.wakeup.wake());
    }

    /// Wakes the thread if it has work.
    fn wake<T>(&self, cluster: usize, looked: Lookup<T>) -> Lookup<T> {
        if matches!(looked, Lookup::Asked | Lookup::Down) {
            self.clusters[cluster].wakeup.wake();
        }
        looked
    }
}

impl History for KafkaHistory {
    fn has(&self, topic: &Topic) -> bool {
        self.place(topic).is_some()
    }

    fn reconfigure(&self, clusters: &[&Kafka]) {
        let mut topics = (**self.topics.load()).clone();
        for (number, cluster) in self.clusters.iter().enumerate() {
            let configured = clusters.iter().filter(|config| config.cluster == cluster.name);
            let mut changed = cluster.changed.lock().unwrap_or_else(PoisonError::into_inner);
            for config in configured.flat_map(|config| &config.topics) {
                let next = (number, topics.len());
                let (_, topic) = *topics.entry(config.name.clone()).or_insert(next);
                changed.insert(topic, config.clone());
            }
            cluster.wakeup.wake();
        }
        self.topics.store(Arc::new(topics));
    }

    fn be_short(&self, is_short: bool) {
        self.store.be_short(is_short);
    }

    fn cached_bytes(&self) -> usize {
        self.store.cached_bytes()
    }

    fn stop(&self) {
        self.signal_stop();
        let deadline = Instant::now() + STOP_WAIT;
        for ended in self.ended.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(left) {
                tracing::warn!("a Kafka client for replay is still closing; not waiting for it");
            }
        }
    }
}

impl Chunks for KafkaHistory {
    /// Until it is called, the epoch of a topic is 0, which means unknown.
    fn assigned(&self, topic: &Topic, epoch: Epoch) {
        if let Some((cluster, topic)) = self.place(topic) {
            self.store.topic_is(cluster, topic, epoch);
            self.clusters[cluster].wakeup.wake();
        }
    }

    fn truncated(&self, topic: &Topic) {
        if let Some((cluster, topic)) = self.place(topic) {
            self.store.is_cut(cluster, topic);
            self.clusters[cluster].wakeup.wake();
        }
    }

    /// The thread has the new topic already, or takes it before it reads on.
    fn reshaped(&self, topic: &Topic) {
        self.truncated(topic);
    }
}

impl Log for KafkaHistory {
    fn page(&self, place: &Place, asker: Asker) -> Lookup<Arc<Page>> {
        let Some((cluster, topic)) = self.place(&place.topic) else { return Lookup::Busy };
        let partition = TopicPartition { topic, partition: place.partition };
        let wanted = Wanted { offset: place.offset, until: place.until };
        let looked = self.store.page(cluster, partition, wanted, asker, Instant::now());
        if matches!(looked, Lookup::Found(_)) {
            self.found.inc();
        }
        self.wake(cluster, looked)
    }

    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<OffsetsAt> {
        let Some((cluster, topic)) = self.place(topic) else { return Lookup::Busy };
        self.wake(cluster, self.store.offsets_at(cluster, (topic, ms), asker, Instant::now()))
    }

    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription> {
        let Some((cluster, topic)) = self.place(topic) else { return Lookup::Busy };
        self.wake(cluster, self.store.description(cluster, (topic, since_ms), asker, Instant::now()))
    }

    fn finds_times(&self, topic: &Topic) -> bool {
        self.place(topic).is_none_or(|(cluster, _)| self.clusters[cluster].finds_times)
    }

    fn limits(&self) -> ReplayLimits {
        self.limits
    }
}

impl fmt::Debug for KafkaHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaHistory").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Drop for KafkaHistory {
    fn drop(&mut self) {
        self.signal_stop();
    }
}
