//! The keys of topics and streams.

use super::Change::{Live, Restart};
use super::{
    Absent, Choice, Count, Defaulted, Is, Items, Key, LIST, List, Map, Mixed, Optional, Required, Secrecy, SecretFile,
    Size, Sub, Text, table,
};
use crate::config::snapshot::{DEFAULT_CLUSTER, DEFAULT_REGISTRY, TopicConfig};
use crate::decode::mapping::ORIGINS_MAX;
use crate::decode::registered::SchemaFormat;
use crate::decode::schema::Nonconforming;
use crate::decode::{Format, MissingKey, Preset, TYPE_BYTES_MAX};
use crate::event::TOPIC_NAME_BYTES_MAX;
use crate::pointer::TOKENS_MAX;

/// What a topic's name is.
pub(in crate::config) const TOPIC_NAME: &str = "a topic's name: 1 to 249 characters of `[A-Za-z0-9._-]`";
pub(super) const TOPIC_PATTERN: &str = "^[A-Za-z0-9._-]{1,249}$";

const _: () = assert!(
    TOPIC_NAME_BYTES_MAX == 249 && TOKENS_MAX == 16 && ORIGINS_MAX == 8 && TYPE_BYTES_MAX == 256,
    "the texts below name these limits"
);

/// The formats of schemas in a registry.
const SCHEMA_FORMATS: [(&str, SchemaFormat); 3] =
    [("avro", SchemaFormat::Avro), ("protobuf", SchemaFormat::Protobuf), ("json-schema", SchemaFormat::JsonSchema)];

fn formats() -> Vec<(&'static str, Format)> {
    let own = [("json", Format::Json), ("text", Format::Text), ("binary", Format::Binary)];
    own.into_iter().chain(SCHEMA_FORMATS.map(|(name, format)| (name, Format::Registered(format)))).collect()
}

/// A type of events.
const TYPE_SCHEMA: &str = r#"{ "type": "string", "minLength": 1, "maxLength": 256 }"#;
const TYPE_EXPECTED: &str = "a type: 1 to 256 bytes without control characters";

/// The origin of a part of an event, or a list of them.
const ORIGINS: Mixed = Mixed {
    type_name: "origin, list of origins",
    schema: r##"{ "$ref": "#/$defs/origins" }"##,
    expected: ORIGINS_EXPECTED,
};
const ORIGINS_EXPECTED: &str = "a JSON pointer such as `/user/id`, `field:<name>`, `value`, `key`, `key:/user/id`, \
                                `header:<name>`, `const:<text>`, or a list of 1 to 8 of them; pointers have at most 16 steps";

table! { STREAM {
    STREAM_TOPICS: Key<List, Required> = (
        "topics",
        List { items: Items::Pattern(TOPIC_PATTERN), expected: TOPIC_NAME, min: 1, ..LIST },
        Required("the topics that the stream carries"), Live,
        "the topics of the stream, merged into one order",
    );
    STREAM_KEYS: Defaulted<List> = (
        "keys",
        List {
            items: Items::Pattern("^[A-Za-z0-9_.-]{1,64}$"),
            expected: "a key: 1 to 64 characters of `[A-Za-z0-9_.-]`",
            ..LIST
        },
        Is(&[]), Live,
        "fields of the envelope that identify the subject of an event: a route may bind them and a WebSocket may subscribe \
         to them. Not `id`, `ts`, `type`, `data`, `cursor`, `headers`, `encoding`, `ce`, `snapshot`",
    );
    STREAM_STATE: Optional<Sub> = (
        "state", Sub(&STATE), Absent("none"), Restart,
        "clients may ask for the newest event of each key before the changes, by [`?from=state`](protocol.md#state), or [as a document](protocol.md#the-state-as-a-document). The stream \
         has one topic. See below",
    );
}}

table! { STATE {
    STATE_KEY: Key<Text, Required> = (
        "key", Text { type_name: "key", pattern: "", expected: "one of the stream's `keys`" },
        Required("the key by which events are folded"), Restart,
        "one of the stream's `keys`: the newest event of each of its values is the state. Tombstones have to have it: it is \
         the only key of the topic, or `map` takes it from the record's key",
    );
    STATE_BYTES: Defaulted<Size> = (
        "bytes", Size(1024..=64 << 30), Is(256 << 20), Restart,
        "the most memory of the state: envelopes, keys, and about 600 bytes per key. Beyond it snapshots are refused",
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
        "format", Choice(formats), Is(Format::Json), Live,
        "the format of values. Text becomes a JSON string; bytes become a JSON string in base64 beside \
         `\"encoding\":\"base64\"`. `avro`, `protobuf` and `json-schema` are the formats of a schema registry",
    );
    TOPIC_KEY_FORMAT: Optional<Choice<SchemaFormat>> = (
        "key_format", Choice(|| SCHEMA_FORMATS.to_vec()), Absent("text or JSON"), Live,
        "the format of the records' keys, if their schema is in a registry",
    );
    TOPIC_REGISTRY: Defaulted<Text> = (
        "registry", Text { type_name: "name", pattern: "", expected: "the name of a registry" }, Is(DEFAULT_REGISTRY),
        Live, "one of `registries`, or `registry`",
    );
    TOPIC_HEADERS: Defaulted<Mixed> = (
        "headers",
        Mixed {
            type_name: "`true`, `false`, list of names",
            schema: r#"{ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": { "type": "string" } }] }"#,
            expected: "`true`, `false` or a list of names",
        },
        Is("false"), Live, "which record headers the envelope includes, as `headers`",
    );
    TOPIC_SHAPE: Optional<Choice<Preset>> = (
        "shape", Choice(|| vec![("debezium", Preset::Debezium), ("connect", Preset::Connect)]), Absent("none"), Live,
        "a `map` for records of a common producer, which `map` may change. `config effective` prints it",
    );
    TOPIC_MAP: Optional<Sub> = (
        "map", Sub(&MAP), Absent("none"), Live,
        "the origins of the parts of an event. See below",
    );
    TOPIC_MISSING_KEY: Defaulted<Choice<MissingKey>> = (
        "missing_key", Choice(|| vec![("count", MissingKey::Count), ("gap", MissingKey::Gap)]),
        Is(MissingKey::Count), Live,
        "an event that lacks a key of one of the topic's streams is always counted (`kafka_missing_keys_total`); with `gap`, \
         clients that are bound to the key receive a gap in its place",
    );
    TOPIC_SCHEMA: Optional<Sub> = (
        "schema", Sub(&SCHEMA), Absent("none"), Live,
        "the JSON Schema of `data`. A change applies to records that are read afterwards. See below",
    );
    TOPIC_REPLAY: Defaulted<Sub> =
        ("replay", Sub(&WINDOW), Is(()), Live, "the replay window. The first limit that is reached applies");
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
    MAP_TYPE: Defaulted<Mixed> = ("type", ORIGINS, Is(r#""/type""#), Live, "the event's type");
    MAP_TYPES: Optional<Map> = (
        "types",
        Map { values: TYPE_SCHEMA, expected: TYPE_EXPECTED, secrecy: Secrecy::Open },
        Absent("none"), Live,
        "the type for what `type` finds, such as `{ c: created }`; other types stay. A record without a value is a `delete`",
    );
    MAP_DROP: Optional<List> = (
        "drop", List { expected: TYPE_EXPECTED, ..LIST }, Absent("none"), Live,
        "types whose records are not events: they are counted and passed over. `message` is the type of a record without one",
    );
    MAP_TS: Defaulted<Mixed> = (
        "ts", ORIGINS, Is(r#""/ts""#), Live, "milliseconds since the Unix epoch, or RFC 3339; not a constant",
    );
    MAP_KEYS: Optional<Map> = (
        "keys",
        Map { values: r##"{ "$ref": "#/$defs/origins" }"##, expected: ORIGINS_EXPECTED, secrecy: Secrecy::Open },
        Absent("each key's name at the top level of the value"), Live, "keys that the topic's streams declare",
    );
    MAP_DATA: Optional<Mixed> = (
        "data",
        Mixed { expected: "a JSON pointer such as `/after`, `value`, `key:/user`, or a list of 1 to 8 of them", ..ORIGINS },
        Absent("the whole value"), Live, "the event's `data`; `null` if nothing else is found",
    );
}}

table! { WINDOW {
    WINDOW_EVENTS: Defaulted<Count> = (
        "events", Count(1..=10_000_000), Is(TopicConfig::REPLAY_EVENTS as u32), Live, "events in the replay window",
    );
    WINDOW_BYTES: Defaulted<Size> = (
        "bytes", Size(1024..=64 << 30), Is(TopicConfig::REPLAY_BYTES), Live,
        "memory of the window: envelopes, keys, and about 400 bytes per event. The first limit that is reached applies",
    );
}}
