//! Requests the id of any broker, which other requests need. librdkafka has only a blocking function for that, so a
//! temporary thread waits for the response.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::Client;
use crate::event::Topic;

/// A request in progress. Dropping it cancels it.
pub(super) struct Asking(Receiver<Result<i32, KafkaError>>);

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
    pub(super) fn answer(&self) -> Option<Result<i32, KafkaError>> {
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

/// The id of the broker that responds about this topic.
fn fetch(client: &Client, topic: &Topic, limit: Duration) -> Result<i32, KafkaError> {
    Ok(client.fetch_metadata(Some(topic), limit)?.orig_broker_id())
}
