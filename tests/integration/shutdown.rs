//! Shutdown: SIGTERM closes streams at an event boundary, completes requests, and exits with 0 within the budget.

use std::thread;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};

#[test]
fn sigterm_ends_every_stream_at_a_record_boundary() {
    let mut fixture = Fixture::standard();
    let mut sse = fixture.get("/events").sse();
    let mut ndjson = fixture.get("/stream").ndjson();
    let mut websocket = fixture.get("/ws").websocket();
    let id = fixture.broker.order("o1");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![id.clone()], vec![id.clone()], vec![id]));
    fixture.sidecar.signal("TERM");
    let records = sse.rest();
    assert!(records.last().unwrap().retry.is_some(), "the last record says when to come back: {records:?}");
    assert!(ndjson.object().is_none() && !ndjson.cut);
    assert_eq!(websocket.closed(), 1012);
    assert_eq!(fixture.sidecar.wait().code(), Some(0));
}

#[test]
fn reconnect_delays_are_spread() {
    let mut fixture = Fixture::standard();
    let streams: Vec<_> = (0..20).map(|_| fixture.get("/events").sse()).collect();
    fixture.sidecar.signal("TERM");
    let mut retries: Vec<u64> =
        streams.into_iter().map(|mut stream| stream.rest().last().unwrap().retry.unwrap()).collect();
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 5, "{retries:?}");
    assert_eq!(fixture.sidecar.wait().code(), Some(0));
}

#[test]
fn a_request_in_flight_finishes() {
    let mut fixture = Fixture::standard();
    let held = fixture.get("/hold");
    let request = thread::spawn(move || held.send());
    eventually_true("the request at the upstream", || fixture.upstream.count("GET /hold") == 1);
    fixture.sidecar.signal("TERM");
    eventually_true("not ready any more", || fixture.sidecar.admin("/readyz").status() == 503);
    fixture.upstream.release();
    assert_eq!(request.join().unwrap().status(), 200);
    assert_eq!(fixture.sidecar.wait().code(), Some(0));
}

#[test]
fn a_request_that_never_ends_costs_only_the_budget() {
    let mut fixture = Plan::new(STANDARD).with("drain: { budget: 2s }").build();
    let held = fixture.get("/hang");
    thread::spawn(move || held.try_open());
    eventually_true("the request at the upstream", || fixture.upstream.count("GET /hang") == 1);
    // The upstream holds the request for longer than the tests wait for anything.
    fixture.sidecar.terminate();
}

#[test]
fn an_idle_sidecar_ends_well_within_the_budget() {
    let mut fixture = Plan::new(STANDARD).with("drain: { budget: 10m }").build();
    fixture.sidecar.terminate();
}

#[test]
fn a_client_that_does_not_read_does_not_delay_the_end() {
    let mut fixture = Plan::new(STANDARD).with("drain: { budget: 2s }").build();
    let deaf = fixture.get("/events").sse();
    let mut reader = fixture.get("/stream").ndjson();
    let large = vec![b' '; 100_000];
    for _ in 0..100 {
        let value = [b"{\"type\":\"t\",\"data\":\"", &large[..], b"\"}"].concat();
        fixture.broker.produce("orders", 0, None, Some(&value));
        reader.event();
    }
    fixture.sidecar.terminate();
    drop(deaf);
}

#[test]
fn sigint_ends_it_as_well() {
    let mut fixture = Fixture::standard();
    fixture.sidecar.signal("INT");
    assert_eq!(fixture.sidecar.wait().code(), Some(0));
}

#[test]
fn sighup_does_not() {
    let mut fixture = Fixture::standard();
    let mut stream = fixture.get("/events").sse();
    fixture.sidecar.signal("HUP");
    let id = fixture.broker.order("o1");
    assert_eq!(stream.ids(1), [id]);
    assert_eq!(fixture.get("/echo").send().status(), 200);
    assert!(fixture.sidecar.is_running());
}

#[test]
fn an_end_during_an_outage_of_kafka_is_clean() {
    let mut fixture = Plan::new(STANDARD).kafka("warm_up: 100ms").broker_down().build();
    fixture.sidecar.terminate();
}
