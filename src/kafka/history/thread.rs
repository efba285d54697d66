//! The thread that reads pages of one cluster's logs, on a client of its own that is there while pages are asked for.
//!
//! Partitions are assigned by hand, each is read on as long as its next page is wanted, and nothing is fetched twice
//! while it is. Questions to the brokers block the thread, at most [`QUERY_WAIT`] each; whatever fails is tried again,
//! after a pause, as long as somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Call;
use super::bell::Bell;
use super::desk::{Desk, Job};
use super::draft::{Draft, Fit};
use super::questions::{QUERY_WAIT, is_outage, offsets_at};
use super::reading::{Progress, Reading};
use super::requests::{CALL_AGAIN, TopicPartition};
use super::topic::TopicLog;
use crate::config::snapshot::Kafka;
use crate::event::Epoch;
use crate::hub::Asker;
use crate::kafka::client::{Client, Context, Link, connect};
use crate::kafka::closing::Closing;
use crate::metrics::Metrics;

/// What this client sets differently from the one that reads live records.
const PROPERTIES: &[(&str, &str)] = &[
    // Where the log ends, in offsets that hold no records, is told by nothing else.
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "0"),
    // Of each partition: fetched at a time, and fetched but not yet in a page. Two pages are ahead of who reads.
    ("max.partition.fetch.bytes", "524288"),
    ("queued.max.messages.kbytes", "512"),
    ("queued.min.messages", "1024"),
    // How soon fetching goes on where there was enough; the default is a second.
    ("fetch.queue.backoff.ms", "10"),
];

/// How many partitions are read at a time.
const PARTITIONS_MAX: usize = 8;
/// How many times are looked up before it is the pages' turn.
const TIMES_PER_TURN: usize = 16;
/// How many of the client's own events are taken in a turn.
const EVENTS_PER_TURN: usize = 100;

/// How long a partition stays where it is for whoever wants the next page, before a page elsewhere is read.
const LINGER: Duration = Duration::from_millis(20);
/// How long a partition that nobody reads stays assigned.
const PARTITION_KEPT: Duration = Duration::from_secs(5);
/// How long a client that nobody needs is kept.
const CLIENT_KEPT: Duration = Duration::from_secs(60);
/// After how long without a record the brokers are asked whether they are there, and how often again.
const PROBE_AFTER: Duration = Duration::from_secs(2);
/// After how long without a record the partition is assigned again.
const STUCK_AFTER: Duration = Duration::from_secs(20);
/// The pause after a question that no broker answered.
const DOWN_PAUSE: Duration = Duration::from_secs(1);
/// How long a topic that the brokers refused is left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
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

    /// Gives up a client that knows a log which is no more: librdkafka does not read one made anew on, since its leaders'
    /// epochs begin again. A log that lost its tail leaves it at places that are no more.
    fn renew(&mut self) {
        if !self.base.desk.is_outdated(self.base.cluster) || !self.closing.has_room() {
            return;
        }
        if let Some(Open { readings, client, .. }) = self.open.take() {
            drop(readings);
            self.closing.close(client);
            tracing::info!(cluster = &*self.base.config.cluster, "the Kafka client for replay is made anew");
        }
        self.base.desk.take_outdated(self.base.cluster);
    }

    fn connect(&mut self, now: Instant) {
        if self.open.is_some() || self.is_down(now) {
            return;
        }
        let link = Arc::new(Link::new(self.base.config.cluster.clone(), self.base.metrics.clone()));
        let context = Context::new(link.clone());
        match connect(&self.base.config, PROPERTIES, context) {
            Ok(client) => {
                let readings = BTreeMap::new();
                self.open = Some(Open { readings, probe_at: now, link, client: Arc::new(client) });
            }
            Err(error) => {
                link.error(error.code(), &error.to_string());
                self.down(now);
            }
        }
    }

    /// What the client says of itself. Records come through the partitions' own queues.
    fn poll_events(&mut self, now: Instant) {
        let Some(open) = &self.open else { return };
        let mut is_down = false;
        for _ in 0..EVENTS_PER_TURN {
            match open.client.poll(Duration::ZERO) {
                None => break,
                Some(Ok(_)) => {}
                // Counted and logged by the context already.
                Some(Err(error)) => is_down |= error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown),
            }
        }
        if is_down {
            self.down(now);
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

    /// Where a page has been waited for too long: asks whether the brokers are there, and begins anew in the end.
    fn probe(&mut self, now: Instant) {
        let Some(open) = self.open.as_mut().filter(|open| now >= open.probe_at) else { return };
        let quiet = |reading: &Reading| now.duration_since(reading.quiet_since);
        let waiting = open.readings.iter_mut().filter(|(_, reading)| !reading.is_idle());
        let Some((partition, reading)) = waiting.max_by_key(|(_, reading)| quiet(reading)) else { return };
        let (partition, quiet) = (*partition, quiet(reading));
        if quiet < PROBE_AFTER {
            return;
        }
        open.probe_at = now + PROBE_AFTER;
        if quiet >= STUCK_AFTER {
            if let Some(draft) = reading.take_draft() {
                self.start(partition, draft, now);
            }
            return;
        }
        let source = self.base.topics[&partition.topic].source.clone();
        match open.client.fetch_watermarks(&source, partition.partition, QUERY_WAIT) {
            Ok(_) => self.up(now),
            Err(error) => self.failed(partition.topic, &error, now),
        }
    }

    /// Gives up what nobody has needed for a while.
    fn put_away(&mut self, now: Instant) {
        let Some(open) = &self.open else { return };
        let unused = open
            .readings
            .iter()
            .filter(|(_, reading)| reading.is_idle() && now.duration_since(reading.quiet_since) >= PARTITION_KEPT);
        for partition in unused.map(|(partition, _)| *partition).collect::<Vec<_>>() {
            self.stop(partition);
        }
        let is_needed = self.open.as_ref().is_some_and(|open| !open.readings.is_empty());
        if is_needed || !self.base.desk.is_empty(self.base.cluster) {
            self.needed_at = now;
        } else if now.duration_since(self.needed_at) >= CLIENT_KEPT {
            self.open = None;
        }
    }

    /// A question about a topic was not answered, or not as it should be.
    fn failed(&mut self, topic: usize, error: &KafkaError, now: Instant) {
        let Some(open) = &self.open else { return };
        let code = error.rdkafka_error_code();
        open.link.error(code, &error.to_string());
        // One topic's trouble, a partition without a leader for one, holds up nobody else.
        if code.is_some_and(is_outage) {
            return self.down(now);
        }
        let of_topic = open.readings.keys().filter(|partition| partition.topic == topic);
        for partition in of_topic.copied().collect::<Vec<_>>() {
            self.stop(partition);
        }
        if let Some(topic) = self.base.topics.get_mut(&topic) {
            topic.refused_until = Some(now + REFUSED_PAUSE);
        }
    }

    fn is_down(&self, now: Instant) -> bool {
        self.down_until.is_some_and(|until| now < until)
    }

    fn down(&mut self, now: Instant) {
        self.down_until = Some(now + DOWN_PAUSE);
        self.base.desk.down(self.base.cluster);
    }

    fn up(&mut self, now: Instant) {
        if self.down_until.take().is_some() {
            self.base.call(self.base.desk.up(self.base.cluster, now));
        }
    }
}
