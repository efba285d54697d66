//! The thread that reads Kafka: it finds the topics, warms the window, then hands on one batch per drain.
//!
//! All partitions are assigned by hand, from positions this thread keeps: no group is joined, nothing is committed.
//! Whatever fails is tried again for ever; start-up and the rest of the process never wait for it.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::Message;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::Offset;
use rustc_hash::FxHashMap;

use super::client::{Client, Context, Link, Statistics, connect};
use super::cluster::{Positions, logs, partition_count};
use super::decode::{Header, Record};
use super::headers::headers;
use super::topic::{Mended, TopicReader};
use super::{Sink, warm};
use crate::config::snapshot::Kafka;
use crate::event::{Entry, Feed, Topic};
use crate::metrics::Metrics;

/// How long a poll waits for the first record of a batch: the longest a stop goes unseen.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How many records are polled for one batch.
const BATCH_RECORDS_MAX: usize = 1000;
/// A batch is handed on once its records' values have this many bytes together.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// The pauses between attempts at anything: doubled from the first to the second.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Everything the thread owns beside the client.
pub(super) struct Reader {
    pub(super) config: Kafka,
    pub(super) sink: Sink,
    pub(super) metrics: Arc<Metrics>,
    pub(super) link: Arc<Link>,
    pub(super) warm: Arc<AtomicBool>,
    pub(super) stop: Arc<AtomicBool>,
    /// When nobody should wait for the topics any longer; nothing once that was said.
    pub(super) settle_at: Option<Instant>,
}

impl Reader {
    /// Reads until told to stop. The client is dropped on this thread, which may take long.
    pub(super) fn run(mut self) {
        let Some(client) = self.connect() else { return };
        let stop = self.stop.clone();
        let mut reading = Reading::new(self, client);
        while !stop.load(Ordering::Relaxed) {
            reading.step();
        }
    }

    fn connect(&mut self) -> Option<Client> {
        let mut retry = Retry::default();
        while !self.stop.load(Ordering::Relaxed) {
            self.settle_if_due();
            if !retry.is_due() {
                thread::sleep(POLL_WAIT);
                continue;
            }
            let context = Context { link: self.link.clone(), statistics: None.into() };
            match connect(&self.config, &[], context) {
                Ok(client) => return Some(client),
                Err(error) => self.link.error(error.rdkafka_error_code(), &error.to_string()),
            }
            retry.pause();
        }
        None
    }

    /// Says that there is no more to wait for: streams go on without the topics that were not found.
    fn settle(&mut self) {
        self.settle_at = None;
        (self.sink)(Feed::Live { topics: self.config.topics.iter().map(|topic| topic.name.clone()).collect() });
        self.warm.store(true, Ordering::Relaxed);
    }

    /// The time for the first warm-up is over, and no topic was found.
    fn settle_if_due(&mut self) {
        if self.settle_at.is_some_and(|at| Instant::now() >= at) {
            self.settle();
        }
    }
}

/// The reader at work.
struct Reading {
    base: Reader,
    client: Client,
    topics: Vec<TopicReader>,
    /// By what the brokers call them.
    index: FxHashMap<Topic, usize>,
    /// When the warm-up under way ends at the latest.
    warm_until: Option<Instant>,
    /// When absent topics are looked for.
    look: Retry,
    /// When positions are compared with the log: set while a position is lost.
    mend: Option<Retry>,
}

impl Reading {
    fn new(base: Reader, client: Client) -> Self {
        let topics: Vec<_> =
            base.config.topics.iter().map(|topic| TopicReader::new(topic.clone(), &base.metrics)).collect();
        let index = topics.iter().enumerate().map(|(index, topic)| (topic.source().clone(), index)).collect();
        Self { base, client, topics, index, warm_until: None, look: Retry::default(), mend: None }
    }

    fn step(&mut self) {
        self.look_for_topics();
        self.drain();
        self.mend_positions();
        self.finish_warm_up();
        if self.warm_until.is_none() {
            self.base.settle_if_due();
        }
        self.observe();
    }

    /// Joins the topics that are there by now.
    fn look_for_topics(&mut self) {
        if !self.look.is_due() || !self.topics.iter().any(TopicReader::is_absent) {
            return;
        }
        let (mut joined, mut answered) = (false, true);
        for index in 0..self.topics.len() {
            if !self.topics[index].is_absent() {
                continue;
            }
            match self.join(index) {
                Ok(found) => joined |= found,
                Err(error) => {
                    self.failed(&error);
                    answered = false;
                    break;
                }
            }
        }
        if joined {
            self.assign();
            self.warm_until.get_or_insert_with(|| Instant::now() + self.base.config.warm_up);
        } else if answered && self.base.settle_at.is_some() && !self.topics.iter().any(TopicReader::is_warming) {
            // Kafka answers and has nothing to warm: none of the topics is there.
            self.base.settle();
        }
        self.look.pause();
    }

    /// Whether the topic was found. Fails where no broker answered.
    fn join(&mut self, index: usize) -> Result<bool, KafkaError> {
        let source = self.topics[index].source().clone();
        let answer = partition_count(&self.client, &source)?;
        self.base.link.up();
        let count = match answer {
            Ok(count) => count,
            Err(code) => {
                self.base.link.missing_topic(&source, code);
                return Ok(false);
            }
        };
        let logs = logs(&self.client, &source, 0..count)?;
        self.topics[index].join(&logs);
        tracing::info!(topic = &**self.topics[index].name(), partitions = count, "topic found");
        Ok(true)
    }

    /// Assigns everything, each partition from where it is to be read next. What the client had fetched beyond is
    /// fetched again; this happens when topics or partitions appear or a position was lost, not in between.
    fn assign(&mut self) {
        let mut list = TopicPartitionList::new();
        for topic in &self.topics {
            for (partition, next) in (0..).zip(topic.next()) {
                if let Err(error) = list.add_partition_offset(topic.source(), partition, Offset::Offset(next)) {
                    self.base.link.error(error.rdkafka_error_code(), &error.to_string());
                }
            }
        }
        if let Err(error) = self.client.assign(&list) {
            self.base.link.error(error.rdkafka_error_code(), &error.to_string());
            self.mend.get_or_insert_default().pause();
        }
    }

    /// Takes what is there, up to a batch, and hands it on.
    fn drain(&mut self) {
        let (mut batch, mut bytes, mut wait) = (Vec::new(), 0, POLL_WAIT);
        for _ in 0..BATCH_RECORDS_MAX {
            match self.client.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    if let Some(index) = self.index.get(message.topic()) {
                        let headers = headers(&message);
                        self.topics[*index].take(&record(&message, &headers), &mut batch);
                    }
                }
                // Counted and logged by the context already.
                Some(Err(error)) if lost_position(&error) => {
                    self.mend.get_or_insert_default();
                }
                Some(Err(_)) => {}
            }
            if bytes >= BATCH_BYTES_MAX {
                break;
            }
            wait = Duration::ZERO;
        }
        self.hand_on(batch);
    }

    fn hand_on(&mut self, batch: Vec<Entry>) {
        if !batch.is_empty() {
            (self.base.sink)(Feed::Batch(batch.into()));
        }
    }

    /// Finds the partitions whose position lies outside of the log, tells the gaps, and reads on where it can.
    ///
    /// The client does not say which partitions they are, and leaves them until they are assigned again.
    fn mend_positions(&mut self) {
        let Some(mut retry) = self.mend.take_if(|retry| retry.is_due()) else { return };
        if let Err(error) = self.try_mend() {
            self.failed(&error);
            retry.pause();
            self.mend = Some(retry);
        }
    }

    fn try_mend(&mut self) -> Result<(), KafkaError> {
        // All questions first: nothing is told twice where one of them fails.
        let logs = self.topics.iter().map(|topic| self.logs_of(topic)).collect::<Result<Vec<_>, _>>()?;
        let positions = Positions::of(&self.client)?;
        for (index, logs) in logs.iter().enumerate() {
            match logs {
                Some(logs) => self.mend_topic(index, logs, &positions),
                None => self.leave(index),
            }
        }
        self.assign();
        Ok(())
    }

    /// The logs of a topic's partitions; nothing where it has fewer of them than before, or is gone.
    fn logs_of(&self, topic: &TopicReader) -> Result<Option<Vec<(i64, i64)>>, KafkaError> {
        if topic.is_absent() {
            return Ok(Some(Vec::new()));
        }
        let have = partition_ids_end(topic);
        match partition_count(&self.client, topic.source())? {
            Ok(count) if count >= have => logs(&self.client, topic.source(), 0..have).map(Some),
            _ => Ok(None),
        }
    }

    /// Looks for the topic anew, at once.
    fn leave(&mut self, index: usize) {
        self.topics[index].leave();
        self.look = Retry::default();
    }

    fn mend_topic(&mut self, index: usize, logs: &[(i64, i64)], positions: &Positions) {
        let topic = &mut self.topics[index];
        let (mut gaps, mut replaced) = (Vec::new(), false);
        for (id, (low, high)) in (0..).zip(logs) {
            match topic.mend(id, *low, *high, positions.get(topic.source(), id)) {
                Mended::Sound => {}
                Mended::Skipped(gap) => gaps.push(gap),
                Mended::Replaced(Some(gap)) => {
                    gaps.push(gap);
                    replaced = true;
                }
                Mended::Replaced(None) => return self.leave(index),
            }
        }
        if !gaps.is_empty() {
            tracing::warn!(topic = &**topic.name(), ?gaps, "the log does not hold what was to be read next");
        }
        let announcement = topic.announcement().filter(|_| replaced);
        self.hand_on(gaps);
        if let Some(announcement) = announcement {
            (self.base.sink)(announcement);
        }
    }

    /// Hands on what was kept back, once all topics being warmed are at the end of their logs or time is up.
    fn finish_warm_up(&mut self) {
        let Some(until) = self.warm_until else { return };
        if Instant::now() < until && !self.has_caught_up() {
            return;
        }
        self.warm_until = None;
        let mut warmed = Vec::new();
        for topic in &mut self.topics {
            if let Some((assigned, warm)) = topic.finish_warm_up() {
                (self.base.sink)(assigned);
                warmed.push(warm);
            }
        }
        let entries = warm::merge(warmed);
        tracing::info!(entries = entries.len(), "replay window warmed");
        for batch in entries.chunks(BATCH_RECORDS_MAX) {
            (self.base.sink)(Feed::Batch(batch.into()));
        }
        self.base.settle();
    }

    fn has_caught_up(&self) -> bool {
        let mut warming = self.topics.iter().filter(|topic| topic.is_warming());
        let Ok(positions) = Positions::of(&self.client) else { return false };
        warming.all(|topic| topic.has_caught_up(|partition| positions.get(topic.source(), partition)))
    }

    /// Looks at the client's statistics, where there are new ones: connection, lag, end of logs, added partitions.
    fn observe(&mut self) {
        let statistics = self.client.context().statistics.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(statistics) = statistics else { return };
        if statistics.connected() {
            if !self.base.link.is_up() {
                self.base.link.up();
                self.look = Retry::default();
            }
        } else if self.base.link.is_up() {
            self.base.link.down("no connection to a broker");
        }
        let mut grown = false;
        for index in 0..self.topics.len() {
            self.observe_topic(index, &statistics);
            match self.grow(index, &statistics) {
                Ok(added) => grown |= added,
                Err(error) => self.failed(&error),
            }
        }
        if grown {
            self.assign();
        }
    }

    fn observe_topic(&mut self, index: usize, statistics: &Statistics) {
        let topic = &mut self.topics[index];
        let next: Vec<_> = topic.next().collect();
        for (id, next) in (0..).zip(next) {
            let Some(partition) = statistics.partition(topic.source(), id) else { continue };
            if let Some(lag) = partition.lag(next) {
                let label = id.to_string();
                self.base.metrics.consumer_lag.with_label_values(&[&**topic.name(), label.as_str()]).set(lag);
            }
            if partition.reached_end() {
                topic.reached_end(usize::try_from(id).unwrap_or(usize::MAX));
            }
        }
    }

    /// Whether partitions were added.
    fn grow(&mut self, index: usize, statistics: &Statistics) -> Result<bool, KafkaError> {
        let topic = &self.topics[index];
        let (have, found) = (partition_ids_end(topic), statistics.partitions(topic.source()));
        let found = i32::try_from(found).unwrap_or(i32::MAX);
        if topic.is_absent() || found <= have {
            return Ok(false);
        }
        let logs = logs(&self.client, topic.source(), have..found)?;
        let topic = &mut self.topics[index];
        topic.grow(&logs);
        tracing::info!(topic = &**topic.name(), partitions = found, "partitions were added");
        if let Some(announcement) = topic.announcement() {
            (self.base.sink)(announcement);
        }
        Ok(true)
    }

    /// A question to the brokers was not answered.
    fn failed(&self, error: &KafkaError) {
        let reason = error.to_string();
        self.base.link.error(error.rdkafka_error_code(), &reason);
        if !self.base.link.is_up() {
            self.base.link.down(&reason);
        }
    }
}

/// When something is tried next.
#[derive(Debug, Default)]
struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    fn is_due(&self) -> bool {
        self.at.is_none_or(|at| Instant::now() >= at)
    }

    fn pause(&mut self) {
        let (first, longest) = RETRY_PAUSES;
        self.pause = (2 * self.pause).clamp(first, longest);
        self.at = Some(Instant::now() + self.pause);
    }
}

fn lost_position(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation))
}

fn partition_ids_end(topic: &TopicReader) -> i32 {
    i32::try_from(topic.next().len()).unwrap_or(i32::MAX)
}

fn record<'a>(message: &'a BorrowedMessage<'_>, headers: &'a [Header<'a>]) -> Record<'a> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key(),
        headers,
        value: message.payload(),
        received: Instant::now(),
        received_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
    }
}
