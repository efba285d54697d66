//! `routes`: each stream route with its pattern, its admission and its options.

use std::sync::Arc;
use std::time::Duration;

use super::bindings::Bindings;
use super::streams::Streams;
use super::websocket::{self, WebSocket};
use super::{cors, fields, quotas, rule};
use crate::auth::Verifier;
use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Node, Place};
use crate::config::keys::{self, TOKEN_SOURCES};
use crate::config::section::Section;
use crate::config::units::write_duration;
use crate::cors::Cors;
use crate::hub::COALESCED_EVENTS_MAX;
use crate::route::{
    Admission, Batch, OnGap, Overflow, Pattern, QueueLimits, RouteTable, Stream, StreamRoute, TokenSources,
};

/// The default idle timeout of load balancers and reverse proxies (nginx' `proxy_read_timeout`, AWS load balancers).
const USUAL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// `None` if the routes do not form a table, which is reported.
pub(super) fn compile(
    root: &Section<'_>,
    streams: &Streams,
    verifier: Option<&Verifier>,
    introspects: bool,
    idle_timeout: Duration,
    diagnostics: &Diagnostics,
) -> Option<RouteTable> {
    let has_auth = root.has(&keys::AUTH_SECTION);
    // An error in `auth` has been reported.
    let has_tickets = verifier.is_none_or(|verifier| verifier.tickets().is_some());
    let takes_tokens = introspects || verifier.is_none_or(Verifier::takes_tokens);
    let mut patterns: Vec<(Pattern, Place)> = Vec::new();
    let mut routes = Vec::new();
    let for_all = cors::compile(root, &keys::CORS_SECTION, diagnostics);
    let written = root.list(&keys::ROUTES);
    for node in written {
        let section = Section::open("routes", node, diagnostics);
        let pattern = pattern(&section, &mut patterns, diagnostics);
        let compiler = Compiler {
            section,
            streams,
            written,
            has_auth,
            has_tickets,
            takes_tokens,
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
    section.require(&keys::ROUTE_PATH);
    let written = section.text(&keys::ROUTE_PATH)?;
    let place = section.place_of(&keys::ROUTE_PATH);
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
    takes_tokens: bool,
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
        let (offer, data) = (section.value(&keys::TRANSPORT), section.value(&keys::DATA));
        let rule = rule::compile(section, pattern, admission, self.diagnostics);
        let fields = fields::compile(section, stream.as_deref(), self.diagnostics);
        let other_methods = section.value(&keys::OTHER_METHODS);
        let event_field = section.value(&keys::EVENT_FIELD);
        let heartbeat_form = section.value(&keys::HEARTBEAT);
        let on_gap = self.on_gap(stream.as_deref());
        let queue = self.queue(stream.as_deref());
        let stall_timeout = section.value(&keys::STALL_TIMEOUT);
        let max_streams = section.written(&keys::MAX_STREAMS).map(|count| count as usize);
        let quotas = quotas::of_route(section, self.diagnostics);
        let batch = self.batch();
        let heartbeat = self.heartbeat();
        let retry = section.value(&keys::RETRY);
        let refresh = self.refresh();
        let allowed_origins = self.allowed_origins();
        let cors = cors::compile(section, &keys::ROUTE_CORS, self.diagnostics).or_else(|| self.cors.clone());
        let own_path = section.text(&keys::ROUTE_PATH).filter(|_| admission == Admission::Token);
        let context = websocket::Context { written: self.written, data, own_path, diagnostics: self.diagnostics };
        let WebSocket { frames, subprotocols, subscribe, limits: websocket } = context.compile(section);
        pattern?;
        Some(StreamRoute {
            pattern: section.text(&keys::ROUTE_PATH)?.into(),
            stream: stream?,
            offer,
            admission,
            token_from,
            bindings,
            rule,
            other_methods,
            data,
            fields,
            event_field,
            frames,
            heartbeat,
            heartbeat_form,
            retry,
            on_gap,
            refresh,
            queue,
            stall_timeout,
            batch,
            websocket,
            max_streams,
            quotas,
            allowed_origins,
            cors,
            subprotocols,
            subscribe,
        })
    }

    fn stream(&self) -> Option<Arc<Stream>> {
        self.section.require(&keys::ROUTE_STREAM);
        let name = self.section.text(&keys::ROUTE_STREAM)?;
        let stream = self.streams.get(name);
        if stream.is_none() {
            let names = || self.streams.keys().map(|name| &**name);
            let message = format!("there is no stream `{name}`{}", did_you_mean(name, names()));
            self.diagnostics.expected(self.section.place_of(&keys::ROUTE_STREAM), message, alternatives(names()));
        }
        stream.cloned()
    }

    /// A stream is public only if the configuration says so explicitly.
    fn admission(&self) -> Admission {
        if self.section.value(&keys::PUBLIC) {
            return Admission::Public;
        }
        // A missing path and an unfilled placeholder have been reported.
        let is_undecided = self.section.get(&keys::PUBLIC).is_some_and(Node::is_placeholder);
        if !self.has_auth && self.section.has(&keys::ROUTE_PATH) && !is_undecided {
            let message = "this route would be open to everybody: tokens can't be verified without `auth`";
            self.diagnostics.expected(self.section.place_of(&keys::ROUTE_PATH), message, "`public: true`, or `auth`");
        }
        Admission::Token
    }

    fn token_from(&self, admission: Admission) -> TokenSources {
        let listed = self.section.texts(
            &keys::TOKEN_FROM,
            |text| TOKEN_SOURCES.contains(&text),
            |found| {
                let is_query = matches!(found, "query" | "access_token");
                is_query
                    .then_some("URLs are logged and kept: no access token is taken from one (RFC 9700 section 4.3.2)")
            },
        );
        if admission == Admission::Public && !listed.is_empty() {
            self.diagnostics.wrong(self.section.place_of(&keys::TOKEN_FROM), "a public route takes no token");
        }
        if !listed.is_empty() && !self.takes_tokens {
            let place = self.section.place_of(&keys::TOKEN_FROM);
            self.diagnostics.expected(place, "`auth` takes no tokens", "`auth.issuers`");
        }
        let has = |name: &str| listed.iter().any(|source| **source == *name);
        if has("ticket") && !self.has_tickets {
            let place = self.section.place_of(&keys::TOKEN_FROM);
            self.diagnostics.expected(place, "no ticket can be verified without `auth.tickets`", "`auth.tickets`");
        }
        TokenSources { subprotocol: has("subprotocol"), ticket: has("ticket"), message: has("message") }
    }

    fn on_gap(&self, stream: Option<&Stream>) -> OnGap {
        let on_gap = self.section.value(&keys::ON_GAP);
        if on_gap == OnGap::State && stream.is_some_and(|stream| stream.state.is_none()) {
            let message = "`routes.on_gap`: the stream has no state";
            self.diagnostics.expected(
                self.section.place_of(&keys::ON_GAP),
                message,
                "`streams.*.state`, or another value",
            );
        }
        on_gap
    }

    fn queue(&self, stream: Option<&Stream>) -> QueueLimits {
        let section = self.section.section(&keys::QUEUE);
        let limits = QueueLimits {
            events: section.value(&keys::QUEUE_EVENTS) as usize,
            bytes: section.value(&keys::QUEUE_BYTES),
            overflow: section.value(&keys::OVERFLOW),
        };
        if limits.overflow == Overflow::Coalesce {
            if limits.events > COALESCED_EVENTS_MAX {
                let message = format!("a queue of more than {COALESCED_EVENTS_MAX} events can't be coalesced");
                self.diagnostics.wrong(section.place_of(&keys::QUEUE_EVENTS), message);
            }
            if let Some(stream) = stream.filter(|stream| stream.keys.is_empty()) {
                let message = format!("the stream `{}` declares no keys that identify its states", stream.name);
                self.diagnostics.wrong(section.place_of(&keys::OVERFLOW), message);
            }
        }
        limits
    }

    /// `None` without the section: events are not delayed by default.
    fn batch(&self) -> Option<Batch> {
        let section = self.section.section(&keys::BATCH);
        let (events, window) = (section.value(&keys::BATCH_SIZE), section.value(&keys::BATCH_WINDOW));
        Batch::new(events, window).filter(|_| self.section.has(&keys::BATCH))
    }

    fn heartbeat(&self) -> Duration {
        let heartbeat = self.section.value(&keys::HEARTBEAT_INTERVAL);
        let warn = |message: String| self.diagnostics.warn(self.section.place_of(&keys::HEARTBEAT_INTERVAL), message);
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
        let is_url = |text: &str| {
            ["/", "http://", "https://"].iter().any(|start| text.starts_with(start))
                && text.bytes().all(|b| b.is_ascii_graphic())
        };
        self.section.parse(&keys::REFRESH, |text| is_url(text).then(|| text.into()))
    }

    fn allowed_origins(&self) -> Box<[Box<str>]> {
        let reason =
            |found: &str| (found == "*").then_some("`*` would let every site open streams with the user's cookie");
        self.section.texts(&keys::ALLOWED_ORIGINS, is_origin, reason)
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
