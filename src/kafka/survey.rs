//! Probes the cluster periodically: which topics exist, whether they were recreated, their partition counts, and the
//! offset ranges of the logs that are to be read.
//!
//! Reading continues meanwhile. [`super::topic`] decides what follows from the findings. A partition with an
//! unresponsive leader is omitted from the findings and requested again in the next survey.

mod logs;
mod suspects;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use self::logs::{Answers, Logs, Wanted};
use self::suspects::Suspects;
use super::ask::{self, DescribedOrNot, Description, Question};
use super::client::Client;
use super::message::unix_ms;
use super::metadata;
use super::retry::Retry;
use super::topic::{Seen, TopicReader};

/// How long the client may take to connect to the first broker, per attempt.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The timeout of a response. Connections that are established meanwhile are kept.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// The backoff between two surveys, from the first to the longest pause. The longest pause is how long it takes to
/// detect changes without a hint: a missing topic that appears, or a recreated one whose log is longer already than
/// what was read.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

pub(super) struct Survey {
    stage: Stage,
    next: Retry,
    /// Recently connected brokers. Topic descriptions are requested from the next one if one does not respond, describes
    /// a deleted topic, or was asked after the client lost a position: then a second answer decides.
    brokers: Vec<i32>,
    turn: usize,
    /// The partitions in which the client may have lost its position.
    suspects: Suspects,
}

#[derive(Default)]
enum Stage {
    #[default]
    Resting,
    /// Requests the id of any broker, for the request about topics.
    Broker(metadata::Asking),
    Topics(Question<Vec<DescribedOrNot>>),
    Logs(Vec<Asked>, Logs),
}

/// A topic of the current survey.
#[derive(Debug)]
struct Asked {
    described: DescribedOrNot,
    /// The partitions whose offsets are requested.
    wanted: Vec<i32>,
    was: Vec<i64>,
}

/// The result for a topic.
#[derive(Debug)]
pub(super) enum Finding {
    /// It exists, and the leader of at least one of the requested partitions has responded.
    Found(Seen),
    /// It does not exist, or may not be read.
    Missing(RDKafkaErrorCode),
    /// It exists, and no leader has responded.
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
            suspects: Suspects::default(),
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
        self.suspects.add_all();
        self.hasten();
    }

    /// Cancels the current survey, together with its client.
    pub(super) fn start_over(&mut self) {
        self.stage = Stage::Resting;
        self.suspects.put_back();
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
        let is_doubtful = self.suspects.put_back()
            || outcome.as_ref().map_or(true, |findings| findings.iter().zip(topics).any(is_outdated));
        self.turn += usize::from(is_doubtful);
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
                let reads = |topic: &TopicReader| {
                    let source = topic.source().to_string();
                    topic.reads().map(|(id, _)| (source.clone(), id)).collect::<Vec<_>>()
                };
                self.suspects.begin(topics.iter().flat_map(reads));
                self.stage = Stage::Topics(ask::topics(client, broker, &names, ANSWER_WAIT));
            }
            Stage::Broker(question) => match question.answer().transpose()? {
                None => self.stage = Stage::Broker(question),
                // Still due, so that the survey begins with the next step.
                Some(broker) => self.connected(vec![broker]),
            },
            Stage::Topics(question) => match question.answer().transpose()? {
                None => self.stage = Stage::Topics(question),
                Some(described) => {
                    let asked = self.take_in(described, topics);
                    if asked.iter().all(|asked| asked.wanted.is_empty()) {
                        return Ok(Some(self.findings(asked, topics, &Answers::new())));
                    }
                    let wanted = self.wanted(&asked, topics);
                    self.stage = Stage::Logs(asked, Logs::ask(client, wanted, ANSWER_WAIT)?);
                }
            },
            Stage::Logs(asked, mut logs) => match logs.answers() {
                None => self.stage = Stage::Logs(asked, logs),
                Some(answers) => return Ok(Some(self.findings(asked, topics, &answers))),
            },
        }
        Ok(None)
    }

    /// The remaining requests for each topic.
    fn take_in(&self, described: Vec<DescribedOrNot>, topics: &[TopicReader]) -> Vec<Asked> {
        let mut described = described.into_iter();
        let ask = |topic: &TopicReader| {
            let described = described.next().unwrap_or(Err(RDKafkaErrorCode::UnknownTopicOrPartition));
            let wanted = |found: &Description| topic.wanted(&found.described, &self.suspects.of(topic.source()));
            let wanted = described.as_ref().map_or_else(|_| Vec::new(), wanted);
            Asked { described, wanted, was: topic.next().collect() }
        };
        topics.iter().map(ask).collect()
    }

    /// The requested logs of all topics.
    fn wanted(&self, asked: &[Asked], topics: &[TopicReader]) -> Vec<Wanted> {
        let of_topic = |(asked, topic): (&Asked, &TopicReader)| {
            let leaders = asked.described.as_ref().map_or_else(|_| Vec::new(), |found| found.leaders.clone());
            let (source, ms) = (topic.source().to_string(), topic.joins_at());
            let wanted = |partition: &i32| Wanted {
                log: (source.clone(), *partition),
                leader: usize::try_from(*partition).ok().and_then(|n| leaders.get(n).copied().flatten()),
                ms,
            };
            asked.wanted.iter().map(wanted).collect::<Vec<_>>()
        };
        asked.iter().zip(topics).flat_map(of_topic).collect()
    }

    /// What follows from the answers. The partitions that were answered are not suspect any longer.
    fn findings(&mut self, asked: Vec<Asked>, topics: &[TopicReader], answers: &Answers) -> Vec<Finding> {
        self.suspects.clear(answers);
        asked.into_iter().zip(topics).map(|(asked, topic)| finding(topic.source(), asked, answers)).collect()
    }
}

/// Whether the broker lags behind.
fn is_outdated((finding, topic): (&Finding, &TopicReader)) -> bool {
    matches!(finding, Finding::Found(seen) if topic.is_outdated(&seen.described))
}

fn finding(source: &str, asked: Asked, answers: &Answers) -> Finding {
    let described = match asked.described {
        Err(code) => return Finding::Missing(code),
        Ok(Description { described, .. }) => described,
    };
    let (mut logs, mut unanswered) = (Vec::new(), None);
    for partition in asked.wanted {
        match answers.get(&(source.to_owned(), partition)).copied() {
            Some(Ok(ends)) => logs.push((partition, ends)),
            Some(Err(code)) => unanswered = Some(code),
            None => unanswered = Some(RDKafkaErrorCode::UnknownPartition),
        }
    }
    match unanswered {
        Some(code) if logs.is_empty() => Finding::Unanswered(code),
        _ => Finding::Found(Seen { described, logs, unanswered, was: asked.was, at_ms: unix_ms() }),
    }
}
