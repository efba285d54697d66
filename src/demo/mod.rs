//! `sidestream demo`: an embedded Kafka broker, a REST service, a continuous producer, and the sidecar in front of
//! them.
//!
//! Everything runs in this process and on loopback. The sidecar is the real one, given the configuration of
//! `demo.yaml`; nothing here is used by `sidestream run`.

mod classic;
mod producer;
mod rest;
mod server;
mod shop;
mod tokens;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::Context;

use crate::app::{self, Addresses};
use crate::config::{self, snapshot::Snapshot};
use crate::kafka::embedded::{self, Embedded};
use producer::{NOTIFICATIONS_TOPIC, ORDER_STATES_TOPIC, ORDERS_TOPIC, USERS};
use rest::RestService;
use server::RestServer;
use shop::Shop;
use tokens::Tokens;

const CONFIGURATION: &str = include_str!("demo.yaml");
/// The partitions of the demo's topics.
const ORDERS_PARTITIONS: i32 = 6;
const NOTIFICATIONS_PARTITIONS: i32 = 3;
/// Requests that may wait for the producer; one more gets 503.
const ASKS_MAX: usize = 256;

/// Runs the demo until a signal ends it. The default addresses are 127.0.0.1:8080 and 127.0.0.1:9090.
///
/// Standard output contains a line `token USER JWT` per user before the sidecar's ready line, and examples to try.
///
/// # Errors
///
/// A part of the demo cannot be started, or standard output cannot be written.
pub fn run(listen: Option<SocketAddr>, admin: Option<SocketAddr>) -> anyhow::Result<()> {
    let topics = [
        (ORDERS_TOPIC, ORDERS_PARTITIONS),
        (ORDER_STATES_TOPIC, ORDERS_PARTITIONS),
        (NOTIFICATIONS_TOPIC, NOTIFICATIONS_PARTITIONS),
    ];
    let broker = Embedded::start(&topics).context("the demo's broker does not start")?;
    let brokers = broker.bootstrap_servers().context("the demo's broker does not start")?;
    let (tokens, secret) = tokens::issue(&USERS).context("the demo's tokens cannot be made")?;
    let mut snapshot = configuration(&secret.path(), listen, admin)?;
    drop(secret); // The configuration has read it.
    let shop = Arc::new(Shop::open());
    let (ask, asks) = sync_channel(ASKS_MAX);
    let service = RestService::new(shop.clone(), ask, &tokens);
    let rest = RestServer::start(service).context("the demo's REST service does not start")?;
    snapshot.upstream.address = rest.address().to_string();
    snapshot.kafka.brokers = brokers;
    let producer = producer::start(broker, shop, asks).context("the demo's producer does not start")?;

    print_tokens(&tokens).context("standard output cannot be written")?;
    let outcome = app::run_with(snapshot, |addresses| {
        if let Err(error) = introduce(addresses, &tokens) {
            tracing::warn!(%error, "standard output cannot be written");
        }
    });

    // The service holds the sender: once it is dropped, the producer ends.
    rest.stop();
    if producer.join().is_err() {
        tracing::error!("the demo's producer panicked");
    }
    outcome
}

fn configuration(key_file: &str, listen: Option<SocketAddr>, admin: Option<SocketAddr>) -> anyhow::Result<Snapshot> {
    let text = CONFIGURATION.replace("KEY_FILE", key_file);
    let mut snapshot = config::parse(&text, "demo.yaml", Path::new("/"))?;
    snapshot.listen = listen.unwrap_or(snapshot.listen);
    snapshot.admin = admin.unwrap_or(snapshot.admin);
    let properties = embedded::PROPERTIES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    snapshot.kafka.properties.extend(properties);
    snapshot.kafka.finds_times = false;
    Ok(snapshot)
}

/// Prints one line per user, for scripts.
fn print_tokens(tokens: &Tokens) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (user, token) in tokens.iter() {
        writeln!(out, "token {user} {token}")?;
    }
    out.flush()
}

/// Prints addresses and examples for the user. Every line is indented, so that scripts do not confuse it with one
/// of theirs.
fn introduce(addresses: &Addresses, tokens: &Tokens) -> io::Result<()> {
    let Addresses { listen, admin, kafka } = addresses;
    let (user, token) = tokens.first().map_or(("", ""), |(user, token)| (*user, token.as_str()));
    let mut out = io::stdout().lock();
    writeln!(out, "  page     http://{listen}/")?;
    writeln!(out, "  metrics  http://{admin}/metrics")?;
    writeln!(out, "  kafka    {kafka}, topics {ORDERS_TOPIC}, {ORDER_STATES_TOPIC} and {NOTIFICATIONS_TOPIC}")?;
    writeln!(out, "  try (SSE, the state and its changes, the state as a document, NDJSON of {user}, WebSocket):")?;
    writeln!(out, "  curl -N http://{listen}/events")?;
    writeln!(out, "  curl -N 'http://{listen}/v1/orders/stream?from=state'")?;
    writeln!(out, "  curl -H 'Accept: application/json' 'http://{listen}/v1/orders?page=0&size=20'")?;
    writeln!(out, "  curl -N -H 'Authorization: Bearer {token}' http://{listen}/notifications/stream")?;
    writeln!(
        out,
        "  curl -sN --http1.1 -o - -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
         -H 'Sec-WebSocket-Key: c2lkZXN0cmVhbSBkZW1vIQ==' http://{listen}/orders/order-123/ws"
    )?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Admission, Found};

    #[test]
    fn the_demos_configuration_compiles_and_keeps_notifications_for_the_bearer_of_a_token() {
        let (_tokens, secret) = tokens::issue(&USERS).unwrap();
        let snapshot = configuration(&secret.path(), None, None).unwrap();
        let admission = |path| match snapshot.routes.find(path) {
            Found::Stream { route, .. } => Some(route.admission),
            _ => None,
        };
        for path in [
            "/stream",
            "/events",
            "/ws",
            "/orders/stream",
            "/orders/order-123/ws",
            "/events/order-updates",
            "/v1/orders",
        ] {
            assert_eq!(admission(path), Some(Admission::Public), "{path}");
        }
        for path in ["/notifications/sse", "/notifications/stream"] {
            assert_eq!(admission(path), Some(Admission::Token), "{path}");
        }
        for path in ["/", "/orders", "/orders/order-123", "/operations/op-1", "/demo/burst", "/demo/kafka/restart"] {
            assert_eq!(admission(path), None, "{path}");
        }
    }
}
