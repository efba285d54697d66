//! A cache of chunks: bounded in bytes, with LRU eviction. Pure.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::requests::TopicPartition;
use crate::hub::Page;

/// The overhead of a chunk in bytes.
const PAGE_OVERHEAD_BYTES: usize = 256;

/// The limit under memory pressure, in bytes: enough for waiting sessions to consume what was read for them.
const SHORT_BYTES_MAX: usize = 4 << 20;

/// The partition and the first offset of a chunk.
type Key = (TopicPartition, i64);

#[derive(Debug)]
pub(super) struct Cache {
    /// The configured limit.
    bytes_max: usize,
    is_short: bool,
    /// The bytes of `pages`: at most the limit, except for a single chunk.
    bytes: usize,
    /// Chunks of one partition do not overlap.
    pages: BTreeMap<Key, Cached>,
    /// The keys, the least recently used first.
    by_use: BTreeMap<u64, Key>,
    /// A counter of uses.
    uses: u64,
}

#[derive(Debug)]
struct Cached {
    page: Arc<Page>,
    bytes: usize,
    used: u64,
    /// When it expires.
    until: Option<Instant>,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, is_short: false, bytes: 0, pages: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Under memory pressure, the limit is [`SHORT_BYTES_MAX`].
    pub(super) fn be_short(&mut self, is_short: bool) {
        self.is_short = is_short;
        self.make_room();
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The chunk that contains this offset.
    pub(super) fn get(&mut self, partition: TopicPartition, offset: i64, now: Instant) -> Option<Arc<Page>> {
        let (key, cached) = self.pages.range(..=(partition, offset)).next_back()?;
        let key = *key;
        if key.0 != partition || offset >= cached.page.offsets.end {
            return None;
        }
        if cached.until.is_some_and(|until| now >= until) {
            self.remove(key);
            return None;
        }
        self.touch(key)
    }

    fn touch(&mut self, key: Key) -> Option<Arc<Page>> {
        let cached = self.pages.get_mut(&key)?;
        self.by_use.remove(&cached.used);
        self.uses += 1;
        cached.used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(cached.page.clone())
    }

    /// Evicts the least recently used chunks until the limit is met. The last chunk stays, whatever its size.
    fn make_room(&mut self) {
        let most = if self.is_short { self.bytes_max.min(SHORT_BYTES_MAX) } else { self.bytes_max };
        while self.bytes > most && self.pages.len() > 1 {
            let Some((_, oldest)) = self.by_use.first_key_value() else { return };
            self.remove(*oldest);
        }
    }

    /// The uncached offsets around this one.
    pub(super) fn hole(&self, partition: TopicPartition, offset: i64) -> Range<i64> {
        let before = self.pages.range((partition, i64::MIN)..=(partition, offset)).next_back();
        let after = self.pages.range((partition, offset.saturating_add(1))..=(partition, i64::MAX)).next();
        let start = before.map_or(0, |(_, cached)| cached.page.offsets.end.min(offset));
        start..after.map_or(i64::MAX, |((_, start), _)| *start)
    }

    /// Caches a chunk until `until`, replacing chunks that overlap with it.
    pub(super) fn insert(&mut self, partition: TopicPartition, page: Arc<Page>, until: Option<Instant>) {
        let offsets = page.offsets.clone();
        let behind = self.pages.range((partition, i64::MIN)..(partition, offsets.end)).rev();
        let overlapping = behind.take_while(|(_, cached)| cached.page.offsets.end > offsets.start);
        let overlapping: Vec<Key> = overlapping.map(|(key, _)| *key).collect();
        overlapping.into_iter().for_each(|key| self.remove(key));
        let (key, bytes) = ((partition, offsets.start), bytes_of(&page));
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key);
        self.pages.insert(key, Cached { page, bytes, used: self.uses, until });
        self.make_room();
    }

    /// Drops all chunks of a topic.
    pub(super) fn forget(&mut self, topic: usize) {
        let of_topic = self.pages.keys().filter(|(partition, _)| partition.topic == topic);
        of_topic.copied().collect::<Vec<_>>().into_iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: Key) {
        if let Some(cached) = self.pages.remove(&key) {
            self.by_use.remove(&cached.used);
            self.bytes -= cached.bytes;
        }
    }
}

fn bytes_of(page: &Page) -> usize {
    PAGE_OVERHEAD_BYTES + page.bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const P0: TopicPartition = TopicPartition { topic: 0, partition: 0 };
    const P1: TopicPartition = TopicPartition { topic: 0, partition: 1 };
    const LARGE: usize = 1 << 30;

    fn page(offsets: Range<i64>) -> Arc<Page> {
        let (entries, first_ms, bytes) = (Box::default(), None, 1000);
        Arc::new(Page { topic: "a".into(), partition: 0, epoch: 0, offsets, entries, first_ms, bytes })
    }

    fn found(cache: &mut Cache, partition: TopicPartition, offset: i64) -> Option<Range<i64>> {
        cache.get(partition, offset, Instant::now()).map(|page| page.offsets.clone())
    }

    #[test]
    fn a_page_is_found_by_every_offset_in_it_and_in_its_partition_only() {
        let mut cache = Cache::new(LARGE);
        cache.insert(P0, page(10..20), None);
        cache.insert(P0, page(20..25), None);
        cache.insert(P1, page(0..5), None);
        let offsets = [9, 10, 19, 20, 24, 25].map(|offset| found(&mut cache, P0, offset).map(|offsets| offsets.start));
        assert_eq!(offsets, [None, Some(10), Some(10), Some(20), Some(20), None]);
        assert_eq!([4, 5, 10].map(|offset| found(&mut cache, P1, offset)), [Some(0..5), None, None]);
    }

    #[test]
    fn the_least_recently_used_is_evicted_first_and_the_last_one_stays() {
        let size = bytes_of(&page(0..1));
        let mut cache = Cache::new(3 * size);
        (0..3).for_each(|n| cache.insert(P0, page(n..n + 1), None));
        assert!(found(&mut cache, P0, 0).is_some());
        cache.insert(P0, page(3..4), None);
        assert_eq!([0, 1, 2, 3].map(|offset| found(&mut cache, P0, offset).is_some()), [true, false, true, true]);
        assert_eq!((cache.bytes, cache.by_use.len()), (3 * size, 3));
        let mut tiny = Cache::new(1);
        (0..3).for_each(|n| tiny.insert(P0, page(n..n + 1), None));
        assert_eq!((found(&mut tiny, P0, 2), tiny.bytes), (Some(2..3), size));
    }

    #[test]
    fn it_shrinks_under_memory_pressure() {
        let (size, mut cache) = (bytes_of(&page(0..1)), Cache::new(LARGE));
        let most = (SHORT_BYTES_MAX / size) as i64;
        (0..most + 9).for_each(|n| cache.insert(P0, page(n..n + 1), None));
        cache.be_short(true);
        assert_eq!((cache.pages.len() as i64, cache.bytes()), (most, most as usize * size));
        cache.be_short(false);
        (0..9).for_each(|n| cache.insert(P0, page(n..n + 1), None));
        assert_eq!(cache.pages.len() as i64, most + 9);
    }

    #[test]
    fn a_hole_reaches_from_page_to_page() {
        let mut cache = Cache::new(LARGE);
        assert_eq!(cache.hole(P0, 7), 0..i64::MAX);
        cache.insert(P0, page(10..20), None);
        cache.insert(P0, page(30..40), None);
        cache.insert(P1, page(0..100), None);
        let holes = [5, 20, 25, 29, 40].map(|offset| cache.hole(P0, offset));
        assert_eq!(holes, [0..10, 20..30, 20..30, 20..30, 40..i64::MAX]);
        assert_eq!(cache.hole(P1, 100), 100..i64::MAX);
    }

    #[test]
    fn a_page_that_may_change_expires() {
        let mut cache = Cache::new(LARGE);
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        cache.insert(P0, page(0..10), Some(now + second));
        assert!(cache.get(P0, 5, now).is_some());
        assert!(cache.get(P0, 5, now + second).is_none());
        assert_eq!((cache.bytes, cache.pages.len(), cache.by_use.len()), (0, 0, 0));
    }

    #[test]
    fn a_topic_can_be_forgotten() {
        let mut cache = Cache::new(LARGE);
        let other = TopicPartition { topic: 1, partition: 0 };
        [P0, P1, other].into_iter().for_each(|partition| cache.insert(partition, page(0..10), None));
        cache.forget(0);
        assert_eq!([P0, P1, other].map(|partition| found(&mut cache, partition, 5)), [None, None, Some(0..10)]);
        assert_eq!((cache.pages.len(), cache.by_use.len()), (1, 1));
    }

    #[test]
    fn overlapping_pages_are_replaced() {
        let mut cache = Cache::new(LARGE);
        [0..10, 10..20, 20..30].into_iter().for_each(|offsets| cache.insert(P0, page(offsets), None));
        cache.insert(P0, page(15..25), None);
        let kept: Vec<_> = cache.pages.keys().map(|(_, start)| *start).collect();
        assert_eq!((kept, cache.by_use.len()), (vec![0, 15], 2));
    }
}
