//! The client that pages are read by: made when one is asked for, asked whether its brokers are there, given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Open, PROBE_AFTER, Work};
use crate::kafka::client::{Context, Link, connect};
use crate::kafka::history::questions::{QUERY_WAIT, is_outage};
use crate::kafka::history::reading::Reading;

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
/// How many of the client's own events are taken in a turn.
const EVENTS_PER_TURN: usize = 100;
/// How long a partition that nobody reads stays assigned.
const PARTITION_KEPT: Duration = Duration::from_secs(5);
/// How long a client that nobody needs is kept.
const CLIENT_KEPT: Duration = Duration::from_secs(60);
/// After how long without a record the partition is assigned again.
const STUCK_AFTER: Duration = Duration::from_secs(20);
/// The pause after a question that no broker answered.
const DOWN_PAUSE: Duration = Duration::from_secs(1);
/// How long a topic that the brokers refused is left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

impl Work {
    /// Gives up a client that knows a log which is no more: librdkafka does not read one made anew on, since its leaders'
    /// epochs begin again. A log that lost its tail leaves it at places that are no more.
    pub(super) fn renew(&mut self) {
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

    pub(super) fn connect(&mut self, now: Instant) {
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
    pub(super) fn poll_events(&mut self, now: Instant) {
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

    /// Where a page has been waited for too long: asks whether the brokers are there, and begins anew in the end.
    pub(super) fn probe(&mut self, now: Instant) {
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
    pub(super) fn put_away(&mut self, now: Instant) {
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
    pub(super) fn failed(&mut self, topic: usize, error: &KafkaError, now: Instant) {
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

    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.down_until.is_some_and(|until| now < until)
    }

    pub(super) fn down(&mut self, now: Instant) {
        self.down_until = Some(now + DOWN_PAUSE);
        self.base.desk.down(self.base.cluster);
    }

    pub(super) fn up(&mut self, now: Instant) {
        if self.down_until.take().is_some() {
            self.base.call(self.base.desk.up(self.base.cluster, now));
        }
    }
}
