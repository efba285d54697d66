//! What is asked of the brokers beside records. Every question blocks the thread, at most [`QUERY_WAIT`] a request.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::times::{NONE_YET, Time};
use crate::kafka::client::Client;

/// How long one question to the brokers may take. Nothing is read meanwhile.
pub(super) const QUERY_WAIT: Duration = Duration::from_secs(1);

/// Whether no broker can be reached, rather than one that does not answer for this topic.
pub(super) fn is_outage(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve)
}

/// The first offset at or after a time of each partition; none where the brokers say that there is no such topic.
pub(super) fn offsets_at(client: &Client, topic: &str, (_, ms): Time) -> Result<Arc<[i64]>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), QUERY_WAIT)?;
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Err(unknown) };
    match found.error().map(RDKafkaErrorCode::from) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(Arc::from([])),
        Some(code) => return Err(KafkaError::MetadataFetch(code)),
        None => {}
    }
    let mut times = TopicPartitionList::new();
    for partition in found.partitions() {
        times.add_partition_offset(topic, partition.id(), Offset::Offset(ms))?;
    }
    let answered = client.offsets_for_times(times, QUERY_WAIT)?;
    let mut offsets =
        vec![NONE_YET; found.partitions().iter().map(|partition| partition.id() + 1).max().unwrap_or(0) as usize];
    for element in answered.elements() {
        element.error()?;
        let place = usize::try_from(element.partition()).ok().and_then(|id| offsets.get_mut(id));
        if let (Some(place), Offset::Offset(offset)) = (place, element.offset()) {
            *place = offset;
        }
    }
    Ok(offsets.into())
}
