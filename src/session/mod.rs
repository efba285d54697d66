//! One stream's protocol state: bytes and events in, bytes out, one close reason at the end.
//!
//! No I/O and no clock: the writer owns the socket, says what time it is, and files the session in its index. Nothing
//! is counted here either: what happened is returned.

pub mod close;
mod command;
mod open;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::access::Selector;
use crate::codec::{Form, http, json, ndjson, sse, websocket};
use crate::event::{Entry, Event, FrameKey, GapCause};
use crate::hub::{Gap, Hub, Index, Pushed, Queue, Replay, Seq, Subscriber, last_id, matching};
use crate::route::{HeartbeatForm, Overflow, QueueLimits, Stream, Transport};

pub use close::CloseReason;
pub use command::Refused;
pub use request::{Request, Resume};

/// How many replayed events may wait in a queue before the walk through the window pauses.
const REPLAY_EVENTS_AHEAD: usize = 64;
/// The same in bytes.
const REPLAY_BYTES_AHEAD: usize = 256 * 1024;
/// How many items of a queue are prepared for one write.
pub const ITEMS_PER_WRITE: usize = 64;

/// The time, as the core is told it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// What a session sees of its writer.
pub struct Desk<'a> {
    pub hub: &'a Hub,
    pub index: &'a mut Index,
    /// The writer's number for this session.
    pub session: u32,
    pub now: Now,
}

/// One open stream.
#[derive(Debug)]
pub struct Session {
    request: Box<Request>,
    form: Form,
    queue: Queue,
    subscriptions: Vec<Subscription>,
    /// The last entry delivered live, so that two subscriptions that match it send it once.
    last_seq: Option<Seq>,
    /// Resuming waits until what the client has seen was read here as well, or until this time.
    waiting: Option<Instant>,
    heartbeat_due: Instant,
    last_sent: Instant,
    expires: Option<Instant>,
    /// What a client is told of when to reconnect.
    retry_ms: u64,
    closed: Option<CloseReason>,
    /// Messages of the session's own so far: the number in their ids.
    messages: u64,
    websocket: Option<Box<command::WebSocketSide>>,
}

/// What a session wants of a stream.
#[derive(Debug)]
struct Subscription {
    stream: Arc<Stream>,
    selector: Selector,
    frame: FrameKey,
    /// While it catches up it is not in the index.
    replay: Option<Box<Replay>>,
}

/// What an offered event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits to be written, or was not for this session after all.
    Accepted,
    /// Events were dropped, under this policy; the client will be told.
    Dropped(u64, Overflow),
}

impl Session {
    pub fn transport(&self) -> Transport {
        self.form.transport
    }

    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Why the stream ended, once it has; what is queued is still to be written.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Whether everything was written.
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether [`Self::catch_up`] has something to do.
    pub fn is_behind(&self) -> bool {
        self.closed.is_none() && (self.waiting.is_some() || self.subscriptions.iter().any(|s| s.replay.is_some()))
    }

    /// Whether it waits to resume: then every feed may be what it waits for.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether not even the head of the answer is decided.
    pub fn is_unanswered(&self) -> bool {
        self.waiting.is_some() && self.form.transport != Transport::Sse
    }

    /// Offers a live event under an encoding that was made before.
    pub fn offer(&mut self, event: &Arc<Event>, frame: FrameKey, cursor: &Bytes, seq: Seq) -> Offered {
        if self.closed.is_some() || self.last_seq == Some(seq) {
            return Offered::Accepted;
        }
        self.last_seq = Some(seq);
        let limits = self.request.route.queue;
        match self.queue.push_event(event.clone(), frame, cursor, &limits) {
            Pushed::Queued => Offered::Accepted,
            Pushed::Dropped(events) => Offered::Dropped(events, limits.overflow),
            Pushed::Full => {
                let dropped = self.queue.clear_unsent() as u64 + 1;
                self.close(CloseReason::SlowConsumer);
                Offered::Dropped(dropped, limits.overflow)
            }
        }
    }

    /// Tells the client of a loss at the source, which came as entry `seq` or as none. Gives whether it was told now
    /// (rather than once before).
    pub fn tell(&mut self, gap: Gap, seq: Option<Seq>) -> bool {
        let is_told = seq.is_some() && self.last_seq == seq;
        if self.closed.is_some() || is_told {
            return false;
        }
        self.last_seq = seq.or(self.last_seq);
        self.queue.push_gap(gap);
        true
    }

    /// Goes on with replay as far as the queue has room; what has caught up is filed in the index.
    pub fn catch_up(&mut self, desk: &mut Desk<'_>) {
        if self.closed.is_none() {
            self.start_waiting(desk);
        }
        if self.closed.is_some() {
            return;
        }
        for n in 0..self.subscriptions.len() {
            if let Some(mut replay) = self.subscriptions[n].replay.take() {
                if self.replay(n, &mut replay, desk.hub) {
                    self.enlist(n, desk);
                } else {
                    self.subscriptions[n].replay = Some(replay);
                }
            }
        }
    }

    /// Walks through the window for one subscription. True once it has caught up.
    fn replay(&mut self, n: usize, replay: &mut Replay, hub: &Hub) -> bool {
        let unlimited = QueueLimits { events: usize::MAX, bytes: usize::MAX, overflow: Overflow::DropNewest };
        let Subscription { stream, selector, frame, .. } = &self.subscriptions[n];
        let lost = replay.lost(hub, stream);
        lost.into_iter().for_each(|gap| self.queue.push_gap(gap));
        while self.queue.events() < REPLAY_EVENTS_AHEAD && self.queue.event_bytes() < REPLAY_BYTES_AHEAD {
            let Some(entry) = replay.step(hub, stream) else { return true };
            let cursor = || Bytes::from(replay.cursor(stream, &last_id(entry)).to_string());
            if let Some(event) = matching(entry, selector) {
                let key = FrameKey::cursor(stream.id);
                // A client that is ahead in some partition has cursors of its own, which would mislead others.
                let event = if replay.is_in_order() { event.clone() } else { Arc::new(event.without_frames()) };
                let cursor = event.frames.get_or_encode(key, cursor).clone();
                event.frames.get_or_encode(*frame, || self.form.event(&event, &cursor));
                self.queue.push_event(event, *frame, &cursor, &unlimited);
            } else if let Entry::Gap { cause, range } = entry {
                self.queue.push_gap(Gap::at_source(*cause, range.clone(), cursor()));
            }
        }
        false
    }

    /// Makes the next items ready to be written: losses are encoded now that no later one can join them. Calls `told`
    /// with the cause of each.
    pub fn prepare(&mut self, now: Now, mut told: impl FnMut(GapCause)) {
        let Self { request, form, queue, messages, .. } = self;
        queue.settle_gaps(ITEMS_PER_WRITE, |gap| {
            *messages += 1;
            told(gap.cause);
            let data = json::gap(gap, request.route.refresh.as_deref());
            object(*form, *messages, now, "gap", gap.cursor.as_deref(), data)
        });
    }

    /// What is to be written next, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.chunks().take(ITEMS_PER_WRITE)
    }

    /// Takes note of bytes written; calls `sent` with each event that went out whole.
    pub fn wrote(&mut self, bytes: usize, now: Now, sent: impl FnMut(&Event)) {
        if bytes > 0 {
            self.last_sent = now.instant;
        }
        self.queue.advance(bytes, sent);
    }

    /// Bytes from the client. Only a WebSocket's mean anything; others have nothing to say after their request.
    ///
    /// Gives the error of every message that could not be carried out.
    pub fn read(&mut self, bytes: &[u8], desk: &mut Desk<'_>) -> Vec<Refused> {
        if self.websocket.is_some() && self.closed.is_none() { self.read_messages(bytes, desk) } else { Vec::new() }
    }

    /// When [`Self::tick`] wants to be called next.
    pub fn deadline(&self) -> Instant {
        let pong = self.websocket.as_ref().and_then(|side| side.pong_due);
        [self.expires, pong, self.waiting].into_iter().flatten().fold(self.heartbeat_due, Instant::min)
    }

    /// Does what is due. Gives whether a heartbeat was queued.
    pub fn tick(&mut self, desk: &mut Desk<'_>) -> bool {
        let now = desk.now.instant;
        if self.closed.is_some() {
            self.heartbeat_due = now + self.request.route.heartbeat;
            return false;
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            self.queue.clear_unsent();
            self.close(CloseReason::TokenExpired);
            return false;
        }
        if self.websocket.as_ref().and_then(|side| side.pong_due).is_some_and(|due| due <= now) {
            self.close(CloseReason::PongTimeout);
            return false;
        }
        self.beat(desk)
    }

    fn beat(&mut self, desk: &Desk<'_>) -> bool {
        let now = desk.now.instant;
        let interval = self.request.route.heartbeat;
        // A WebSocket that has nothing to say is pinged as well: proxies on the way count what comes from us.
        let quiet_since = self.websocket.as_ref().map_or(self.last_sent, |side| self.last_sent.min(side.last_read));
        if quiet_since + interval > now {
            self.heartbeat_due = quiet_since + interval;
            return false;
        }
        self.heartbeat_due = now + interval;
        if self.is_unanswered() {
            return false;
        }
        // A client with something waiting is not idle but slow; one more frame would not reach it either.
        if !self.queue.is_empty() {
            return false;
        }
        let bytes = self.heartbeat(desk);
        if let Some(side) = &mut self.websocket {
            // A later ping does not give a peer that owes a pong more time.
            side.pong_due.get_or_insert(now + self.request.route.websocket.pong_timeout);
        }
        self.queue.push_control(bytes)
    }

    fn heartbeat(&mut self, desk: &Desk<'_>) -> Bytes {
        let visible = (self.request.heartbeat_form == HeartbeatForm::Visible).then(|| self.visible_heartbeat(desk));
        let silent: &[u8] = match self.form.transport {
            Transport::WebSocket => {
                let ping = websocket::frame(websocket::Opcode::Ping, b"");
                return [&visible.unwrap_or_default()[..], &ping].concat().into();
            }
            Transport::Sse => sse::COMMENT,
            Transport::Ndjson => ndjson::EMPTY_LINE,
        };
        visible.unwrap_or_else(|| self.form.framed(silent.to_vec()))
    }

    fn visible_heartbeat(&mut self, desk: &Desk<'_>) -> Bytes {
        let cursor = if self.is_behind() { None } else { desk.hub.cursor_now(&self.request.route.stream) };
        let cursor = cursor.map(|cursor| cursor.to_string());
        let data = json::heartbeat(desk.now.unix_ms, cursor.as_deref());
        self.messages += 1;
        object(self.form, self.messages, desk.now, "heartbeat", cursor.as_deref().map(str::as_bytes), data)
    }

    /// Ends the stream at a record boundary: what is queued, then the transport's goodbye. The first reason counts.
    pub fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        let is_unanswered = self.is_unanswered();
        self.closed = Some(reason);
        if is_unanswered {
            return;
        }
        let closing = reason.closing();
        let goodbye = match self.form.transport {
            Transport::Sse if closing.retry => self.form.framed(format!("retry: {}\n\n", self.retry_ms).into_bytes()),
            Transport::WebSocket => {
                closing.websocket.map_or_else(Bytes::new, |(code, text)| websocket::close_frame(code, text).into())
            }
            Transport::Sse | Transport::Ndjson => Bytes::new(),
        };
        let end: &[u8] = if self.form.chunked { http::LAST_CHUNK } else { b"" };
        // Where even that has no room, the connection just ends.
        let _ = self.queue.push_control([&goodbye, end].concat().into());
    }

    /// Takes the session out of the index; to be called once it is closed.
    pub fn leave(&mut self, desk: &mut Desk<'_>) {
        for n in 0..self.subscriptions.len() {
            self.delist(n, desk);
        }
        self.subscriptions = Vec::new();
        self.waiting = None;
    }

    fn enlist(&mut self, n: usize, desk: &mut Desk<'_>) {
        let Subscription { stream, selector, frame, .. } = &self.subscriptions[n];
        desk.index.subscribe(stream, selector, Subscriber { session: desk.session, frame: *frame });
    }

    fn delist(&mut self, n: usize, desk: &mut Desk<'_>) {
        let Subscription { stream, selector, frame, replay } = &self.subscriptions[n];
        if replay.is_none() && self.waiting.is_none() {
            desk.index.unsubscribe(stream, selector, Subscriber { session: desk.session, frame: *frame });
        }
    }
}

/// An object that is no event of the stream (a gap, a heartbeat) as the transport shows it. `cursor` is where the client
/// stands then.
fn object(form: Form, message: u64, now: Now, kind: &str, cursor: Option<&[u8]>, data: Vec<u8>) -> Bytes {
    match form.transport {
        Transport::Sse => form.framed(sse::record(cursor, Some(kind), &data)),
        Transport::Ndjson => form.framed(ndjson::line(data)),
        Transport::WebSocket => {
            let text = json::websocket_message(message, "event", None, now.unix_ms, &data);
            websocket::frame(websocket::Opcode::Text, &text).into()
        }
    }
}
