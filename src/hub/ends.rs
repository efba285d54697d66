//! Clients that are ahead of what was read here, and logs that end before them.

use super::log::Place;
use super::window::TopicWindow;
use crate::event::{Epoch, Topic, UNKNOWN_POSITION};

/// The end of a log, as its broker reports it, which is before the client's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub topic: Topic,
    pub partition: i32,
    /// The epoch of the topic.
    pub epoch: Epoch,
    /// The offset after the last one.
    pub end: i64,
}

/// What is known of logs that end before the client's position.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends<'a> {
    /// Those whose brokers have said so.
    pub known: &'a [LogEnd],
    /// Whether other partitions may end before it as well: the replay waits for those. Else they do.
    pub may_follow: bool,
    /// Whether partitions that are unknown here may exist: the replay waits for those. Else they do not.
    pub has_unknown: bool,
}

/// The positions of a client that are ahead of this process.
#[derive(Debug, Default)]
pub struct Ahead {
    /// For known partitions: the last offset that the client has received.
    pub places: Vec<Place>,
    /// Topics with partitions that are unknown here, and their least number of partitions.
    pub unknown: Vec<(Topic, usize)>,
    /// Topics with another epoch than the one that is read here: which of the two topics replaced the other is not
    /// known.
    pub others: Vec<OtherEpoch>,
}

/// A topic with another epoch in a position than the one that is read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherEpoch {
    pub topic: Topic,
    /// The epoch that is read here.
    pub here: Epoch,
}

impl Ahead {
    pub fn is_nothing(&self) -> bool {
        self.places.is_empty() && self.unknown.is_empty() && self.others.is_empty()
    }

    pub(super) fn look(&mut self, topic: &Topic, window: Option<&TopicWindow>, n: usize, position: i64) {
        let known = window.and_then(|window| Some((window, *window.next.get(n)?)));
        match known {
            // Nothing was read of it, so that nothing is known.
            Some((_, UNKNOWN_POSITION)) => {}
            // If the log is known to be truncated, the plan contains the gap.
            Some((window, next)) if position > next && window.last_cut(n, position).is_none() => {
                let (topic, partition, epoch) = (topic.clone(), n as i32, window.epoch);
                self.places.push(Place { topic, partition, epoch, offset: position - 1, until: position });
            }
            None if position > 0 => match self.unknown.iter_mut().find(|(known, _)| known == topic) {
                Some((_, partitions)) => *partitions = (*partitions).max(n + 1),
                None => self.unknown.push((topic.clone(), n + 1)),
            },
            Some(_) | None => {}
        }
    }
}
