//! Where records begin and end in a stream that another server encoded, so that a heartbeat can be inserted between two.
//!
//! It changes no bytes and keeps none. A stream that does not look like its media type has no boundaries any more.

use memchr::{memchr, memchr2};

/// The longest name of an SSE field, in bytes. The standard has four, of up to five bytes; others are extensions.
const FIELD_NAME_BYTES_MAX: usize = 64;
/// The byte order mark with which an SSE stream may begin (WHATWG HTML section 9.2.5).
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What may follow the bytes of a stream so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// A record has ended, or none has begun: these bytes are a heartbeat.
    Between(&'static [u8]),
    Within,
    /// The bytes are not of the stream's media type.
    Malformed,
}

/// Follows the records of one stream.
#[derive(Debug)]
pub enum Boundaries {
    Sse(Sse),
    Ndjson(Ndjson),
    Malformed,
}

impl Boundaries {
    /// Whether a stream may begin with a byte order mark, which readers ignore there alone.
    pub fn may_begin_with_mark(&self) -> bool {
        matches!(self, Self::Sse(_))
    }

    /// Takes the next bytes of the stream.
    pub fn take(&mut self, bytes: &[u8]) {
        let is_well_formed = match self {
            Self::Sse(sse) => sse.take(bytes),
            Self::Ndjson(ndjson) => ndjson.take(bytes),
            Self::Malformed => true,
        };
        if !is_well_formed {
            *self = Self::Malformed;
        }
    }

    pub fn position(&self) -> Position {
        match self {
            Self::Sse(sse) => sse.heartbeat().map_or(Position::Within, Position::Between),
            Self::Ndjson(Ndjson { first: None, .. }) => Position::Between(b"\n"),
            Self::Ndjson(_) => Position::Within,
            Self::Malformed => Position::Malformed,
        }
    }
}

/// How lines end. A heartbeat uses the same, because some readers know only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LineEnd {
    #[default]
    Lf,
    CrLf,
    Cr,
}

/// The part of a line that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The beginning of the stream: this many bytes of a byte order mark.
    Mark(usize),
    Begin,
    Comment,
    /// This many bytes of a field's name.
    Name(usize),
    Value,
}

/// The records of SSE (WHATWG HTML section 9.2.6). Comments outside a record belong to none.
#[derive(Debug)]
pub struct Sse {
    part: Part,
    /// Set if a record has fields and has not ended.
    is_in_record: bool,
    /// Set if the last byte is a CR: a LF may follow that belongs to it.
    is_after_cr: bool,
    line_end: LineEnd,
}

impl Default for Sse {
    fn default() -> Self {
        Self { part: Part::Mark(0), is_in_record: false, is_after_cr: false, line_end: LineEnd::default() }
    }
}

impl Sse {
    /// False if the bytes are not SSE.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.is_after_cr {
                self.is_after_cr = false;
                self.line_end = if byte == b'\n' { LineEnd::CrLf } else { LineEnd::Cr };
                if byte == b'\n' {
                    bytes = rest;
                    continue;
                }
            }
            match (self.part, byte) {
                (Part::Mark(seen), _) if BYTE_ORDER_MARK.get(seen) == Some(&byte) => {
                    let is_whole = seen + 1 == BYTE_ORDER_MARK.len();
                    self.part = if is_whole { Part::Begin } else { Part::Mark(seen + 1) };
                }
                (Part::Mark(1..), _) => return false,
                (_, b'\r' | b'\n') => self.end_line(byte),
                (Part::Mark(_) | Part::Begin, b':') => self.part = Part::Comment,
                (Part::Name(_), b':') => self.part = Part::Value,
                (Part::Mark(_) | Part::Begin, _) if is_of_name(byte) => self.part = Part::Name(1),
                (Part::Name(seen), _) if is_of_name(byte) && seen < FIELD_NAME_BYTES_MAX => {
                    self.part = Part::Name(seen + 1);
                }
                (Part::Mark(_) | Part::Begin | Part::Name(_), _) => return false,
                (Part::Comment | Part::Value, _) => {
                    bytes = memchr2(b'\r', b'\n', bytes).map_or(&[], |end| &bytes[end..]);
                    continue;
                }
            }
            bytes = rest;
        }
        true
    }

    fn end_line(&mut self, byte: u8) {
        match self.part {
            Part::Name(_) | Part::Value => self.is_in_record = true,
            Part::Mark(_) | Part::Begin => self.is_in_record = false,
            Part::Comment => {}
        }
        self.part = Part::Begin;
        self.is_after_cr = byte == b'\r';
        if byte == b'\n' {
            self.line_end = LineEnd::Lf;
        }
    }

    /// The heartbeat that may be inserted now: a comment, and an empty line for readers that split at those.
    fn heartbeat(&self) -> Option<&'static [u8]> {
        let is_cut = self.is_after_cr && self.line_end != LineEnd::Cr;
        if self.is_in_record || is_cut || !matches!(self.part, Part::Mark(0) | Part::Begin) {
            return None;
        }
        Some(match self.line_end {
            LineEnd::Lf => b": keep-alive\n\n",
            LineEnd::CrLf => b": keep-alive\r\n\r\n",
            LineEnd::Cr => b": keep-alive\r\r",
        })
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// The records of NDJSON: lines, each with one JSON value.
#[derive(Debug, Default)]
pub struct Ndjson {
    /// Set if a line has begun.
    first: Option<u8>,
    /// The last byte of the line that is not white space.
    last: Option<u8>,
}

impl Ndjson {
    /// False if a line is no JSON value: only its first and its last byte are checked.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let end = memchr(b'\n', bytes);
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            let mut values = line.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
            if self.last.is_none()
                && let Some(byte) = values.clone().next()
                && !matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')
            {
                return false;
            }
            self.first = self.first.or_else(|| line.first().copied());
            self.last = values.next_back().or(self.last);
            if end.is_none() {
                return true;
            }
            let is_ended = |byte| matches!(byte, b'}' | b']' | b'"' | b'0'..=b'9' | b'e' | b'l');
            if !self.last.is_none_or(is_ended) {
                return false;
            }
            *self = Self::default();
            bytes = &rest[1..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::codec::Transport;

    /// The position after each byte: `|` for a boundary, `.` within a record, `x` for a malformed stream; and the same
    /// with any cut.
    fn positions(transport: Transport, stream: &[u8]) -> String {
        let mark = |boundaries: &Boundaries| match boundaries.position() {
            Position::Between(_) => '|',
            Position::Within => '.',
            Position::Malformed => 'x',
        };
        let mut bytewise = transport.row().boundaries().unwrap();
        let mut marks = String::from(mark(&bytewise));
        for byte in stream {
            bytewise.take(&[*byte]);
            marks.push(mark(&bytewise));
        }
        for cut in 0..=stream.len() {
            for end in cut..=stream.len() {
                let mut boundaries = transport.row().boundaries().unwrap();
                boundaries.take(&stream[..cut]);
                boundaries.take(&stream[cut..end]);
                assert_eq!(Some(mark(&boundaries)), marks.chars().nth(end), "{cut} {end}");
            }
        }
        marks
    }

    fn heartbeat_after(stream: &[u8]) -> Position {
        let mut boundaries = Transport::Sse.row().boundaries().unwrap();
        boundaries.take(stream);
        boundaries.position()
    }

    fn sse(stream: &str) -> String {
        positions(Transport::Sse, stream.as_bytes())
    }

    fn ndjson(stream: &str) -> String {
        positions(Transport::Ndjson, stream.as_bytes())
    }

    #[test]
    fn records_of_sse_end_with_an_empty_line() {
        assert_eq!(sse("data: a\n\nid\n\n"), "|........|...|");
        assert_eq!(sse("data:\r\n\r\nx"), "|........|.", "CR and LF stay together");
        assert_eq!(sse("data:\r\r\rid"), "|......||..", "a second CR shows that lines end with CR");
        assert_eq!(sse("data:\r\r\n"), "|......||");
    }

    #[test]
    fn comments_outside_a_record_are_none() {
        assert_eq!(sse(": note\n:b\n\n"), "|......|..||");
        assert_eq!(sse("id\n:c\n\n"), "|......|");
    }

    #[test]
    fn a_stream_may_begin_with_a_byte_order_mark() {
        assert_eq!(positions(Transport::Sse, b"\xef\xbb\xbfid\n\n"), "|..|...|");
        assert_eq!(positions(Transport::Sse, b"\xef\xbbid"), "|..xx");
        assert_eq!(positions(Transport::Sse, b"id\xef"), "|..x");
    }

    #[test]
    fn other_content_is_malformed() {
        assert_eq!(sse("{\"a\":1}\n\n"), "|xxxxxxxxx");
        assert_eq!(sse("a b\n"), "|.xxx");
        assert_eq!(sse("id\n\n<p>\n\n"), "|...|xxxxx");
        let long = "n".repeat(FIELD_NAME_BYTES_MAX + 1);
        assert!(sse(&long).ends_with(".x"), "{long}");
    }

    #[test]
    fn a_heartbeat_ends_its_lines_as_the_stream_does() {
        assert_eq!(heartbeat_after(b""), Position::Between(b": keep-alive\n\n"));
        assert_eq!(heartbeat_after(b"id\r\n\r\n"), Position::Between(b": keep-alive\r\n\r\n"));
        assert_eq!(heartbeat_after(b"id\r\r"), Position::Between(b": keep-alive\r\r"));
    }

    #[test]
    fn records_of_ndjson_are_lines() {
        assert_eq!(ndjson("{}\n\n1\n"), "|..||.|");
        assert_eq!(ndjson("\r\n [\"a\"] \r\nnull\n"), "|.|........|....|");
        assert_eq!(ndjson("{\n"), "|.x");
        assert_eq!(ndjson("<p>"), "|xxx");
        assert_eq!(ndjson("{}\n  }\n"), "|..|..xx");
    }
    /// The fields of each record that a browser dispatches, and of the one that has begun (WHATWG HTML section 9.2.6).
    fn dispatched(stream: &str) -> Vec<Vec<String>> {
        let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
        let (mut records, mut record) = (Vec::new(), Vec::new());
        for line in lines.split('\n') {
            match line {
                "" if record.is_empty() => {}
                "" => records.push(std::mem::take(&mut record)),
                line if line.starts_with(':') => {}
                line => record.push(line.to_owned()),
            }
        }
        records.push(record);
        records
    }

    proptest! {
        #[test]
        fn heartbeats_change_nothing_for_a_reader(
            pieces in vec(select(vec!["data: a", "id", ":c", ":", "\n", "\r\n", "\r", "\n\n"]), 0..40),
        ) {
            let stream = pieces.concat();
            let mut boundaries = Transport::Sse.row().boundaries().unwrap();
            let mut with = String::new();
            for character in std::iter::once(None).chain(stream.chars().map(Some)) {
                if let Some(character) = character {
                    boundaries.take(&[u8::try_from(character).unwrap()]);
                    with.push(character);
                }
                if let Position::Between(heartbeat) = boundaries.position() {
                    with += std::str::from_utf8(heartbeat).unwrap();
                }
            }
            prop_assert_eq!(dispatched(&with), dispatched(&stream), "{:?}", with);
        }
    }
}
