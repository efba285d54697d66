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

use prometheus::IntCounter;
use rustc_hash::FxHashMap;

use self::requests::{TopicPartition, Wanted};
use self::store::ChunkStore;
use self::sync::{Mutex, PoisonError};
use self::thread::Thread;
use self::topic::TopicLog;
use self::wakeup::Wakeup;
use crate::config::snapshot::{Kafka, ReplayLog};
use crate::decode::schema::VALIDATION_STACK_BYTES;
use crate::event::{Epoch, Topic};
use crate::hub::{Asker, Log, Lookup, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
use crate::ingest::Chunks;
use crate::metrics::Metrics;
use crate::source::{Call, History, STOP_WAIT};

/// The logs of all clusters. Dropping it stops the threads without waiting.
pub struct KafkaHistory {
    store: Arc<ChunkStore>,
    /// The index of each topic's cluster, and its own.
    topics: FxHashMap<Topic, (usize, usize)>,
    /// One per cluster.
    wakeups: Vec<Arc<Wakeup>>,
    /// By cluster: whether its brokers have a time index.
    finds_times: Vec<bool>,
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
            topics: FxHashMap::default(),
            wakeups: Vec::new(),
            finds_times: sources.iter().map(|source| source.finds_times).collect(),
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
        let cluster = self.wakeups.len();
        let mut topics = BTreeMap::new();
        for topic in &config.topics {
            let number = self.topics.len();
            self.topics.insert(topic.name.clone(), (cluster, number));
            topics.insert(number, TopicLog::new(topic, metrics));
        }
        let wakeup: Arc<Wakeup> = Arc::default();
        self.wakeups.push(wakeup.clone());
        let (store, stop) = (self.store.clone(), self.stop.clone());
        let (config, call, metrics) = (config.clone(), call.clone(), metrics.clone());
        let thread = Thread { cluster, config, topics, store, wakeup, call, metrics, stop };
        let (alive, ended) = mpsc::channel();
        Builder::new().name("kafka-replay".into()).stack_size(VALIDATION_STACK_BYTES).spawn(move || {
            thread.run();
            drop(alive);
        })?;
        Ok(ended)
    }

    fn signal_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wakeups.iter().for_each(|wakeup| wakeup.wake());
    }

    /// Wakes the thread if it has work.
    fn wake<T>(&self, cluster: usize, looked: Lookup<T>) -> Lookup<T> {
        if matches!(looked, Lookup::Asked | Lookup::Down) {
            self.wakeups[cluster].wake();
        }
        looked
    }
}

impl History for KafkaHistory {
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
        if let Some((cluster, topic)) = self.topics.get(topic) {
            self.store.topic_is(*cluster, *topic, epoch);
            self.wakeups[*cluster].wake();
        }
    }

    fn truncated(&self, topic: &Topic) {
        if let Some((cluster, topic)) = self.topics.get(topic) {
            self.store.is_cut(*cluster, *topic);
            self.wakeups[*cluster].wake();
        }
    }
}

impl Log for KafkaHistory {
    fn page(&self, place: &Place, asker: Asker) -> Lookup<Arc<Page>> {
        let Some((cluster, topic)) = self.topics.get(&place.topic).copied() else { return Lookup::Busy };
        let partition = TopicPartition { topic, partition: place.partition };
        let wanted = Wanted { offset: place.offset, until: place.until };
        let looked = self.store.page(cluster, partition, wanted, asker, Instant::now());
        if matches!(looked, Lookup::Found(_)) {
            self.found.inc();
        }
        self.wake(cluster, looked)
    }

    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<OffsetsAt> {
        let Some((cluster, topic)) = self.topics.get(topic).copied() else { return Lookup::Busy };
        self.wake(cluster, self.store.offsets_at(cluster, (topic, ms), asker, Instant::now()))
    }

    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription> {
        let Some((cluster, topic)) = self.topics.get(topic).copied() else { return Lookup::Busy };
        self.wake(cluster, self.store.description(cluster, (topic, since_ms), asker, Instant::now()))
    }

    fn finds_times(&self, topic: &Topic) -> bool {
        self.topics.get(topic).is_none_or(|(cluster, _)| self.finds_times[*cluster])
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
