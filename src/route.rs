//! Routes: path patterns with parameters, and stream routes as compiled from the configuration.
//!
//! Matching uses the raw path. A path that is a stream route only after normalization is rejected, so that no spelling
//! bypasses a route's rules.

mod normal;
mod pattern;
mod table;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::access::{Binding, Claim};
use crate::codec::{Fields, Form};
use crate::cors::Cors;
use crate::event::{FrameKey, Topic};
use crate::quota::Quota;
use crate::rule::Rule;

pub use crate::codec::{DataForm, EventField, Transport, WebSocketFrames};
pub use pattern::{BadPattern, PATTERN_SEGMENTS_MAX, Pattern};
pub use table::{BadRoutes, Found, NORMALIZED_PATH_BYTES_MAX, Params, RouteTable};

/// A named stream: a set of topics.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    /// Identifies the stream, across reloads, in the encodings of an event.
    pub id: u16,
    pub name: Arc<str>,
    /// Sorted by name, distinct, at least one.
    pub topics: Box<[Topic]>,
    /// The keys by which its events are indexed, named as in the envelope.
    pub keys: Box<[Arc<str>]>,
    /// If clients may ask for its state. Such a stream has one topic.
    pub state: Option<State>,
}

/// The state of a stream: the newest event of each value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub key: Arc<str>,
    /// The most memory, in bytes.
    pub bytes: usize,
}

/// What a route offers: one transport, or the one that `Accept` and `Upgrade` select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Only(Transport),
    Auto,
}

impl Offer {
    /// Whether this transport is offered.
    pub fn has(self, transport: Transport) -> bool {
        match self {
            Self::Only(only) => only == transport,
            Self::Auto => true,
        }
    }
}

/// Who may open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Any client: the configuration has `public: true`.
    Public,
    /// A client with a valid token.
    Token,
}

/// Sources of tokens in addition to `Authorization` and the cookie: for clients that cannot set headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenSources {
    /// An entry of `Sec-WebSocket-Protocol`.
    pub subprotocol: bool,
    /// The query parameter `ticket`.
    pub ticket: bool,
    /// The first message of a WebSocket that was opened without a token.
    pub message: bool,
}

/// The handling of methods other than GET, HEAD and OPTIONS on a stream's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherMethods {
    /// 405 with `Allow`.
    Refuse,
    /// Forward to the upstream, which may serve POST on the same path.
    Upstream,
}

/// The form of heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatForm {
    /// Invisible to scripts: an SSE comment, an empty NDJSON line, a WebSocket ping.
    Silent,
    /// Visible to scripts: `event: heartbeat`, a heartbeat object, a WebSocket message (in addition to the ping).
    Visible,
    /// Like `Visible`, with the first one sent at once. Only a client can request it.
    Immediate,
}

/// How transports other than SSE respond if the requested events are no longer available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// `410 Gone` instead of a stream.
    Gone,
    /// 200, then a gap, then the available events.
    Continue,
    /// 200, then the state instead of what was lost. For SSE as well.
    State,
}

/// The policy of a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    DropOldest,
    DropNewest,
    Disconnect,
    /// Of the events with the same state (the same topic and declared keys), only the newest stays queued. If that is
    /// not enough, the oldest events are dropped.
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

/// The limits of a session's queue, and the policy at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    pub events: usize,
    /// Bytes of encoded events, with shared bytes counted in full.
    pub bytes: usize,
    pub overflow: Overflow,
}

/// Batching: events are collected before they are written. That trades latency for fewer writes. For small events, the
/// fixed cost of a system call, a packet and a wake-up of the client dominates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// A batch is sent once it contains this many events, 1 to [`Self::EVENTS_MAX`]...
    events: NonZeroU16,
    /// ...or once its first event has waited this long, in milliseconds: [`Self::WINDOW_MIN`] to [`Self::WINDOW_MAX`].
    window_ms: u16,
}

impl Batch {
    pub const EVENTS_MAX: u32 = 1000;
    pub const WINDOW_MIN: Duration = Duration::from_millis(1);
    pub const WINDOW_MAX: Duration = Duration::from_secs(5);
    /// The default of each value if only the other one is set.
    pub const EVENTS: u32 = 100;
    pub const WINDOW: Duration = Duration::from_millis(50);

    /// `None` if a value is out of range.
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

/// The limits of incoming WebSocket data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// The largest message, in bytes; exceeding it closes the socket with 1009.
    pub message_bytes: usize,
    /// Commands per second, with a burst of the same size; exceeding it closes the socket with 1008.
    pub commands_per_second: u32,
    /// Frames of any kind per second, with a burst of the same size; exceeding it closes the socket with 1008.
    pub frames_per_second: u32,
    /// The most subscriptions of one socket.
    pub subscriptions: usize,
    /// How long a pong, or any frame, may take after a ping.
    pub pong_timeout: Duration,
    /// How long a socket that was opened without a token may take to authenticate; exceeding it closes the socket with
    /// 1008.
    pub authenticate_timeout: Duration,
}

/// A compiled stream route.
#[derive(Debug, PartialEq)]
pub struct StreamRoute {
    /// For example `/orders/{orderId}/events`.
    pub pattern: Arc<str>,
    pub stream: Arc<Stream>,
    pub offer: Offer,
    pub admission: Admission,
    pub token_from: TokenSources,
    pub bindings: Box<[Binding]>,
    /// Decides who receives which of the events that the bindings select; `None`: every client receives all of them.
    pub rule: Option<Arc<Rule>>,
    pub other_methods: OtherMethods,
    pub data: DataForm,
    /// The fields of events that are sent; `None` for all.
    pub fields: Option<Arc<Fields>>,
    pub event_field: EventField,
    pub frames: WebSocketFrames,
    pub heartbeat: Duration,
    pub heartbeat_form: HeartbeatForm,
    /// The reconnect delay sent to SSE clients; each gets up to half of it added at random.
    pub retry: Duration,
    pub on_gap: OnGap,
    /// The URL of a full snapshot, sent in gaps and 410 responses.
    pub refresh: Option<Arc<str>>,
    pub queue: QueueLimits,
    /// How long a connected client may go without reading anything.
    pub stall_timeout: Duration,
    /// If the stream is a response body, unless the client requests other values.
    pub batch: Option<Batch>,
    pub websocket: WebSocketLimits,
    /// The most open streams of this route.
    pub max_streams: Option<usize>,
    /// Limits of one user, tenant or client address on this route, and of the route as a whole.
    pub quotas: Arc<[Quota]>,
    /// Origins (`https://app.example`) that may open a WebSocket with a cookie, in addition to the request's own host.
    pub allowed_origins: Box<[Box<str>]>,
    /// Which pages of other origins may use the stream; `None` if the route has no policy.
    pub cors: Option<Arc<Cors>>,
    /// The supported WebSocket subprotocols in order of preference; the first one that is offered is selected.
    pub subprotocols: Box<[Box<str>]>,
    /// The patterns of the routes that a WebSocket may subscribe to, in addition to subsets of its own stream.
    pub subscribe: Box<[Arc<str>]>,
}

impl StreamRoute {
    /// The form of its events on a transport.
    pub fn form(&self, transport: Transport) -> Form {
        let Self { data, event_field, frames, .. } = *self;
        Form { transport, data, event_field, frames }.relevant()
    }

    /// The key of the encodings of its events on a transport.
    pub fn frame(&self, transport: Transport) -> FrameKey {
        let fields = self.fields.as_ref().map_or(0, |fields| fields.id());
        self.form(transport).key(self.stream.id).showing(fields)
    }

    /// The claims that it reads.
    pub fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let by_rule = self.rule.iter().flat_map(|rule| rule.claims()).map(Claim::Read);
        self.bindings.iter().flat_map(Binding::claims).chain(by_rule)
    }

    /// The key whose values a WebSocket client may choose among, with its binding: one that the path binds, or else one
    /// that the stream declares and the route does not bind; never one that claims alone bind.
    pub fn chosen_key(&self) -> Option<(&Arc<str>, Option<&Binding>)> {
        let by_path = self.bindings.iter().find(|binding| binding.parameter().is_some());
        let free = || self.stream.keys.iter().find(|key| !self.bindings.iter().any(|binding| binding.key == **key));
        by_path.map(|binding| (&binding.key, Some(binding))).or_else(|| free().map(|key| (key, None)))
    }
}
