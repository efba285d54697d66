//! Requests to brokers besides fetches: the first and last offsets of logs, descriptions of topics, and the offsets of
//! times.
//!
//! Nothing here blocks. Requests are sent per partition or per leader, so that an unresponsive broker does not delay
//! the partitions of others.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::draft::Draft;
use super::requests::TopicPartition;
use super::times::Time;
use crate::event::{Epoch, Topic, UNKNOWN_POSITION};
use crate::hub::{OffsetsAt, TopicDescription};
use crate::kafka::ask::{self, DescribedOrNot, Description, Offsets, Question};
use crate::kafka::client::{Client, Isolation};
use crate::kafka::metadata;

/// The timeout of a response.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// The most pending requests for times.
const TIMES_MAX: usize = 64;

/// Pending requests.
pub(super) struct Questions {
    client: Arc<Client>,
    isolation: Isolation,
    logs: BTreeMap<TopicPartition, OfLog>,
    /// The broker that describes topics, once one has responded.
    broker: Option<i32>,
    /// Topics whose description is requested, with the times that wait for it.
    topics: BTreeMap<usize, OfTopic>,
    times: BTreeMap<Time, OfTime>,
}

/// The offsets of a time, with one request per leader: an unresponsive one leaves only its own partitions unknown.
struct OfTime {
    /// The epoch of the topic.
    epoch: Epoch,
    waiting: Vec<Question<Offsets>>,
    /// By partition; [`UNKNOWN_POSITION`] while its leader has not responded.
    found: Vec<i64>,
}

/// The request for the description of a topic: its epoch, and the leaders of its partitions.
struct OfTopic {
    source: Topic,
    asking: Asking,
    waiting: Waiting,
    /// These arrived after the request was sent, and need the next one.
    later: Waiting,
}

/// What waits for the description of a topic.
#[derive(Default)]
struct Waiting {
    /// Whose offsets are requested next.
    times: Vec<Time>,
    /// Whose answer is the description.
    descriptions: Vec<Time>,
}

/// Any broker describes a topic, but the client requires the id of one.
enum Asking {
    Broker(metadata::Asking),
    Description(Question<Vec<DescribedOrNot>>),
}

/// The ends of one log.
struct OfLog {
    /// The chunk that continues once they are known.
    draft: Option<(Draft, Epoch)>,
    start: Question<Offsets>,
    end: Question<Offsets>,
    low: Option<i64>,
}

/// The response about a log: its first offset and the one after its last, or the error.
pub(super) struct LogAnswer {
    pub(super) partition: TopicPartition,
    pub(super) draft: Option<(Draft, Epoch)>,
    pub(super) log: Result<(i64, i64), RDKafkaErrorCode>,
}

/// The response about a time: an offset per partition, [`UNKNOWN_POSITION`] if its leader did not respond, or the
/// error.
pub(super) type TimeAnswer = (Time, Result<OffsetsAt, KafkaError>);

/// The response about a topic, or the error.
pub(super) type DescriptionAnswer = (Time, Result<TopicDescription, KafkaError>);

/// Whether brokers are unreachable, in contrast to an error of this topic.
pub(super) fn is_outage(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    let is_out_of_reach = matches!(code, Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve);
    // A partition without a leader, or with an unresponsive one.
    let is_silent = matches!(code, Code::OperationTimedOut | Code::RequestTimedOut | Code::LeaderNotAvailable);
    is_out_of_reach || is_silent
}

impl Questions {
    pub(super) fn new(client: Arc<Client>, isolation: Isolation) -> Self {
        let (logs, topics, times) = Default::default();
        Self { client, isolation, logs, broker: None, topics, times }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Cancels pending requests.
    pub(super) fn into_client(self) -> Arc<Client> {
        self.client
    }

    pub(super) fn is_asked(&self, partition: TopicPartition) -> bool {
        self.logs.contains_key(&partition)
    }

    /// Requests the ends of a log; the draft is returned with the response.
    pub(super) fn ask_log(
        &mut self,
        partition: TopicPartition,
        source: &Topic,
        draft: Option<(Draft, Epoch)>,
    ) -> Result<(), KafkaError> {
        let ask = |offset| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(source, partition.partition, offset)?;
            Ok::<_, KafkaError>(ask::offsets(&self.client, &list, self.isolation, ANSWER_WAIT))
        };
        // In this order, so that concurrent appends cannot make the log end before it begins.
        let (start, end) = (ask(Offset::Beginning)?, ask(Offset::End)?);
        self.logs.insert(partition, OfLog { draft, start, end, low: None });
        Ok(())
    }

    /// Whichever broker responds first describes topics next.
    pub(super) fn ask_any_broker(&mut self) {
        self.broker = None;
    }

    /// The responses about logs that have arrived.
    pub(super) fn log_answers(&mut self) -> Vec<LogAnswer> {
        let mut answers = Vec::new();
        self.logs.retain(|partition, asked| match asked.answer() {
            None => true,
            Some(log) => {
                answers.push(LogAnswer { partition: *partition, draft: asked.draft.take(), log });
                false
            }
        });
        answers
    }

    pub(super) fn has_room_for_times(&self) -> bool {
        let waiting = self.topics.values().map(|topic| topic.waiting.len() + topic.later.len());
        self.times.len() + waiting.sum::<usize>() < TIMES_MAX
    }

    pub(super) fn is_time_asked(&self, time: Time) -> bool {
        let is_waiting = |topic: &OfTopic| topic.waiting.times.contains(&time) || topic.later.times.contains(&time);
        self.times.contains_key(&time) || self.topics.get(&time.0).is_some_and(is_waiting)
    }

    /// Requests an offset of each partition of a topic, as the topic is described from now on.
    pub(super) fn ask_time(&mut self, time: Time, source: &Topic) {
        self.ask_about(time.0, source, |waiting| waiting.times.push(time));
    }

    pub(super) fn is_description_asked(&self, since: Time) -> bool {
        let has = |waiting: &Waiting| waiting.descriptions.contains(&since);
        self.topics.get(&since.0).is_some_and(|topic| has(&topic.waiting) || has(&topic.later))
    }

    /// Requests the description of a topic, from now on.
    pub(super) fn ask_description(&mut self, since: Time, source: &Topic) {
        self.ask_about(since.0, source, |waiting| waiting.descriptions.push(since));
    }

    fn ask_about(&mut self, topic: usize, source: &Topic, add: impl FnOnce(&mut Waiting)) {
        if let Some(asked) = self.topics.get_mut(&topic) {
            return add(&mut asked.later);
        }
        let mut waiting = Waiting::default();
        add(&mut waiting);
        self.ask_topic(topic, source, waiting);
    }

    fn ask_topic(&mut self, topic: usize, source: &Topic, waiting: Waiting) {
        if waiting.len() == 0 {
            return;
        }
        let asking = match self.broker {
            Some(broker) => Asking::Description(describe(&self.client, broker, source)),
            None => Asking::Broker(metadata::ask(&self.client, source, ANSWER_WAIT)),
        };
        self.topics.insert(topic, OfTopic { source: source.clone(), asking, waiting, later: Waiting::default() });
    }

    /// The responses about times and topics that have arrived.
    pub(super) fn time_answers(&mut self) -> (Vec<TimeAnswer>, Vec<DescriptionAnswer>) {
        let (mut answers, descriptions) = self.take_descriptions();
        self.times.retain(|time, asked| match asked.answer() {
            None => true,
            Some(answer) => {
                answers.push((*time, answer));
                false
            }
        });
        (answers, descriptions)
    }

    /// Requests the offsets of the times whose topics are described now. Returns the times that failed, and the
    /// descriptions.
    fn take_descriptions(&mut self) -> (Vec<TimeAnswer>, Vec<DescriptionAnswer>) {
        let (mut answers, mut descriptions) = (Vec::new(), Vec::new());
        let described: Vec<_> = self
            .topics
            .iter_mut()
            .filter_map(|(topic, asked)| Some((*topic, asked.answer(&self.client, &mut self.broker)?)))
            .collect();
        for (topic, description) in described {
            let Some(OfTopic { source, waiting, later, .. }) = self.topics.remove(&topic) else { continue };
            let answer = description.as_ref().map(Description::summary).map_err(Clone::clone);
            descriptions.extend(waiting.descriptions.into_iter().map(|since| (since, answer.clone())));
            for time in waiting.times {
                let asked =
                    description.as_ref().map_err(Clone::clone).and_then(|found| self.list(time, &source, found));
                answers.extend(asked.err().map(|error| (time, Err(error))));
            }
            self.ask_topic(topic, &source, later);
        }
        (answers, descriptions)
    }

    fn list(&mut self, time: Time, source: &Topic, found: &Description) -> Result<(), KafkaError> {
        let Description { described, leaders } = found;
        let mut lists = BTreeMap::<i32, TopicPartitionList>::new();
        for (partition, leader) in (0..).zip(leaders) {
            if let Some(leader) = leader {
                let list = lists.entry(*leader).or_default();
                list.add_partition_offset(source, partition, Offset::Offset(time.1.max(0)))?;
            }
        }
        let ask = |list: &TopicPartitionList| ask::offsets(&self.client, list, self.isolation, ANSWER_WAIT);
        let (waiting, found) = (lists.values().map(ask).collect(), vec![UNKNOWN_POSITION; leaders.len()]);
        self.times.insert(time, OfTime { epoch: described.epoch, waiting, found });
        Ok(())
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.times.len() + self.descriptions.len()
    }
}

impl OfTopic {
    /// The description once it has arrived, or the error; one without partitions if the topic does not exist.
    fn answer(&mut self, client: &Arc<Client>, broker: &mut Option<i32>) -> Option<Result<Description, KafkaError>> {
        let answer = match &self.asking {
            Asking::Broker(asking) => match asking.answer()? {
                Err(error) => return Some(Err(error)),
                Ok(id) => {
                    *broker = Some(id);
                    self.asking = Asking::Description(describe(client, id, &self.source));
                    return None;
                }
            },
            Asking::Description(question) => question.answer()?,
        };
        let missing = Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        Some(match answer.map(|topics| topics.into_iter().next().unwrap_or(missing)) {
            Ok(Ok(description)) => Ok(description),
            Ok(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => Ok(Description::missing()),
            Ok(Err(code)) => Err(KafkaError::MetadataFetch(code)),
            Err(error) => {
                // Another one may respond.
                *broker = None;
                Err(error)
            }
        })
    }
}

fn describe(client: &Arc<Client>, broker: i32, source: &Topic) -> Question<Vec<DescribedOrNot>> {
    ask::topics(client, broker, slice::from_ref(source), ANSWER_WAIT)
}

impl OfTime {
    /// The offsets, once every leader has responded or timed out, or an error other than an outage.
    fn answer(&mut self) -> Option<Result<OffsetsAt, KafkaError>> {
        let Self { epoch, waiting, found } = self;
        let mut failed = None;
        waiting.retain(|question| match question.answer() {
            None => true,
            Some(answer) => {
                failed = failed.take().or_else(|| take_offsets(found, answer).err());
                false
            }
        });
        match failed {
            Some(error) => Some(Err(error)),
            None => waiting.is_empty().then(|| Ok(OffsetsAt { epoch: *epoch, offsets: found.as_slice().into() })),
        }
    }
}

/// Processes the response of one leader. An outage leaves its partitions unknown.
fn take_offsets(found: &mut [i64], answer: Result<Offsets, KafkaError>) -> Result<(), KafkaError> {
    let offsets = match answer {
        Ok(offsets) => offsets,
        Err(error) if error.rdkafka_error_code().is_some_and(is_outage) => return Ok(()),
        Err(error) => return Err(error),
    };
    for ((_, partition), offset) in offsets {
        let place = usize::try_from(partition).ok().and_then(|n| found.get_mut(n));
        match (place, offset) {
            (Some(place), Ok(offset)) => *place = offset,
            (_, Err(code)) if !is_outage(code) => return Err(KafkaError::MetadataFetch(code)),
            (None, Ok(_)) | (_, Err(_)) => {}
        }
    }
    Ok(())
}

impl OfLog {
    /// The log's ends once both are known, or the error.
    fn answer(&mut self) -> Option<Result<(i64, i64), RDKafkaErrorCode>> {
        let low = match self.low {
            Some(low) => low,
            None => match only(self.start.answer()?) {
                Ok(low) => low,
                Err(code) => return Some(Err(code)),
            },
        };
        self.low = Some(low);
        Some(only(self.end.answer()?).map(|high| (low, high)))
    }
}

/// The requested offset.
fn only(answer: Result<Offsets, KafkaError>) -> Result<i64, RDKafkaErrorCode> {
    let unknown = RDKafkaErrorCode::UnknownPartition;
    let offsets = answer.map_err(|error| error.rdkafka_error_code().unwrap_or(unknown))?;
    offsets.into_values().next().unwrap_or(Err(unknown))
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;
