//! Where those who ask for pages and the threads that read them meet: one lock, so that a page can't come between
//! "not there" and "asked for".
//!
//! It calls nobody: whom to call is returned, and called by the thread without the lock.

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
use crate::hub::{Asker, Lookup, Page};

/// How long a page that says the log ends before what was asked for is kept: it may have grown again.
const TRUNCATED_KEPT: Duration = Duration::from_secs(1);
/// What a partition's records may have in bytes for pages to begin at a block's start: more in front of the wanted
/// offset than this would be read for nobody.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Desk {
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    cache: Cache,
    clusters: Vec<Cluster>,
    /// Which topics there are now, by their numbers, where that is known.
    epochs: FxHashMap<usize, Epoch>,
}

#[derive(Debug, Default)]
struct Cluster {
    requests: Requests,
    times: Times,
    /// No broker answers.
    is_down: bool,
    /// Partitions whose leader does not answer.
    down: BTreeSet<TopicPartition>,
    /// Topics whose logs are others than those the reading client knows, since it was asked last.
    outdated: BTreeSet<usize>,
}

/// A page to be read: it has to hold `wanted`, should begin at `start`, and ends at `stop` at the latest. From `until` on
/// nothing is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) wanted: i64,
    pub(super) start: i64,
    pub(super) stop: i64,
    pub(super) until: i64,
}

impl Desk {
    /// Pages of all clusters together have at most so many bytes.
    pub(super) fn new(clusters: usize, cache_bytes: usize) -> Self {
        let clusters = (0..clusters).map(|_| Cluster::default()).collect();
        let epochs = FxHashMap::default();
        Self { book: Mutex::new(Book { cache: Cache::new(cache_bytes), clusters, epochs }) }
    }

    pub(super) fn be_short(&self, is_short: bool) {
        self.book().cache.be_short(is_short);
    }

    pub(super) fn cached_bytes(&self) -> usize {
        self.book().cache.bytes()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn page(
        &self,
        cluster: usize,
        partition: TopicPartition,
        wanted: Wanted,
        asker: Asker,
        now: Instant,
    ) -> Lookup<Arc<Page>> {
        let mut book = self.book();
        if let Some(page) = book.cache.get(partition, wanted.offset, now) {
            return Lookup::Found(page);
        }
        let cluster = &mut book.clusters[cluster];
        let is_noted = cluster.requests.add(partition, wanted, asker, now);
        cluster.noted(is_noted, cluster.down.contains(&partition))
    }

    pub(super) fn offsets_at(&self, cluster: usize, time: Time, asker: Asker, now: Instant) -> Lookup<Arc<[i64]>> {
        let cluster = &mut self.book().clusters[cluster];
        if let Some(offsets) = cluster.times.get(time, asker, now) {
            return Lookup::Found(offsets);
        }
        let is_noted = cluster.times.ask(time, asker, now);
        cluster.noted(is_noted, false)
    }

    /// The partitions but these with the oldest requests, at most so many, the oldest first.
    pub(super) fn oldest(
        &self,
        cluster: usize,
        max: usize,
        but: impl Fn(TopicPartition) -> bool,
    ) -> Vec<TopicPartition> {
        self.book().clusters[cluster].requests.oldest(max, but)
    }

    /// Whether a page of the partition is asked for.
    pub(super) fn is_wanted(&self, cluster: usize, partition: TopicPartition) -> bool {
        self.book().clusters[cluster].requests.oldest_of(partition).is_some()
    }

    /// The oldest page of a partition that is asked for. It begins at its block's start where records of
    /// `record_bytes` each let that be cheap.
    pub(super) fn job(&self, cluster: usize, partition: TopicPartition, record_bytes: usize) -> Option<Job> {
        let book = self.book();
        let wanted = book.clusters[cluster].requests.oldest_of(partition)?;
        let hole = book.cache.hole(partition, wanted.offset);
        let start = aligned(wanted.offset, record_bytes).max(hole.start);
        Some(Job { wanted: wanted.offset, start, stop: stop(wanted, &hole), until: wanted.until })
    }

    /// The page of a partition that who stands at this offset comes to by reading on. Who has done so for long is
    /// `tired`, and leaves off where an older page is wanted elsewhere.
    pub(super) fn job_at(&self, cluster: usize, partition: TopicPartition, offset: i64, tired: bool) -> Option<Job> {
        let book = self.book();
        let requests = &book.clusters[cluster].requests;
        let wanted = requests.at(partition, offset)?;
        if tired && requests.oldest_of(partition) != Some(wanted) {
            return None;
        }
        let hole = book.cache.hole(partition, wanted.offset);
        let (stop, until) = (stop(wanted, &hole), wanted.until);
        let job = Job { wanted: wanted.offset, start: offset, stop, until };
        (hole.start <= offset).then_some(job)
    }

    /// Which topic there is now: the pages of another one are forgotten.
    pub(super) fn topic_is(&self, cluster: usize, topic: usize, epoch: Epoch) {
        let mut book = self.book();
        let former = book.epochs.insert(topic, epoch).unwrap_or_default();
        if former != epoch {
            book.cache.forget(topic);
        }
        if former != 0 && former != epoch {
            book.clusters[cluster].outdated.insert(topic);
        }
    }

    /// A log of the topic lost its tail: what was read of it may be no more.
    pub(super) fn is_cut(&self, cluster: usize, topic: usize) {
        let mut book = self.book();
        book.cache.forget(topic);
        book.clusters[cluster].outdated.insert(topic);
    }

    /// The topics of a cluster whose logs are others since this was asked last. Their pages are forgotten: who reads
    /// asks when it has given up what it was reading.
    pub(super) fn take_outdated(&self, cluster: usize) -> BTreeSet<usize> {
        let mut book = self.book();
        let outdated = std::mem::take(&mut book.clusters[cluster].outdated);
        outdated.iter().for_each(|topic| book.cache.forget(*topic));
        outdated
    }

    /// Whether there are such topics.
    pub(super) fn is_outdated(&self, cluster: usize) -> bool {
        !self.book().clusters[cluster].outdated.is_empty()
    }

    /// Which topic there is now; 0: not known.
    pub(super) fn epoch(&self, topic: usize) -> Epoch {
        self.book().epochs.get(&topic).copied().unwrap_or_default()
    }

    /// The page is there: those who wait for it. One of a topic that is no more is dropped, and still waited for.
    pub(super) fn publish(
        &self,
        cluster: usize,
        partition: TopicPartition,
        page: Page,
        is_truncated: bool,
        now: Instant,
    ) -> Vec<Asker> {
        let mut book = self.book();
        if page.epoch != book.epochs.get(&partition.topic).copied().unwrap_or_default() {
            return Vec::new();
        }
        let offsets = page.offsets.clone();
        book.cache.insert(partition, Arc::new(page), is_truncated.then(|| now + TRUNCATED_KEPT));
        book.clusters[cluster].requests.answer(partition, &offsets)
    }

    /// The oldest question but these.
    pub(super) fn time(&self, cluster: usize, but: impl Fn(Time) -> bool) -> Option<Time> {
        self.book().clusters[cluster].times.next(but)
    }

    /// The answer is there: those who wait for it.
    pub(super) fn publish_time(&self, cluster: usize, time: Time, offsets: Arc<[i64]>, now: Instant) -> Vec<Asker> {
        self.book().clusters[cluster].times.answer(time, offsets, now)
    }

    /// No broker answers.
    pub(super) fn down(&self, cluster: usize) {
        self.book().clusters[cluster].is_down = true;
    }

    /// Whether the partition's leader answers.
    pub(super) fn partition_is_down(&self, cluster: usize, partition: TopicPartition, is_down: bool) {
        let down = &mut self.book().clusters[cluster].down;
        let _ = if is_down { down.insert(partition) } else { down.remove(&partition) };
    }

    /// A broker answers: all who wait, where none did before.
    pub(super) fn up(&self, cluster: usize, now: Instant) -> Vec<Asker> {
        let cluster = &mut self.book().clusters[cluster];
        if !std::mem::take(&mut cluster.is_down) {
            return Vec::new();
        }
        [cluster.requests.everybody(now), cluster.times.everybody(now)].concat()
    }

    /// Those who wait for too long and should look again.
    pub(super) fn overdue(&self, cluster: usize, now: Instant) -> Vec<Asker> {
        let cluster = &mut self.book().clusters[cluster];
        [cluster.requests.overdue(now), cluster.times.overdue(now)].concat()
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self, cluster: usize) -> bool {
        let cluster = &self.book().clusters[cluster];
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
    // A place that is none: it holds its offset at least.
    wanted.until.min(hole.end).max(wanted.offset.saturating_add(1))
}

/// The offset, or one before it from which on so few bytes have to be read that a common start is worth them.
fn aligned(offset: i64, record_bytes: usize) -> i64 {
    let block = i64::try_from(BLOCK_BYTES_MAX / record_bytes.max(1)).unwrap_or(i64::MAX).min(BLOCK_OFFSETS);
    // The greatest power of two that is not above.
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

    fn desk() -> (Desk, Instant) {
        (Desk::new(1, 1 << 20), Instant::now())
    }

    fn ask(desk: &Desk, offset: i64, until: i64, now: Instant) -> Lookup<Arc<Page>> {
        desk.page(0, P0, Wanted { offset, until }, asker(0), now)
    }

    #[test]
    fn what_is_asked_for_is_found_once_it_is_there() {
        let (desk, now) = desk();
        assert!(matches!(ask(&desk, 200, 1000, now), Lookup::Asked));
        assert_eq!(desk.job(0, P0, SMALL), Some(Job { wanted: 200, start: 128, stop: 1000, until: 1000 }));
        assert_eq!(desk.publish(0, P0, page(128..640), false, now), [asker(0)]);
        assert!(matches!(ask(&desk, 200, 1000, now), Lookup::Found(found) if found.offsets == (128..640)));
        assert!(desk.is_empty(0));
    }

    #[test]
    fn a_page_fills_the_hole_between_others() {
        let (desk, now) = desk();
        desk.publish(0, P0, page(100..150), false, now);
        desk.publish(0, P0, page(300..400), false, now);
        assert!(matches!(ask(&desk, 200, 1000, now), Lookup::Asked));
        assert_eq!(desk.job(0, P0, SMALL), Some(Job { wanted: 200, start: 150, stop: 300, until: 1000 }));
        assert_eq!(desk.job_at(0, P0, 150, false), Some(Job { wanted: 200, start: 150, stop: 300, until: 1000 }));
        assert_eq!(desk.job_at(0, P0, 140, false), None, "who stands before the other page would read that again");
    }

    #[test]
    fn who_read_on_for_long_leaves_off_for_what_was_asked_for_before() {
        let (desk, now) = desk();
        assert!(matches!(ask(&desk, 9000, 9999, now), Lookup::Asked));
        assert!(matches!(ask(&desk, 512, 9999, now), Lookup::Asked));
        let on = Some(Job { wanted: 512, start: 512, stop: 9999, until: 9999 });
        assert_eq!([false, true].map(|tired| desk.job_at(0, P0, 512, tired)), [on, None]);
        desk.publish(0, P0, page(9000..9999), false, now);
        assert_eq!(desk.job_at(0, P0, 512, true).map(|job| job.wanted), Some(512), "nothing else is wanted");
    }

    #[test]
    fn pages_of_large_records_begin_where_they_are_wanted() {
        let starts = [1, 512, 1000, 20_000, 10_000_000].map(|bytes| aligned(1_023, bytes));
        assert_eq!(starts, [896, 896, 960, 1_022, 1_023]);
    }

    #[test]
    fn a_log_that_ended_too_early_is_looked_at_again() {
        let (desk, now) = desk();
        desk.publish(0, P0, page(10..20), true, now);
        assert!(matches!(ask(&desk, 15, 20, now), Lookup::Found(_)));
        assert!(matches!(ask(&desk, 15, 20, now + TRUNCATED_KEPT), Lookup::Asked));
    }

    #[test]
    fn all_who_wait_are_called_when_the_brokers_are_back() {
        let (desk, now) = desk();
        desk.down(0);
        assert!(matches!(ask(&desk, 15, 20, now), Lookup::Down));
        assert!(matches!(desk.offsets_at(0, (0, 5), asker(1), now), Lookup::Down));
        assert_eq!(desk.up(0, now), [asker(0), asker(1)]);
        assert!(desk.up(0, now).is_empty());
        assert!(matches!(ask(&desk, 15, 20, now), Lookup::Asked));
    }

    #[test]
    fn a_partition_that_does_not_answer_leaves_the_others_alone() {
        let (desk, now) = desk();
        let other = TopicPartition { partition: 1, ..P0 };
        desk.partition_is_down(0, P0, true);
        assert!(matches!(ask(&desk, 15, 20, now), Lookup::Down));
        assert!(matches!(desk.page(0, other, Wanted { offset: 0, until: 1 }, asker(0), now), Lookup::Asked));
        desk.partition_is_down(0, P0, false);
        assert!(matches!(ask(&desk, 15, 20, now), Lookup::Asked));
    }

    #[test]
    fn pages_of_a_topic_that_is_no_more_are_forgotten() {
        let (desk, now) = desk();
        desk.topic_is(0, 0, 0);
        desk.publish(0, P0, page(0..10), false, now);
        desk.topic_is(0, 0, 0);
        assert!(matches!(ask(&desk, 5, 20, now), Lookup::Found(_)));
        desk.topic_is(0, 0, 7);
        assert!(matches!(ask(&desk, 5, 20, now), Lookup::Asked));
        assert!(desk.publish(0, P0, page(0..10), false, now).is_empty(), "it was read before");
        assert!(matches!(ask(&desk, 5, 20, now), Lookup::Asked));
        assert_eq!(desk.publish(0, P0, Page { epoch: 7, ..page(0..10) }, false, now), [asker(0)]);
        assert!(matches!(ask(&desk, 5, 20, now), Lookup::Found(_)));
    }

    #[test]
    fn a_log_that_is_another_is_told_to_who_reads_once() {
        let (desk, now) = desk();
        desk.topic_is(0, 0, 7);
        assert!(!desk.is_outdated(0), "it was not known before");
        desk.topic_is(0, 0, 8);
        desk.publish(0, P0, Page { epoch: 8, ..page(0..10) }, false, now);
        desk.is_cut(0, 0);
        assert!(matches!(ask(&desk, 5, 20, now), Lookup::Asked));
        // What was read before who reads heard of it.
        desk.publish(0, P0, Page { epoch: 8, ..page(0..10) }, false, now);
        assert!(desk.is_outdated(0));
        assert_eq!(desk.take_outdated(0), BTreeSet::from([0]));
        assert!(matches!(ask(&desk, 5, 20, now), Lookup::Asked));
        assert!(!desk.is_outdated(0));
    }

    #[test]
    fn clusters_have_requests_of_their_own() {
        let (desk, now) = (Desk::new(2, 1 << 20), Instant::now());
        assert!(matches!(desk.page(1, P0, Wanted { offset: 5, until: 9 }, asker(0), now), Lookup::Asked));
        assert!(desk.oldest(0, 9, |_| false).is_empty() && desk.is_empty(0));
        assert_eq!(desk.oldest(1, 9, |_| false), [P0]);
    }
}
