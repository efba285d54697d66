//! Reads one position of a log with a new client, and reports whether it is readable.
//!
//! rdkafka hides the partition and the offset of an error, so this module polls librdkafka directly. A client that
//! rejected a response reports that only from time to time, hence the new client per read.
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

/// A read needs one batch, and an immediate end-of-partition event at the end of the log.
const PROPERTIES: &[(&str, &str)] = &[
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "0"),
    ("max.partition.fetch.bytes", "1"),
    ("queued.min.messages", "1"),
    ("fetch.wait.max.ms", "10"),
];
/// The timeout of one poll, in milliseconds.
const POLL_WAIT_MS: i32 = 100;

/// The position to read.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A record, or the end of the log.
    Readable,
    /// A batch that the client rejects, with its first offset if the client reports it.
    Unreadable { base: Option<i64> },
    /// No result within the time limit.
    Nothing,
}

/// Reads for at most `wait`, and as long as closing the client takes.
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

/// A reference to a client's queue of records and errors.
struct Queue<'c> {
    queue: *mut sys::rd_kafka_queue_t,
    _client: &'c Client,
}

impl<'c> Queue<'c> {
    fn of(client: &'c Client) -> Self {
        // SAFETY: the client is alive for 'c; `drop` releases the returned reference. A consumer has this queue; a null
        // queue is not polled, see below.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        Self { queue, _client: client }
    }

    /// The result of the next event, if it has one.
    fn poll(&self) -> Option<Seen> {
        if self.queue.is_null() {
            return Some(Seen::Nothing);
        }
        // SAFETY: the queue is alive until `drop`.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue, POLL_WAIT_MS) };
        if event.is_null() {
            return None;
        }
        // SAFETY: this function owns the event until it is destroyed, once, below.
        let seen = unsafe { seen(event) };
        unsafe { sys::rd_kafka_event_destroy(event) };
        seen
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        if !self.queue.is_null() {
            // SAFETY: the reference is owned here and not used again.
            unsafe { sys::rd_kafka_queue_destroy(self.queue) };
        }
    }
}

/// # Safety
/// The event is not null, and alive.
unsafe fn seen(event: *mut sys::rd_kafka_event_t) -> Option<Seen> {
    // SAFETY: guaranteed by the caller.
    let (kind, error) = unsafe { (sys::rd_kafka_event_type(event), sys::rd_kafka_event_error(event)) };
    match kind {
        sys::RD_KAFKA_EVENT_FETCH => Some(Seen::Readable),
        sys::RD_KAFKA_EVENT_ERROR if error.is_error() => {
            let code = RDKafkaErrorCode::from(error);
            if code == RDKafkaErrorCode::PartitionEOF {
                return Some(Seen::Readable);
            }
            // SAFETY: as above. Null if the error is not about a partition.
            let base = unsafe { offset_of(event) };
            is_unreadable(code).then_some(Seen::Unreadable { base })
        }
        _ => None,
    }
}

/// The offset of an error.
///
/// # Safety
/// The event is not null, and alive.
unsafe fn offset_of(event: *mut sys::rd_kafka_event_t) -> Option<i64> {
    // SAFETY: guaranteed by the caller; the result is null, or owned here and destroyed below.
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
