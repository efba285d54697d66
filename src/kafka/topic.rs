//! The state of one topic while it is read: the positions of its partitions, and whether its records warm the window or
//! are passed on at once.
//!
//! There is no client here: records in, entries out. [`change`] evaluates the cluster's description of the topic.

mod change;
mod entries;
mod held;
mod missing_keys;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use prometheus::{IntCounter, IntGauge};

pub(super) use self::change::{Assign, Described, LogEnds, Seen};
use self::missing_keys::MissingKeys;
use super::short_answers::ShortAnswers;
use super::warm::Warm;
use crate::config::snapshot::TopicConfig;
use crate::decode::{Decoder, OwnedRecord, Record, Undecodable};
use crate::event::{Assigned, CLOCK_SKEW_MS, Entry, Epoch, Feed, GapCause, GapRange, Topic, UNKNOWN_POSITION};
use crate::metrics::Metrics;

/// The most remembered predecessors of a topic.
const FORMER_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct TopicReader {
    config: TopicConfig,
    phase: Phase,
    /// 0 if unknown.
    epoch: Epoch,
    /// The epochs of its deleted predecessors, the newest first: a broker that lags behind may still report them. At most
    /// [`FORMER_MAX`].
    former: VecDeque<Epoch>,
    /// Whether the topic did not exist at the first survey: all of its records are new.
    is_new: bool,
    /// The time when the topic went live, in milliseconds since the Unix epoch.
    live_ms: Option<i64>,
    /// Whether the brokers know the offsets of times.
    finds_times: bool,
    partitions: Vec<Partition>,
    /// The partitions of which the batch under way has entries.
    touched: Vec<i32>,
    decoder: Decoder,
    records: IntCounter,
    undecodable: IntCounter,
    invalid: IntCounter,
    unreadable: IntCounter,
    dropped: IntCounter,
    missing_keys: MissingKeys,
    awaiting_schema: IntGauge,
    /// The partitions that wait for a schema, or more: see [`Self::count_held`].
    held: usize,
    quiet_until: Option<Instant>,
    /// Bad records since the last log line.
    unlogged: u64,
}

/// The handling of a topic's records.
#[derive(Debug)]
enum Phase {
    /// Not found yet: there are none.
    Absent,
    /// Retained until the end that the logs had when the topic was found is reached.
    Warming(Warm),
    Live,
}

impl Phase {
    fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }
}

#[derive(Debug)]
struct Partition {
    /// The offset after the last received record and the offsets without records that follow; or the first offset to
    /// read.
    next: i64,
    /// The end of the log when the partition was found.
    end: i64,
    /// Whether the end was reached. `next` may be smaller, because the last offsets may contain no records.
    reached_end: bool,
    /// The index of its last entry in the current batch.
    last: Option<usize>,
    /// All of its records are new: it is read from the first one.
    is_new: bool,
    /// The surveys that reported that its log ends before `next`.
    short_answers: ShortAnswers,
    /// The record at `next`, which waits for its schema. The client does not read the partition meanwhile.
    held: Option<Box<OwnedRecord>>,
}

impl Partition {
    fn new(next: i64, end: i64) -> Self {
        Self {
            next,
            end,
            reached_end: false,
            last: None,
            is_new: false,
            short_answers: ShortAnswers::default(),
            held: None,
        }
    }

    /// Its leader has not responded: it is not read yet.
    fn unknown(is_new: bool) -> Self {
        Self { is_new, ..Self::new(UNKNOWN_POSITION, UNKNOWN_POSITION) }
    }

    fn is_known(&self) -> bool {
        self.next != UNKNOWN_POSITION
    }
}

impl TopicReader {
    pub(super) fn new(config: TopicConfig, finds_times: bool, metrics: &Metrics) -> Self {
        let label = [&*config.name];
        let decoder = Decoder::new(config.name.clone(), &config.shape);
        Self {
            missing_keys: MissingKeys::new(&config.name, decoder.keys(), metrics),
            decoder,
            records: metrics.records.with_label_values(&label),
            undecodable: metrics.undecodable.with_label_values(&label),
            invalid: metrics.invalid_records.with_label_values(&label),
            unreadable: metrics.unreadable_batches.with_label_values(&label),
            dropped: metrics.dropped_records.with_label_values(&label),
            awaiting_schema: metrics.awaiting_schema.with_label_values(&label),
            held: 0,
            config,
            phase: Phase::Absent,
            epoch: 0,
            former: VecDeque::new(),
            is_new: false,
            live_ms: None,
            finds_times,
            partitions: Vec::new(),
            touched: Vec::new(),
            quiet_until: None,
            unlogged: 0,
        }
    }

    /// The name in events, metrics and the hub.
    pub(super) fn name(&self) -> &Topic {
        &self.config.name
    }

    /// The name in the cluster.
    pub(super) fn source(&self) -> &Topic {
        &self.config.source
    }

    /// The epoch of the topic that is read; 0 if unknown.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self.phase, Phase::Absent)
    }

    pub(super) fn is_warming(&self) -> bool {
        matches!(self.phase, Phase::Warming(_))
    }

    pub(super) fn is_live(&self) -> bool {
        self.phase.is_live()
    }

    /// The offset each partition is read from next, [`UNKNOWN_POSITION`] where that is not known yet; nothing while
    /// absent.
    pub(super) fn next(&self) -> impl ExactSizeIterator<Item = i64> {
        self.partitions.iter().map(|partition| partition.next)
    }

    /// The partitions that are read, each with the offset that is next.
    pub(super) fn reads(&self) -> impl Iterator<Item = (i32, i64)> {
        let read = |(_, partition): &(i32, &Partition)| partition.is_known() && partition.held.is_none();
        (0..).zip(&self.partitions).filter(read).map(|(id, partition)| (id, partition.next))
    }

    fn partition(&self, id: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(id).ok()?)
    }

    /// Reads the topic as it is configured here. Returns whether records become other events; `None` without a change.
    pub(super) fn reconfigure(&mut self, config: &TopicConfig, metrics: &Metrics) -> Option<bool> {
        if *config == self.config {
            return None;
        }
        let is_reshaped = config.shape != self.config.shape;
        if is_reshaped {
            self.decoder = Decoder::new(config.name.clone(), &config.shape);
            self.missing_keys = MissingKeys::new(&config.name, self.decoder.keys(), metrics);
        }
        if self.is_warming() {
            (self.phase, self.partitions) = (Phase::Absent, Vec::new());
        }
        self.config = config.clone();
        Some(is_reshaped)
    }

    /// Notes that the topic does not exist.
    pub(super) fn note_missing(&mut self) {
        self.is_new |= self.is_absent();
    }

    /// From which time on, in milliseconds since the Unix epoch, a partition is read that was not answered for when the
    /// topic went live. Nothing before, and nothing if it is read from its first record.
    pub(super) fn joins_at(&self) -> Option<i64> {
        let is_asked = self.finds_times && !self.config.from_start;
        self.live_ms.filter(|_| is_asked && self.is_live()).map(|ms| (ms - CLOCK_SKEW_MS).max(0))
    }

    /// The start offset in a log of the offsets `low..high`, so that the window can be filled from this partition
    /// alone. If every record is needed, it is the first one.
    pub(super) fn start(&self, low: i64, high: i64) -> i64 {
        if self.config.from_start {
            return low;
        }
        let window = i64::try_from(self.config.replay_events).unwrap_or(i64::MAX);
        high.saturating_sub(window).max(low)
    }

    /// Adds the entry of a record to `batch`, or retains it for the window during the warm-up. Ignores records that
    /// were received before, and those after a record that waits for its schema. Returns whether this one does, for the
    /// first time.
    pub(super) fn take(&mut self, record: &Record<'_>, batch: &mut Vec<Entry>) -> bool {
        let Ok(index) = usize::try_from(record.partition) else { return false };
        let is_next = |partition: &&mut Partition| partition.next <= record.offset && partition.held.is_none();
        if self.partitions.get_mut(index).filter(is_next).is_none() {
            return false;
        }
        let decoded = self.decoder.decode(record);
        let partition = &mut self.partitions[index];
        if let Err(Undecodable::AwaitsSchema(_)) = decoded {
            partition.held = Some(Box::new(OwnedRecord::from(record)));
            return true;
        }
        if let Some(last) = partition.last.filter(|_| partition.next < record.offset) {
            let _ = batch[last].go_on_at(record.offset);
        }
        partition.next = record.offset + 1;
        self.records.inc();
        let entry = self.entry(record, decoded);
        match &mut self.phase {
            Phase::Absent => {}
            Phase::Warming(warm) if !self.config.from_start => {
                let ts = record.timestamp.unwrap_or(record.received_ms);
                warm.push(index, record.offset, ts, entry);
            }
            Phase::Warming(_) | Phase::Live => {
                if self.partitions[index].last.replace(batch.len()).is_none() {
                    self.touched.push(record.partition);
                }
                batch.push(entry);
            }
        }
        false
    }

    /// Skips an unreadable batch, `range`, if the partition's position is before or in it. Returns whether it is: then
    /// the partition has to be assigned again. The gap is added to `batch`, or retained during the warm-up.
    pub(super) fn pass_over(&mut self, id: i32, range: Range<i64>, batch: &mut Vec<Entry>) -> bool {
        let Ok(index) = usize::try_from(id) else { return false };
        let Some(partition) = self.partitions.get_mut(index).filter(|partition| partition.next < range.end) else {
            return false;
        };
        let (from, to) = (range.start.max(partition.next), range.end - 1);
        partition.next = range.end;
        self.unreadable.inc();
        tracing::warn!(topic = &*self.config.name, partition = id, from, to, "a batch cannot be read; skipping it");
        let range = GapRange { topic: self.config.name.clone(), partition: id, from, to };
        let gap = Entry::Gap { cause: GapCause::Unreadable, range };
        match &mut self.phase {
            Phase::Absent => {}
            Phase::Live => {
                // Offsets without records then follow the gap, not the record before it.
                partition.last = None;
                batch.push(gap);
            }
            // The times of its records are unknown: it is ordered with the partition's record before it.
            Phase::Warming(warm) => warm.push(index, to, i64::MIN, gap),
        }
        true
    }

    /// The partitions with entries in the current batch.
    pub(super) fn touched(&self) -> &[i32] {
        &self.touched
    }

    /// The batch is complete.
    pub(super) fn end_batch(&mut self) {
        for partition in self.touched.drain(..) {
            self.partitions[partition as usize].last = None;
        }
    }

    /// The client's position is `position`: all records before it were received.
    pub(super) fn pass(&mut self, id: i32, position: i64, batch: &mut Vec<Entry>) {
        let is_behind = |partition: &&mut Partition| partition.next < position && partition.held.is_none();
        let Some(partition) = self.partitions.get_mut(id as usize).filter(is_behind) else { return };
        partition.next = position;
        let last = partition.last.and_then(|last| batch.get_mut(last));
        if self.phase.is_live() && !last.is_some_and(|last| last.go_on_at(position)) {
            batch.push(self.hole(id, position));
        }
    }

    fn hole(&self, partition: i32, end: i64) -> Entry {
        Entry::Hole { topic: self.config.name.clone(), partition, end }
    }

    /// The partition has reached the end of its log.
    pub(super) fn reached_end(&mut self, partition: usize) {
        if let Some(partition) = self.partitions.get_mut(partition) {
            partition.reached_end = true;
        }
    }

    /// Whether everything up to the initial end of the logs was received; `position` returns the client's. Partitions
    /// whose leaders have not responded count only if every record is needed.
    pub(super) fn has_caught_up(&self, position: impl Fn(i32) -> Option<i64>) -> bool {
        (0..).zip(&self.partitions).all(|(id, partition)| {
            if !partition.is_known() {
                return !self.config.from_start;
            }
            if partition.held.is_some() {
                return false;
            }
            partition.reached_end
                || partition.next >= partition.end
                || position(id).is_some_and(|position| position >= partition.end)
        })
    }

    /// Ends the warm-up: returns the announcement of the positions, the retained entries, and the holes after them.
    /// `now_ms` is in milliseconds since the Unix epoch.
    pub(super) fn finish_warm_up(&mut self, now_ms: i64) -> Option<(Feed, Warm, Vec<Entry>)> {
        match std::mem::replace(&mut self.phase, Phase::Live) {
            Phase::Warming(mut warm) => {
                self.live_ms = Some(now_ms);
                let floors = if self.config.from_start { self.next().collect() } else { warm.floors() };
                let unseen = if self.is_new { self.before(&floors) } else { Vec::new() };
                let assigned = self.assigned(floors.into(), now_ms, unseen);
                let ends = (0..).zip(self.next().collect::<Vec<_>>());
                let holes = ends.filter(|(id, end)| warm.pass(*id as usize, *end)).map(|(id, end)| self.hole(id, end));
                let holes = holes.collect();
                Some((assigned, warm, holes))
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// The announcement of the current positions, once live. `unseen` precedes those that are new.
    fn announcement(&self, at_ms: i64, unseen: Vec<GapRange>) -> Option<Feed> {
        self.is_live().then(|| self.assigned(self.next().collect(), at_ms, unseen))
    }

    fn assigned(&self, next: Arc<[i64]>, at_ms: i64, unseen: Vec<GapRange>) -> Feed {
        let (topic, epoch, unseen) = (self.config.name.clone(), self.epoch, unseen.into());
        Feed::Assigned(Assigned { topic, epoch, next, at_ms, unseen })
    }

    /// What precedes these positions: the open streams of a topic that did not exist before lack it.
    fn before(&self, floors: &[i64]) -> Vec<GapRange> {
        let range = |(partition, floor): (i32, &i64)| GapRange {
            topic: self.config.name.clone(),
            partition,
            from: 0,
            to: *floor - 1,
        };
        (0..).zip(floors).filter(|(_, floor)| **floor > 0).map(range).collect()
    }
}

#[cfg(test)]
#[path = "topic_tests.rs"]
mod tests;
