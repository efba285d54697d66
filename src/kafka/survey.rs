//! Looks at the cluster, again and again: which topics are there, whether they are those that were read so far, how
//! many partitions they have, and from where to where the logs go that somebody wants to know of.
//!
//! One question at a time, and reading goes on meanwhile. What follows from the answers is decided in [`super::topic`].

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::ask::{self, DescribedOrNot, LogName, Offsets, Question};
use super::client::{Client, Isolation};
use super::metadata;
use super::retry::Retry;
use super::topic::{Described, Seen, TopicReader};

/// How long the client may take to connect to the first broker, each time it is asked to.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The timeout of a response. Connections are established meanwhile, and stay.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// The backoff between two surveys, from the first to the longest pause. The longest pause is how long it takes to
/// detect changes without a hint: a missing topic that appears, or a recreated one whose log is longer already than
/// what was read.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

pub(super) struct Survey {
    stage: Stage,
    next: Retry,
    /// Recently connected brokers. Topic descriptions are requested from them in turn, if one does not respond.
    brokers: Vec<i32>,
    turn: usize,
    /// The client lost a position since the survey under way began, and before.
    lost: bool,
    looks_for_lost: bool,
}

#[derive(Default)]
enum Stage {
    #[default]
    Resting,
    /// Which broker there is, to be asked for the topics.
    Broker(metadata::Asking),
    Topics(Question<Vec<DescribedOrNot>>),
    Starts(Vec<Asked>, Question<Offsets>),
    Ends(Vec<Asked>, Offsets, Question<Offsets>),
}

/// One topic of a survey under way.
#[derive(Debug)]
struct Asked {
    described: DescribedOrNot,
    wanted: Range<i32>,
    was: Vec<i64>,
}

/// What was found of a topic.
#[derive(Debug)]
pub(super) enum Finding {
    Found(Seen),
    /// It is not there, or may not be read.
    Missing(RDKafkaErrorCode),
    /// It is there, but where its logs begin and end was not to be had.
    Unanswered(RDKafkaErrorCode),
}

impl Survey {
    /// The first survey is due at once.
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Resting,
            next: Retry::new(PAUSES),
            brokers: Vec::new(),
            turn: 0,
            lost: false,
            looks_for_lost: false,
        }
    }

    /// These brokers are connected.
    pub(super) fn connected(&mut self, brokers: Vec<i32>) {
        if !brokers.is_empty() {
            self.brokers = brokers;
        }
    }

    /// Something may have changed.
    pub(super) fn hasten(&mut self) {
        self.next.hasten();
    }

    /// The client lost its position in some unknown partition.
    pub(super) fn position_lost(&mut self) {
        self.lost = true;
        self.hasten();
    }

    /// Cancels the current survey, together with its client.
    pub(super) fn start_over(&mut self) {
        self.stage = Stage::Resting;
        self.lost |= mem::take(&mut self.looks_for_lost);
        self.hasten();
    }

    pub(super) fn awaits_answer(&self) -> bool {
        !matches!(self.stage, Stage::Resting)
    }

    /// Advances the survey if possible. At its end, returns the findings in the order of the topics, or why no broker
    /// responded. Does not block.
    pub(super) fn step(
        &mut self,
        client: &Arc<Client>,
        topics: &[TopicReader],
    ) -> Option<Result<Vec<Finding>, KafkaError>> {
        let outcome = self.advance(client, topics).transpose()?;
        let is_whole = |found: &Finding| !matches!(found, Finding::Unanswered(_));
        if !outcome.as_ref().is_ok_and(|findings| findings.iter().all(is_whole)) {
            self.lost |= self.looks_for_lost;
        }
        self.looks_for_lost = false;
        self.turn += usize::from(outcome.is_err());
        self.next.pause();
        Some(outcome)
    }

    /// Advances to the next stage, if its response has arrived.
    fn advance(&mut self, client: &Arc<Client>, topics: &[TopicReader]) -> Result<Option<Vec<Finding>>, KafkaError> {
        match mem::take(&mut self.stage) {
            Stage::Resting if topics.is_empty() || !self.next.is_due() => {}
            Stage::Resting if self.brokers.is_empty() => {
                self.stage = Stage::Broker(metadata::ask(client, topics[0].source(), FIRST_WAIT));
            }
            Stage::Resting => {
                let names: Vec<_> = topics.iter().map(|topic| topic.source().clone()).collect();
                // Any broker would do, but the client requires an id.
                let broker = self.brokers[self.turn % self.brokers.len()];
                self.looks_for_lost = mem::take(&mut self.lost);
                self.stage = Stage::Topics(ask::topics(client, broker, &names, ANSWER_WAIT));
            }
            Stage::Broker(question) => match question.answer().transpose()? {
                None => self.stage = Stage::Broker(question),
                // Still due, so that the survey begins with the next step.
                Some(metadata) => self.connected(vec![metadata.broker]),
            },
            Stage::Topics(question) => match question.answer().transpose()? {
                None => self.stage = Stage::Topics(question),
                Some(described) => {
                    let asked = self.take_in(described, topics);
                    if asked.iter().all(|asked| asked.wanted.is_empty()) {
                        return Ok(Some(findings(asked, topics, &Offsets::new(), &Offsets::new())));
                    }
                    let list = list(&asked, topics, Offset::Beginning, |_| true)?;
                    self.stage = Stage::Starts(asked, ask::offsets(client, &list, Isolation::Uncommitted, ANSWER_WAIT));
                }
            },
            Stage::Starts(asked, question) => match question.answer().transpose()? {
                None => self.stage = Stage::Starts(asked, question),
                Some(starts) => {
                    // Who does not answer now was waited for once.
                    let is_known = |log: &LogName| starts.get(log).is_some_and(Result::is_ok);
                    let list = list(&asked, topics, Offset::End, is_known)?;
                    self.stage =
                        Stage::Ends(asked, starts, ask::offsets(client, &list, Isolation::Uncommitted, ANSWER_WAIT));
                }
            },
            Stage::Ends(asked, starts, question) => match question.answer().transpose()? {
                None => self.stage = Stage::Ends(asked, starts, question),
                Some(ends) => return Ok(Some(findings(asked, topics, &starts, &ends))),
            },
        }
        Ok(None)
    }

    /// The remaining requests for each topic.
    fn take_in(&self, described: Vec<DescribedOrNot>, topics: &[TopicReader]) -> Vec<Asked> {
        let mut described = described.into_iter();
        let ask = |topic: &TopicReader| {
            let described = described.next().unwrap_or(Err(RDKafkaErrorCode::UnknownTopicOrPartition));
            let wanted = described.map_or(0..0, |described| topic.wanted(&described, self.looks_for_lost));
            Asked { described, wanted, was: topic.next().collect() }
        };
        topics.iter().map(ask).collect()
    }
}

/// The partitions that are wanted and fit, each with the end of its log that is asked for.
fn list(
    asked: &[Asked],
    topics: &[TopicReader],
    end: Offset,
    fits: impl Fn(&LogName) -> bool,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (asked, topic) in asked.iter().zip(topics) {
        for log in asked.wanted.clone().map(|partition| (topic.source().to_string(), partition)) {
            if fits(&log) {
                list.add_partition_offset(&log.0, log.1, end)?;
            }
        }
    }
    Ok(list)
}

fn findings(asked: Vec<Asked>, topics: &[TopicReader], starts: &Offsets, ends: &Offsets) -> Vec<Finding> {
    let found = |(asked, topic): (Asked, &TopicReader)| match asked.described {
        Err(code) => Finding::Missing(code),
        Ok(described) => found(topic.source(), described, asked, starts, ends),
    };
    asked.into_iter().zip(topics).map(found).collect()
}

fn found(source: &str, described: Described, asked: Asked, starts: &Offsets, ends: &Offsets) -> Finding {
    let offset = |of: &Offsets, partition| {
        of.get(&(source.to_owned(), partition)).copied().unwrap_or(Err(RDKafkaErrorCode::UnknownPartition))
    };
    let log = |partition| Ok((offset(starts, partition)?, offset(ends, partition)?));
    match asked.wanted.map(log).collect() {
        Ok(logs) => Finding::Found(Seen { described, logs, was: asked.was }),
        Err(code) => Finding::Unanswered(code),
    }
}
