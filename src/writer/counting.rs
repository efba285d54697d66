//! Translates the reports of sessions into a writer's metrics.
//!
//! What is counted per delivery is counted by the writer alone, and added to the shared metrics once per turn, because
//! writers that update the same cache lines would wait for each other.

use std::sync::Arc;
use std::time::Duration;

use prometheus::local::{LocalHistogram, LocalIntCounter};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::cursor::CURSOR_BYTES_MAX;
use crate::event::Event;
use crate::hub::Hub;
use crate::metrics::{EVENT_TYPES_MAX, Metrics, TransportMetrics};
use crate::route::{Stream, Transport};
use crate::rule::Failures;
use crate::session::{CloseReason, Now, Resumes, Session};
use crate::traces::RequestSpan;

use super::by_route::{ByRoute, RouteNumber};
use super::connection::{Tally, Written};
use super::event_spans::EventSpans;

/// The target of the log line at a stream's end: `SIDESTREAM_LOG=info,stream=off` disables it.
const STREAM_TARGET: &str = "stream";

/// Counts the reports of sessions.
pub(super) struct Counting {
    metrics: Arc<Metrics>,
    /// By transport.
    deliveries: [Deliveries; Transport::ALL.len()],
    /// By event type, to avoid a lookup by label for each event.
    kinds: FxHashMap<Arc<str>, LocalIntCounter>,
    /// Whether there are counts that have not been added to the metrics.
    is_ahead: bool,
    /// The spans of sampled events.
    pub(super) event_spans: EventSpans,
    /// Streams for which a warning about their cursors was logged.
    told_long: FxHashSet<u16>,
    routes: ByRoute,
    /// The spans of sampled requests whose response is not decided yet, by connection.
    requests: FxHashMap<usize, Box<RequestSpan>>,
}

/// The counters of an event, in addition to that of its type.
#[derive(Clone, Copy)]
pub(super) struct By {
    pub(super) transport: Transport,
    pub(super) route: RouteNumber,
}

/// The deliveries of a transport in this turn.
struct Deliveries {
    events: LocalIntCounter,
    bytes: LocalIntCounter,
    event_to_flush: LocalHistogram,
    receive_to_flush: LocalHistogram,
}

impl Counting {
    pub(super) fn new(metrics: Arc<Metrics>, event_spans: EventSpans) -> Self {
        let deliveries = Transport::ALL.map(|transport| Deliveries::new(metrics.transport(transport)));
        let routes = ByRoute::new(metrics.route_events.clone());
        Self {
            metrics,
            deliveries,
            kinds: FxHashMap::default(),
            is_ahead: false,
            event_spans,
            told_long: FxHashSet::default(),
            routes,
            requests: FxHashMap::default(),
        }
    }

    /// Keeps the span of a sampled request until its response is decided.
    pub(super) fn request(&mut self, key: usize, span: Option<Box<RequestSpan>>) {
        if let Some(span) = span {
            self.requests.insert(key, span);
        }
    }

    /// A request ends without a response.
    pub(super) fn unanswered(&mut self, key: usize) {
        if let Some(span) = self.requests.remove(&key) {
            span.end(None);
        }
    }

    /// The counters of the events of this stream, while it is open.
    pub(super) fn route_of(&mut self, session: &Session) -> RouteNumber {
        self.routes.number(&session.request().route.pattern)
    }

    /// Warns once per stream and writer if it has more partitions than a cursor can contain.
    pub(super) fn look_at_cursors(&mut self, hub: &Hub, stream: &Stream) {
        if !hub.has_full_cursors(stream) && self.told_long.insert(stream.id) {
            let stream = &*stream.name;
            tracing::warn!(
                stream,
                CURSOR_BYTES_MAX,
                "too many partitions for a cursor: clients receive bare event ids"
            );
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Ends a turn: adds its counts to the metrics.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.is_ahead) {
            self.deliveries.iter().for_each(Deliveries::flush);
            self.routes.hand_over();
            self.kinds.values().for_each(LocalIntCounter::flush);
        }
    }

    /// Counts events that were denied because a rule failed, by route.
    pub(super) fn rule_failures(&self, failures: FxHashMap<Arc<str>, Failures>) {
        for (route, Failures { count, last }) in failures {
            self.metrics.rule_errors.with_label_values(&[&*route]).inc_by(count);
            let cause = last.to_string();
            tracing::warn!(route = &*route, count, cause, "a rule failed: its clients do not receive these events");
        }
    }

    pub(super) fn wrote(&mut self, transport: Transport, bytes: usize) {
        self.is_ahead = true;
        self.deliveries[transport as usize].bytes.inc_by(bytes as u64);
    }

    /// The response of a connection is decided.
    pub(super) fn opened(&mut self, key: usize, session: &Session) {
        if let Some(span) = self.requests.remove(&key) {
            span.end(Some(status(session)));
        }
        match session.closed() {
            Some(reason) if is_refusal(reason) => {
                self.metrics.streams_rejected.with_label_values(&[reason.closing().label]).inc();
            }
            _ => {
                let transport = self.metrics.transport(session.transport());
                transport.active_connections.inc();
                if session.is_resumed() {
                    transport.reconnects.inc();
                }
            }
        }
    }

    /// Only for connections that were counted as opened.
    pub(super) fn closed(&self, session: &Session, tally: &Tally, now: Now) {
        let reason = session.closed().unwrap_or(CloseReason::ClientLost);
        if !is_refusal(reason) {
            let transport = self.metrics.transport(session.transport());
            transport.active_connections.dec();
            transport.disconnects.with_label_values(&[reason.closing().label]).inc();
            log_end(session, reason, tally, now);
        }
    }

    pub(super) fn resumed(&self, Resumes { window, log, refused }: Resumes) {
        for (from, times) in [("window", window), ("log", log), ("refused", refused)] {
            if times > 0 {
                self.metrics.resumes.with_label_values(&[from]).inc_by(u64::from(times));
            }
        }
    }

    pub(super) fn item(&mut self, by: By, item: Written<'_>, now: Now) {
        match item {
            Written::Event(event, is_live) => self.sent(by, event, is_live, now),
            Written::Gap(cause) => self.metrics.gaps.with_label_values(&[cause.as_str()]).inc(),
        }
    }

    fn sent(&mut self, by: By, event: &Event, is_live: bool, now: Now) {
        self.is_ahead = true;
        self.routes.sent(by.route);
        let counted = &self.deliveries[by.transport as usize];
        counted.events.inc();
        // The age of a replayed event depends on the client's absence, not on the speed of this process.
        if is_live {
            let since_event = Duration::from_millis(u64::try_from(now.unix_ms - event.ts).unwrap_or(0));
            counted.event_to_flush.observe(since_event.as_secs_f64());
            counted.receive_to_flush.observe(now.instant.saturating_duration_since(event.received).as_secs_f64());
            if let Some(receipt) = &event.trace {
                self.event_spans.written(receipt, now.instant);
            }
        }
        if let Some(counter) = self.kinds.get(&event.kind) {
            return counter.inc();
        }
        let counter = self.metrics.events_sent(&event.kind).local();
        counter.inc();
        if self.kinds.len() < EVENT_TYPES_MAX {
            self.kinds.insert(event.kind.clone(), counter);
        } else {
            counter.flush();
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

impl Deliveries {
    fn new(metrics: &TransportMetrics) -> Self {
        Self {
            events: metrics.events_sent.local(),
            bytes: metrics.bytes.local(),
            event_to_flush: metrics.event_to_flush.local(),
            receive_to_flush: metrics.receive_to_flush.local(),
        }
    }

    fn flush(&self) {
        self.events.flush();
        self.bytes.flush();
        self.event_to_flush.flush();
        self.receive_to_flush.flush();
    }
}

/// One line per stream without personal data: neither token nor path parameters.
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

/// The status of a decided response.
fn status(session: &Session) -> u16 {
    match session.closed() {
        Some(CloseReason::ReplayNotPossible) => 410,
        Some(CloseReason::NotReady) => 503,
        _ if session.transport().is_upgrade() => 101,
        _ => 200,
    }
}

/// Whether the stream never started.
fn is_refusal(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::ReplayNotPossible | CloseReason::NotReady)
}
