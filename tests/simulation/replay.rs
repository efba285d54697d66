//! The log behind the windows of a replica: chunks of the simulated cluster, available some time after the request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;

use super::cluster::{Cluster, PartitionLog, TopicLog};
use crate::config::snapshot::TopicConfig;
use crate::decode::Decoder;
use crate::event::{Entry, GapCause, GapRange, Topic, UNKNOWN_POSITION};
use crate::hub::{Asker, Log, Lookup, NO_OFFSET, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
use crate::session::Now;

/// How long a request takes, in milliseconds.
const ANSWER_MS: std::ops::Range<u64> = 0..400;
/// The records of a chunk.
const CHUNK_RECORDS: usize = 7;

/// The clusters of a run are shared by all replicas.
pub(super) type Shared = Arc<Mutex<Cluster>>;

pub(super) struct Replay {
    cluster: Shared,
    decoders: Mutex<BTreeMap<Topic, Decoder>>,
    limits: ReplayLimits,
    requests: Mutex<Requests>,
}

struct Requests {
    now: Now,
    rng: Rng,
    /// The requests whose data is available from a time on.
    made: BTreeMap<String, Now>,
    /// The sessions to call, each with the request that it waits for.
    waiting: BTreeSet<(u32, u32, String)>,
}

impl Replay {
    pub(super) fn new(cluster: &Shared, topics: &[TopicConfig], limits: ReplayLimits, rng: Rng, now: Now) -> Self {
        let decoders = topics.iter().map(|topic| (topic.name.clone(), Decoder::new(topic.name.clone(), &topic.shape)));
        let requests = Requests { now, rng, made: BTreeMap::new(), waiting: BTreeSet::new() };
        Self {
            cluster: cluster.clone(),
            decoders: Mutex::new(decoders.collect()),
            limits,
            requests: Mutex::new(requests),
        }
    }

    /// Sets the time, and returns the sessions whose data has become available: by writer.
    pub(super) fn advance(&self, now: Now) -> Vec<(u32, u32)> {
        let mut requests = self.requests();
        requests.now = now;
        let Requests { made, waiting, .. } = &mut *requests;
        let is_due = |request: &String| made.get(request).is_none_or(|at| at.instant <= now.instant);
        let due: Vec<_> = waiting.extract_if(.., |(_, _, request)| is_due(request)).collect();
        due.into_iter().map(|(writer, session, _)| (writer, session)).collect()
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap()
    }

    /// Whether the data of a request is available; otherwise, it is requested.
    fn is_available(&self, request: String, asker: Asker) -> bool {
        let mut requests = self.requests();
        let now = requests.now;
        if requests.made.get(&request).is_some_and(|at| at.instant <= now.instant) {
            // Half of the chunks stay in the cache.
            if requests.rng.bool() {
                requests.made.remove(&request);
            }
            return true;
        }
        let wait = Duration::from_millis(requests.rng.u64(ANSWER_MS));
        requests.made.entry(request.clone()).or_insert(Now { instant: now.instant + wait, ..now });
        requests.waiting.insert((asker.writer, asker.session, request));
        false
    }

    fn entry(&self, topic: &Topic, partition: i32, offset: i64, stored: &super::cluster::Stored) -> Entry {
        let now = self.requests().now;
        let record = stored.record(partition, offset, now);
        match self.decoders.lock().unwrap().get_mut(topic).unwrap().decode(&record) {
            Ok(event) => Entry::Event(Arc::new(event)),
            Err(_) => gap(topic, partition, GapCause::Undecodable, offset, offset + 1),
        }
    }

    fn chunk(&self, place: &Place, epoch: u32, log: &PartitionLog) -> Page {
        let Place { topic, partition, offset, until, .. } = place.clone();
        let (mut entries, mut end) = (Vec::new(), until.min(log.stable.max(offset + 1)));
        if offset >= log.stable {
            entries.push(gap(&topic, partition, GapCause::Truncated, log.stable, until));
            end = until;
        } else if offset < log.low {
            let low = log.low.min(until);
            entries.push(gap(&topic, partition, GapCause::Retention, offset, low));
            end = end.max(low);
        }
        let mut first_ms = None;
        for (n, (offset, stored)) in log.records.range(offset..until.max(offset)).enumerate() {
            if *offset >= log.stable {
                break;
            }
            if n == CHUNK_RECORDS {
                end = *offset;
                break;
            }
            first_ms.get_or_insert(stored.unix_ms);
            entries.push(self.entry(&topic, partition, *offset, stored));
        }
        Page { topic, partition, epoch, offsets: offset..end, entries: entries.into(), first_ms, bytes: 1 }
    }
}

fn gap(topic: &Topic, partition: i32, cause: GapCause, from: i64, end: i64) -> Entry {
    Entry::Gap { cause, range: GapRange { topic: topic.clone(), partition, from, to: end - 1 } }
}

impl Log for Replay {
    fn page(&self, place: &Place, asker: Asker) -> Lookup<Arc<Page>> {
        let cluster = self.cluster.lock().unwrap();
        let Some(topic) = cluster.topic(&place.topic) else { return Lookup::Busy };
        let Some(log) = topic.partitions.get(place.partition as usize) else { return Lookup::Busy };
        if log.is_silent {
            return Lookup::Down;
        }
        let request =
            format!("{}:{}:{} {} {}", place.topic, place.partition, place.offset, topic.epoch, log.generation);
        if !self.is_available(request, asker) {
            return Lookup::Asked;
        }
        Lookup::Found(Arc::new(self.chunk(place, topic.epoch, log)))
    }

    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<OffsetsAt> {
        if !self.is_available(format!("{topic} at {ms}"), asker) {
            return Lookup::Asked;
        }
        let cluster = self.cluster.lock().unwrap();
        let offset = |log: &PartitionLog| match log.is_silent {
            true => UNKNOWN_POSITION,
            false => log.offset_at(ms).unwrap_or(NO_OFFSET),
        };
        let found = cluster
            .topic(topic)
            .map(|topic| OffsetsAt { epoch: topic.epoch, offsets: topic.partitions.iter().map(offset).collect() });
        Lookup::Found(found.unwrap_or_else(|| OffsetsAt::new([])))
    }

    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription> {
        if !self.is_available(format!("{topic} since {since_ms}"), asker) {
            return Lookup::Asked;
        }
        let cluster = self.cluster.lock().unwrap();
        let found = cluster.topic(topic);
        let described = |topic: &TopicLog| TopicDescription { epoch: topic.epoch, partitions: topic.partitions.len() };
        Lookup::Found(found.map_or(TopicDescription { epoch: 0, partitions: 0 }, described))
    }

    fn limits(&self) -> ReplayLimits {
        self.limits
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("limits", &self.limits).finish_non_exhaustive()
    }
}
