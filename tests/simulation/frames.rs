//! Reads responses and frames as clients do, independently of the product's own readers.

use serde_json::Value;

use super::history::{Proto, Range, Text};
use crate::writer::simulation::ClientSide;

pub(super) struct Frame {
    pub(super) content: Content,
    /// The client's position after the frame, if the frame contains it.
    pub(super) cursor: Option<Text>,
}

pub(super) enum Content {
    Event { id: Text, uid: Text },
    Gap { reason: Text, ranges: Vec<Range> },
    Nothing,
}

pub(super) struct Parser {
    proto: Proto,
    bytes: Vec<u8>,
    has_head: bool,
    is_refused: bool,
}

impl Parser {
    pub(super) fn new(proto: Proto) -> Self {
        Self { proto, bytes: Vec::new(), has_head: false, is_refused: false }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the response is a stream.
    pub(super) fn is_open(&self) -> bool {
        self.has_head && !self.is_refused
    }

    /// Sends a command on a WebSocket: a text frame with a mask of zeros.
    pub(super) fn command(&self, side: &ClientSide, command: &str) {
        let length = (command.len() as u16).to_be_bytes();
        side.send(&[&[0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0], command.as_bytes()].concat());
    }

    /// The next complete frame. The status is returned once, in `status`. Pings are answered.
    pub(super) fn next(&mut self, side: &ClientSide, status: &mut Option<u16>) -> Option<Frame> {
        if !self.has_head {
            *status = Some(self.head()?);
        }
        if self.is_refused {
            return None;
        }
        match self.proto {
            Proto::Sse => self.until(b"\n\n").map(|text| of_record(&text)),
            Proto::Ndjson => self.until(b"\n").map(|text| of_text(&text)),
            Proto::Length => self.prefixed().map(|text| of_text(&text)),
            Proto::JsonSeq => self.until(b"\n").map(|text| of_text(text.trim_start_matches('\x1e'))),
            Proto::Ws => self.message(side),
        }
    }

    fn head(&mut self) -> Option<u16> {
        let end = find(&self.bytes, b"\r\n\r\n")?;
        let head = String::from_utf8(self.bytes[..end].to_vec()).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        self.is_refused = !matches!(status, 101 | 200);
        self.has_head = true;
        self.bytes.drain(..end + 4);
        Some(status)
    }

    fn until(&mut self, end: &[u8]) -> Option<String> {
        let at = find(&self.bytes, end)?;
        let frame: Vec<u8> = self.bytes.drain(..at + end.len()).take(at).collect();
        Some(String::from_utf8(frame).unwrap())
    }

    fn prefixed(&mut self) -> Option<String> {
        let line = find(&self.bytes, b"\n")?;
        let length: usize = std::str::from_utf8(&self.bytes[..line]).unwrap().parse().unwrap();
        let frame = self.bytes.get(line + 1..line + 1 + length)?.to_vec();
        self.bytes.drain(..line + 1 + length);
        Some(String::from_utf8(frame).unwrap())
    }

    /// A frame of a server (RFC 6455 section 5.2): without a mask, and whole.
    fn message(&mut self, side: &ClientSide) -> Option<Frame> {
        let (first, second) = (*self.bytes.first()?, usize::from(*self.bytes.get(1)?));
        let (start, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.bytes.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(self.bytes.get(2..10)?.try_into().unwrap()) as usize),
            length => (2, length),
        };
        let payload = self.bytes.get(start..start + length)?.to_vec();
        self.bytes.drain(..start + length);
        let nothing = Frame { content: Content::Nothing, cursor: None };
        Some(match first {
            0x81 => of_message(&serde_json::from_slice(&payload).unwrap()),
            0x89 => {
                // An empty pong with a mask of zeros.
                side.send(&[0x8a, 0x80, 0, 0, 0, 0]);
                nothing
            }
            0x88 => nothing,
            other => panic!("a frame that begins with {other:x}"),
        })
    }
}

fn find(bytes: &[u8], end: &[u8]) -> Option<usize> {
    bytes.windows(end.len()).position(|window| window == end)
}

fn of_record(record: &str) -> Frame {
    let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data").map(|data| serde_json::from_str(data).unwrap());
    Frame { content: data.map_or(Content::Nothing, |data| content(&data)), cursor: field("id").map(Text::from) }
}

fn of_text(json: &str) -> Frame {
    if json.is_empty() {
        return Frame { content: Content::Nothing, cursor: None };
    }
    let envelope = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json:?}"));
    Frame { content: content(&envelope), cursor: cursor(&envelope) }
}

fn of_message(message: &Value) -> Frame {
    if message["type"] == "response" {
        return Frame { content: Content::Nothing, cursor: None };
    }
    let data = &message["data"];
    Frame { content: content(data), cursor: text(&message["cursor"]).or_else(|| cursor(data)) }
}

fn cursor(envelope: &Value) -> Option<Text> {
    text(&envelope["cursor"]).or_else(|| text(&envelope["id"]))
}

fn content(envelope: &Value) -> Content {
    match envelope["type"].as_str() {
        Some("gap") => Content::Gap { reason: text(&envelope["cause"]).unwrap(), ranges: ranges(envelope) },
        Some("heartbeat") => Content::Nothing,
        _ => Content::Event { id: text(&envelope["id"]).unwrap(), uid: text(&envelope["data"]["uid"]).unwrap() },
    }
}

fn ranges(value: &Value) -> Vec<Range> {
    value.get("ranges").map_or_else(Vec::new, |ranges| serde_json::from_value(ranges.clone()).unwrap())
}

fn text(value: &Value) -> Option<Text> {
    value.as_str().map(Text::from)
}
