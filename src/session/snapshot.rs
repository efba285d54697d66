//! The state before its changes: the events of a cut in the order of their keys, between two control records, and then
//! a resume at the position of the cut.
//!
//! A position within a snapshot names the cut and the last key. A client that was disconnected continues in the same
//! cut if it is still kept, and otherwise begins a new snapshot. It never continues with the changes alone.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::codec::json::{self, Phase};
use crate::cursor::{EncodedCut, Positions, SnapshotCursor};
use crate::encoding::OtherPositions;
use crate::event::{Event, EventId, Gap, GapCause};
use crate::hub::{Cut, NoState, Table};
use crate::route::Stream;

use super::{CloseReason, Progress, Resume, Session, WriterContext};

/// Why a client gets a snapshot that it did not ask for.
const CUT_GONE: &str = "cut-gone";

/// A subscription that receives a snapshot.
#[derive(Debug)]
pub(super) struct Sending {
    /// Where the client was disconnected.
    within: Option<SnapshotCursor>,
    reason: Option<&'static str>,
    cut: Option<Reading>,
}

/// A cut that is being sent.
#[derive(Debug)]
struct Reading {
    /// The table decides how long it is kept.
    cut: Weak<Cut>,
    encoded: EncodedCut,
    /// Identifies the cut to shared encodings.
    others: Arc<OtherPositions>,
    /// The last key that was passed.
    key: Option<Arc<str>>,
    /// The events that were sent.
    count: u64,
}

/// The progress of a snapshot.
enum Step {
    /// Everything was queued; the client continues at this position.
    Done(Resume),
    /// It continues in the next turn.
    Pauses,
    /// The state is not available yet.
    Waits,
    /// The stream ends.
    Ends,
}

impl Session {
    /// Lets a subscription receive the state, or the rest of it.
    pub(super) fn send_state(&mut self, n: usize, within: Option<SnapshotCursor>, reason: Option<&'static str>) {
        self.subscriptions[n].progress = Progress::Snapshot(Box::new(Sending { within, reason, cut: None }));
    }

    /// Queues more of a snapshot. Returns whether more can be done at once. Of several snapshots, the first one proceeds:
    /// their records do not mix.
    pub(super) fn advance_snapshot(
        &mut self,
        n: usize,
        mut sending: Box<Sending>,
        left: &mut usize,
        context: &mut WriterContext<'_>,
    ) -> bool {
        let is_first = !self.subscriptions[..n].iter().any(|other| matches!(other.progress, Progress::Snapshot(_)));
        let step = if is_first { self.snapshot_step(n, &mut sending, left, context) } else { Step::Waits };
        match step {
            Step::Done(resume) => {
                self.resume(n, resume, context);
                return true;
            }
            Step::Ends => return false,
            Step::Waits => self.look_again(context),
            Step::Pauses => {}
        }
        let is_more = matches!(step, Step::Pauses);
        self.subscriptions[n].progress = Progress::Snapshot(sending);
        is_more
    }

    fn snapshot_step(
        &mut self,
        n: usize,
        sending: &mut Sending,
        left: &mut usize,
        context: &WriterContext<'_>,
    ) -> Step {
        let stream = self.subscriptions[n].stream.clone();
        let Some(table) = context.log.table(&stream) else { return self.without_state() };
        let Some((cut, reading)) = sending.current() else {
            return match self.begin_snapshot(&stream, table, sending, context) {
                Ok(true) => Step::Pauses,
                Err(NoState::NotRead) => Step::Waits,
                Ok(false) | Err(NoState::TooLarge) => self.without_state(),
            };
        };
        let (selector, passed) = (self.subscriptions[n].selector.clone(), reading.key.clone());
        let values = stream.state.as_ref().and_then(|state| selector.values(&state.key));
        for (key, event) in cut.after(passed.as_ref(), values) {
            if !self.has_room(left) || self.replay_due(context.now.instant).is_some() {
                return Step::Pauses;
            }
            if self.looks_for(n, event, left, context) {
                self.push_from_cut(n, key, event, reading, context);
            }
            reading.key = Some(key.clone());
        }
        self.end_snapshot(&stream, &cut, reading, context)
    }

    /// The state is too large, or its stream has none any more: the client may reconnect to another replica.
    fn without_state(&mut self) -> Step {
        self.close(CloseReason::NotReady);
        Step::Ends
    }

    /// Takes a cut, or continues with the client's. False if its positions do not fit into a cursor.
    fn begin_snapshot(
        &mut self,
        stream: &Stream,
        table: &Table,
        sending: &mut Sending,
        context: &WriterContext<'_>,
    ) -> Result<bool, NoState> {
        let topic = &stream.topics[0];
        let within = sending.within.take();
        let kept = within.as_ref().and_then(|within| table.kept(&within.cut(topic)?));
        let (cut, key) = match kept {
            Some(kept) => (kept, within.and_then(|within| within.key).map(Arc::from)),
            None => {
                let is_again = within.is_some() || sending.cut.is_some();
                sending.reason = sending.reason.or_else(|| is_again.then_some(CUT_GONE));
                (table.cut(context.now.instant)?, None)
            }
        };
        let Some(encoded) = EncodedCut::new(&cut.position, topic) else { return Ok(false) };
        if key.is_none() {
            let cursor = encoded.cursor(&before(stream), None);
            let data = json::snapshot(&Phase::Begin { reason: sending.reason.take() }, &stream.name, &cursor);
            if !self.push_border(data, &cursor, context) {
                return Ok(true);
            }
        }
        let positions = Positions(vec![cut.position.clone()]);
        let others = Arc::new(positions.others(usize::MAX, usize::MAX));
        sending.cut = Some(Reading { cut: Arc::downgrade(&cut), encoded, others, key, count: 0 });
        Ok(true)
    }

    fn push_from_cut(
        &mut self,
        n: usize,
        key: &Arc<str>,
        event: &Arc<Event>,
        reading: &mut Reading,
        context: &WriterContext<'_>,
    ) {
        let Reading { encoded, others, count, .. } = reading;
        let cursor = || Bytes::from(encoded.cursor(&event.id, Some(key)));
        match context.encodings.of_snapshot(event, self.subscriptions[n].frame(), others, cursor) {
            Some(encoding) => self.queue.push_replayed(event.clone(), encoding),
            None => self.queue.push_gap(Gap::at_source(GapCause::Undecodable, event.range(), cursor())),
        }
        *count += 1;
        self.replays(event.envelope.len(), context.now.instant);
    }

    fn end_snapshot(&mut self, stream: &Stream, cut: &Cut, reading: &Reading, context: &WriterContext<'_>) -> Step {
        let position = Positions(vec![cut.position.clone()]);
        let last = cut.position.next.first().map_or(-1, |next| (next - 1).max(-1));
        let end = position.cursor(&stream.topics, EventId { offset: last, ..before(stream) });
        let phase = Phase::End { count: reading.count, unreadable: cut.unreadable };
        let cursor = end.to_string();
        let data = json::snapshot(&phase, &stream.name, &cursor);
        if !self.push_border(data, &cursor, context) {
            return Step::Pauses;
        }
        Step::Done(Resume::From(end))
    }

    /// Appends a control record to the queue. False if there is no room for it.
    fn push_border(&mut self, data: Vec<u8>, cursor: &str, context: &WriterContext<'_>) -> bool {
        let record = self.control("snapshot", data, Some(cursor), context.now);
        self.queue.push_control(usize::MAX, record)
    }
}

impl Sending {
    /// The cut, while it is kept.
    fn current(&mut self) -> Option<(Arc<Cut>, &mut Reading)> {
        let reading = self.cut.as_mut()?;
        Some((reading.cut.upgrade()?, reading))
    }
}

/// The id for a position before the first event.
fn before(stream: &Stream) -> EventId {
    EventId { topic: stream.topics[0].clone(), partition: 0, offset: -1 }
}
