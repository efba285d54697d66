//! The reader of a simulated cluster: the state of topics is the real one, and polling clients are replaced.
//!
//! It follows `consumer`: surveys, positions, batches, holes, warm-up.

use std::time::{Duration, Instant};

use fastrand::Rng;
use rdkafka::error::RDKafkaErrorCode;

use super::topic::{Assign, Described, LogEnds, Seen, TopicReader};
use super::warm;
use crate::config::snapshot::TopicConfig;
use crate::event::{Entry, Feed, Topic};
use crate::metrics::Metrics;
use crate::session::Now;
use crate::simulation::cluster::{Cluster, PartitionLog};

/// The pause between two surveys, and how long one takes, in milliseconds.
const SURVEY_PAUSE_MS: std::ops::Range<u64> = 50..1_500;
const SURVEY_MS: std::ops::Range<u64> = 0..100;
/// Records of a partition per step.
const RECORDS_PER_STEP: std::ops::Range<usize> = 0..12;
/// How long the window may take to warm.
const WARM_UP: Duration = Duration::from_secs(2);

pub(crate) struct Reader {
    topics: Vec<TopicReader>,
    /// By topic and partition: the position of the client, and the generation of the log that it has read.
    positions: Vec<Vec<Option<Position>>>,
    survey_at: Instant,
    /// The findings under way, with the time when they arrive.
    findings: Option<(Instant, Vec<Finding>)>,
    /// The client lost a position, before the survey under way and since.
    lost: (bool, bool),
    warm_until: Option<Instant>,
    is_settled: bool,
    settle_at: Instant,
}

#[derive(Clone, Copy)]
struct Position {
    next: i64,
    generation: i64,
}

enum Finding {
    Missing,
    Unanswered,
    Found(Seen),
}

impl Reader {
    pub(crate) fn new(topics: &[TopicConfig], metrics: &Metrics, now: Now) -> Self {
        let topics: Vec<_> = topics.iter().map(|topic| TopicReader::new(topic.clone(), true, metrics)).collect();
        Self {
            positions: vec![Vec::new(); topics.len()],
            topics,
            survey_at: now.instant,
            findings: None,
            lost: (false, false),
            warm_until: None,
            is_settled: false,
            settle_at: now.instant + WARM_UP,
        }
    }

    /// One turn of the reading thread.
    pub(crate) fn step(&mut self, cluster: &Cluster, now: Now, rng: &mut Rng, sink: &mut impl FnMut(Feed)) {
        self.survey(cluster, now, rng, sink);
        self.drain(cluster, now, rng, sink);
        self.finish_warm_up(now, sink);
        if self.warm_until.is_none() && !self.is_settled && now.instant >= self.settle_at {
            self.settle(sink);
        }
        if rng.u8(..) < 32 {
            self.pass_all(sink);
        }
    }

    /// Whether it knows which of the logs that it reads were truncated.
    pub(crate) fn knows_truncations(&self, cluster: &Cluster) -> bool {
        let is_read = |(position, log): (&Option<Position>, &PartitionLog)| {
            // One answer that the log ends before the position is not believed yet.
            position.is_none_or(|position| position.generation == log.generation && position.next <= log.stable)
        };
        let knows = |(topic, positions): (&TopicReader, &Vec<Option<Position>>)| {
            let log = cluster.topic(topic.source()).filter(|log| log.epoch == topic.epoch());
            log.is_none_or(|log| positions.iter().zip(&log.partitions).all(is_read))
        };
        self.topics.iter().zip(&self.positions).all(knows)
    }

    fn survey(&mut self, cluster: &Cluster, now: Now, rng: &mut Rng, sink: &mut impl FnMut(Feed)) {
        if self.findings.is_none() && now.instant >= self.survey_at {
            self.lost = (self.lost.0 | self.lost.1, false);
            let findings = self.topics.iter().map(|topic| self.find(topic, cluster, now)).collect();
            self.findings = Some((now.instant + Duration::from_millis(rng.u64(SURVEY_MS)), findings));
        }
        let arrived = self.findings.take_if(|(at, _)| *at <= now.instant);
        if let Some((_, findings)) = arrived {
            let is_whole = |finding: &Finding| matches!(finding, Finding::Found(seen) if seen.unanswered.is_none());
            let has_looked = findings.iter().all(is_whole);
            self.lost.0 &= !has_looked;
            self.take_in(findings, cluster, now, sink);
            self.survey_at = now.instant + Duration::from_millis(rng.u64(SURVEY_PAUSE_MS));
        }
    }

    fn find(&self, topic: &TopicReader, cluster: &Cluster, now: Now) -> Finding {
        let Some(log) = cluster.topic(topic.source()).filter(|log| !log.partitions.is_empty()) else {
            return Finding::Missing;
        };
        let described = Described { epoch: log.epoch, partitions: log.partitions.len() as i32 };
        let suspects: Vec<i32> = topic.reads().map(|(id, _)| id).filter(|_| self.lost.0).collect();
        let wanted = topic.wanted(&described, &suspects);
        let ends = |log: &PartitionLog| LogEnds {
            low: log.low,
            high: log.stable,
            at: topic.joins_at().map(|ms| log.offset_at(ms).unwrap_or(log.stable)),
        };
        let answers = wanted.iter().map(|id| (*id, &log.partitions[*id as usize]));
        let logs: Vec<_> = answers.filter(|(_, log)| !log.is_silent).map(|(id, log)| (id, ends(log))).collect();
        let unanswered = (logs.len() < wanted.len()).then_some(RDKafkaErrorCode::OperationTimedOut);
        if unanswered.is_some() && logs.is_empty() {
            return Finding::Unanswered;
        }
        Finding::Found(Seen { described, logs, unanswered, was: topic.next().collect(), at_ms: now.unix_ms })
    }

    fn take_in(&mut self, findings: Vec<Finding>, cluster: &Cluster, now: Now, sink: &mut impl FnMut(Feed)) {
        let (mut assign, mut is_open) = (Assign::AsItIs, false);
        for (index, finding) in findings.iter().enumerate() {
            match finding {
                Finding::Missing => self.topics[index].note_missing(),
                Finding::Unanswered => is_open = true,
                Finding::Found(seen) => {
                    is_open |= seen.unanswered.is_some();
                    let positions = &self.positions[index];
                    let position = |id: i32| positions.get(id as usize).copied().flatten().map(|known| known.next);
                    let change = self.topics[index].take_in(seen, position);
                    assign = assign.max(change.assign);
                    hand_on(change.gaps, sink);
                    change.announcement.into_iter().for_each(&mut *sink);
                }
            }
        }
        if assign != Assign::AsItIs {
            self.assign(cluster);
        }
        if self.topics.iter().any(TopicReader::is_warming) {
            self.warm_until.get_or_insert(now.instant + WARM_UP);
        } else if !self.is_settled && !is_open {
            self.settle(sink);
        }
    }

    fn assign(&mut self, cluster: &Cluster) {
        for (topic, positions) in self.topics.iter().zip(&mut self.positions) {
            positions.clear();
            positions.resize(topic.next().len(), None);
            for (id, next) in topic.reads() {
                let generation = cluster.partition(topic.source(), id).map_or(0, |log| log.generation);
                positions[id as usize] = Some(Position { next, generation });
            }
        }
    }

    fn drain(&mut self, cluster: &Cluster, now: Now, rng: &mut Rng, sink: &mut impl FnMut(Feed)) {
        let mut batch = Vec::new();
        let mut lanes: Vec<(usize, usize)> = self
            .positions
            .iter()
            .enumerate()
            .flat_map(|(topic, all)| (0..all.len()).map(move |n| (topic, n)))
            .collect();
        rng.shuffle(&mut lanes);
        for (index, n) in lanes {
            let Some(position) = self.positions[index][n].as_mut() else { continue };
            let topic = &mut self.topics[index];
            // A client does not read the log of a recreated topic; see `Assign::OnNewClient`.
            let is_same = cluster.topic(topic.source()).is_some_and(|log| log.epoch == topic.epoch());
            let Some(log) = cluster.partition(topic.source(), n as i32).filter(|log| is_same && !log.is_silent) else {
                continue;
            };
            let is_lost = position.next < log.low || position.next > log.stable;
            if is_lost || position.generation != log.generation {
                self.lost.1 = true;
                self.survey_at = self.survey_at.min(now.instant);
                // Where the log still has the position, the broker finds that out by the leader's epoch, and the client
                // continues.
                position.generation = if is_lost { position.generation } else { log.generation };
                continue;
            }
            let (records, mut has_rest) = (rng.usize(RECORDS_PER_STEP), false);
            for (taken, (offset, stored)) in log.records.range(position.next..log.stable).enumerate() {
                has_rest = taken >= records;
                if has_rest {
                    break;
                }
                let record = stored.record(n as i32, *offset, now);
                topic.take(&record, &mut batch);
                position.next = offset + 1;
            }
            if !has_rest {
                position.next = log.stable;
            }
        }
        let touched: Vec<_> = self.topics.iter().map(|topic| topic.touched().to_vec()).collect();
        self.pass(touched, &mut batch);
        self.topics.iter_mut().for_each(TopicReader::end_batch);
        hand_on(batch, sink);
    }

    fn pass(&mut self, partitions: Vec<Vec<i32>>, batch: &mut Vec<Entry>) {
        for ((topic, ids), positions) in self.topics.iter_mut().zip(partitions).zip(&self.positions) {
            for id in ids {
                if let Some(position) = positions.get(id as usize).copied().flatten() {
                    topic.pass(id, position.next, batch);
                }
            }
        }
    }

    fn pass_all(&mut self, sink: &mut impl FnMut(Feed)) {
        let all = |topic: &TopicReader| topic.reads().map(|(id, _)| id).collect();
        let (partitions, mut batch) = (self.topics.iter().map(all).collect(), Vec::new());
        self.pass(partitions, &mut batch);
        hand_on(batch, sink);
    }

    fn finish_warm_up(&mut self, now: Now, sink: &mut impl FnMut(Feed)) {
        let Some(until) = self.warm_until else { return };
        let has_caught_up = |(topic, positions): (&TopicReader, &Vec<Option<Position>>)| {
            let position = |id: i32| positions.get(id as usize).copied().flatten().map(|known| known.next);
            !topic.is_warming() || topic.has_caught_up(position)
        };
        if now.instant < until && !self.topics.iter().zip(&self.positions).all(has_caught_up) {
            return;
        }
        self.warm_until = None;
        self.pass_all(sink);
        let (mut warmed, mut holes) = (Vec::new(), Vec::new());
        for topic in &mut self.topics {
            if let Some((assigned, warm, behind)) = topic.finish_warm_up(now.unix_ms) {
                sink(assigned);
                warmed.push(warm);
                holes.extend(behind);
            }
        }
        let mut entries = warm::merge(warmed);
        entries.extend(holes);
        hand_on(entries, sink);
        self.settle(sink);
    }

    fn settle(&mut self, sink: &mut impl FnMut(Feed)) {
        self.is_settled = true;
        let topics: Vec<Topic> = self.topics.iter().map(|topic| topic.name().clone()).collect();
        sink(Feed::Live { topics: topics.into() });
    }
}

fn hand_on(batch: Vec<Entry>, sink: &mut impl FnMut(Feed)) {
    if !batch.is_empty() {
        sink(Feed::Batch(batch.into()));
    }
}
