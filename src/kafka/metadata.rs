//! Asks any broker for a topic's metadata. librdkafka has no function for that which does not block, so that a thread of
//! its own waits for the answer, and nobody for the thread.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::Client;
use crate::event::Topic;

/// What a broker answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    /// The broker's id.
    pub(super) broker: i32,
    /// How many partitions the topic has; 0 where there is no such topic.
    pub(super) partitions: usize,
}

/// A question under way. Dropping it is giving it up.
pub(super) struct Asking(Receiver<Result<Metadata, KafkaError>>);

/// Asks a broker that is connected, or the first that is within `limit`.
pub(super) fn ask(client: &Arc<Client>, topic: &Topic, limit: Duration) -> Asking {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (client, topic) = (client.clone(), topic.clone());
    let ask = move || {
        // Nobody may wait for it any more.
        let _ = sender.send(fetch(&client, &topic, limit));
        client.context().on_answer.iter().for_each(|on_answer| on_answer());
    };
    if let Err(error) = thread::Builder::new().name("kafka-metadata".into()).spawn(ask) {
        tracing::warn!(%error, "cannot start a thread for requests to Kafka");
    }
    Asking(receiver)
}

impl Asking {
    /// The answer, or why there is none. Does not wait.
    pub(super) fn answer(&self) -> Option<Result<Metadata, KafkaError>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            // There was no thread.
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
        Some((None, partitions)) => Ok(Metadata { broker, partitions: partitions.len() }),
        None | Some((Some(RDKafkaErrorCode::UnknownTopicOrPartition), _)) => Ok(Metadata { broker, partitions: 0 }),
        Some((Some(code), _)) => Err(KafkaError::MetadataFetch(code)),
    }
}
