//! The table of transports. A transport is one file that implements [`Row`], and one line of the table; nothing else in
//! the project distinguishes transports.
//!
//! Rows say what a transport is and make its bytes. They keep no state; HTTP chunks around the bytes are [`super::Form`]'s.

mod json_array;
mod json_seq;
mod length;
mod ndjson;
pub mod reading;
mod sse;
mod websocket;

use crate::event::Event;

use super::Form;
use reading::Reader;

/// The table: each transport with its row. Where a client accepts several transports alike, [`Transport::DEFAULT`] is
/// served, then the first one here.
macro_rules! table {
    ($($transport:ident => $row:expr,)*) => {
        /// How events reach the client.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Transport {
            $($transport,)*
        }

        impl Transport {
            pub const ALL: [Self; [$(stringify!($transport)),*].len()] = [$(Self::$transport,)*];

            /// What is particular to this transport.
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
    /// What a client gets that accepts everything: `EventSource` always names its type, and a client that names none is a
    /// script that reads lines.
    pub const DEFAULT: Self = Self::Ndjson;

    /// The transport of this name, unless it needs an upgrade.
    pub fn framing(name: &str) -> Option<Self> {
        Self::framings().find(|transport| transport.as_str() == name)
    }

    /// The transports whose streams are the body of a response.
    pub fn framings() -> impl Iterator<Item = Self> {
        Self::by_preference().filter(|transport| !transport.is_upgrade())
    }

    /// The name in configuration, logs and `?framing=`.
    pub fn as_str(self) -> &'static str {
        self.row().name()
    }

    /// The transport that a client gets by accepting this media type of a route that offers all of them.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let has =
            |transport: &Self| transport.row().media_types().iter().any(|known| known.eq_ignore_ascii_case(media_type));
        Self::by_preference().find(has)
    }

    /// The media type that gets this transport from a route that offers all of them, if one does.
    pub fn media_type(self) -> Option<&'static str> {
        let mut types = self.row().media_types().iter().copied();
        types.find(|media_type| Self::of_media_type(media_type) == Some(self))
    }

    /// All of them; of those that a client accepts alike, the first one is served.
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

    /// Whether its clients give up for good on a status other than 200, so that failures are reported in the stream.
    pub fn fails_in_stream(self) -> bool {
        self.row().failures() == Failures::InStream
    }
}

/// What is particular to one transport.
pub trait Row: Sync {
    /// The name in configuration, logs and `?framing=`.
    fn name(&self) -> &'static str;

    /// The name in metrics.
    fn metric_name(&self) -> &'static str {
        self.name()
    }

    /// The media types that a response may have, the usual one first; none where a response has no body.
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

    /// Where a request says its position.
    fn resume(&self) -> &'static [ResumeParameter] {
        &[ResumeParameter::Since]
    }

    /// The form without the options that this transport ignores, so that encodings are shared and a reload knows what
    /// changes for open streams.
    fn form(&self, form: Form) -> Form;

    /// The bytes behind the head of the response.
    fn start(&self) -> &'static [u8] {
        b""
    }

    /// The bytes between two records. They are sent with the second one, so that records are encoded without knowing
    /// what is sent before them; the session omits them from the first record.
    fn separator(&self) -> &'static [u8] {
        b""
    }

    /// The first record, which has no event. `cursor` is the position at which the stream starts.
    fn priming(&self, _retry_ms: u64, _cursor: Option<&[u8]>) -> Vec<u8> {
        Vec::new()
    }

    /// An event; `cursor` is the client's position after it.
    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8>;

    /// A control record.
    fn control(&self, record: Control<'_>) -> Vec<u8>;

    /// A heartbeat that scripts do not see; nothing where readers would not skip it, so that heartbeats are control records.
    /// `cursor` gives the client's position if it advanced since the last record.
    fn keep_alive(&self, cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>>;

    /// The last bytes of a stream.
    fn goodbye(&self, _goodbye: &Goodbye) -> Vec<u8> {
        Vec::new()
    }

    /// How a client reads a response; nothing where the stream is not the body of a response.
    fn reader(&self) -> Option<Box<dyn Reader>>;
}

/// How a stream is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// By a request: the stream is the body of the response.
    Response,
    /// By a WebSocket handshake (RFC 6455 section 4).
    Upgrade,
}

/// What the bytes mean that a client sends on an open stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBytes {
    Ignored,
    /// WebSocket frames with commands and pongs.
    Commands,
}

/// How a client learns that its stream cannot be opened, or cannot resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// By the status of the response.
    Status,
    /// By a record of a stream that is opened nonetheless.
    InStream,
}

/// Where a request says its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeParameter {
    /// The header `Last-Event-ID`, or the parameter of the query.
    LastEventId,
    /// The parameter of the query.
    Since,
}

/// A record that is no event: a gap, a heartbeat, a probe, or the notice that a token expires.
#[derive(Clone, Debug)]
pub struct Control<'a> {
    pub kind: &'static str,
    /// A JSON object.
    pub data: Vec<u8>,
    /// The client's position after it.
    pub cursor: Option<&'a [u8]>,
    /// Its number among the control records of the session.
    pub number: u64,
    /// When it is sent, in milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// What a client receives at the end of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// How long to wait before a reconnect, in milliseconds.
    pub retry_ms: Option<u64>,
    /// The close code (RFC 6455 section 7.4.1) and its reason.
    pub close: Option<(u16, &'static str)>,
}
