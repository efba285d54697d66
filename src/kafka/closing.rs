//! Clients that are of no use any more, each ending on a thread of its own: where brokers do not answer that takes minutes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use rdkafka::consumer::Consumer;

use super::client::Client;

/// How many may be ending before another client takes the place of one.
const CLOSING_MAX: usize = 4;

#[derive(Default)]
pub(super) struct Closing(Vec<JoinHandle<()>>);

impl Closing {
    pub(super) fn has_room(&mut self) -> bool {
        self.0.retain(|thread| !thread.is_finished());
        self.0.len() < CLOSING_MAX
    }

    /// Whether all have ended.
    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(JoinHandle::is_finished)
    }

    /// Ends a client; what it still says is of no interest.
    pub(super) fn close(&mut self, client: Arc<Client>) {
        client.context().retired.store(true, Ordering::Relaxed);
        match thread::Builder::new().name("kafka-close".into()).spawn(move || drop(client)) {
            Ok(thread) => self.0.push(thread),
            Err(error) => tracing::warn!(%error, "cannot start a thread to close a Kafka client"),
        }
    }
}
