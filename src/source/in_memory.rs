//! A source without a cluster: topics in the memory of this process, to which the process itself appends.
//!
//! It is for tests, and for programs that embed sidestream. It keeps the newest records only ([`RECORDS_MAX`]), and
//! nothing beyond the life of the process.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Call, Connector, History, Sink, Source, Status};
use crate::config::snapshot::{ReplayLog, TopicConfig};
use crate::decode::{Decoder, Record};
use crate::event::{Assigned, Entry, Epoch, Feed, GapCause, GapRange, Topic};
use crate::hub::{Asker, Log, Lookup, NO_OFFSET, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
use crate::ingest::Chunks;
use crate::metrics::Metrics;
use crate::traces::Tracer;

/// The most records of a partition; older ones are deleted.
pub const RECORDS_MAX: usize = 10_000;
/// The most records of a chunk.
const CHUNK_RECORDS_MAX: usize = 500;
/// The pause between two checks whether the sink has returned.
const JOIN_PAUSE: Duration = Duration::from_millis(5);
/// Topics are not recreated.
const EPOCH: Epoch = 1;

/// The topics, shared by all clones.
#[derive(Clone)]
pub struct InMemory {
    topics: Vec<TopicConfig>,
    log: Arc<Mutex<Topics>>,
    output: Arc<Output>,
}

/// Passes on what is appended. Locked before the log, and while the sink blocks: a writer needs the log to go on.
#[derive(Default)]
struct Output {
    /// Present while the source runs.
    sink: Mutex<Option<Sink>>,
    is_running: AtomicBool,
}

struct Topics {
    by_name: BTreeMap<Topic, TopicState>,
    /// The number of records appended to all topics so far.
    appended: u64,
}

struct TopicState {
    decoder: Decoder,
    partitions: Vec<Partition>,
}

/// The records `low..high` as entries: at most [`RECORDS_MAX`].
#[derive(Default)]
struct Partition {
    low: i64,
    records: VecDeque<Stored>,
}

struct Stored {
    /// Orders the records of all topics.
    number: u64,
    unix_ms: i64,
    entry: Entry,
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such partition")]
pub struct NoSuchPartition;

impl InMemory {
    /// These topics, each with this many partitions.
    pub fn new(topics: Vec<TopicConfig>, partitions: usize) -> Self {
        let state = |topic: &TopicConfig| TopicState {
            decoder: Decoder::new(topic.name.clone(), &topic.shape),
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
        };
        let by_name = topics.iter().map(|topic| (topic.name.clone(), state(topic))).collect();
        let log = Arc::new(Mutex::new(Topics { by_name, appended: 0 }));
        Self { topics, log, output: Arc::default() }
    }

    /// Appends a record with a time in milliseconds since the Unix epoch, and returns its offset. Blocks while the
    /// writers are far behind.
    ///
    /// # Errors
    ///
    /// The partition does not exist.
    pub fn append(&self, topic: &str, partition: i32, unix_ms: i64, value: &[u8]) -> Result<i64, NoSuchPartition> {
        // Until the record is passed on, so that all writers receive the entries in the order of the log.
        let sink = lock(&self.output.sink);
        let entry = lock(&self.log).append(topic, partition, unix_ms, value)?;
        let offset = entry.first_offset();
        if let Some(sink) = sink.as_ref().filter(|_| self.output.is_running.load(Ordering::Relaxed)) {
            sink(Feed::Batch([entry].into()));
        }
        Ok(offset)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Topics {
    fn append(&mut self, topic: &str, partition: i32, unix_ms: i64, value: &[u8]) -> Result<Entry, NoSuchPartition> {
        let TopicState { decoder, partitions } = self.by_name.get_mut(topic).ok_or(NoSuchPartition)?;
        let index = usize::try_from(partition).map_err(|_| NoSuchPartition)?;
        let log = partitions.get_mut(index).ok_or(NoSuchPartition)?;
        let offset = log.high();
        let record = Record {
            partition,
            offset,
            timestamp: Some(unix_ms),
            key: None,
            headers: &[],
            value: Some(value),
            received: Instant::now(),
            received_ms: unix_ms,
            trace: None,
        };
        let entry = match decoder.decode(&record) {
            Ok(event) => Entry::Event(Arc::new(event)),
            Err(reason) => reason.entry(topic.into(), partition, offset),
        };
        log.push(Stored { number: self.appended, unix_ms, entry: copy(&entry) });
        self.appended += 1;
        Ok(entry)
    }

    /// The newest records of every topic, as a source passes them on when it starts.
    fn window(&self, topics: &[TopicConfig]) -> Vec<Feed> {
        let (mut feeds, mut window) = (Vec::new(), Vec::new());
        for config in topics {
            let partitions = self.partitions(&config.name);
            let older = |log: &Partition| log.records.len().saturating_sub(config.replay_events);
            let next: Vec<i64> = partitions.iter().map(|log| log.low + older(log) as i64).collect();
            feeds.push(Feed::Assigned(Assigned::new(config.name.clone(), EPOCH, next)));
            window.extend(partitions.iter().flat_map(|log| log.records.range(older(log)..)));
        }
        window.sort_by_key(|stored| stored.number);
        feeds.push(Feed::Batch(window.iter().map(|stored| copy(&stored.entry)).collect()));
        feeds.push(Feed::Live { topics: topics.iter().map(|topic| topic.name.clone()).collect() });
        feeds
    }

    fn partitions(&self, topic: &Topic) -> &[Partition] {
        self.by_name.get(topic).map_or(&[], |topic| &topic.partitions)
    }
}

impl Partition {
    fn high(&self) -> i64 {
        self.low + self.records.len() as i64
    }

    fn push(&mut self, stored: Stored) {
        self.records.push_back(stored);
        if self.records.len() > RECORDS_MAX {
            self.records.pop_front();
            self.low += 1;
        }
    }

    /// A chunk that contains the place's offset.
    fn chunk(&self, place: &Place) -> Page {
        let Place { topic, partition, offset, until, .. } = place.clone();
        let first = offset.clamp(self.low, self.high());
        let end = (first + CHUNK_RECORDS_MAX as i64).min(self.high()).min(until);
        let range = (first - self.low) as usize..(end.max(first) - self.low) as usize;
        let records: Vec<&Stored> = self.records.range(range).collect();
        let lost = match offset {
            _ if offset < self.low => {
                Some(gap(&topic, partition, GapCause::Retention, offset, self.low.min(until).max(offset + 1)))
            }
            _ if offset >= self.high() => Some(gap(&topic, partition, GapCause::Truncated, self.high(), until)),
            _ => None,
        };
        let is_truncated = offset >= self.high();
        let entries: Box<[Entry]> = lost.into_iter().chain(records.iter().map(|stored| copy(&stored.entry))).collect();
        Page {
            bytes: entries.iter().map(Entry::weight).sum(),
            topic,
            partition,
            epoch: EPOCH,
            offsets: offset..if is_truncated { until } else { end.max(offset + 1) },
            first_ms: records.first().map(|stored| stored.unix_ms),
            entries,
        }
    }

    /// The first offset at or after a time.
    fn offset_at(&self, unix_ms: i64) -> i64 {
        let index = self.records.iter().position(|stored| stored.unix_ms >= unix_ms);
        index.map_or(NO_OFFSET, |index| self.low + index as i64)
    }
}

/// Encodings are shared by the sessions that are at the same position: an event of a chunk has its own.
fn copy(entry: &Entry) -> Entry {
    match entry {
        Entry::Event(event) => Entry::Event(Arc::new(event.with_next(event.next))),
        other => other.clone(),
    }
}

fn gap(topic: &str, partition: i32, cause: GapCause, from: i64, end: i64) -> Entry {
    Entry::Gap { cause, range: GapRange { topic: topic.into(), partition, from, to: end - 1 } }
}

impl Connector for InMemory {
    fn topics(&self) -> Vec<&TopicConfig> {
        self.topics.iter().collect()
    }

    fn read(&self, sink: &Sink, _: &Arc<Metrics>, _: Option<&Tracer>) -> io::Result<Vec<Box<dyn Source>>> {
        let mut output = lock(&self.output.sink);
        let window = lock(&self.log).window(&self.topics);
        window.into_iter().for_each(&**sink);
        *output = Some(sink.clone());
        self.output.is_running.store(true, Ordering::Relaxed);
        Ok(vec![Box::new(self.clone())])
    }

    fn history(&self, replay: &ReplayLog, _: &Arc<Metrics>, _: &Call) -> io::Result<Arc<dyn History>> {
        Ok(Arc::new(InMemoryLog { topics: self.clone(), limits: replay.limits }))
    }
}

impl Source for InMemory {
    fn status(&self) -> Status {
        let is_running = self.output.is_running.load(Ordering::Relaxed);
        Status { warm: is_running, connected: is_running }
    }

    fn request_stop(&self) {
        self.output.is_running.store(false, Ordering::Relaxed);
    }

    /// There is no thread, but a sink that may block for a moment.
    fn join(&self, deadline: Instant) {
        loop {
            match self.output.sink.try_lock() {
                Ok(mut sink) => return *sink = None,
                Err(TryLockError::Poisoned(sink)) => return *sink.into_inner() = None,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(JOIN_PAUSE),
                Err(TryLockError::WouldBlock) => return,
            }
        }
    }
}

/// The log of all topics: every chunk is available at once.
struct InMemoryLog {
    topics: InMemory,
    limits: ReplayLimits,
}

impl std::fmt::Debug for InMemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InMemoryLog").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Log for InMemoryLog {
    fn page(&self, place: &Place, _: Asker) -> Lookup<Arc<Page>> {
        let log = lock(&self.topics.log);
        let log = usize::try_from(place.partition).ok().and_then(|n| log.partitions(&place.topic).get(n));
        log.map_or(Lookup::Busy, |log| Lookup::Found(Arc::new(log.chunk(place))))
    }

    fn offsets_at(&self, topic: &Topic, ms: i64, _: Asker) -> Lookup<OffsetsAt> {
        let log = lock(&self.topics.log);
        Lookup::Found(OffsetsAt::new(log.partitions(topic).iter().map(|log| log.offset_at(ms)).collect::<Vec<_>>()))
    }

    fn description(&self, topic: &Topic, _: i64, _: Asker) -> Lookup<TopicDescription> {
        Lookup::Found(TopicDescription { epoch: 0, partitions: lock(&self.topics.log).partitions(topic).len() })
    }

    fn limits(&self) -> ReplayLimits {
        self.limits
    }
}

/// Chunks are not cached, and logs do not change under them.
impl Chunks for InMemoryLog {
    fn assigned(&self, _: &Topic, _: Epoch) {}

    fn truncated(&self, _: &Topic) {}

    fn reshaped(&self, _: &Topic) {}
}

impl History for InMemoryLog {
    fn has(&self, topic: &Topic) -> bool {
        lock(&self.topics.log).by_name.contains_key(topic)
    }

    fn be_short(&self, _: bool) {}

    fn cached_bytes(&self) -> usize {
        0
    }

    fn stop(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_blocks_does_not_delay_the_end_beyond_its_deadline() {
        let source = InMemory::new(Vec::new(), 1);
        let sink = lock(&source.output.sink);
        source.join(Instant::now());
        drop(sink);
    }
}
