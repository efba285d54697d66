//! The thread that reads chunks of one cluster's logs, with its own clients, which exist while chunks are requested:
//! one that reads, and one that sends other requests.
//!
//! Partitions are assigned manually, each is read on while its next chunk is requested, and nothing is fetched twice
//! meanwhile. No call blocks on a broker; every failure is retried after a pause while there are requests. A partition
//! with an unresponsive leader does not affect others.

mod ends;
mod slots;
mod unreadable;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use self::ends::ShortEnds;
use self::unreadable::Probing;
use super::draft::Draft;
use super::questions::{LogAnswer, Questions};
use super::reading::{Progress, Reading, Start};
use super::requests::{CALL_AGAIN, TopicPartition};
use super::store::ChunkStore;
use super::sync::PoisonError;
use super::topic::TopicLog;
use super::wakeup::Wakeup;
use super::{Call, Changed};
use crate::config::snapshot::Kafka;
use crate::contain::contain;
use crate::event::{Epoch, Topic};
use crate::hub::Asker;
use crate::kafka::client::{Client, Link};
use crate::kafka::closing::Closing;
use crate::metrics::Metrics;

/// Fetched bytes of all partitions together that are not in a chunk yet.
const FETCHED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The same for one partition: the fetch size, and the prefetch threshold of librdkafka.
const PARTITION_BYTES: usize = 2 * FETCH_BYTES;
/// The fetch size of a partition in bytes; a larger batch is fetched whole.
const FETCH_BYTES: usize = 128 * 1024;
/// The most partitions that are read at a time.
const PARTITIONS_MAX: usize = FETCHED_BYTES_MAX / PARTITION_BYTES;

/// How long a partition keeps its position for requests of the next chunk, before a chunk elsewhere is read.
const LINGER: Duration = Duration::from_millis(20);
/// The longest sleep while there is a client.
const TURN_WAIT: Duration = Duration::from_millis(100);
/// The longest sleep otherwise: a notification ends it.
const IDLE_WAIT: Duration = Duration::from_secs(60);

/// The state of the thread in addition to the client.
pub(super) struct Thread {
    /// The index of its cluster.
    pub(super) cluster: usize,
    pub(super) config: Kafka,
    pub(super) topics: BTreeMap<usize, TopicLog>,
    pub(super) changed: Changed,
    pub(super) store: Arc<ChunkStore>,
    pub(super) wakeup: Arc<Wakeup>,
    pub(super) call: Call,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Thread {
    /// Reads until it is stopped. The client is dropped on this thread, which may take long.
    pub(super) fn run(self) {
        let (stop, wakeup, now) = (self.stop.clone(), self.wakeup.clone(), Instant::now());
        let closing = Closing::default();
        let (paused, down, probes, suspended, short_ends) = Default::default();
        let (remind_at, needed_at) = (now, now);
        let mut work = Work {
            base: self,
            open: None,
            closing,
            probes,
            down_until: None,
            paused,
            down,
            suspended,
            short_ends,
            remind_at,
            needed_at,
        };
        while !stop.load(Ordering::Relaxed) {
            let wait = contain(|| work.turn(Instant::now())).unwrap_or_else(|| work.begin_again(Instant::now()));
            wakeup.wait(wait);
        }
    }

    /// Reads topics as a reload has configured them. What chunks hold that were begun before is dropped by
    /// [`Work::renew`], which the source causes later.
    fn adopt(&mut self) {
        for (number, config) in std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner)) {
            if self.topics.get(&number).is_none_or(|known| known.shape != config.shape) {
                self.topics.insert(number, TopicLog::new(&config, &self.metrics));
            }
        }
    }

    /// Calls sessions: once per writer.
    fn call(&self, mut askers: Vec<Asker>) {
        askers.sort_unstable_by_key(|asker| (asker.writer, asker.session));
        askers.dedup();
        for of_writer in askers.chunk_by(|a, b| a.writer == b.writer) {
            (self.call)(of_writer[0].writer, of_writer.iter().map(|asker| asker.session).collect());
        }
    }

    fn is_refused(&self, topic: usize, now: Instant) -> bool {
        self.topics.get(&topic).is_none_or(|topic| topic.is_refused(now))
    }
}

/// The state while running.
struct Work {
    base: Thread,
    open: Option<Open>,
    /// Previous clients.
    closing: Closing,
    /// Partitions with a chunk that cannot be read, while the cause is determined.
    probes: BTreeMap<TopicPartition, Probing>,
    /// No broker responded: the next request is not sent before.
    down_until: Option<Instant>,
    /// Partitions that are skipped for a while.
    paused: BTreeMap<TopicPartition, Pause>,
    /// Partitions whose leaders do not respond.
    down: BTreeSet<TopicPartition>,
    /// Partitions that gave up their slots because their leaders were silent, and were not read since. If the leader
    /// has responded, the end of the log.
    suspended: BTreeMap<TopicPartition, Option<i64>>,
    short_ends: ShortEnds,
    /// When waiting sessions are checked.
    remind_at: Instant,
    /// When the client was last needed.
    needed_at: Instant,
}

/// A partition that is skipped for a while.
#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    /// Its leader did not respond: it is probed before the partition is read again.
    is_down: bool,
}

/// The clients with their work. The readings refer to the client, and are dropped before it.
struct Open {
    readings: BTreeMap<TopicPartition, Reading>,
    questions: Questions,
    link: Arc<Link>,
    client: Arc<Client>,
}

impl Work {
    /// Does the pending work. Returns how long there will be none without a notification.
    fn turn(&mut self, now: Instant) -> Duration {
        self.remind(now);
        self.renew();
        self.base.adopt();
        if self.base.store.is_empty(self.base.cluster) && self.open.is_none() {
            return IDLE_WAIT;
        }
        self.connect(now);
        self.poll_events(now);
        self.hear(now);
        self.ask_times(now);
        self.take_verdicts(now);
        self.go_on(now);
        self.start_others(now);
        let is_more = self.read(now);
        self.probe(now);
        self.put_away(now);
        match &self.open {
            _ if is_more => Duration::ZERO,
            Some(open) if !open.readings.is_empty() && !self.base.store.is_empty(self.base.cluster) => LINGER,
            _ => TURN_WAIT,
        }
    }

    fn remind(&mut self, now: Instant) {
        if now >= self.remind_at {
            self.remind_at = now + CALL_AGAIN / 4;
            self.base.call(self.base.store.overdue(self.base.cluster, now));
        }
    }

    /// Processes responses that have arrived.
    fn hear(&mut self, now: Instant) {
        let Some(open) = &mut self.open else { return };
        let (logs, (times, descriptions)) = (open.questions.log_answers(), open.questions.time_answers());
        for (since, answer) in descriptions {
            match answer {
                Ok(found) => {
                    self.compare(since.0, found.epoch);
                    self.base.call(self.base.store.publish_description(self.base.cluster, since, found, now));
                    self.up(now);
                }
                Err(error) => self.time_failed(since.0, &error, now),
            }
        }
        for (time, answer) in times {
            match answer {
                Ok(offsets) => {
                    self.compare(time.0, offsets.epoch);
                    self.base.call(self.base.store.publish_time(self.base.cluster, time, offsets, now));
                    self.up(now);
                }
                Err(error) => self.time_failed(time.0, &error, now),
            }
        }
        let mut starts = Vec::new();
        for LogAnswer { partition, draft, log } in logs {
            match log {
                Ok(log) => {
                    self.partition_up(partition, now);
                    self.note_log_end(partition, log.1);
                    starts.extend(draft.and_then(|draft| self.fit(partition, draft, log, now)));
                }
                Err(code) => self.failed(partition, &KafkaError::MetadataFetch(code), now),
            }
        }
        self.start(starts, now);
    }

    /// A broker that describes another topic than the one that is read may lag behind: another one is asked next.
    fn compare(&mut self, topic: usize, epoch: Epoch) {
        let known = self.base.store.epoch(topic);
        if epoch != known && epoch != 0 && known != 0 {
            self.open.iter_mut().for_each(|open| open.questions.ask_any_broker());
        }
    }

    fn ask_times(&mut self, now: Instant) {
        if self.is_down(now) {
            return;
        }
        while let Some(open) = self.open.as_mut().filter(|open| open.questions.has_room_for_times()) {
            let base = &self.base;
            let but = |since| open.questions.is_description_asked(since) || base.is_refused(since.0, now);
            if let Some(since) = base.store.undescribed(base.cluster, but) {
                open.questions.ask_description(since, &base.topics[&since.0].source);
                continue;
            }
            let but = |time| open.questions.is_time_asked(time) || base.is_refused(time.0, now);
            let Some(time) = base.store.time(base.cluster, but) else { return };
            open.questions.ask_time(time, &base.topics[&time.0].source);
        }
    }

    /// Starts the next chunk of readings that have finished one: at their position, or after a while elsewhere.
    fn go_on(&mut self, now: Instant) {
        let is_crowded = !self.others(1, now).is_empty() && self.room() == 0;
        let Some(open) = &mut self.open else { return };
        let (mut elsewhere, mut leaving) = (Vec::new(), Vec::new());
        for (partition, reading) in open.readings.iter_mut().filter(|(_, reading)| reading.is_idle()) {
            let is_tired = reading.is_tired();
            if reading.epoch != self.base.store.epoch(partition.topic) || (is_tired && is_crowded) {
                leaving.push(*partition);
            } else if let Some(job) = self.base.store.job_at(self.base.cluster, *partition, reading.next(), is_tired) {
                reading.go_on(job, now);
            } else if is_tired || reading.is_spent() || now.duration_since(reading.quiet_since) >= LINGER {
                elsewhere.push(*partition);
            }
        }
        // A finished reading, or one that is needed elsewhere, stops fetching at its position.
        elsewhere.retain(|partition| {
            let is_wanted = self.base.store.is_wanted(self.base.cluster, *partition);
            is_wanted || open.readings.get(partition).is_some_and(Reading::is_spent)
        });
        leaving.extend(elsewhere);
        self.stop(&leaving);
    }

    /// Starts reading these chunks: all partitions are assigned at once.
    fn start(&mut self, starts: Vec<(TopicPartition, Start)>, now: Instant) {
        let (mut list, mut failed) = (TopicPartitionList::new(), Vec::new());
        for (partition, start) in starts {
            if let Err(error) = self.prepare(&mut list, partition, start, now) {
                failed.push((partition, error));
            }
        }
        let Some(open) = self.open.as_ref().filter(|_| list.count() > 0) else { return };
        if let Err(error) = open.client.incremental_assign(&list) {
            open.link.error(error.rdkafka_error_code(), &error.to_string());
            // The client's assignment is unknown after an error: recreates the client.
            self.give_up_client();
        }
        failed.into_iter().for_each(|(partition, error)| self.failed(partition, &error, now));
    }

    fn prepare(
        &mut self,
        list: &mut TopicPartitionList,
        partition: TopicPartition,
        start: Start,
        now: Instant,
    ) -> Result<(), KafkaError> {
        let (Some(open), Some(topic)) = (&mut self.open, self.base.topics.get(&partition.topic)) else { return Ok(()) };
        let (place, next) = ((&*topic.source, partition.partition), start.draft.next());
        let reading = Reading::new(&open.client, &self.base.wakeup, place, start, now)?;
        list.add_partition_offset(place.0, place.1, Offset::Offset(next))?;
        open.readings.insert(partition, reading);
        Ok(())
    }

    /// The client stops fetching these partitions.
    fn stop(&mut self, partitions: &[TopicPartition]) {
        let Some(open) = &mut self.open else { return };
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let (Some(_), Some(topic)) = (open.readings.remove(partition), self.base.topics.get(&partition.topic))
            else {
                continue;
            };
            list.add_partition(&topic.source, partition.partition);
        }
        if list.count() > 0
            && let Err(error) = open.client.incremental_unassign(&list)
        {
            open.link.error(error.rdkafka_error_code(), &error.to_string());
            self.give_up_client();
        }
    }

    /// Requests the ends of a log; `draft` continues once they are known.
    fn ask(&mut self, partition: TopicPartition, draft: Option<(Draft, Epoch)>, now: Instant) {
        let (Some(open), Some(source)) = (&mut self.open, source(&self.base.topics, partition)) else { return };
        if let Err(error) = open.questions.ask_log(partition, source, draft) {
            self.failed(partition, &error, now);
        }
    }

    /// Reads available records. Returns whether there are more.
    fn read(&mut self, now: Instant) -> bool {
        let Some(open) = &mut self.open else { return false };
        let (mut is_more, mut heard, mut ended) = (false, Vec::new(), Vec::new());
        for (partition, reading) in &mut open.readings {
            let Some(topic) = self.base.topics.get_mut(&partition.topic) else { continue };
            let quiet_since = reading.quiet_since;
            match reading.read(topic, now) {
                Progress::Waiting => {}
                Progress::More => is_more = true,
                ended_so => ended.push((*partition, reading.epoch, ended_so)),
            }
            if reading.quiet_since != quiet_since {
                heard.push(*partition);
            }
        }
        heard.into_iter().for_each(|partition| self.partition_up(partition, now));
        let mut lost = Vec::new();
        for (partition, epoch, progress) in ended {
            match progress {
                Progress::Done(draft) => self.publish(partition, draft, epoch, now),
                Progress::Lost(draft) => lost.push((partition, (draft, epoch))),
                Progress::Refused(draft, error) => self.refused(partition, draft, &error, now),
                Progress::Waiting | Progress::More => {}
            }
            is_more = true;
        }
        self.stop(&lost.iter().map(|(partition, _)| *partition).collect::<Vec<_>>());
        lost.into_iter().for_each(|(partition, draft)| self.ask(partition, Some(draft), now));
        is_more
    }

    fn publish(&mut self, partition: TopicPartition, draft: Draft, epoch: Epoch, now: Instant) {
        let Some(topic) = self.base.topics.get_mut(&partition.topic) else { return };
        let is_truncated = draft.is_truncated();
        let page = topic.page(draft, partition.partition, epoch);
        self.base.metrics.replay_pages.with_label_values(&["log"]).inc();
        self.base.call(self.base.store.publish(self.base.cluster, partition, page, is_truncated, now));
    }
}

/// The name of a partition's topic in the cluster.
fn source(topics: &BTreeMap<usize, TopicLog>, partition: TopicPartition) -> Option<&Topic> {
    topics.get(&partition.topic).map(|topic| &topic.source)
}
