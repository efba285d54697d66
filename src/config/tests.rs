use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::{ForwardedTrust, HeartbeatScope, Limits, ReplayLog, TopicConfig, Upstream, UpstreamStreams};
use super::*;
use crate::access::Source;
use crate::decode::mapping::Origin;
use crate::decode::{Format, ShownHeaders};
use crate::hub::ReplayLimits;
use crate::network::Network;
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
    fs::write(folder.path().join("keys.yaml"), "[]\n").unwrap();
    fs::write(folder.path().join("empty.key"), "\n").unwrap();
    fs::write(folder.path().join("password"), "pass word\r\n").unwrap();
    parse(text, "x.yaml", folder.path())
}

/// The errors in a configuration, one per line.
pub(super) fn mistakes(text: &str) -> Vec<String> {
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
    assert_eq!(snapshot.verifier.unwrap().fields().cookie, Some("session"));
    assert_eq!(snapshot.writers, 2);
}

#[test]
fn a_drain_budget_from_another_environment_is_unknown() {
    assert_eq!(drain_budget("drain: { budget: 5s }"), Some(Duration::from_secs(5)));
    assert_eq!(drain_budget("drain: { budget: '${DRAIN_BUDGET:-5s}' }"), None);
}

/// A variable may contain a key instead of the name of its file.
#[test]
fn the_value_of_a_variable_is_not_shown_as_a_file_name() {
    let properties = "{ ssl.key.location: '${PATH}', security.protocol: ssl }";
    let text = MINIMAL.replace("kafka: {", &format!("kafka: {{ properties: {properties},"));
    let error = check(&text).unwrap_err().to_string();
    assert!(error.contains("`ssl.key.location`: the file cannot be read"), "{error}");
    assert!(!error.contains(&std::env::var("PATH").unwrap()), "{error}");
}

#[test]
fn the_example_contains_every_key() {
    let text = fs::read_to_string(example()).unwrap();
    let diagnostics = Diagnostics::new("");
    let root = file::read(&text, &diagnostics).unwrap();
    compile::compile(&root, example().parent().unwrap(), &ReadOptions::default(), &diagnostics).unwrap();
    let asked = diagnostics.asked.borrow();
    // One stream with a key is enough.
    let name = |key: &str| match key.strip_prefix("streams.") {
        Some(rest) => format!("streams.{}", rest.split_once('.').unwrap().1),
        None => key.to_owned(),
    };
    let is_shown = |key: &str| asked.iter().any(|(other, is_there)| *is_there && name(other) == name(key));
    let missing: Vec<_> = asked.keys().filter(|key| !is_shown(key)).collect();
    assert!(missing.is_empty(), "add to conf/sidestream.yaml, with a comment: {missing:?}");
    assert!(asked.contains_key("routes.websocket.pong_timeout"), "{asked:?}");
}

#[test]
fn the_examples_values_are_the_defaults() {
    let example = load(&example()).unwrap();
    let minimal = check(MINIMAL).unwrap();
    assert_eq!((example.listen, example.admin), (minimal.listen, minimal.admin));
    let streams = UpstreamStreams { paths: Box::default(), ..example.upstream.streams.clone() };
    assert_eq!(Upstream { streams, ..example.upstream.clone() }, minimal.upstream);
    assert_eq!(example.upstream.streams.paths.len(), 1);
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
fn streams_of_the_upstream_have_settings_by_path() {
    let streams = |keys: &str| {
        let text = format!("upstream: {{ address: 'a:1', streams: {{ {keys} }} }}\nkafka: {{ brokers: 'b:1' }}");
        check(&text).map(|snapshot| snapshot.upstream.streams)
    };
    let paths = "paths: [{ path: '/a/{b}', heartbeat: none, early: true }, { path: '/a/{c}' }, { path: /d }]";
    let written = streams(&format!("heartbeat: all, heartbeat_interval: 5s, read_timeout: 2h, {paths}")).unwrap();
    assert_eq!((written.heartbeat_interval, written.read_timeout), (Duration::from_secs(5), Duration::from_secs(7200)));
    let on = |path: &str| (written.heartbeat_on(path), written.on_path(path).map(|found| found.early));
    assert_eq!(on("/a/x"), (HeartbeatScope::None, Some(true)), "the first one");
    assert_eq!(on("/d"), (HeartbeatScope::All, Some(false)));
    assert_eq!(on("/e"), (HeartbeatScope::All, None));
    for wrong in ["paths: [{ path: a }]", "paths: [{ heartbeat: sse }]", "heartbeat: ndjson", "heartbeat_interval: 1ms"]
    {
        assert!(streams(wrong).is_err(), "{wrong}");
    }
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
    let networks = ["10.0.0.0/8", "::1/128"].map(|text| Network::parse(text).unwrap());
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
    assert_eq!(tracing.endpoint.uri().unwrap(), "http://otel:4318/in/v1/traces");
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
    assert_eq!((&mapping.kind, &mapping.ts), (&Origin::field("type").into(), &Origin::Header("t".into()).into()));
    assert_eq!(*mapping.keys, [("x".into(), Origin::Key.into()), ("y".into(), Origin::field("y").into())]);
    assert_eq!(b.shape.mapping, None);
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
         `keepalive`, `pool`, `read_timeout`, `retries`, `streams` or `write_timeout`",
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
        "x.yaml:17:1: unknown key `colour`; expected `admin`, `auth`, `clusters`, `cors`, `describe`, `drain`, `forwarded`, `kafka`, `limits`, \
         `listen`, `metrics`, `probe`, `registries`, `registry`, `replay`, `routes`, `streams`, `tls`, `topics`, `tracing`, `upstream` or `writers`",
    ];
    assert_eq!(mistakes(text), expected);
}

/// Asserts that a property of the Kafka client has exactly this error, at `@@`.
/// The warnings of a valid configuration, one per line.
pub(super) fn warnings(text: &str) -> Vec<String> {
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
