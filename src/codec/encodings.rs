//! Creates encodings, and keeps them for other writers, other clients, and clients in catch-up.
//!
//! The kept bytes are limited for the whole process; the oldest encodings are evicted first. An evicted encoding is
//! created again when it is needed, which costs a copy of the event's bytes.
//!
//! A panic while encoding affects that event only: the caller reports a gap.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::contain::contain;
use crate::encoding::{Encoding, FrameKey, Meter, OtherPositions};
use crate::event::Event;
use crate::fault::provoke;

use super::{Fields, Form, json};

/// The encodings of the process.
#[derive(Debug)]
pub struct Encodings {
    kept: Mutex<Kept>,
    alive: Arc<Meter>,
}

/// What to encode: the key, and the fields that it names.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub key: FrameKey,
    pub fields: Option<&'a Fields>,
}

#[derive(Debug)]
struct Kept {
    bytes_max: usize,
    /// The bytes of the entries of `order`: at most `bytes_max`.
    bytes: usize,
    /// In the order of creation. Encodings of dropped events are gone, but count until they reach the front.
    order: VecDeque<(Weak<Event>, FrameKey, usize)>,
}

impl Encodings {
    /// Keeps at most this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let kept = Kept { bytes_max, bytes: 0, order: VecDeque::new() };
        Self { kept: Mutex::new(kept), alive: Arc::default() }
    }

    /// The encoding for all clients at the same position of the stream; `cursor` returns that position. Created if none
    /// is kept; `None` if the event cannot be encoded.
    pub fn shared(
        &self,
        event: &Arc<Event>,
        frame: Frame<'_>,
        cursor: impl FnOnce() -> Bytes,
    ) -> Option<Arc<Encoding>> {
        let key = frame.key;
        if let Some(encoding) = event.frames.get(key) {
            return Some(encoding);
        }
        let encoding = match event.frames.of_stream(key.stream_id()) {
            Some(other_form) => self.encode(event, frame, other_form.cursor.clone(), None)?,
            None => self.encode(event, frame, cursor(), None)?,
        };
        Some(self.share(event, key, encoding))
    }

    /// The encoding of a client that is at `others` in the partitions other than the event's, and after the event in
    /// its own; `cursor` encodes that position. It is the shared encoding if that has the same position, which is known
    /// without encoding the cursor for all clients except the first. `None` if the event cannot be encoded.
    pub fn at(
        &self,
        event: &Arc<Event>,
        frame: Frame<'_>,
        others: &mut Arc<OtherPositions>,
        cursor: impl FnOnce() -> Bytes,
    ) -> Option<Arc<Encoding>> {
        let key = frame.key;
        if let Some(shared) = event.frames.get(key)
            && shared.is_at(others)
        {
            return Some(shared);
        }
        let cursor = match event.frames.of_stream(key.stream_id()) {
            Some(other_form) if other_form.is_at(others) => other_form.cursor.clone(),
            Some(shared) => {
                let cursor = cursor();
                if shared.cursor != cursor {
                    return self.own(event, frame, cursor);
                }
                cursor
            }
            None => cursor(),
        };
        let shared = match event.frames.get(key) {
            Some(shared) => shared,
            None => self.share(event, key, self.encode(event, frame, cursor.clone(), Some(others.clone()))?),
        };
        // Another thread may have been faster.
        if shared.cursor == cursor { Some(shared) } else { self.own(event, frame, cursor) }
    }

    /// The encoding of an event of a snapshot, for all clients that read the same cut, `others`. It replaces that of an
    /// earlier cut. `None` if the event cannot be encoded.
    pub fn of_snapshot(
        &self,
        event: &Arc<Event>,
        frame: Frame<'_>,
        others: &mut Arc<OtherPositions>,
        cursor: impl FnOnce() -> Bytes,
    ) -> Option<Arc<Encoding>> {
        if let Some(kept) = event.frames.get(frame.key) {
            if kept.is_at(others) {
                return Some(kept);
            }
            drop(event.frames.forget(frame.key));
        }
        let marked = json::in_snapshot(event);
        let encoding = self.encode(&marked, frame, cursor(), Some(others.clone()))?;
        Some(self.share(event, frame.key, encoding))
    }

    /// An encoding for one client only. `None` if the event cannot be encoded.
    pub fn own(&self, event: &Event, frame: Frame<'_>, cursor: Bytes) -> Option<Arc<Encoding>> {
        self.encode(event, frame, cursor, None).map(Arc::new)
    }

    fn encode(
        &self,
        event: &Event,
        Frame { key, fields }: Frame<'_>,
        cursor: Bytes,
        others: Option<Arc<OtherPositions>>,
    ) -> Option<Encoding> {
        // Without its fields, a key would show all of them.
        if fields.map_or(0, |fields| fields.id()) != key.fields() {
            return None;
        }
        let form = Form::of(key);
        let bytes = contain(|| {
            provoke("encode", &event.envelope);
            match fields {
                Some(fields) => fields.of(event).map(|shown| form.event(&shown, &cursor)),
                None => Some(form.event(event, &cursor)),
            }
        })??;
        Some(Encoding::new(bytes, cursor, others, &self.alive))
    }

    /// Keeps an encoding, unless one is kept already. Returns the kept one.
    fn share(&self, event: &Arc<Event>, key: FrameKey, encoding: Encoding) -> Arc<Encoding> {
        let (encoding, is_new) = event.frames.keep(key, Arc::new(encoding));
        if is_new {
            event.frames.send_on(key.stream_id());
            self.keep(event, key, encoding.weight());
        }
        encoding
    }

    /// Changes the limit of kept bytes.
    pub fn limit(&self, bytes_max: usize) {
        let mut kept = self.kept();
        kept.bytes_max = bytes_max;
        let gone = kept.make_room();
        drop(kept);
        drop(gone);
    }

    /// The bytes of kept encodings.
    pub fn kept_bytes(&self) -> usize {
        self.kept().bytes
    }

    /// The bytes of all encodings, including those that are only queued.
    pub fn bytes(&self) -> usize {
        self.alive.bytes()
    }

    fn keep(&self, event: &Arc<Event>, key: FrameKey, bytes: usize) {
        let mut kept = self.kept();
        kept.bytes += bytes;
        kept.order.push_back((Arc::downgrade(event), key, bytes));
        let gone = kept.make_room();
        drop(kept);
        drop(gone);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Evicts the oldest encodings until the limit is met. The result is to be freed without the lock.
    fn make_room(&mut self) -> Vec<(Weak<Event>, Option<Arc<Encoding>>)> {
        let mut gone = Vec::new();
        while self.bytes > self.bytes_max {
            let Some((event, key, bytes)) = self.order.pop_front() else { break };
            self.bytes -= bytes;
            let encoding = event.upgrade().and_then(|event| event.frames.forget(key));
            gone.push((event, encoding));
        }
        if self.order.is_empty() {
            self.order = VecDeque::new();
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    const KEY: FrameKey = FrameKey::new(1, 0);
    const FRAME: Frame<'_> = Frame { key: KEY, fields: None };
    const OTHER_FORM: Frame<'_> = Frame { key: FrameKey::new(1, 1), fields: None };

    fn shared(encodings: &Encodings, event: &Arc<Event>, frame: Frame<'_>) -> Arc<Encoding> {
        encodings.shared(event, frame, || "cursor".into()).unwrap()
    }

    #[test]
    fn an_encoding_is_made_once_and_shared() {
        let (encodings, event) = (Encodings::new(1 << 20), event("t", 0, 1, &[]));
        let first = shared(&encodings, &event, FRAME);
        assert!(Arc::ptr_eq(&first, &encodings.shared(&event, FRAME, || unreachable!()).unwrap()));
        assert_eq!(encodings.shared(&event, OTHER_FORM, || unreachable!()).unwrap().cursor, "cursor");
        assert!(event.frames.is_sent_on(1) && !event.frames.is_sent_on(2));
        let mine = encodings.at(&event, FRAME, &mut others(1), || "mine".into()).unwrap();
        assert_eq!((&mine.cursor[..], &first.cursor[..]), (&b"mine"[..], &b"cursor"[..]));
        assert!(Arc::ptr_eq(&first, &encodings.at(&event, FRAME, &mut others(1), || "cursor".into()).unwrap()));
    }

    fn others(next: i64) -> Arc<OtherPositions> {
        Arc::new(OtherPositions::new(vec![next]))
    }

    #[test]
    fn clients_at_one_place_share_an_encoding_without_the_text_of_their_cursor() {
        let (encodings, event) = (Encodings::new(1 << 20), event("t", 0, 1, &[]));
        let (mut one, mut other) = (others(7), others(7));
        let first = encodings.at(&event, FRAME, &mut one, || "cursor 7".into()).unwrap();
        assert!(Arc::ptr_eq(&first, &encodings.at(&event, FRAME, &mut other, || unreachable!()).unwrap()));
        assert!(Arc::ptr_eq(&one, &other), "what is equal is shared");
        assert_eq!(encodings.at(&event, OTHER_FORM, &mut one, || unreachable!()).unwrap().cursor, "cursor 7");
        let elsewhere = encodings.at(&event, FRAME, &mut others(8), || "cursor 8".into()).unwrap();
        assert_eq!(elsewhere.cursor, "cursor 8");
        assert!(Arc::ptr_eq(&first, &event.frames.get(KEY).unwrap()));
    }

    #[test]
    fn positions_are_counted_by_the_first_encoding_that_shares_them() {
        let (encodings, events) = (Encodings::new(1 << 20), [1, 2].map(|offset| event("t", 0, offset, &[])));
        let mut place = Arc::new(OtherPositions::new(vec![0; 100]));
        let weights =
            events.each_ref().map(|event| encodings.at(event, FRAME, &mut place, || "cursor".into()).unwrap().weight());
        assert_eq!(weights[0] - weights[1], 100 * size_of::<i64>());
    }

    #[test]
    fn the_oldest_are_evicted_and_queued_ones_stay() {
        let events: Vec<_> = (0..3).map(|n| event("t", 0, n, &[])).collect();
        let one = shared(&Encodings::new(1 << 20), &events[0], FRAME).weight();
        events.iter().for_each(|event| drop(event.frames.forget(KEY)));
        let encodings = Encodings::new(2 * one);
        let queued = shared(&encodings, &events[0], FRAME);
        events.iter().for_each(|event| drop(shared(&encodings, event, FRAME)));
        assert_eq!([0, 1, 2].map(|n: usize| events[n].frames.get(KEY).is_some()), [false, true, true]);
        assert_eq!((encodings.kept_bytes(), encodings.bytes()), (2 * one, 3 * one));
        assert!(events[0].frames.is_sent_on(1), "that it was sent is known on");
        drop(queued);
        encodings.limit(0);
        assert_eq!((encodings.kept_bytes(), encodings.bytes()), (0, 0));
    }

    #[test]
    fn the_encodings_of_an_event_are_dropped_with_it() {
        let encodings = Encodings::new(1 << 20);
        drop(shared(&encodings, &event("t", 0, 1, &[]), FRAME));
        assert_eq!(encodings.bytes(), 0);
    }
}
