//! The thread that reads pages of one cluster's logs, on a client of its own that is there while pages are asked for.
//!
//! Partitions are assigned by hand, each is read on as long as its next page is wanted, and nothing is fetched twice
//! while it is. Questions to the brokers block the thread, at most [`QUERY_WAIT`] each; whatever fails is tried again,
//! after a pause, as long as somebody asks.

mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use super::Call;
use super::bell::Bell;
use super::desk::{Desk, Job};
use super::draft::{Draft, Fit};
use super::questions::{QUERY_WAIT, offsets_at};
use super::reading::{Progress, Reading};
use super::requests::{CALL_AGAIN, TopicPartition};
use super::topic::TopicLog;
use crate::config::snapshot::Kafka;
use crate::event::Epoch;
use crate::hub::Asker;
use crate::kafka::client::{Client, Link};
use crate::kafka::closing::Closing;
use crate::metrics::Metrics;

/// How many partitions are read at a time.
const PARTITIONS_MAX: usize = 8;
/// How many times are looked up before it is the pages' turn.
const TIMES_PER_TURN: usize = 16;

/// How long a partition stays where it is for whoever wants the next page, before a page elsewhere is read.
const LINGER: Duration = Duration::from_millis(20);
/// After how long without a record the brokers are asked whether they are there, and how often again.
const PROBE_AFTER: Duration = Duration::from_secs(2);
/// The longest sleep while there is a client.
const TURN_WAIT: Duration = Duration::from_millis(500);
/// The longest sleep else: the bell ends it.
const IDLE_WAIT: Duration = Duration::from_secs(60);

/// Everything the thread owns beside the client.
pub(super) struct Thread {
    /// Its number among the clusters.
    pub(super) cluster: usize,
    pub(super) config: Kafka,
    pub(super) topics: BTreeMap<usize, TopicLog>,
    pub(super) desk: Arc<Desk>,
    pub(super) bell: Arc<Bell>,
    pub(super) call: Call,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Thread {
    /// Reads until told to stop. The client is dropped on this thread, which may take long.
    pub(super) fn run(self) {
        let (stop, bell, now) = (self.stop.clone(), self.bell.clone(), Instant::now());
        let closing = Closing::default();
        let mut work = Work { base: self, open: None, closing, down_until: None, remind_at: now, needed_at: now };
        while !stop.load(Ordering::Relaxed) {
            let wait = work.turn(Instant::now());
            bell.wait(wait);
        }
    }

    /// Calls those who asked: one call for all of a writer.
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

/// The thread at work.
struct Work {
    base: Thread,
    open: Option<Open>,
    /// Clients of before.
    closing: Closing,
    /// No broker answered: nobody is asked before.
    down_until: Option<Instant>,
    /// When those who wait are looked at.
    remind_at: Instant,
    /// When the client was needed last.
    needed_at: Instant,
}

/// A client, and what it reads. The readings hold the client, and are dropped before it.
struct Open {
    readings: BTreeMap<TopicPartition, Reading>,
    /// When the brokers are asked, at the earliest, whether they are there.
    probe_at: Instant,
    link: Arc<Link>,
    client: Arc<Client>,
}

impl Work {
    /// Does what there is to do; gives how long there will be nothing unless the bell rings.
    fn turn(&mut self, now: Instant) -> Duration {
        self.remind(now);
        self.renew();
        if self.base.desk.is_empty(self.base.cluster) && self.open.is_none() {
            return IDLE_WAIT;
        }
        self.connect(now);
        self.poll_events(now);
        self.answer_times(now);
        self.go_on(now);
        self.start_others(now);
        let is_more = self.read(now);
        self.probe(now);
        self.put_away(now);
        match &self.open {
            _ if is_more => Duration::ZERO,
            Some(open) if !open.readings.is_empty() && !self.base.desk.is_empty(self.base.cluster) => LINGER,
            _ => TURN_WAIT,
        }
    }

    fn remind(&mut self, now: Instant) {
        if now >= self.remind_at {
            self.remind_at = now + CALL_AGAIN / 4;
            self.base.call(self.base.desk.overdue(self.base.cluster, now));
        }
    }

    fn answer_times(&mut self, now: Instant) {
        for _ in 0..TIMES_PER_TURN {
            let Some(open) = self.open.as_ref().filter(|_| !self.is_down(now)) else { return };
            let base = &self.base;
            let Some(time) = base.desk.time(base.cluster, |topic| base.is_refused(topic, now)) else { return };
            match offsets_at(&open.client, &base.topics[&time.0].source, time) {
                Ok(offsets) => {
                    base.call(base.desk.publish_time(base.cluster, time, offsets, now));
                    self.up(now);
                }
                Err(error) => self.failed(time.0, &error, now),
            }
        }
    }

    /// Gives those that finished a page the next one: where they stand, or after a while elsewhere.
    fn go_on(&mut self, now: Instant) {
        let is_crowded = self.is_crowded(now);
        let Some(open) = &mut self.open else { return };
        let (mut elsewhere, mut leaving) = (Vec::new(), Vec::new());
        for (partition, reading) in open.readings.iter_mut().filter(|(_, reading)| reading.is_idle()) {
            let is_tired = reading.is_tired();
            if reading.epoch != self.base.desk.epoch(partition.topic) || (is_tired && is_crowded) {
                leaving.push(*partition);
            } else if let Some(job) = self.base.desk.job_at(self.base.cluster, *partition, reading.next(), is_tired) {
                reading.go_on(job, now);
            } else if is_tired || now.duration_since(reading.quiet_since) >= LINGER {
                elsewhere.push(*partition);
            }
        }
        leaving.into_iter().for_each(|partition| self.stop(partition));
        for partition in elsewhere {
            if !self.is_down(now) {
                self.start_oldest(partition, now);
            }
        }
    }

    /// Whether a partition is asked for that there is no room for.
    fn is_crowded(&self, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| open.readings.len() >= PARTITIONS_MAX) && self.other(now).is_some()
    }

    /// The partition that is not read and was asked for before the others.
    fn other(&self, now: Instant) -> Option<TopicPartition> {
        let (base, open) = (&self.base, self.open.as_ref()?);
        let but = |asked: TopicPartition| open.readings.contains_key(&asked) || base.is_refused(asked.topic, now);
        base.desk.oldest(base.cluster, but).map(|(partition, _)| partition)
    }

    /// Reads partitions that are not read yet, as far as there is room.
    fn start_others(&mut self, now: Instant) {
        for _ in 0..PARTITIONS_MAX {
            if self.is_down(now) {
                return;
            }
            let Some(partition) = self.other(now) else { return };
            if self.is_crowded(now) && !self.make_room(now) {
                return;
            }
            self.start_oldest(partition, now);
        }
    }

    /// Ends the reading that has been idle for longest, if one has been long enough.
    fn make_room(&mut self, now: Instant) -> bool {
        let Some(open) = &mut self.open else { return false };
        let idle = open.readings.iter().filter(|(_, reading)| reading.is_idle());
        let longest = idle.min_by_key(|(_, reading)| reading.quiet_since);
        let Some((partition, _)) = longest.filter(|(_, reading)| now.duration_since(reading.quiet_since) >= LINGER)
        else {
            return false;
        };
        let partition = *partition;
        self.stop(partition);
        true
    }

    fn start_oldest(&mut self, partition: TopicPartition, now: Instant) {
        let Some(topic) = self.base.topics.get(&partition.topic) else { return };
        let job = self.base.desk.job(self.base.cluster, partition, topic.record_bytes);
        if let Some(Job { wanted, start, stop }) = job {
            self.start(partition, Draft::new(wanted, start, stop), now);
        }
    }

    /// Reads a page from where it should go on, whatever was read of the partition before.
    fn start(&mut self, partition: TopicPartition, draft: Draft, now: Instant) {
        self.stop(partition);
        match self.try_start(partition, draft, now) {
            Ok(()) => self.up(now),
            Err(error) => self.failed(partition.topic, &error, now),
        }
    }

    fn try_start(&mut self, partition: TopicPartition, mut draft: Draft, now: Instant) -> Result<(), KafkaError> {
        let (Some(open), Some(topic)) = (&mut self.open, self.base.topics.get(&partition.topic)) else { return Ok(()) };
        let (place, epoch) = ((&*topic.source, partition.partition), self.base.desk.epoch(partition.topic));
        let (low, high) = open.client.fetch_watermarks(place.0, place.1, QUERY_WAIT)?;
        if draft.fit(low, high) == Fit::Done {
            self.publish(partition, draft, epoch, now);
            return Ok(());
        }
        let reading = Reading::start(&open.client, &self.base.bell, place, draft, (epoch, high), now)?;
        open.readings.insert(partition, reading);
        open.probe_at = now + PROBE_AFTER;
        Ok(())
    }

    fn stop(&mut self, partition: TopicPartition) {
        let (Some(open), Some(topic)) = (&mut self.open, self.base.topics.get(&partition.topic)) else { return };
        let Some(reading) = open.readings.remove(&partition) else { return };
        if let Err(error) = reading.stop(&open.client, &topic.source, partition.partition) {
            open.link.error(error.rdkafka_error_code(), &error.to_string());
        }
    }

    /// Takes what is there. Whether there is more.
    fn read(&mut self, now: Instant) -> bool {
        let Some(open) = &mut self.open else { return false };
        let (mut is_more, mut is_heard, mut ended) = (false, false, Vec::new());
        for (partition, reading) in &mut open.readings {
            let Some(topic) = self.base.topics.get_mut(&partition.topic) else { continue };
            let quiet_since = reading.quiet_since;
            match reading.read(topic, now) {
                Progress::Waiting => {}
                Progress::More => is_more = true,
                ended_so => ended.push((*partition, reading.epoch, ended_so)),
            }
            is_heard |= reading.quiet_since != quiet_since;
        }
        if is_heard {
            self.up(now);
        }
        for (partition, epoch, progress) in ended {
            match progress {
                Progress::Done(draft) => self.publish(partition, draft, epoch, now),
                Progress::Lost(draft) => self.start(partition, draft, now),
                Progress::Refused(error) => self.failed(partition.topic, &error, now),
                Progress::Waiting | Progress::More => {}
            }
            is_more = true;
        }
        is_more
    }

    fn publish(&mut self, partition: TopicPartition, draft: Draft, epoch: Epoch, now: Instant) {
        let Some(topic) = self.base.topics.get_mut(&partition.topic) else { return };
        let is_truncated = draft.is_truncated();
        let page = topic.page(draft, partition.partition, epoch);
        self.base.metrics.replay_pages.with_label_values(&["log"]).inc();
        self.base.call(self.base.desk.publish(self.base.cluster, partition, page, is_truncated, now));
    }
}
