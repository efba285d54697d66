//! Watches one stream: the response, when each record was sent and arrived, and the end.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::client::{Asked, End, Failure, Head, Kind, Step, Stream};

/// The timeout of one read.
const STEP: Duration = Duration::from_millis(200);
/// The most arrivals kept: an hour of a frequent probe.
const ARRIVALS_MAX: usize = 10_000;

/// The observations of one stream. Times count from the request.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) head: Result<Head, Failure>,
    pub(super) is_websocket: bool,
    pub(super) arrivals: Vec<Arrival>,
    /// How it ended, unless it was still open.
    pub(super) end: Option<End>,
    /// Its age at the end of the stream or of the watch.
    pub(super) age: Duration,
}

/// A received record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Duration,
    /// When it arrived, and when it was sent, in milliseconds since the Unix epoch, by two clocks. Only records of
    /// probes and heartbeats have the second time.
    pub(super) came_ms: i64,
    pub(super) left_ms: Option<i64>,
    pub(super) bytes: usize,
    /// Whether the last hop used HTTP/1.0 towards sidestream; records of probes state it.
    pub(super) is_http10: Option<bool>,
}

impl Watch {
    /// The observation of a stream that could not be watched.
    pub(super) fn lost(why: &str) -> Self {
        Self::unopened(Failure::Broken(why.to_owned()), Duration::ZERO)
    }

    fn unopened(failure: Failure, age: Duration) -> Self {
        Self { head: Err(failure), is_websocket: false, arrivals: Vec::new(), end: None, age }
    }
}

/// Opens a stream and watches it until `until`, or until it ends.
pub(super) fn watch(asked: &Asked<'_>, patience: Duration, until: Instant) -> Watch {
    let began = Instant::now();
    let mut stream = match Stream::open(asked, patience.min(until.saturating_duration_since(began))) {
        Ok(stream) => stream,
        Err(failure) => return Watch::unopened(failure, began.elapsed()),
    };
    let mut arrivals = Vec::new();
    let mut end = None;
    while end.is_none() && Instant::now() < until && arrivals.len() < ARRIVALS_MAX {
        match stream.next(STEP) {
            Step::Item(item) => arrivals.push(arrival(began.elapsed(), item.kind, &item.data)),
            Step::Nothing => {}
            Step::End(how) => end = Some(how),
        }
    }
    let age = began.elapsed();
    Watch { head: Ok(stream.head.clone()), is_websocket: stream.is_websocket(), arrivals, end, age }
}

fn arrival(at: Duration, kind: Kind, data: &str) -> Arrival {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let came_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let said: Option<serde_json::Value> =
        matches!(kind, Kind::Probe | Kind::Heartbeat).then(|| serde_json::from_str(data).ok()).flatten();
    let member = |name: &str| said.as_ref().and_then(|said| said.get(name));
    Arrival {
        at,
        came_ms,
        left_ms: member("ts").and_then(serde_json::Value::as_i64),
        bytes: data.len(),
        is_http10: member("http").and_then(serde_json::Value::as_str).map(|version| version == "1.0"),
    }
}
