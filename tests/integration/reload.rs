//! Reloads: what changes for whom, what changes nothing, and what is told about it.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::broker::Broker;
use crate::support::eventually_true;
use crate::support::house::{House, Plan, STANDARD};
use crate::support::sidecar::Sidecar;
use crate::support::token;
use crate::support::upstream::Upstream;

const SUCCESSES: &str = "notifications_config_reloads_total{result=\"success\"}";
const SUCCESSFUL: &str = "notifications_config_last_reload_successful";

/// Replaces the configuration as editors and deployments do: by the renaming of a whole file.
fn rewrite(house: &House, change: impl Fn(&str) -> String) {
    let before = fs::read_to_string(&house.config).unwrap();
    let after = change(&before);
    assert_ne!(before, after, "the test changes nothing");
    let beside = house.config.with_extension("next");
    fs::write(&beside, after).unwrap();
    fs::rename(&beside, &house.config).unwrap();
}

fn one_route(keys: &str) -> House {
    House::with_route("/events", "sse", keys)
}

#[test]
fn open_streams_stay_and_new_requests_see_the_new_routes() {
    let house = one_route("");
    let mut old = house.get("/events").sse();
    rewrite(&house, |text| text.replace("/events", "/changed"));
    house.sidecar.await_metric(SUCCESSES, 1.0);
    house.get("/events").open();
    assert_eq!(house.upstream.count("GET /events"), 1, "it is the upstream's now");
    let mut new = house.get("/changed").sse();
    let id = house.broker.order("a");
    assert_eq!((old.ids(1), new.ids(1)), (vec![id.clone()], vec![id]));
    let log = house.sidecar.log();
    assert!(log.contains("routes added: /changed; routes removed: /events"), "{log}");
}

#[test]
fn a_broken_file_changes_nothing_and_the_next_good_one_is_taken() {
    let house = one_route("");
    assert_eq!(house.sidecar.metric(SUCCESSFUL), Some(1.0));
    let info = || {
        let text = house.sidecar.admin("/metrics").text();
        text.lines().find(|line| line.starts_with("notifications_config_info{sha256=")).map(String::from).unwrap()
    };
    let first = info();
    rewrite(&house, |text| format!("{text}\nnonsense: 1\nlimits: {{ steams: 1 }}\n"));
    house.sidecar.await_metric(SUCCESSFUL, 0.0);
    assert_eq!(house.sidecar.metric("notifications_config_reloads_total{result=\"invalid\"}"), Some(1.0));
    let log = house.sidecar.log();
    assert!(log.contains("unknown key `nonsense`") && log.contains("(did you mean `streams`?)"), "{log}");
    assert_eq!((info(), house.sidecar.admin("/readyz").status()), (first.clone(), 200));
    assert_eq!(house.get("/events").open().0.status, 200);

    rewrite(&house, |text| format!("{}limits: {{ streams: 1 }}\n", text.split("nonsense").next().unwrap()));
    house.sidecar.await_metric(SUCCESSFUL, 1.0);
    assert_ne!(info(), first);
    let _only = house.get("/events").sse();
    assert!(house.get("/events").sse().rest().len() == 1, "the new limit holds");
}

#[test]
fn what_needs_a_restart_is_named() {
    let mut house = one_route("");
    rewrite(&house, |text| format!("{}\nmetrics: {{ prefix: other }}\n", text.replace("writers: 2", "writers: 3")));
    house.sidecar.await_metric("notifications_config_reloads_total{result=\"needs-restart\"}", 1.0);
    let log = house.sidecar.log();
    assert!(log.contains("needs a restart: writers, metrics.prefix"), "{log}");
    house.restart();
    house.sidecar.await_metric("other_config_last_reload_successful", 1.0);
}

#[test]
fn a_hangup_reloads_whatever_the_content() {
    let mut house = one_route("");
    for n in 1..=2 {
        house.sidecar.signal("HUP");
        house.sidecar.await_metric(SUCCESSES, f64::from(n));
    }
    house.sidecar.terminate();
}

#[test]
fn a_routes_places_stay_taken() {
    let house = one_route("max_streams: 1");
    let first = house.get("/events").sse();
    rewrite(&house, |text| text.replace("max_streams: 1", "max_streams: 1, retry: 1s"));
    house.sidecar.await_metric(SUCCESSES, 1.0);
    assert_eq!(house.get("/events").sse().rest().len(), 1, "turned away");
    drop(first);
    eventually_true("the place is free again", || {
        house.get("/events").sse().record().is_some_and(|record| record.retry.is_some_and(|ms| ms <= 1500))
    });
}

#[test]
fn a_key_is_rotated_by_changing_its_file() {
    let house = Plan::new(STANDARD).build();
    let status =
        |token: &str| house.get("/mine/events").header("Authorization", format!("Bearer {token}")).open().0.status;
    let new = "another secret of the tests, thirty-two bytes and more";
    let claims = json!({"sub": "u1", "exp": token::now() + 3600});
    let [old, new_token] =
        [token::SECRET, new].map(|secret| token::signed(jsonwebtoken::Algorithm::HS256, secret, &claims));
    assert_eq!([&old, &new_token].map(|token| status(token)), [200, 401]);
    fs::write(house.config.with_file_name("jwt.key"), new).unwrap();
    house.sidecar.await_metric(SUCCESSES, 1.0);
    assert_eq!([&old, &new_token].map(|token| status(token)), [401, 200]);
}

#[test]
fn topics_are_streamed_without_a_file() {
    let broker = Broker::start(&[("orders", 1), ("spread", 4)]);
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let mut sidecar = without_a_file(&upstream, &broker, &folder.path().join("log"));
    eventually_true("/readyz", || sidecar.admin("/readyz").status() == 200);
    let mut streams = (sidecar.call("GET", "/stream").ndjson(), sidecar.call("GET", "/events").sse());
    let mut socket = sidecar.call("GET", "/ws").websocket();
    let id = broker.order("a");
    assert_eq!((streams.0.ids(1), streams.1.ids(1), socket.ids(1)), (vec![id.clone()], vec![id.clone()], vec![id]));
    assert_eq!(sidecar.call("GET", "/echo").send().status(), 200);
    let log = sidecar.log();
    for said in ["streams are public", "orders, spread is streamed", "path: /events, stream: all, transport: sse"] {
        assert!(log.contains(said), "no {said:?} in {log}");
    }
    sidecar.signal("HUP");
    eventually_true("SIGHUP is noted", || sidecar.log().contains("there is no configuration file"));
    sidecar.terminate();
}

fn without_a_file(upstream: &Upstream, broker: &Broker, log: &Path) -> Sidecar {
    let (upstream, brokers) = (upstream.address.to_string(), broker.address());
    let topics = ["--topic", "orders", "--topic", "spread"];
    Sidecar::start(&[&["run", "--upstream", &upstream, "--brokers", &brokers], &topics[..]].concat(), log)
}
