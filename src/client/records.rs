//! The items of a stream on any transport.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::codec::transport::reading::{Reader, Record};
use crate::cursor::Cursor;

/// The longest record, in bytes; a longer one is not from a stream of events.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A complete item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    /// The client's position after the item, if it is stated.
    pub cursor: Option<String>,
    /// The text as received, usually JSON; for a WebSocket message, its content. Empty if there is none.
    pub data: String,
    /// The reconnect delay, if it is stated.
    pub retry: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Event,
    Gap,
    Heartbeat,
    /// A record of a probe, for `sidestream doctor`.
    Probe,
    /// Invisible to scripts: comments, empty lines, records without data, pings, responses.
    Silent,
}

impl Item {
    pub(super) fn silent() -> Self {
        Self { kind: Kind::Silent, cursor: None, data: String::new(), retry: None }
    }

    /// From an object of the stream. An event with an envelope has an id, and a payload that resembles a control record
    /// begins with a space; other objects with a reserved type are control records.
    pub(super) fn of_object(text: String) -> Self {
        let marks: Marks = serde_json::from_str(&text).unwrap_or_default();
        let is_event = marks.id.is_some() || text.starts_with(' ');
        let kind = if is_event { Kind::Event } else { Kind::named(marks.kind()) };
        let cursor = marks.cursor.or(marks.id).filter(|cursor| cursor.parse::<Cursor>().is_ok());
        Self { kind, cursor, data: text, retry: None }
    }

    fn of_record(record: Record) -> Self {
        let Record { data, event, id, retry } = record;
        let Some(data) = data else { return Self { cursor: id, retry, ..Self::silent() } };
        let object = Self::of_object(data);
        // If the transport names records, no event has a reserved name, whatever its data contains.
        let kind = event.map_or(object.kind, |event| Kind::named(&event));
        Self { kind, cursor: id.or(object.cursor), retry, ..object }
    }

    /// From a WebSocket message.
    pub(super) fn of_message(text: String) -> Self {
        let Ok(message) = serde_json::from_str::<Message<'_>>(&text) else { return Self::of_object(text) };
        let (Some("event"), Some(data)) = (message.r#type, message.data) else { return Self::silent() };
        let inner = Self::of_object(data.get().to_owned());
        let outer = message.cursor.or(message.id).filter(|cursor| cursor.parse::<Cursor>().is_ok());
        // The ids of control messages are not positions.
        let kind = if outer.is_some() { Kind::Event } else { inner.kind };
        Self { kind, cursor: outer.map(str::to_owned).or(inner.cursor), ..inner }
    }
}

impl Kind {
    fn named(name: &str) -> Self {
        match name {
            "gap" => Self::Gap,
            "heartbeat" => Self::Heartbeat,
            "probe" => Self::Probe,
            _ => Self::Event,
        }
    }
}

/// The identifying fields of an object. An event's type may be any value.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Marks {
    id: Option<String>,
    cursor: Option<String>,
    r#type: Option<serde_json::Value>,
}

impl Marks {
    fn kind(&self) -> &str {
        self.r#type.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a str>,
    r#type: Option<&'a str>,
    cursor: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Parses the bytes of an HTTP stream into items.
pub(super) struct Parser(Box<dyn Reader>);

impl Parser {
    pub(super) fn new(reader: Box<dyn Reader>) -> Self {
        Self(reader)
    }

    /// Consumes bytes of the body, and calls `found` with each complete item. An incomplete one waits for more bytes.
    pub(super) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Item)) -> Result<(), &'static str> {
        self.0.feed(bytes, &mut |record| found(Item::of_record(record)))?;
        if self.0.held() > RECORD_BYTES_MAX { Err("a record is too long") } else { Ok(()) }
    }
}

impl fmt::Debug for Parser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parser").field("held", &self.0.held()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Transport;
    use crate::codec::transport::{Control, Goodbye};

    fn read(transport: Transport, bytes: &[u8], piece: usize) -> Vec<(Kind, Option<String>, String)> {
        let mut parser = Parser::new(transport.row().reader().unwrap());
        let mut items = Vec::new();
        for bytes in bytes.chunks(piece) {
            parser.feed(bytes, |item| items.push((item.kind, item.cursor, item.data))).unwrap();
        }
        items
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn sse_records_survive_any_cut() {
        let bytes = "retry: 3000\nid: o:0:3\n\nid: o:0:4\ndata: {\"id\":\"o:0:4\",\ndata: \"type\":\"gap\"}\n\n: hi\n\n\
                     event: gap\nid: o:0:9\ndata: {\"type\":\"gap\"}\n\ndata: cut off";
        for piece in 1..bytes.len() {
            let items = read(Transport::Sse, bytes.as_bytes(), piece);
            assert_eq!(items[0], (Kind::Silent, some("o:0:3"), String::new()));
            assert_eq!(items[1], (Kind::Event, some("o:0:4"), "{\"id\":\"o:0:4\",\n\"type\":\"gap\"}".into()));
            assert_eq!(items[2], (Kind::Silent, None, String::new()));
            assert_eq!(items[3], (Kind::Gap, some("o:0:9"), "{\"type\":\"gap\"}".into()));
            assert_eq!(items.len(), 4);
        }
    }

    #[test]
    fn events_gaps_and_heartbeats_are_distinguished() {
        let bytes = "{\"id\":\"o:0:4\",\"cursor\":\"o:0:4~AA\",\"type\":\"gap\"}\n\n{\"type\":\"gap\",\"cursor\":\"o:0:5\"}\n\
                     {\"type\":\"heartbeat\"}\n{\"id\":\"a user's own\"}\n7\n {\"type\":\"gap\"}\n";
        let items = read(Transport::Ndjson, bytes.as_bytes(), 7);
        let marks: Vec<_> = items.into_iter().map(|(kind, cursor, _)| (kind, cursor)).collect();
        let expected = [
            (Kind::Event, some("o:0:4~AA")),
            (Kind::Silent, None),
            (Kind::Gap, some("o:0:5")),
            (Kind::Heartbeat, None),
            (Kind::Event, None),
            (Kind::Event, None),
            (Kind::Event, None),
        ];
        assert_eq!(marks, expected);
    }

    #[test]
    fn messages_are_unwrapped() {
        let event = r#"{"id":"o:0:4","type":"event","timestamp":"","data":{"n":1.10}}"#;
        let item = Item::of_message(event.into());
        assert_eq!((item.kind, item.cursor, &*item.data), (Kind::Event, some("o:0:4"), r#"{"n":1.10}"#));
        let gap = r#"{"id":"msg-3","type":"event","data":{"type":"gap","cursor":"o:0:9"}}"#;
        let item = Item::of_message(gap.into());
        assert_eq!((item.kind, item.cursor), (Kind::Gap, some("o:0:9")));
        assert_eq!(Item::of_message(r#"{"id":"msg-1","type":"response"}"#.into()).kind, Kind::Silent);
    }

    /// Parses what sidestream sends on any transport, at any read boundary.
    #[test]
    fn every_framing_is_read_as_it_was_written() {
        let event = crate::testing::event("o", 0, 4, &[("k", r#"] , \"[{"#)]);
        let gap = br#"{"type":"gap","cursor":"o:0:9"}"#;
        for transport in Transport::framings() {
            let form = crate::testing::route("/x").form(transport);
            let control = Control { kind: "gap", data: gap.to_vec(), cursor: Some(b"o:0:9"), number: 1, unix_ms: 0 };
            let records = [form.event(&event, b"o:0:4"), form.control(control), form.event(&event, b"o:0:4")].concat();
            let heartbeat = form.keep_alive(&mut || None).unwrap_or_default();
            let end = form.goodbye(&Goodbye { retry_ms: Some(5), close: None });
            let first = usize::from(form.separator().is_some());
            let stream = [form.start(), &records[first..], &heartbeat, &end].concat();
            for piece in 1..stream.len() {
                let items = read(transport, &stream, piece);
                let items: Vec<_> = items.iter().filter(|(kind, ..)| *kind != Kind::Silent).collect();
                let envelope = std::str::from_utf8(&event.envelope).unwrap();
                let of_event = (Kind::Event, some("o:0:4"), envelope.to_owned());
                let of_gap = (Kind::Gap, some("o:0:9"), String::from_utf8(gap.to_vec()).unwrap());
                assert_eq!(items, [&of_event, &of_gap, &of_event], "{transport:?}, {piece}");
            }
        }
    }

    #[test]
    fn heartbeats_are_seen_as_they_come() {
        for transport in Transport::framings() {
            let form = crate::testing::route("/x").form(transport);
            let Some(heartbeat) = form.keep_alive(&mut || None) else { continue };
            let mut parser = Parser::new(transport.row().reader().unwrap());
            parser.feed(form.start(), |_| {}).unwrap();
            for _ in 0..2 {
                let mut items = Vec::new();
                parser.feed(&heartbeat, |item| items.push(item)).unwrap();
                assert_eq!(items, [Item::silent()], "{transport:?}");
            }
        }
    }

    #[test]
    fn what_is_no_framing() {
        let error = |transport: Transport, bytes: &[u8]| {
            Parser::new(transport.row().reader().unwrap()).feed(bytes, |_| {}).unwrap_err()
        };
        for bytes in [&b"\n"[..], b"x\n", b"-1\n", b"{\"a\":1}{\"a\":1}", b"99999999999"] {
            assert_eq!(error(Transport::Length, bytes), "a record has no length");
        }
        assert_eq!(error(Transport::JsonSeq, b"{}\n"), "a text does not begin with RS");
        assert_eq!(error(Transport::JsonArray, b"{}"), "the body does not begin with `[`");
        assert_eq!(error(Transport::JsonArray, b"[]\n1"), "the body goes on behind its array");
    }

    #[test]
    fn elements_of_any_type_are_found() {
        let items = read(Transport::JsonArray, br#"[ 7 ,"a\"],\\",[1,[2]],null, {"type":"gap"}]"#, 1);
        let items: Vec<_> =
            items.into_iter().filter(|(kind, ..)| *kind != Kind::Silent).map(|(.., text)| text).collect();
        assert_eq!(items[..4], [" 7", r#""a\"],\\""#, "[1,[2]]", "null"]);
        assert_eq!(items[4], r#" {"type":"gap"}"#, "a payload, marked by the blank");
    }
}
