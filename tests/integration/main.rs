//! Tests of the real binary: each starts its own broker, upstream and sidecar on free ports, and needs nothing else.
//!
//! One module per theme; `cargo test --test integration sse::` runs one. `support` contains the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test panics to fail; so do its fixtures.
#![allow(unreachable_pub)] // Nothing is reachable from outside of a test binary.

#[path = "../jose.rs"]
mod jose;

mod access;
mod api_keys;
mod bad_input;
mod bench;
mod browser;
mod chart;
mod client_certificates;
mod collection;
mod config;
mod cors;
mod demo;
mod demo_api;
mod doctor;
mod documents;
mod drain;
mod examples;
mod explain;
mod fields;
mod first_steps;
mod forgeries;
mod forward_auth;
mod framings;
mod hostile_connections;
mod in_memory;
mod ingress;
mod inject;
mod introspection;
mod issuers;
mod kafka;
mod limits;
mod memory;
mod metrics;
mod modules;
mod ndjson;
mod oracles;
mod origins;
mod output;
mod pace;
mod panics;
mod pod;
mod protocol;
mod providers;
mod proxy;
mod proxy_wire;
mod real_access;
mod real_brokers;
mod real_cut;
mod real_history;
mod real_kafka;
mod real_life;
mod real_log;
mod real_registry;
mod real_replay;
mod real_stall;
mod real_state;
mod recipes;
mod registry;
mod reload;
mod reload_load;
mod reload_topics;
mod resume;
mod revocations;
mod routes;
mod rules;
mod schema;
mod shutdown;
mod slow_reader;
mod sse;
mod state;
mod support;
mod tap;
mod tls;
mod tokens;
mod topics;
mod traces;
mod upstream_streams;
mod variables;
mod vocabulary;
mod websocket;
