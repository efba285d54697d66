//! `routes`: each stream route with its pattern, its admission and its options.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::bindings::Bindings;
use super::streams::Streams;
use super::{COUNT, cors, is_token};
use crate::auth::Verifier;
use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Node, Place, Value};
use crate::config::section::{Section, text};
use crate::config::units::write_duration;
use crate::cors::Cors;
use crate::hub::COALESCED_EVENTS_MAX;
use crate::route::{
    Admission, Batch, DataForm, EventField, HeartbeatForm, Offer, OnGap, OtherMethods, Overflow, Pattern, QueueLimits,
    RouteTable, Stream, StreamRoute, TokenSources, Transport, WebSocketFrames, WebSocketLimits,
};

const HEARTBEAT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 60);
/// The default idle timeout of load balancers and reverse proxies (nginx' `proxy_read_timeout`, AWS load balancers).
const USUAL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10 * 60);
const PONG_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 60);
const AUTHENTICATE_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
const STALL_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
/// The queued bytes of a session.
const QUEUE_BYTES: RangeInclusive<u64> = 1024..=1024 * 1024 * 1024;
/// The bytes of a WebSocket message, in which a subscribe command must fit.
const MESSAGE_BYTES: RangeInclusive<u64> = 1024..=16 * 1024 * 1024;

/// Sources of tokens in addition to `Authorization` and the cookie.
const TOKEN_SOURCES: [&str; 3] = ["subprotocol", "ticket", "message"];
/// Each transport's own word is accepted for all transports.
const HEARTBEATS: [(&str, HeartbeatForm); 5] = [
    ("comment", HeartbeatForm::Silent),
    ("ping", HeartbeatForm::Silent),
    ("line", HeartbeatForm::Silent),
    ("event", HeartbeatForm::Visible),
    ("message", HeartbeatForm::Visible),
];
const OVERFLOWS: [(&str, Overflow); 4] = [
    ("drop-oldest", Overflow::DropOldest),
    ("drop-newest", Overflow::DropNewest),
    ("disconnect", Overflow::Disconnect),
    ("coalesce", Overflow::Coalesce),
];

/// Every transport by its name, and all of them.
fn offers() -> Vec<(&'static str, Offer)> {
    let only = Transport::ALL.into_iter().map(|transport| (transport.as_str(), Offer::Only(transport)));
    only.chain([("auto", Offer::Auto)]).collect()
}

/// `None` if the routes do not form a table, which is reported.
pub(super) fn compile(
    root: &Section<'_>,
    streams: &Streams,
    verifier: Option<&Verifier>,
    idle_timeout: Duration,
    diagnostics: &Diagnostics,
) -> Option<RouteTable> {
    let has_auth = root.has("auth");
    // An error in `auth` has been reported.
    let has_tickets = verifier.is_none_or(|verifier| verifier.tickets().is_some());
    let has_issuers = verifier.is_none_or(Verifier::has_issuers);
    let mut patterns: Vec<(Pattern, Place)> = Vec::new();
    let mut routes = Vec::new();
    let for_all = cors::compile(root, diagnostics);
    let written = root.list("routes");
    for node in written {
        let section = Section::open("routes", node, diagnostics);
        let pattern = pattern(&section, &mut patterns, diagnostics);
        let compiler = Compiler {
            section,
            streams,
            written,
            has_auth,
            has_tickets,
            has_issuers,
            idle_timeout,
            cors: for_all.clone(),
            diagnostics,
        };
        let route = compiler.route(pattern.as_ref());
        routes.extend(route.map(Arc::new));
    }
    RouteTable::new(routes).ok()
}

/// The route's pattern, if it is valid and does not overlap with another route's.
fn pattern(section: &Section<'_>, earlier: &mut Vec<(Pattern, Place)>, diagnostics: &Diagnostics) -> Option<Pattern> {
    section.require("path", "the path or pattern that the route serves");
    let written = section.text("path", "a path such as `/orders/{orderId}/events`")?;
    let place = section.place_of("path");
    let pattern = Pattern::parse(written)
        .map_err(|error| {
            diagnostics.wrong(place, format!("`routes.path`: `{written}` is not a valid pattern: {error}"))
        })
        .ok()?;
    if let Some((_, other)) = earlier.iter().find(|(other, _)| other.overlaps(&pattern)) {
        let message = format!("`routes.path`: `{written}` matches the same paths as the route in line {}", other.line);
        diagnostics.wrong(place, message);
        return None;
    }
    earlier.push((pattern.clone(), place));
    Some(pattern)
}

/// Compiles one route.
struct Compiler<'a> {
    section: Section<'a>,
    streams: &'a Streams,
    /// All routes, as written.
    written: &'a [Node],
    has_auth: bool,
    has_tickets: bool,
    has_issuers: bool,
    idle_timeout: Duration,
    /// The policy of routes without one of their own.
    cors: Option<Arc<Cors>>,
    diagnostics: &'a Diagnostics,
}

impl Compiler<'_> {
    /// Compiles every part, regardless of errors; `None` without a pattern and a stream.
    fn route(self, pattern: Option<&Pattern>) -> Option<StreamRoute> {
        let section = &self.section;
        let stream = self.stream();
        let admission = self.admission();
        let token_from = self.token_from(admission);
        let bindings =
            Bindings { section, pattern, stream: stream.as_deref(), admission, diagnostics: self.diagnostics }
                .compile();
        let websocket = section.section("websocket");
        let choices = self.choices();
        let frames = self.frames(&websocket, choices.data);
        let queue = self.queue(stream.as_deref());
        let stall_timeout = section.duration("stall_timeout", STALL_TIMEOUT).unwrap_or(Duration::from_secs(5 * 60));
        let max_streams = section.count("max_streams", COUNT).map(|count| count as usize);
        let batch = self.batch();
        let heartbeat = self.heartbeat();
        let retry = section.duration("retry", RETRY).unwrap_or(Duration::from_secs(3));
        let refresh = self.refresh();
        let allowed_origins = self.allowed_origins();
        let cors = cors::compile(section, self.diagnostics).or_else(|| self.cors.clone());
        let subprotocols = self.subprotocols(&websocket);
        let subscribe = self.subscribe(&websocket, admission);
        let websocket = websocket_limits(&websocket);
        pattern?;
        Some(StreamRoute {
            pattern: section.text("path", "")?.into(),
            stream: stream?,
            offer: choices.offer,
            admission,
            token_from,
            bindings,
            other_methods: choices.other_methods,
            data: choices.data,
            event_field: choices.event_field,
            frames,
            heartbeat,
            heartbeat_form: choices.heartbeat_form,
            retry,
            on_gap: choices.on_gap,
            refresh,
            queue,
            stall_timeout,
            batch,
            websocket,
            max_streams,
            allowed_origins,
            cors,
            subprotocols,
            subscribe,
        })
    }

    fn stream(&self) -> Option<Arc<Stream>> {
        self.section.require("stream", "the name of the stream that the route serves");
        let name = self.section.text("stream", "the name of a stream")?;
        let stream = self.streams.get(name);
        if stream.is_none() {
            let names = || self.streams.keys().map(|name| &**name);
            let message = format!("there is no stream `{name}`{}", did_you_mean(name, names()));
            self.diagnostics.expected(self.section.place_of("stream"), message, alternatives(names()));
        }
        stream.cloned()
    }

    /// A stream is public only if the configuration says so explicitly.
    fn admission(&self) -> Admission {
        if self.section.flag("public").unwrap_or_default() {
            return Admission::Public;
        }
        // A missing path and an unfilled placeholder have been reported.
        let is_undecided = self.section.get("public").is_some_and(Node::is_placeholder);
        if !self.has_auth && self.section.has("path") && !is_undecided {
            let message = "this route would be open to everybody: tokens can't be verified without `auth`";
            self.diagnostics.expected(self.section.place_of("path"), message, "`public: true`, or `auth`");
        }
        Admission::Token
    }

    fn token_from(&self, admission: Admission) -> TokenSources {
        let listed = self.checked_list(
            "token_from",
            &self.section,
            |text| TOKEN_SOURCES.contains(&text),
            |found| {
                let is_query = matches!(found, "query" | "access_token");
                is_query
                    .then_some("URLs are logged and kept: no access token is taken from one (RFC 9700 section 4.3.2)")
            },
            &alternatives(TOKEN_SOURCES),
        );
        if admission == Admission::Public && !listed.is_empty() {
            self.diagnostics.wrong(self.section.place_of("token_from"), "a public route takes no token");
        }
        if !listed.is_empty() && !self.has_issuers {
            let place = self.section.place_of("token_from");
            self.diagnostics.expected(place, "`auth.forward` takes no token from there", "`auth.issuers`");
        }
        let has = |name: &str| listed.iter().any(|source| **source == *name);
        if has("ticket") && !self.has_tickets {
            let place = self.section.place_of("token_from");
            self.diagnostics.expected(place, "no ticket can be verified without `auth.tickets`", "`auth.tickets`");
        }
        TokenSources { subprotocol: has("subprotocol"), ticket: has("ticket"), message: has("message") }
    }

    fn choices(&self) -> Choices {
        let section = &self.section;
        Choices {
            offer: section.choice("transport", &offers()).unwrap_or(Offer::Auto),
            other_methods: section
                .choice("other_methods", &[("refuse", OtherMethods::Refuse), ("upstream", OtherMethods::Upstream)])
                .unwrap_or(OtherMethods::Refuse),
            data: section
                .choice("data", &[("envelope", DataForm::Envelope), ("payload", DataForm::Payload)])
                .unwrap_or(DataForm::Envelope),
            event_field: section
                .choice("event", &[("none", EventField::None), ("type", EventField::Type)])
                .unwrap_or(EventField::None),
            heartbeat_form: section.choice("heartbeat", &HEARTBEATS).unwrap_or(HeartbeatForm::Silent),
            on_gap: section
                .choice("on_gap", &[("gone", OnGap::Gone), ("continue", OnGap::Continue)])
                .unwrap_or(OnGap::Gone),
        }
    }

    /// A binary frame has no room for an envelope.
    fn frames(&self, websocket: &Section<'_>, data: DataForm) -> WebSocketFrames {
        let frames = websocket
            .choice("frames", &[("text", WebSocketFrames::Text), ("binary", WebSocketFrames::Binary)])
            .unwrap_or(WebSocketFrames::Text);
        if frames == WebSocketFrames::Binary && data == DataForm::Envelope {
            let message = "binary frames hold the payload alone, not an envelope";
            self.diagnostics.expected(websocket.place_of("frames"), message, "`data: payload` beside `websocket`");
        }
        frames
    }

    fn queue(&self, stream: Option<&Stream>) -> QueueLimits {
        let section = self.section.section("queue");
        let limits = QueueLimits {
            events: section.count("events", COUNT).unwrap_or(1024) as usize,
            bytes: section.size("bytes", QUEUE_BYTES).unwrap_or(1024 * 1024),
            overflow: section.choice("overflow", &OVERFLOWS).unwrap_or(Overflow::DropOldest),
        };
        if limits.overflow == Overflow::Coalesce {
            if limits.events > COALESCED_EVENTS_MAX {
                let message = format!("a queue of more than {COALESCED_EVENTS_MAX} events can't be coalesced");
                self.diagnostics.wrong(section.place_of("events"), message);
            }
            if let Some(stream) = stream.filter(|stream| stream.keys.is_empty()) {
                let message = format!("the stream `{}` declares no keys that identify its states", stream.name);
                self.diagnostics.wrong(section.place_of("overflow"), message);
            }
        }
        limits
    }

    /// `None` without the section: events are not delayed by default.
    fn batch(&self) -> Option<Batch> {
        let section = self.section.section("batch");
        let events = section.count("size", 1..=Batch::EVENTS_MAX).unwrap_or(Batch::EVENTS);
        let window = section.duration("window", Batch::WINDOW_MIN..=Batch::WINDOW_MAX).unwrap_or(Batch::WINDOW);
        Batch::new(events, window).filter(|_| self.section.has("batch"))
    }

    fn heartbeat(&self) -> Duration {
        let heartbeat = self.section.duration("heartbeat_interval", HEARTBEAT).unwrap_or(Duration::from_secs(15));
        let warn = |message: String| self.diagnostics.warn(self.section.place_of("heartbeat_interval"), message);
        if heartbeat > self.idle_timeout {
            let limit = write_duration(self.idle_timeout);
            warn(format!("heartbeats are rarer than `limits.idle_timeout`, {limit}, lets a connection be silent"));
        } else if heartbeat >= USUAL_IDLE_TIMEOUT {
            let limit = write_duration(USUAL_IDLE_TIMEOUT);
            warn(format!(
                "proxies on the path usually close connections that are silent for {limit}: shorten the interval"
            ));
        }
        heartbeat
    }

    fn refresh(&self) -> Option<Arc<str>> {
        let refresh = self.section.read("refresh", "a URL, or a path that begins with `/`", |value| {
            text(value).filter(|text| {
                ["/", "http://", "https://"].iter().any(|start| text.starts_with(start))
                    && text.bytes().all(|b| b.is_ascii_graphic())
            })
        });
        refresh.map(Arc::from)
    }

    fn allowed_origins(&self) -> Box<[Box<str>]> {
        self.checked_list(
            "allowed_origins",
            &self.section,
            is_origin,
            |found| (found == "*").then_some("`*` would let every site open streams with the user's cookie"),
            "an origin as browsers send it, such as `https://app.example`",
        )
    }

    fn subprotocols(&self, websocket: &Section<'_>) -> Box<[Box<str>]> {
        self.checked_list("subprotocols", websocket, is_token, |_| None, "a subprotocol's name, an HTTP token")
    }

    /// The routes that sockets of this route may subscribe to: those that the same token may open. A public route has
    /// no authorization except for its path.
    fn subscribe(&self, websocket: &Section<'_>, admission: Admission) -> Box<[Arc<str>]> {
        if !websocket.has("subscribe") {
            let own = self.section.text("path", "").filter(|_| admission == Admission::Token);
            return own.map(Arc::from).into_iter().collect();
        }
        let paths = || self.written.iter().filter_map(|node| socket_path(&node.value));
        let patterns = self.checked_list(
            "subscribe",
            websocket,
            |text| text.starts_with('/'),
            |_| None,
            "the `path` of a route that offers WebSocket, as it is written there",
        );
        for node in websocket.list("subscribe") {
            let Some(written) = text(&node.value).filter(|text| text.starts_with('/')) else { continue };
            if !paths().any(|path| path == written) {
                let hint = did_you_mean(written, paths());
                let message = format!("no route that offers WebSocket has the path `{written}`{hint}");
                self.diagnostics.expected(node.place, message, alternatives(paths()));
            }
        }
        patterns.into_iter().map(Arc::from).collect()
    }

    /// A list of distinct strings that satisfy `is_good`. `reason` may explain an invalid one.
    fn checked_list(
        &self,
        key: &'static str,
        section: &Section<'_>,
        is_good: fn(&str) -> bool,
        reason: fn(&str) -> Option<&'static str>,
        expected: &str,
    ) -> Box<[Box<str>]> {
        let mut good: Vec<Box<str>> = Vec::new();
        for node in section.list(key) {
            let written = text(&node.value).unwrap_or_default();
            if !is_good(written) {
                match reason(written) {
                    Some(reason) => self.diagnostics.expected(node.place, reason, expected),
                    None => section.reject(key, node, expected),
                }
            } else if good.iter().any(|earlier| **earlier == *written) {
                self.diagnostics.wrong(node.place, format!("`{written}` is listed twice"));
            } else {
                good.push(written.into());
            }
        }
        good.into()
    }
}

/// The path of a route, as written, if it offers WebSockets.
fn socket_path(route: &Value) -> Option<&str> {
    let Value::Map(entries) = route else { return None };
    let get = |key: &str| entries.iter().find(|(name, _)| name.text == key).and_then(|(_, node)| text(&node.value));
    matches!(get("transport"), None | Some("auto" | "ws")).then(|| get("path")).flatten()
}

/// Options from fixed sets.
struct Choices {
    offer: Offer,
    other_methods: OtherMethods,
    data: DataForm,
    event_field: EventField,
    heartbeat_form: HeartbeatForm,
    on_gap: OnGap,
}

fn websocket_limits(section: &Section<'_>) -> WebSocketLimits {
    WebSocketLimits {
        message_bytes: section.size("message", MESSAGE_BYTES).unwrap_or(64 * 1024),
        commands_per_second: section.count("commands_per_second", 1..=10_000).unwrap_or(20),
        frames_per_second: section.count("frames_per_second", 1..=100_000).unwrap_or(200),
        subscriptions: section.count("subscriptions", 1..=10_000).unwrap_or(32) as usize,
        pong_timeout: section.duration("pong_timeout", PONG_TIMEOUT).unwrap_or(Duration::from_secs(10)),
        authenticate_timeout: section
            .duration("authenticate_timeout", AUTHENTICATE_TIMEOUT)
            .unwrap_or(Duration::from_secs(10)),
    }
}

/// An origin as browsers serialize it (RFC 6454 section 6.2): scheme and host in lower case, without `/` at the end.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let is_scheme_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
    let is_host_byte = |b: u8| is_scheme_byte(b) || matches!(b, b':' | b'[' | b']' | b'_');
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme_byte)
        && !authority.is_empty()
        && authority.bytes().all(is_host_byte)
}
