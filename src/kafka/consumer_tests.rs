//! Failures of the client itself, which no broker can cause.

use std::sync::mpsc::{Receiver, channel};

use rdkafka::bindings::{rd_kafka_resp_err_t, rd_kafka_test_fatal_error};

use super::*;
use crate::kafka::tests::{Bench, until};

fn reading(bench: &Bench) -> (Reading, Receiver<Feed>) {
    let (sender, feeds) = channel();
    let reader = Reader {
        config: bench.config.clone(),
        sink: Arc::new(move |feed| sender.send(feed).unwrap_or_default()),
        metrics: bench.metrics.clone(),
        tracer: None,
        link: Arc::new(Link::new("kafka".into(), bench.metrics.clone())),
        warm: Arc::default(),
        stop: Arc::default(),
        desired: Desired::default(),
        settle_at: None,
    };
    let client = reader.connect().unwrap();
    (Reading::new(reader, client), feeds)
}

/// Runs until an event is received, and returns its id.
fn event(reading: &mut Reading, feeds: &Receiver<Feed>) -> String {
    let mut id = None;
    until("an event", || {
        reading.step();
        let mut entries = feeds.try_iter().filter_map(|feed| match feed {
            Feed::Batch(entries) => entries.first().cloned(),
            _ => None,
        });
        if let Some(Entry::Event(event)) = entries.next() {
            id = Some(event.id.to_string());
        }
        id.is_some()
    });
    id.unwrap()
}

/// Fails the client with a fatal error.
#[allow(unsafe_code)]
fn fail(client: &Client) {
    let code = rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
    // SAFETY: the client is alive, and the reason is a NUL-terminated string.
    unsafe { rd_kafka_test_fatal_error(client.client().native_ptr(), code, c"a test".as_ptr()) };
}

#[test]
fn a_failed_client_is_recreated_without_losing_or_repeating_records() {
    let mut bench = Bench::new(&[("orders", 1)], &["orders"]);
    // librdkafka raises fatal errors only for static group members; other clients never end.
    bench.config.properties.push(("group.instance.id".into(), "one".into()));
    let (mut reading, feeds) = reading(&bench);
    bench.produce("orders", 0, 1, "{}");
    assert_eq!(event(&mut reading, &feeds), "orders:0:0");
    for offset in 1..3 {
        let old = Arc::as_ptr(&reading.client);
        fail(&reading.client);
        until("another client", || {
            reading.step();
            old != Arc::as_ptr(&reading.client)
        });
        bench.produce("orders", 0, 1, "{}");
        assert_eq!(event(&mut reading, &feeds), format!("orders:0:{offset}"));
    }
    until("the end of those before", || reading.closing.is_over());
    assert_eq!(bench.metrics.records.with_label_values(&["orders"]).get(), 3);
}

/// A client that does not know the topic when it connects reads the first records a second later (see `leaders`).
#[test]
fn a_client_looks_up_partitions_before_they_are_assigned() {
    let bench = Bench::new(&[("orders", 3)], &["orders"]);
    let (reading, _feeds) = reading(&bench);
    until("the partitions in the statistics", || {
        reading.client.poll(Duration::ZERO);
        let statistics = reading.client.context().statistics.lock().unwrap();
        statistics.as_ref().is_some_and(|statistics| statistics.partitions("orders") == 3)
    });
}
