//! Which path is which: patterns with parameters, and what a stream route is once its configuration is compiled.
//!
//! Matching works on the raw path as it came; a path that only *means* a stream route after normalization is refused,
//! so that no spelling of a path goes around a route's rules.

mod normal;
mod pattern;
mod table;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Binding;
use crate::cors::Cors;
use crate::event::Topic;

pub use pattern::{BadPattern, PATTERN_SEGMENTS_MAX, Pattern};
pub use table::{BadRoutes, Found, NORMALIZED_PATH_BYTES_MAX, Params, RouteTable};

/// A named stream: the topics it carries, in one hub order.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    /// Distinguishes streams (across reloads too) in the encodings kept with an event.
    pub id: u16,
    pub name: Arc<str>,
    /// Sorted by name, without repetition, at least one.
    pub topics: Box<[Topic]>,
    /// The keys its events are indexed by, as they are named in the envelope.
    pub keys: Box<[Arc<str>]>,
}

/// How events reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Sse,
    Ndjson,
    WebSocket,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Sse, Self::Ndjson, Self::WebSocket];

    /// The name in configuration and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
            Self::WebSocket => "ws",
        }
    }

    /// The name in metrics: the seeds call the NDJSON transport `stream`.
    pub fn metric_name(self) -> &'static str {
        match self {
            Self::Ndjson => "stream",
            other => other.as_str(),
        }
    }
}

/// What a route offers: one transport, or what `Accept` and `Upgrade` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Only(Transport),
    Auto,
}

/// Who may open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Anybody: the configuration says `public: true`.
    Public,
    /// The bearer of a valid token.
    Token,
}

/// Where a route takes tokens from, beside `Authorization` and the cookie: for clients that can't set headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenSources {
    /// An entry of `Sec-WebSocket-Protocol`.
    pub subprotocol: bool,
    /// The parameter `ticket` of the query.
    pub ticket: bool,
    /// The first message of a WebSocket that is opened without a token.
    pub message: bool,
}

/// What is done with methods other than GET, HEAD and OPTIONS on a stream's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherMethods {
    /// 405 with `Allow`.
    Refuse,
    /// Pass them to the upstream, which may own the same path for POST.
    Upstream,
}

/// What is sent of an event: the whole envelope or its `data` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataForm {
    Envelope,
    Payload,
}

/// The SSE `event` field: absent, so that a page's `onmessage` fires, or the event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventField {
    None,
    Type,
}

/// What a WebSocket sends of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebSocketFrames {
    /// A text message of JSON, with the event's id and cursor.
    Text,
    /// A binary message: the payload's bytes and nothing else.
    Binary,
}

/// How a heartbeat looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatForm {
    /// What scripts don't see: an SSE comment, an empty NDJSON line, a WebSocket ping.
    Silent,
    /// What scripts see: `event: heartbeat`, a heartbeat object, a WebSocket message (beside the ping).
    Visible,
    /// The same, the first of them at once, with the interval. A client asks for it; no route has it.
    Immediate,
}

/// What NDJSON and WebSocket do when a client asks for events that can't be served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// `410 Gone` before the stream starts.
    Gone,
    /// 200, then a gap, then what is there.
    Continue,
}

/// What happens to a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    DropOldest,
    DropNewest,
    Disconnect,
    /// Of the events that tell of the same state (the same topic and declared keys) only the newest waits; if that is
    /// still too much, the oldest goes.
    Coalesce,
}

impl Overflow {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::Disconnect => "disconnect",
            Self::Coalesce => "coalesce",
        }
    }
}

/// How much a session may have waiting, and what happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    pub events: usize,
    /// Bytes of encoded events, shared bytes counted in full.
    pub bytes: usize,
    pub overflow: Overflow,
}

/// Events that are gathered before they are written: fewer writes, for a little time. What is said once for many events
/// (a system call, a packet, a wake-up of the client) is most of what small events cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// A batch goes out once it holds so many events, 1 to [`Self::EVENTS_MAX`]...
    events: NonZeroU16,
    /// ...or its first one waited so long: milliseconds, [`Self::WINDOW_MIN`] to [`Self::WINDOW_MAX`].
    window_ms: u16,
}

impl Batch {
    pub const EVENTS_MAX: u32 = 1000;
    pub const WINDOW_MIN: Duration = Duration::from_millis(1);
    pub const WINDOW_MAX: Duration = Duration::from_secs(5);
    /// What counts where only the other is given.
    pub const EVENTS: u32 = 100;
    pub const WINDOW: Duration = Duration::from_millis(50);

    /// Nothing where one of them is out of its bounds.
    pub fn new(events: u32, window: Duration) -> Option<Self> {
        let is_within = events <= Self::EVENTS_MAX && (Self::WINDOW_MIN..=Self::WINDOW_MAX).contains(&window);
        let window_ms = u16::try_from(window.as_millis()).ok().filter(|_| is_within)?;
        Some(Self { events: NonZeroU16::new(u16::try_from(events).ok()?)?, window_ms })
    }

    pub fn events(self) -> u32 {
        self.events.get().into()
    }

    pub fn window(self) -> Duration {
        Duration::from_millis(self.window_ms.into())
    }
}

/// The limits of a WebSocket's incoming side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// The largest message a client may send, in bytes; beyond: close 1009.
    pub message_bytes: usize,
    /// Commands a second (with a burst of the same size); beyond: close 1008.
    pub commands_per_second: u32,
    /// Frames a second, of any kind (with a burst of the same size); beyond: close 1008.
    pub frames_per_second: u32,
    /// How many subscriptions one socket may hold.
    pub subscriptions: usize,
    /// How long after a ping the pong (or any frame) may take.
    pub pong_timeout: Duration,
    /// How long a socket that was opened without a token may take to send one; beyond: close 1008.
    pub authenticate_timeout: Duration,
}

/// A stream route, compiled.
#[derive(Debug, PartialEq)]
pub struct StreamRoute {
    /// `/orders/{orderId}/events`
    pub pattern: Arc<str>,
    pub stream: Arc<Stream>,
    pub offer: Offer,
    pub admission: Admission,
    pub token_from: TokenSources,
    pub bindings: Box<[Binding]>,
    pub other_methods: OtherMethods,
    pub data: DataForm,
    pub event_field: EventField,
    pub frames: WebSocketFrames,
    pub heartbeat: Duration,
    pub heartbeat_form: HeartbeatForm,
    /// The reconnect delay told to SSE clients; each is told this plus up to half of it.
    pub retry: Duration,
    pub on_gap: OnGap,
    /// The URL of a full snapshot, told in gaps and 410 answers.
    pub refresh: Option<Arc<str>>,
    pub queue: QueueLimits,
    /// How long a client that is alive may take nothing at all.
    pub stall_timeout: Duration,
    /// NDJSON and SSE, unless the client asks for another.
    pub batch: Option<Batch>,
    pub websocket: WebSocketLimits,
    /// The most streams open on this route at a time.
    pub max_streams: Option<usize>,
    /// Origins (`https://app.example`) that may open a WebSocket with a cookie, beside the request's own host.
    pub allowed_origins: Box<[Box<str>]>,
    /// Which pages of other origins may use the stream; nothing where none is said.
    pub cors: Option<Arc<Cors>>,
    /// The WebSocket subprotocols this route speaks, in order of preference; the first offered one is echoed.
    pub subprotocols: Box<[Box<str>]>,
    /// The patterns of the routes whose paths a WebSocket may subscribe to, beyond a part of what it was opened with.
    pub subscribe: Box<[Arc<str>]>,
}

impl StreamRoute {
    /// The key whose values a WebSocket client may choose among: one that the path binds, or else one the stream
    /// declares; never one that a claim binds.
    pub fn chosen_key(&self) -> Option<&Arc<str>> {
        use crate::access::Source;
        let by_path = self.bindings.iter().find(|binding| matches!(binding.source, Source::Path(_)));
        let free = || self.stream.keys.iter().find(|key| !self.bindings.iter().any(|binding| binding.key == **key));
        by_path.map(|binding| &binding.key).or_else(free)
    }
}
