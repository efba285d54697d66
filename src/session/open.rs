//! Opening: the head, the first record, and where the stream starts.

use std::time::Duration;

use serde_json::json;

use crate::codec::{Form, http, json, sse};
use crate::hub::{Plan, Queue};
use crate::route::{OnGap, Transport};

use super::command::WebSocketSide;
use super::{CloseReason, Desk, Request, Resume, Session, Subscription};

/// How long a client that asked too early is told to wait, in seconds.
const NOT_READY_RETRY_S: u32 = 2;
/// How long resuming waits for what the client has seen to be read here as well: it may come from another writer or
/// replica that is a moment ahead, or ask before the log has been read.
const RESUME_WAIT: Duration = Duration::from_secs(1);

impl Session {
    /// Starts the session of an admitted request: its answer's head waits to be written afterwards. Where the client
    /// can't resume as it asked, that is the answer, and the session is closed.
    ///
    /// `jitter` from 0 to 1 spreads reconnects.
    pub fn open(request: Request, jitter: f64, desk: &mut Desk<'_>) -> Self {
        let mut session = Self::new(request, jitter, desk);
        if !session.request.subscribe {
            session.write_head(desk);
            return session;
        }
        session.add_subscription(session.request.route.stream.clone(), session.request.selector.clone());
        match session.request.resume.clone() {
            None => session.start_now(desk),
            Some(resume) if session.is_early(&resume, desk) => session.start_later(&resume, desk),
            Some(resume) => session.start_at(&resume, desk),
        }
        session
    }

    fn new(request: Request, jitter: f64, desk: &Desk<'_>) -> Self {
        let route = request.route.clone();
        let now = desk.now;
        let until_expiry = |at: i64| Duration::from_millis(u64::try_from(at - now.unix_ms).unwrap_or(0));
        let expires = request.principal.as_ref().and_then(|principal| principal.expires_at);
        let websocket = (request.transport == Transport::WebSocket).then(|| Box::new(WebSocketSide::new(&route, now)));
        Self {
            form: Form {
                transport: request.transport,
                data: route.data,
                event_field: route.event_field,
                frames: route.frames,
                chunked: request.http11 && request.transport != Transport::WebSocket,
            },
            queue: Queue::default(),
            subscriptions: Vec::new(),
            last_seq: None,
            waiting: None,
            heartbeat_due: now.instant + route.heartbeat,
            last_sent: now.instant,
            expires: expires.and_then(|at| now.instant.checked_add(until_expiry(at))),
            retry_ms: (route.retry.as_millis() as f64 * (1.0 + jitter / 2.0)) as u64,
            closed: None,
            messages: 0,
            websocket,
            request: Box::new(request),
        }
    }

    /// From now on, with the position of now.
    fn start_now(&mut self, desk: &mut Desk<'_>) {
        self.write_head(desk);
        let cursor = desk.hub.cursor_now(&self.request.route.stream).map(|cursor| cursor.to_string());
        self.prime(cursor.as_deref());
        self.enlist(0, desk);
    }

    /// Whether what the client has seen may still be read.
    fn is_early(&self, resume: &Resume, desk: &Desk<'_>) -> bool {
        let stream = &self.request.route.stream;
        !desk.hub.is_ready(stream) || resume.cursor().is_some_and(|cursor| desk.hub.is_behind_of(stream, cursor))
    }

    /// Waits. An SSE client is answered meanwhile; others are when it is known whether they can resume.
    fn start_later(&mut self, resume: &Resume, desk: &Desk<'_>) {
        self.waiting = Some(desk.now.instant + RESUME_WAIT);
        if self.form.transport == Transport::Sse {
            self.write_head(desk);
            // Its own position: a record without an id would let it forget where it stands (WHATWG HTML 9.2.6).
            let cursor = resume.cursor().map(|cursor| cursor.to_string());
            self.prime(cursor.as_deref());
        }
    }

    /// Ends the wait where there is nothing more to wait for.
    pub(super) fn start_waiting(&mut self, desk: &mut Desk<'_>) {
        let Some(until) = self.waiting else { return };
        let Some(resume) = self.request.resume.clone() else { return };
        let is_over = until <= desk.now.instant;
        if !is_over && self.is_early(&resume, desk) {
            return;
        }
        let is_ready = desk.hub.is_ready(&self.request.route.stream);
        if self.form.transport != Transport::Sse {
            self.waiting = None;
            if is_ready {
                self.start_at(&resume, desk)
            } else {
                self.refuse_early(desk)
            }
            // What it said too early; errors in that are its own.
            self.read_on(desk);
        } else if is_ready {
            self.waiting = None;
            let plan = self.plan(&resume, desk);
            self.begin_replay(0, plan);
        } else {
            self.waiting = Some(desk.now.instant + RESUME_WAIT);
        }
    }

    fn refuse_early(&mut self, desk: &Desk<'_>) {
        let headers = format!("Retry-After: {NOT_READY_RETRY_S}\r\n");
        let detail = "the log has not been read yet, so there is nothing to resume from";
        self.refuse(CloseReason::NotReady, 503, "Service Unavailable", &headers, detail, json!({}), desk);
    }

    fn start_at(&mut self, resume: &Resume, desk: &mut Desk<'_>) {
        let plan = self.plan(resume, desk);
        let can_continue = self.form.transport == Transport::Sse || self.request.route.on_gap == OnGap::Continue;
        match plan.gaps.first() {
            Some(gap) if !can_continue => {
                let mut extra: serde_json::Value =
                    serde_json::from_slice(&json::gap(gap, self.request.route.refresh.as_deref())).unwrap_or_default();
                if let Some(object) = extra.as_object_mut() {
                    object.retain(|key, _| matches!(&**key, "cause" | "ranges" | "refresh"));
                }
                let detail = "the events asked for can't be served any more; start afresh without `since`";
                let headers = "X-Replay-Not-Possible: true\r\n";
                self.refuse(CloseReason::ReplayNotPossible, 410, "Gone", headers, detail, extra, desk);
            }
            _ => {
                self.write_head(desk);
                let stream = &self.request.route.stream;
                let cursor = match resume.cursor() {
                    Some(seen) if plan.gaps.is_empty() => Some(plan.replay.cursor(stream, &seen.id)),
                    _ => plan.replay.cursor_now(stream),
                };
                self.prime(cursor.map(|cursor| cursor.to_string()).as_deref());
                self.begin_replay(0, plan);
                self.catch_up(desk);
            }
        }
    }

    fn plan(&self, resume: &Resume, desk: &Desk<'_>) -> Plan {
        let stream = &self.request.route.stream;
        match resume {
            Resume::From(cursor) => desk.hub.plan(stream, cursor),
            Resume::Unreadable => desk.hub.plan_unknown(stream),
        }
    }

    /// Tells what is lost, then lets the subscription walk to the present.
    pub(super) fn begin_replay(&mut self, n: usize, plan: Plan) {
        let stream = &self.subscriptions[n].stream;
        let cursor = plan.replay.cursor_now(stream).map(|cursor| cursor.to_string().into());
        for mut gap in plan.gaps {
            gap.cursor.clone_from(&cursor);
            self.queue.push_gap(gap);
        }
        self.subscriptions[n].replay = Some(Box::new(plan.replay));
    }

    pub(super) fn add_subscription(
        &mut self,
        stream: std::sync::Arc<crate::route::Stream>,
        selector: crate::access::Selector,
    ) {
        let frame = self.form.key(&stream);
        self.subscriptions.push(Subscription { stream, selector, frame, replay: None });
    }

    fn write_head(&mut self, desk: &Desk<'_>) {
        let unix_ms = desk.now.unix_ms;
        let head = match self.request.websocket.take() {
            Some(handshake) => http::websocket_head(&handshake, unix_ms),
            None => http::stream_head(self.request.content_type, self.form.chunked, unix_ms),
        };
        self.push_first(head.into());
    }

    /// SSE: the first record. Others have none: their head alone says that the stream is open.
    fn prime(&mut self, cursor: Option<&str>) {
        if self.form.transport == Transport::Sse {
            let record = sse::priming(self.retry_ms, cursor.map(str::as_bytes));
            self.push_first(self.form.framed(record));
        }
    }

    /// The first bytes of a queue always have room.
    fn push_first(&mut self, bytes: bytes::Bytes) {
        let pushed = self.queue.push_control(bytes);
        debug_assert!(pushed);
    }

    #[expect(clippy::too_many_arguments, reason = "an HTTP answer has that many parts")]
    fn refuse(
        &mut self,
        reason: CloseReason,
        status: u16,
        title: &str,
        headers: &str,
        detail: &str,
        extra: serde_json::Value,
        desk: &Desk<'_>,
    ) {
        let body = json::problem(status, title, detail, extra);
        self.push_first(http::problem(&format!("{status} {title}"), headers, &body, desk.now.unix_ms).into());
        self.subscriptions = Vec::new();
        self.websocket = None;
        self.closed = Some(reason);
    }
}
