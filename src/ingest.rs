//! The order in which the output of a source takes effect.
//!
//! Cached chunks of the log come first, then the writers: a session that a writer wakes may request a chunk at once,
//! and must not receive one of a deleted log.

use crate::event::{Entry, Epoch, Feed, GapCause, Topic};

/// The cached chunks of the log for replay.
pub trait Chunks {
    /// The topic has this epoch now. Chunks of another epoch belong to the predecessor of a recreated topic, and are
    /// dropped.
    fn assigned(&self, topic: &Topic, epoch: Epoch);
    /// A log of the topic was truncated. Chunks of the topic are dropped.
    fn truncated(&self, topic: &Topic);
    /// Records of the topic become other events. Chunks of the topic are dropped.
    fn reshaped(&self, topic: &Topic);
}

/// The component that serves streams.
pub trait Fanout {
    /// Accepts the output of a source. Blocks for a bounded time while all writers are behind.
    fn feed(&self, feed: &Feed);
}

/// Applies one message of a source.
pub fn ingest(feed: &Feed, chunks: &impl Chunks, fanout: &impl Fanout) {
    match feed {
        Feed::Assigned(assigned) => chunks.assigned(&assigned.topic, assigned.epoch),
        Feed::Batch(entries) => truncated(entries).for_each(|topic| chunks.truncated(topic)),
        Feed::Topic(change) if change.is_reshaped => chunks.reshaped(&change.topic),
        Feed::Topic(_) | Feed::Live { .. } => {}
    }
    fanout.feed(feed);
}

/// The topics of truncated logs. A source reports truncation in a separate batch of gaps, so that for other batches
/// only the first entry is examined.
fn truncated(entries: &[Entry]) -> impl Iterator<Item = &Topic> {
    let gaps = entries.iter().map_while(|entry| match entry {
        Entry::Gap { cause, range } => Some((*cause, range)),
        Entry::Event(_) | Entry::Hole { .. } => None,
    });
    gaps.filter(|(cause, _)| *cause == GapCause::Truncated).map(|(_, range)| &range.topic)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::event::{Assigned, GapRange, TopicChange};

    /// Records the calls in order.
    #[derive(Default)]
    struct Calls(RefCell<Vec<String>>);

    impl Calls {
        fn of(feed: &Feed) -> Vec<String> {
            let calls = Self::default();
            ingest(feed, &calls, &calls);
            calls.0.into_inner()
        }
    }

    impl Chunks for Calls {
        fn assigned(&self, topic: &Topic, epoch: Epoch) {
            self.0.borrow_mut().push(format!("assigned {topic} {epoch}"));
        }

        fn truncated(&self, topic: &Topic) {
            self.0.borrow_mut().push(format!("truncated {topic}"));
        }

        fn reshaped(&self, topic: &Topic) {
            self.0.borrow_mut().push(format!("reshaped {topic}"));
        }
    }

    impl Fanout for Calls {
        fn feed(&self, feed: &Feed) {
            self.0.borrow_mut().push(format!("feed {}", feed.entries()));
        }
    }

    fn gap(topic: &str, cause: GapCause) -> Entry {
        Entry::Gap { cause, range: GapRange { topic: topic.into(), partition: 0, from: 1, to: 2 } }
    }

    #[test]
    fn chunks_are_dropped_before_writers_receive_the_change() {
        assert_eq!(Calls::of(&Feed::Assigned(Assigned::new("a", 7, [0]))), ["assigned a 7", "feed 0"]);
        let batch = [gap("a", GapCause::Truncated), gap("b", GapCause::Retention), gap("c", GapCause::Truncated)];
        assert_eq!(Calls::of(&Feed::Batch(batch.into())), ["truncated a", "truncated c", "feed 3"]);
        let change = |is_reshaped| {
            let (topic, window, applied) = ("a".into(), None, std::sync::mpsc::channel().0);
            Feed::Topic(TopicChange { topic, window, is_reshaped, applied })
        };
        assert_eq!(Calls::of(&change(true)), ["reshaped a", "feed 0"]);
        assert_eq!(Calls::of(&change(false)), ["feed 0"]);
        assert_eq!(Calls::of(&Feed::Live { topics: ["a".into()].into() }), ["feed 0"]);
    }
}
