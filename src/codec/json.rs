//! The JSON objects of the protocol: envelopes with their cursor, gaps, heartbeats, WebSocket messages.

use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::{Event, Gap, GapRange};
use crate::reserved::looks_like_ours;

use super::{DataForm, websocket};

/// The JSON line that is sent for an event.
pub fn body(event: &Event, data: DataForm) -> &[u8] {
    match data {
        DataForm::Envelope => &event.envelope,
        DataForm::Payload => event.data(),
    }
}

/// The JSON of an event with its cursor, for transports without another place for it. A payload that resembles a
/// control record begins with a space, which control records never do. Allocates one more byte.
pub fn text_of(event: &Event, cursor: &[u8], data: DataForm) -> Vec<u8> {
    let mut text = Vec::with_capacity(event.envelope.len() + cursor.len() + 16);
    match data {
        DataForm::Envelope => put_envelope_with_cursor(&mut text, event, cursor),
        DataForm::Payload => {
            if looks_like_ours(event.data()) {
                text.push(b' ');
            }
            text.extend_from_slice(event.data());
        }
    }
    text
}

/// A text on one line.
pub fn line(mut text: Vec<u8>) -> Vec<u8> {
    text.push(b'\n');
    text
}

/// The envelope, with `"cursor"` after `"id"` if they differ.
fn put_envelope_with_cursor(out: &mut Vec<u8>, event: &Event, cursor: &[u8]) {
    let (id, rest) = event.envelope.split_at(id_member_len(event));
    out.extend_from_slice(id);
    put_cursor_member(out, event, cursor);
    out.extend_from_slice(rest);
}

/// The event with `"snapshot":true` after its id.
pub fn in_snapshot(event: &Event) -> Event {
    const MARK: &[u8] = br#","snapshot":true"#;
    let (id, rest) = event.envelope.split_at(id_member_len(event));
    let payload = event.payload.start + MARK.len()..event.payload.end + MARK.len();
    event.with_envelope([id, MARK, rest].concat().into(), payload)
}

/// The border of a snapshot: its `phase` is `begin` or `end`. `cursor` is the client's position after it.
pub fn snapshot(phase: &Phase<'_>, stream: &str, cursor: &str) -> Vec<u8> {
    let mut object = match phase {
        Phase::Begin { reason: Some(reason) } => json!({ "phase": "begin", "reason": reason }),
        Phase::Begin { reason: None } => json!({ "phase": "begin" }),
        Phase::End { count, unreadable } => json!({ "phase": "end", "count": count, "unreadable": unreadable }),
    };
    (object["type"], object["stream"], object["cursor"]) = ("snapshot".into(), stream.into(), cursor.into());
    text(&object)
}

/// A border of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase<'a> {
    /// `reason` is why the client gets a snapshot that it did not ask for.
    Begin { reason: Option<&'a str> },
    End {
        /// The events of the client.
        count: u64,
        /// Records of the topic whose keys are unknown.
        unreadable: u64,
    },
}

/// A WebSocket message with an event: its `id` is the event's, and its `timestamp` the event's time.
pub fn websocket_event(event: &Event, cursor: &[u8], data: DataForm) -> Vec<u8> {
    let body = body(event, data);
    let mut text = Vec::with_capacity(body.len() + cursor.len() + 128);
    text.extend_from_slice(&event.envelope[..id_member_len(event)]);
    text.extend_from_slice(br#","type":"event","timestamp":""#);
    text.extend_from_slice(timestamp(event.ts).as_bytes());
    text.push(b'"');
    put_cursor_member(&mut text, event, cursor);
    text.extend_from_slice(br#","data":"#);
    text.extend_from_slice(body);
    text.push(b'}');
    websocket::frame(websocket::Opcode::Text, &text)
}

/// A WebSocket message of the session itself: a control record or a response. `data` is JSON.
pub fn websocket_message(
    number: u64,
    kind: &str,
    in_reply_to: Option<&serde_json::Value>,
    unix_ms: i64,
    data: &[u8],
) -> Vec<u8> {
    let reply = in_reply_to.map(|id| format!(r#","inReplyTo":{id}"#)).unwrap_or_default();
    let mut text =
        format!(r#"{{"id":"msg-{number}","type":"{kind}"{reply},"timestamp":"{}","data":"#, timestamp(unix_ms))
            .into_bytes();
    text.extend_from_slice(data);
    text.push(b'}');
    text
}

/// A gap. `cursor` is the client's position after it, and `refresh` the URL of a full snapshot.
pub fn gap(gap: &Gap, refresh: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Range<'a> {
        topic: &'a str,
        partition: i32,
        from: i64,
        to: Option<i64>,
    }
    #[derive(Serialize)]
    struct Object<'a> {
        r#type: &'static str,
        cause: &'static str,
        ranges: Vec<Range<'a>>,
        missed: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a str>,
    }
    let end = |to: i64| (to != GapRange::OPEN).then_some(to);
    let ranges = gap.ranges.iter();
    let ranges =
        ranges.map(|r| Range { topic: &r.topic, partition: r.partition, from: r.from, to: end(r.to) }).collect();
    text(&Object {
        r#type: "gap",
        cause: gap.cause.as_str(),
        ranges,
        missed: gap.missed,
        refresh,
        cursor: gap.cursor.as_deref().and_then(|cursor| std::str::from_utf8(cursor).ok()),
    })
}

/// A visible heartbeat. `ts` is in milliseconds since the Unix epoch. `interval` is the longest silence between two
/// records in milliseconds, if the client requested it.
pub fn heartbeat(ts: i64, interval: Option<u128>, cursor: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Object<'a> {
        r#type: &'static str,
        ts: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        interval: Option<u128>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a str>,
    }
    text(&Object { r#type: "heartbeat", ts, interval, cursor })
}

/// The notice that a token expires at `expires`, in milliseconds since the Unix epoch.
pub fn auth(expires: i64) -> Vec<u8> {
    text(&json!({ "type": "auth", "expires": expires }))
}

/// A record of a probe. `ts` is the time of sending in milliseconds since the Unix epoch; `is_http11` is the version of
/// the request.
pub fn probe(ts: i64, is_http11: bool) -> Vec<u8> {
    text(&json!({ "type": "probe", "ts": ts, "http": if is_http11 { "1.1" } else { "1.0" } }))
}

/// RFC 3339 in UTC for milliseconds since the Unix epoch; times after the year 9999 are shown as its end.
pub fn timestamp(unix_ms: i64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().filter(|time| (0..10_000).contains(&time.year()));
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

/// Serializes. All types here have string keys and infallible parts, so that the fallback `null` is unreachable.
pub fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}

/// The length of `{"id":"..."` in the canonical envelope.
fn id_member_len(event: &Event) -> usize {
    let quoted = event.envelope[r#"{"id":""#.len()..].iter().position(|byte| *byte == b'"');
    r#"{"id":""#.len() + quoted.unwrap_or(0) + 1
}

fn put_cursor_member(out: &mut Vec<u8>, event: &Event, cursor: &[u8]) {
    let id = &event.envelope[r#"{"id":""#.len()..id_member_len(event) - 1];
    if id != cursor {
        out.extend_from_slice(br#","cursor":""#);
        out.extend_from_slice(cursor);
        out.push(b'"');
    }
}
