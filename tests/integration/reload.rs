//! Reloads: their effect on streams and requests, invalid configurations, and reports.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::X509;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::eventually_true;
use crate::support::fixture::{Fixture, KAFKA_PROPERTIES, Plan, STANDARD};
use crate::support::http::{Answer, Call};
use crate::support::ndjson::Ndjson;
use crate::support::sidecar::Sidecar;
use crate::support::slow::deaf;
use crate::support::token;
use crate::support::upstream::Upstream;

const SUCCESSES: &str = "notifications_config_reloads_total{result=\"success\"}";
const SUCCESSFUL: &str = "notifications_config_last_reload_successful";

/// Replaces the configuration by renaming, as editors and deployments do.
fn rewrite(fixture: &Fixture, change: impl Fn(&str) -> String) {
    let before = fs::read_to_string(&fixture.config).unwrap();
    let after = change(&before);
    assert_ne!(before, after, "the test changes nothing");
    let beside = fixture.config.with_extension("next");
    fs::write(&beside, after).unwrap();
    fs::rename(&beside, &fixture.config).unwrap();
}

fn one_route(keys: &str) -> Fixture {
    Fixture::with_route("/events", "sse", keys)
}

#[test]
fn a_route_that_is_gone_ends_its_streams_and_new_requests_see_the_new_routes() {
    let fixture = one_route("");
    let mut old = fixture.get("/events").sse();
    rewrite(&fixture, |text| text.replace("/events", "/changed"));
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
    assert!(old.rest().last().unwrap().retry.is_some());
    fixture.get("/events").open();
    assert_eq!(fixture.upstream.count("GET /events"), 1, "it is the upstream's now");
    let mut new = fixture.get("/changed").sse();
    let id = fixture.broker.order("a");
    assert_eq!(new.ids(1), [id]);
    fixture.sidecar.await_log("routes added: /changed; routes removed: /events");
}

#[test]
fn streams_go_on_with_new_settings() {
    let fixture = Fixture::plan_route("/auto", "auto", "heartbeat_interval: 10m").build();
    let mut sse = fixture.get("/auto").header("Accept", "text/event-stream").sse();
    let mut ndjson = fixture.get("/auto").ndjson();
    let mut websocket = fixture.get("/auto").websocket();
    let first = fixture.broker.order("a");
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (vec![first.clone()], vec![first.clone()], vec![first]));
    rewrite(&fixture, |text| {
        text.replace("heartbeat_interval: 10m", "heartbeat_interval: 1s, retry: 1s, on_gap: continue")
    });
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
    sse.until("a heartbeat of the new interval", |record| !record.comments.is_empty());
    assert_eq!(ndjson.line().as_deref(), Some(""));
    assert!(matches!(websocket.any(), tungstenite::Message::Ping(_)));
    let second = fixture.broker.order("b");
    let second = vec![second];
    assert_eq!((sse.ids(1), ndjson.ids(1), websocket.ids(1)), (second.clone(), second.clone(), second));
    assert_eq!(disconnects(&fixture), 0.0, "all on the sockets that they were opened on");
    fixture.sidecar.signal("TERM");
    let told = sse.rest().last().unwrap().retry.unwrap();
    assert!((1000..=1500).contains(&told), "the new `retry`: {told}");
}

#[test]
fn streams_adopt_the_new_queue_and_refresh_url() {
    let fixture = Fixture::with_route("/stream", "ndjson", "queue: { events: 1000000, bytes: 1GiB }, refresh: /old");
    let (head, body) = deaf(&fixture, fixture.get("/stream"));
    let mut slow = Ndjson::over(head, body);
    rewrite(&fixture, |text| {
        text.replace("events: 1000000, bytes: 1GiB }, refresh: /old", "events: 2 }, refresh: /new")
    });
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
    let mut prompt = fixture.get("/stream").ndjson();
    let large = json!({"type": "t", "orderId": "o", "data": "x".repeat(64 * 1024)}).to_string();
    while fixture.sidecar.metric_sum("notifications_events_dropped_total") == 0.0 {
        let id = fixture.broker.produce("orders", 0, None, Some(large.as_bytes()));
        assert_eq!(prompt.ids(1), [id]);
    }
    let gap = std::iter::from_fn(|| slow.object()).find(|object| object["type"] == "gap").unwrap();
    assert_eq!((&gap["cause"], &gap["refresh"]), (&json!("overflow"), &json!("/new")));
}

#[test]
fn streams_end_only_if_their_meaning_changed() {
    let fixture = Plan::new(STANDARD).build();
    let mut stays = fixture.get("/auto").ndjson();
    let mut other_stream = fixture.get("/events").sse();
    let mut other_data = fixture.get("/stream").ndjson();
    let mut unbound = fixture.get("/orders/o1/ws").websocket();
    let mut shadowed = fixture.get("/orders/o1/events").sse();
    rewrite(&fixture, |text| {
        text.replace("path: /events, stream: orders", "path: /events, stream: notices")
            .replace("path: /stream, stream: orders,", "path: /stream, stream: orders, data: payload,")
            .replace(
                "/ws\", stream: orders, transport: ws, public: true, bind: { orderId: path.orderId } }",
                "/ws\", stream: orders, public: true }",
            )
            + "\n  - { path: /orders/o1/events, stream: notices, public: true }\n"
    });
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
    for mut stream in [other_stream.rest(), shadowed.rest()] {
        assert!(stream.pop().unwrap().retry.is_some());
    }
    assert!(other_data.object().is_none() && !other_data.cut);
    assert_eq!(unbound.closed(), 1012);
    let id = fixture.broker.order("o1");
    assert_eq!(stays.ids(1), [id]);
    drop((other_stream, other_data, unbound, shadowed));
    eventually_true("all are counted", || disconnects(&fixture) == 4.0);
    for (transport, ended) in [("sse", 2.0), ("stream", 1.0), ("ws", 1.0)] {
        let series = format!("notifications_{transport}_disconnects_total{{reason=\"reload\"}}");
        assert_eq!(fixture.sidecar.metric(&series), Some(ended), "{transport}");
    }
}

#[test]
fn a_sockets_further_subscriptions_count_as_well() {
    let fixture = Fixture::with_routes_open_to_ws(&["/spread/ws"]);
    let mut alone = fixture.get("/ws").websocket();
    let mut both = fixture.get("/ws").websocket();
    assert_eq!(both.ask(json!({"command": "subscribe", "resource": "/spread/ws"}))["data"]["status"], "ok");
    rewrite(&fixture, |text| {
        text.replace("path: /spread/ws, stream: spread,", "path: /spread/ws, stream: spread, heartbeat_interval: 7s,")
            .replace("subscribe: [", "subscribe: [/new/ws, ")
            + "\n  - { path: /new/ws, stream: notices, transport: ws, public: true }\n"
    });
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
    let spread = fixture.broker.event("spread", 0, json!({"type": "t", "data": 1}));
    assert_eq!(both.ids(1), [spread]);
    assert_eq!(
        alone.ask(json!({"command": "subscribe", "resource": "/new/ws"}))["data"]["status"],
        "ok",
        "a new route"
    );
    rewrite(&fixture, |text| text.replace("[/new/ws, \"/spread/ws\"]", "[/new/ws]"));
    fixture.sidecar.await_metric(SUCCESSES, 2.0);
    assert_eq!(both.closed(), 1012, "it may not subscribe to that any more");
    let mut both = fixture.get("/ws").websocket();
    assert_eq!(both.ask(json!({"command": "subscribe", "resource": "/new/ws"}))["data"]["status"], "ok");
    rewrite(&fixture, |text| {
        text.replace("path: /new/ws, stream: notices,", "path: /new/ws, stream: notices, data: payload,")
    });
    fixture.sidecar.await_metric(SUCCESSES, 3.0);
    assert_eq!(both.closed(), 1012, "what it subscribed to looks different now");
    assert_eq!(alone.closed(), 1012);
    let mut alone = fixture.get("/ws").websocket();
    assert_eq!(alone.ask(json!({"command": "subscribe", "resource": "/new/ws"}))["data"]["status"], "ok");
    let id = fixture.broker.notice("u");
    assert_eq!(alone.ids(1), [id]);
}

#[test]
fn streams_stay_as_long_as_their_tokens_key_is_trusted() {
    let fixture = Plan::new(STANDARD).build();
    let claims = json!({"sub": "u1", "exp": token::now() + 3600});
    let bearer = token::signed("HS256", token::SECRET, &claims);
    let mut mine = fixture.get("/mine/events").bearer(&bearer).sse();
    let mut public = fixture.get("/stream").ndjson();
    let key = |id: &str, secret: &str| json!({"kty": "oct", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret)});
    let (old, new) = (key("old", token::SECRET), key("new", "another secret of the tests, thirty-two bytes and more"));
    let publish = |keys: &[&Value]| {
        fs::write(fixture.config.with_file_name("jwks.json"), json!({ "keys": keys }).to_string()).unwrap();
    };
    publish(&[&old]);
    rewrite(&fixture, |text| text.replace("key_file: jwt.key", "jwks_file: jwks.json"));
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
    publish(&[&new, &old]);
    fixture.sidecar.await_metric(SUCCESSES, 2.0);
    let id = fixture.broker.notice("u1");
    assert_eq!(mine.ids(1), [id]);
    publish(&[&new]);
    fixture.sidecar.await_metric(SUCCESSES, 3.0);
    assert!(mine.rest().last().unwrap().retry.is_some());
    let id = fixture.broker.order("a");
    assert_eq!(public.ids(1), [id]);
}

fn disconnects(fixture: &Fixture) -> f64 {
    ["sse", "stream", "ws"]
        .iter()
        .map(|name| fixture.sidecar.metric_sum(&format!("notifications_{name}_disconnects_total")))
        .sum()
}

#[test]
fn a_broken_file_changes_nothing_and_the_next_good_one_is_taken() {
    let fixture = one_route("");
    assert_eq!(fixture.sidecar.metric(SUCCESSFUL), Some(1.0));
    let info = || {
        let text = fixture.sidecar.admin("/metrics").text();
        text.lines().find(|line| line.starts_with("notifications_config_info{sha256=")).map(String::from).unwrap()
    };
    let first = info();
    rewrite(&fixture, |text| format!("{text}\nnonsense: 1\nlimits: {{ steams: 1 }}\n"));
    fixture.sidecar.await_metric(SUCCESSFUL, 0.0);
    assert_eq!(fixture.sidecar.metric("notifications_config_reloads_total{result=\"invalid\"}"), Some(1.0));
    fixture.sidecar.await_log("unknown key `nonsense`");
    fixture.sidecar.await_log("(did you mean `streams`?)");
    assert_eq!((info(), fixture.sidecar.admin("/readyz").status()), (first.clone(), 200));
    assert_eq!(fixture.get("/events").open().0.status, 200);

    rewrite(&fixture, |text| format!("{}limits: {{ streams: 1 }}\n", text.split("nonsense").next().unwrap()));
    fixture.sidecar.await_metric(SUCCESSFUL, 1.0);
    assert_ne!(info(), first);
    let _only = fixture.get("/events").sse();
    assert!(fixture.get("/events").sse().rest().len() == 1, "the new limit holds");
}

#[test]
fn a_renewed_certificate_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let (first, second) = (1_893_456_000, 2_208_988_800);
    fs::write(&file, certificate(first)).unwrap();
    let properties = format!("{{ ssl.ca.location: {}, {}", file.display(), &KAFKA_PROPERTIES[1..]);
    let fixture = Fixture::plan_route("/events", "sse", "").kafka(&format!("properties: {properties}")).build();
    let series = format!(
        "notifications_certificate_expiry_timestamp_seconds{{cluster=\"kafka\",file=\"{}\",property=\"ssl.ca.location\"}}",
        file.display()
    );
    assert_eq!(fixture.sidecar.metric(&series), Some(first as f64));
    fs::write(folder.path().join("next"), certificate(second)).unwrap();
    fs::rename(folder.path().join("next"), &file).unwrap();
    fixture.sidecar.await_metric(&series, second as f64);
    fs::remove_file(&file).unwrap();
    eventually_true("it is not told of any more", || fixture.sidecar.metric(&series).is_none());
    assert_eq!(fixture.get("/echo").send().status(), 200);
}

/// A certificate with this expiry, in seconds since the Unix epoch.
fn certificate(end: i64) -> Vec<u8> {
    let key = PKey::generate_ed25519().unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(end).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::null()).unwrap();
    builder.build().to_pem().unwrap()
}

#[test]
fn changes_that_need_a_restart_are_named() {
    let mut fixture = one_route("");
    rewrite(&fixture, |text| format!("{}\nmetrics: {{ prefix: other }}\n", text.replace("writers: 2", "writers: 3")));
    fixture.sidecar.await_metric("notifications_config_reloads_total{result=\"needs-restart\"}", 1.0);
    fixture.sidecar.await_log("needs a restart: writers, metrics.prefix");
    fixture.restart();
    fixture.sidecar.await_metric("other_config_last_reload_successful", 1.0);
}

#[test]
fn a_hangup_reloads_whatever_the_content() {
    let mut fixture = one_route("");
    for n in 1..=2 {
        fixture.sidecar.signal("HUP");
        fixture.sidecar.await_metric(SUCCESSES, f64::from(n));
    }
    fixture.sidecar.terminate();
}

/// Requests a reload, like a user on the same host.
fn asked(sidecar: &Sidecar) -> Answer {
    Call::of_admin(sidecar.admin, "POST", "/-/reload").send()
}

#[test]
fn a_requested_reload_returns_its_result() {
    let fixture = one_route("");
    let answer = asked(&fixture.sidecar);
    assert_eq!((answer.status(), &answer.json()["result"]), (200, &json!("unchanged")));
    rewrite(&fixture, |text| format!("{text}\nnonsense: 1\n"));
    for _ in 0..2 {
        let answer = asked(&fixture.sidecar);
        let told = answer.json();
        assert_eq!((answer.status(), &told["result"]), (422, &json!("invalid")), "as often as asked");
        let line = fs::read_to_string(&fixture.config).unwrap().lines().count();
        assert_eq!((&told["diagnostics"][0]["line"], &told["diagnostics"][0]["column"]), (&json!(line), &json!(1)));
    }
    rewrite(&fixture, |text| text.replace("nonsense: 1", "metrics: { prefix: other }"));
    let answer = asked(&fixture.sidecar);
    assert_eq!((answer.status(), &answer.json()["changed"]), (422, &json!("needs a restart: metrics.prefix")));
    let foreign =
        Call::of_admin(fixture.sidecar.admin, "POST", "/-/reload").header("Origin", "https://evil.example").send();
    assert_eq!(foreign.status(), 403, "another site's page in a browser on this host");
}

#[test]
fn a_reload_requested_after_a_change_includes_the_change() {
    let fixture = one_route("retry: 1s");
    let mut retries = ["retry: 1s", "retry: 2s"];
    // The change may have been applied automatically before the request.
    eventually_true("told as applied", || {
        rewrite(&fixture, |text| text.replace(retries[0], retries[1]));
        retries.reverse();
        asked(&fixture.sidecar).json()["result"] == "applied"
    });
}

#[test]
fn a_routes_places_stay_taken() {
    let fixture = one_route("max_streams: 1");
    let first = fixture.get("/events").sse();
    rewrite(&fixture, |text| text.replace("max_streams: 1", "max_streams: 1, retry: 1s"));
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
    assert_eq!(fixture.get("/events").sse().rest().len(), 1, "turned away");
    drop(first);
    eventually_true("the place is free again", || {
        fixture.get("/events").sse().record().is_some_and(|record| record.retry.is_some_and(|ms| ms <= 1500))
    });
}

#[test]
fn a_key_is_rotated_by_changing_its_file() {
    let fixture = Plan::new(STANDARD).build();
    let status =
        |token: &str| fixture.get("/mine/events").header("Authorization", format!("Bearer {token}")).open().0.status;
    let new = "another secret of the tests, thirty-two bytes and more";
    let claims = json!({"sub": "u1", "exp": token::now() + 3600});
    let [old, new_token] = [token::SECRET, new].map(|secret| token::signed("HS256", secret, &claims));
    assert_eq!([&old, &new_token].map(|token| status(token)), [200, 401]);
    fs::write(fixture.config.with_file_name("jwt.key"), new).unwrap();
    fixture.sidecar.await_metric(SUCCESSES, 1.0);
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
    sidecar.await_log("there is no configuration file");
    sidecar.terminate();
}

fn without_a_file(upstream: &Upstream, broker: &Broker, log: &Path) -> Sidecar {
    let (upstream, brokers) = (upstream.address.to_string(), broker.address());
    let topics = ["--topic", "orders", "--topic", "spread"];
    Sidecar::start(&[&["run", "--upstream", &upstream, "--brokers", &brokers], &topics[..]].concat(), log)
}
