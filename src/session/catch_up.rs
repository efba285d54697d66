//! Catch-up: replays chunks of the log and then the window, as far as the queue has room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cursor::Positions;
use crate::event::{Entry, Event, EventId, Gap, GapCause};
use crate::hub::{Hub, Page, Replay, last_id};

use super::log_reading::{Looked, Reading, STEP_WAIT, look_up};
use super::{Now, Progress, Session, Subscription, WriterContext};

/// The most replayed events in a queue before the replay pauses.
const REPLAY_EVENTS_AHEAD: usize = 64;
/// The same in bytes.
const REPLAY_BYTES_AHEAD: usize = 256 * 1024;
/// Entries that are examined per turn.
const ENTRIES_PER_TURN: usize = 2048;
/// The bytes of an event that count as one more entry if a rule looks at it.
const RULE_BYTES_PER_ENTRY: usize = 1024;
/// The interval of checks without a notification.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A subscription in catch-up.
#[derive(Debug)]
pub(super) struct Replaying {
    pub(super) replay: Replay,
    /// When it began.
    pub(super) since: Now,
    /// Not before this time, logs are asked again whether they end before the client's position.
    pub(super) ends_from: Option<Instant>,
    /// Set once the log is read.
    reading: Option<Reading>,
}

/// The progress of a replay.
enum ReplayStep {
    /// It has reached the present.
    Done,
    /// It continues in the next turn.
    Pauses,
    /// It waits for a chunk.
    Waits,
}

impl Session {
    /// Advances the subscriptions in catch-up, as far as the queue has room, and adds those that have caught up to the
    /// index. Returns whether more can be done at once.
    pub fn catch_up(&mut self, context: &mut WriterContext<'_>) -> bool {
        if self.is_held_up(context) {
            return true;
        }
        let (mut more, mut left) = (false, ENTRIES_PER_TURN);
        self.look_at = None;
        self.report_losses(context.hub);
        for n in 0..self.subscriptions.len() {
            self.try_start(n, context);
            // A WebSocket's first commands, processed once its response is decided, may end it or its subscriptions.
            let open = self.subscriptions.get_mut(n).filter(|_| self.closed.is_none());
            let Some(Subscription { progress, .. }) = open else { break };
            let mut replaying = match std::mem::replace(progress, Progress::Live) {
                Progress::Replaying(replaying) => replaying,
                Progress::Snapshot(sending) => {
                    more |= self.advance_snapshot(n, sending, &mut left, context);
                    continue;
                }
                other => {
                    *progress = other;
                    continue;
                }
            };
            self.find_positions(n, &mut replaying.replay, context);
            self.find_ends(n, &mut replaying, context);
            self.find_unknown(n, &mut replaying, context);
            self.find_others(n, &mut replaying, context);
            match self.replay_on(n, &mut replaying, context) {
                ReplayStep::Done => {
                    self.enlist(n, context);
                    continue;
                }
                ReplayStep::Pauses => more = true,
                ReplayStep::Waits => self.look_at = Some(context.now.instant + STEP_WAIT),
            }
            self.subscriptions[n].progress = Progress::Replaying(replaying);
        }
        more
    }

    /// Whether credit or a rate holds enough replayed events. The time limit of a replay does not elapse meanwhile: the
    /// client's wish is no failure.
    fn is_held_up(&mut self, context: &WriterContext<'_>) -> bool {
        if !self.is_paced() {
            return false;
        }
        let until = context.now.instant + context.log.limits().time;
        for subscription in &mut self.subscriptions {
            if let Progress::Replaying(replaying) = &mut subscription.progress
                && let Some(reading) = &mut replaying.reading
            {
                reading.until = reading.until.max(until);
            }
        }
        // Room for one event at a time would look up a chunk for each.
        self.queue.events() > REPLAY_EVENTS_AHEAD / 2 && !self.is_waiting()
    }

    /// Reports what was lost with a deleted or truncated log, for all subscriptions before any of them advances: they
    /// are compared with each other, and positions are comparable only within one log.
    fn report_losses(&mut self, hub: &Hub) {
        for n in 0..self.subscriptions.len() {
            let Subscription { stream, progress, from, .. } = &mut self.subscriptions[n];
            let Progress::Replaying(replaying) = progress else {
                if let Some(from) = from {
                    from.start_over(&hub.positions(stream));
                }
                continue;
            };
            let replay = &mut replaying.replay;
            let lost = replay.lost(hub, stream);
            if !lost.is_empty() {
                if let Some(from) = from {
                    from.go_back(replay.positions());
                }
                let cursor = replay.cursor_now(stream).map(|cursor| cursor.to_string().into());
                self.push_lost(lost, cursor);
            }
        }
    }

    pub(super) fn report_lost(&mut self, n: usize, gaps: Vec<Gap>, replay: &Replay) {
        let cursor = replay.cursor_now(&self.subscriptions[n].stream).map(|cursor| cursor.to_string().into());
        self.push_lost(gaps, cursor);
    }

    /// `cursor` is the client's position after all of them.
    fn push_lost(&mut self, gaps: Vec<Gap>, cursor: Option<Bytes>) {
        let Some(last) = gaps.len().checked_sub(1) else { return };
        for (n, gap) in gaps.into_iter().enumerate() {
            // The last gap states the position after all of them.
            let cursor = cursor.clone().filter(|_| n == last);
            self.queue.push_gap(Gap { cursor, ..gap });
        }
    }

    /// Advances one subscription through the log and the window.
    fn replay_on(&mut self, n: usize, replaying: &mut Replaying, context: &WriterContext<'_>) -> ReplayStep {
        let Replaying { replay, reading, .. } = replaying;
        let (hub, stream, limits) = (context.hub, self.subscriptions[n].stream.clone(), context.log.limits());
        if limits.events == 0 {
            self.report_lost(n, replay.fell_out(hub, &stream), replay);
        }
        let mut left = ENTRIES_PER_TURN;
        if let Some(reading) = reading
            && let Some((page, until)) = reading.page(hub, &stream, replay, context.now.instant)
            && !self.read_page(n, &page, until, replay, reading, context, &mut left)
        {
            return ReplayStep::Pauses;
        }
        let mut is_asked = false;
        loop {
            let places = replay.places(hub, &stream);
            if places.is_empty() {
                if let Some(reading) = reading.as_mut().filter(|_| replay.is_waiting(hub, &stream)) {
                    reading.until = context.now.instant + limits.time;
                }
                return self.replay_window(n, replay, context, &mut left);
            }
            let reading = reading.get_or_insert_with(|| Reading::new(&limits, context.now.instant));
            let Looked { found, first, down } = look_up(&places, &stream, replay, is_asked, context);
            let is_first = !std::mem::replace(&mut is_asked, true);
            if down.len() == places.len() {
                reading.until = context.now.instant + limits.time;
                // The other partitions continue.
                return match self.replay_window(n, replay, context, &mut left) {
                    ReplayStep::Done => ReplayStep::Waits,
                    other => other,
                };
            }
            // The time limit of a partition does not elapse while its broker is unresponsive: the first check covers
            // all of them.
            let is_late = is_first && reading.until <= context.now.instant;
            if is_late || reading.is_used_up() {
                let left_out = replay.leave_out(hub, &stream, if is_late { &down } else { &[] });
                let gap = Gap { cause: GapCause::ReplayLimit, ranges: left_out, missed: None, cursor: None };
                self.report_lost(n, vec![gap], replay);
                continue;
            }
            let Some((place, page)) = found.filter(|(place, _)| reading.may_read(place, first, context.now.instant))
            else {
                return ReplayStep::Waits;
            };
            if !self.read_page(n, &page, place.until, replay, reading, context, &mut left) {
                reading.page = Arc::downgrade(&page);
                return ReplayStep::Pauses;
            }
        }
    }

    /// Queues the new events of a chunk before the offset `until`. False if it pauses before the chunk's end.
    #[expect(clippy::too_many_arguments, reason = "the parts of a replay that is taken out of the session meanwhile")]
    fn read_page(
        &mut self,
        n: usize,
        page: &Page,
        until: i64,
        replay: &mut Replay,
        reading: &mut Reading,
        context: &WriterContext<'_>,
        left: &mut usize,
    ) -> bool {
        let stream = self.subscriptions[n].stream.clone();
        for entry in replay.unseen(&stream, page, until) {
            if !self.has_room(left) {
                return false;
            }
            if let Some(due) = self.replay_due(context.now.instant) {
                reading.until = due + context.log.limits().time;
                return false;
            }
            replay.pass(&stream, &entry);
            self.replays(reading.count(&entry), context.now.instant);
            match &*entry {
                Entry::Event(event) if self.looks_for(n, event, left, context) => {
                    self.push_from_log(n, event, &entry, replay, context);
                }
                Entry::Event(event) if self.misses(n, event, context) => {
                    let cursor = Bytes::from(replay.cursor(&stream, &event.id).to_string());
                    self.queue.push_gap(Gap::at_source(GapCause::MissingKey, event.range(), cursor));
                }
                Entry::Event(_) | Entry::Hole { .. } => {}
                Entry::Gap { cause, range } => {
                    let cursor = Bytes::from(replay.cursor(&stream, &last_id(&entry)).to_string());
                    self.queue.push_gap(Gap::at_source(*cause, range.clone(), cursor));
                }
            }
        }
        replay.end_page(&stream, page, until);
        true
    }

    /// Clients that resume from one place have the same cursors, and share encodings.
    fn push_from_log(
        &mut self,
        n: usize,
        event: &Arc<Event>,
        entry: &Entry,
        replay: &mut Replay,
        context: &WriterContext<'_>,
    ) {
        let subscription = &self.subscriptions[n];
        let stream = &subscription.stream;
        let Some((positions, others)) = replay.split_at(stream, entry) else { return };
        let cursor = || Bytes::from(positions.cursor(&stream.topics, last_id(entry)).to_string());
        match context.encodings.at(event, subscription.frame(), others, cursor) {
            Some(encoding) => self.queue.push_replayed(event.clone(), encoding),
            None => {
                let cursor = cursor();
                self.queue.push_gap(undecodable(event, cursor));
            }
        }
    }

    /// Replays the window.
    fn replay_window(
        &mut self,
        n: usize,
        replay: &mut Replay,
        context: &WriterContext<'_>,
        left: &mut usize,
    ) -> ReplayStep {
        let hub = context.hub;
        let stream = self.subscriptions[n].stream.clone();
        while self.has_room(left) {
            let Some(entry) = replay.step(hub, &stream) else {
                return if replay.is_waiting(hub, &stream) { ReplayStep::Waits } else { ReplayStep::Done };
            };
            let cursor = || Bytes::from(replay.cursor(&stream, &last_id(&entry)).to_string());
            if let Entry::Event(event) = &*entry {
                if !self.looks_for(n, event, left, context) {
                    if self.misses(n, event, context) {
                        self.queue.push_gap(Gap::at_source(GapCause::MissingKey, event.range(), cursor()));
                    }
                    continue;
                }
                // A client that is ahead in some partition has its own cursors, which must not be shared.
                let is_shared = replay.is_in_order(hub, &stream);
                let frame = self.subscriptions[n].frame();
                let encoding = if is_shared {
                    context.encodings.shared(event, frame, cursor)
                } else {
                    context.encodings.own(event, frame, cursor())
                };
                match encoding {
                    Some(encoding) => self.queue.push_replayed(event.clone(), encoding),
                    None => self.queue.push_gap(undecodable(event, cursor())),
                }
            } else if let Entry::Gap { cause, range } = &*entry {
                self.queue.push_gap(Gap::at_source(*cause, range.clone(), cursor()));
            }
        }
        ReplayStep::Pauses
    }

    /// Whether a subscription sends a replayed event. Evaluating a rule takes more of the turn.
    pub(super) fn looks_for(
        &self,
        n: usize,
        event: &Arc<Event>,
        left: &mut usize,
        context: &WriterContext<'_>,
    ) -> bool {
        let subscription = &self.subscriptions[n];
        if subscription.rule.is_some() {
            *left = left.saturating_sub(event.envelope.len() / RULE_BYTES_PER_ENTRY);
        }
        subscription.wants(event, context.judge) && !self.is_sent(n, event, context)
    }

    /// Whether a replayed event is a gap for a subscription, because it lacks a key.
    fn misses(&self, n: usize, event: &Arc<Event>, context: &WriterContext<'_>) -> bool {
        self.subscriptions[n].selector.misses(event) && !self.is_sent(n, event, context)
    }

    /// Whether another subscription of the connection has sent this event, or reported it as lost.
    fn is_sent(&self, n: usize, event: &Arc<Event>, context: &WriterContext<'_>) -> bool {
        let others = self.subscriptions.iter().enumerate().filter(|(other, _)| *other != n);
        others.map(|(_, other)| other).any(|other| {
            let EventId { topic, partition, offset } = &event.id;
            let Some(topic) = other.stream.topics.iter().position(|known| known == topic) else { return false };
            // It does not send what precedes a start that is unknown yet.
            let is_within =
                |from: &Positions| from.is_known(topic, *partition) && from.is_to_come(topic, *partition, *offset);
            let is_passed = match &other.progress {
                Progress::Waiting(_) | Progress::Snapshot(_) => false,
                Progress::Replaying(it) => !it.replay.positions().is_to_come(topic, *partition, *offset),
                Progress::Live => true,
            };
            is_passed && other.from.as_deref().is_some_and(is_within) && other.wants(event, context.judge)
        })
    }

    pub(super) fn has_room(&self, left: &mut usize) -> bool {
        *left = left.saturating_sub(1);
        *left > 0 && self.queue.events() < REPLAY_EVENTS_AHEAD && self.queue.event_bytes() < REPLAY_BYTES_AHEAD
    }

    pub(super) fn look_again(&mut self, context: &WriterContext<'_>) {
        self.look_at = Some(context.now.instant + LOOK_AGAIN);
    }
}

impl Replaying {
    pub(super) fn new(replay: Replay, since: Now) -> Self {
        Self { replay, since, ends_from: None, reading: None }
    }
}

/// In place of an event that cannot be encoded: without it, the client would resume before the event again and again.
pub(super) fn undecodable(event: &Event, cursor: Bytes) -> Gap {
    Gap::at_source(GapCause::Undecodable, event.range(), cursor)
}
