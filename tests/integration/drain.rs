//! `sidestream drain`: streams end at a bounded rate while requests are proxied, and a rolling restart loses no event.

use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan, STANDARD};
use crate::support::http::Call;
use crate::support::ndjson::Ndjson;
use crate::support::returning::{Client, Load, Service, assert_exactly, open_streams, start_replica};
use crate::support::sidecar::{Sidecar, binary};
use crate::support::slow::deaf;

const STREAMS: &str = "notifications_stream_active_connections";

#[test]
fn a_drained_process_keeps_proxying_and_rejects_streams() {
    let mut fixture = Plan::new(STANDARD).with("drain: { budget: 60s }").build();
    let mut sse = fixture.get("/events").sse();
    let mut ndjson = fixture.get("/stream").ndjson();
    let mut websocket = fixture.get("/ws").websocket();
    let id = fixture.broker.order("o1");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![id.clone()], vec![id.clone()], vec![id]));
    let drain = start_drain(&fixture.sidecar);
    assert!(sse.rest().last().unwrap().retry.is_some());
    assert_eq!((ndjson.object(), ndjson.cut), (None, false));
    assert_eq!(websocket.closed(), 1012);
    drop((sse, ndjson, websocket));
    assert_drained(&drain.wait_with_output().unwrap(), 3);

    // kube-proxy sends requests to terminating endpoints, if there are no others, only while they are ready.
    assert_eq!(fixture.sidecar.admin("/readyz").status(), 200);
    assert_eq!(fixture.sidecar.admin("/livez").status(), 200);
    let refused = fixture.get("/stream").send();
    refused.problem(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(fixture.get("/events").sse().rest().len(), 1, "a retry delay alone");
    assert_eq!(fixture.get("/echo").send().status(), 200);
    assert_drained(&start_drain(&fixture.sidecar).wait_with_output().unwrap(), 3);
    fixture.sidecar.terminate();
}

#[test]
fn reconnects_are_spread() {
    let fixture = Plan::new(STANDARD).with("drain: { budget: 20s, reconnects_per_second: 20 }").build();
    let readers: Vec<_> =
        (0..30).map(|_| fixture.get("/stream").ndjson()).map(|mut s| thread::spawn(move || s.line())).collect();
    let answer = Call::of_admin(fixture.sidecar.admin, "POST", "/-/drain").send().json();
    readers.into_iter().for_each(|reader| assert!(reader.join().unwrap().is_none()));
    assert_eq!((&answer["streams"], &answer["left"]), (&json!(30), &json!(0)));
    assert!(answer["elapsed_ms"].as_u64().unwrap() >= 1400, "14 of each writer wait for their turn: {answer}");
}

#[test]
fn a_slow_reader_is_not_cut_before_the_time_limit_and_a_second_drain_joins_the_first() {
    let route = "queue: { events: 1000, bytes: 64MiB }";
    let fixture = Fixture::plan_route("/stream", "ndjson", route).with("drain: { budget: 60s }").build();
    let (head, body) = deaf(&fixture, fixture.get("/stream"));
    let mut slow = Ndjson::over(head, body);
    let mut prompt = fixture.get("/stream").ndjson();
    let value = json!({"type": "t", "orderId": "o1", "data": "x".repeat(64 * 1024)}).to_string();
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(fixture.broker.produce("orders", 0, None, Some(value.as_bytes())));
        assert_eq!(prompt.ids(1), ids[ids.len() - 1..]);
    }
    let drains = [start_drain(&fixture.sidecar), start_drain(&fixture.sidecar)];
    assert!(prompt.object().is_none());
    // Its stream has ended, but it does not close its side and is disconnected; other clients close at once.
    fixture.sidecar.await_metric(STREAMS, 1.0);
    assert_eq!(slow.ids(ids.len()), ids);
    assert!(slow.object().is_none() && !slow.cut, "it ends as it should");
    drop(slow);
    for drain in drains {
        assert_drained(&drain.wait_with_output().unwrap(), 2);
    }
}

#[test]
fn an_ending_process_is_not_ready() {
    let mut fixture = Plan::new(STANDARD).with("drain: { budget: 60s }").build();
    let held = fixture.get("/hold");
    let request = thread::spawn(move || held.send());
    eventually_true("the request at the upstream", || fixture.upstream.count("GET /hold") == 1);
    assert_eq!(fixture.sidecar.admin("/readyz").status(), 200);
    fixture.sidecar.signal("TERM");
    eventually_true("not ready", || fixture.sidecar.admin("/readyz").status() == 503);
    assert_eq!(fixture.sidecar.admin("/readyz").reasons(), ["draining"]);
    fixture.upstream.release();
    assert_eq!(request.join().unwrap().status(), 200);
    assert_eq!(fixture.sidecar.wait().code(), Some(0));
}

#[test]
fn a_process_that_does_not_respond_is_abandoned() {
    let fixture = Fixture::standard();
    fixture.sidecar.signal("STOP");
    let output = start_drain(&fixture.sidecar).wait_with_output().unwrap();
    fixture.sidecar.signal("CONT");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&fixture.sidecar.admin.to_string()) && said.contains("answers nothing"), "{said}");
}

#[test]
fn a_drain_finds_its_process_by_its_configuration() {
    let fixture = Fixture::standard();
    let config = fixture.config.with_file_name("drain.yaml");
    let text = std::fs::read_to_string(&fixture.config).unwrap();
    std::fs::write(&config, format!("{text}\nadmin: {{ listen: {} }}\n", fixture.sidecar.admin)).unwrap();
    let by_variable = binary(&["drain"]).env("SIDESTREAM_CONFIG", &config).output().unwrap();
    assert_drained(&by_variable, 0);
    // Regardless of other errors in it: the address of the admin listener is valid.
    std::fs::write(&config, format!("admin: {{ listen: {} }}\nauth: {{ key_file: gone }}\n", fixture.sidecar.admin))
        .unwrap();
    let output = binary(&["drain", "--config", config.to_str().unwrap()]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains(&format!(" at {}, ", fixture.sidecar.admin)),
        "{output:?}"
    );
    assert_drained(&output, 0);
}

#[test]
fn an_unreachable_process_is_reported_with_its_address() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = binary(&["drain", "--admin", &unused.to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("cannot drain {unused} (--admin): no sidestream answers there: ")), "{said}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let output = binary(&["drain", "--admin", &address, "--timeout", "200ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("still draining after 200ms"));
}

/// Drains, ends and replaces both replicas, one after the other, while events are produced. Clients resume at the
/// replica that serves.
#[test]
fn a_rolling_restart_under_load_loses_and_repeats_nothing() {
    let settings = "topics: { spread: { replay: { events: 100000 } } }\ndrain: { reconnects_per_second: 20 }";
    let fixture = Plan::new(STANDARD).with(settings).build();
    let mut load = Load::new(&fixture.broker, "spread");
    let second = start_replica(&fixture.config, "second");
    let serves = Arc::new(Mutex::new(fixture.sidecar.listen));
    let (service, turn) = (serves.clone(), |next: &Sidecar| *serves.lock().unwrap() = next.listen);
    let service: Service = Arc::new(move || *service.lock().unwrap());
    let clients = Client::start(18, "/spread", &service);
    eventually_true("all clients", || open_streams(&fixture.sidecar) == 18.0);
    load.round();

    turn(&second);
    load.while_runs(&mut start_drain(&fixture.sidecar));
    fixture.sidecar.signal("TERM");
    eventually_true("all clients at the second", || {
        load.round();
        open_streams(&second) == 18.0
    });
    let third = start_replica(&fixture.config, "third");
    turn(&third);
    load.while_runs(&mut start_drain(&second));
    eventually_true("all clients at the third", || {
        load.round();
        open_streams(&third) == 18.0
    });
    load.end();
    for client in clients {
        assert_exactly(&client.join().unwrap(), &load.wanted);
    }
}

fn start_drain(sidecar: &Sidecar) -> Child {
    let mut command = binary(&["drain", "--admin", &sidecar.admin.to_string()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn assert_drained(output: &Output, streams: usize) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with(&format!("drained: {streams} streams in ")) && said.ends_with("0 were cut\n"), "{said}");
}
