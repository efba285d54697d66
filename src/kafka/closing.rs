//! Closes clients in the background, each on its own thread: without responding brokers, that can take minutes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use rdkafka::consumer::Consumer;

use super::client::Client;

/// The most clients that are closing before a new one is created.
const CLOSING_MAX: usize = 4;

#[derive(Default)]
pub(super) struct Closing(Vec<JoinHandle<()>>);

impl Closing {
    pub(super) fn has_room(&mut self) -> bool {
        self.0.retain(|thread| !thread.is_finished());
        self.0.len() < CLOSING_MAX
    }

    /// Whether all clients are closed.
    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(JoinHandle::is_finished)
    }

    /// Closes a client, and ignores its further reports.
    pub(super) fn close(&mut self, client: Arc<Client>) {
        client.context().retired.store(true, Ordering::Relaxed);
        match thread::Builder::new().name("kafka-close".into()).spawn(move || drop(client)) {
            Ok(thread) => self.0.push(thread),
            Err(error) => tracing::warn!(%error, "cannot start a thread to close a Kafka client"),
        }
    }
}
