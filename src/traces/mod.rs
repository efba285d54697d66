//! Distributed traces: spans of requests and events, exported to an OpenTelemetry collector.
//!
//! | file | purpose |
//! |---|---|
//! | this one | sampling, and the bounded queue of ended spans |
//! | `span` | an ended span, and its form in OTLP |
//! | `request` | the span of one request |
//! | `export` | the thread that exports batches to the collector |
//!
//! Without a configured collector there is no [`Tracer`], and this module is idle. Nothing waits for it: a span that
//! does not fit into the queue is dropped and counted.

mod export;
mod request;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::{fmt, io};

use prometheus::IntCounter;

use crate::config::snapshot::Tracing;
use crate::metrics::Metrics;
use crate::traceparent::TraceParent;

pub use export::Exporter;
pub use request::RequestSpan;
pub use span::{Kind, Span, Value};

/// Spans that may wait for export; further ones are dropped.
const SPANS_AHEAD: usize = 2048;

/// Begins spans, and queues ended ones. Cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    shared: Arc<Shared>,
}

struct Shared {
    /// The sampling ratio of traces that begin here, 0 to 1, as bits.
    sample: AtomicU64,
    over: SyncSender<Message>,
    dropped: IntCounter,
}

/// A message to the exporter.
enum Message {
    Span(Box<Span>),
    /// Wakes the exporter to check whether it should stop.
    Wake,
}

impl Tracer {
    /// Starts the exporter thread. It connects once there are spans to export.
    ///
    /// # Errors
    ///
    /// The thread or its runtime cannot be started.
    pub fn start(config: &Tracing, metrics: &Metrics) -> io::Result<(Self, Exporter)> {
        let (over, spans) = sync_channel(SPANS_AHEAD);
        let dropped = metrics.spans_dropped.with_label_values(&["queue"]);
        let shared = Shared { sample: AtomicU64::default(), over: over.clone(), dropped };
        let tracer = Self { shared: Arc::new(shared) };
        tracer.set_sample(config.sample);
        Ok((tracer, Exporter::start(config, metrics, spans, over)?))
    }

    /// Sets the sampling ratio of traces that begin here, 0 to 1.
    pub fn set_sample(&self, sample: f64) {
        self.shared.sample.store(sample.to_bits(), Ordering::Relaxed);
    }

    /// Begins a span. With a parent, it is sampled if the parent is; without one, a new trace begins and is sampled by
    /// ratio. `None` if it is not sampled.
    pub fn begin(&self, parent: Option<TraceParent>) -> Option<TraceParent> {
        match parent {
            Some(parent) => parent.sampled.then(|| Self::below(parent)),
            None => {
                let is_chosen = fastrand::f64() < f64::from_bits(self.shared.sample.load(Ordering::Relaxed));
                is_chosen.then(|| Self::below(TraceParent { trace: new_trace(), span: [0; 8], sampled: true }))
            }
        }
    }

    /// A child span of the same trace.
    pub fn below(parent: TraceParent) -> TraceParent {
        TraceParent { span: fastrand::u64(1..).to_be_bytes(), ..parent }
    }

    /// Queues an ended span, or drops it if the queue is full.
    pub fn end(&self, span: Span) {
        match self.shared.over.try_send(Message::Span(Box::new(span))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.shared.dropped.inc(),
        }
    }
}

#[cfg(test)]
impl Tracer {
    /// A tracer that samples every trace, with a queue of this length, its queued spans, and the counter of dropped
    /// ones.
    pub(crate) fn for_tests(ahead: usize) -> (Self, impl Iterator<Item = Span>, IntCounter) {
        let (over, spans) = sync_channel(ahead);
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let sample = AtomicU64::new(1.0_f64.to_bits());
        let tracer = Self { shared: Arc::new(Shared { sample, over, dropped: dropped.clone() }) };
        let spans = std::iter::from_fn(move || match spans.try_recv().ok()? {
            Message::Span(span) => Some(*span),
            Message::Wake => None,
        });
        (tracer, spans, dropped)
    }
}

fn new_trace() -> [u8; 16] {
    fastrand::u128(1..).to_be_bytes()
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_determines_sampling() {
        let (tracer, _, _) = Tracer::for_tests(1);
        let parent = |sampled| Some(TraceParent { trace: [1; 16], span: [2; 8], sampled });
        assert_eq!(tracer.begin(parent(false)), None);
        tracer.set_sample(0.0);
        let place = tracer.begin(parent(true)).unwrap();
        assert!(place.trace == [1; 16] && place.span != [2; 8] && place.sampled);
        assert_eq!(tracer.begin(None), None);
        tracer.set_sample(1.0);
        let [one, other] = [tracer.begin(None).unwrap(), tracer.begin(None).unwrap()];
        assert!(one.trace != other.trace && one.sampled && one.span != [0; 8]);
    }

    #[test]
    fn spans_beyond_the_limit_are_dropped_and_texts_are_truncated() {
        let (tracer, mut spans, dropped) = Tracer::for_tests(1);
        let path = format!("/{}", "é".repeat(10_000));
        for method in ["BREW", "GET"] {
            RequestSpan::begin(&tracer, None, method, &path).unwrap().end(Some(200));
        }
        assert_eq!(dropped.get(), 1);
        let span = spans.next().unwrap();
        assert!(spans.next().is_none() && span.name == "_OTHER" && !span.is_error);
        let otlp = span.into_otlp(span::Clock::now());
        assert!(format!("{otlp:?}").len() < 3000, "{otlp:?}");
    }
}
