//! The keys of routes.

use super::Change::Live;
use super::limits::{COUNT_MAX, QUOTA, QUOTAS_MAX};
use super::{
    Absent, CORS, Choice, Count, Defaulted, Each, Flag, Is, Items, Key, LIST, List, Map, Optional, Period, Required,
    Secrecy, Size, Sub, Text, hours, mins, ms, secs, table,
};
use crate::pointer::TOKENS_MAX;
use crate::route::{
    Batch, DataForm, EventField, HeartbeatForm, Offer, OnGap, OtherMethods, Overflow, Transport, WebSocketFrames,
};

/// Sources of tokens in addition to `Authorization` and the cookie.
pub(in crate::config) const TOKEN_SOURCES: [&str; 3] = ["subprotocol", "ticket", "message"];
/// An HTTP token (RFC 9110 section 5.6.2).
pub(super) const TOKEN_PATTERN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";

table! { ROUTE {
    ROUTE_PATH: Key<Text, Required> = (
        "path", Text { type_name: "pattern", pattern: "^/", expected: "a path such as `/orders/{orderId}/events`" },
        Required("the path or pattern that the route serves"), Live,
        "a path whose segments are literal or whole parameters: `/orders/{orderId}/events`",
    );
    ROUTE_STREAM: Key<Text, Required> = (
        "stream", Text { type_name: "name", pattern: "", expected: "the name of a stream" },
        Required("the name of the stream that the route serves"), Live, "one of `streams`",
    );
    TRANSPORT: Defaulted<Choice<Offer>> = (
        "transport", Choice(offers), Is(Offer::Auto), Live,
        "`auto` offers all of them: the one that [`?framing=`](protocol.md#choosing-a-transport) names, else WebSocket by \
         `Upgrade`, else by `Accept`; NDJSON where `Accept` says nothing",
    );
    PUBLIC: Defaulted<Flag> = ("public", Flag, Is(false), Live, "`true`: no token is required");
    TOKEN_FROM: Defaulted<List> = (
        "token_from",
        List {
            of: "`subprotocol`, `ticket`, `message`",
            items: Items::Names(|| TOKEN_SOURCES.to_vec()),
            expected: "`subprotocol`, `ticket` or `message`",
            is_set: true,
            ..LIST
        },
        Is(&[]), Live,
        "where a token may come from [beside the header and the cookie](protocol.md#tokens): browsers cannot set headers on a \
         WebSocket. Not on public routes",
    );
    BIND: Optional<Map> = (
        "bind",
        Map {
            values: r##"{ "anyOf": [
                { "$ref": "#/$defs/bindingSources" },
                {
                    "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
                    "properties": {
                        "any": { "$ref": "#/$defs/bindingSources" },
                        "all": { "$ref": "#/$defs/bindingSources" },
                        "prefix": { "$ref": "#/$defs/bindingSources" }
                    }
                }
            ] }"##,
            expected: "`path.<parameter>`, `claims.<claim>` such as `claims.sub`, a list of them, or one of `any`, `all` \
                       and `prefix` with such a list",
            secrecy: Secrecy::Open,
        },
        Absent("the whole stream"), Live,
        "selects only events whose key has these values: `path.<parameter>`, `claims.<claim>` (`claims.org.id` for nested \
         ones), or a list, `any`, `all` or `prefix` of them; see [Bindings](#bindings). A missing claim, and one \
         longer than 512 bytes, is 403; a longer path value is 400",
    );
    RULE: Optional<Text> = (
        "rule",
        Text {
            type_name: "expression",
            pattern: "",
            expected: "an expression such as `event.data.tier in claims.tiers`",
        },
        Absent("none"), Live,
        "decides who receives which of the events that `bind` selects; see [Rules](#rules)",
    );
    OTHER_METHODS: Defaulted<Choice<OtherMethods>> = (
        "other_methods",
        Choice(|| vec![("refuse", OtherMethods::Refuse), ("upstream", OtherMethods::Upstream)]),
        Is(OtherMethods::Refuse), Live, "methods other than GET, HEAD, OPTIONS: 405, or forwarded to the upstream",
    );
    DATA: Defaulted<Choice<DataForm>> = (
        "data", Choice(|| vec![("envelope", DataForm::Envelope), ("payload", DataForm::Payload)]),
        Is(DataForm::Envelope), Live, "what is sent: the whole event, or only its `data`",
    );
    FIELDS: Optional<Sub> = (
        "fields", Sub(&FIELDS_TABLE), Absent("all fields"), Live,
        "the fields of events that are sent; `keep` or `drop`, see [Fields](#fields)",
    );
    EVENT_FIELD: Defaulted<Choice<EventField>> = (
        "event", Choice(|| vec![("none", EventField::None), ("type", EventField::Type)]), Is(EventField::None), Live,
        "the SSE `event` field. With `type`, `onmessage` of a page does not fire",
    );
    // The word of each transport is accepted for all transports.
    HEARTBEAT: Defaulted<Choice<HeartbeatForm>> = (
        "heartbeat",
        Choice(|| vec![
            ("comment", HeartbeatForm::Silent),
            ("ping", HeartbeatForm::Silent),
            ("line", HeartbeatForm::Silent),
            ("event", HeartbeatForm::Visible),
            ("message", HeartbeatForm::Visible),
        ]),
        Is(HeartbeatForm::Silent), Live,
        "the first three are synonyms: heartbeats that scripts do not see. The last two are synonyms: heartbeats that scripts \
         see",
    );
    HEARTBEAT_INTERVAL: Defaulted<Period> = (
        "heartbeat_interval", Period(secs(1)..=mins(10)), Is(secs(15)), Live,
        "the longest silence before a heartbeat. Each stream subtracts up to a fifth, so that heartbeats of clients that \
         connected together spread. Keep it below the idle timeouts on the path (often 60s)",
    );
    RETRY: Defaulted<Period> = (
        "retry", Period(ms(100)..=mins(10)), Is(secs(3)), Live,
        "the reconnect delay that SSE clients receive; up to half of it is added as jitter",
    );
    ON_GAP: Defaulted<Choice<OnGap>> = (
        "on_gap", Choice(|| vec![("gone", OnGap::Gone), ("continue", OnGap::Continue), ("state", OnGap::State)]), Is(OnGap::Gone), Live,
        "clients of transports other than SSE that request events which are no longer available: 410, or 200 and a gap. A \
         WebSocket in a browser cannot see a 410. `state`: clients of all transports receive the \
         [state](protocol.md#state) of the stream again, which needs `streams.*.state`",
    );
    REFRESH: Optional<Text> = (
        "refresh",
        Text {
            type_name: "path or URL",
            pattern: "^(/|https?://)[!-~]*$",
            expected: "a URL, or a path that begins with `/`",
        },
        Absent("none"), Live, "the URL of a full snapshot, included in gaps and in 410",
    );
    QUEUE: Defaulted<Sub> = (
        "queue", Sub(&QUEUE_TABLE), Is(()), Live,
        "the queue of a slow client. The first limit that is reached applies",
    );
    STALL_TIMEOUT: Defaulted<Period> = (
        "stall_timeout", Period(secs(1)..=hours(24)), Is(mins(5)), Live,
        "how long a client that is alive but reads nothing keeps its stream (a paused tab or debugger, a sleeping phone); \
         meanwhile its queue is bounded as above. Beyond: `slow-consumer`",
    );
    BATCH: Optional<Sub> = (
        "batch", Sub(&BATCH_TABLE), Absent("only on a client's request"), Live,
        "transports other than WebSocket: events are written in batches",
    );
    MAX_STREAMS: Optional<Count> = (
        "max_streams", Count(1..=COUNT_MAX), Absent("no limit per route"), Live,
        "concurrent streams on this route, including further subscriptions of WebSockets; beyond: 429, or a jittered `retry` \
         for SSE",
    );
    ROUTE_QUOTAS: Defaulted<Each> = (
        "quotas", Each { table: &QUOTA, min: 0, max: QUOTAS_MAX }, Is(()), Live,
        "limits of one user, tenant or client address on this route, or of the route as a whole: as \
         [`limits.quotas`](#quotas); at most 8",
    );
    ALLOWED_ORIGINS: Defaulted<List> = (
        "allowed_origins",
        List {
            items: Items::Pattern(r"^[a-z0-9+.-]+://[a-z0-9+.:\[\]_-]+$"),
            expected: "an origin as browsers send it, such as `https://app.example`",
            ..LIST
        },
        Is(&[]), Live, "origins that may open a WebSocket with a cookie, in addition to the page's own host",
    );
    ROUTE_CORS: Optional<Sub> = (
        "cors", Sub(&CORS), Absent("the top level's"), Live,
        "which pages of other origins may use this route; replaces the top-level [`cors`](#cors-pages-of-other-origins)",
    );
    WEBSOCKET: Defaulted<Sub> =
        ("websocket", Sub(&WEBSOCKET_TABLE), Is(()), Live, "limits and options of WebSocket clients");
}}

/// JSON pointers into the envelope.
const POINTERS: List = List {
    of: "JSON pointers",
    items: Items::Pattern("^/"),
    expected: "a JSON pointer into the envelope such as `/data/card`, of at most 16 steps",
    min: 0,
    max: 256,
    is_set: true,
};
const _: () = assert!(TOKENS_MAX == 16, "the text above names this limit");

table! { FIELDS_TABLE {
    KEEP: Optional<List> =
        ("keep", POINTERS, Absent("none"), Live, "the fields that are sent, as JSON pointers into the envelope");
    DROP: Optional<List> = ("drop", POINTERS, Absent("none"), Live, "the fields that are not sent; not beside `keep`");
}}

/// Every transport by its name, and all of them.
fn offers() -> Vec<(&'static str, Offer)> {
    let only = Transport::ALL.into_iter().map(|transport| (transport.as_str(), Offer::Only(transport)));
    only.chain([("auto", Offer::Auto)]).collect()
}

table! { QUEUE_TABLE {
    QUEUE_EVENTS: Defaulted<Count> = (
        "events", Count(1..=COUNT_MAX), Is(1024), Live,
        "events that may wait for a slow client; at most 4096 with `coalesce`",
    );
    QUEUE_BYTES: Defaulted<Size> =
        ("bytes", Size(1024..=1 << 30), Is(1 << 20), Live, "their bytes. The first limit that is reached applies");
    OVERFLOW: Defaulted<Choice<Overflow>> = (
        "overflow",
        Choice(|| vec![
            ("drop-oldest", Overflow::DropOldest),
            ("drop-newest", Overflow::DropNewest),
            ("disconnect", Overflow::Disconnect),
            ("coalesce", Overflow::Coalesce),
        ]),
        Is(Overflow::DropOldest), Live,
        "the policy of a full queue; dropped events are reported as a gap. `coalesce`: see below",
    );
}}

table! { BATCH_TABLE {
    BATCH_SIZE: Defaulted<Count> = (
        "size", Count(1..=Batch::EVENTS_MAX), Is(Batch::EVENTS), Live,
        "transports other than WebSocket, only if `batch` is present: events per write. `?batchSize=` overrides it",
    );
    BATCH_WINDOW: Defaulted<Period> = (
        "window", Period(Batch::WINDOW_MIN..=Batch::WINDOW_MAX), Is(Batch::WINDOW), Live,
        "how long the first event of a batch waits at most, in steps of 20 ms. `?batchWindow=` overrides it",
    );
}}

table! { WEBSOCKET_TABLE {
    // A subscribe command must fit.
    MESSAGE: Defaulted<Size> = (
        "message", Size(1024..=16 << 20), Is(64 << 10), Live, "the largest message that a client may send; beyond: close 1009",
    );
    COMMANDS_PER_SECOND: Defaulted<Count> =
        ("commands_per_second", Count(1..=10_000), Is(20), Live, "commands; beyond: close 1008");
    FRAMES_PER_SECOND: Defaulted<Count> = (
        "frames_per_second", Count(1..=100_000), Is(200), Live,
        "frames of any kind, including pings, pongs and fragments; beyond: close 1008",
    );
    SUBSCRIPTIONS: Defaulted<Count> = ("subscriptions", Count(1..=10_000), Is(32), Live, "per socket");
    PONG_TIMEOUT: Defaulted<Period> = (
        "pong_timeout", Period(secs(1)..=mins(10)), Is(secs(10)), Live, "how long to wait after a ping for any frame",
    );
    AUTHENTICATE_TIMEOUT: Defaulted<Period> = (
        "authenticate_timeout", Period(secs(1)..=mins(1)), Is(secs(10)), Live,
        "with `token_from: [message]`: how long a socket that was opened without a token may take to send one; beyond: close \
         1008",
    );
    FRAMES: Defaulted<Choice<WebSocketFrames>> = (
        "frames", Choice(|| vec![("text", WebSocketFrames::Text), ("binary", WebSocketFrames::Binary)]),
        Is(WebSocketFrames::Text), Live,
        "`binary`, with `data: payload`: each event is a binary message with the bytes of the payload, without id and cursor. \
         Responses, gaps and heartbeats remain text",
    );
    SUBPROTOCOLS: Defaulted<List> = (
        "subprotocols",
        List {
            items: Items::Pattern(TOKEN_PATTERN),
            expected: "a subprotocol's name, an HTTP token",
            ..LIST
        },
        Is(&[]), Live, "sidestream echoes the first one that the client offers and the list has",
    );
    SUBSCRIBE: Key<List, Absent> = (
        "subscribe",
        List {
            of: "routes' `path`",
            items: Items::Pattern("^/"),
            expected: "the `path` of a route that offers WebSocket, as it is written there",
            ..LIST
        },
        Absent("this route if it requires a token, none if it is public"), Live,
        "the routes whose paths a socket may [subscribe](protocol.md#websocket) to; a part of its initial subscription is \
         always allowed. A socket that `auth.forward` accepted receives such parts alone, because the service was asked about \
         its path only",
    );
}}
