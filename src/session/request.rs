//! The input of a session: an admitted request, with everything decided except for whether it can resume.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::access::{Authenticator, Principal, Selector};
use crate::admission::{Caller, Site, Slot, Slots};
use crate::codec::http::Handshake;
use crate::cursor::{CURSOR_BYTES_MAX, Cursor, SnapshotCursor};
use crate::event::Topic;
use crate::route::{Batch, HeartbeatForm, Params, RouteTable, StreamRoute, Transport};
use crate::rule::BoundRule;

use super::Pace;

/// An admitted stream request, decided before the response head is written.
#[derive(Debug)]
pub struct Request {
    pub route: Arc<StreamRoute>,
    /// Negotiated: never `Auto`.
    pub transport: Transport,
    /// The transport's media type that the client requested, or its first one.
    pub content_type: &'static str,
    /// HTTP/1.1: chunked, with keep-alive. Otherwise (HTTP/1.0), the body ends with the connection.
    pub http11: bool,
    /// The client did not request `Connection: close`.
    pub persists: bool,
    pub selector: Selector,
    /// The rule of the route for this client.
    pub rule: Option<Arc<BoundRule>>,
    /// False for `?subscribe=manual`: a WebSocket without an initial subscription.
    pub subscribe: bool,
    /// Whether the state precedes the changes (`?from=state`), unless the client resumes.
    pub from_state: bool,
    /// Taken when the session is opened. In a box, because it is large, and open streams have none.
    pub resume: Option<Box<Resume>>,
    pub heartbeat_form: HeartbeatForm,
    /// If the stream is a response body: the batch limits of the client or the route.
    pub batch: Option<Batch>,
    /// The interval of a probe in milliseconds: a stream without events that tests the network path. Small, because
    /// every stream stores it.
    pub probe: Option<NonZeroU32>,
    pub principal: Option<Principal>,
    /// `None` if nothing limits how fast it may send.
    pub pace: Option<Box<Pace>>,
    /// Further header lines of the response, each terminated by CRLF; until the head is written.
    pub headers: Option<Box<str>>,
    /// The snapshot's routes, for the subscriptions of a WebSocket.
    pub routes: Arc<RouteTable>,
    /// WebSocket only.
    pub socket: Option<Box<Socket>>,
}

/// The state of a WebSocket's opening, by which its commands are authorized in addition to the token: the same as for
/// its request.
#[derive(Debug)]
pub struct Socket {
    /// Until the head is written.
    pub handshake: Option<Handshake>,
    /// The page that opened it.
    pub site: Option<Site>,
    /// The open streams of each route.
    pub slots: Arc<dyn Slots>,
    /// The path's parameters, until the socket has authenticated: the first message contains the token, and nothing is
    /// sent before.
    pub unauthenticated: Option<Params>,
    /// The limit that a socket without an initial token counts against: unauthenticated sockets, and then its route.
    pub slot: Option<Slot>,
    /// Verifies the token of the first message, and tokens that replace the current one; `None` if the configuration
    /// has no `auth`.
    pub authenticator: Option<Arc<dyn Authenticator>>,
}

impl Request {
    /// The caller, for the decision on another stream over the same connection.
    pub(super) fn caller(&self) -> Caller<'_> {
        let site = self.socket.as_ref().and_then(|socket| socket.site.as_ref());
        Caller { transport: self.transport, principal: self.principal.as_ref(), site }
    }

    /// Whether it is a WebSocket whose first message has to contain the token.
    pub(super) fn is_unauthenticated(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.unauthenticated.is_some())
    }

    /// The part of a token that the stream keeps. Only WebSocket commands read claims later: to evaluate the access
    /// rules of other routes, and to compare a new token with this one.
    pub(super) fn held(&self, mut principal: Principal) -> Principal {
        if self.transport.takes_commands() {
            principal.keep_claims(self.routes.routes().flat_map(|route| route.claims()));
        } else {
            principal.forget_claims();
        }
        principal
    }

    /// Whether a WebSocket of the route `own` may subscribe to what selector and rule select on `route`: to subsets of
    /// its own stream, and to routes that `own` lists. A principal that was accepted for one target receives subsets
    /// alone: the service that accepted it was not asked about another path. With another value in the rule it is not a
    /// subset.
    pub(super) fn may_subscribe(
        &self,
        own: &StreamRoute,
        route: &StreamRoute,
        selector: &Selector,
        rule: Option<&Arc<BoundRule>>,
    ) -> bool {
        let is_same_rule = rule == self.rule.as_ref();
        let is_part = own.pattern == route.pattern && is_same_rule && selector.is_within(&self.selector);
        let is_for_one_target = self.principal.as_ref().is_some_and(Principal::is_for_one_target);
        is_part || !is_for_one_target && own.subscribe.contains(&route.pattern)
    }

    /// The silence after which a heartbeat is sent.
    pub(super) fn heartbeat_interval(&self) -> Duration {
        self.probe.map_or(self.route.heartbeat, |ms| Duration::from_millis(ms.get().into()))
    }
}

/// A resume position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    From(Cursor),
    /// A position within a snapshot.
    Within(Box<SnapshotCursor>),
    /// The events since this time, in milliseconds since the Unix epoch.
    At(i64),
    /// The events of this period before now.
    Ago(Duration),
    /// An SSE client sent an invalid position: it gets a gap, because `EventSource` would fail permanently on a 400.
    Unreadable,
}

/// The longest accepted position, in bytes.
pub const POSITION_BYTES_MAX: usize = CURSOR_BYTES_MAX;

/// A text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an event id, a cursor, a time such as `2026-11-22T10:00:00Z`, or how long ago, such as `-15m`")]
pub struct BadPosition;

impl FromStr for Resume {
    type Err = BadPosition;

    /// A cursor, an RFC 3339 time, or `-` and a number with `s`, `m`, `h` or `d`.
    fn from_str(text: &str) -> Result<Self, BadPosition> {
        if text.len() > POSITION_BYTES_MAX {
            return Err(BadPosition);
        }
        if SnapshotCursor::is_like(text) {
            return text.parse().map(|cursor| Self::Within(Box::new(cursor))).map_err(|_| BadPosition);
        }
        if let Some(ago) = text.strip_prefix('-') {
            return duration(ago).map(Self::Ago).ok_or(BadPosition);
        }
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            return i64::try_from(time.unix_timestamp_nanos() / 1_000_000)
                .map(|ms| Self::At(ms.max(0)))
                .map_err(|_| BadPosition);
        }
        text.parse().map(Self::From).map_err(|_| BadPosition)
    }
}

impl Resume {
    /// The cursor, if it is one.
    pub fn cursor(&self) -> Option<&Cursor> {
        match self {
            Self::From(cursor) => Some(cursor),
            Self::Within(_) | Self::At(_) | Self::Ago(_) | Self::Unreadable => None,
        }
    }

    /// The text of a cursor, as the client sent it.
    pub fn cursor_text(&self) -> Option<String> {
        match self {
            Self::From(cursor) => Some(cursor.to_string()),
            Self::Within(cursor) => Some(cursor.to_string()),
            Self::At(_) | Self::Ago(_) | Self::Unreadable => None,
        }
    }

    /// The newest of several positions on a stream of these topics: of two, the one that is not before the other, or
    /// else the later one in the list. A cursor takes precedence over a time, which is the initial position.
    pub fn newest(positions: impl Iterator<Item = Self>, topics: &[Topic]) -> Option<Self> {
        positions.reduce(|best, next| if next.is_older(&best, topics) { best } else { next })
    }

    fn is_older(&self, other: &Self, topics: &[Topic]) -> bool {
        match (self, other) {
            (Self::From(this), Self::From(other)) => this.is_behind(other, topics),
            (Self::From(_) | Self::Within(_), Self::From(_) | Self::Within(_)) => false,
            (_, Self::From(_) | Self::Within(_)) => true,
            (Self::Unreadable, other) => *other != Self::Unreadable,
            _ => false,
        }
    }

    /// Converts a period to a time. It is rounded to seconds, so that simultaneous requests share the lookup.
    pub fn at(self, unix_ms: i64) -> Self {
        match self {
            Self::Ago(ago) => {
                let ms = unix_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)).max(0);
                Self::At(ms - ms % 1000)
            }
            other => other,
        }
    }
}

/// For example `15m`.
fn duration(text: &str) -> Option<Duration> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 60 * 60,
        b'd' => 24 * 60 * 60,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(unit).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_what_is_none() {
        let parse = |text: &str| text.parse::<Resume>();
        assert_eq!(parse("orders:0:7"), Ok(Resume::From("orders:0:7".parse().unwrap())));
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Ok(Resume::At(1500)));
        assert_eq!(parse("1970-01-01T02:00:00+02:00"), Ok(Resume::At(0)));
        assert_eq!(parse("1969-12-31T00:00:00Z"), Ok(Resume::At(0)), "Kafka has no time before its epoch");
        assert_eq!(parse("-15m"), Ok(Resume::Ago(Duration::from_secs(900))));
        assert_eq!(parse("-15m").unwrap().at(1_000_999), Resume::At(100_000).at(0));
        assert_eq!(parse("-9999d").unwrap().at(5), Resume::At(0));
        for wrong in ["", "-", "-m", "-1", "-1w", "--1s", "-+1s", "-99999999999999999999s", "-213503982334602d", "now"]
        {
            assert_eq!(parse(wrong), Err(BadPosition), "{wrong}");
        }
        assert_eq!(parse("2026-11-22"), Err(BadPosition), "a day is no time");
        assert_eq!(parse(&format!("o:0:1~{}", "A".repeat(POSITION_BYTES_MAX))), Err(BadPosition));
    }
}
