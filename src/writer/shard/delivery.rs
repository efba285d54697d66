//! Applies entries from Kafka: appends them to the window, and delivers them to the matching sessions.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::contain::contain;
use crate::event::{Assigned, Encoding, Entry, Event, EventId, Feed, FrameKey, Gap, GapCause};
use crate::fault::provoke;
use crate::hub::{Seq, last_id};
use crate::session::{Now, Offered, WriterState};

use super::super::wire::Wire;
use super::Shard;

impl<W: Wire> Shard<W> {
    /// Applies a feed of a source.
    pub(crate) fn apply(&mut self, feed: &Feed, now: Now) {
        match feed {
            Feed::Assigned(assigned) => self.assign(assigned),
            Feed::Topic(change) => self.state.hub.change(change),
            Feed::Live { topics } => self.state.hub.go_live(topics),
            Feed::Batch(entries) => entries.iter().for_each(|entry| self.append(entry, now)),
        }
        self.work.feed_arrived(&mut self.connections);
    }

    fn assign(&mut self, assigned: &Assigned) {
        let lost = self.state.hub.assign(assigned);
        let id = self.state.hub.id_before(&assigned.topic);
        let losses = [(GapCause::TopicRecreated, lost), (GapCause::Unavailable, assigned.unseen.to_vec())];
        for (cause, ranges) in losses.into_iter().filter(|(_, ranges)| !ranges.is_empty()) {
            self.report_gap(&Gap { cause, ranges, missed: None, cursor: None }, &id, None);
        }
    }

    fn append(&mut self, entry: &Entry, now: Now) {
        let seq = self.state.hub.append(entry);
        match entry {
            Entry::Event(event) => {
                self.deliver(event, seq, now);
                if event.is_gap_without_key {
                    self.report_missing_key(event, seq);
                }
            }
            Entry::Gap { range, .. } if !self.state.hub.is_loss(&range.topic, seq) => {}
            Entry::Gap { cause, range } => {
                let gap = Gap { cause: *cause, ranges: vec![range.clone()], missed: None, cursor: None };
                self.report_gap(&gap, &last_id(entry), Some(seq));
            }
            // Offsets without records are not missing.
            Entry::Hole { .. } => {}
        }
    }

    /// Queues an event for all matching subscribers, encoded once per form.
    fn deliver(&mut self, event: &Arc<Event>, seq: Seq, now: Now) {
        let traced = event.trace.as_ref().map(|_| Instant::now());
        let mut broken = Vec::new();
        let Self { connections, state, work, count, buffer, .. } = self;
        let WriterState { hub, index, encodings, judge, .. } = state;
        index.matches(event, |stream, subscribers| {
            let cursor = || Bytes::from(hub.cursor_at(stream, &event.id).to_string());
            // Looked up once per form instead of per subscriber: there are few, and neighbors usually have the same
            // one.
            let mut forms: Vec<(FrameKey, Option<Arc<Encoding>>)> = Vec::new();
            for subscriber in subscribers {
                let key = subscriber.session as usize;
                let Some(connection) = connections.get_mut(key) else { continue };
                if !connection.session.may_receive(event, subscriber.frame, judge) {
                    continue;
                }
                let delivered = contain(|| {
                    provoke("deliver", &event.envelope);
                    let known = forms.iter().position(|(known, _)| *known == subscriber.frame);
                    let at = known.unwrap_or(forms.len());
                    if known.is_none() {
                        let Some(frame) = connection.session.frame(subscriber.frame) else { return };
                        forms.push((subscriber.frame, encodings.shared(event, frame, cursor)));
                    }
                    let Some(encoding) = &forms[at].1 else {
                        let gap = Gap::at_source(GapCause::Undecodable, event.range(), cursor());
                        connection.session.report_gap(gap, Some(seq));
                        return;
                    };
                    // A client that reads everything is not slow because a burst exceeds its queue.
                    if connection.writable && !connection.session.has_room_for(encoding.bytes.len()) {
                        let by = connection.counted_by();
                        // A failed connection is detected again in its turn.
                        if let Ok(bytes) = connection.flush(buffer, now, |item, now| count.item(by, item, now)) {
                            count.wrote(by.transport, bytes);
                        }
                    }
                    match connection.session.offer(event, encoding, seq) {
                        Offered::Accepted => {}
                        Offered::Dropped(events, policy) => count.dropped(events, policy.as_str()),
                    }
                });
                if delivered.is_none() {
                    broken.push(key);
                }
                work.write(key, connection);
            }
        });
        broken.into_iter().for_each(|key| self.give_up(key, now));
        if let Some(began) = traced {
            self.queued(event, began);
        }
    }

    /// Sends a gap to the sessions that are bound to a key which the event lacks.
    fn report_missing_key(&mut self, event: &Event, seq: Seq) {
        let Self { connections, state, work, .. } = self;
        let WriterState { hub, index, .. } = state;
        index.misses(event, |stream, subscribers| {
            let cursor = Bytes::from(hub.cursor_at(stream, &event.id).to_string());
            for subscriber in subscribers {
                let key = subscriber.session as usize;
                let Some(connection) = connections.get_mut(key) else { continue };
                let gap = Gap::at_source(GapCause::MissingKey, event.range(), cursor.clone());
                if connection.session.report_gap(gap, Some(seq)) {
                    work.write(key, connection);
                }
            }
        });
    }

    /// Sends a gap to all sessions that a loss at the source may affect; `last` is the last lost record.
    fn report_gap(&mut self, gap: &Gap, last: &EventId, seq: Option<Seq>) {
        let Self { connections, state, work, .. } = self;
        let WriterState { hub, index, .. } = state;
        index.everybody(&last.topic, |stream, subscribers| {
            let cursor = Some(Bytes::from(hub.cursor_at(stream, last).to_string()));
            for subscriber in subscribers {
                let key = subscriber.session as usize;
                let Some(connection) = connections.get_mut(key) else { continue };
                if connection.session.report_gap(Gap { cursor: cursor.clone(), ..gap.clone() }, seq) {
                    work.write(key, connection);
                }
            }
        });
    }
}
