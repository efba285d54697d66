//! What a session does by time: heartbeats, pongs, and the expiry of its token.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::json;
use crate::cursor::Cursor;
use crate::route::HeartbeatForm;

use super::{CloseReason, Session, WriterContext};

/// Heartbeats are sent earlier than the interval by up to this share of it.
const HEARTBEAT_SPREAD: f64 = 0.2;

impl Session {
    /// The next time at which [`Self::tick`] has work.
    pub fn deadline(&self) -> Instant {
        let pong = self.websocket.as_ref().and_then(|side| side.pong_due);
        [self.expires, pong, self.look_at, self.pace_due()].into_iter().flatten().fold(self.heartbeat_due, Instant::min)
    }

    /// Whether a pong is overdue: [`Self::tick`] would end the session.
    pub fn is_pong_due(&self, now: Instant) -> bool {
        self.websocket.as_ref().and_then(|side| side.pong_due).is_some_and(|due| due <= now)
    }

    /// Extends the pong deadline for a peer that cannot have read the ping yet.
    pub fn put_off_pong(&mut self, until: Instant) {
        if let Some(due) = self.websocket.as_mut().and_then(|side| side.pong_due.as_mut()) {
            *due = until;
        }
    }

    /// Does what is due. Returns whether a heartbeat was queued.
    pub fn tick(&mut self, context: &mut WriterContext<'_>) -> bool {
        let now = context.now.instant;
        // Checked now, or once the socket accepts more. `gathers` tracks batches itself.
        if self.request.batch.is_none() || self.is_behind() {
            self.look_at = self.look_at.filter(|at| *at > now);
        }
        self.pass_pace(now);
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

    /// The silence after which this session sends a heartbeat: the configured interval less up to [`HEARTBEAT_SPREAD`]
    /// of it. Otherwise a common event would synchronize all sessions. The interval of a probe is exact.
    pub(super) fn heartbeat_interval(&self) -> Duration {
        let interval = self.request.heartbeat_interval();
        if self.request.probe.is_some() { interval } else { interval.mul_f64(1.0 - HEARTBEAT_SPREAD * self.jitter) }
    }

    pub(super) fn beat(&mut self, context: &WriterContext<'_>) -> bool {
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
        // A client with data to be written is not idle but slow; another frame would not reach it either.
        if self.released() > 0 {
            return false;
        }
        let bytes = self.heartbeat(context);
        if let Some(side) = &mut self.websocket {
            // A later ping does not extend the deadline of an overdue pong.
            side.pong_due.get_or_insert(now + self.request.route.websocket.pong_timeout);
        }
        self.push_control(bytes)
    }

    /// A WebSocket that sends no events is pinged too, because proxies on the path observe our direction.
    pub(super) fn quiet_since(&self) -> Instant {
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

    /// The client's position, if it has advanced without events for this client since it was last sent. Otherwise the
    /// client could resume at a position that is no longer available.
    fn moved_on(&mut self, context: &WriterContext<'_>) -> Option<Cursor> {
        let stream = &self.request.route.stream;
        let newest = context.hub.newest_seq(stream).filter(|newest| self.last_seq.is_none_or(|last| last < *newest))?;
        let cursor = context.hub.cursor_now(stream).filter(|_| !self.is_behind() && !self.is_holding())?;
        self.last_seq = Some(newest);
        Some(cursor)
    }

    pub(super) fn visible_heartbeat(&mut self, context: &WriterContext<'_>) -> Bytes {
        let is_behind = self.is_behind() || self.is_holding();
        let cursor = context.hub.cursor_now(&self.request.route.stream).filter(|_| !is_behind);
        let cursor = cursor.map(|cursor| cursor.to_string());
        let is_immediate = self.request.heartbeat_form == HeartbeatForm::Immediate;
        let interval = is_immediate.then(|| self.request.heartbeat_interval().as_millis());
        let data = json::heartbeat(context.now.unix_ms, interval, cursor.as_deref());
        self.control("heartbeat", data, cursor.as_deref(), context.now)
    }

    /// The record of a probe: the time of sending, and the HTTP version of the last hop before sidestream.
    pub(super) fn probe_record(&mut self, context: &WriterContext<'_>) -> Bytes {
        let is_http11 = self.request.http11 || self.form.transport.is_upgrade();
        let data = json::probe(context.now.unix_ms, is_http11);
        self.control("probe", data, None, context.now)
    }
}
