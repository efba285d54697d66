use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::{ForwardedTrust, Limits, ReplayLog, TopicConfig};
use super::*;
use crate::access::Source;
use crate::decode::mapping::Origin;
use crate::decode::{Format, ShownHeaders};
use crate::hub::ReplayLimits;
use crate::route::{Admission, Found, HeartbeatForm, Offer, Overflow, StreamRoute, Transport};

const MINIMAL: &str = "upstream: { address: 127.0.0.1:3000 }\nkafka: { brokers: kafka:9092 }\n";

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sidestream.yaml")
}

fn load(path: &Path) -> Result<Snapshot, LoadError> {
    read(path).snapshot
}

/// Compiles a configuration in a directory with a secret.
fn check(text: &str) -> Result<Snapshot, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("jwt.key"), "a secret of at least 32 bytes, for tests\n").unwrap();
    fs::write(folder.path().join("empty.key"), "\n").unwrap();
    fs::write(folder.path().join("password"), "pass word\r\n").unwrap();
    parse(text, "x.yaml", folder.path())
}

/// The errors in a configuration, one per line.
fn mistakes(text: &str) -> Vec<String> {
    match check(text).unwrap_err() {
        LoadError::Invalid(found) => found.iter().map(Diagnostic::to_string).collect(),
        LoadError::Unreadable { .. } => panic!("nothing was read"),
    }
}

/// Asserts that the minimal configuration with this text has exactly one error, at `@@`, with this message.
#[track_caller]
pub(super) fn refused(text: &str, message: &str) {
    let (before, behind) = text.split_once("@@").unwrap();
    let line = MINIMAL.lines().count() + before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().len() + 1;
    let start = format!("x.yaml:{line}:{column}: ");
    let found = mistakes(&format!("{MINIMAL}{before}{behind}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(&start) && found[0].contains(message), "{:?} is not {start:?}{message:?}", found[0]);
}

pub(super) fn route(text: &str) -> Arc<StreamRoute> {
    let streams = "streams: { s: { topics: [t], keys: [userId] } }\nauth: { key_file: jwt.key, algorithms: [HS256] }\n";
    let snapshot =
        check(&format!("{MINIMAL}{streams}routes:\n  - {{ path: '/x/{{id}}', stream: s, {text} }}\n")).unwrap();
    snapshot.routes.routes().next().unwrap().clone()
}

#[test]
fn the_example_is_valid() {
    let snapshot = load(&example()).unwrap_or_else(|error| panic!("{error}"));
    let found = snapshot.routes.find("/orders/42/events");
    let Found::Stream { route, params } = found else { panic!("{found:?}") };
    assert_eq!((&*route.stream.name, &*params[0].1), ("orders", "42"));
    assert_eq!(snapshot.verifier.unwrap().cookie(), Some("session"));
    assert_eq!(snapshot.writers, 2);
}

#[test]
fn the_example_contains_every_key() {
    let text = fs::read_to_string(example()).unwrap();
    let diagnostics = Diagnostics::new("");
    let root = file::read(&text, &diagnostics).unwrap();
    compile::compile(&root, example().parent().unwrap(), &ReadOptions::default(), &diagnostics).unwrap();
    let asked = diagnostics.asked.borrow();
    let missing: Vec<_> = asked.iter().filter(|(_, is_there)| !**is_there).map(|(key, _)| key).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(asked.contains_key("routes.websocket.pong_timeout"), "{asked:?}");
}

#[test]
fn the_examples_values_are_the_defaults() {
    let example = load(&example()).unwrap();
    let minimal = check(MINIMAL).unwrap();
    assert_eq!((example.listen, example.admin), (minimal.listen, minimal.admin));
    assert_eq!(example.upstream, minimal.upstream);
    assert_eq!(example.forwarded, minimal.forwarded);
    assert_eq!((example.kafka.warm_up, &example.kafka.brokers), (minimal.kafka.warm_up, &minimal.kafka.brokers));
    // The default memory limit depends on the machine, and the example shows a quota.
    let limits = Limits { memory: minimal.limits.memory, quotas: [].into(), ..example.limits.clone() };
    assert_eq!((&limits, example.replay), (&minimal.limits, minimal.replay));
    assert_eq!((example.limits.memory, example.limits.quotas.len()), (Some(256 << 20), 1));
    assert_eq!((example.metrics_prefix, example.drain), (minimal.metrics_prefix, minimal.drain));
    let (listed, unlisted) = (&example.clusters[0].topics[0], &example.kafka.topics[0]);
    assert_eq!((listed.shape.format, &listed.shape.headers), (unlisted.shape.format, &unlisted.shape.headers));
    assert_eq!((listed.replay_events, listed.replay_bytes), (unlisted.replay_events, unlisted.replay_bytes));

    let routes: Vec<_> = example.routes.routes().collect();
    let (full, plain) = (routes[0], routes[1]);
    assert_eq!((full.heartbeat, full.heartbeat_form), (plain.heartbeat, plain.heartbeat_form));
    assert_eq!((full.retry, full.on_gap, full.data), (plain.retry, plain.on_gap, plain.data));
    assert_eq!((full.queue, full.websocket), (plain.queue, plain.websocket));
    assert_eq!((full.event_field, full.other_methods), (plain.event_field, plain.other_methods));
}

#[test]
fn every_written_value_reaches_the_snapshot() {
    let snapshot = check(
        "listen: 127.0.0.1:0\n\
         upstream: { address: '[::1]:3000', read_timeout: 250ms, retries: 0 }\n\
         forwarded: { trust: [10.0.0.0/8, '::1'] }\n\
         kafka:\n\
         \x20 brokers: a:1,b:2\n\
         \x20 properties: { security.protocol: SASL_SSL, sasl.mechanism: PLAIN, sasl.username: u, fetch.wait.max.ms: 10, check.crcs: true }\n\
         \x20 property_files: { sasl.password: password }\n\
         topics: { t: { replay: { events: 7, bytes: 16MB } } }\n\
         replay: { events: 0, bytes: 1MB, time: 5s, cache: 8MiB }\n\
         tracing: { endpoint: 'http://otel:4318/in/', sample: 1 }\n\
         streams: { s: { topics: [u, t], keys: [b] }, other: { topics: [t], keys: [a, b] } }\n",
    )
    .unwrap();
    assert_eq!(snapshot.listen.to_string(), "127.0.0.1:0");
    assert_eq!(snapshot.upstream.read_timeout, Duration::from_millis(250));
    let networks = [(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8), ("::1".parse().unwrap(), 128)];
    assert_eq!(snapshot.forwarded, ForwardedTrust::Networks(networks.into()));
    let properties = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "u"),
        ("fetch.wait.max.ms", "10"),
        ("check.crcs", "true"),
    ];
    assert_eq!(snapshot.kafka.properties, properties.map(|(name, value)| (name.into(), value.into())));
    let [(name, path)] = &snapshot.kafka.property_files[..] else { panic!("one file") };
    assert!(name == "sasl.password" && path.ends_with("password"), "{name} {path:?}");
    let keys = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
    let t =
        TopicConfig { replay_events: 7, replay_bytes: 16_000_000, ..TopicConfig::new("t".into(), keys(&["a", "b"])) };
    let u = TopicConfig { replay_events: 500, replay_bytes: 16 << 20, ..TopicConfig::new("u".into(), keys(&["b"])) };
    assert_eq!(snapshot.kafka.topics, [t, u]);
    let tracing = snapshot.tracing.unwrap();
    assert_eq!((tracing.sample, &*tracing.service_name), (1.0, "sidestream"));
    assert_eq!((&*tracing.endpoint.authority, &*tracing.endpoint.path_with(&[])), ("otel:4318", "/in/v1/traces"));
    let limits = ReplayLimits { events: 0, bytes: 1_000_000, time: Duration::from_secs(5) };
    assert_eq!(snapshot.replay, ReplayLog { limits, cache_bytes: 8 << 20 });
}

#[test]
fn a_topic_is_compiled() {
    let snapshot = check(&format!(
        "{MINIMAL}clusters:\n\
         \x20 eu: {{ brokers: 'eu:1', properties: {{ client.id: x }} }}\n\
         \x20 idle: {{ brokers: 'idle:1' }}\n\
         topics:\n\
         \x20 a: {{ cluster: eu, topic: a.v1, format: json, headers: [h], map: {{ ts: 'header:t', keys: {{ x: key }} }} }}\n\
         \x20 b: {{ cluster: eu, headers: true, format: binary }}\n\
         streams: {{ s: {{ topics: [a, b, c], keys: [x, y] }} }}\n"
    ))
    .unwrap();
    let [eu] = &snapshot.clusters[..] else { panic!("{:?}", snapshot.clusters) };
    assert_eq!(
        (&*eu.cluster, &*eu.brokers, eu.properties.len(), eu.warm_up),
        ("eu", "eu:1", 1, snapshot.kafka.warm_up)
    );
    let names = |cluster: &super::snapshot::Kafka| {
        cluster.topics.iter().map(|topic| topic.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((names(eu), names(&snapshot.kafka)), (vec!["a".into(), "b".into()], vec!["c".into()]));
    let (a, b) = (&eu.topics[0], &eu.topics[1]);
    assert_eq!(
        (&*a.source, &*b.source, b.shape.format, &b.shape.headers),
        ("a.v1", "b", Format::Binary, &ShownHeaders::All)
    );
    assert_eq!(a.shape.headers, ShownHeaders::Named(["h".into()].into()));
    let mapping = a.shape.mapping.as_ref().unwrap();
    assert_eq!((&mapping.kind, &mapping.ts), (&Origin::field("type"), &Origin::Header("t".into())));
    assert_eq!(*mapping.keys, [("x".into(), Origin::Key), ("y".into(), Origin::field("y"))]);
    assert_eq!(b.shape.mapping, None);
}

#[test]
fn refuses_topics_that_cannot_be_read_as_written() {
    let topic = |text: &str| {
        format!(
            "clusters: {{ eu: {{ brokers: 'a:1' }} }}\nstreams: {{ s: {{ topics: [t, u], keys: [userId] }} }}\ntopics: {{ t: {{ {text} }} }}\n"
        )
    };
    refused(&topic("format: @@xml"), "found `xml`; expected `json`, `text` or `binary`");
    refused(&topic("headers: @@yes"), "found `yes`; expected `true`, `false` or a list of names");
    refused(&topic("headers: @@[5]"), "found a list; expected `true`");
    refused(&topic("cluster: @@us"), "there is no cluster `us`; expected `kafka` or `eu`");
    refused(&topic("topic: @@'a b'"), "found `a b`; expected a topic's name");
    refused(&topic("topic: @@u"), "the topic `u` of the cluster `kafka` is read as");
    refused(&topic("map: { type: @@eventType }"), "found `eventType`; expected a JSON pointer such as");
    refused(&topic("map: { ts: @@'const:1' }"), "the time of every event can't be one constant");
    refused(&topic("map: { keys: { userId: @@user } }"), "`topics.t.map.keys`: found `user`; expected a JSON pointer");
    refused(&topic("map: { keys: { @@userid: key } }"), "declares the key `userid` (did you mean `userId`?)");
    refused(&topic("map: { @@kind: key }"), "unknown key `topics.t.map.kind`");
    refused(&topic("format: text, map: { type: @@/a }"), "points at nothing in text or bytes");
    refused(&topic("format: binary, map: { keys: { userId: @@/a } }"), "points at nothing in text or bytes");
    refused("clusters: { eu: @@{} }\n", "`clusters.eu.brokers` is missing");
    refused("clusters: { @@kafka: { brokers: 'a:1' } }\n", "`kafka` is the cluster of the section `kafka`");
    let owned = "clusters: { eu: { brokers: 'a:1', properties: { @@enable.auto.commit: true } } }\n";
    refused(owned, "`enable.auto.commit` is set by sidestream itself");
}

#[test]
fn a_route_is_compiled() {
    let compiled = route("transport: ws, heartbeat: message, bind: { userId: claims.org.id }, max_streams: 3");
    assert_eq!(compiled.offer, Offer::Only(Transport::WebSocket));
    assert_eq!(compiled.heartbeat_form, HeartbeatForm::Visible);
    assert_eq!(compiled.bindings[0].sources[0], Source::Claim(["org".into(), "id".into()].into()));
    assert_eq!((compiled.admission, compiled.max_streams), (Admission::Token, Some(3)));
    assert_eq!(route("public: true, bind: { userId: path.id }").bindings[0].sources[0], Source::Path("id".into()));
    assert_eq!(route("public: true").admission, Admission::Public);
    assert_eq!(route("public: false").admission, Admission::Token);
}

#[test]
fn stream_ids_are_stable_across_loads() {
    let id = |stream: &str| {
        let text =
            format!("{MINIMAL}streams: {{ s: {{ {stream} }} }}\nroutes: [{{ path: /, stream: s, public: true }}]\n");
        check(&text).unwrap().routes.routes().next().unwrap().stream.id
    };
    let first = id("topics: [t]");
    let others = [id("topics: [t, u]"), id("topics: [t], keys: [k]")];
    assert_eq!(id("topics: [t]"), first);
    assert!(!others.contains(&first) && others[0] != others[1], "{first} {others:?}");
}

#[test]
fn every_error_is_reported_at_once_with_its_position() {
    let text = "\
listen: 8080
upstream: { adress: localhost, connect_timeout: 5 }
kafka:
  brokers: kafka:9092
  properties: { enable.auto.commit: x }
streams:
  orders: { topics: [or ders], keys: [type] }
routes:
  - path: /orders/{id}
    stream: order
    heartbeat_interval: 0s
    bind: { id: path.orderId }
  - path: /orders/{other}
    stream: orders
    public: true
    queue: { overflow: block }
colour: red
";
    let expected = [
        "x.yaml:1:9: `listen`: found `8080`; expected an IP address and a port such as `0.0.0.0:8080`",
        "x.yaml:2:11: `upstream.address` is missing: the `host:port` of the REST service",
        "x.yaml:2:13: unknown key `upstream.adress` (did you mean `address`?); expected `address`, `connect_timeout`, \
         `keepalive`, `pool`, `read_timeout`, `retries` or `write_timeout`",
        "x.yaml:2:49: `upstream.connect_timeout`: found `5`; expected a duration with its unit (ms, s, m, h) between 1ms and 24h",
        "x.yaml:5:17: `enable.auto.commit` is set by sidestream itself",
        "x.yaml:7:22: `streams.orders.topics`: found `or ders`; expected a topic's name: 1 to 249 characters of `[A-Za-z0-9._-]`",
        "x.yaml:7:39: `type` is a field of events and can't be a key",
        "x.yaml:9:11: this route would be open to everybody: tokens can't be verified without `auth`; expected \
         `public: true`, or `auth`",
        "x.yaml:10:13: there is no stream `order` (did you mean `orders`?); expected `orders`",
        "x.yaml:11:25: `routes.heartbeat_interval`: found `0s`; expected a duration with its unit (ms, s, m, h) between 1s and 10m",
        "x.yaml:12:17: the path has no parameter `orderId`; expected `id`",
        "x.yaml:13:11: `routes.path`: `/orders/{other}` matches the same paths as the route in line 9",
        "x.yaml:16:24: `routes.queue.overflow`: found `block`; expected `drop-oldest`, `drop-newest`, `disconnect` or `coalesce`",
        "x.yaml:17:1: unknown key `colour`; expected `admin`, `auth`, `clusters`, `cors`, `drain`, `forwarded`, `kafka`, `limits`, \
         `listen`, `metrics`, `probe`, `replay`, `routes`, `streams`, `topics`, `tracing`, `upstream` or `writers`",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn refuses_what_is_no_yaml_or_no_mapping() {
    assert_eq!(mistakes("a: [1\nb: 2"), ["x.yaml:2:2: not valid YAML: illegal placement of ':' indicator"]);
    assert_eq!(
        mistakes("a: 1\n---\nb: 2\n"),
        ["x.yaml:3:1: a second YAML document begins here; a configuration is one"]
    );
    assert!(mistakes("").iter().all(|mistake| mistake.starts_with("x.yaml:1:1: ") && mistake.contains("is missing")));
    assert!(mistakes("- a\n").contains(&"x.yaml:1:1: found a list; expected a mapping of keys".into()));
    refused("limits: @@5\n", "found `5`; expected a mapping");
    refused("drain: { budget: 1s }\n@@drain: { budget: 2s }\n", "`drain` is given twice");
}

#[test]
fn refuses_values_out_of_range() {
    refused("admin: { listen: @@':9090' }\n", "found `:9090`; expected an IP address and a port");
    refused("limits: { streams: @@0 }\n", "found `0`; expected a whole number between 1 and");
    refused(
        "limits: { streams: @@11, connections: 10 }\n",
        "`limits.streams` is more than `limits.connections`, 10, allows",
    );
    refused("limits: { idle_timeout: @@1.5s }\n", "found `1.5s`; expected a duration");
    refused("drain: { budget: @@0s }\n", "found `0s`; expected a duration");
    refused("drain: { budget: @@1h }\n", "found `1h`; expected a duration");
    refused("replay: { time: @@0s }\n", "found `0s`; expected a duration");
    refused("replay: { cache: @@1MiB }\n", "found `1MiB`; expected a size");
    refused("writers: @@0\n", "found `0`");
    refused("writers: @@two\n", "found `two`");
    refused("metrics: { prefix: @@2fast }\n", "found `2fast`; expected a metric name");
    refused("metrics: { prefix: @@a-b }\n", "found `a-b`; expected a metric name");
    refused("tracing: { endpoint: @@'https://c:4318' }\n", "`https` is not spoken here");
    refused("tracing: { endpoint: @@'127.0.0.1:4318' }\n", "expected the URL of an OpenTelemetry collector's receiver");
    refused("tracing: { endpoint: @@'http://me:secret@c/' }\n", "expected the URL");
    refused("tracing: { sample: @@1.5 }\n", "found `1.5`; expected a number between 0 and 1");
    refused("tracing: { service_name: @@'' }\n", "expected a text of 1 to 255 bytes");
    refused("forwarded: { trust: @@some }\n", "found `some`; expected `none`, `all` or a list");
    refused("forwarded: { trust: [@@10.0.0.0/33] }\n", "found `10.0.0.0/33`");
}

#[test]
fn refuses_topics_without_a_stream_and_empty_streams() {
    let stream = "streams: { s: { topics: [orders] } }\n";
    refused(
        &format!("{stream}topics: {{ @@order: }}\n"),
        "no stream carries the topic `order` (did you mean `orders`?)",
    );
    refused("streams: { s: { topics: @@[] } }\n", "`topics` of the stream `s` is empty");
    refused("streams: { s: { topics: @@5 } }\n", "found `5`; expected a list");
    refused("streams: { s: @@5 }\n", "`streams.s`: found `5`; expected a mapping");
    refused("routes: [@@5]\n", "`routes`: found `5`; expected a mapping");
    refused("streams: { s: @@{} }\n", "`streams.s.topics` is missing");
    refused("streams: { s: { topics: [t, @@t] } }\n", "the topic `t` is listed twice");
    refused("streams: { s: { topics: [t], keys: [a, @@a] } }\n", "the key `a` is listed twice");
    refused("streams: { @@'s s': { topics: [t] } }\n", "`s s` is not a valid stream name");
}

#[test]
fn refuses_cors_policies_that_browsers_reject_or_that_match_no_page() {
    let cors = |text: &str| format!("cors: {{ {text} }}\n");
    refused(&cors("origins: ['*'], credentials: @@true"), "would let every site read with the user's cookie");
    refused(&cors("origins: [@@https://a.example/]"), "`https://a.example/`: an origin has no path");
    refused(&cors("origins: [@@https://A.example]"), "written in lower case");
    refused(&cors("origins: [@@https://a.example:443]"), "browsers leave out the default port");
    refused(&cors("origins: [@@'null']"), "it identifies no page");
    refused(&cors("origins: [@@'https://a*.example']"), "a wildcard is the whole first label");
    refused(&cors("origins: [https://a.example, @@https://a.example]"), "`https://a.example` is listed twice");
    refused(&cors("origins: @@https://a.example"), "expected a list");
    refused(&cors("origins: [], headers: [@@'a b']"), "expected the name of a request header");
    refused(&cors("origins: [], max_age: @@25h"), "found `25h`");
    refused("cors: @@{ credentials: true }\n", "`cors.origins` is missing");
}

#[test]
fn refuses_quotas_that_limit_nothing() {
    let quota = |text: &str| format!("limits: {{ quotas: [{text}] }}\n");
    refused(&quota("@@{ by: address }"), "the quota limits nothing; expected `streams`, `opens_per_minute`, or both");
    refused(&quota("@@{ streams: 1 }"), "`limits.quotas.by` is missing");
    refused(&quota("{ by: @@sub, streams: 1 }"), "found `sub`; expected `address` or `claims.<claim>`");
    refused(&quota("{ by: address, streams: @@0 }"), "found `0`");
    refused(
        &quota("{ by: claims.sub, streams: 1 }, { by: @@claims.sub, opens_per_minute: 1 }"),
        "another quota counts by `claims.sub`",
    );
    let nine = (0..9).map(|n| format!("{{ by: claims.c{n}, streams: 1 }}")).collect::<Vec<_>>().join(", ");
    refused(&format!("limits: {{ quotas: @@[{nine}] }}\n"), "there are more than 8 quotas");
}

#[test]
fn refuses_routes_that_would_do_harm() {
    let stream = "streams: { s: { topics: [t], keys: [userId] } }\n";
    let public = |text: &str| format!("{stream}routes: [{{ public: true, path: /x, stream: s, {text} }}]\n");
    refused(&public("bind: { userId: @@claims.sub }"), "a public route has no token");
    refused(&public("bind: { userId: @@path.id }"), "the path has no parameter `id`");
    refused(&public("bind: { userId: @@sub }"), "found `sub`; expected `path.<parameter>`,");
    refused(&public("allowed_origins: [@@'*']"), "`*` would let every site");
    refused(&public("allowed_origins: [@@https://a.b/]"), "found `https://a.b/`; expected an origin");
    refused(&public("refresh: @@orders"), "found `orders`; expected a URL");
    refused(&public("heartbeat_interval: @@11m"), "found `11m`");
    refused(&public("queue: { events: @@0 }"), "found `0`");
    refused(&public("queue: { bytes: @@1k }"), "found `1k`; expected a size");
    refused(&public("websocket: { frames: @@binary }"), "binary frames hold the payload alone, not an envelope");
    refused(&public("websocket: { subprotocols: [@@a b] }"), "found `a b`");
    refused(&public("websocket: { subscribe: [@@x] }"), "found `x`; expected the `path` of a route");
    refused(&public("websocket: { subscribe: [/x, @@/y] }"), "no route that offers WebSocket has the path `/y`");
    refused(&public("transport: sse, websocket: { subscribe: [@@/x] }"), "has the path `/x`");
    let route = |text: &str| format!("{stream}routes: [{{ stream: s, {text} }}]\n");
    refused(&route("path: @@/x"), "this route would be open to everybody");
    refused(&route("path: @@x, public: true"), "`x` is not a valid pattern");
    refused(
        &route("path: '/x/{id}', public: true, bind: { @@user: path.id }"),
        "the stream `s` declares no key `user`",
    );
    refused(
        &route("path: '/x/{id}', public: true, bind: { userId: @@path.di }"),
        "the path has no parameter `di` (did",
    );
    refused(
        &format!("auth: {{ key_file: jwt.key, algorithms: [HS256] }}\n{}", route("path: /x, public: @@yes")),
        "found `yes`",
    );
}

#[test]
fn refuses_keys_and_algorithms_that_do_not_fit() {
    let auth = |text: &str| format!("auth: {text}\n");
    refused(&auth("@@{ key_file: jwt.key }"), "`auth.algorithms` is missing");
    refused(&auth("@@{ algorithms: [HS256] }"), "`auth.key_file` is missing");
    refused(&auth("{ key_file: jwt.key, jwks_file: @@jwt.key, algorithms: [HS256] }"), "expected one of them");
    refused(&auth("{ jwks_file: @@jwt.key, algorithms: [HS256] }"), "`auth.jwks_file`: the file is not a JWKS");
    refused(&auth("{ jwks_url: 'https://i/keys', discovery: @@true, algorithms: [RS256] }"), "expected one of them");
    refused(&auth("{ jwks_url: @@'file:///keys', algorithms: [RS256] }"), "expected a URL");
    refused(&auth("{ jwks_url: @@'https://me:pass@i/keys', algorithms: [RS256] }"), "expected a URL");
    refused(&auth("{ jwks_url: @@'https://i/keys', algorithms: [HS256] }"), "needs a secret, which no URL publishes");
    refused(&auth("@@{ discovery: true, algorithms: [RS256] }"), "`auth.issuer` is missing");
    refused(&auth("{ issuer: @@login, discovery: true, algorithms: [RS256] }"), "expected a URL");
    refused(&auth("{ issuers: @@[] }"), "`auth.issuers` is empty");
    let forward = |text: &str| auth(&format!("{{ forward: {text} }}"));
    refused(&forward("@@{ cache: 1s }"), "`auth.forward.url` is missing");
    refused(&forward("{ url: @@me }"), "expected a URL");
    refused(&forward("{ url: @@'https://me:pass@i/x' }"), "expected a URL");
    refused(&forward("{ url: @@'http://127.0.0.1:8080/me' }"), "leads back to sidestream");
    refused(&forward("{ url: /me, cache: @@2m }"), "would hold for longer");
    refused(&forward("{ url: /me, request_headers: @@[] }"), "no request would have credentials");
    refused(&forward("{ url: /me, request_headers: [Cookie, @@Host] }"), "set by sidestream");
    refused(&forward("{ url: /me, request_headers: [Cookie, @@cookie] }"), "each name once");
    refused(&forward("{ url: /me, claims: { sub: @@'X User' } }"), "the name of a header field");
    refused(&auth("{ forward: { url: /me }, cookie: @@session }"), "verifies no token");
    let revocations = |text: &str| auth(&format!("{{ key_file: jwt.key, algorithms: [HS256], revocations: {text} }}"));
    refused(&revocations("{ topic: @@a/b }"), "the name of a topic");
    refused(&revocations("{ topic: t, cluster: @@eu }"), "there is no cluster `eu`");
    refused(&revocations("{ keep: @@1s }"), "found `1s`");
    let takes_token =
        "streams: { s: { topics: [t] } }\nroutes: [{ path: /x, stream: s, transport: ws, token_from: @@[message] }]\n";
    refused(&format!("{}{takes_token}", forward("{ url: /me }")), "takes no token");
    refused(&auth("{ issuers: [@@{ key_file: jwt.key, algorithms: [HS256] }] }"), "`auth.issuers.issuer` is missing");
    let one = "{ issuer: i, key_file: jwt.key, algorithms: [HS256] }";
    refused(&auth(&format!("{{ issuers: [{one}, {}] }}", one.replace(": i", ": @@i"))), "`i` is listed twice");
    refused(
        &auth(&format!("{{ @@key_file: jwt.key, issuers: [{one}] }}")),
        "unknown key `auth.key_file`; expected `cookie`",
    );
    refused(&auth("{ key_file: jwt.key, algorithms: @@[] }"), "no algorithm is allowed");
    refused(&auth("{ key_file: jwt.key, algorithms: [@@none] }"), "found `none`; expected `HS256`");
    refused(&auth("{ key_file: jwt.key, algorithms: @@[HS256, RS256] }"), "the algorithms are of several families");
    refused(&auth("{ key_file: @@jwt.key, algorithms: [RS256] }"), "the key is not a PEM public key");
    refused(&auth("{ key_file: @@empty.key, algorithms: [HS256] }"), "the secret is empty");
    refused(&auth("{ key_file: @@nowhere.key, algorithms: [HS256] }"), "the file named here cannot be read: ");
    refused(&auth("{ key_file: jwt.key, algorithms: [HS256], cookie: @@'a b' }"), "found `a b`");
    refused(&auth("{ key_file: jwt.key, algorithms: [HS256], leeway: @@6m }"), "found `6m`");
}

#[test]
fn refuses_reserved_properties_and_quotes_no_secrets() {
    for (property, _) in [("bootstrap.servers", ()), ("enable.auto.commit", ()), ("auto.offset.reset", ())] {
        let text =
            format!("upstream: {{ address: a:1 }}\nkafka: {{ brokers: a:1, properties: {{ {property}: x }} }}\n");
        let found = mistakes(&text);
        assert!(
            found[0].starts_with("x.yaml:2:38: `") && found[0].contains("is set by sidestream itself"),
            "{found:?}"
        );
    }
    refused_of_client("check.crcs: @@perhaps", "`check.crcs`: Expected bool value");
    refused_of_client("@@compresion: x", "`compresion` is not a librdkafka property");
    let found = mistakes(
        "upstream: { address: a:1 }\n\
         kafka:\n\
         \x20 brokers: a:1\n\
         \x20 properties: { sasl.password: 12.5, Sasl.user: secret }\n\
         \x20 property_files: { sasl.password: password, ssl.key.password: nowhere }\n",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(!found.concat().contains("12.5") && !found.concat().contains("secret"), "{found:#?}");
}

/// Asserts that a property of the Kafka client has exactly this error, at `@@`.
#[track_caller]
fn refused_of_client(property: &str, message: &str) {
    let line = format!("kafka: {{ brokers: a:1, properties: {{ {property} }} }}");
    let column = line.find("@@").unwrap() + 1;
    let found = mistakes(&format!("upstream: {{ address: a:1 }}\n{}\n", line.replace("@@", "")));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(&format!("x.yaml:2:{column}: {message}")), "{found:#?}");
}

/// The warnings of a valid configuration, one per line.
fn warnings(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.key"), "short").unwrap();
    let path = folder.path().join("x.yaml");
    fs::write(&path, format!("{MINIMAL}{text}")).unwrap();
    let reading = read(&path);
    reading.snapshot.unwrap_or_else(|error| panic!("{error}"));
    let place = format!("{}:", path.display());
    reading.warnings.iter().map(|warning| warning.to_string().replace(&place, "")).collect()
}

#[test]
fn warns_of_settings_that_are_probably_unintended() {
    let route = |heartbeat: &str, rest: &str| {
        warnings(&format!(
            "streams: {{ s: {{ topics: [t] }} }}\nroutes: [{{ path: /, stream: s, public: true, heartbeat_interval: \
             {heartbeat} }}]\n{rest}"
        ))
    };
    assert_eq!(route("59s", ""), [""; 0]);
    let found = route("1m", "");
    assert!(found.len() == 1 && found[0].starts_with("4:66: warning: proxies on the path"), "{found:?}");
    let found = route("59s", "limits: { idle_timeout: 30s }\n");
    assert!(found.len() == 1 && found[0].contains("`limits.idle_timeout`, 30s"), "{found:?}");
    let found = warnings("auth: { key_file: short.key, algorithms: [HS256] }\n");
    assert!(found.len() == 1 && found[0].starts_with("3:19: warning: the secret has 5 bytes"), "{found:?}");
    let text = "upstream: { address: a:1 }\nkafka: { brokers: a:1, required_for_readiness: true }\n";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.yaml"), text).unwrap();
    let found = read(&folder.path().join("x.yaml")).warnings;
    assert!(found.len() == 1 && (found[0].line, found[0].column) == (2, 48), "{found:?}");
}

#[test]
fn an_error_is_shown_with_its_line_without_secrets() {
    let error = |text: &str| parse(text, "x.yaml", Path::new("")).unwrap_err().to_string();
    let text = "upstream: { address: a:1 }\nkafka: { brokers: a:1 }\nlimits: { steams: 5 }\n";
    assert!(error(text).contains("(did you mean `streams`?)"));
    assert!(error(text).ends_with("\n     3 | limits: { steams: 5 }\n       |           ^^^^^^"), "{}", error(text));
    let hidden = [
        "kafka: { brokers: a:1, properties: { sasl.password: hunter2 }, nonsense: 1 }\n",
        "kafka:\n  properties: [hunter2]\n",
        "kafka:\n  properties:\n    sasl.password: hunter2 ]\n",
        "kafka:\n  properties:\n    sasl.password: \"hunter2\n",
    ];
    for text in hidden {
        assert!(!error(text).contains("hunter2"), "{}", error(text));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_an_invalid_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.yaml");
    assert!(matches!(load(&path), Err(LoadError::Unreadable { .. })));
    assert!(matches!(load(folder.path()), Err(LoadError::Unreadable { .. })));
    fs::write(&path, b"a: b\nc: \xff").unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}:2:4: not UTF-8", path.display()));
    fs::write(&path, MINIMAL).unwrap();
    assert!(load(&path).is_ok());
}

#[test]
fn states_are_coalesced_where_there_are_keys_and_queues_are_not_too_long() {
    let coalesce = route("queue: { overflow: coalesce, events: 4096 }").queue;
    assert_eq!((coalesce.overflow, coalesce.events), (Overflow::Coalesce, 4096));
    let streams = "streams: { s: { topics: [t], keys: [k] }, none: { topics: [t] } }\nroutes:\n";
    refused(
        &format!(
            "{streams}  - {{ path: /x, stream: s, public: true, queue: {{ overflow: coalesce, events: @@4097 }} }}\n"
        ),
        "a queue of more than 4096 events can't be coalesced",
    );
    refused(
        &format!("{streams}  - {{ path: /x, stream: none, public: true, queue: {{ overflow: @@coalesce }} }}\n"),
        "the stream `none` declares no keys",
    );
}
