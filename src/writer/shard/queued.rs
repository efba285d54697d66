//! The queueing span of a sampled event.

use std::sync::Arc;
use std::time::Instant;

use crate::event::Event;
use crate::hub::Subscriber;

use super::Shard;

impl<W> Shard<W> {
    /// The event has been queued for its subscribers, since `began`.
    pub(super) fn queued(&mut self, event: &Arc<Event>, began: Instant) {
        let queued = Instant::now();
        let streams = self.streams_that_want(event);
        self.count.event_spans.queued(event, streams, began, queued);
    }

    /// The number of streams that an event goes to. Computed separately, so that delivery costs nothing more.
    fn streams_that_want(&self, event: &Arc<Event>) -> usize {
        let mut sessions = Vec::new();
        let wants = |subscriber: &&Subscriber| {
            let session = self.connections.get(subscriber.session as usize).map(|connection| &connection.session);
            session.is_some_and(|session| {
                session.closed().is_none() && session.may_receive(event, subscriber.frame, &self.state.judge)
            })
        };
        self.state.index.matches(event, |_, subscribers| {
            sessions.extend(subscribers.iter().filter(wants).map(|subscriber| subscriber.session));
        });
        sessions.sort_unstable();
        sessions.dedup();
        sessions.len()
    }
}
