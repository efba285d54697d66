//! Opening a stream: the response head, the first record, and the start position.

use std::sync::Arc;

use serde_json::json;

use crate::admission::{Admitted, Rights};
use crate::codec::{TransferCoding, http, json, problem};
use crate::cursor::SnapshotCursor;
use crate::event::Gap;
use crate::hub::{NoState, Queue};
use crate::route::{HeartbeatForm, StreamRoute};

use super::command::WebSocketSide;
use super::{CloseReason, Now, Progress, Request, Resume, Resumes, Session, Subscription, WriterContext};

/// `Retry-After` for a client that resumes before the topics are read, in seconds.
const NOT_READY_RETRY_S: u32 = 2;
/// The longest position that is kept while the number of partitions is unknown, in bytes.
const WAITING_POSITION_BYTES_MAX: usize = 1024;

impl Session {
    /// Starts the session of an admitted request, and queues its response head. If the client cannot resume, the
    /// response is an error, and the session is closed.
    ///
    /// `jitter`, from 0 to 1, spreads heartbeats and reconnects.
    pub fn open(request: Request, jitter: f64, context: &mut WriterContext<'_>) -> Self {
        let mut session = Self::new(request, jitter, context);
        session.heartbeat_due = context.now.instant + session.heartbeat_interval();
        if session.request.is_unauthenticated() {
            session.write_head(context);
        } else {
            session.begin(context);
        }
        session
    }

    /// Starts the requested subscription, once the access rights are known.
    pub(super) fn begin(&mut self, context: &mut WriterContext<'_>) {
        if !self.request.subscribe {
            self.write_head(context);
            if self.request.probe.is_some() {
                let record = self.probe_record(context);
                self.push_first(record);
            } else {
                self.beat_first(context);
            }
            return;
        }
        let Request { route, selector, rule, .. } = &*self.request;
        self.add_subscription(route.clone(), Rights { selector: selector.clone(), rule: rule.clone() }, None);
        // Not kept with the request, because the client chose its size.
        match self.request.resume.take().map(|resume| *resume) {
            Some(Resume::Within(within)) => self.start_with_state(Some(*within), context),
            Some(resume) => self.start_from(resume, context),
            None if self.request.from_state => self.start_with_state(None, context),
            None => self.start_now(context),
        }
    }

    fn new(mut request: Request, jitter: f64, context: &WriterContext<'_>) -> Self {
        request.principal = request.principal.take().map(|principal| request.held(principal));
        let route = request.route.clone();
        let now = context.now;
        let principal = request.principal.as_ref();
        let expires = match principal {
            Some(principal) => Self::notice_at(principal, now),
            None if request.is_unauthenticated() => Some(now.instant + route.websocket.authenticate_timeout),
            None => None,
        };
        let websocket = request.transport.takes_commands().then(|| Box::new(WebSocketSide::new(&route, now)));
        let form = route.form(request.transport);
        let has_body = !request.transport.is_upgrade();
        let coding = if request.http11 && has_body { TransferCoding::Chunked } else { TransferCoding::None };
        Self {
            form,
            queue: Queue::new(coding, form.separator()),
            subscriptions: Vec::new(),
            last_seq: None,
            look_at: None,
            answered: false,
            resumes: Resumes::default(),
            is_resumed: request.resume.is_some(),
            heartbeat_due: now.instant,
            last_sent: now.instant,
            expires,
            is_noticed: false,
            jitter,
            closed: None,
            stray: 0,
            messages: 0,
            websocket,
            request: Box::new(request),
        }
    }

    /// Starts at the current position.
    fn start_now(&mut self, context: &mut WriterContext<'_>) {
        self.write_head(context);
        let cursor = context.hub.cursor_now(&self.request.route.stream).map(|cursor| cursor.to_string());
        self.prime(cursor.as_deref());
        self.beat_first(context);
        self.enlist(0, context);
    }

    /// Starts at the resume position. If that has to wait, an SSE client gets its response head meanwhile; others get
    /// it once it is known whether they can resume.
    fn start_from(&mut self, resume: Resume, context: &mut WriterContext<'_>) {
        let cursor = resume.cursor().map(|cursor| cursor.to_string());
        let is_long = cursor.as_ref().is_some_and(|cursor| cursor.len() > WAITING_POSITION_BYTES_MAX);
        if is_long && !context.hub.is_ready(&self.request.route.stream) {
            return self.turn_back(cursor.as_deref(), context);
        }
        self.resume(0, resume, context);
        self.catch_up(context);
        if !self.answered && self.form.transport.fails_in_stream() {
            self.write_head(context);
            // Repeats the client's own position: a record without an id would reset it (WHATWG HTML section 9.2.6).
            self.prime(cursor.as_deref());
            self.beat_first(context);
        }
    }

    /// Starts with the state. A client of SSE waits for it in an open stream, because it would fail permanently on an
    /// error; others get one.
    fn start_with_state(&mut self, within: Option<SnapshotCursor>, context: &mut WriterContext<'_>) {
        let table = context.log.table(&self.request.route.stream);
        let Some(state) = table.map(|table| table.cut(context.now.instant)) else {
            // The position is that of another configuration.
            return self.start_from(Resume::Unreadable, context);
        };
        match state {
            Err(why) if !self.form.transport.fails_in_stream() => return self.refuse_state(why, context),
            _ => {}
        }
        let cursor = within.as_ref().map(SnapshotCursor::to_string);
        self.send_state(0, within, None);
        self.write_head(context);
        self.prime(cursor.as_deref());
        self.beat_first(context);
        self.catch_up(context);
    }

    /// Responds that the state is not available.
    fn refuse_state(&mut self, why: NoState, context: &WriterContext<'_>) {
        let headers = format!("Retry-After: {NOT_READY_RETRY_S}\r\n");
        let (detail, now) = (why.to_string(), context.now);
        self.refuse(CloseReason::NotReady, 503, "Service Unavailable", &headers, &detail, json!({}), now);
    }

    /// Ends a stream whose position is too long to be kept until the log is read: the client keeps it, and reconnects.
    fn turn_back(&mut self, cursor: Option<&str>, context: &WriterContext<'_>) {
        if self.answered {
            return self.close(CloseReason::NotReady);
        }
        if !self.form.transport.fails_in_stream() {
            return self.refuse_early(false, context);
        }
        self.subscriptions = Vec::new();
        self.write_head(context);
        self.prime(cursor);
        self.close(CloseReason::NotReady);
    }

    /// Responds that it is not known yet whether the client can resume.
    pub(super) fn refuse_early(&mut self, is_read: bool, context: &WriterContext<'_>) {
        let headers = format!("Retry-After: {NOT_READY_RETRY_S}\r\n");
        let detail = if is_read {
            "the log does not answer, and only it has the requested events"
        } else {
            "the log has not been read yet, so there is nothing to resume from"
        };
        self.refuse(CloseReason::NotReady, 503, "Service Unavailable", &headers, detail, json!({}), context.now);
    }

    /// Responds to a client whose stream must end before it has started. It may reconnect to another replica, or later;
    /// an expired token is rejected then.
    pub(super) fn refuse_unanswered(&mut self, now: Now) {
        // Spread like reconnects.
        let headers = format!("Retry-After: {}\r\n", self.retry_ms().div_ceil(1000).max(1));
        let detail = "the stream must end before it is known whether it can resume: reconnect";
        self.refuse(CloseReason::NotReady, 503, "Service Unavailable", &headers, detail, json!({}), now);
    }

    /// Responds that the requested events are no longer available.
    pub(super) fn refuse_gone(&mut self, gap: &Gap, context: &WriterContext<'_>) {
        let mut extra: serde_json::Value =
            serde_json::from_slice(&json::gap(gap, self.request.route.refresh.as_deref())).unwrap_or_default();
        if let Some(object) = extra.as_object_mut() {
            object.retain(|key, _| matches!(&**key, "cause" | "ranges" | "refresh"));
        }
        let detail = "the events asked for can't be served any more; start afresh without `since`";
        let headers = "X-Replay-Not-Possible: true\r\n";
        self.refuse(CloseReason::ReplayNotPossible, 410, "Gone", headers, detail, extra, context.now);
    }

    pub(super) fn add_subscription(&mut self, route: Arc<StreamRoute>, rights: Rights, admitted: Option<Admitted>) {
        let stream = route.stream.clone();
        let frame = route.frame(self.request.transport);
        // Most streams have one, and a growing vector would allocate four.
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push(Subscription {
            route,
            stream,
            selector: rights.selector,
            rule: rights.rule,
            frame,
            admitted: admitted.map(Box::new),
            progress: Progress::Live,
            from: None,
        });
    }

    pub(super) fn write_head(&mut self, context: &WriterContext<'_>) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let unix_ms = context.now.unix_ms;
        let head = match self.request.socket.as_mut().and_then(|socket| socket.handshake.take()) {
            Some(handshake) => http::websocket_head(&handshake, &self.pace_line(), unix_ms),
            None => {
                let batch = self.request.batch.map(|batch| batch.events());
                let headers = self.pace_line() + &self.request.headers.take().unwrap_or_default();
                http::stream_head(
                    self.request.content_type,
                    self.queue.coding(),
                    self.request.persists,
                    batch,
                    &headers,
                    unix_ms,
                )
            }
        };
        // With the head, because a body without its start is not closed properly.
        let start = self.queue.coding().apply(self.form.start());
        self.push_head([head, start].concat());
    }

    /// What the transport has before the first record. Where it has nothing, the head alone says that the stream is
    /// open.
    pub(super) fn prime(&mut self, cursor: Option<&str>) {
        let priming = self.form.priming(self.retry_ms(), cursor.map(str::as_bytes));
        if !priming.is_empty() {
            self.push_first(priming);
        }
    }

    /// The first heartbeat, if the client requested heartbeats.
    pub(super) fn beat_first(&mut self, context: &WriterContext<'_>) {
        if self.request.heartbeat_form == HeartbeatForm::Immediate {
            let heartbeat = self.visible_heartbeat(context);
            self.push_first(heartbeat);
        }
    }

    /// The first bytes of a queue always fit.
    fn push_head(&mut self, head: Vec<u8>) {
        let pushed = self.queue.push_raw(usize::MAX, head.into());
        debug_assert!(pushed);
    }

    /// Records after the head fit as well.
    fn push_first(&mut self, bytes: bytes::Bytes) {
        let pushed = self.push_control(bytes);
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
        now: Now,
    ) {
        self.resumes.refused = self.resumes.refused.saturating_add(1);
        let body = problem::document(Some(problem::ABOUT_BLANK), status, title, detail, extra);
        let headers = format!("{headers}{}", self.request.headers.take().unwrap_or_default());
        self.push_head(problem::response(status, title, &headers, &body, now.unix_ms));
        self.subscriptions = Vec::new();
        self.websocket = None;
        self.answered = true;
        self.closed = Some(reason);
    }
}
