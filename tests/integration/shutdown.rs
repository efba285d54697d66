//! Shutdown: SIGTERM closes streams at an event boundary, completes requests, and exits with 0 within the budget.

use std::thread;

use crate::support::eventually_true;
use crate::support::house::{House, Plan, STANDARD};

#[test]
fn sigterm_ends_every_stream_at_a_record_boundary() {
    let mut house = House::standard();
    let mut sse = house.get("/events").sse();
    let mut ndjson = house.get("/stream").ndjson();
    let mut websocket = house.get("/ws").websocket();
    let id = house.broker.order("o1");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![id.clone()], vec![id.clone()], vec![id]));
    house.sidecar.signal("TERM");
    let records = sse.rest();
    assert!(records.last().unwrap().retry.is_some(), "the last record says when to come back: {records:?}");
    assert!(ndjson.object().is_none() && !ndjson.cut);
    assert_eq!(websocket.closed(), 1012);
    assert_eq!(house.sidecar.wait().code(), Some(0));
}

#[test]
fn reconnect_delays_are_spread() {
    let mut house = House::standard();
    let streams: Vec<_> = (0..20).map(|_| house.get("/events").sse()).collect();
    house.sidecar.signal("TERM");
    let mut retries: Vec<u64> =
        streams.into_iter().map(|mut stream| stream.rest().last().unwrap().retry.unwrap()).collect();
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 5, "{retries:?}");
    assert_eq!(house.sidecar.wait().code(), Some(0));
}

#[test]
fn a_request_in_flight_finishes() {
    let mut house = House::standard();
    let held = house.get("/hold");
    let request = thread::spawn(move || held.send());
    eventually_true("the request at the upstream", || house.upstream.count("GET /hold") == 1);
    house.sidecar.signal("TERM");
    eventually_true("not ready any more", || house.sidecar.admin("/readyz").status() == 503);
    house.upstream.release();
    assert_eq!(request.join().unwrap().status(), 200);
    assert_eq!(house.sidecar.wait().code(), Some(0));
}

#[test]
fn a_request_that_never_ends_costs_only_the_budget() {
    let mut house = Plan::new(STANDARD).with("drain: { budget: 2s }").build();
    let held = house.get("/hang");
    thread::spawn(move || held.try_open());
    eventually_true("the request at the upstream", || house.upstream.count("GET /hang") == 1);
    // The upstream holds the request for longer than the tests wait for anything.
    house.sidecar.terminate();
}

#[test]
fn an_idle_sidecar_ends_well_within_the_budget() {
    let mut house = Plan::new(STANDARD).with("drain: { budget: 10m }").build();
    house.sidecar.terminate();
}

#[test]
fn a_client_that_does_not_read_does_not_delay_the_end() {
    let mut house = Plan::new(STANDARD).with("drain: { budget: 2s }").build();
    let deaf = house.get("/events").sse();
    let mut reader = house.get("/stream").ndjson();
    let large = vec![b' '; 100_000];
    for _ in 0..100 {
        let value = [b"{\"type\":\"t\",\"data\":\"", &large[..], b"\"}"].concat();
        house.broker.produce("orders", 0, None, Some(&value));
        reader.event();
    }
    house.sidecar.terminate();
    drop(deaf);
}

#[test]
fn sigint_ends_it_as_well() {
    let mut house = House::standard();
    house.sidecar.signal("INT");
    assert_eq!(house.sidecar.wait().code(), Some(0));
}

#[test]
fn sighup_does_not() {
    let mut house = House::standard();
    let mut stream = house.get("/events").sse();
    house.sidecar.signal("HUP");
    let id = house.broker.order("o1");
    assert_eq!(stream.ids(1), [id]);
    assert_eq!(house.get("/echo").send().status(), 200);
    assert!(house.sidecar.is_running());
}

#[test]
fn an_end_during_an_outage_of_kafka_is_clean() {
    let mut house = Plan::new(STANDARD).kafka("warm_up: 100ms").broker_down().build();
    house.sidecar.terminate();
}
