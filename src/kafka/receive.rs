//! The span of one record: from its receipt until all writers have it in their inboxes. Each writer reports its own
//! spans.
//!
//! The attributes follow OpenTelemetry's semantic conventions for messaging and Kafka, without keys and values.

use std::time::Instant;

use super::topic::TopicReader;
use crate::decode::{Header, Record};
use crate::event::{Entry, EventId, GapCause};
use crate::traceparent::TraceParent;
use crate::traces::{Kind, Span, Tracer, Value};

/// The header in which producers propagate the trace.
const TRACEPARENT: &str = "traceparent";

/// A sampled record.
pub(super) struct Received {
    tracer: Tracer,
    place: TraceParent,
    parent: Option<TraceParent>,
    start: Instant,
    /// The event id.
    id: EventId,
    /// The topic's name in the cluster.
    source: String,
    /// The cause of the gap in place of the event, if there is one.
    gap: Option<GapCause>,
}

impl Received {
    /// `None` if the record is not sampled; records of the warm-up never are.
    pub(super) fn begin(tracer: &Tracer, record: &mut Record<'_>, topic: &TopicReader) -> Option<Self> {
        if !topic.is_live() {
            return None;
        }
        let parent = traceparent(record.headers);
        let place = tracer.begin(parent)?;
        record.trace = Some(place);
        Some(Self {
            tracer: tracer.clone(),
            place,
            parent,
            start: record.received,
            id: EventId { topic: topic.name().clone(), partition: record.partition, offset: record.offset },
            source: topic.source().to_string(),
            gap: None,
        })
    }

    /// Records the outcome of decoding; `None` if the record was read before.
    pub(super) fn became(self, entry: Option<&Entry>) -> Option<Self> {
        let gap = match entry? {
            Entry::Gap { cause, .. } => Some(*cause),
            Entry::Event(_) | Entry::Hole { .. } => None,
        };
        Some(Self { gap, ..self })
    }

    /// All writers have the entry.
    pub(super) fn handed_on(self) {
        let mut attributes = vec![
            ("messaging.system", Value::text("kafka")),
            ("messaging.operation.name", Value::text("receive")),
            ("messaging.operation.type", Value::text("receive")),
            ("messaging.destination.partition.id", Value::text(self.id.partition.to_string())),
            ("messaging.kafka.offset", Value::Number(self.id.offset)),
            ("event.id", Value::text(self.id.to_string())),
        ];
        if let Some(cause) = self.gap {
            attributes.push(("error.type", Value::text(cause.as_str())));
        }
        let name = format!("receive {}", self.source).into();
        attributes.push(("messaging.destination.name", Value::text(self.source)));
        self.tracer.end(Span {
            place: self.place,
            parent: self.parent.map(|parent| parent.span),
            name,
            kind: Kind::Consumer,
            start: self.start,
            end: Instant::now(),
            attributes,
            moments: Vec::new(),
            is_error: self.gap.is_some(),
        });
    }
}

/// The last one counts, as for all headers.
fn traceparent(headers: &[Header<'_>]) -> Option<TraceParent> {
    let (_, value) = headers.iter().rfind(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT))?;
    std::str::from_utf8((*value)?).ok()?.parse().ok()
}
