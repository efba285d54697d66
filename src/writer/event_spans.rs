//! The spans of a sampled event in a writer: one for queueing it, and one for writing it to all streams; never one per
//! stream.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::event::Event;
use crate::traceparent::TraceParent;
use crate::traces::{Kind, Span, Tracer, Value};

/// The most events whose writing is in progress; beyond it, the oldest span ends.
const OPEN_MAX: usize = 1024;
/// Including ended ones behind one that has not ended.
const ORDER_MAX: usize = 4 * OPEN_MAX;
/// How long a span waits for the event to be written to all streams: a queue may drop it, and a client may leave or not
/// read.
const FLUSH_WAIT: Duration = Duration::from_secs(10);

/// The open spans of events in one writer.
pub(super) struct EventSpans {
    tracer: Option<Tracer>,
    writer: u32,
    /// By the span of their receipt.
    open: FxHashMap<[u8; 8], OpenEvent>,
    /// The same in order, including ended ones.
    order: VecDeque<([u8; 8], Instant)>,
}

/// An event that is queued.
struct OpenEvent {
    /// The span of its writing.
    place: TraceParent,
    /// The span of its queueing.
    parent: [u8; 8],
    event_id: String,
    topic: String,
    queued: Instant,
    /// The streams that it was queued for.
    streams: usize,
    written: usize,
    first: Option<Instant>,
    last: Instant,
}

impl EventSpans {
    pub(super) fn new(tracer: Option<Tracer>, writer: u32) -> Self {
        Self { tracer, writer, open: FxHashMap::default(), order: VecDeque::new() }
    }

    /// The event was queued for this many streams, from `began` to `queued`.
    pub(super) fn queued(&mut self, event: &Event, streams: usize, began: Instant, queued: Instant) {
        let (Some(tracer), Some(receipt)) = (&self.tracer, event.trace.as_deref()) else { return };
        if streams == 0 {
            return;
        }
        let place = Tracer::below(*receipt);
        let topic = event.id.topic.to_string();
        let event_id = event.id.to_string();
        tracer.end(Span {
            place,
            parent: Some(receipt.span),
            name: format!("enqueue {topic}").into(),
            kind: Kind::Internal,
            start: began,
            end: queued,
            attributes: self.attributes(event_id.clone(), streams),
            moments: Vec::new(),
            is_error: false,
        });
        while self.open.len() >= OPEN_MAX || self.order.len() >= ORDER_MAX {
            self.end_oldest();
        }
        let open_event = OpenEvent {
            place: Tracer::below(place),
            parent: place.span,
            event_id,
            topic,
            queued,
            streams,
            written: 0,
            first: None,
            last: queued,
        };
        self.open.insert(receipt.span, open_event);
        self.order.push_back((receipt.span, queued + FLUSH_WAIT));
    }

    /// The event was completely written to one more stream.
    pub(super) fn written(&mut self, receipt: &TraceParent, now: Instant) {
        let Some(open_event) = self.open.get_mut(&receipt.span) else { return };
        open_event.written += 1;
        open_event.first.get_or_insert(now);
        open_event.last = now;
        if open_event.written == open_event.streams {
            self.end(receipt.span);
            self.forget_ended();
        }
    }

    /// Ends the spans that have waited for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(_, until)| *until <= now) {
            self.end_oldest();
        }
    }

    /// Ends all spans.
    pub(super) fn end_all(&mut self) {
        while !self.order.is_empty() {
            self.end_oldest();
        }
    }

    /// The time until the next span expires.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let (_, until) = self.order.front()?;
        Some(until.saturating_duration_since(now))
    }

    fn end_oldest(&mut self) {
        if let Some((receipt, _)) = self.order.pop_front() {
            self.end(receipt);
        }
        self.forget_ended();
    }

    /// Keeps an open event at the front of the order.
    fn forget_ended(&mut self) {
        while self.order.front().is_some_and(|(receipt, _)| !self.open.contains_key(receipt)) {
            self.order.pop_front();
        }
    }

    fn end(&mut self, receipt: [u8; 8]) {
        let Some(open_event) = self.open.remove(&receipt) else { return };
        let Some(tracer) = &self.tracer else { return };
        let mut attributes = self.attributes(open_event.event_id, open_event.written);
        let left_out = open_event.streams - open_event.written;
        if left_out > 0 {
            attributes.push(("sidestream.streams.not_reached", Value::count(left_out)));
        }
        tracer.end(Span {
            place: open_event.place,
            parent: Some(open_event.parent),
            name: format!("flush {}", open_event.topic).into(),
            kind: Kind::Internal,
            start: open_event.queued,
            end: open_event.last,
            attributes,
            moments: open_event.first.map(|first| ("first stream", first)).into_iter().collect(),
            is_error: false,
        });
    }

    fn attributes(&self, event_id: String, streams: usize) -> Vec<(&'static str, Value)> {
        vec![
            ("event.id", Value::text(event_id)),
            ("user.count", Value::count(streams)),
            ("sidestream.writer", Value::Number(self.writer.into())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing;

    /// An event whose receipt is sampled.
    fn event(tracer: &Tracer, offset: i64) -> Event {
        let event = Arc::into_inner(testing::event("orders", 0, offset, &[])).unwrap();
        Event { trace: tracer.begin(None).map(Box::new), ..event }
    }

    /// The name of each span, and its number of streams.
    fn exported(spans: &mut impl Iterator<Item = Span>) -> Vec<(String, Value)> {
        let count = |span: &Span| span.attributes.iter().find(|(key, _)| *key == "user.count").unwrap().1.clone();
        spans.map(|span| (span.name.to_string(), count(&span))).collect()
    }

    fn span(name: &str, streams: usize) -> (String, Value) {
        (format!("{name} orders"), Value::count(streams))
    }

    #[test]
    fn a_span_ends_with_the_last_stream_or_after_a_timeout() {
        let (tracer, mut spans, _) = Tracer::for_tests(10);
        let mut event_spans = EventSpans::new(Some(tracer.clone()), 0);
        let (all, some) = (event(&tracer, 1), event(&tracer, 2));
        let now = Instant::now();
        event_spans.queued(&all, 2, now, now);
        event_spans.queued(&some, 2, now, now);
        event_spans.queued(&event(&tracer, 3), 0, now, now);
        assert_eq!(exported(&mut spans), [span("enqueue", 2), span("enqueue", 2)]);
        let write =
            |event_spans: &mut EventSpans, event: &Event| event_spans.written(event.trace.as_ref().unwrap(), now);
        write(&mut event_spans, &some);
        write(&mut event_spans, &all);
        assert!(exported(&mut spans).is_empty());
        write(&mut event_spans, &all);
        assert_eq!(exported(&mut spans), [span("flush", 2)]);
        event_spans.expire(now + FLUSH_WAIT / 2);
        assert!(exported(&mut spans).is_empty() && event_spans.wait(Instant::now()).is_some());
        event_spans.expire(now + FLUSH_WAIT);
        assert_eq!(exported(&mut spans), [span("flush", 1)]);
        assert!(event_spans.wait(Instant::now()).is_none() && event_spans.open.is_empty());
    }

    #[test]
    fn the_number_of_open_events_is_limited() {
        let (tracer, spans, _) = Tracer::for_tests(3 * OPEN_MAX);
        let mut event_spans = EventSpans::new(Some(tracer.clone()), 0);
        let now = Instant::now();
        for offset in 0..OPEN_MAX as i64 + 3 {
            event_spans.queued(&event(&tracer, offset), 1, now, now);
        }
        assert_eq!((event_spans.open.len(), event_spans.order.len()), (OPEN_MAX, OPEN_MAX));
        event_spans.end_all();
        assert!(event_spans.open.is_empty() && event_spans.order.is_empty());
        assert_eq!(spans.filter(|span| span.name == "flush orders").count(), OPEN_MAX + 3);
    }
}
