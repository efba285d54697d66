//! sidestream: a reverse proxy beside a REST service that terminates streaming paths itself, fed by Kafka.
//!
//! This file lists the modules and holds no code. Data flows from the top of this list to the bottom:
//!
//! | module | purpose |
//! |---|---|
//! | [`source`] | the interface of sources, and a source in memory |
//! | [`states`] | the states of topics: fed by a source, read by streams and requests |
//! | [`kafka`] | the source that reads Kafka; the embedded broker of the demo |
//! | [`kafka_properties`] | librdkafka's properties: defaults, and which a configuration may set |
//! | [`listener`] | connections in: counted, one checked request head at a time |
//! | [`socket`], [`tls`], [`response_stream`] | a client's socket, encrypted or not; TLS as a server; a response of HTTP/2 |
//! | [`gateway`] | requests in: proxied to the upstream, or negotiated and admitted as a stream |
//! | [`writer`] | a few threads: each owns its sockets, their sessions, its share of the index, one timer wheel |
//! | [`problem`] | refusals, as responses with a problem document of [`codec::problem`] |
//! | [`admin`] | `/metrics`, `/livez`, `/readyz`; for the same host the page, `/-/drain`, `/-/reload`, `/-/revoke` |
//! | [`http_client`] | requests that sidestream itself sends, with limits |
//! | [`auth`] | tokens to principals |
//! | [`config`] | the user's file, compiled into a snapshot |
//! | [`json_schema`] | JSON Schemas of topics: compiled, and applied to data |
//! | [`schema_registry`] | schemas of records: requested from registries, kept, compiled |
//! | [`reload`] | watches the file, and replaces the snapshot |
//! | [`ingress_nginx`] | ingress-nginx's settings in, a configuration and a report out |
//! | [`metrics`], [`telemetry`] | every metric; the format of logs |
//! | [`traces`] | spans of requests and events, sent to an OpenTelemetry collector |
//! | [`panics`] | panics: counted and logged |
//! | [`shutdown`] | the signals that end a process, and the flag that its end has begun |
//! | [`descriptors`] | the limit of open descriptors, and which of them are reserved |
//! | [`revoke`] | revokes subjects, sessions and tokens, and ends their streams |
//! | [`describe`] | OpenAPI and AsyncAPI documents of the stream routes |
//! | [`explain`] | whether a user receives an event, and which step decides |
//! | [`drain`] | ends every stream, once, at a bounded rate |
//! | [`cores`], [`cgroup`] | default thread counts; the memory limit of the container |
//! | [`memory`] | what the process releases under memory pressure |
//! | [`inject`] | Kubernetes manifests with the sidecar in them: text in, text out |
//! | [`client`] | one connection to a stream, read item by item: for `tap` and `doctor` |
//! | [`doctor`] | diagnosis of the network path to a stream |
//! | [`app`], [`cli`], [`demo`] | the composition root, the command line, the demo |
//!
//! The core (no I/O, no clock, no runtime; built alone by `--no-default-features`):
//!
//! | module | purpose |
//! |---|---|
//! | [`decode`] | a record becomes an event |
//! | [`event`], [`cursor`] | the event, its identity, and a position in a stream |
//! | [`encoding`] | the encodings of one event, shared |
//! | [`traceparent`] | the position of a span in its trace |
//! | [`reserved`] | reserved names on the wire |
//! | [`pointer`] | JSON pointers, and the members of JSON values |
//! | [`hub`] | replay window, key index, bounded queue, resume |
//! | [`ingest`] | the order in which the output of a source takes effect |
//! | [`codec`] | bytes on the wire: the table of transports, WebSocket frames, HTTP heads and chunks |
//! | [`session`] | one stream's protocol state: inputs and a time in, bytes and one close reason out |
//! | [`route`], [`access`] | paths to routes; claims and parameters to selectors |
//! | [`rule`] | expressions over claims, path and event that decide who receives which events |
//! | [`cors`] | which pages of other origins may use a stream |
//! | [`network`] | networks of IP addresses |
//! | [`quota`], [`rate`] | what one user, address or route may use, and how rates are counted |
//! | [`admission`] | whether a stream may be opened: by a request, or by a WebSocket's command |

pub mod access;
pub mod admission;
pub mod codec;
mod contain;
pub mod cors;
pub mod cursor;
pub mod decode;
pub mod encoding;
pub mod event;
mod fault;
pub mod hub;
pub mod ingest;
pub mod pointer;
pub mod quota;
pub mod rate;
pub mod reserved;
pub mod route;
pub mod rule;
pub mod session;
#[cfg(all(test, feature = "server"))]
#[path = "../tests/simulation/mod.rs"]
mod simulation;
#[cfg(any(test, fuzzing))]
pub(crate) mod testing;
/// For the fuzz targets, which cannot see what tests share.
#[cfg(fuzzing)]
pub use testing::route as example_route;
pub mod traceparent;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
mod bounded;
#[cfg(feature = "server")]
pub mod cgroup;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod cores;
#[cfg(feature = "server")]
pub mod demo;
#[cfg(feature = "server")]
pub mod describe;
#[cfg(feature = "server")]
pub mod descriptors;
#[cfg(feature = "server")]
pub mod doctor;
#[cfg(feature = "server")]
pub mod drain;
#[cfg(feature = "server")]
pub mod explain;
#[cfg(feature = "server")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod http_client;
#[cfg(feature = "server")]
pub mod ingress_nginx;
#[cfg(feature = "server")]
pub mod inject;
#[cfg(feature = "server")]
pub mod json_schema;
#[cfg(feature = "server")]
pub mod kafka;
#[cfg(feature = "server")]
pub mod kafka_properties;
#[cfg(feature = "server")]
pub mod listener;
#[cfg(feature = "server")]
pub mod memory;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod network;
#[cfg(feature = "server")]
pub mod panics;
#[cfg(feature = "server")]
pub mod problem;
#[cfg(feature = "server")]
pub mod reload;
#[cfg(feature = "server")]
pub mod response_stream;
#[cfg(feature = "server")]
pub mod revoke;
#[cfg(feature = "server")]
pub mod schema_registry;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "server")]
pub mod socket;
#[cfg(feature = "server")]
pub mod source;
#[cfg(feature = "server")]
pub mod states;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod tls;
#[cfg(feature = "server")]
pub mod traces;
#[cfg(feature = "server")]
pub mod writer;
