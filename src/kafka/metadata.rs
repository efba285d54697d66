//! Requests a topic's metadata from any broker. librdkafka has only a blocking function for that, so a temporary thread
//! waits for the response.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;

use super::client::Client;
use crate::event::Topic;

/// The response of a broker.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// The broker's id.
    pub(super) broker: i32,
    /// The leader of each partition, if it has one. Empty if the topic does not exist.
    pub(super) leaders: Vec<Option<i32>>,
}

/// A request in progress. Dropping it cancels it.
pub(super) struct Asking(Receiver<Result<Metadata, KafkaError>>);

/// Sends the request to a connected broker, or the first one that connects within `limit`.
pub(super) fn ask(client: &Arc<Client>, topic: &Topic, limit: Duration) -> Asking {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (client, topic) = (client.clone(), topic.clone());
    let ask = move || {
        // The receiver may have been dropped.
        let _ = sender.send(fetch(&client, &topic, limit));
        client.context().on_answer.iter().for_each(|on_answer| on_answer());
    };
    if let Err(error) = thread::Builder::new().name("kafka-metadata".into()).spawn(ask) {
        tracing::warn!(%error, "cannot start a thread for requests to Kafka");
    }
    Asking(receiver)
}

impl Asking {
    /// The response or its error, if it has arrived. Does not block.
    pub(super) fn answer(&self) -> Option<Result<Metadata, KafkaError>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            // The thread could not be started.
            Err(TryRecvError::Disconnected) => {
                Some(Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut)))
            }
        }
    }
}

fn fetch(client: &Client, topic: &Topic, limit: Duration) -> Result<Metadata, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), limit)?;
    let broker = metadata.orig_broker_id();
    let found = metadata.topics().iter().find(|found| found.name() == &**topic);
    match found.map(|found| (found.error().map(RDKafkaErrorCode::from), found.partitions())) {
        Some((None, partitions)) => Ok(Metadata { broker, leaders: leaders(partitions) }),
        None | Some((Some(RDKafkaErrorCode::UnknownTopicOrPartition), _)) => {
            Ok(Metadata { broker, leaders: Vec::new() })
        }
        Some((Some(code), _)) => Err(KafkaError::MetadataFetch(code)),
    }
}

fn leaders(partitions: &[MetadataPartition]) -> Vec<Option<i32>> {
    let mut leaders = vec![None; partitions.len()];
    for partition in partitions {
        if let Some(known) = usize::try_from(partition.id()).ok().and_then(|id| leaders.get_mut(id)) {
            *known = Some(partition.leader()).filter(|leader| *leader >= 0);
        }
    }
    leaders
}
