//! What a writer counts: it turns what sessions report into metrics.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use rustc_hash::FxHashMap;

use crate::event::Event;
use crate::metrics::{EVENT_TYPES_MAX, Metrics};
use crate::route::Transport;
use crate::session::{CloseReason, Now, Resumes, Session};

use super::by_route::{ByRoute, RouteNumber};
use super::connection::{Connection, Tally, Told};

/// The target of the line that is logged at a stream's end: `SIDESTREAM_LOG=info,stream=off` leaves it out.
const STREAM_TARGET: &str = "stream";

/// Counts what sessions report.
pub(super) struct Counting {
    metrics: Arc<Metrics>,
    /// Counters by event type, so that they need not be looked up by label each time.
    kinds: FxHashMap<Arc<str>, IntCounter>,
    routes: ByRoute,
}

/// What an event is counted by, beside its type.
#[derive(Clone, Copy)]
pub(super) struct By {
    pub(super) transport: Transport,
    pub(super) route: RouteNumber,
}

impl Counting {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let routes = ByRoute::new(metrics.route_events.clone());
        Self { metrics, kinds: FxHashMap::default(), routes }
    }

    /// What the events of this stream are counted by, as long as it is open.
    pub(super) fn route_of(&mut self, session: &Session) -> RouteNumber {
        self.routes.number(&session.request().route.pattern)
    }

    /// Ends a turn.
    pub(super) fn hand_over(&mut self) {
        self.routes.hand_over();
    }

    pub(super) fn wrote(&self, transport: Transport, bytes: usize) {
        self.metrics.transport(transport).bytes.inc_by(bytes as u64);
    }

    pub(super) fn opened(&self, session: &Session) {
        match session.closed() {
            Some(reason) if is_refusal(reason) => {
                self.metrics.streams_rejected.with_label_values(&[reason.closing().label]).inc();
            }
            _ => {
                let transport = self.metrics.transport(session.transport());
                transport.active_connections.inc();
                if session.request().resume.is_some() {
                    transport.reconnects.inc();
                }
            }
        }
    }

    /// To be called for connections that were counted as opened.
    pub(super) fn closed(&self, connection: &Connection, now: Now) {
        let session = &connection.session;
        let reason = session.closed().unwrap_or(CloseReason::ClientLost);
        if !is_refusal(reason) {
            let transport = self.metrics.transport(session.transport());
            transport.active_connections.dec();
            transport.disconnects.with_label_values(&[reason.closing().label]).inc();
            log_end(session, reason, &connection.tally, now);
        }
    }

    pub(super) fn resumed(&self, Resumes { window, log, refused }: Resumes) {
        for (from, times) in [("window", window), ("log", log), ("refused", refused)] {
            if times > 0 {
                self.metrics.resumes.with_label_values(&[from]).inc_by(u64::from(times));
            }
        }
    }

    pub(super) fn told(&mut self, by: By, told: Told<'_>, now: Now) {
        match told {
            Told::Event(event, is_live) => self.sent(by, event, is_live, now),
            Told::Gap(cause) => self.metrics.gaps.with_label_values(&[cause.as_str()]).inc(),
        }
    }

    fn sent(&mut self, by: By, event: &Event, is_live: bool, now: Now) {
        self.routes.sent(by.route);
        let metrics = self.metrics.transport(by.transport);
        metrics.events_sent.inc();
        // How old a replayed event is says when its client was away, not how fast this process is.
        if is_live {
            let since_event = Duration::from_millis(u64::try_from(now.unix_ms - event.ts).unwrap_or(0));
            metrics.event_to_flush.observe(since_event.as_secs_f64());
            metrics.receive_to_flush.observe(now.instant.saturating_duration_since(event.received).as_secs_f64());
        }
        if let Some(counter) = self.kinds.get(&event.kind) {
            return counter.inc();
        }
        let counter = self.metrics.events_sent(&event.kind);
        counter.inc();
        if self.kinds.len() < EVENT_TYPES_MAX {
            self.kinds.insert(event.kind.clone(), counter);
        }
    }

    pub(super) fn heartbeat(&self, session: &Session) {
        self.metrics.transport(session.transport()).heartbeats.inc();
    }

    pub(super) fn dropped(&self, events: u64, policy: &str) {
        self.metrics.events_dropped.with_label_values(&[policy]).inc_by(events);
    }

    pub(super) fn refused(&self, kind: &str) {
        self.metrics.websocket_errors.with_label_values(&[kind]).inc();
    }
}

/// One line a stream, which says nothing of who it was for: neither token nor path parameters.
fn log_end(session: &Session, reason: CloseReason, tally: &Tally, now: Now) {
    tracing::info!(
        target: STREAM_TARGET,
        route = &*session.request().route.pattern,
        transport = session.transport().as_str(),
        reason = reason.closing().label,
        duration_ms = now.instant.saturating_duration_since(tally.opened).as_millis() as u64,
        events = tally.events,
        bytes = tally.bytes,
        "stream ended"
    );
}

/// Whether the stream never started.
fn is_refusal(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::ReplayNotPossible | CloseReason::NotReady)
}
