//! The options of a stream request: resume position, heartbeats, batches, probes, and whether to subscribe at once.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderMap;

use super::query::{Parameter, Query};
use crate::codec::transport::ResumeParameter;
use crate::config::parse_duration;
use crate::route::{Batch, HeartbeatForm, Stream, StreamRoute, Transport};
use crate::session::{BadPosition, CREDIT_MAX, Resume};

/// The intervals of a probe. Shorter ones would be a load; longer ones exceed every idle timeout worth testing.
const PROBE_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(3600);

/// The values of `?maxRate=`, in events a second.
const MAX_RATE: RangeInclusive<u32> = 1..=1_000_000;

/// The value of `probe` is not a valid interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`probe` is an interval between 200ms and 1h, such as `500ms`")]
pub(super) struct BadProbe;

/// The position to resume from: the newest one, if the client sends several. An empty position means none, since
/// `EventSource` sends it after an `id:` without a value. An invalid position is an error, unless the transport reports
/// failures in the stream.
pub(super) fn resume(
    transport: Transport,
    stream: &Stream,
    headers: &HeaderMap,
    query: &Query<'_>,
) -> Result<Option<Resume>, BadPosition> {
    let said = |texts: Vec<Cow<'_, str>>| {
        let read = |text: Cow<'_, str>| match text.parse() {
            Err(BadPosition) if transport.fails_in_stream() => Ok(Resume::Unreadable),
            read => read,
        };
        let positions = texts.into_iter().map(read).collect::<Result<Vec<Resume>, _>>()?;
        Ok(Resume::newest(positions.into_iter(), &stream.topics))
    };
    let places = transport.row().resume();
    // The header takes precedence: the query is as old as the page's URL.
    if places.contains(&ResumeParameter::LastEventId)
        && let Some(position) = said(last_event_ids(headers))?
    {
        return Ok(Some(position));
    }
    said(positions(query, &places.iter().map(|place| parameter(*place)).collect::<Vec<_>>()))
}

/// The query parameter of a client's position.
fn parameter(place: ResumeParameter) -> Parameter {
    match place {
        ResumeParameter::LastEventId => Parameter::LastEventId,
        ResumeParameter::Since => Parameter::Since,
    }
}

/// Whether the state precedes the changes, by `?from=state`. The error is a message for the client.
pub(super) fn from_state(stream: &Stream, query: &Query<'_>) -> Result<bool, &'static str> {
    match query.single(Parameter::From).as_deref() {
        None => Ok(false),
        Some("state") if stream.state.is_some() => Ok(true),
        Some("state") => Err("this stream has no state: its configuration needs `state`"),
        Some(_) => Err("`from` is `state`; a position is `since`"),
    }
}

/// The form of heartbeats. `?heartbeat=event` (or `message`) makes them visible, and `immediate` also sends one at
/// once. The default is the route's.
pub(super) fn heartbeat_form(route: &StreamRoute, query: &Query<'_>) -> HeartbeatForm {
    match query.first(Parameter::Heartbeat).as_deref() {
        Some("event" | "message") => HeartbeatForm::Visible,
        Some("immediate") => HeartbeatForm::Immediate,
        _ => route.heartbeat_form,
    }
}

/// The batch limits: `?batchSize=` and `?batchWindow=`, or the route's. WebSockets have no batches. The error is a
/// message for the client.
pub(super) fn batch(
    route: &StreamRoute,
    transport: Transport,
    query: &Query<'_>,
) -> Result<Option<Batch>, &'static str> {
    let (size, window) = (query.first(Parameter::BatchSize), query.first(Parameter::BatchWindow));
    if transport.is_upgrade() {
        return Ok(None);
    }
    if size.is_none() && window.is_none() {
        return Ok(route.batch);
    }
    let default = (Batch::EVENTS, Batch::WINDOW);
    let (events, time) = route.batch.map_or(default, |batch| (batch.events(), batch.window()));
    let events = size.map_or(Some(events), |text| text.parse().ok());
    let time = window.map_or(Some(time), |text| parse_duration(&text));
    let batch = events.zip(time).and_then(|(events, time)| Batch::new(events, time));
    batch.map(Some).ok_or(
        "`batchSize` is a whole number from 1 to 1000, `batchWindow` a duration from 1ms to 5s with its unit (ms, s)",
    )
}

/// The most events a second that the client wants, by `?maxRate=`. The error is a message for the client.
pub(super) fn max_rate(query: &Query<'_>) -> Result<Option<u32>, &'static str> {
    let Some(written) = query.first(Parameter::MaxRate) else { return Ok(None) };
    let rate = written.parse().ok().filter(|rate| MAX_RATE.contains(rate));
    rate.map(Some).ok_or("`maxRate` is the most events a second, a whole number from 1 to 1000000")
}

/// The events that a WebSocket client has room for at first, by `?credit=`. A client of another transport that relied
/// on it would receive more.
pub(super) fn credit(transport: Transport, query: &Query<'_>) -> Result<Option<u32>, &'static str> {
    let Some(written) = query.first(Parameter::Credit) else { return Ok(None) };
    if !transport.takes_commands() {
        return Err("`credit` is for WebSockets: clients of other transports read no faster than they want");
    }
    let credit = written.parse().ok().filter(|credit| *credit <= CREDIT_MAX);
    credit.map(Some).ok_or("`credit` is the number of events to send at first, a whole number up to 2147483647")
}

/// The interval of a probe in milliseconds. `?probe=500ms` requests a stream without events that is silent for this
/// long between records.
pub(super) fn probe(query: &Query<'_>) -> Option<Result<NonZeroU32, BadProbe>> {
    let written = query.first(Parameter::Probe)?;
    let interval = parse_duration(&written).filter(|interval| PROBE_INTERVAL.contains(interval));
    let ms = interval.and_then(|interval| NonZeroU32::new(u32::try_from(interval.as_millis()).ok()?));
    Some(ms.ok_or(BadProbe))
}

/// Whether the stream starts with a subscription. `?subscribe=manual` leaves that to the commands of a WebSocket.
pub(super) fn subscribes(transport: Transport, query: &Query<'_>) -> bool {
    !transport.takes_commands() || query.first(Parameter::Subscribe).as_deref() != Some("manual")
}

/// The values of `Last-Event-ID`, which are UTF-8 (WHATWG HTML section 9.2.4) and not only ASCII.
fn last_event_ids(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let lines = headers.get_all("last-event-id").iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    lines.filter(|text| !text.is_empty()).collect()
}

/// The values of these parameters, in the order of the query. A position contains no space: a decoded one was the `+`
/// of a UTC offset (`+00:00`), which a form would have encoded as `%2B`.
fn positions<'a>(query: &Query<'a>, parameters: &[Parameter]) -> Vec<Cow<'a, str>> {
    let values = query.all(parameters);
    let positions = values.map(|value| if value.contains(' ') { value.replace(' ', "+").into() } else { value });
    positions.filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{route, stream};

    fn position(transport: Transport, header: Option<&str>, query: &str) -> Result<Option<String>, BadPosition> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("last-event-id", value.parse().unwrap());
        }
        let resume = resume(transport, &stream(1, &["t"]), &headers, &Query::parse(query))?;
        Ok(resume.map(|resume| match resume {
            Resume::From(cursor) => cursor.id.to_string(),
            other => format!("{other:?}").to_lowercase(),
        }))
    }

    #[test]
    fn the_strongest_position_wins() {
        let sse = |header, query| position(Transport::Sse, header, query).unwrap();
        let query = "since=t:0:1&lastEventId=t:0:2&last_event_id=t:0:3";
        assert_eq!(sse(Some("t:0:4"), query).as_deref(), Some("t:0:4"));
        assert_eq!(sse(None, query).as_deref(), Some("t:0:3"));
        assert_eq!(sse(Some(""), "lastEventId=t%3A0%3A2").as_deref(), Some("t:0:2"));
        assert_eq!(sse(None, "since=t:0:1").as_deref(), Some("t:0:1"));
        assert_eq!(sse(None, "offset=t:0:1").as_deref(), Some("t:0:1"), "another name of `since`");
        assert_eq!(sse(Some(""), "a=b"), None);
        assert_eq!(sse(Some("t:0:1"), "since=t:0:4").as_deref(), Some("t:0:1"), "a header is what a browser knows");
    }

    #[test]
    fn of_several_positions_the_newest_wins() {
        let newest = |query| position(Transport::Sse, None, query).unwrap();
        let twice = "last_event_id=t:0:1&lastEventId=t:0:2";
        assert_eq!(newest(twice).as_deref(), Some("t:0:2"), "a polyfill appends its own");
        assert_eq!(newest("lastEventId=t:0:2&last_event_id=t:0:1").as_deref(), Some("t:0:2"));
        assert_eq!(newest("lastEventId=t:0:1&lastEventId=t:0:2").as_deref(), Some("t:0:2"));
        assert_eq!(newest("lastEventId=t:0:9&since=t:1:3").as_deref(), Some("t:1:3"), "the last, where none is older");
        assert_eq!(
            newest("lastEventId=t:0:9&since=-15m").as_deref(),
            Some("t:0:9"),
            "where it was, not what it wanted"
        );
        assert_eq!(newest("lastEventId=t:0:9&since=nonsense").as_deref(), Some("t:0:9"));
        let lines = position(Transport::Ndjson, None, "since=t:0:7&since=t:0:6").unwrap();
        assert_eq!(lines.as_deref(), Some("t:0:7"));
    }

    #[test]
    fn a_plus_in_a_time_is_one_however_it_was_encoded() {
        for zone in ["+00:00", "%2B00:00", "%2b00:00", "%2000:00", "Z"] {
            let query = format!("since=1970-01-01T00:00:01{zone}");
            for transport in Transport::ALL {
                assert_eq!(position(transport, None, &query).unwrap().as_deref(), Some("at(1000)"), "{zone}");
            }
        }
    }

    #[test]
    fn what_is_no_cursor() {
        let long = "t".repeat(crate::session::POSITION_BYTES_MAX + 1);
        for text in ["nonsense", &long] {
            assert_eq!(position(Transport::Sse, Some(text), "").unwrap().as_deref(), Some("unreadable"));
            for transport in [Transport::Ndjson, Transport::WebSocket] {
                assert_eq!(position(transport, None, &format!("since={text}")), Err(BadPosition));
                assert_eq!(position(transport, Some(text), "since="), Ok(None));
            }
        }
    }

    #[test]
    fn batches_are_asked_for() {
        let plain = route("/x");
        let own = StreamRoute { batch: Batch::new(7, Duration::from_millis(9)), ..route("/x") };
        let ask = |route, query| {
            let batch = batch(route, Transport::Ndjson, &Query::parse(query)).ok()?;
            Some(batch.map(|batch| (batch.events(), batch.window().as_millis())))
        };
        assert_eq!(ask(&plain, "a=b"), Some(None));
        assert_eq!(ask(&plain, "batchSize=10"), Some(Some((10, 50))));
        assert_eq!(ask(&plain, "batchWindow=1s"), Some(Some((100, 1000))));
        assert_eq!(ask(&own, ""), Some(Some((7, 9))));
        assert_eq!(ask(&own, "batchSize=1000&batchWindow=5s"), Some(Some((1000, 5000))));
        for wrong in ["batchSize=0", "batchSize=1001", "batchSize=", "batchSize=-1", "batchWindow=5", "batchWindow=6s"]
        {
            assert_eq!(ask(&own, wrong), None, "{wrong}");
        }
        assert_eq!(batch(&own, Transport::WebSocket, &Query::parse("batchSize=10")), Ok(None));
    }

    #[test]
    fn a_pace_is_asked_for() {
        let max_rate = |query| max_rate(&Query::parse(query)).ok();
        assert_eq!((max_rate("a=b"), max_rate("maxRate=10")), (Some(None), Some(Some(10))));
        for wrong in ["maxRate", "maxRate=0", "maxRate=-1", "maxRate=1.5", "maxRate=1000001"] {
            assert_eq!(max_rate(wrong), None, "{wrong}");
        }
        let credit = |transport, query| credit(transport, &Query::parse(query)).ok();
        assert_eq!(credit(Transport::WebSocket, "credit=0"), Some(Some(0)));
        assert_eq!(credit(Transport::WebSocket, "credit=2147483648"), None);
        assert_eq!((credit(Transport::Sse, "credit=5"), credit(Transport::Sse, "a=b")), (None, Some(None)));
    }

    #[test]
    fn parameters() {
        let route = route("/x");
        let heartbeat_form = |route, query| heartbeat_form(route, &Query::parse(query));
        let probe = |query| probe(&Query::parse(query));
        let subscribes = |transport, query| subscribes(transport, &Query::parse(query));
        assert_eq!(heartbeat_form(&route, "a=b"), HeartbeatForm::Silent);
        assert_eq!(heartbeat_form(&route, "a=b&heartbeat=event"), HeartbeatForm::Visible);
        assert_eq!(heartbeat_form(&route, "heartbeat=message"), HeartbeatForm::Visible);
        assert_eq!(heartbeat_form(&route, "heartbeat=immediate"), HeartbeatForm::Immediate);
        assert_eq!(probe("a=b"), None);
        assert_eq!(probe("probe=500ms"), NonZeroU32::new(500).map(Ok));
        for wrong in ["probe", "probe=1", "probe=100ms", "probe=2h"] {
            assert_eq!(probe(wrong), Some(Err(BadProbe)), "{wrong}");
        }
        assert!(!subscribes(Transport::WebSocket, "subscribe=manual"));
        assert!(subscribes(Transport::WebSocket, "subscribe=auto"));
        assert!(subscribes(Transport::Sse, "subscribe=manual"));
    }
}
