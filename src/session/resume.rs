//! Resuming: where a subscription starts, waiting for what must be known or read for that, and the walk to the present.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cursor::{Cursor, Positions, TopicPosition};
use crate::event::{Entry, Event, EventId, FrameKey, GapCause, Topic};
use crate::hub::{Gap, Hub, Lookup, Page, Place, Plan, Replay, ReplayLimits, cut, last_id, matching};
use crate::route::{OnGap, Stream, Transport};

use super::{Desk, Progress, Resume, Resumes, Session, Subscription};

/// How many replayed events may wait in a queue before the walk pauses.
const REPLAY_EVENTS_AHEAD: usize = 64;
/// The same in bytes.
const REPLAY_BYTES_AHEAD: usize = 256 * 1024;
/// How many entries are looked at before others have their turn.
const ENTRIES_PER_TURN: usize = 2048;
/// How long resuming waits for what the client has seen to be read here as well: it may come from another writer or
/// replica that is a moment ahead, or ask before the log has been read.
const RESUME_WAIT: Duration = Duration::from_secs(1);
/// How long a partition, or a topic, that a client has seen may be unknown here: how long it takes to hear of a new one.
const PARTITION_WAIT: Duration = Duration::from_secs(8);
/// How long a client waits for its answer while the log is asked whether it can resume.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often what is waited for is looked at, whoever forgets to call.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How far apart in time two replicas, or two producers' clocks, may be. What other partitions got this long before an
/// event is sent again to a client that names the event alone.
const SKEW: Duration = Duration::from_secs(60);

/// A subscription that waits to know where it starts.
#[derive(Debug)]
pub(super) struct Waiting {
    start: Start,
    since: Instant,
    /// Where the stream stood when the log was asked first: where it had nothing as late as that, this is where to go on.
    ends: Option<Positions>,
}

/// Where a client wants to start, the time it means worked out.
#[derive(Clone, Debug)]
enum Start {
    Cursor(Cursor),
    Time(i64),
    Unreadable,
}

/// A subscription on its way to the present.
#[derive(Debug)]
pub(super) struct Replaying {
    replay: Replay,
    /// Once the log is read.
    reading: Option<Reading>,
}

/// What reading the log may still cost.
#[derive(Debug)]
struct Reading {
    events: u64,
    bytes: u64,
    until: Instant,
}

/// How far a walk came.
enum Walked {
    /// To the present.
    Done,
    /// It goes on at the next turn.
    Pauses,
    /// It waits for a page.
    Waits,
}

impl Session {
    /// Goes on with what is not live yet, as far as the queue has room; what has caught up is filed in the index.
    /// Gives whether there is more that can be done at once.
    pub fn catch_up(&mut self, desk: &mut Desk<'_>) -> bool {
        let mut more = false;
        self.look_at = None;
        for n in 0..self.subscriptions.len() {
            self.try_start(n, desk);
            // A WebSocket's first commands are carried out once it is answered; they may end it or what it wants.
            let Some(Subscription { progress, .. }) = self.subscriptions.get_mut(n).filter(|_| self.closed.is_none())
            else {
                break;
            };
            let mut replaying = match std::mem::replace(progress, Progress::Live) {
                Progress::Replaying(replaying) => replaying,
                other => {
                    *progress = other;
                    continue;
                }
            };
            match self.walk(n, &mut replaying, desk) {
                Walked::Done => {
                    self.enlist(n, desk);
                    continue;
                }
                Walked::Pauses => more = true,
                Walked::Waits => self.look_again(desk),
            }
            self.subscriptions[n].progress = Progress::Replaying(replaying);
        }
        more
    }

    /// Lets a subscription start where the client wants to, once what must be known for it is.
    pub(super) fn resume(&mut self, n: usize, resume: Resume, desk: &Desk<'_>) {
        let start = match resume.at(desk.now.unix_ms) {
            Resume::From(cursor) => Start::Cursor(cursor),
            Resume::At(ms) => Start::Time(ms),
            Resume::Ago(_) | Resume::Unreadable => Start::Unreadable,
        };
        let waiting = Waiting { start, since: desk.now.instant, ends: None };
        self.subscriptions[n].progress = Progress::Waiting(Box::new(waiting));
    }

    /// Ends the wait where there is nothing more to wait for.
    fn try_start(&mut self, n: usize, desk: &mut Desk<'_>) {
        let Subscription { stream, progress, .. } = &mut self.subscriptions[n];
        let Progress::Waiting(waiting) = progress else { return };
        let waited = desk.now.instant.saturating_duration_since(waiting.since);
        let is_ready = desk.hub.is_ready(stream);
        if is_ready {
            let ends = waiting.ends.get_or_insert_with(|| desk.hub.positions(stream)).clone();
            let start = waiting.start.clone();
            if let Some(plan) = self.locate(n, &start, &ends, waited, desk) {
                return self.start(n, plan, desk);
            }
        }
        let patience = if is_ready { ANSWER_WAIT } else { RESUME_WAIT };
        if !self.answered && waited >= patience {
            self.refuse_early(is_ready, desk);
            // What it said too early; errors in that are its own.
            self.read_on(desk);
        } else {
            self.look_again(desk);
        }
    }

    /// Where to start; nothing where that has to wait.
    fn locate(&self, n: usize, start: &Start, ends: &Positions, waited: Duration, desk: &Desk<'_>) -> Option<Plan> {
        let (hub, stream, limits) = (desk.hub, &*self.subscriptions[n].stream, desk.log.limits());
        let mut plan = match start {
            Start::Cursor(cursor) if may_come(stream, cursor, waited, desk) => return None,
            Start::Cursor(cursor) => match hub.is_time_needed(stream, cursor, &limits) {
                Some(place) => plan_by_id(stream, &cursor.id, &place, ends, desk)?,
                None => hub.plan(stream, cursor, &limits),
            },
            Start::Time(ms) if limits.events > 0 => {
                hub.plan_at(stream, &offsets_at(stream, *ms, ends, desk)?, ends, None, &limits)
            }
            Start::Time(_) | Start::Unreadable => hub.plan_unknown(stream),
        };
        if !self.answered && !self.can_continue() && plan.gaps.is_empty() {
            plan.gaps = first_losses(stream, &plan.replay, desk)?;
        }
        Some(plan)
    }

    fn start(&mut self, n: usize, plan: Plan, desk: &mut Desk<'_>) {
        if self.answered {
            return self.begin_replay(n, plan, desk);
        }
        match plan.gaps.first() {
            Some(gap) if !self.can_continue() => self.refuse_gone(gap, desk),
            _ => {
                self.write_head(desk);
                let stream = &self.subscriptions[n].stream;
                let cursor = match self.request.resume.as_ref().and_then(Resume::cursor) {
                    Some(seen) if plan.gaps.is_empty() => Some(plan.replay.cursor(stream, &seen.id)),
                    // Where it stood: cut off before it is told of a loss, it has to be told when it comes back.
                    Some(seen) => Some(seen.clone()),
                    None if plan.gaps.is_empty() => plan.replay.cursor_now(stream),
                    None => None,
                };
                self.prime(cursor.map(|cursor| cursor.to_string()).as_deref());
                self.begin_replay(n, plan, desk);
                self.read_on(desk);
            }
        }
    }

    /// Whether a loss can be told in the stream, rather than in place of it.
    fn can_continue(&self) -> bool {
        self.form.transport == Transport::Sse || self.request.route.on_gap == OnGap::Continue
    }

    /// Tells what is lost, then lets the subscription walk to the present.
    fn begin_replay(&mut self, n: usize, plan: Plan, desk: &Desk<'_>) {
        let needs_log = plan.replay.place(desk.hub, &self.subscriptions[n].stream).is_some();
        let Resumes { window, log, .. } = &mut self.resumes;
        let resumes = if needs_log && desk.log.limits().events > 0 { log } else { window };
        *resumes = resumes.saturating_add(1);
        self.tell_lost(n, plan.gaps, &plan.replay);
        if self.websocket.is_some() {
            self.subscriptions[n].from = Some(Box::new(plan.replay.positions().clone()));
        }
        let replaying = Replaying { replay: plan.replay, reading: None };
        self.subscriptions[n].progress = Progress::Replaying(Box::new(replaying));
    }

    fn tell_lost(&mut self, n: usize, gaps: Vec<Gap>, replay: &Replay) {
        if gaps.is_empty() {
            return;
        }
        let cursor = replay.cursor_now(&self.subscriptions[n].stream).map(|cursor| cursor.to_string().into());
        let last = gaps.len() - 1;
        for (n, gap) in gaps.into_iter().enumerate() {
            // It stands behind them all once it was told of all.
            let cursor = cursor.clone().filter(|_| n == last);
            self.queue.push_gap(Gap { cursor, ..gap });
        }
    }

    /// Walks one subscription through the log and the window.
    fn walk(&mut self, n: usize, replaying: &mut Replaying, desk: &Desk<'_>) -> Walked {
        let Replaying { replay, reading } = replaying;
        let (hub, stream, limits) = (desk.hub, self.subscriptions[n].stream.clone(), desk.log.limits());
        let mut lost = replay.lost(hub, &stream);
        if limits.events == 0 {
            lost.extend(replay.fell_out(hub, &stream));
        }
        self.tell_lost(n, lost, replay);
        let mut left = ENTRIES_PER_TURN;
        while let Some(place) = replay.place(hub, &stream) {
            let reading = reading.get_or_insert_with(|| Reading::new(&limits, desk.now.instant));
            let lookup = desk.log.page(&place, desk.asker());
            if !matches!(lookup, Lookup::Down) && reading.is_over(desk.now.instant) {
                let left_out = replay.keep_newest(hub, &stream, 0);
                let gap = Gap { cause: GapCause::ReplayLimit, ranges: left_out, missed: None, cursor: None };
                self.tell_lost(n, vec![gap], replay);
                continue;
            }
            let page = match lookup {
                Lookup::Found(page)
                    if page.offsets.contains(&place.offset) && replay.is_of(&stream, &page) && !is_cut_short(&page) =>
                {
                    page
                }
                Lookup::Down => {
                    reading.until = desk.now.instant + limits.time;
                    return Walked::Waits;
                }
                // Found, but of another topic of the name, or of a log that ends before what was read here: the hub
                // will hear of that.
                Lookup::Found(_) | Lookup::Asked | Lookup::Busy => return Walked::Waits,
            };
            if !self.read_page(n, &page, &place, replay, reading, &mut left) {
                return Walked::Pauses;
            }
        }
        self.walk_window(n, replay, hub, &mut left)
    }

    /// Takes what is new to the client of a page. False where it pauses before the page's end.
    fn read_page(
        &mut self,
        n: usize,
        page: &Page,
        place: &Place,
        replay: &mut Replay,
        reading: &mut Reading,
        left: &mut usize,
    ) -> bool {
        let stream = self.subscriptions[n].stream.clone();
        for entry in replay.unseen(&stream, page, place.until) {
            if !self.has_room(left) {
                return false;
            }
            replay.pass(&stream, &entry);
            reading.count(&entry);
            let cursor = || Bytes::from(replay.cursor(&stream, &last_id(&entry)).to_string());
            match &*entry {
                Entry::Event(event) if self.subscriptions[n].selector.matches(event) && !self.is_sent(n, event) => {
                    let cursor = cursor();
                    // Those who come back from one place have the same cursors, and share what they are sent.
                    let shared = event.frames.get_or_encode(FrameKey::cursor(stream.id), || cursor.clone());
                    let encoded = self.push_replayed(n, event, *shared == cursor, &cursor);
                    page.encoded.fetch_add(encoded, Ordering::Relaxed);
                }
                Entry::Event(_) => {}
                Entry::Gap { cause, range } => self.queue.push_gap(Gap::at_source(*cause, range.clone(), cursor())),
            }
        }
        replay.end_page(&stream, page, place.until);
        true
    }

    /// Walks through the window.
    fn walk_window(&mut self, n: usize, replay: &mut Replay, hub: &Hub, left: &mut usize) -> Walked {
        let stream = self.subscriptions[n].stream.clone();
        while self.has_room(left) {
            let Some(entry) = replay.step(hub, &stream) else { return Walked::Done };
            let cursor = || Bytes::from(replay.cursor(&stream, &last_id(entry)).to_string());
            if let Some(event) = matching(entry, &self.subscriptions[n].selector) {
                if self.is_sent(n, event) {
                    continue;
                }
                // A client that is ahead in some partition has cursors of its own, which would mislead others.
                let is_shared = replay.is_in_order(hub, &stream);
                let known = event.frames.get(FrameKey::cursor(stream.id)).filter(|_| is_shared);
                let cursor = known.cloned().unwrap_or_else(cursor);
                self.push_replayed(n, event, is_shared, &cursor);
            } else if let Entry::Gap { cause, range } = entry {
                self.queue.push_gap(Gap::at_source(*cause, range.clone(), cursor()));
            }
        }
        Walked::Pauses
    }

    /// Queues an event whose encodings are everybody's, or this client's alone. How much waits is bounded by how far the
    /// walk goes, not by the route. Gives the bytes that were encoded for everybody.
    fn push_replayed(&mut self, n: usize, event: &Arc<Event>, is_shared: bool, cursor: &Bytes) -> usize {
        let Subscription { stream, frame, .. } = &self.subscriptions[n];
        let event = if is_shared { event.clone() } else { Arc::new(event.without_frames()) };
        event.frames.get_or_encode(FrameKey::cursor(stream.id), || cursor.clone());
        let is_known = event.frames.get(*frame).is_some();
        let encoded = event.frames.get_or_encode(*frame, || self.form.event(&event, cursor)).len();
        self.queue.push_replayed(event, *frame);
        if is_shared && !is_known { encoded + cursor.len() } else { 0 }
    }

    /// Whether another subscription of the connection sent this event, or told that it is lost.
    fn is_sent(&self, n: usize, event: &Event) -> bool {
        let others = self.subscriptions.iter().enumerate().filter(|(other, _)| *other != n);
        others.map(|(_, other)| other).any(|other| {
            let EventId { topic, partition, offset } = &event.id;
            let Some(topic) = other.stream.topics.iter().position(|known| known == topic) else { return false };
            let is_within = |from: &Positions| from.is_to_come(topic, *partition, *offset);
            let is_passed = match &other.progress {
                Progress::Waiting(_) => false,
                Progress::Replaying(it) => !it.replay.positions().is_to_come(topic, *partition, *offset),
                Progress::Live => true,
            };
            is_passed && other.from.as_deref().is_some_and(is_within) && other.selector.matches(event)
        })
    }

    fn has_room(&self, left: &mut usize) -> bool {
        *left = left.saturating_sub(1);
        *left > 0 && self.queue.events() < REPLAY_EVENTS_AHEAD && self.queue.event_bytes() < REPLAY_BYTES_AHEAD
    }

    fn look_again(&mut self, desk: &Desk<'_>) {
        self.look_at = Some(desk.now.instant + LOOK_AGAIN);
    }
}

impl Reading {
    fn new(limits: &ReplayLimits, now: Instant) -> Self {
        Self { events: limits.events, bytes: limits.bytes, until: now + limits.time }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.events == 0 || self.bytes == 0 || self.until <= now
    }

    fn count(&mut self, entry: &Entry) {
        self.events = self.events.saturating_sub(1);
        if let Entry::Event(event) = entry {
            self.bytes = self.bytes.saturating_sub(event.envelope.len() as u64);
        }
    }
}

/// Whether what a client has seen beyond what was read here may still be read. That it was not within a moment does not
/// say that it is gone: Kafka may be away, for this replica alone. The log says so.
fn may_come(stream: &Stream, cursor: &Cursor, waited: Duration, desk: &Desk<'_>) -> bool {
    let ahead = desk.hub.ahead(stream, cursor);
    if ahead.is_nothing() || waited < RESUME_WAIT || desk.log.limits().events == 0 {
        return !ahead.is_nothing() && waited < RESUME_WAIT;
    }
    if ahead.unknown && waited < PARTITION_WAIT {
        return true;
    }
    let is_gone = |place: &Place| match desk.log.page(place, desk.asker()) {
        Lookup::Found(page) => page.entries.first().is_some_and(
            |first| matches!(first, Entry::Gap { cause: GapCause::Truncated, range } if range.from <= place.offset),
        ),
        Lookup::Asked | Lookup::Down | Lookup::Busy => false,
    };
    !ahead.places.is_empty() && !ahead.places.iter().any(is_gone)
}

/// The plan of a client that names an event which left the window: the other partitions go by the event's time. Nothing
/// where the log has to be asked first.
fn plan_by_id(stream: &Stream, id: &EventId, place: &Place, ends: &Positions, desk: &Desk<'_>) -> Option<Plan> {
    let Lookup::Found(page) = desk.log.page(place, desk.asker()) else { return None };
    let is_gone = page.entries.first().is_some_and(|entry| loss(entry).is_some());
    let skew = i64::try_from(SKEW.as_millis()).unwrap_or(i64::MAX);
    // Of an event that is gone the time is not known: everything there is may be new to the client.
    let ms = page.first_ms.filter(|_| !is_gone).map_or(0, |ms| ms.saturating_sub(skew).max(0));
    Some(desk.hub.plan_at(stream, &offsets_at(stream, ms, ends, desk)?, ends, Some(id), &desk.log.limits()))
}

/// The first offsets of all partitions at or after a time; nothing where the log has to be asked first.
fn offsets_at(stream: &Stream, ms: i64, ends: &Positions, desk: &Desk<'_>) -> Option<Vec<Arc<[i64]>>> {
    // All are asked for before any is waited for.
    let ask = |(topic, end): (&Topic, &TopicPosition)| match end.next.is_empty() {
        // A topic that is not there holds nobody up.
        true => Lookup::Found(Arc::from([])),
        false => desk.log.offsets_at(topic, ms, desk.asker()),
    };
    let asked: Vec<_> = stream.topics.iter().zip(&ends.0).map(ask).collect();
    let found = asked.into_iter().map(|lookup| if let Lookup::Found(offsets) = lookup { Some(offsets) } else { None });
    found.collect()
}

/// What the log itself no longer holds of what the client wants to see first; nothing where it has to be asked.
fn first_losses(stream: &Stream, replay: &Replay, desk: &Desk<'_>) -> Option<Vec<Gap>> {
    let places = replay.places(desk.hub, stream);
    // All are asked for before any is waited for.
    let asked: Vec<_> = places.iter().map(|place| desk.log.page(place, desk.asker())).collect();
    let mut gaps: Vec<Gap> = Vec::new();
    for (place, lookup) in places.iter().zip(asked) {
        let Lookup::Found(page) = lookup else { return None };
        let first = page.entries.first().and_then(|first| cut(first, place.offset, place.until));
        let Some((cause, range)) = first.as_deref().and_then(loss) else { continue };
        match gaps.iter_mut().find(|gap| gap.cause == cause) {
            Some(gap) => gap.ranges.push(range.clone()),
            None => gaps.push(Gap { cause, ranges: vec![range.clone()], missed: None, cursor: None }),
        }
    }
    Some(gaps)
}

/// Whether a page says that its log ended before it.
fn is_cut_short(page: &Page) -> bool {
    matches!(page.entries.first(), Some(Entry::Gap { cause: GapCause::Truncated, .. }))
}

/// What an entry says is missing in the log, rather than unreadable.
fn loss(entry: &Entry) -> Option<(GapCause, &crate::event::GapRange)> {
    match entry {
        Entry::Gap { cause: GapCause::Retention, range } => Some((GapCause::Retention, range)),
        _ => None,
    }
}
