//! One topic as it is read: where its partitions stand, and whether its records warm the window or go out at once.
//!
//! No client here: records come in, entries come out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::decode::{Decoder, Record};
use super::warm::Warm;
use crate::config::snapshot::TopicConfig;
use crate::event::{Entry, Feed, GapCause, GapRange, Topic};
use crate::metrics::Metrics;

/// The least time between two log lines about a topic's undecodable records.
const UNDECODABLE_LOG_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct TopicReader {
    config: TopicConfig,
    phase: Phase,
    partitions: Vec<Partition>,
    decoder: Decoder,
    records: IntCounter,
    undecodable: IntCounter,
    quiet_until: Option<Instant>,
    /// Undecodable records since the last log line.
    untold: u64,
}

/// What happens with a topic's records.
#[derive(Debug)]
enum Phase {
    /// Not found yet: there are none.
    Absent,
    /// They are kept back until the end of the log, as it was when the topic was found, is reached.
    Warming(Warm),
    Live,
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    /// The offset after the last record taken, or the first to be read.
    next: i64,
    /// The end of the log when the partition was found.
    end: i64,
    /// The end was reached, though `next` may not show it: the last offsets may hold no records.
    reached_end: bool,
}

impl TopicReader {
    pub(super) fn new(config: TopicConfig, metrics: &Metrics) -> Self {
        let label = [&*config.name];
        Self {
            decoder: Decoder::new(&config),
            records: metrics.records.with_label_values(&label),
            undecodable: metrics.undecodable.with_label_values(&label),
            config,
            phase: Phase::Absent,
            partitions: Vec::new(),
            quiet_until: None,
            untold: 0,
        }
    }

    /// What events, metrics and the hub call it.
    pub(super) fn name(&self) -> &Topic {
        &self.config.name
    }

    /// What the brokers call it.
    pub(super) fn source(&self) -> &Topic {
        &self.config.source
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self.phase, Phase::Absent)
    }

    pub(super) fn is_warming(&self) -> bool {
        matches!(self.phase, Phase::Warming(_))
    }

    /// The offset each partition is read from next; nothing while absent.
    pub(super) fn next(&self) -> impl ExactSizeIterator<Item = i64> {
        self.partitions.iter().map(|partition| partition.next)
    }

    /// Where to start in a log of offsets `low..high`, so that the window can be filled from this partition alone.
    pub(super) fn start(&self, low: i64, high: i64) -> i64 {
        let window = i64::try_from(self.config.replay_events).unwrap_or(i64::MAX);
        high.saturating_sub(window).max(low)
    }

    /// Starts the warm-up, given the log of each partition (low, high).
    pub(super) fn join(&mut self, logs: &[(i64, i64)]) {
        let mut warm = Warm::new(self.config.replay_events, self.config.replay_bytes);
        self.partitions.clear();
        for (low, high) in logs {
            let start = self.start(*low, *high);
            warm.add_partition(start);
            self.partitions.push(Partition { next: start, end: *high, reached_end: false });
        }
        self.phase = Phase::Warming(warm);
    }

    /// The topic is to be looked for anew.
    pub(super) fn leave(&mut self) {
        self.partitions.clear();
        self.phase = Phase::Absent;
    }

    /// Adds partitions the topic got since. Their records are new, so they are read from the start of their logs.
    pub(super) fn grow(&mut self, logs: &[(i64, i64)]) {
        for (low, high) in logs {
            if let Phase::Warming(warm) = &mut self.phase {
                warm.add_partition(*low);
            }
            self.partitions.push(Partition { next: *low, end: *high, reached_end: false });
        }
    }

    /// Takes a record: its entry goes to `batch`, or is kept back while warming. What was taken before is ignored.
    pub(super) fn take(&mut self, record: &Record<'_>, batch: &mut Vec<Entry>) {
        let Ok(index) = usize::try_from(record.partition) else { return };
        let Some(partition) = self.partitions.get_mut(index).filter(|partition| partition.next <= record.offset) else {
            return;
        };
        partition.next = record.offset + 1;
        self.records.inc();
        let entry = self.entry(record);
        match &mut self.phase {
            Phase::Absent => {}
            Phase::Live => batch.push(entry),
            Phase::Warming(warm) => {
                let ts = record.timestamp.unwrap_or(record.received_ms);
                warm.push(index, record.offset, ts, entry);
            }
        }
    }

    /// The partition reached the end of its log.
    pub(super) fn reached_end(&mut self, partition: usize) {
        if let Some(partition) = self.partitions.get_mut(partition) {
            partition.reached_end = true;
        }
    }

    /// Whether everything that was in the log when the topic was found has been taken; `position` is the client's.
    pub(super) fn has_caught_up(&self, position: impl Fn(i32) -> Option<i64>) -> bool {
        (0..).zip(&self.partitions).all(|(id, partition)| {
            partition.reached_end
                || partition.next >= partition.end
                || position(id).is_some_and(|position| position >= partition.end)
        })
    }

    /// Ends the warm-up: the announcement of what is going to be delivered, and what was kept back.
    pub(super) fn finish_warm_up(&mut self) -> Option<(Feed, Warm)> {
        match std::mem::replace(&mut self.phase, Phase::Live) {
            Phase::Warming(warm) => Some((self.assigned(warm.floors().into()), warm)),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// The announcement of the positions as they are, once live.
    pub(super) fn announcement(&self) -> Option<Feed> {
        matches!(self.phase, Phase::Live).then(|| self.assigned(self.next().collect()))
    }

    /// Compares a partition with its log (`low..high`) after the client lost its position there. `position` is the
    /// client's: it may be beyond ours where offsets held no records.
    pub(super) fn mend(&mut self, id: i32, low: i64, high: i64, position: Option<i64>) -> Mended {
        let (start, name) = (self.start(low, high), self.config.name.clone());
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        let Some(partition) = self.partitions.get_mut(index) else { return Mended::Sound };
        let gap = |cause, from, to| Entry::Gap { cause, range: GapRange { topic: name, partition: id, from, to } };
        let next = partition.next;
        if next < low {
            partition.next = low;
            if let Phase::Warming(warm) = &mut self.phase {
                // Nobody was told of a position yet: the window just starts later.
                warm.raise_floor(index, low);
                return Mended::Sound;
            }
            let from = position.unwrap_or(next).max(next);
            if from < low { Mended::Skipped(gap(GapCause::Retention, from, low - 1)) } else { Mended::Sound }
        } else if next > high {
            if let Phase::Warming(_) = self.phase {
                return Mended::Replaced(None);
            }
            partition.next = start;
            Mended::Replaced(Some(gap(GapCause::Truncated, high, next - 1)))
        } else {
            Mended::Sound
        }
    }

    fn assigned(&self, next: Arc<[i64]>) -> Feed {
        Feed::Assigned { topic: self.config.name.clone(), epoch: 0, next }
    }

    fn entry(&mut self, record: &Record<'_>) -> Entry {
        match self.decoder.decode(record) {
            Ok(event) => Entry::Event(Arc::new(event)),
            Err(reason) => {
                self.undecodable.inc();
                self.tell_undecodable(record, &reason.to_string());
                let range = GapRange {
                    topic: self.config.name.clone(),
                    partition: record.partition,
                    from: record.offset,
                    to: record.offset,
                };
                Entry::Gap { cause: GapCause::Undecodable, range }
            }
        }
    }

    fn tell_undecodable(&mut self, record: &Record<'_>, reason: &str) {
        if self.quiet_until.is_some_and(|until| record.received < until) {
            self.untold += 1;
            return;
        }
        let place = format!("{}:{}:{}", self.config.name, record.partition, record.offset);
        tracing::warn!(place, reason, more_before = self.untold, "record is no event");
        self.quiet_until = Some(record.received + UNDECODABLE_LOG_INTERVAL);
        self.untold = 0;
    }
}

/// What [`TopicReader::mend`] found.
#[derive(Debug)]
pub(super) enum Mended {
    /// The position lies within the log, or nobody needs to know that it did not.
    Sound,
    /// The log lost its start up to beyond the position: reading goes on at its new start.
    Skipped(Entry),
    /// The log ends before the position: it is another log, to be read from its start or a window before its end.
    /// Without an entry nobody was told of a position yet, and the topic is to be joined anew.
    Replaced(Option<Entry>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(logs: &[(i64, i64)]) -> TopicReader {
        let config = TopicConfig { replay_events: 10, replay_bytes: 1000, ..TopicConfig::new("a".into(), []) };
        let mut topic = TopicReader::new(config, &Metrics::new("test").unwrap());
        topic.join(logs);
        topic
    }

    fn live(logs: &[(i64, i64)]) -> TopicReader {
        let mut topic = reader(logs);
        topic.finish_warm_up().unwrap();
        topic
    }

    /// Takes an empty record; gives how many entries came out.
    fn take(topic: &mut TopicReader, partition: i32, offset: i64) -> usize {
        let (mut batch, received) = (Vec::new(), Instant::now());
        let value = Some(&b"{}"[..]);
        let (timestamp, headers) = (Some(1), &[][..]);
        let record = Record { partition, offset, timestamp, key: None, headers, value, received, received_ms: 1 };
        topic.take(&record, &mut batch);
        batch.len()
    }

    fn next(topic: &TopicReader) -> Vec<i64> {
        topic.next().collect()
    }

    fn range(mended: Mended) -> (GapCause, i64, i64) {
        match mended {
            Mended::Skipped(Entry::Gap { cause, range }) | Mended::Replaced(Some(Entry::Gap { cause, range })) => {
                (cause, range.from, range.to)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_starts_a_window_before_the_end_but_within_the_log() {
        assert_eq!(next(&reader(&[(0, 100), (95, 100), (0, 3), (7, 7)])), [90, 95, 0, 7]);
    }

    #[test]
    fn records_are_taken_once_and_only_of_known_partitions() {
        let mut topic = live(&[(0, 0)]);
        assert_eq!([0, 1, 1, 0, 5, 3].map(|offset| take(&mut topic, 0, offset)), [1, 1, 0, 0, 1, 0]);
        assert_eq!([1, -1].map(|partition| take(&mut topic, partition, 0)), [0, 0]);
        assert_eq!(next(&topic), [6]);
    }

    #[test]
    fn it_has_caught_up_by_record_by_position_or_by_the_end_of_the_log() {
        let nowhere = |_| None;
        let mut topic = reader(&[(0, 3)]);
        assert!(!topic.has_caught_up(nowhere));
        assert_eq!(take(&mut topic, 0, 1), 0, "kept back");
        assert!(!topic.has_caught_up(|_| Some(2)));
        assert!(topic.has_caught_up(|_| Some(3)), "the last offset may be a control record");
        topic.reached_end(0);
        assert!(topic.has_caught_up(nowhere), "the last offsets may be compacted away");
        let mut topic = reader(&[(0, 3), (5, 5)]);
        take(&mut topic, 0, 2);
        assert!(topic.has_caught_up(nowhere));
    }

    #[test]
    fn added_partitions_are_read_from_their_start_and_announced_once_live() {
        let mut topic = reader(&[(0, 1)]);
        topic.grow(&[(4, 9)]);
        assert!(topic.announcement().is_none());
        let (Feed::Assigned { next: announced, .. }, _) = topic.finish_warm_up().unwrap() else { panic!() };
        assert_eq!(*announced, [0, 4]);
        topic.grow(&[(0, 100)]);
        let Some(Feed::Assigned { next: announced, .. }) = topic.announcement() else { panic!() };
        assert_eq!(*announced, [0, 4, 0]);
    }

    #[test]
    fn a_log_that_lost_its_start_is_a_gap_up_to_it() {
        let mut topic = live(&[(0, 5), (0, 5)]);
        take(&mut topic, 0, 4);
        assert_eq!(range(topic.mend(0, 20, 30, None)), (GapCause::Retention, 5, 19));
        assert_eq!(next(&topic), [20, 0]);
        take(&mut topic, 1, 4);
        assert_eq!(range(topic.mend(1, 20, 30, Some(8))), (GapCause::Retention, 8, 19), "5 to 7 held no records");
        assert!(matches!(topic.mend(1, 20, 30, None), Mended::Sound));
    }

    #[test]
    fn a_log_that_ends_before_the_position_is_another_log() {
        let mut topic = live(&[(0, 50)]);
        take(&mut topic, 0, 49);
        assert_eq!(range(topic.mend(0, 0, 30, None)), (GapCause::Truncated, 30, 49));
        assert_eq!(next(&topic), [20], "a window before the end of what is there now");
        assert_eq!(take(&mut topic, 0, 20), 1);
    }

    #[test]
    fn a_position_lost_while_warming_is_nobodys_gap() {
        let mut topic = reader(&[(0, 5)]);
        assert!(matches!(topic.mend(0, 2, 9, None), Mended::Sound));
        let (Feed::Assigned { next: announced, .. }, _) = topic.finish_warm_up().unwrap() else { panic!() };
        assert_eq!(*announced, [2]);
        let mut topic = reader(&[(0, 5)]);
        take(&mut topic, 0, 4);
        assert!(matches!(topic.mend(0, 0, 3, None), Mended::Replaced(None)));
        topic.leave();
        assert!(topic.is_absent());
    }
}
