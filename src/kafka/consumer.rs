//! The thread that reads Kafka: it warms the window, then passes on one batch per poll, and keeps the client usable.
//!
//! It assigns all partitions itself, from positions that it keeps: it joins no group and commits nothing. It retries
//! whatever fails without end; start-up and the rest of the process never wait for it. [`super::survey`] finds what is
//! to be read; no request to a broker delays reading.

mod held;
mod holes;
mod observe;
mod reconfigure;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use rustc_hash::FxHashMap;

use super::client::{Client, Context, Link, connect, connect_for_questions};
use super::closing::Closing;
use super::desired::Desired;
use super::headers::headers;
use super::message::{record, unix_ms};
use super::positions::Positions;
use super::probe::Probe;
use super::receive::Received;
use super::retry::Retry;
use super::survey::{Finding, Survey};
use super::topic::{Assign, TopicReader};
use super::warm;
use super::watch::{Key, Watch};
use crate::config::snapshot::Kafka;
use crate::event::{Entry, Epoch, Feed, Topic};
use crate::metrics::Metrics;
use crate::source::Sink;
use crate::traces::Tracer;

/// The timeout of a poll for the first record of a batch, which limits the delay of a stop.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// The same while a request is pending, which limits the delay of its response.
const POLL_WAIT_ASKING: Duration = Duration::from_millis(20);
/// The most records per batch.
const BATCH_RECORDS_MAX: usize = 1000;
/// A batch is complete once the values of its records have this many bytes together.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// The backoff of creating the first client.
const CONNECT_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The backoff of recreating the client.
const RENEWAL_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The state of the thread in addition to the client.
pub(super) struct Reader {
    pub(super) config: Kafka,
    pub(super) sink: Sink,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tracer: Option<Tracer>,
    pub(super) link: Arc<Link>,
    pub(super) warm: Arc<AtomicBool>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) desired: Desired,
    /// The deadline of the first warm-up; `None` once it has been announced.
    pub(super) settle_at: Option<Instant>,
}

impl Reader {
    /// Reads until it is stopped. The client is dropped on this thread, which may take long.
    pub(super) fn run(mut self) {
        let Some(clients) = self.first_clients() else { return };
        let stop = self.stop.clone();
        let mut reading = Reading::new(self, clients);
        while !stop.load(Ordering::Relaxed) {
            reading.step();
        }
    }

    fn first_clients(&mut self) -> Option<Clients> {
        let mut retry = Retry::new(CONNECT_PAUSES);
        while !self.stop.load(Ordering::Relaxed) {
            self.settle_if_due();
            if !retry.is_due() {
                thread::sleep(POLL_WAIT);
                continue;
            }
            if let Some(clients) = self.connect() {
                return Some(clients);
            }
            retry.pause();
        }
        None
    }

    fn connect(&self) -> Option<Clients> {
        let context = Context::for_questions(self.link.clone(), None);
        let clients = connect(&self.config, &[], Context::new(self.link.clone()))
            .and_then(|reading| Ok((reading, connect_for_questions(&self.config, context)?)));
        match clients {
            Ok((reading, asking)) => Some(Clients { reading: Arc::new(reading), asking: Arc::new(asking) }),
            Err(error) => {
                self.link.error(error.code(), &error.to_string());
                None
            }
        }
    }

    /// Announces that waiting is over: streams continue without the topics that were not found.
    fn settle(&mut self) {
        self.settle_at = None;
        (self.sink)(Feed::Live { topics: self.config.topics.iter().map(|topic| topic.name.clone()).collect() });
        self.warm.store(true, Ordering::Relaxed);
    }

    /// The time limit of the first warm-up is over, and no topic was found.
    fn settle_if_due(&mut self) {
        if self.settle_at.is_some_and(|at| Instant::now() >= at) {
            self.settle();
        }
    }
}

/// The clients of a cluster: on a connection that fetches, a request would wait behind each long-polling fetch.
struct Clients {
    reading: Arc<Client>,
    asking: Arc<Client>,
}

/// The state while reading.
pub(super) struct Reading {
    base: Reader,
    client: Arc<Client>,
    /// The client for the survey's requests.
    asking: Arc<Client>,
    topics: Vec<TopicReader>,
    /// By the topic's name in the cluster.
    index: FxHashMap<Topic, usize>,
    survey: Survey,
    /// The deadline of the current warm-up.
    warm_until: Option<Instant>,
    /// The backoff of recreating the client.
    renewal: Retry,
    needs_renewal: bool,
    /// Previous clients.
    closing: Closing,
    watch: Watch,
    /// The current probe, with the suspects and their topics' epochs at its start.
    probe: Option<(Probe, Vec<(Key, Epoch)>)>,
}

impl Reading {
    fn new(base: Reader, clients: Clients) -> Self {
        let topics: Vec<_> = base
            .config
            .topics
            .iter()
            .map(|topic| TopicReader::new(topic.clone(), base.config.finds_times, &base.metrics))
            .collect();
        let survey = Survey::new();
        let index = topics.iter().enumerate().map(|(index, topic)| (topic.source().clone(), index)).collect();
        Self {
            base,
            client: clients.reading,
            asking: clients.asking,
            topics,
            index,
            survey,
            warm_until: None,
            renewal: Retry::new(RENEWAL_PAUSES),
            needs_renewal: false,
            closing: Closing::default(),
            watch: Watch::default(),
            probe: None,
        }
    }

    fn step(&mut self) {
        self.reconfigure();
        self.survey();
        self.release();
        self.drain();
        self.finish_warm_up();
        if self.warm_until.is_none() {
            self.base.settle_if_due();
        }
        self.observe();
        self.take_verdicts();
        self.renew_if_needed();
    }

    /// Advances the survey, as far as responses have arrived.
    fn survey(&mut self) {
        // Its events are ignored, but must be polled.
        while self.asking.poll(Duration::ZERO).is_some() {}
        match self.survey.step(&self.asking, &self.topics) {
            None => {}
            Some(Ok(findings)) => self.take_in(&findings),
            Some(Err(error)) => {
                let reason = error.to_string();
                self.base.link.error(error.rdkafka_error_code(), &reason);
                if !self.base.link.is_up() {
                    self.base.link.down(&reason);
                }
            }
        }
    }

    /// Reports changes, and reads the current topics.
    fn take_in(&mut self, findings: &[Finding]) {
        self.base.link.up();
        let positions = Positions::of(&self.client).unwrap_or_default();
        let (mut assign, mut is_open) = (Assign::AsItIs, false);
        for (index, finding) in findings.iter().enumerate() {
            let topic = &mut self.topics[index];
            match finding {
                Finding::Missing(code) => {
                    // Another error does not show that the topic is created later.
                    if *code == RDKafkaErrorCode::UnknownTopicOrPartition {
                        topic.note_missing();
                    }
                    self.base.link.missing_topic(topic.source(), *code);
                }
                Finding::Unanswered(code) => {
                    is_open = true;
                    self.base.link.error(Some(*code), "where a log begins and ends is not known");
                }
                Finding::Found(seen) => {
                    if let Some(code) = seen.unanswered {
                        is_open = true;
                        self.base.link.error(Some(code), "where a log begins and ends is not known");
                    }
                    let source = topic.source().clone();
                    let change = topic.take_in(seen, |partition| positions.get(&source, partition));
                    assign = assign.max(change.assign);
                    self.hand_on(change.gaps);
                    change.announcement.into_iter().for_each(&*self.base.sink);
                }
            }
        }
        self.follow(assign);
        let is_warming = self.topics.iter().any(TopicReader::is_warming);
        if is_warming {
            self.warm_until.get_or_insert_with(|| Instant::now() + self.base.config.warm_up);
        } else if self.base.settle_at.is_some() && !is_open {
            // Kafka responds and there is nothing to warm: no topic exists.
            self.base.settle();
        }
    }

    fn follow(&mut self, assign: Assign) {
        match assign {
            Assign::AsItIs => {}
            Assign::Again => self.assign(),
            Assign::OnNewClient if self.renew() => {}
            Assign::OnNewClient => {
                // The old client must not continue at its position until there is a new one.
                self.needs_renewal = true;
                self.assign();
            }
        }
    }

    /// Assigns all partitions, each at its next offset. The client fetches prefetched records again; this happens only
    /// when topics or partitions appear, or a position was lost.
    fn assign(&mut self) {
        let mut list = TopicPartitionList::new();
        for topic in &self.topics {
            for (partition, next) in topic.reads() {
                if let Err(error) = list.add_partition_offset(topic.source(), partition, Offset::Offset(next)) {
                    self.base.link.error(error.rdkafka_error_code(), &error.to_string());
                }
            }
        }
        if let Err(error) = self.client.assign(&list) {
            self.base.link.error(error.rdkafka_error_code(), &error.to_string());
            self.needs_renewal = true;
        }
    }

    /// Recreates the client if it failed or was rejected: credentials are read again.
    fn renew_if_needed(&mut self) {
        self.needs_renewal |= self.client.context().refused.swap(false, Ordering::Relaxed);
        if self.needs_renewal && self.renewal.is_due() {
            self.renewal.pause();
            self.renew();
        }
    }

    /// Continues with a new client without any state. Returns whether there is one.
    fn renew(&mut self) -> bool {
        if !self.closing.has_room() {
            return false;
        }
        let Some(Clients { reading, asking }) = self.base.connect() else { return false };
        tracing::info!(cluster = &*self.base.config.cluster, "the Kafka client is recreated");
        self.survey.start_over();
        self.needs_renewal = false;
        let old = std::mem::replace(&mut self.client, reading);
        self.closing.close(std::mem::replace(&mut self.asking, asking));
        self.assign();
        self.closing.close(old);
        true
    }

    /// Polls up to one batch, and passes it on.
    fn drain(&mut self) {
        let is_asking = self.survey.awaits_answer() || self.holds();
        let mut wait = if is_asking { POLL_WAIT_ASKING } else { POLL_WAIT };
        let (mut batch, mut bytes, mut sampled, mut held) = (Vec::new(), 0, Vec::new(), Vec::new());
        for _ in 0..BATCH_RECORDS_MAX {
            match self.client.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    if let Some(index) = self.index.get(message.topic()) {
                        let headers = headers(&message);
                        let (topic, mut record) = (&mut self.topics[*index], record(&message, &headers));
                        let tracer = self.base.tracer.as_ref();
                        let received = tracer.and_then(|tracer| Received::begin(tracer, &mut record, topic));
                        let first = batch.len();
                        if topic.take(&record, &mut batch) {
                            held.push((*index, record.partition));
                        }
                        sampled.extend(received.and_then(|received| received.became(batch.get(first))));
                    }
                }
                // The context has counted and logged it.
                Some(Err(error)) if lost_position(&error) => self.survey.position_lost(),
                Some(Err(KafkaError::MessageConsumptionFatal(_))) => self.needs_renewal = true,
                Some(Err(_)) => self.survey.hasten(),
            }
            if bytes >= BATCH_BYTES_MAX {
                break;
            }
            wait = Duration::ZERO;
        }
        self.pass_holes(&mut batch);
        self.hand_on(batch);
        self.stop_reading(&held);
        sampled.into_iter().for_each(Received::handed_on);
    }

    fn hand_on(&mut self, batch: Vec<Entry>) {
        if !batch.is_empty() {
            (self.base.sink)(Feed::Batch(batch.into()));
        }
    }

    /// Passes on the retained entries, once all topics in warm-up have reached the end of their logs, or at the
    /// deadline.
    fn finish_warm_up(&mut self) {
        let Some(until) = self.warm_until else { return };
        if Instant::now() < until && !self.has_caught_up() {
            return;
        }
        self.warm_until = None;
        self.pass_all();
        let (mut warmed, mut holes) = (Vec::new(), Vec::new());
        for topic in &mut self.topics {
            if let Some((assigned, warm, behind)) = topic.finish_warm_up(unix_ms()) {
                (self.base.sink)(assigned);
                warmed.push(warm);
                holes.extend(behind);
            }
        }
        let mut entries = warm::merge(warmed);
        entries.extend(holes);
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
}

fn lost_position(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::LogTruncation))
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
