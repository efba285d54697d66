//! The keys of topics and streams.

use super::Change::{Live, LiveIfRead, Restart};
use super::{
    Absent, Choice, Count, Defaulted, Is, Items, Key, LIST, List, Map, Mixed, Optional, Required, Secrecy, SecretFile,
    Size, Sub, Text, table,
};
use crate::config::snapshot::{DEFAULT_CLUSTER, TopicConfig};
use crate::decode::Format;
use crate::decode::schema::Nonconforming;
use crate::event::TOPIC_NAME_BYTES_MAX;
use crate::pointer::TOKENS_MAX;

/// What a topic's name is.
pub(in crate::config) const TOPIC_NAME: &str = "a topic's name: 1 to 249 characters of `[A-Za-z0-9._-]`";
pub(super) const TOPIC_PATTERN: &str = "^[A-Za-z0-9._-]{1,249}$";

const _: () = assert!(TOPIC_NAME_BYTES_MAX == 249 && TOKENS_MAX == 16, "the texts below name these limits");

/// The origin of a part of an event.
const ORIGIN: Text = Text { type_name: "origin", pattern: "^(key|header:.+|const:.+|/.*)$", expected: ORIGIN_EXPECTED };
const ORIGIN_EXPECTED: &str =
    "a JSON pointer such as `/user/id`, `key`, `header:<name>` or `const:<text>`; pointers have at most 16 steps";

table! { STREAM {
    STREAM_TOPICS: Key<List, Required> = (
        "topics",
        List { items: Items::Pattern(TOPIC_PATTERN), expected: TOPIC_NAME, min: 1, ..LIST },
        Required("the topics that the stream carries"), LiveIfRead,
        "the topics of the stream, merged into one order",
    );
    STREAM_KEYS: Defaulted<List> = (
        "keys",
        List {
            items: Items::Pattern("^[A-Za-z0-9_.-]{1,64}$"),
            expected: "a key: 1 to 64 characters of `[A-Za-z0-9_.-]`",
            ..LIST
        },
        Is(&[]), LiveIfRead,
        "fields of the envelope that identify the subject of an event: a route may bind them and a WebSocket may subscribe \
         to them. Not `id`, `ts`, `type`, `data`, `cursor`, `headers`, `encoding`, `ce`",
    );
}}

table! { TOPIC {
    TOPIC_CLUSTER: Defaulted<Text> = (
        "cluster", Text { type_name: "name", pattern: "", expected: "the name of a cluster" }, Is(DEFAULT_CLUSTER), Restart,
        "one of `clusters`, or `kafka`",
    );
    TOPIC_SOURCE: Optional<Text> = (
        "topic", Text { type_name: "topic's name", pattern: TOPIC_PATTERN, expected: TOPIC_NAME }, Absent("the same"),
        Restart, "the topic's name in the cluster. A topic of a cluster has one name here",
    );
    TOPIC_FORMAT: Defaulted<Choice<Format>> = (
        "format", Choice(|| vec![("json", Format::Json), ("text", Format::Text), ("binary", Format::Binary)]),
        Is(Format::Json), Restart,
        "the format of values. Text becomes a JSON string; bytes become a JSON string in base64 beside \
         `\"encoding\":\"base64\"`",
    );
    TOPIC_HEADERS: Defaulted<Mixed> = (
        "headers",
        Mixed {
            type_name: "`true`, `false`, list of names",
            schema: r#"{ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": { "type": "string" } }] }"#,
            expected: "`true`, `false` or a list of names",
        },
        Is("false"), Restart, "which record headers the envelope includes, as `headers`",
    );
    TOPIC_MAP: Optional<Sub> = (
        "map", Sub(&MAP), Absent("none"), Restart,
        "the origins of the parts of an event; the whole value is `data` then. See below",
    );
    TOPIC_SCHEMA: Optional<Sub> = (
        "schema", Sub(&SCHEMA), Absent("none"), Live,
        "the JSON Schema of `data`. A change applies to records that are read afterwards. See below",
    );
    TOPIC_REPLAY: Defaulted<Sub> =
        ("replay", Sub(&WINDOW), Is(()), Restart, "the replay window. The first limit that is reached applies");
}}

table! { SCHEMA {
    SCHEMA_FILE: Key<SecretFile, Required> = (
        "file", SecretFile, Required("the file with the schema"), Live,
        "the schema, as JSON of at most 256 KiB, with no references to other documents",
    );
    SCHEMA_INVALID: Defaulted<Choice<Nonconforming>> = (
        "invalid", Choice(|| vec![("gap", Nonconforming::Gap), ("pass", Nonconforming::Pass)]),
        Is(Nonconforming::Gap), Live,
        "what clients receive for a record that does not conform: a gap with the cause `invalid`, or the event. Both are \
         counted",
    );
}}

table! { MAP {
    MAP_TYPE: Defaulted<Text> = ("type", ORIGIN, Is("/type"), Restart, "the event's type");
    MAP_TS: Defaulted<Text> = (
        "ts", ORIGIN, Is("/ts"), Restart, "milliseconds since the Unix epoch, or RFC 3339; not a constant",
    );
    MAP_KEYS: Optional<Map> = (
        "keys",
        Map {
            values: r##"{ "$ref": "#/$defs/origin" }"##,
            expected: ORIGIN_EXPECTED,
            secrecy: Secrecy::Open,
        },
        Absent("each key's name at the top level of the value"), Restart, "keys that the topic's streams declare",
    );
}}

table! { WINDOW {
    WINDOW_EVENTS: Defaulted<Count> = (
        "events", Count(1..=10_000_000), Is(TopicConfig::REPLAY_EVENTS as u32), Restart, "events in the replay window",
    );
    WINDOW_BYTES: Defaulted<Size> = (
        "bytes", Size(1024..=64 << 30), Is(TopicConfig::REPLAY_BYTES), Restart,
        "memory of the window: envelopes, keys, and about 400 bytes per event. The first limit that is reached applies",
    );
}}
