//! The table of transports. A transport is one file that implements [`Row`], and one line of the table; no other code
//! distinguishes transports.
//!
//! Rows describe a transport and encode its bytes. They keep no state, and do not know how a connection delimits the
//! parts of a body ([`super::TransferCoding`]).

mod json_array;
mod json_seq;
mod length;
mod ndjson;
pub mod reading;
mod sse;
#[cfg(test)]
mod tests;
mod websocket;

use std::num::NonZeroU8;

use crate::event::Event;

use super::{Boundaries, Form};
use reading::Reader;

/// The table: each transport with its row. Append to it: the order is that of preference if a client accepts several
/// transports equally, after [`Transport::DEFAULT`], and that of the names in refusals. `CONTRIBUTING.md` lists what
/// else a transport needs.
macro_rules! table {
    ($($transport:ident => $row:expr,)*) => {
        /// The protocol that delivers events to the client.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Transport {
            $($transport,)*
        }

        impl Transport {
            pub const ALL: [Self; [$(stringify!($transport)),*].len()] = [$(Self::$transport,)*];

            /// The properties of this transport.
            pub fn row(self) -> &'static dyn Row {
                match self {
                    $(Self::$transport => &$row,)*
                }
            }
        }
    };
}

table! {
    Sse => sse::Sse,
    Ndjson => ndjson::Ndjson,
    WebSocket => websocket::WebSocket,
    Length => length::Length,
    JsonSeq => json_seq::JsonSeq,
    JsonArray => json_array::JsonArray,
}

impl Transport {
    /// The transport for a client that accepts everything: `EventSource` always names its type, and a client that names
    /// none is a script that reads lines.
    pub const DEFAULT: Self = Self::Ndjson;

    /// The transport of this name, unless it needs an upgrade.
    pub fn framing(name: &str) -> Option<Self> {
        Self::framings().find(|transport| transport.as_str() == name)
    }

    /// The transports whose streams are a response body.
    pub fn framings() -> impl Iterator<Item = Self> {
        Self::by_preference().filter(|transport| !transport.is_upgrade())
    }

    /// The name in configuration, logs and `?framing=`.
    pub fn as_str(self) -> &'static str {
        self.row().name()
    }

    /// The transport that a client gets if it accepts this media type on a route that offers all transports.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let has =
            |transport: &Self| transport.row().media_types().iter().any(|known| known.eq_ignore_ascii_case(media_type));
        Self::by_preference().find(has)
    }

    /// The media type that selects this transport on a route that offers all of them, if one does.
    pub fn media_type(self) -> Option<&'static str> {
        let mut types = self.row().media_types().iter().copied();
        types.find(|media_type| Self::of_media_type(media_type) == Some(self))
    }

    /// All transports, in order of preference among those that a client accepts equally.
    pub fn by_preference() -> impl Iterator<Item = Self> {
        let others = Self::ALL.into_iter().filter(|transport| *transport != Self::DEFAULT);
        [Self::DEFAULT].into_iter().chain(others)
    }

    /// Whether it is opened by a WebSocket handshake.
    pub fn is_upgrade(self) -> bool {
        self.row().opening() == Opening::Upgrade
    }

    /// Whether its clients send commands.
    pub fn takes_commands(self) -> bool {
        self.row().client_bytes() == ClientBytes::Commands
    }

    /// Whether its clients fail permanently on a status other than 200, so that failures are reported in the stream.
    pub fn fails_in_stream(self) -> bool {
        self.row().failures() == Failures::InStream
    }
}

/// The properties of one transport.
pub trait Row: Sync {
    /// The name in configuration, logs and `?framing=`.
    fn name(&self) -> &'static str;

    /// The name in metrics, of `a` to `z` and `_`. An override is alone on its line, where `tests/rules/run` finds it.
    fn metric_name(&self) -> &'static str {
        self.name()
    }

    /// The media types of a response, the default one first; none if a response has no body. A framing needs at least
    /// one that no earlier line of the table has.
    fn media_types(&self) -> &'static [&'static str];

    fn opening(&self) -> Opening {
        Opening::Response
    }

    fn client_bytes(&self) -> ClientBytes {
        ClientBytes::Ignored
    }

    fn failures(&self) -> Failures {
        Failures::Status
    }

    /// How a request states its position. The default makes a transport resumable by `?since=`.
    fn resume(&self) -> &'static [ResumeParameter] {
        &[ResumeParameter::Since]
    }

    /// The form without the options that this transport ignores, so that encodings are shared, and a reload knows which
    /// changes affect open streams.
    fn form(&self, form: Form) -> Form;

    /// The bytes after the response head.
    fn start(&self) -> &'static [u8] {
        b""
    }

    /// The byte between two records. It is part of the second record's encoding, so that records are encoded
    /// independently of what was sent before; the queue omits it from the first record.
    fn separator(&self) -> Option<NonZeroU8> {
        None
    }

    /// The first record, which has no event. `cursor` is the position at which the stream starts.
    fn priming(&self, _retry_ms: u64, _cursor: Option<&[u8]>) -> Vec<u8> {
        Vec::new()
    }

    /// An event; `cursor` is the client's position after it. The bytes of two events follow each other without anything
    /// between them. `json::text_of` gives the text of an event: one line, which has the cursor, and begins with a space
    /// where clients could take it for a control record.
    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8>;

    /// A control record. Its data is one line.
    fn control(&self, record: Control<'_>) -> Vec<u8>;

    /// A heartbeat that is invisible to scripts; `None` if readers would not skip it, so that heartbeats are control
    /// records. `cursor` returns the client's position if it has advanced since the last record.
    fn keep_alive(&self, cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>>;

    /// Whether its standard makes every reader skip heartbeats.
    fn has_comments(&self) -> bool {
        false
    }

    /// Follows a stream of another server, if heartbeats can be inserted into it.
    fn boundaries(&self) -> Option<Boundaries> {
        None
    }

    /// The last bytes of a stream.
    fn goodbye(&self, _goodbye: &Goodbye) -> Vec<u8> {
        Vec::new()
    }

    /// How a client reads a response; `None` if the stream is not a response body.
    fn reader(&self) -> Option<Box<dyn Reader>>;
}

/// How a stream is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// By a request: the stream is the response body.
    Response,
    /// By a WebSocket handshake (RFC 6455 section 4).
    Upgrade,
}

/// The meaning of the bytes that a client sends on an open stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBytes {
    Ignored,
    /// WebSocket frames with commands and pongs.
    Commands,
}

/// How a client is notified that its stream cannot be opened, or cannot resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// By the response status.
    Status,
    /// By a record in a stream that is opened nevertheless.
    InStream,
}

/// How a request states its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeParameter {
    /// In the header `Last-Event-ID`, or in the query.
    LastEventId,
    /// In the query.
    Since,
}

/// A record that is not an event: a gap, a heartbeat, a probe, or the notice that a token expires.
#[derive(Clone, Debug)]
pub struct Control<'a> {
    pub kind: &'static str,
    /// A JSON object.
    pub data: Vec<u8>,
    /// The client's position after it.
    pub cursor: Option<&'a [u8]>,
    /// Its number among the control records of the session.
    pub number: u64,
    /// The time of sending, in milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// What a client receives at the end of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The reconnect delay in milliseconds.
    pub retry_ms: Option<u64>,
    /// The close code (RFC 6455 section 7.4.1) and its reason.
    pub close: Option<(u16, &'static str)>,
}
