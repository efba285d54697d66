//! The meeting point of sessions that request chunks and the threads that read them: one lock, so that a chunk cannot
//! arrive between "not cached" and "requested".
//!
//! It calls no callbacks: it returns the sessions to be called, and the thread calls them without the lock.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::cache::Cache;
use super::requests::{BLOCK_OFFSETS, Requests, TopicPartition, Wanted};
use super::sync::{Mutex, MutexGuard, PoisonError};
use super::times::{Time, Times};
use crate::event::Epoch;
use crate::hub::{Asker, Lookup, OffsetsAt, Page, TopicDescription};

/// How long a chunk that reports a truncated log is cached: the log may have grown again.
const TRUNCATED_KEPT: Duration = Duration::from_secs(1);
/// The longest block, in bytes of records, at whose start chunks begin: with larger records, too much would be read
/// before the requested offset.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct ChunkStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cache: Cache,
    clusters: Vec<Cluster>,
    /// The epochs of the topics by index, if known.
    epochs: FxHashMap<usize, Epoch>,
}

#[derive(Debug, Default)]
struct Cluster {
    requests: Requests,
    times: Times<OffsetsAt>,
    descriptions: Times<TopicDescription>,
    /// No broker responds.
    is_down: bool,
    /// Partitions whose leader does not respond.
    down: BTreeSet<TopicPartition>,
    /// Topics whose logs have changed since the reading client was created.
    outdated: BTreeSet<usize>,
}

/// A chunk to be read: it must contain `wanted`, should begin at `start`, and ends at `stop` at the latest. Offsets
/// from `until` on are not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) wanted: i64,
    pub(super) start: i64,
    pub(super) stop: i64,
    pub(super) until: i64,
}

impl ChunkStore {
    /// The chunks of all clusters together have at most this many bytes.
    pub(super) fn new(clusters: usize, cache_bytes: usize) -> Self {
        let clusters = (0..clusters).map(|_| Cluster::default()).collect();
        let epochs = FxHashMap::default();
        Self { state: Mutex::new(State { cache: Cache::new(cache_bytes), clusters, epochs }) }
    }

    pub(super) fn be_short(&self, is_short: bool) {
        self.state().cache.be_short(is_short);
    }

    pub(super) fn cached_bytes(&self) -> usize {
        self.state().cache.bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn page(
        &self,
        cluster: usize,
        partition: TopicPartition,
        wanted: Wanted,
        asker: Asker,
        now: Instant,
    ) -> Lookup<Arc<Page>> {
        let mut state = self.state();
        if let Some(page) = state.cache.get(partition, wanted.offset, now) {
            return Lookup::Found(page);
        }
        let cluster = &mut state.clusters[cluster];
        let is_noted = cluster.requests.add(partition, wanted, asker, now);
        cluster.noted(is_noted, cluster.down.contains(&partition))
    }

    pub(super) fn offsets_at(&self, cluster: usize, time: Time, asker: Asker, now: Instant) -> Lookup<OffsetsAt> {
        let cluster = &mut self.state().clusters[cluster];
        if let Some(offsets) = cluster.times.get(time, asker, now) {
            return Lookup::Found(offsets);
        }
        let is_noted = cluster.times.ask(time, asker, now);
        cluster.noted(is_noted, false)
    }

    pub(super) fn description(
        &self,
        cluster: usize,
        since: Time,
        asker: Asker,
        now: Instant,
    ) -> Lookup<TopicDescription> {
        let cluster = &mut self.state().clusters[cluster];
        if let Some(description) = cluster.descriptions.get(since, asker, now) {
            return Lookup::Found(description);
        }
        let is_noted = cluster.descriptions.ask(since, asker, now);
        cluster.noted(is_noted, false)
    }

    /// The partitions with the oldest requests, except for these, at most this many, the oldest first.
    pub(super) fn oldest(
        &self,
        cluster: usize,
        max: usize,
        but: impl Fn(TopicPartition) -> bool,
    ) -> Vec<TopicPartition> {
        self.state().clusters[cluster].requests.oldest(max, but)
    }

    /// Whether a chunk of the partition is requested.
    pub(super) fn is_wanted(&self, cluster: usize, partition: TopicPartition) -> bool {
        self.state().clusters[cluster].requests.oldest_of(partition).is_some()
    }

    /// The oldest requested chunk of a partition. It begins at its block's start if records of `record_bytes` make that
    /// cheap.
    pub(super) fn job(&self, cluster: usize, partition: TopicPartition, record_bytes: usize) -> Option<Job> {
        let state = self.state();
        let wanted = state.clusters[cluster].requests.oldest_of(partition)?;
        let hole = state.cache.hole(partition, wanted.offset);
        let start = aligned(wanted.offset, record_bytes).max(hole.start);
        Some(Job { wanted: wanted.offset, start, stop: stop(wanted, &hole), until: wanted.until })
    }

    /// The requested chunk that a reader at this offset reaches by reading on. A `tired` reader, which has done so for
    /// long, yields to older requests of other partitions.
    pub(super) fn job_at(&self, cluster: usize, partition: TopicPartition, offset: i64, tired: bool) -> Option<Job> {
        let state = self.state();
        let requests = &state.clusters[cluster].requests;
        let wanted = requests.at(partition, offset)?;
        if tired && requests.oldest_of(partition) != Some(wanted) {
            return None;
        }
        let hole = state.cache.hole(partition, wanted.offset);
        let (stop, until) = (stop(wanted, &hole), wanted.until);
        let job = Job { wanted: wanted.offset, start: offset, stop, until };
        (hole.start <= offset).then_some(job)
    }

    /// Sets the current epoch; drops the chunks of another one.
    pub(super) fn topic_is(&self, cluster: usize, topic: usize, epoch: Epoch) {
        let mut state = self.state();
        let former = state.epochs.insert(topic, epoch).unwrap_or_default();
        if former != epoch {
            state.cache.forget(topic);
        }
        if former != 0 && former != epoch {
            state.clusters[cluster].outdated.insert(topic);
        }
    }

    /// A log of the topic was truncated: its chunks may be invalid.
    pub(super) fn is_cut(&self, cluster: usize, topic: usize) {
        let mut state = self.state();
        state.cache.forget(topic);
        state.clusters[cluster].outdated.insert(topic);
    }

    /// The topics of a cluster whose logs have changed since the last call. Their chunks were dropped: the reader calls
    /// this after it has cancelled its current work.
    pub(super) fn take_outdated(&self, cluster: usize) -> BTreeSet<usize> {
        let mut state = self.state();
        let outdated = std::mem::take(&mut state.clusters[cluster].outdated);
        outdated.iter().for_each(|topic| state.cache.forget(*topic));
        outdated
    }

    /// Whether there are such topics.
    pub(super) fn is_outdated(&self, cluster: usize) -> bool {
        !self.state().clusters[cluster].outdated.is_empty()
    }

    /// The current epoch; 0 if unknown.
    pub(super) fn epoch(&self, topic: usize) -> Epoch {
        self.state().epochs.get(&topic).copied().unwrap_or_default()
    }

    /// Stores a chunk, and returns the sessions that wait for it. A chunk of a deleted topic is dropped, and the
    /// sessions still wait.
    pub(super) fn publish(
        &self,
        cluster: usize,
        partition: TopicPartition,
        page: Page,
        is_truncated: bool,
        now: Instant,
    ) -> Vec<Asker> {
        let mut state = self.state();
        if page.epoch != state.epochs.get(&partition.topic).copied().unwrap_or_default() {
            return Vec::new();
        }
        let offsets = page.offsets.clone();
        state.cache.insert(partition, Arc::new(page), is_truncated.then(|| now + TRUNCATED_KEPT));
        state.clusters[cluster].requests.answer(partition, &offsets)
    }

    /// The oldest request for a time, except for these.
    pub(super) fn time(&self, cluster: usize, but: impl Fn(Time) -> bool) -> Option<Time> {
        self.state().clusters[cluster].times.next(but)
    }

    /// Stores the offsets of a time, and returns the sessions that wait for them.
    pub(super) fn publish_time(&self, cluster: usize, time: Time, offsets: OffsetsAt, now: Instant) -> Vec<Asker> {
        self.state().clusters[cluster].times.answer(time, offsets, now)
    }

    /// The oldest request for a description, except for these.
    pub(super) fn undescribed(&self, cluster: usize, but: impl Fn(Time) -> bool) -> Option<Time> {
        self.state().clusters[cluster].descriptions.next(but)
    }

    /// Stores a description, and returns the sessions that wait for it.
    pub(super) fn publish_description(
        &self,
        cluster: usize,
        since: Time,
        description: TopicDescription,
        now: Instant,
    ) -> Vec<Asker> {
        self.state().clusters[cluster].descriptions.answer(since, description, now)
    }

    /// No broker responds.
    pub(super) fn down(&self, cluster: usize) {
        self.state().clusters[cluster].is_down = true;
    }

    /// Records whether the partition's leader responds.
    pub(super) fn partition_is_down(&self, cluster: usize, partition: TopicPartition, is_down: bool) {
        let down = &mut self.state().clusters[cluster].down;
        let _ = if is_down { down.insert(partition) } else { down.remove(&partition) };
    }

    /// A broker responds: returns all waiting sessions, if none did before.
    pub(super) fn up(&self, cluster: usize, now: Instant) -> Vec<Asker> {
        let cluster = &mut self.state().clusters[cluster];
        if !std::mem::take(&mut cluster.is_down) {
            return Vec::new();
        }
        [cluster.requests.everybody(now), cluster.times.everybody(now), cluster.descriptions.everybody(now)].concat()
    }

    /// The sessions that have waited for too long and should request again.
    pub(super) fn overdue(&self, cluster: usize, now: Instant) -> Vec<Asker> {
        let cluster = &mut self.state().clusters[cluster];
        [cluster.requests.overdue(now), cluster.times.overdue(now), cluster.descriptions.overdue(now)].concat()
    }

    /// Whether nothing is requested.
    pub(super) fn is_empty(&self, cluster: usize) -> bool {
        let cluster = &self.state().clusters[cluster];
        cluster.requests.is_empty() && cluster.times.is_empty() && cluster.descriptions.is_empty()
    }
}

impl Cluster {
    fn noted<T>(&self, is_noted: bool, is_down: bool) -> Lookup<T> {
        match (is_noted, self.is_down || is_down) {
            (false, _) => Lookup::Busy,
            (true, true) => Lookup::Down,
            (true, false) => Lookup::Asked,
        }
    }
}

fn stop(wanted: Wanted, hole: &Range<i64>) -> i64 {
    // An empty place still contains its offset.
    wanted.until.min(hole.end).max(wanted.offset.saturating_add(1))
}

/// The offset, or an earlier block start if reading from there costs few bytes, so that readers share chunks.
fn aligned(offset: i64, record_bytes: usize) -> i64 {
    let block = i64::try_from(BLOCK_BYTES_MAX / record_bytes.max(1)).unwrap_or(i64::MAX).min(BLOCK_OFFSETS);
    // The greatest power of two up to it.
    let block = block.checked_ilog2().map_or(1, |log| 1 << log);
    offset & !(block - 1)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
