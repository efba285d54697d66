//! Reads one place of a log with a new client, and says whether that can be read.
//!
//! rdkafka hides the partition and the offset that an error is about, so this polls librdkafka itself. A client that was
//! refused a response reports that once in a while only, hence a new one for each look.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::is_unreadable;
use crate::config::snapshot::Kafka;
use crate::kafka::client::{Client, Context, Link, connect};
use crate::metrics::Metrics;

/// A look needs one batch, and the end of the log at once where there is none.
const PROPERTIES: &[(&str, &str)] = &[
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "0"),
    ("max.partition.fetch.bytes", "1"),
    ("queued.min.messages", "1"),
    ("fetch.wait.max.ms", "10"),
];
/// How long one poll waits, in milliseconds.
const POLL_WAIT_MS: i32 = 100;

/// Where to look.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What was seen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A record, or the end of the log.
    Readable,
    /// A batch that the client refuses, with its first offset where the client tells it.
    Unreadable { base: Option<i64> },
    /// Nothing within the time.
    Nothing,
}

/// Looks for at most `wait`, and as long as closing the client takes.
pub(super) fn look(config: &Kafka, metrics: &Arc<Metrics>, place: &Place<'_>, wait: Duration) -> Seen {
    let until = Instant::now() + wait;
    let Some(client) = quiet_client(config, metrics) else { return Seen::Nothing };
    let mut list = TopicPartitionList::new();
    let assigned = list.add_partition_offset(place.topic, place.partition, Offset::Offset(place.offset));
    if assigned.and_then(|()| client.assign(&list)).is_err() {
        return Seen::Nothing;
    }
    let queue = Queue::of(&client);
    while Instant::now() < until {
        if let Some(seen) = queue.poll() {
            return seen;
        }
    }
    Seen::Nothing
}

/// A client whose errors are expected, and neither logged nor counted.
pub(super) fn quiet_client(config: &Kafka, metrics: &Arc<Metrics>) -> Option<Client> {
    let context = Context::new(Arc::new(Link::new(config.cluster.clone(), metrics.clone())));
    context.retired.store(true, Ordering::Relaxed);
    connect(config, PROPERTIES, context).ok()
}

/// A client's queue of records and errors, of which it holds a reference.
struct Queue<'c> {
    queue: *mut sys::rd_kafka_queue_t,
    _client: &'c Client,
}

impl<'c> Queue<'c> {
    fn of(client: &'c Client) -> Self {
        // SAFETY: the client is alive for 'c; the reference that is given is released in `drop`. A consumer has this
        // queue, and where it had none, polling null is avoided below.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        Self { queue, _client: client }
    }

    /// What the next event says of the place, if anything.
    fn poll(&self) -> Option<Seen> {
        if self.queue.is_null() {
            return Some(Seen::Nothing);
        }
        // SAFETY: the queue is alive until `drop`.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue, POLL_WAIT_MS) };
        if event.is_null() {
            return None;
        }
        // SAFETY: the event is ours until it is destroyed, which is below and once.
        let seen = unsafe { seen(event) };
        unsafe { sys::rd_kafka_event_destroy(event) };
        seen
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        if !self.queue.is_null() {
            // SAFETY: the reference is ours and not used again.
            unsafe { sys::rd_kafka_queue_destroy(self.queue) };
        }
    }
}

/// # Safety
/// The event is not null, and alive.
unsafe fn seen(event: *mut sys::rd_kafka_event_t) -> Option<Seen> {
    // SAFETY: the caller's word.
    let (kind, error) = unsafe { (sys::rd_kafka_event_type(event), sys::rd_kafka_event_error(event)) };
    match kind {
        sys::RD_KAFKA_EVENT_FETCH => Some(Seen::Readable),
        sys::RD_KAFKA_EVENT_ERROR if error.is_error() => {
            let code = RDKafkaErrorCode::from(error);
            if code == RDKafkaErrorCode::PartitionEOF {
                return Some(Seen::Readable);
            }
            // SAFETY: as above. Null where the error is not about a partition.
            let base = unsafe { offset_of(event) };
            is_unreadable(code).then_some(Seen::Unreadable { base })
        }
        _ => None,
    }
}

/// The offset that an error is about.
///
/// # Safety
/// The event is not null, and alive.
unsafe fn offset_of(event: *mut sys::rd_kafka_event_t) -> Option<i64> {
    // SAFETY: the caller's word; what is given is null or ours to destroy.
    unsafe {
        let partition = sys::rd_kafka_event_topic_partition(event);
        if partition.is_null() {
            return None;
        }
        let offset = (*partition).offset;
        sys::rd_kafka_topic_partition_destroy(partition);
        (offset >= 0).then_some(offset)
    }
}
