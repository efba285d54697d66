//! Maintains the clients that read chunks: creates them on request and drops idle ones. Also skips partitions whose
//! leaders do not respond.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{FETCH_BYTES, Open, Pause, Work};
use crate::kafka::client::{Client, ConnectError, Context, Isolation, Link, connect, connect_for_questions};
use crate::kafka::history::questions::{Questions, is_outage};
use crate::kafka::history::reading::{PROBE_AFTER, Reading};
use crate::kafka::history::requests::TopicPartition;
use crate::kafka::history::topic::TopicLog;

/// Properties that differ from the consumer's, in addition to the fetch sizes.
const PROPERTIES: &[(&str, &str)] = &[
    // Only this reports that the end of the log was reached if its last offsets contain no records.
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "0"),
    ("queued.min.messages", "1024"),
    // The pause after enough data was queued; the default is a second.
    ("fetch.queue.backoff.ms", "10"),
    // A broker responds to one fetch at a time: a long-polling fetch at the ends of logs would delay the partitions
    // that are assigned next.
    ("fetch.wait.max.ms", "20"),
    ("fetch.min.bytes", "1"),
    // The pause after a fetch outside of the log; the default is half a second.
    ("fetch.error.backoff.ms", "20"),
];
/// The fetch size for all partitions together, in bytes. A configuration may set less, and may limit responses
/// (`receive.message.max.bytes`), which must be greater.
const FETCH_MAX: (&str, &str) = ("fetch.max.bytes", "8388608");
/// The most client events that are processed per turn.
const EVENTS_PER_TURN: usize = 100;
/// How long an idle partition stays assigned.
const PARTITION_KEPT: Duration = Duration::from_secs(5);
/// How long an idle client is kept.
const CLIENT_KEPT: Duration = Duration::from_secs(60);
/// After this long without a record, the cause is determined, and the partition is assigned again.
const STUCK_AFTER: Duration = Duration::from_secs(20);
/// The pause after a request without a response from any broker.
const DOWN_PAUSE: Duration = Duration::from_secs(1);
/// How long a topic without access is skipped.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

impl Work {
    /// Drops a client that has state of a deleted or truncated log. librdkafka does not read a recreated topic, because
    /// its leaders' epochs begin again, and a truncated log leaves the client at positions that no longer exist.
    pub(super) fn renew(&mut self) {
        if !self.base.store.is_outdated(self.base.cluster) || !self.closing.has_room() {
            return;
        }
        if self.give_up_client() {
            tracing::info!(cluster = &*self.base.config.cluster, "the Kafka client for replay is recreated");
        }
        self.probes.clear();
        self.base.topics.values_mut().for_each(TopicLog::forget_unreadable);
        self.base.store.take_outdated(self.base.cluster);
    }

    /// Continues without a client until the next one is created. Returns whether there was one.
    pub(super) fn give_up_client(&mut self) -> bool {
        let Some(Open { readings, questions, client, .. }) = self.open.take() else { return false };
        drop(readings);
        self.suspended.clear();
        self.closing.close(client);
        self.closing.close(questions.into_client());
        true
    }

    pub(super) fn connect(&mut self, now: Instant) {
        if self.open.is_some() || self.is_down(now) || !self.closing.has_room() {
            return;
        }
        let link = Arc::new(Link::new(self.base.config.cluster.clone(), self.base.metrics.clone()));
        match self.clients(&link) {
            Ok((client, questions)) => self.open = Some(Open { readings: BTreeMap::new(), questions, link, client }),
            Err(error) => {
                link.error(error.code(), &error.to_string());
                self.down(now);
            }
        }
    }

    fn clients(&self, link: &Arc<Link>) -> Result<(Arc<Client>, Questions), ConnectError> {
        let config = &self.base.config;
        let (fetch_bytes, kept) = (FETCH_BYTES.to_string(), (FETCH_BYTES / 1024).to_string());
        let sizes =
            [("max.partition.fetch.bytes", fetch_bytes.as_str()), ("queued.max.messages.kbytes", kept.as_str())];
        let is_theirs = config.properties.iter().any(|(name, _)| name == FETCH_MAX.0);
        let at_a_time: &[_] = if is_theirs { &[] } else { &[FETCH_MAX] };
        let client = connect(config, &[PROPERTIES, &sizes, at_a_time].concat(), Context::new(link.clone()))?;
        let wakeup = self.base.wakeup.clone();
        let asking = Context::for_questions(link.clone(), Some(Box::new(move || wakeup.wake())));
        let asking = connect_for_questions(config, asking)?;
        Ok((Arc::new(client), Questions::new(Arc::new(asking), Isolation::of(config))))
    }

    /// Polls the clients' events. Records arrive in the partitions' own queues, and responses in their requests'
    /// queues.
    pub(super) fn poll_events(&mut self, now: Instant) {
        let Some(open) = &self.open else { return };
        let mut is_down = false;
        for client in [&*open.client, open.questions.client()] {
            for _ in 0..EVENTS_PER_TURN {
                match client.poll(Duration::ZERO) {
                    None => break,
                    Some(Ok(_)) => {}
                    // Counted and logged by the context already.
                    Some(Err(error)) => is_down |= error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown),
                }
            }
        }
        if is_down {
            self.down(now);
        }
    }

    /// If a chunk is overdue: probes the partition's leader, and finally starts again.
    pub(super) fn probe(&mut self, now: Instant) {
        let is_crowded = self.room() == 0 && !self.others(1, now).is_empty();
        let Some(open) = &mut self.open else { return };
        let is_due = |reading: &Reading| !reading.is_idle() && now >= reading.probe_at;
        let due: Vec<_> = open.readings.iter().filter(|(_, reading)| is_due(reading)).map(|(due, _)| *due).collect();
        // The client does not name the partition of a rejected response.
        let is_refused = !due.is_empty() && open.client.context().unreadable.swap(false, Ordering::Relaxed);
        for partition in due {
            let Some(open) = &mut self.open else { return };
            let Some(reading) = open.readings.get_mut(&partition) else { continue };
            reading.probe_at = now + PROBE_AFTER;
            let is_stuck = is_refused || now.duration_since(reading.quiet_since) >= STUCK_AFTER;
            let start = if is_stuck { reading.take_start() } else { None };
            let is_asked = open.questions.is_asked(partition);
            if let Some(start) = start {
                self.suspect(partition, start.draft, now);
                continue;
            }
            let is_unproven = !reading.is_proven;
            if !is_asked {
                self.ask(partition, None, now);
            }
            if is_unproven {
                // Sessions look for other partitions meanwhile.
                self.set_down(partition, true);
            }
            if is_unproven && is_crowded {
                self.suspend(partition);
            }
        }
    }

    fn set_down(&mut self, partition: TopicPartition, is_down: bool) {
        let has_changed = if is_down { self.down.insert(partition) } else { self.down.remove(&partition) };
        if has_changed {
            self.base.store.partition_is_down(self.base.cluster, partition, is_down);
        }
    }

    /// Cancels all work after a panic: requested chunks are read again. Returns how long to wait.
    pub(super) fn begin_again(&mut self, now: Instant) -> Duration {
        (self.open, self.probes) = (None, BTreeMap::new());
        self.down(now);
        DOWN_PAUSE
    }

    /// Drops what has been idle for a while.
    pub(super) fn put_away(&mut self, now: Instant) {
        let Some(open) = &self.open else { return };
        let unused = open
            .readings
            .iter()
            .filter(|(_, reading)| reading.is_idle() && now.duration_since(reading.quiet_since) >= PARTITION_KEPT);
        let unused: Vec<_> = unused.map(|(partition, _)| *partition).collect();
        self.stop(&unused);
        let is_needed = self.open.as_ref().is_some_and(|open| !open.readings.is_empty());
        if is_needed || !self.base.store.is_empty(self.base.cluster) {
            self.needed_at = now;
        } else if now.duration_since(self.needed_at) >= CLIENT_KEPT {
            self.give_up_client();
        }
    }

    /// A partition cannot be read: it is skipped for a while, and others continue.
    pub(super) fn failed(&mut self, partition: TopicPartition, error: &KafkaError, now: Instant) {
        let code = error.rdkafka_error_code();
        self.report(error);
        self.stop(&[partition]);
        let is_down = code.is_some_and(is_outage);
        let pause = if is_down { DOWN_PAUSE } else { REFUSED_PAUSE };
        self.paused.insert(partition, Pause { until: now + pause, is_down });
        self.suspended.remove(&partition);
        self.set_down(partition, is_down);
    }

    /// Skips a partition for a while.
    pub(super) fn leave_alone(&mut self, partition: TopicPartition, now: Instant) {
        self.paused.insert(partition, Pause { until: now + REFUSED_PAUSE, is_down: false });
    }

    /// The offsets of a time are unavailable: the topic's are not requested for a while.
    pub(super) fn time_failed(&mut self, topic: usize, error: &KafkaError, now: Instant) {
        self.report(error);
        let pause = if error.rdkafka_error_code().is_some_and(is_outage) { DOWN_PAUSE } else { REFUSED_PAUSE };
        if let Some(topic) = self.base.topics.get_mut(&topic) {
            topic.refused_until = Some(now + pause);
        }
    }

    fn report(&self, error: &KafkaError) {
        if let Some(open) = &self.open {
            open.link.error(error.rdkafka_error_code(), &error.to_string());
        }
    }

    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.down_until.is_some_and(|until| now < until)
    }

    pub(super) fn down(&mut self, now: Instant) {
        self.down_until = Some(now + DOWN_PAUSE);
        self.base.store.down(self.base.cluster);
    }

    pub(super) fn up(&mut self, now: Instant) {
        if self.down_until.take().is_some() {
            self.base.call(self.base.store.up(self.base.cluster, now));
        }
    }

    /// The partition's leader responds.
    pub(super) fn partition_up(&mut self, partition: TopicPartition, now: Instant) {
        self.set_down(partition, false);
        self.up(now);
    }
}
