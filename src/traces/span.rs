//! An ended span, and its form in OTLP.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, Status};

use crate::traceparent::TraceParent;

/// The longest text of a span, in bytes: a path may have kilobytes, and thousands of spans may be queued.
const TEXT_BYTES_MAX: usize = 512;

/// An ended span.
#[derive(Debug)]
pub struct Span {
    pub place: TraceParent,
    /// The parent span, in the same trace.
    pub parent: Option<[u8; 8]>,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub start: Instant,
    pub end: Instant,
    pub attributes: Vec<(&'static str, Value)>,
    /// Span events: names and times.
    pub moments: Vec<(&'static str, Instant)>,
    pub is_error: bool,
}

/// The role in the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

/// One instant on both clocks, to convert between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    since_epoch: Duration,
}

impl Clock {
    pub(super) fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), since_epoch }
    }

    /// Converts to nanoseconds since the Unix epoch.
    fn unix_nanos(self, then: Instant) -> u64 {
        let later = then.saturating_duration_since(self.instant);
        let earlier = self.instant.saturating_duration_since(then);
        let nanos = (self.since_epoch + later).saturating_sub(earlier).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

impl Span {
    /// Converts to OTLP.
    pub(super) fn into_otlp(self, clock: Clock) -> OtlpSpan {
        let kind = match self.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Consumer => SpanKind::Consumer,
        };
        let event = |(name, at): (&str, Instant)| Event {
            time_unix_nano: clock.unix_nanos(at),
            name: name.to_owned(),
            ..Event::default()
        };
        OtlpSpan {
            trace_id: self.place.trace.to_vec(),
            span_id: self.place.span.to_vec(),
            parent_span_id: self.parent.map(|id| id.to_vec()).unwrap_or_default(),
            flags: u32::from(self.place.sampled),
            name: short(&self.name).to_owned(),
            kind: kind.into(),
            start_time_unix_nano: clock.unix_nanos(self.start),
            end_time_unix_nano: clock.unix_nanos(self.end),
            attributes: self.attributes.into_iter().map(|(key, value)| attribute(key, &value)).collect(),
            events: self.moments.into_iter().map(event).collect(),
            status: self.is_error.then(|| Status { message: String::new(), code: StatusCode::Error.into() }),
            ..OtlpSpan::default()
        }
    }
}

pub(super) fn attribute(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => OtlpValue::StringValue(short(text).to_owned()),
        Value::Number(number) => OtlpValue::IntValue(*number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Truncates a text to [`TEXT_BYTES_MAX`].
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

impl Value {
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    pub fn count(count: usize) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }
}
