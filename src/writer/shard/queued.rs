//! The queueing span of a sampled event.

use std::time::Instant;

use crate::event::Event;

use super::Shard;

impl<W> Shard<W> {
    /// The event has been queued for its subscribers, since `began`.
    pub(super) fn queued(&mut self, event: &Event, began: Instant) {
        let queued = Instant::now();
        let streams = self.streams_that_want(event);
        self.count.event_spans.queued(event, streams, began, queued);
    }

    /// The number of streams that an event goes to. Computed separately, so that delivery costs nothing more.
    fn streams_that_want(&self, event: &Event) -> usize {
        let mut sessions = Vec::new();
        self.state.index.matches(event, |_, subscribers| {
            sessions.extend(subscribers.iter().map(|subscriber| subscriber.session as usize));
        });
        sessions.sort_unstable();
        sessions.dedup();
        let is_open = |key: &usize| self.connections.get(*key).is_some_and(|c| c.session.closed().is_none());
        sessions.iter().filter(|key| is_open(key)).count()
    }
}
