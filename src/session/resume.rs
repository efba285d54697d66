//! Resuming: where a subscription starts, and the wait for what must be known for that. [`super::catch_up`] continues
//! from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cursor::{Cursor, Positions, TopicPosition};
use crate::event::{CLOCK_SKEW_MS, Entry, EventId, GapCause, Topic};
use crate::hub::{
    Ends, LogEnd, Lookup, NoState, OtherEpoch, Page, Place, Plan, ReplayLimits, TimeStart, TopicDescription, is_whole,
};
use crate::route::{OnGap, Stream};

use super::catch_up::Replaying;
use super::losses::{Checked, first_losses, loss};
use super::skim::Skim;
use super::{Progress, Resume, Resumes, Session, Subscription, WriterContext};

/// How long resuming waits until a position that is ahead of this replica has been read here: the client may come from
/// another writer or replica that has read more, or connect before the log has been read.
const RESUME_WAIT: Duration = Duration::from_secs(1);
/// How long brokers and replicas take to learn of a new topic or partition. Until then, a negative response does not
/// prove that it does not exist.
pub(super) const PARTITION_WAIT: Duration = Duration::from_secs(8);
/// How long a client waits for its response while the log is read to validate its position.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long events are counted that may fit into the replay limit although their offsets do not. After that offsets
/// count.
const SKIM_WAIT: Duration = Duration::from_secs(5);
/// How long a client waits for its answer while the brokers of some, but not all partitions do not respond. What their
/// logs have lost is reported in the stream then.
const SILENCE_WAIT: Duration = Duration::from_secs(3);

/// A subscription whose start position is not known yet.
#[derive(Debug)]
pub(super) struct Waiting {
    start: Start,
    since: Instant,
    /// In milliseconds since the Unix epoch.
    since_ms: i64,
    /// Logs that end before the client's position.
    log_ends: Vec<LogEnd>,
    /// Whether partitions of the position that are unknown here may exist.
    has_unknown: bool,
    /// The stream's positions when the log was first queried: the start positions for partitions without a record as
    /// late as the requested time.
    ends: Option<Positions>,
    looked: Looked,
}

/// What was seen of the log so far.
#[derive(Debug, Default)]
struct Looked {
    /// The losses at the checked places.
    checked: Checked,
    /// Events before the window, where their number decides.
    skim: Skim,
}

/// What may follow while a client receives other partitions.
#[derive(Clone, Copy)]
struct Follow {
    /// Whether a log ends before the client's position.
    ends: bool,
    /// Whether a partition exists.
    unknown: bool,
}

/// The requested start, with periods converted to times.
#[derive(Clone, Debug)]
enum Start {
    Cursor(Cursor),
    Time(i64),
    Unreadable,
}

impl Session {
    /// Starts a subscription at the requested position, once the facts for that are known.
    pub(super) fn resume(&mut self, n: usize, resume: Resume, context: &WriterContext<'_>) {
        let start = match resume.at(context.now.unix_ms) {
            Resume::From(cursor) => Start::Cursor(cursor),
            Resume::At(ms) => Start::Time(ms),
            Resume::Within(_) | Resume::Ago(_) | Resume::Unreadable => Start::Unreadable,
        };
        let (since, since_ms) = (context.now.instant, context.now.unix_ms);
        let (log_ends, has_unknown, ends, looked) = Default::default();
        let waiting = Waiting { start, since, since_ms, log_ends, has_unknown, ends, looked };
        self.subscriptions[n].progress = Progress::Waiting(Box::new(waiting));
    }

    /// Starts the subscription if nothing is missing any more.
    pub(super) fn try_start(&mut self, n: usize, context: &mut WriterContext<'_>) {
        let can_report = self.answered || self.can_continue();
        let Subscription { stream, progress, .. } = &mut self.subscriptions[n];
        let Progress::Waiting(waiting) = progress else { return };
        let waited = context.now.instant.saturating_duration_since(waiting.since);
        let is_ready = context.hub.is_ready(stream);
        if is_ready {
            waiting.start.fit(stream, context);
            let ends = waiting.ends.get_or_insert_with(|| context.hub.positions(stream)).clone();
            let start = waiting.start.clone();
            let may_follow = waited >= SILENCE_WAIT;
            let may = Follow { ends: may_follow, unknown: may_follow && can_report };
            let is_ahead = matches!(&start, Start::Cursor(cursor) if waiting.awaits(stream, cursor, may, context));
            let (has_unknown, log_ends) = (waiting.has_unknown, waiting.log_ends.clone());
            let mut looked = std::mem::take(&mut waiting.looked);
            looked.checked.accepts_silence = waited >= SILENCE_WAIT;
            let may_skim = waited < SKIM_WAIT;
            let log_ends = Ends { known: &log_ends, may_follow, has_unknown };
            if !is_ahead && let Some(plan) = self.locate(n, &start, (&ends, log_ends), (&mut looked, may_skim), context)
            {
                return self.start(n, plan, &start, context);
            }
            if let Progress::Waiting(waiting) = &mut self.subscriptions[n].progress {
                waiting.looked = looked;
            }
        }
        let patience = if is_ready { ANSWER_WAIT } else { RESUME_WAIT };
        if !self.answered && waited >= patience {
            self.refuse_early(is_ready, context);
            // Messages that arrived early; their errors are reported by their own responses.
            self.read_on(context);
        } else {
            self.look_again(context);
        }
    }

    /// The replay plan; `None` if it has to wait.
    fn locate(
        &self,
        n: usize,
        start: &Start,
        (ends, log_ends): (&Positions, Ends<'_>),
        (looked, may_skim): (&mut Looked, bool),
        context: &WriterContext<'_>,
    ) -> Option<Plan> {
        let (hub, stream, limits) = (context.hub, &*self.subscriptions[n].stream, context.log.limits());
        let plan_within = |limits: &ReplayLimits| {
            Some(match start {
                Start::Cursor(cursor) => match hub.is_time_needed(stream, cursor, limits) {
                    Some(place) => plan_by_id(stream, &cursor.id, &place, ends, limits, context)?,
                    None => hub.plan_before(stream, cursor, log_ends, limits),
                },
                Start::Time(ms)
                    if limits.events > 0 && stream.topics.iter().all(|topic| context.log.finds_times(topic)) =>
                {
                    let offsets = offsets_at(stream, *ms, ends, context)?;
                    hub.plan_at(stream, &TimeStart { ms: *ms, offsets: &offsets, ends, id: None }, limits)
                }
                Start::Time(_) | Start::Unreadable => hub.plan_unknown(stream),
            })
        };
        let mut plan = plan_within(&limits)?;
        if may_skim && plan.gaps.iter().any(|gap| gap.cause == GapCause::ReplayLimit) {
            let all = plan_within(&ReplayLimits { events: u64::MAX, ..limits })?;
            if looked.skim.fits(&all.replay, stream, limits.events, context)? {
                plan = all;
            }
        }
        let is_asked = !self.answered && !self.can_continue() || self.replaces_losses(n, context);
        if is_asked && plan.gaps.is_empty() {
            plan.gaps = first_losses(stream, &plan.replay, &mut looked.checked, context)?;
        }
        Some(plan)
    }

    fn start(&mut self, n: usize, plan: Plan, start: &Start, context: &mut WriterContext<'_>) {
        let lost = plan.gaps.first().map(|gap| gap.cause).filter(|_| self.replaces_losses(n, context));
        if self.answered {
            return match lost {
                Some(cause) => self.send_state(n, None, Some(cause.as_str())),
                None => self.begin_replay(n, plan, context),
            };
        }
        match plan.gaps.first() {
            Some(gap) if !self.can_continue() => self.refuse_gone(gap, context),
            _ => {
                self.write_head(context);
                let stream = &self.subscriptions[n].stream;
                let cursor = match start.cursor() {
                    Some(seen) if plan.gaps.is_empty() => Some(plan.replay.cursor(stream, &seen.id)),
                    // The client's own position: a client that is disconnected before it receives the gap must receive
                    // it when it resumes.
                    Some(seen) => Some(seen.clone()),
                    None if plan.gaps.is_empty() => plan.replay.cursor_now(stream),
                    None => None,
                };
                self.prime(cursor.map(|cursor| cursor.to_string()).as_deref());
                self.beat_first(context);
                match lost {
                    Some(cause) => self.send_state(n, None, Some(cause.as_str())),
                    None => self.begin_replay(n, plan, context),
                }
                self.read_on(context);
            }
        }
    }

    /// Whether the client receives the state instead of events that are no longer available. A state that exceeds its
    /// limit cannot replace them.
    fn replaces_losses(&self, n: usize, context: &WriterContext<'_>) -> bool {
        let Subscription { route, stream, .. } = &self.subscriptions[n];
        let table = context.log.table(stream).filter(|_| route.on_gap == OnGap::State);
        table.is_some_and(|table| table.size().answers != Err(NoState::TooLarge))
    }

    /// Whether a loss can be reported in the stream, instead of an error response.
    fn can_continue(&self) -> bool {
        self.form.transport.fails_in_stream() || self.request.route.on_gap != OnGap::Gone
    }

    /// Queues the gaps, then starts the catch-up.
    fn begin_replay(&mut self, n: usize, mut plan: Plan, context: &WriterContext<'_>) {
        let unavailable = plan.replay.lost(context.hub, &self.subscriptions[n].stream);
        plan.gaps.extend(unavailable);
        let needs_log = plan.replay.needs_log(context.hub, &self.subscriptions[n].stream);
        let Resumes { window, log, .. } = &mut self.resumes;
        let resumes = if needs_log && context.log.limits().events > 0 { log } else { window };
        *resumes = resumes.saturating_add(1);
        self.report_lost(n, plan.gaps, &plan.replay);
        if self.websocket.is_some() {
            match &mut self.subscriptions[n].from {
                Some(from) => from.go_back(plan.replay.positions()),
                from @ None => *from = Some(Box::new(plan.replay.positions().clone())),
            }
        }
        self.subscriptions[n].progress = Progress::Replaying(Box::new(Replaying::new(plan.replay, context.now)));
    }
}

impl Start {
    /// Limits what is kept of a position by the stream's partitions; one with many more is of another stream, or
    /// forged.
    fn fit(&mut self, stream: &Stream, context: &WriterContext<'_>) {
        if let Self::Cursor(cursor) = self {
            let known: Vec<usize> = context.hub.positions(stream).0.iter().map(|topic| topic.next.len()).collect();
            match cursor.fitted(&stream.topics, &known) {
                Some(fitted) => *cursor = fitted,
                None => *self = Self::Unreadable,
            }
        }
    }

    fn cursor(&self) -> Option<&Cursor> {
        match self {
            Self::Cursor(cursor) => Some(cursor),
            Self::Time(_) | Self::Unreadable => None,
        }
    }
}

impl Waiting {
    /// Whether a position that is ahead of this replica may still be reached. Not reaching it within a moment does not
    /// prove that it is gone: Kafka may be unavailable to this replica. Only a broker's response to a request after the
    /// client connected proves it, for each partition separately. What `may` follow does not delay other partitions.
    fn awaits(&mut self, stream: &Stream, cursor: &Cursor, may: Follow, context: &WriterContext<'_>) -> bool {
        let waited = context.now.instant.saturating_duration_since(self.since);
        let ahead = context.hub.ahead(stream, cursor);
        if waited < RESUME_WAIT {
            return !ahead.is_nothing();
        }
        // The topic of the position was replaced by the one that is read here, unless brokers describe another one.
        let is_outdated = |other: &OtherEpoch| {
            waited >= PARTITION_WAIT && self.described(&other.topic, context).is_some_and(|found| found.confirms(other))
        };
        if !ahead.others.iter().all(is_outdated) {
            return true;
        }
        let is_missing = |(topic, partitions): &(Topic, usize)| {
            waited >= PARTITION_WAIT
                && self.described(topic, context).is_some_and(|found| found.partitions < *partitions)
        };
        self.has_unknown = !ahead.unknown.iter().all(is_missing);
        if self.has_unknown && !(may.unknown && cursor.opaque.is_some()) {
            return true;
        }
        for place in &ahead.places {
            if self.is_known_end(place) {
                continue;
            }
            let page = context.log.page(place, context.asker());
            let end = if let Lookup::Found(page) = page { end_in(&page, place) } else { None };
            match end {
                Some(end) => self.log_ends.push(end),
                None if may.ends => {}
                None => return true,
            }
        }
        // Gaps then name exactly the lost events, and no event is repeated.
        !may.ends && !self.log_ends.iter().all(|end| context.hub.is_read(end))
    }

    fn is_known_end(&self, place: &Place) -> bool {
        let Place { topic, partition, epoch, .. } = place;
        self.log_ends.iter().any(|end| (&end.topic, &end.partition, &end.epoch) == (topic, partition, epoch))
    }

    /// What brokers report of a topic, requested by this client.
    fn described(&self, topic: &Topic, context: &WriterContext<'_>) -> Option<TopicDescription> {
        described_since(topic, self.since_ms, context)
    }
}

/// Clients that connected in the same period share a request, so that their number does not matter to the brokers.
const SHARED_REQUEST_MS: i64 = 1000;

/// What brokers report of a topic, requested so long after this time that they know of a topic or partition that
/// existed then; clients of one [`SHARED_REQUEST_MS`] share the request of the first one.
pub(super) fn described_since(topic: &Topic, since_ms: i64, context: &WriterContext<'_>) -> Option<TopicDescription> {
    let wait = i64::try_from(PARTITION_WAIT.as_millis()).unwrap_or(i64::MAX);
    let at_ms = since_ms.saturating_add(wait);
    match context.log.description(topic, at_ms - at_ms.rem_euclid(SHARED_REQUEST_MS), context.asker()) {
        Lookup::Found(found) => Some(found),
        Lookup::Asked | Lookup::Down | Lookup::Busy => None,
    }
}

/// The end of a log, if its broker reports that it is before the place.
pub(super) fn end_in(page: &Page, place: &Place) -> Option<LogEnd> {
    match page.entries.first() {
        Some(Entry::Gap { cause: GapCause::Truncated, range }) if range.from <= place.offset => {
            let Place { topic, partition, epoch, .. } = place.clone();
            Some(LogEnd { topic, partition, epoch, end: range.from })
        }
        _ => None,
    }
}

/// The plan for an event that has left the window: the event's time determines the positions in other partitions.
/// `None` if the log has to be read first.
fn plan_by_id(
    stream: &Stream,
    id: &EventId,
    place: &Place,
    ends: &Positions,
    limits: &ReplayLimits,
    context: &WriterContext<'_>,
) -> Option<Plan> {
    let Lookup::Found(page) = context.log.page(place, context.asker()) else { return None };
    let is_gone = page.entries.first().is_some_and(|entry| loss(entry).is_some());
    // Events of other partitions from this long before it are sent again.
    // The time of a deleted event is unknown: all existing events may be new to the client.
    let sent_ms = page.first_ms.filter(|_| !is_gone).unwrap_or(0);
    // Producers choose the times of records.
    let sent_ms = context.hub.received_ms(id).map_or(sent_ms, |received_ms| received_ms.min(sent_ms));
    let ms = sent_ms.saturating_sub(CLOCK_SKEW_MS).max(0);
    let mut offsets = offsets_at(stream, ms, ends, context)?;
    if is_gone || is_whole(stream, id) {
        let firsts = offsets_at(stream, 0, ends, context)?;
        offsets = context.hub.with_deleted(stream, ms, &offsets, &firsts);
    }
    Some(context.hub.plan_at(stream, &TimeStart { ms, offsets: &offsets, ends, id: Some(id) }, limits))
}

/// The first offsets of all partitions at or after a time; `None` if they have to be requested first, or if they are of
/// another topic than the one that is read here.
fn offsets_at(stream: &Stream, ms: i64, ends: &Positions, context: &WriterContext<'_>) -> Option<Vec<Arc<[i64]>>> {
    // All topics are requested before waiting for any.
    let ask = |(topic, end): (&Topic, &TopicPosition)| match end.next.is_empty() {
        // A missing topic does not delay others.
        true => Some([].into()),
        false => offsets_of(topic, ms, context),
    };
    let asked: Vec<_> = stream.topics.iter().zip(&ends.0).map(ask).collect();
    asked.into_iter().collect()
}

/// The same of one topic.
pub(super) fn offsets_of(topic: &Topic, ms: i64, context: &WriterContext<'_>) -> Option<Arc<[i64]>> {
    match context.log.offsets_at(topic, ms, context.asker()) {
        Lookup::Found(found) if found.is_of(context.hub.epoch(topic)) => Some(found.offsets),
        Lookup::Found(_) | Lookup::Asked | Lookup::Down | Lookup::Busy => None,
    }
}
