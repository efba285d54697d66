//! What is asked about the topics of one cluster as of a time, offsets or descriptions: pending requests, and responses,
//! which are cached for a few seconds. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::requests::CALL_AGAIN;
use crate::event::UNKNOWN_POSITION;
use crate::hub::{Asker, NO_OFFSET, OffsetsAt, TopicDescription};

/// The most pending requests, and the most cached responses.
const TIMES_MAX: usize = 4096;
/// How long a response is cached.
const ANSWER_KEPT: Duration = Duration::from_secs(5);
/// The same of one without the offsets of some partitions.
const PARTIAL_ANSWER_KEPT: Duration = Duration::from_secs(1);

/// The index of a topic, and milliseconds since the Unix epoch.
pub(super) type Time = (usize, i64);

/// A response.
pub(super) trait Content: Clone {
    /// How long it is cached.
    fn kept(&self) -> Duration {
        ANSWER_KEPT
    }

    /// Whether it is valid only for sessions that asked before it arrived.
    fn is_for_earlier(&self) -> bool {
        false
    }
}

impl Content for TopicDescription {}

impl Content for OffsetsAt {
    fn kept(&self) -> Duration {
        if self.offsets.contains(&UNKNOWN_POSITION) { PARTIAL_ANSWER_KEPT } else { ANSWER_KEPT }
    }

    /// If a partition had no offset yet, the next record may have one.
    fn is_for_earlier(&self) -> bool {
        self.offsets.contains(&NO_OFFSET)
    }
}

#[derive(Debug)]
pub(super) struct Times<A> {
    /// A keyed hash, because clients choose the times.
    answers: HashMap<Time, Answer<A>>,
    /// In order of arrival.
    questions: VecDeque<Question>,
}

#[derive(Debug)]
struct Answer<A> {
    content: A,
    until: Instant,
    /// The sessions that it is valid for; `None` means all.
    only: Option<FxHashSet<Asker>>,
}

#[derive(Debug)]
struct Question {
    time: Time,
    /// When it was sent, or its sessions were called last.
    since: Instant,
    askers: FxHashSet<Asker>,
}

impl<A> Default for Times<A> {
    fn default() -> Self {
        Self { answers: HashMap::new(), questions: VecDeque::new() }
    }
}

impl<A: Content> Times<A> {
    pub(super) fn get(&self, time: Time, asker: Asker, now: Instant) -> Option<A> {
        let answer = self.answers.get(&time).filter(|answer| now < answer.until)?;
        let is_theirs = answer.only.as_ref().is_none_or(|only| only.contains(&asker));
        is_theirs.then(|| answer.content.clone())
    }

    /// Adds a request. False if there are too many.
    #[must_use]
    pub(super) fn ask(&mut self, time: Time, asker: Asker, now: Instant) -> bool {
        if let Some(question) = self.questions.iter_mut().find(|question| question.time == time) {
            question.askers.insert(asker);
            return true;
        }
        if self.questions.len() >= TIMES_MAX {
            return false;
        }
        self.questions.push_back(Question { time, since: now, askers: FxHashSet::from_iter([asker]) });
        true
    }

    /// The oldest request, except for these.
    pub(super) fn next(&self, but: impl Fn(Time) -> bool) -> Option<Time> {
        self.questions.iter().map(|question| question.time).find(|time| !but(*time))
    }

    /// Caches a response; returns the sessions that waited for it.
    pub(super) fn answer(&mut self, time: Time, content: A, now: Instant) -> Vec<Asker> {
        let Some(index) = self.questions.iter().position(|question| question.time == time) else { return Vec::new() };
        let askers = self.questions.remove(index).map(|question| question.askers).unwrap_or_default();
        let called = askers.iter().copied().collect();
        self.answers.retain(|_, answer| now < answer.until);
        if self.answers.len() >= TIMES_MAX {
            // They are requested again.
            self.answers.clear();
        }
        let (until, only) = (now + content.kept(), content.is_for_earlier().then_some(askers));
        self.answers.insert(time, Answer { content, until, only });
        called
    }

    /// The sessions that have waited for too long and should request again. A request that no session has repeated is
    /// dropped.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Asker> {
        self.call(now, |question| now.duration_since(question.since) >= CALL_AGAIN)
    }

    /// All waiting sessions.
    pub(super) fn everybody(&mut self, now: Instant) -> Vec<Asker> {
        self.call(now, |question| !question.askers.is_empty())
    }

    fn call(&mut self, now: Instant, is_due: impl Fn(&Question) -> bool) -> Vec<Asker> {
        self.questions.retain(|question| !(is_due(question) && question.askers.is_empty()));
        let mut called = Vec::new();
        for question in self.questions.iter_mut().filter(|question| is_due(question)) {
            called.extend(question.askers.drain());
            question.since = now;
        }
        called
    }

    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(session: u32) -> Asker {
        Asker { writer: 0, session }
    }

    #[test]
    fn responses_are_shared_for_a_while() {
        let (mut times, now) = (Times::<OffsetsAt>::default(), Instant::now());
        assert!(
            times.ask((0, 7), asker(1), now) && times.ask((0, 7), asker(2), now) && times.ask((1, 7), asker(3), now)
        );
        assert_eq!(times.next(|_| false), Some((0, 7)));
        assert_eq!(times.next(|(topic, _)| topic == 0), Some((1, 7)));
        assert_eq!(times.answer((0, 7), OffsetsAt::new([4, 5]), now).len(), 2);
        assert_eq!(times.get((0, 7), asker(9), now), Some(OffsetsAt::new([4, 5])));
        assert_eq!(times.get((0, 7), asker(9), now + ANSWER_KEPT), None);
        assert_eq!(times.next(|_| false), Some((1, 7)));
    }

    #[test]
    fn a_response_without_an_offset_is_valid_only_for_earlier_requests() {
        let (mut times, now) = (Times::<OffsetsAt>::default(), Instant::now());
        assert!(times.ask((0, 7), asker(1), now));
        times.answer((0, 7), OffsetsAt::new([4, NO_OFFSET]), now);
        assert!(times.get((0, 7), asker(1), now).is_some());
        assert!(times.get((0, 7), asker(2), now).is_none(), "there may be one by now");
    }

    #[test]
    fn an_answer_without_some_partitions_is_kept_for_a_moment() {
        let (mut times, now) = (Times::<OffsetsAt>::default(), Instant::now());
        assert!(times.ask((0, 7), asker(1), now));
        times.answer((0, 7), OffsetsAt::new([4, UNKNOWN_POSITION]), now);
        assert_eq!(times.get((0, 7), asker(1), now), Some(OffsetsAt::new([4, UNKNOWN_POSITION])));
        assert_eq!(times.get((0, 7), asker(1), now + PARTIAL_ANSWER_KEPT), None);
    }

    #[test]
    fn waiting_sessions_are_called_again_and_dropped_without_a_new_request() {
        let (mut times, now) = (Times::<OffsetsAt>::default(), Instant::now());
        assert!(times.ask((0, 7), asker(1), now));
        assert!(times.overdue(now).is_empty());
        assert_eq!(times.overdue(now + CALL_AGAIN), [asker(1)]);
        assert!(!times.is_empty());
        assert!(times.overdue(now + 2 * CALL_AGAIN).is_empty());
        assert!(times.is_empty());
    }

    #[test]
    fn questions_and_answers_are_bounded() {
        let (mut times, now) = (Times::<OffsetsAt>::default(), Instant::now());
        for ms in 0..TIMES_MAX as i64 {
            assert!(times.ask((0, ms), asker(1), now));
        }
        assert!(!times.ask((0, -1), asker(1), now));
        for ms in 0..TIMES_MAX as i64 {
            times.answer((0, ms), OffsetsAt::new([0]), now);
        }
        assert!(times.ask((0, -1), asker(1), now));
        times.answer((0, -1), OffsetsAt::new([0]), now);
        assert!(times.answers.len() <= TIMES_MAX && times.get((0, -1), asker(1), now).is_some());
    }
}
