//! What a survey saw of a topic, and what follows from it: found, grown, recreated, partitions that answer for the
//! first time, or a log that lost what was to be read next.
//!
//! No client here, either; what is to be reported is returned.

use rdkafka::error::RDKafkaErrorCode;

use super::{FORMER_MAX, Partition, Phase, TopicReader};
use crate::event::{Entry, Epoch, Feed, GapCause, GapRange};
use crate::kafka::warm::Warm;

/// The cluster's description of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct Described {
    /// 0 if the cluster does not assign UUIDs (before Kafka 2.8).
    pub(in crate::kafka) epoch: Epoch,
    /// The number of partitions.
    pub(in crate::kafka) partitions: i32,
}

/// The offset range of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct LogEnds {
    /// The first offset.
    pub(in crate::kafka) low: i64,
    /// The offset after the last one.
    pub(in crate::kafka) high: i64,
    /// The first offset at or after [`TopicReader::joins_at`], if it was requested.
    pub(in crate::kafka) at: Option<i64>,
}

/// The findings about a topic.
#[derive(Debug)]
pub(in crate::kafka) struct Seen {
    pub(in crate::kafka) described: Described,
    /// The logs of the requested partitions whose leaders responded, in the order of their numbers.
    pub(in crate::kafka) logs: Vec<(i32, LogEnds)>,
    /// The error of the other requested partitions, if any.
    pub(in crate::kafka) unanswered: Option<RDKafkaErrorCode>,
    /// The positions at the time of the request.
    pub(in crate::kafka) was: Vec<i64>,
    /// When this was known, in milliseconds since the Unix epoch.
    pub(in crate::kafka) at_ms: i64,
}

impl Seen {
    fn log(&self, partition: i32) -> Option<LogEnds> {
        self.logs.iter().find(|(id, _)| *id == partition).map(|(_, ends)| *ends)
    }
}

/// The consequences of a survey, in this order.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Change {
    /// The records that the log no longer contains.
    pub(in crate::kafka) gaps: Vec<Entry>,
    pub(in crate::kafka) announcement: Option<Feed>,
    pub(in crate::kafka) assign: Assign,
}

/// Whether partitions have to be assigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kafka) enum Assign {
    #[default]
    AsItIs,
    Again,
    /// The client must not keep state of the deleted log: it considers the leaders of a recreated topic as outdated,
    /// because their epochs begin at 0 again (librdkafka 2.12, `rd_kafka_toppar_leader_update`), and does not read it.
    OnNewClient,
}

impl TopicReader {
    /// The partitions whose logs have to be known. In `suspects`, the client may have lost its position.
    pub(in crate::kafka) fn wanted(&self, described: &Described, suspects: &[i32]) -> Vec<i32> {
        if self.is_outdated(described) {
            return Vec::new();
        }
        let all = self.is_absent() || self.is_another(described);
        let is_known = |id: i32| self.partition(id).is_some_and(Partition::is_known);
        (0..described.partitions).filter(|id| all || !is_known(*id) || suspects.contains(id)).collect()
    }

    /// Applies findings. `position` returns the client's, which may be greater than ours if offsets contained no
    /// records.
    pub(in crate::kafka) fn take_in(&mut self, seen: &Seen, position: impl Fn(i32) -> Option<i64>) -> Change {
        let is_another = self.is_another(&seen.described);
        if self.is_absent() {
            tracing::info!(topic = &*self.config.name, partitions = seen.described.partitions, "topic found");
            return self.join(seen, Assign::Again);
        }
        if self.is_outdated(&seen.described) {
            return Change::default();
        }
        if is_another && seen.unanswered.is_some() && !self.has_epochs(&seen.described) {
            // Without epochs, its predecessor's positions are compared with all of its logs at once.
            return Change::default();
        }
        if is_another {
            tracing::warn!(topic = &*self.config.name, "the topic was deleted and recreated");
            return self.replace(seen);
        }
        let is_news = self.epoch == 0 && seen.described.epoch != 0;
        if is_news {
            self.epoch = seen.described.epoch;
        }
        let mut change = self.mend(seen, position);
        let (has_late, unseen) = self.learn(seen);
        let has_new = self.grow(seen) | has_late;
        if has_new {
            change.assign = change.assign.max(Assign::Again);
        }
        if is_news || has_new {
            change.announcement = self.announcement(seen.at_ms, unseen);
        }
        change
    }

    /// Whether it is another topic than the one that was read. Without epochs, a topic with fewer partitions is.
    fn is_another(&self, described: &Described) -> bool {
        match (self.epoch, described.epoch) {
            (0, _) | (_, 0) => (described.partitions as usize) < self.partitions.len(),
            (known, reported) => known != reported && !self.is_outdated(described),
        }
    }

    /// Whether a broker that lags behind describes a deleted predecessor of the topic.
    pub(in crate::kafka) fn is_outdated(&self, described: &Described) -> bool {
        self.former.contains(&described.epoch)
    }

    /// Whether epochs distinguish the described topic from the one that was read.
    fn has_epochs(&self, described: &Described) -> bool {
        self.epoch != 0 && described.epoch != 0
    }

    /// Starts the warm-up.
    fn join(&mut self, seen: &Seen, assign: Assign) -> Change {
        let mut warm = Warm::new(self.config.replay_events, self.config.replay_bytes);
        self.partitions.clear();
        for id in 0..seen.described.partitions {
            let start = |ends: LogEnds| Partition::new(self.start(ends.low, ends.high), ends.high);
            let partition = seen.log(id).map_or_else(|| Partition::unknown(self.is_new), start);
            warm.add_partition(partition.next);
            self.partitions.push(partition);
        }
        if let Some(code) = seen.unanswered {
            let missing = self.partitions.len() - seen.logs.len();
            tracing::warn!(topic = &*self.config.name, missing, %code, "reading begins without some partitions");
        }
        self.phase = Phase::Warming(warm);
        self.epoch = seen.described.epoch;
        // Its records are passed on from now on.
        let announcement = self.config.from_start.then(|| self.assigned(self.next().collect(), seen.at_ms, Vec::new()));
        Change { assign, announcement, ..Change::default() }
    }

    /// Reads the new logs from their first records, whatever their length: all of them are new. Those whose leaders do
    /// not respond follow once they do.
    fn replace(&mut self, seen: &Seen) -> Change {
        self.former.retain(|known| *known != seen.described.epoch);
        if self.epoch != 0 {
            self.former.truncate(FORMER_MAX - 1);
            self.former.push_front(self.epoch);
        }
        if self.is_warming() || self.config.from_start {
            // No position has been announced yet, or the new topic is read like the first one.
            return self.join(seen, Assign::OnNewClient);
        }
        // Without epochs, gaps report the loss.
        let gaps = if self.has_epochs(&seen.described) { Vec::new() } else { self.beyond(seen) };
        self.epoch = seen.described.epoch;
        let start = |ends: LogEnds| Partition::new(self.first(&ends), ends.high);
        let partition = |id| seen.log(id).map_or_else(|| Partition::unknown(true), start);
        self.partitions = (0..seen.described.partitions).map(partition).collect();
        Change { gaps, announcement: self.announcement(seen.at_ms, Vec::new()), assign: Assign::OnNewClient }
    }

    /// What was read of the partitions that were longer than the logs of this topic, from the start of those on.
    fn beyond(&self, seen: &Seen) -> Vec<Entry> {
        let log = |id: i32| seen.log(id).map_or((0, 0), |ends| (ends.low, ends.high));
        let partitions = (0..).zip(&self.partitions).filter(|(id, partition)| partition.next > log(*id).1);
        partitions.map(|(id, partition)| self.gap(GapCause::Truncated, id, log(id).0, partition.next)).collect()
    }

    /// Begins to read partitions whose leaders respond for the first time. Returns whether there are any, and what
    /// precedes their positions. Records that came while streams were open may be among that, because producers choose
    /// the times of their records.
    fn learn(&mut self, seen: &Seen) -> (bool, Vec<GapRange>) {
        let is_found = |(id, ends): &(i32, LogEnds)| {
            self.partition(*id).is_some_and(|known| !known.is_known() && self.has_late_start(known, ends))
        };
        let found: Vec<_> = seen.logs.iter().copied().filter(is_found).collect();
        let mut unseen = Vec::new();
        for (id, ends) in &found {
            let start = self.late_start(*id, ends);
            if let Phase::Warming(warm) = &mut self.phase {
                warm.raise_floor(*id as usize, start);
            }
            if ends.low < start {
                let topic = self.config.name.clone();
                unseen.push(GapRange { topic, partition: *id, from: ends.low, to: start - 1 });
            }
            self.partitions[*id as usize] = Partition::new(start, ends.high);
        }
        if !found.is_empty() {
            tracing::info!(
                topic = &*self.config.name,
                partitions = found.len(),
                "partitions answer for the first time"
            );
        }
        (!found.is_empty(), unseen)
    }

    /// Whether the answers suffice to start in a partition. A topic that went live while they were under way needs the
    /// offset of that time, which the next survey requests.
    fn has_late_start(&self, partition: &Partition, ends: &LogEnds) -> bool {
        partition.is_new || self.joins_at().is_none() || ends.at.is_some()
    }

    /// Where to start in a partition that answers later than others of its topic. Streams that were opened meanwhile
    /// are to receive what came since.
    fn late_start(&self, id: i32, ends: &LogEnds) -> i64 {
        match ends.at {
            _ if self.partition(id).is_some_and(|partition| partition.is_new) => self.first(ends),
            Some(at) if self.is_live() => at.clamp(ends.low, ends.high.max(ends.low)),
            _ => self.start(ends.low, ends.high),
        }
    }

    /// Where a new log is read from. Open streams lack its first records if these are deleted already: the client loses
    /// the position before them, and they become a gap.
    fn first(&self, ends: &LogEnds) -> i64 {
        if self.is_live() { 0 } else { ends.low }
    }

    /// Adds new partitions. Their records are new, so they are read from the start of their logs.
    fn grow(&mut self, seen: &Seen) -> bool {
        let have = self.partitions.len();
        for id in (0..seen.described.partitions).skip(have) {
            let start = |ends: LogEnds| Partition::new(self.first(&ends), ends.high);
            let partition = seen.log(id).map_or_else(|| Partition::unknown(true), start);
            if let Phase::Warming(warm) = &mut self.phase {
                warm.add_partition(partition.next);
            }
            self.partitions.push(partition);
        }
        let has_grown = self.partitions.len() > have;
        if has_grown {
            tracing::info!(topic = &*self.config.name, partitions = self.partitions.len(), "partitions were added");
        }
        has_grown
    }

    /// Compares the partitions with their logs after the client lost a position in one that it does not name.
    fn mend(&mut self, seen: &Seen, position: impl Fn(i32) -> Option<i64>) -> Change {
        let mut change = Change::default();
        let is_known = |(id, _): &(i32, LogEnds)| self.partition(*id).is_some_and(Partition::is_known);
        let known: Vec<_> = seen.logs.iter().copied().filter(is_known).collect();
        for (id, LogEnds { low, high, .. }) in known {
            // A lost position is assigned again, even at the same offset.
            change.assign = change.assign.max(Assign::Again);
            let partition = &mut self.partitions[id as usize];
            let next = partition.next;
            let is_short = next > high && seen.was.get(id as usize) == Some(&next);
            let is_confirmed = partition.short_answers.confirm(is_short);
            if seen.was.get(id as usize) != Some(&next) {
                // It advanced: its log is longer now than at the request.
            } else if next < low {
                change.gaps.extend(self.skip(id, low, position(id)));
            } else if is_short && !is_confirmed {
                // The client reads on from the same offset, and loses its position again if the log ends before it.
            } else if next > high && (self.is_warming() || self.config.from_start) {
                // No position has been announced yet, or what was read is needed no more.
                return self.join(seen, Assign::OnNewClient);
            } else if next > high {
                // The remaining records were read already.
                change.gaps.push(self.gap(GapCause::Truncated, id, high, next));
                self.partitions[id as usize].next = high;
                change.assign = Assign::OnNewClient;
            }
        }
        if !change.gaps.is_empty() {
            let gaps = &change.gaps;
            tracing::warn!(topic = &*self.config.name, ?gaps, "the log does not hold the next offset");
        }
        change
    }

    /// Continues at the log's new start. The offsets up to `position` are known to contain no records.
    fn skip(&mut self, id: i32, low: i64, position: Option<i64>) -> Option<Entry> {
        let partition = &mut self.partitions[id as usize];
        let from = position.unwrap_or(partition.next).max(partition.next);
        partition.next = low;
        if let Phase::Warming(warm) = &mut self.phase {
            // No position has been announced yet: the window starts later.
            warm.raise_floor(id as usize, low);
            return None;
        }
        (from < low).then(|| self.gap(GapCause::Retention, id, from, low))
    }

    fn gap(&self, cause: GapCause, partition: i32, from: i64, end: i64) -> Entry {
        Entry::Gap { cause, range: GapRange { topic: self.config.name.clone(), partition, from, to: end - 1 } }
    }
}
