//! A simulated cluster: topics with partitions, as brokers and producers change them. It also knows the truth about
//! every record that was ever committed.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::history::{GENERATION, Op, Place, Text};
use crate::decode::Record;
use crate::event::{Epoch, Topic};
use crate::session::Now;

/// The tenants and users that records are for.
pub(crate) const TENANTS: [&str; 2] = ["a", "b"];
pub(crate) const USERS: [&str; 3] = ["u0", "u1", "u2"];
/// The most partitions of a topic.
const PARTITIONS_MAX: usize = 4;
/// The age at which records may be deleted: some are before a replica knows their partition.
const RETENTION_MS: i64 = 200;
/// The padding of a record, in bytes.
const PADDING_BYTES: std::ops::Range<usize> = 0..200;
/// The records of one transaction.
const TRANSACTION_RECORDS: std::ops::Range<usize> = 1..5;

pub(crate) struct Cluster {
    pub(crate) topics: Vec<TopicLog>,
    /// Every committed record by its uid.
    written: BTreeMap<Text, Written>,
    /// What producers did, in order, as the history shows it.
    pub(super) news: Vec<Op>,
    records: u64,
}

/// A committed record.
struct Written {
    place: Place,
    acl: Text,
    /// The log lost it without deleting it by retention: no client has to receive it.
    is_lost: bool,
}

pub(crate) struct TopicLog {
    pub(crate) name: Topic,
    pub(crate) epoch: Epoch,
    /// Empty while the topic does not exist.
    pub(crate) partitions: Vec<PartitionLog>,
}

#[derive(Clone, Default)]
pub(crate) struct PartitionLog {
    /// The first offset.
    pub(crate) low: i64,
    /// The offset after the last one.
    high: i64,
    /// The records of open transactions begin here; consumers read up to here.
    pub(crate) stable: i64,
    pub(crate) records: BTreeMap<i64, Stored>,
    /// Whether the leader does not respond.
    pub(crate) is_silent: bool,
    /// The number of logs that this one has replaced, in part or as a whole.
    pub(crate) generation: i64,
    /// The highest end that the log had before it was truncated. Who has read up to there may miss records before it:
    /// only the epochs of leaders distinguish them, which consumers of positions do not know.
    replaced_until: i64,
    /// Producers do not write before this time: brokers and readers first notice that the log was truncated.
    pub(crate) quiet_until_ms: i64,
}

#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) uid: Text,
    acl: Text,
    pub(crate) value: Vec<u8>,
    pub(crate) unix_ms: i64,
}

impl Stored {
    /// The record at this place, received now.
    pub(crate) fn record(&self, partition: i32, offset: i64, now: Now) -> Record<'_> {
        Record {
            partition,
            offset,
            timestamp: Some(self.unix_ms),
            key: None,
            headers: &[],
            value: Some(&self.value),
            received: now.instant,
            received_ms: now.unix_ms,
            trace: None,
        }
    }
}

impl Cluster {
    /// With topics of these names, of which the last one may not exist yet.
    pub(super) fn new(names: &[&str], rng: &mut Rng) -> Self {
        let topic = |name: &&str| TopicLog {
            name: (*name).into(),
            epoch: 1,
            partitions: vec![PartitionLog::default(); rng.usize(1..PARTITIONS_MAX)],
        };
        let mut topics: Vec<TopicLog> = names.iter().map(topic).collect();
        if rng.u8(..4) == 0
            && let Some(late) = topics.last_mut()
        {
            late.partitions.clear();
        }
        Self { topics, written: BTreeMap::new(), news: Vec::new(), records: 0 }
    }

    pub(crate) fn topic(&self, name: &Topic) -> Option<&TopicLog> {
        self.topics.iter().find(|topic| topic.name == *name)
    }

    pub(crate) fn partition(&self, name: &Topic, partition: i32) -> Option<&PartitionLog> {
        self.topic(name)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Appends one record for some user, or one that cannot be decoded.
    pub(super) fn produce(&mut self, unix_ms: i64, rng: &mut Rng) {
        let Some((topic, partition)) = self.some_partition(unix_ms, rng) else { return };
        if rng.u8(..) < 3 {
            let stored = Stored { uid: "".into(), acl: "".into(), value: vec![0xff], unix_ms };
            self.topics[topic].partitions[partition].append(stored);
            return self.commit(topic, partition);
        }
        let (tenant, user) = (TENANTS[rng.usize(..TENANTS.len())], USERS[rng.usize(..USERS.len())]);
        self.append(topic, partition, (tenant, user), None, unix_ms, rng);
        self.commit(topic, partition);
    }

    /// Appends the records of a transaction and its control record, or the control record of an aborted one.
    pub(super) fn transact(&mut self, unix_ms: i64, rng: &mut Rng) {
        let Some((topic, partition)) = self.some_partition(unix_ms, rng) else { return };
        for _ in 0..rng.usize(TRANSACTION_RECORDS) {
            let (tenant, user) = (TENANTS[rng.usize(..TENANTS.len())], USERS[rng.usize(..USERS.len())]);
            self.append(topic, partition, (tenant, user), None, unix_ms, rng);
        }
        if rng.bool() {
            self.abort(topic, partition);
        }
        self.topics[topic].partitions[partition].high += 1;
        self.commit(topic, partition);
    }

    /// Appends a record that stays open, so that consumers stand before it; the next commit or abort ends it.
    pub(super) fn hold(&mut self, unix_ms: i64, rng: &mut Rng) {
        let Some((topic, partition)) = self.some_partition(unix_ms, rng) else { return };
        self.append(topic, partition, (TENANTS[0], USERS[0]), None, unix_ms, rng);
    }

    /// Deletes some of the records of a partition that are old enough.
    pub(super) fn retain(&mut self, unix_ms: i64, rng: &mut Rng) {
        let Some((topic, partition)) = self.some_partition(i64::MAX, rng) else { return };
        let log = &mut self.topics[topic].partitions[partition];
        let old = log.offset_at(unix_ms - RETENTION_MS).unwrap_or(log.stable);
        log.low = rng.i64(log.low..=old);
        log.records = log.records.split_off(&log.low);
    }

    /// Deletes a record, as compaction does.
    pub(super) fn compact(&mut self, rng: &mut Rng) {
        let Some((topic, partition)) = self.some_partition(i64::MAX, rng) else { return };
        let log = &mut self.topics[topic].partitions[partition];
        let offsets: Vec<i64> = log.records.range(..log.stable).map(|(offset, _)| *offset).collect();
        let Some(offset) = rng.choice(offsets) else { return };
        let stored = log.records.remove(&offset);
        self.lose(stored);
    }

    /// Loses the end of a log, as an unclean leader election does.
    /// Producers write to it again after `quiet_until_ms`.
    pub(super) fn truncate(&mut self, topic: usize, quiet_until_ms: i64, rng: &mut Rng) {
        let Some(partition) = rng.choice(0..self.topics[topic].partitions.len()) else { return };
        let log = &mut self.topics[topic].partitions[partition];
        let end = rng.i64(log.low..=log.high);
        let lost = log.records.split_off(&end);
        log.replaced_until = log.replaced_until.max(log.high);
        (log.high, log.stable) = (end, log.stable.min(end));
        log.quiet_until_ms = quiet_until_ms;
        self.replace(topic, partition);
        lost.into_values().for_each(|stored| self.lose(Some(stored)));
    }

    /// Deletes the topic, and creates it again.
    pub(super) fn recreate(&mut self, topic: usize, rng: &mut Rng) {
        let log = &mut self.topics[topic];
        if log.partitions.is_empty() {
            return;
        }
        log.epoch += 1;
        let old = std::mem::take(&mut log.partitions);
        log.partitions = vec![PartitionLog::default(); rng.usize(1..PARTITIONS_MAX).max(old.len())];
        for (partition, old) in old.into_iter().enumerate() {
            self.topics[topic].partitions[partition].generation = old.generation;
            self.replace(topic, partition);
        }
        let name = Text::from(&*self.topics[topic].name);
        let written = self.written.values_mut().filter(|written| written.place.topic == name);
        written.for_each(|written| written.is_lost = true);
    }

    /// Adds a partition, or creates a topic that does not exist yet with one.
    pub(super) fn add_partition(&mut self, rng: &mut Rng) {
        let topic = rng.usize(..self.topics.len());
        if self.topics[topic].partitions.len() < PARTITIONS_MAX {
            self.topics[topic].partitions.push(PartitionLog::default());
        }
    }

    /// The leader of a partition stops responding, or responds again; then producers write after `quiet_until_ms`.
    pub(super) fn toggle_leader(&mut self, quiet_until_ms: i64, rng: &mut Rng) {
        let topic = rng.usize(..self.topics.len());
        if let Some(partition) = rng.choice(&mut self.topics[topic].partitions) {
            partition.is_silent = !partition.is_silent;
            partition.quiet_until_ms = quiet_until_ms;
        }
    }

    /// All topics exist, and all leaders respond.
    pub(super) fn heal(&mut self) {
        for topic in self.topics.iter_mut().filter(|topic| topic.partitions.is_empty()) {
            topic.partitions.push(PartitionLog::default());
        }
        let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.for_each(|partition| partition.is_silent = false);
    }

    /// Ends all transactions, and appends the last record of every partition for every user. Returns their uids.
    pub(super) fn fence(&mut self, unix_ms: i64, rng: &mut Rng) {
        for topic in 0..self.topics.len() {
            for partition in 0..self.topics[topic].partitions.len() {
                self.commit(topic, partition);
                // Every client has to receive its fences: they follow the offsets that a truncation replaced.
                let log = &mut self.topics[topic].partitions[partition];
                log.high = log.high.max(log.replaced_until);
                for (tenant, user) in TENANTS.iter().flat_map(|tenant| USERS.map(|user| (*tenant, user))) {
                    self.append(topic, partition, (tenant, user), Some(super::history::FENCE), unix_ms, rng);
                }
                self.commit(topic, partition);
            }
        }
    }

    /// The truth, for the end of the history.
    pub(super) fn truth(&self) -> Vec<Op> {
        let record = |(uid, written): (&Text, &Written)| {
            let Written { place, acl, .. } = written;
            Op::Log { place: place.clone(), uid: uid.clone(), acl: acl.clone() }
        };
        let lost = self.written.values().filter(|written| written.is_lost);
        self.written.iter().map(record).chain(lost.map(|written| Op::Lost { place: written.place.clone() })).collect()
    }

    /// The place of a record in the history: in each generation of a log, offsets begin again.
    pub(super) fn place_of(&self, uid: &Text) -> Option<&Place> {
        self.written.get(uid).map(|written| &written.place)
    }

    /// A partition whose leader responds and which producers write to.
    fn some_partition(&self, unix_ms: i64, rng: &mut Rng) -> Option<(usize, usize)> {
        let topic = rng.usize(..self.topics.len());
        let partition = rng.choice(0..self.topics[topic].partitions.len())?;
        let log = &self.topics[topic].partitions[partition];
        (!log.is_silent && log.quiet_until_ms <= unix_ms).then_some((topic, partition))
    }

    fn append(
        &mut self,
        topic: usize,
        partition: usize,
        (tenant, user): (&str, &str),
        prefix: Option<&str>,
        unix_ms: i64,
        rng: &mut Rng,
    ) {
        self.records += 1;
        let uid: Text = format!("{}{}", prefix.unwrap_or("r"), self.records).into();
        let acl: Text = format!("{tenant}/{user}").into();
        let padding = "x".repeat(rng.usize(PADDING_BYTES));
        let value = format!(
            r#"{{"type":"t","tenant":"{tenant}","user":"{user}","data":{{"uid":"{uid}","padding":"{padding}"}}}}"#
        );
        let stored = Stored { uid, acl, value: value.into_bytes(), unix_ms };
        self.topics[topic].partitions[partition].append(stored);
    }

    /// Ends the open transaction of a partition: its records are visible.
    fn commit(&mut self, topic: usize, partition: usize) {
        let TopicLog { name, partitions, .. } = &mut self.topics[topic];
        let log = &mut partitions[partition];
        for (offset, stored) in log.records.range(log.stable..).filter(|(_, stored)| !stored.uid.is_empty()) {
            let off = log.generation * GENERATION + offset;
            let place = Place { topic: Text::from(&**name), part: partition as i32, off };
            let is_lost = *offset < log.replaced_until;
            let written = Written { place, acl: stored.acl.clone(), is_lost };
            self.written.insert(stored.uid.clone(), written);
        }
        log.stable = log.high;
    }

    /// Ends the open transaction of a partition: consumers skip its records.
    fn abort(&mut self, topic: usize, partition: usize) {
        let log = &mut self.topics[topic].partitions[partition];
        let aborted = log.records.split_off(&log.stable);
        self.news.extend(aborted.into_values().map(|stored| Op::Aborted { uid: stored.uid }));
    }

    fn lose(&mut self, stored: Option<Stored>) {
        if let Some(written) = stored.and_then(|stored| self.written.get_mut(&stored.uid)) {
            written.is_lost = true;
        }
    }

    /// Later records of a partition have offsets that others had before.
    fn replace(&mut self, topic: usize, partition: usize) {
        let TopicLog { name, partitions, .. } = &mut self.topics[topic];
        partitions[partition].generation += 1;
        self.news.push(Op::Replaced { topic: Text::from(&**name), part: partition as i32 });
    }
}

impl PartitionLog {
    fn append(&mut self, stored: Stored) {
        self.records.insert(self.high, stored);
        self.high += 1;
    }

    /// The first offset at or after a time.
    pub(crate) fn offset_at(&self, unix_ms: i64) -> Option<i64> {
        let mut records = self.records.range(..self.stable);
        records.find(|(_, stored)| stored.unix_ms >= unix_ms).map(|(offset, _)| *offset)
    }
}
