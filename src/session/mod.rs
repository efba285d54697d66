//! The protocol state of one stream: bytes and events in, bytes and one close reason out.
//!
//! It performs no I/O and has no clock: the writer owns the socket, passes the time, and adds the session to its index.
//! It counts nothing either: results are returned.

mod allowance;
mod batch;
mod catch_up;
pub mod close;
mod command;
#[cfg(test)]
mod command_tests;
mod context;
mod heartbeat;
#[cfg(test)]
mod heartbeat_tests;
mod late;
#[cfg(test)]
mod late_tests;
#[cfg(test)]
mod leak_tests;
mod log_reading;
mod losses;
mod message;
mod open;
mod pace;
mod reload;
mod request;
mod resume;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod separator_tests;
mod skim;
mod snapshot;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod subscribe_tests;
mod subscription;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::access::Selector;
use crate::codec::transport::{Control, Goodbye};
use crate::codec::{Form, Frame, Parts, json};
use crate::event::{Encoding, Event, FrameKey, Gap, GapCause};
use crate::hub::{Pushed, Queue, Seq};
use crate::route::{Overflow, Transport};
use crate::rule::Judge;

use subscription::{Progress, Subscription, refresh};

pub use close::CloseReason;
pub use command::Refused;
pub use context::{Now, WriterContext, WriterState};
pub use pace::{CREDIT_MAX, Pace};
pub use reload::Reload;
pub use request::{BadPosition, POSITION_BYTES_MAX, Request, Resume, Socket};

/// Items of a queue that are prepared for one write.
pub const ITEMS_PER_WRITE: usize = 64;

/// The most bytes that a client of an HTTP stream may send after its request: room for a pipelined request, which gets
/// no response because the stream does not end. Also the most bytes after the stream was closed.
pub const STRAY_BYTES_MAX: usize = 64 * 1024;

/// One open stream.
#[derive(Debug)]
pub struct Session {
    request: Box<Request>,
    form: Form,
    queue: Queue,
    subscriptions: Vec<Subscription>,
    /// The last entry that the client has received: two subscriptions that match an event send it once, and a heartbeat
    /// reports how far the position has advanced since.
    last_seq: Option<Seq>,
    /// Whether the response head is decided.
    answered: bool,
    resumes: Resumes,
    /// Whether it was opened with a position to resume from.
    is_resumed: bool,
    /// The latest time at which a waiting subscription or batch is checked again.
    look_at: Option<Instant>,
    heartbeat_due: Instant,
    last_sent: Instant,
    /// When the expiry notice of the token is due, or after the notice, the end of the stream.
    expires: Option<Instant>,
    is_noticed: bool,
    /// From 0 to 1, random: spreads the heartbeats and reconnects of clients that connected together.
    jitter: f64,
    closed: Option<CloseReason>,
    /// Ignored bytes from the client.
    stray: u32,
    /// The number of the session's own messages: part of their ids.
    messages: u64,
    websocket: Option<Box<command::WebSocketSide>>,
}

/// The numbers of resumed subscriptions, counted when the start position is decided; they saturate at 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumes {
    /// From the replay window only.
    pub window: u8,
    /// From the log.
    pub log: u8,
    /// Rejected: the position is not available, or not at present.
    pub refused: u8,
}

/// The result of offering an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The event was queued, or does not concern this session.
    Accepted,
    /// Events were dropped according to this policy; the client will receive a gap.
    Dropped(u64, Overflow),
}

impl Session {
    pub fn transport(&self) -> Transport {
        self.form.transport
    }

    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Why the stream ended, once it has; queued data is still to be written.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Whether everything was written.
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether it was opened with a resume position.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// The number of queued events, and their bytes.
    pub fn backlog(&self) -> (usize, usize) {
        (self.queue.events(), self.queue.event_bytes())
    }

    /// The selectors of its subscriptions.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.subscriptions.iter().map(|subscription| &subscription.selector)
    }

    /// The results of resuming since the last call.
    pub fn take_resumes(&mut self) -> Resumes {
        std::mem::take(&mut self.resumes)
    }

    /// Whether [`Self::catch_up`] has work.
    pub fn is_behind(&self) -> bool {
        self.closed.is_none() && !self.subscriptions.iter().all(|s| matches!(s.progress, Progress::Live))
    }

    /// Whether a start position is not known yet: then every feed may provide it.
    pub fn is_waiting(&self) -> bool {
        self.closed.is_none() && self.subscriptions.iter().any(|s| matches!(s.progress, Progress::Waiting(_)))
    }

    /// Whether the response head is not decided yet.
    pub fn is_unanswered(&self) -> bool {
        !self.answered
    }

    /// Whether an event of this many bytes fits without dropping another one.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.queue.has_room_for(bytes, &self.request.route.queue)
    }

    /// Whether the rule of a subscriber of this session, which the index has found, allows a live event.
    pub fn may_receive(&self, event: &Arc<Event>, key: FrameKey, judge: &Judge) -> bool {
        match &*self.subscriptions {
            [only] => judge.allows(only.rule.as_ref(), event),
            many if many.iter().all(|subscription| subscription.rule.is_none()) => true,
            many => many
                .iter()
                .filter(|subscription| subscription.frame == key && matches!(subscription.progress, Progress::Live))
                .any(|subscription| subscription.wants(event, judge)),
        }
    }

    /// What to encode for a subscriber of this session; `None` if it has no such subscription any more.
    pub fn frame(&self, key: FrameKey) -> Option<Frame<'_>> {
        self.subscriptions.iter().find(|subscription| subscription.frame == key).map(Subscription::frame)
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

    /// Drops the queued events according to the queue's policy. Returns their number and the policy; `None` if nothing
    /// was dropped.
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

    /// Queues a gap for a loss at the source, which was entry `seq` if it is in the window. Returns whether it was
    /// queued now, in contrast to earlier.
    pub fn report_gap(&mut self, gap: Gap, seq: Option<Seq>) -> bool {
        let is_reported = seq.is_some() && self.last_seq == seq;
        if self.closed.is_some() || is_reported {
            return false;
        }
        self.last_seq = seq.or(self.last_seq);
        self.queue.push_gap(gap);
        true
    }

    /// Prepares the next items for writing: lets events pass, and encodes gaps, because no later loss can be merged any
    /// more. Calls `on_gap` with the cause of each.
    pub fn prepare(&mut self, now: Now, mut on_gap: impl FnMut(GapCause)) {
        self.grant(now);
        let items = self.released().min(ITEMS_PER_WRITE);
        let Self { request, form, queue, messages, subscriptions, .. } = self;
        queue.settle_gaps(items, |gap| {
            *messages += 1;
            on_gap(gap.cause);
            let data = json::gap(gap, refresh(subscriptions, gap, request));
            let (cursor, number) = (gap.cursor.as_deref(), *messages);
            form.control(Control { kind: "gap", data, cursor, number, unix_ms: now.unix_ms })
        });
    }

    /// Adds what is ready to a write, in order.
    pub fn write<'s>(&'s self, parts: &mut Parts<'_, 's>) {
        self.queue.write(self.released().min(ITEMS_PER_WRITE), parts);
    }

    /// Records written bytes. Calls `sent` with each completely written event, and whether it was live.
    pub fn wrote(&mut self, bytes: usize, now: Now, mut sent: impl FnMut(&Event, bool)) {
        if bytes > 0 {
            self.last_sent = now.instant;
        }
        let Self { queue, request, .. } = self;
        queue.advance(bytes, |event, is_live| {
            if let Some(pace) = &mut request.pace {
                pace.sent();
            }
            sent(event, is_live);
        });
    }

    /// Processes bytes from the client. Only WebSocket clients may send data; others have nothing to send after their
    /// request, and are disconnected after [`STRAY_BYTES_MAX`].
    ///
    /// Returns an error for every rejected message.
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

    /// Whether the client has sent more ignored bytes than allowed.
    pub fn is_overrun(&self) -> bool {
        self.stray as usize > STRAY_BYTES_MAX
    }

    /// The client's reconnect delay in milliseconds: the route's, plus up to half of it.
    fn retry_ms(&self) -> u64 {
        (self.request.route.retry.as_millis() as f64 * (1.0 + self.jitter / 2.0)) as u64
    }

    /// Queues control data, before held events. False if there is too much of it.
    fn push_control(&mut self, bytes: Bytes) -> bool {
        let released = self.released();
        self.queue.push_control(released, bytes)
    }

    /// A control record of this session. `cursor` is where the client stands after it.
    fn control(&mut self, kind: &'static str, data: Vec<u8>, cursor: Option<&str>, now: Now) -> Bytes {
        self.messages += 1;
        let (cursor, number) = (cursor.map(str::as_bytes), self.messages);
        self.form.control(Control { kind, data, cursor, number, unix_ms: now.unix_ms })
    }

    /// Ends the stream. A client whose response is not decided gets an error response instead.
    pub fn end(&mut self, reason: CloseReason, now: Now) {
        if self.closed.is_none() && self.is_unanswered() {
            return self.refuse_unanswered(now);
        }
        if self.closed.is_none() {
            self.grant_last(now);
        }
        self.close(reason);
    }

    /// Ends the stream at a record boundary: after the queued data that is not held, the transport's closing bytes. The
    /// first reason counts.
    pub fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        let is_unanswered = self.is_unanswered();
        self.closed = Some(reason);
        if is_unanswered {
            return;
        }
        self.drop_held();
        let closing = reason.closing();
        let goodbye = Goodbye { retry_ms: closing.retry.then(|| self.retry_ms()), close: closing.websocket };
        let coding = self.queue.coding();
        let end = [&coding.apply(&self.form.goodbye(&goodbye)), coding.end()].concat();
        if !end.is_empty() {
            // Without room for them, the connection is closed.
            let _ = self.queue.push_raw(self.released(), end.into());
        }
    }

    /// Ends the stream after a panic: after the item in progress, the closing bytes.
    pub fn break_off(&mut self) {
        self.queue.clear_unsent();
        self.close(CloseReason::InternalError);
    }

    /// Removes the session from the index, once it is closed.
    pub fn leave(&mut self, context: &mut WriterContext<'_>) {
        for n in 0..self.subscriptions.len() {
            self.delist(n, context);
        }
        self.subscriptions = Vec::new();
        self.look_at = None;
    }
}
