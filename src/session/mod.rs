//! One stream's protocol state: bytes and events in, bytes out, one close reason at the end.
//!
//! No I/O and no clock: the writer owns the socket, says what time it is, and files the session in its index. Nothing
//! is counted here either: what happened is returned.

mod batch;
pub mod close;
mod command;
#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod heartbeat_tests;
mod open;
mod reload;
mod request;
mod resume;
#[cfg(test)]
mod resume_tests;
mod separator;
mod skim;
#[cfg(test)]
mod tests;
mod token;
mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::access::Selector;
use crate::admission::Slot;
use crate::codec::transport::{Control, Goodbye};
use crate::codec::{Encodings, Form, json};
use crate::cursor::{Cursor, Positions};
use crate::event::{Encoding, Event, FrameKey, Gap, GapCause};
use crate::hub::{Asker, Hub, Index, Log, Pushed, Queue, Seq, Subscriber};
use crate::route::{HeartbeatForm, Overflow, Stream, StreamRoute, Transport};

pub use close::CloseReason;
pub use command::Refused;
pub use reload::Reload;
pub use request::{BadPosition, POSITION_BYTES_MAX, Request, Resume, Socket};

/// How many items of a queue are prepared for one write.
pub const ITEMS_PER_WRITE: usize = 64;

/// Bytes that a client may send behind the request of an HTTP stream: room for the next request, which is never answered
/// because the stream does not end. And what a client may send after its stream was closed.
pub const STRAY_BYTES_MAX: usize = 64 * 1024;

/// The share of the heartbeat interval by which sessions beat earlier than it says.
const HEARTBEAT_SPREAD: f64 = 0.2;

/// The time, as the core is told it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// What a session sees of its writer.
pub struct WriterContext<'a> {
    pub hub: &'a Hub,
    pub index: &'a mut Index,
    pub log: &'a dyn Log,
    pub encodings: &'a Encodings,
    /// The writer's own number.
    pub writer: u32,
    /// The writer's number for this session.
    pub session: u32,
    pub now: Now,
}

impl WriterContext<'_> {
    /// Who is called when what was asked of the log is there.
    fn asker(&self) -> Asker {
        Asker { writer: self.writer, session: self.session }
    }
}

/// One open stream.
#[derive(Debug)]
pub struct Session {
    request: Box<Request>,
    form: Form,
    queue: Queue,
    subscriptions: Vec<Subscription>,
    /// The last entry the client knows of: two subscriptions that match it send it once, and a heartbeat says how far
    /// others came since.
    last_seq: Option<Seq>,
    /// Whether the head of the answer is decided.
    answered: bool,
    /// Whether the separator of the next record is omitted, because it is the first record; see `separator`.
    omits_separator: bool,
    resumes: Resumes,
    /// Whether it was opened with a position to resume from.
    is_resumed: bool,
    /// When what a subscription or a batch waits for is looked at again, at the latest.
    look_at: Option<Instant>,
    heartbeat_due: Instant,
    last_sent: Instant,
    /// When the notice that the token expires is due, or the end of the stream once it was noticed.
    expires: Option<Instant>,
    is_noticed: bool,
    /// From 0 to 1, drawn at the start: spreads heartbeats, and reconnects, of clients that came together.
    jitter: f64,
    closed: Option<CloseReason>,
    /// Bytes from the client that nobody reads.
    stray: u32,
    /// Messages of the session's own so far: the number in their ids.
    messages: u64,
    websocket: Option<Box<command::WebSocketSide>>,
}

/// What a session wants of a stream.
#[derive(Debug)]
struct Subscription {
    /// Whose rules it was admitted by.
    route: Arc<StreamRoute>,
    stream: Arc<Stream>,
    selector: Selector,
    /// How its events look: as its own route says.
    frame: FrameKey,
    /// One of the streams that its route may have; the first one has the connection's.
    _slot: Option<Box<Slot>>,
    progress: Progress,
    /// Where it started: from there on it sends what it matches. Only a WebSocket, which may have several, has to know.
    from: Option<Box<Positions>>,
}

/// How far a subscription has come.
#[derive(Debug)]
enum Progress {
    /// Where it starts is not known yet.
    Waiting(Box<resume::Waiting>),
    /// It catches up.
    Replaying(Box<walk::Replaying>),
    /// It has caught up, and is in the index.
    Live,
}

/// How often subscriptions resumed, each as its start was decided; nothing here goes beyond 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumes {
    /// From the replay window alone.
    pub window: u8,
    /// From the log behind it.
    pub log: u8,
    /// Not at all: what was asked for is gone, or can't be had now.
    pub refused: u8,
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

    /// Whether it was opened with a position to resume from.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Events that wait to be written, and their bytes.
    pub fn backlog(&self) -> (usize, usize) {
        (self.queue.events(), self.queue.event_bytes())
    }

    /// What its subscriptions see.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.subscriptions.iter().map(|subscription| &subscription.selector)
    }

    /// What became of resuming since this was asked last.
    pub fn take_resumes(&mut self) -> Resumes {
        std::mem::take(&mut self.resumes)
    }

    /// Whether [`Self::catch_up`] has something to do.
    pub fn is_behind(&self) -> bool {
        self.closed.is_none() && !self.subscriptions.iter().all(|s| matches!(s.progress, Progress::Live))
    }

    /// Whether it waits to know where it starts: then every feed may be what it waits for.
    pub fn is_waiting(&self) -> bool {
        self.closed.is_none() && self.subscriptions.iter().any(|s| matches!(s.progress, Progress::Waiting(_)))
    }

    /// Whether not even the head of the answer is decided.
    pub fn is_unanswered(&self) -> bool {
        !self.answered
    }

    /// Whether an event of so many bytes would be taken without dropping another.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.queue.has_room_for(bytes, &self.request.route.queue)
    }

    /// Offers a live event.
    pub fn offer(&mut self, event: &Arc<Event>, encoding: &Arc<Encoding>, seq: Seq) -> Offered {
        if self.closed.is_some() || self.last_seq == Some(seq) {
            return Offered::Accepted;
        }
        self.last_seq = Some(seq);
        let limits = self.request.route.queue;
        match self.queue.push_event(event.clone(), encoding.clone(), &limits) {
            Pushed::Queued => Offered::Accepted,
            Pushed::Dropped(events) => Offered::Dropped(events, limits.overflow),
            Pushed::Full => {
                let dropped = self.queue.clear_unsent() as u64 + 1;
                self.close(CloseReason::SlowConsumer);
                Offered::Dropped(dropped, limits.overflow)
            }
        }
    }

    /// Drops the events that wait, as its queue's policy says. Gives how many, and that policy; nothing where none did.
    pub fn drop_backlog(&mut self) -> Option<(u64, Overflow)> {
        let policy = self.request.route.queue.overflow;
        if self.closed.is_some() || self.queue.events() == 0 {
            return None;
        }
        let dropped = match policy {
            Overflow::Disconnect => {
                let dropped = self.queue.clear_unsent() as u64;
                self.close(CloseReason::SlowConsumer);
                dropped
            }
            Overflow::DropOldest | Overflow::DropNewest | Overflow::Coalesce => self.queue.lose_all(),
        };
        (dropped > 0).then_some((dropped, policy))
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

    /// Makes the next items ready to be written: losses are encoded now that no later one can join them. Calls `told`
    /// with the cause of each.
    pub fn prepare(&mut self, now: Now, mut told: impl FnMut(GapCause)) {
        let Self { request, form, queue, messages, subscriptions, .. } = self;
        queue.settle_gaps(ITEMS_PER_WRITE, |gap| {
            *messages += 1;
            told(gap.cause);
            let data = json::gap(gap, refresh(subscriptions, gap, request));
            let (cursor, number) = (gap.cursor.as_deref(), *messages);
            form.control(Control { kind: "gap", data, cursor, number, unix_ms: now.unix_ms })
        });
    }

    /// What is to be written next, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.first_record();
        let omit = move |(n, bytes): (usize, _)| first.as_ref().map_or(bytes, |first| first.omit(n, bytes));
        self.queue.chunks().take(ITEMS_PER_WRITE).enumerate().map(omit)
    }

    /// Takes note of bytes written; calls `sent` with each event that went out whole, and whether it came live rather
    /// than of a replay.
    pub fn wrote(&mut self, bytes: usize, now: Now, sent: impl FnMut(&Event, bool)) {
        if bytes > 0 {
            self.last_sent = now.instant;
        }
        let omitted = self.omitted(bytes);
        self.queue.advance(bytes + omitted, sent);
    }

    /// Bytes from the client. Only a WebSocket's mean anything; others have nothing to say after their request, and a
    /// client that sends more than [`STRAY_BYTES_MAX`] anyway is cut off.
    ///
    /// Gives the error of every message that could not be carried out.
    pub fn read(&mut self, bytes: &[u8], context: &mut WriterContext<'_>) -> Vec<Refused> {
        if self.websocket.is_some() && self.closed.is_none() {
            return self.read_messages(bytes, context);
        }
        self.stray = self.stray.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        if self.is_overrun() {
            self.end(CloseReason::UnexpectedData, context.now);
        }
        Vec::new()
    }

    /// Whether the client sent more of what nobody reads than it may.
    pub fn is_overrun(&self) -> bool {
        self.stray as usize > STRAY_BYTES_MAX
    }

    /// When [`Self::tick`] wants to be called next.
    pub fn deadline(&self) -> Instant {
        let pong = self.websocket.as_ref().and_then(|side| side.pong_due);
        [self.expires, pong, self.look_at].into_iter().flatten().fold(self.heartbeat_due, Instant::min)
    }

    /// Whether a pong is overdue: [`Self::tick`] would end the session.
    pub fn is_pong_due(&self, now: Instant) -> bool {
        self.websocket.as_ref().and_then(|side| side.pong_due).is_some_and(|due| due <= now)
    }

    /// Gives a peer that can't have read the ping yet more time for its pong.
    pub fn put_off_pong(&mut self, until: Instant) {
        if let Some(due) = self.websocket.as_mut().and_then(|side| side.pong_due.as_mut()) {
            *due = until;
        }
    }

    /// Does what is due. Gives whether a heartbeat was queued.
    pub fn tick(&mut self, context: &mut WriterContext<'_>) -> bool {
        let now = context.now.instant;
        // It is looked at now, or once the socket takes more. Of a batch `gathers` takes note by itself.
        if self.request.batch.is_none() || self.is_behind() {
            self.look_at = self.look_at.filter(|at| *at > now);
        }
        if self.closed.is_some() {
            self.heartbeat_due = now + self.heartbeat_interval();
            return false;
        }
        self.expire(context.now);
        if self.closed.is_some() {
            return false;
        }
        if self.is_pong_due(now) {
            self.close(CloseReason::PongTimeout);
            return false;
        }
        self.beat(context)
    }

    /// After how much silence this session says something: the configured interval or up to
    /// [`HEARTBEAT_SPREAD`] of it less, never more. One event for everybody would otherwise make all of them beat at one
    /// time ever after. A probe measures its interval, and is exact.
    fn heartbeat_interval(&self) -> Duration {
        let interval = self.request.heartbeat_interval();
        if self.request.probe.is_some() { interval } else { interval.mul_f64(1.0 - HEARTBEAT_SPREAD * self.jitter) }
    }

    /// The reconnect delay that the client is given, in milliseconds: that of the route and up to half of it more.
    fn retry_ms(&self) -> u64 {
        (self.request.route.retry.as_millis() as f64 * (1.0 + self.jitter / 2.0)) as u64
    }

    fn beat(&mut self, context: &WriterContext<'_>) -> bool {
        let now = context.now.instant;
        let interval = self.heartbeat_interval();
        let quiet_since = self.quiet_since();
        if quiet_since + interval > now {
            self.heartbeat_due = quiet_since + interval;
            return false;
        }
        self.heartbeat_due = now + interval;
        if self.is_unanswered() || self.request.is_unauthenticated() {
            return false;
        }
        // A client with something waiting is not idle but slow; one more frame would not reach it either.
        if !self.queue.is_empty() {
            return false;
        }
        let bytes = self.heartbeat(context);
        if let Some(side) = &mut self.websocket {
            // A later ping does not give a peer that owes a pong more time.
            side.pong_due.get_or_insert(now + self.request.route.websocket.pong_timeout);
        }
        self.queue.push_control(bytes)
    }

    /// A WebSocket that has nothing to say is pinged as well: proxies on the way count what comes from us.
    fn quiet_since(&self) -> Instant {
        self.websocket.as_ref().map_or(self.last_sent, |side| self.last_sent.min(side.last_read))
    }

    fn heartbeat(&mut self, context: &WriterContext<'_>) -> Bytes {
        let visible = match self.request.heartbeat_form {
            _ if self.request.probe.is_some() => Some(self.probe_record(context)),
            HeartbeatForm::Visible | HeartbeatForm::Immediate => Some(self.visible_heartbeat(context)),
            HeartbeatForm::Silent => None,
        };
        let form = self.form;
        let mut silent = || form.keep_alive(&mut || self.moved_on(context).map(|cursor| cursor.to_string()));
        match visible {
            None => silent().unwrap_or_else(|| self.visible_heartbeat(context)),
            // Its pong says whether the client is there.
            Some(visible) if form.transport.takes_commands() => [visible, silent().unwrap_or_default()].concat().into(),
            Some(visible) => visible,
        }
    }

    /// Where the client stands, if events that were not for it came since it was told last: else it would come back to
    /// a position that is no longer to be had.
    fn moved_on(&mut self, context: &WriterContext<'_>) -> Option<Cursor> {
        let stream = &self.request.route.stream;
        let newest = context.hub.newest_seq(stream).filter(|newest| self.last_seq.is_none_or(|last| last < *newest))?;
        let cursor = context.hub.cursor_now(stream).filter(|_| !self.is_behind())?;
        self.last_seq = Some(newest);
        Some(cursor)
    }

    fn visible_heartbeat(&mut self, context: &WriterContext<'_>) -> Bytes {
        let cursor = if self.is_behind() { None } else { context.hub.cursor_now(&self.request.route.stream) };
        let cursor = cursor.map(|cursor| cursor.to_string());
        let is_immediate = self.request.heartbeat_form == HeartbeatForm::Immediate;
        let interval = is_immediate.then(|| self.request.heartbeat_interval().as_millis());
        let data = json::heartbeat(context.now.unix_ms, interval, cursor.as_deref());
        self.control("heartbeat", data, cursor.as_deref(), context.now)
    }

    /// What a probe is sent: its time on this clock, and which HTTP the last hop before us speaks.
    fn probe_record(&mut self, context: &WriterContext<'_>) -> Bytes {
        let is_http11 = self.request.http11 || self.form.transport.is_upgrade();
        let data = json::probe(context.now.unix_ms, is_http11);
        self.control("probe", data, None, context.now)
    }

    /// A control record of this session. `cursor` is where the client stands after it.
    fn control(&mut self, kind: &'static str, data: Vec<u8>, cursor: Option<&str>, now: Now) -> Bytes {
        self.messages += 1;
        let (cursor, number) = (cursor.map(str::as_bytes), self.messages);
        self.form.control(Control { kind, data, cursor, number, unix_ms: now.unix_ms })
    }

    /// Ends the stream for a reason of ours. Who was not answered yet is answered that there is no stream.
    pub fn end(&mut self, reason: CloseReason, now: Now) {
        if self.closed.is_none() && self.is_unanswered() {
            return self.refuse_unanswered(now);
        }
        self.close(reason);
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
        let goodbye = Goodbye { retry_ms: closing.retry.then(|| self.retry_ms()), close: closing.websocket };
        // Where even that has no room, the connection just ends.
        let _ = self.queue.push_control(self.form.end(&goodbye));
    }

    /// Ends the stream after a bug of ours: what is on its way, then the goodbye.
    pub fn break_off(&mut self) {
        self.queue.clear_unsent();
        self.close(CloseReason::InternalError);
    }

    /// Takes the session out of the index; to be called once it is closed.
    pub fn leave(&mut self, context: &mut WriterContext<'_>) {
        for n in 0..self.subscriptions.len() {
            self.delist(n, context);
        }
        self.subscriptions = Vec::new();
        self.look_at = None;
    }

    fn enlist(&mut self, n: usize, context: &mut WriterContext<'_>) {
        let Subscription { stream, selector, frame, from, .. } = &mut self.subscriptions[n];
        if self.websocket.is_some() && from.is_none() && context.hub.is_ready(stream) {
            *from = Some(Box::new(context.hub.positions(stream)));
        }
        self.last_seq = self.last_seq.max(context.hub.newest_seq(stream));
        context.index.subscribe(stream, selector, Subscriber { session: context.session, frame: *frame });
    }

    fn delist(&mut self, n: usize, context: &mut WriterContext<'_>) {
        let Subscription { stream, selector, frame, progress, .. } = &self.subscriptions[n];
        if matches!(progress, Progress::Live) {
            context.index.unsubscribe(stream, selector, Subscriber { session: context.session, frame: *frame });
        }
    }
}

/// The snapshot that makes up for a gap: the one of the first subscription whose events may be missing.
fn refresh<'a>(subscriptions: &'a [Subscription], gap: &Gap, request: &'a Request) -> Option<&'a str> {
    let is_of = |s: &&Subscription| gap.ranges.iter().any(|range| s.stream.topics.contains(&range.topic));
    let route = subscriptions.iter().find(is_of).map_or(&request.route, |subscription| &subscription.route);
    route.refresh.as_deref()
}
