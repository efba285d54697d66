//! Non-blocking requests to the brokers: each is sent, and its response is polled.
//!
//! rdkafka's own interface has no topic UUIDs, and its functions for offsets block. This module therefore calls
//! librdkafka directly (`rd_kafka_DescribeTopics`, `rd_kafka_ListOffsets`). A broker responds to the requests of one
//! connection in order, so that a request behind a long-polling fetch is delayed: use a client that fetches nothing
//! (`client::connect_for_questions`). Callers interpret the responses.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{Client, Isolation, OnAnswer};
use super::topic::Described;
use crate::event::{Epoch, Topic};
use crate::hub::{NO_OFFSET, TopicDescription};

/// A request in progress. Dropping it cancels it.
pub(super) struct Question<A> {
    queue: *mut sys::rd_kafka_queue_t,
    read: fn(&Event) -> A,
    /// The queue belongs to the client, which must outlive it.
    _client: Arc<Client>,
}

impl<A> Question<A> {
    /// The response or its error, if it has arrived. Does not block. One of them arrives within the time limit of the
    /// request.
    pub(super) fn answer(&self) -> Option<Result<A, KafkaError>> {
        // SAFETY: the queue is owned by `self` until `drop` destroys it.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue, 0) };
        if event.is_null() {
            return None;
        }
        let event = Event(event);
        // SAFETY: the event is not null, and lives until it is dropped.
        let error = unsafe { sys::rd_kafka_event_error(event.0) };
        Some(match code(error) {
            Some(code) => Err(KafkaError::MetadataFetch(code)),
            None => Ok((self.read)(&event)),
        })
    }

    /// Sends a request by calling `send` with the client, the options and the reply queue.
    fn send(client: &Arc<Client>, limit: Duration, read: fn(&Event) -> A, send: impl FnOnce(&Call)) -> Self {
        let handle = client.client().native_ptr();
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client is alive. `drop` destroys the queue, and the options are destroyed below. For a limit that
        // librdkafka rejects (above an hour), the client's own applies.
        let (queue, options) = unsafe {
            let options = sys::rd_kafka_AdminOptions_new(handle, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ANY);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, limit, ptr::null_mut(), 0);
            (sys::rd_kafka_queue_new(handle), options)
        };
        if let Some(on_answer) = &client.context().on_answer {
            let opaque = ptr::from_ref(on_answer).cast_mut().cast();
            // SAFETY: the client, which `Self` keeps, owns the target of the pointer, and `drop` removes the callback
            // before it releases the client.
            unsafe { sys::rd_kafka_queue_cb_event_enable(queue, Some(answered), opaque) };
        }
        send(&Call { client: handle, options, queue });
        // SAFETY: the options are owned here, and every request copies them.
        unsafe { sys::rd_kafka_AdminOptions_destroy(options) };
        Self { queue, read, _client: client.clone() }
    }
}

impl<A> Drop for Question<A> {
    fn drop(&mut self) {
        // SAFETY: the queue is owned here and not used again; a pending request holds a reference to it until its
        // response arrives. The client, which is a field, is still alive. No callback runs after its removal, because
        // both hold the queue's lock.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// The reply queue of a request is not empty. Called by librdkafka's threads.
extern "C" fn answered(_: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `Question::send` passed this pointer to data that the request's client owns.
    let on_answer = unsafe { &*opaque.cast::<OnAnswer>() };
    on_answer();
}

/// The arguments of any librdkafka request.
struct Call {
    client: *mut sys::rd_kafka_t,
    options: *mut sys::rd_kafka_AdminOptions_t,
    queue: *mut sys::rd_kafka_queue_t,
}

/// Requests the descriptions of these topics from this broker: one result per topic, in the same order. Without a
/// broker id, librdkafka would wait for the controller, which its mock cluster does not have.
pub(super) fn topics(
    client: &Arc<Client>,
    broker: i32,
    names: &[Topic],
    limit: Duration,
) -> Question<Vec<DescribedOrNot>> {
    // A name with a NUL is not a valid topic name, and no configuration contains one.
    let names: Vec<_> = names.iter().map(|name| CString::new(&**name).unwrap_or_default()).collect();
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    Question::send(client, limit, read_topics, |call| {
        // SAFETY: the pointers are to NUL-terminated strings that outlive the collection, which copies them, and the
        // request copies the collection. Client, options and queue are alive (`Question::send`).
        unsafe {
            sys::rd_kafka_AdminOptions_set_broker(call.options, broker, ptr::null_mut(), 0);
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(call.client, topics, call.options, call.queue);
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
    })
}

/// A topic as a broker describes it.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) described: Described,
    /// The leader of partition 0, 1, 2, ..., if there is one.
    pub(super) leaders: Vec<Option<i32>>,
}

impl Description {
    /// Of a topic that does not exist.
    pub(super) fn missing() -> Self {
        Self { described: Described { epoch: 0, partitions: 0 }, leaders: Vec::new() }
    }

    /// Without the leaders.
    pub(super) fn summary(&self) -> TopicDescription {
        TopicDescription { epoch: self.described.epoch, partitions: self.leaders.len() }
    }
}

/// The description of one topic.
pub(super) type DescribedOrNot = Result<Description, RDKafkaErrorCode>;

fn read_topics(event: &Event) -> Vec<DescribedOrNot> {
    let mut count = 0;
    // SAFETY: the event is alive, and owns the descriptions. For another kind of event the result is null.
    let topics = unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Vec::new();
        }
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        event.list(topics, count)
    };
    topics.iter().map(|topic| describe(*topic)).collect()
}

fn describe(topic: *const sys::rd_kafka_TopicDescription_t) -> DescribedOrNot {
    if topic.is_null() {
        // The broker omitted it.
        return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
    }
    // SAFETY: the description belongs to a live event (`read_topics`), and so does its target. The code of a null error
    // is "no error".
    let (error, id) = unsafe {
        let error = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic));
        (error, sys::rd_kafka_TopicDescription_topic_id(topic))
    };
    if let Some(code) = code(error) {
        return Err(code);
    }
    let epoch = if id.is_null() {
        0
    } else {
        // SAFETY: the UUID is not null, and belongs to the live description.
        unsafe { epoch_of(sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)) }
    };
    let leaders = leaders(topic);
    match i32::try_from(leaders.len()) {
        // The topic is being created.
        Ok(0) | Err(_) => Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        Ok(partitions) => Ok(Description { described: Described { epoch, partitions }, leaders }),
    }
}

/// The leaders of a described topic's partitions.
fn leaders(topic: *const sys::rd_kafka_TopicDescription_t) -> Vec<Option<i32>> {
    let mut count = 0;
    // SAFETY: the description is a live event's (`describe`), and so is the array that it gives, of as many as it says.
    let partitions = unsafe {
        let first = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        if first.is_null() { &[] } else { slice::from_raw_parts(first, count) }
    };
    let mut leaders = vec![None; count];
    for partition in partitions {
        // SAFETY: the partition is the live description's; a leader that is null is none.
        let (id, leader) = unsafe {
            let node = sys::rd_kafka_TopicPartitionInfo_leader(*partition);
            let leader = (!node.is_null()).then(|| sys::rd_kafka_Node_id(node));
            (sys::rd_kafka_TopicPartitionInfo_partition(*partition), leader)
        };
        if let Some(known) = usize::try_from(id).ok().and_then(|id| leaders.get_mut(id)) {
            *known = leader.filter(|id| *id >= 0);
        }
    }
    leaders
}

/// Derives an epoch from a topic's UUID: the FNV-1a hash of its 16 bytes (the Internet draft "The FNV Non-Cryptographic
/// Hash Algorithm"). A hash of 0 is mapped to 1, and the zero UUID, which means none, to 0. Two UUIDs of one name
/// collide with a probability of 2^-32.
fn epoch_of(high: i64, low: i64) -> Epoch {
    const OFFSET_BASIS: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    if (high, low) == (0, 0) {
        return 0;
    }
    let bytes = [high.to_be_bytes(), low.to_be_bytes()].concat();
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME)).max(1)
}

/// A topic, named as in the cluster, and a partition.
pub(super) type LogName = (String, i32);

/// An offset of each log ([`NO_OFFSET`] if there is none at or after a time), or the error.
pub(super) type Offsets = HashMap<LogName, Result<i64, RDKafkaErrorCode>>;

/// Requests an offset of each of these logs, as stated in the list: `Beginning`, `End`, or a time in milliseconds since
/// the Unix epoch. With `Committed` isolation, the end is the last stable offset, otherwise the high watermark. One
/// request is sent to each leader; the response is complete when the last one has responded, or after `limit`.
pub(super) fn offsets(
    client: &Arc<Client>,
    list: &TopicPartitionList,
    isolation: Isolation,
    limit: Duration,
) -> Question<Offsets> {
    let level = match isolation {
        Isolation::Committed => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        Isolation::Uncommitted => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
    };
    Question::send(client, limit, read_offsets, |call| {
        // SAFETY: the list is alive, and the request copies it; client, options and queue are alive (`Question::send`).
        // The level is one of the two valid ones, so that there is no error to free.
        unsafe {
            sys::rd_kafka_AdminOptions_set_isolation_level(call.options, level);
            sys::rd_kafka_ListOffsets(call.client, list.ptr(), call.options, call.queue);
        }
    })
}

fn read_offsets(event: &Event) -> Offsets {
    let mut count = 0;
    // SAFETY: the event is alive, and owns the result. For another kind of event it is null.
    let found = unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event.0);
        if result.is_null() {
            return Offsets::new();
        }
        let found = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        event.list(found, count)
    };
    found.iter().map(|info| read_offset(*info)).collect()
}

fn read_offset(info: *const sys::rd_kafka_ListOffsetsResultInfo_t) -> (LogName, Result<i64, RDKafkaErrorCode>) {
    // SAFETY: the result belongs to a live event (`read_offsets`), and so does the partition in it, whose topic is a
    // NUL-terminated string.
    let (topic, partition) = unsafe {
        let partition = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
        (CStr::from_ptr(partition.topic), partition)
    };
    let offset = match code(partition.err) {
        Some(code) => Err(code),
        None if partition.offset == NONE_AT_TIME => Ok(NO_OFFSET),
        // The leader did not respond in time.
        None if partition.offset < 0 => Err(RDKafkaErrorCode::OperationTimedOut),
        None => Ok(partition.offset),
    };
    ((topic.to_string_lossy().into_owned(), partition.partition), offset)
}

/// The offset that a broker returns if no record is as late as a time: UNKNOWN_OFFSET in the Kafka protocol's
/// ListOffsets. Without a response, librdkafka leaves `RD_KAFKA_OFFSET_INVALID`, which differs.
const NONE_AT_TIME: i64 = -1;

/// A received event of librdkafka.
struct Event(*mut sys::rd_kafka_event_t);

impl Event {
    /// The elements of an array of librdkafka.
    ///
    /// # Safety
    /// Where it is not null, `first` is an array of `count` that lives as long as the event.
    unsafe fn list<T>(&self, first: *mut T, count: usize) -> &[T] {
        if first.is_null() || count == 0 {
            return &[];
        }
        // SAFETY: guaranteed by the caller.
        unsafe { slice::from_raw_parts(first, count) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is owned here, and data that was read from it was copied or borrowed it.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

fn code(error: sys::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    (error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uuid_except_zero_yields_an_epoch() {
        assert_eq!(epoch_of(0, 0), 0);
        // "foobar" after ten zero bytes, computed by another implementation.
        assert_eq!(epoch_of(0, 0x0000_666f_6f62_6172), 0xb925_97b0);
        assert_ne!(epoch_of(1, 0), epoch_of(0, 1));
    }
}
