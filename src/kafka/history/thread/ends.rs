//! Continues chunks once the ends of their logs are known.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Pause, Work};
use crate::event::Epoch;
use crate::kafka::history::draft::{Draft, Fit};
use crate::kafka::history::reading::Start;
use crate::kafka::history::requests::TopicPartition;
use crate::kafka::short_answers::ShortAnswers;

/// The pause before a log is asked again that ends before a requested offset.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// How long a confirmed end is believed. Requests beyond it then cost other clients of the partition no more pauses.
const CONFIRMED_KEPT: Duration = Duration::from_secs(1);

/// The ends of logs before a requested offset. Others read or received that offset, so that one answer does not prove
/// that the log has lost it.
#[derive(Default)]
pub(super) struct ShortEnds(BTreeMap<TopicPartition, ShortEnd>);

#[derive(Default)]
struct ShortEnd {
    answers: ShortAnswers,
    confirmed_until: Option<Instant>,
}

impl ShortEnds {
    /// Whether a chunk that was just compared with its log is right about the log's end.
    fn confirm(&mut self, partition: TopicPartition, draft: &Draft, now: Instant) -> bool {
        let end = self.0.entry(partition).or_default();
        let is_short = draft.is_truncated();
        if end.answers.confirm(is_short) {
            end.confirmed_until = Some(now + CONFIRMED_KEPT);
        }
        !is_short || end.confirmed_until.is_some_and(|until| now < until)
    }
}

impl Work {
    /// The rest of a chunk of a log whose ends are known; `None` if the chunk is complete, or will be read again.
    pub(super) fn fit(
        &mut self,
        partition: TopicPartition,
        (mut draft, epoch): (Draft, Epoch),
        (low, high): (i64, i64),
        now: Instant,
    ) -> Option<(TopicPartition, Start)> {
        let fit = draft.fit(low, high);
        if !self.short_ends.confirm(partition, &draft, now) {
            // It is still requested.
            self.paused.insert(partition, Pause { until: now + SHORT_PAUSE, is_down: false });
            return None;
        }
        if fit == Fit::Done {
            self.publish(partition, draft, epoch, now);
            return None;
        }
        let until = draft.stop();
        Some((partition, Start { draft, epoch, log_end: Some(high), until }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_does_not_prove_that_a_log_ends_before_what_was_requested() {
        let (mut ends, now) = (ShortEnds::default(), Instant::now());
        let mut confirm = |partition, high, after| {
            let mut draft = Draft::new(130, 128, 1000);
            draft.fit(0, high);
            ends.confirm(TopicPartition { topic: 0, partition }, &draft, now + after)
        };
        let at_once = Duration::ZERO;
        assert_eq!([57, 500, 57, 57].map(|high| confirm(0, high, at_once)), [false, true, false, true]);
        assert!(confirm(0, 57, at_once) && confirm(0, 500, at_once), "it is believed for a while");
        assert!(!confirm(0, 57, CONFIRMED_KEPT) && confirm(0, 57, CONFIRMED_KEPT));
        assert!(!confirm(1, 57, at_once), "each partition is confirmed");
    }
}
