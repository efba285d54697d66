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
use crate::hub::{Asker, Lookup, OffsetsAt, Page};

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
    times: Times,
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
        [cluster.requests.everybody(now), cluster.times.everybody(now)].concat()
    }

    /// The sessions that have waited for too long and should request again.
    pub(super) fn overdue(&self, cluster: usize, now: Instant) -> Vec<Asker> {
        let cluster = &mut self.state().clusters[cluster];
        [cluster.requests.overdue(now), cluster.times.overdue(now)].concat()
    }

    /// Whether nothing is requested.
    pub(super) fn is_empty(&self, cluster: usize) -> bool {
        let cluster = &self.state().clusters[cluster];
        cluster.requests.is_empty() && cluster.times.is_empty()
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
mod tests {
    use super::*;

    const P0: TopicPartition = TopicPartition { topic: 0, partition: 0 };
    const SMALL: usize = 100;

    fn asker(session: u32) -> Asker {
        Asker { writer: 0, session }
    }

    fn page(offsets: Range<i64>) -> Page {
        Page { topic: "a".into(), partition: 0, epoch: 0, offsets, entries: [].into(), first_ms: None, bytes: 0 }
    }

    fn store() -> (ChunkStore, Instant) {
        (ChunkStore::new(1, 1 << 20), Instant::now())
    }

    fn ask(store: &ChunkStore, offset: i64, until: i64, now: Instant) -> Lookup<Arc<Page>> {
        store.page(0, P0, Wanted { offset, until }, asker(0), now)
    }

    #[test]
    fn a_requested_page_is_found_once_it_is_published() {
        let (store, now) = store();
        assert!(matches!(ask(&store, 200, 1000, now), Lookup::Asked));
        assert_eq!(store.job(0, P0, SMALL), Some(Job { wanted: 200, start: 128, stop: 1000, until: 1000 }));
        assert_eq!(store.publish(0, P0, page(128..640), false, now), [asker(0)]);
        assert!(matches!(ask(&store, 200, 1000, now), Lookup::Found(found) if found.offsets == (128..640)));
        assert!(store.is_empty(0));
    }

    #[test]
    fn a_page_fills_the_hole_between_others() {
        let (store, now) = store();
        store.publish(0, P0, page(100..150), false, now);
        store.publish(0, P0, page(300..400), false, now);
        assert!(matches!(ask(&store, 200, 1000, now), Lookup::Asked));
        assert_eq!(store.job(0, P0, SMALL), Some(Job { wanted: 200, start: 150, stop: 300, until: 1000 }));
        assert_eq!(store.job_at(0, P0, 150, false), Some(Job { wanted: 200, start: 150, stop: 300, until: 1000 }));
        assert_eq!(store.job_at(0, P0, 140, false), None, "who stands before the other page would read that again");
    }

    #[test]
    fn a_tired_reader_yields_to_older_requests() {
        let (store, now) = store();
        assert!(matches!(ask(&store, 9000, 9999, now), Lookup::Asked));
        assert!(matches!(ask(&store, 512, 9999, now), Lookup::Asked));
        let on = Some(Job { wanted: 512, start: 512, stop: 9999, until: 9999 });
        assert_eq!([false, true].map(|tired| store.job_at(0, P0, 512, tired)), [on, None]);
        store.publish(0, P0, page(9000..9999), false, now);
        assert_eq!(store.job_at(0, P0, 512, true).map(|job| job.wanted), Some(512), "nothing else is wanted");
    }

    #[test]
    fn pages_of_large_records_begin_at_the_requested_offset() {
        let starts = [1, 512, 1000, 20_000, 10_000_000].map(|bytes| aligned(1_023, bytes));
        assert_eq!(starts, [896, 896, 960, 1_022, 1_023]);
    }

    #[test]
    fn a_truncated_log_is_read_again() {
        let (store, now) = store();
        store.publish(0, P0, page(10..20), true, now);
        assert!(matches!(ask(&store, 15, 20, now), Lookup::Found(_)));
        assert!(matches!(ask(&store, 15, 20, now + TRUNCATED_KEPT), Lookup::Asked));
    }

    #[test]
    fn all_waiting_sessions_are_called_after_an_outage() {
        let (store, now) = store();
        store.down(0);
        assert!(matches!(ask(&store, 15, 20, now), Lookup::Down));
        assert!(matches!(store.offsets_at(0, (0, 5), asker(1), now), Lookup::Down));
        assert_eq!(store.up(0, now), [asker(0), asker(1)]);
        assert!(store.up(0, now).is_empty());
        assert!(matches!(ask(&store, 15, 20, now), Lookup::Asked));
    }

    #[test]
    fn a_partition_that_does_not_respond_does_not_affect_others() {
        let (store, now) = store();
        let other = TopicPartition { partition: 1, ..P0 };
        store.partition_is_down(0, P0, true);
        assert!(matches!(ask(&store, 15, 20, now), Lookup::Down));
        assert!(matches!(store.page(0, other, Wanted { offset: 0, until: 1 }, asker(0), now), Lookup::Asked));
        store.partition_is_down(0, P0, false);
        assert!(matches!(ask(&store, 15, 20, now), Lookup::Asked));
    }

    #[test]
    fn pages_of_a_deleted_topic_are_dropped() {
        let (store, now) = store();
        store.topic_is(0, 0, 0);
        store.publish(0, P0, page(0..10), false, now);
        store.topic_is(0, 0, 0);
        assert!(matches!(ask(&store, 5, 20, now), Lookup::Found(_)));
        store.topic_is(0, 0, 7);
        assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
        assert!(store.publish(0, P0, page(0..10), false, now).is_empty(), "it was read before");
        assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
        assert_eq!(store.publish(0, P0, Page { epoch: 7, ..page(0..10) }, false, now), [asker(0)]);
        assert!(matches!(ask(&store, 5, 20, now), Lookup::Found(_)));
    }

    #[test]
    fn a_changed_log_is_reported_to_the_reader_once() {
        let (store, now) = store();
        store.topic_is(0, 0, 7);
        assert!(!store.is_outdated(0), "it was not known before");
        store.topic_is(0, 0, 8);
        store.publish(0, P0, Page { epoch: 8, ..page(0..10) }, false, now);
        store.is_cut(0, 0);
        assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
        // Read before the reader was notified.
        store.publish(0, P0, Page { epoch: 8, ..page(0..10) }, false, now);
        assert!(store.is_outdated(0));
        assert_eq!(store.take_outdated(0), BTreeSet::from([0]));
        assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
        assert!(!store.is_outdated(0));
    }

    #[test]
    fn clusters_have_requests_of_their_own() {
        let (store, now) = (ChunkStore::new(2, 1 << 20), Instant::now());
        assert!(matches!(store.page(1, P0, Wanted { offset: 5, until: 9 }, asker(0), now), Lookup::Asked));
        assert!(store.oldest(0, 9, |_| false).is_empty() && store.is_empty(0));
        assert_eq!(store.oldest(1, 9, |_| false), [P0]);
    }
}
