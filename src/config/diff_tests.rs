//! Changes every key of the schema in the annotated example, which contains all keys. A reload must apply each change
//! or name it, as the description of the key says.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::config::diff::process;
use crate::config::keys::{self, Change};
use crate::config::schema::{PARSED, resolve};
use crate::config::{Diff, Snapshot, parse};

/// Values for keys whose schema does not determine a valid one, or that refer to other keys.
const OTHERS: &[(&str, &str)] = &[
    ("auth.issuers.jwks_keep", "\"2h\""),
    ("listen", r#""127.0.0.1:1""#),
    ("admin.listen", r#""127.0.0.1:2""#),
    ("upstream.address", r#""other:1""#),
    ("upstream.streams.paths.path", r#""/other""#),
    ("forwarded.trust", r#""all""#),
    ("kafka.brokers", r#""other:1""#),
    ("kafka.properties.client.id", r#""other""#),
    ("auth.revocations.cluster", r#""eu""#),
    ("auth.revocations.keep", r#""2h""#),
    ("clusters.eu.brokers", r#""other:1""#),
    ("metrics.prefix", r#""other""#),
    ("tracing.endpoint", r#""http://other:1""#),
    ("tracing.sample", "0.5"),
    ("tracing.service_name", r#""other""#),
    ("limits.streams", "9"),
    ("limits.memory", r#""99MiB""#),
    ("routes.heartbeat", r#""event""#),
    ("routes.rule", r#""true""#),
    ("topics.shipments.map.type", r#""/other""#),
    ("topics.shipments.map.data", r#""/other""#),
    ("topics.shipments.registry", r#""audit""#),
    ("registry.username", r#""other""#),
];

struct Leaf {
    path: String,
    /// The path without the names of users.
    key: String,
    pointer: String,
    schema: &'static Json,
}

/// The scalar values of the example.
fn leaves(value: &Json, schema: &'static Json, [path, key]: [&str; 2], pointer: &str, found: &mut Vec<Leaf>) {
    let schema = resolve(schema);
    let join = |path: &str, name: &str| if path.is_empty() { name.into() } else { format!("{path}.{name}") };
    match value {
        Json::Object(entries) => {
            for (name, inner) in entries {
                let declared = schema["properties"].get(name);
                let key = if declared.is_some() { join(key, name) } else { key.into() };
                let below = declared.unwrap_or_else(|| &schema["additionalProperties"]);
                let pointer = format!("{pointer}/{}", name.replace('/', "~1"));
                leaves(inner, below, [&join(path, name), &key], &pointer, found);
            }
        }
        Json::Array(items) if schema["items"].is_object() && resolve(&schema["items"])["properties"].is_object() => {
            for (n, item) in items.iter().enumerate() {
                leaves(item, &schema["items"], [path, key], &format!("{pointer}/{n}"), found);
            }
        }
        _ => found.push(Leaf { path: path.into(), key: key.into(), pointer: pointer.into(), schema }),
    }
}

/// Different values that may be valid, the most likely first.
fn others(leaf: &Leaf, value: &Json) -> Vec<Json> {
    let known = OTHERS.iter().find(|(path, _)| *path == leaf.path);
    if let Some((_, other)) = known {
        return vec![serde_json::from_str(other).unwrap()];
    }
    let mut others: Vec<Json> = Vec::new();
    let names = [&leaf.schema["enum"], &leaf.schema["anyOf"][0]["enum"]];
    others.extend(names.into_iter().filter_map(Json::as_array).flatten().cloned());
    match value {
        Json::Bool(flag) => others.push(json!(!flag)),
        Json::Number(number) => others.extend([json!(number.as_u64().unwrap_or(0) + 1), json!(1), json!(2)]),
        Json::Array(_) => {
            others.extend([json!([]), json!(["other"]), json!(["/events"]), json!(["https://other.example"])])
        }
        Json::String(text) => others.extend(
            [
                "11s",
                "900ms",
                "7MiB",
                "5KiB",
                "other",
                "/other",
                "claims.other",
                "key",
                "const:x",
                "header:x",
                &format!("{text}x"),
            ]
            .map(|other| json!(other)),
        ),
        _ => {}
    }
    others.retain(|other| other != value);
    others
}

fn is_key_or_section(name: &str) -> bool {
    keys::find(name).is_some() || PARSED["properties"].get(name).is_some()
}

#[test]
fn a_changed_key_is_applied_or_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let example: Json = serde_saphyr::from_str(&fs::read_to_string(folder.join("sidestream.yaml")).unwrap()).unwrap();
    let compile = |value: &Json| parse(&value.to_string(), "x.json", &folder);
    let before: Snapshot = compile(&example).unwrap();
    let mut found = Vec::new();
    leaves(&example, &PARSED, ["", ""], "", &mut found);
    assert!(found.len() > 60, "{}", found.len());
    let (mut silent, mut untried, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut unknown = Vec::new();
    for leaf in &found {
        let others = others(leaf, example.pointer(&leaf.pointer).unwrap());
        let compiled = others.into_iter().find_map(|other| {
            let mut changed = example.clone();
            *changed.pointer_mut(&leaf.pointer).unwrap() = other;
            compile(&changed).ok()
        });
        match compiled {
            Some(now) => {
                let diff = Diff::between(&before, &now);
                unknown.extend(process(&before, &now).filter(|name| !is_key_or_section(name)));
                let needs_restart = !diff.needs_restart.is_empty();
                match keys::find(&leaf.key).unwrap().change() {
                    _ if diff.is_empty() => silent.push(&leaf.path),
                    // This stream has a state, whose source reads all settings at start.
                    _ if leaf.path == "streams.orders.topics" => assert!(needs_restart, "{diff}"),
                    change if (change == Change::Restart) == needs_restart => {}
                    change => wrong.push(format!("{} is described as {change:?}, but: {diff}", leaf.path)),
                }
            }
            None => untried.push(&leaf.path),
        }
    }
    assert!(silent.is_empty(), "a reload ignores {silent:?}");
    assert!(unknown.is_empty(), "diff.rs names {unknown:?}, which is no key");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let keys: std::collections::BTreeSet<&str> = untried.iter().map(|path| path.as_str()).collect();
    let known: std::collections::BTreeSet<&str> = UNTRIED.iter().copied().collect();
    assert_eq!(keys, known, "keys for which no other value was found, and those that the next test tries");
}

/// Keys without another value that is valid on its own in the example.
const UNTRIED: &[&str] = &[
    "auth.api_keys.file",
    "auth.ca_file",
    "auth.client_certificates.form",
    "auth.client_certificates.trust",
    "auth.introspection.client_secret_file",
    "auth.issuers.algorithms",
    "auth.issuers.discovery",
    "auth.issuers.jwks_file",
    "auth.issuers.key_file",
    "auth.tickets.key_file",
    "registries.audit.ca_file",
    "registries.audit.secret_file",
    "registry.ca_file",
    "registry.secret_file",
    "routes.bind.orderId",
    "routes.stream",
    "routes.token_from",
    "routes.websocket.frames",
    "streams.notifications.keys",
    "streams.orders.keys",
    "streams.orders.state.key",
    "streams.shipments.keys",
    "streams.shipments.topics",
    "tls.certificates.certificate",
    "tls.certificates.key",
    "topics.shipments.cluster",
    "topics.shipments.schema.file",
];

#[test]
fn changed_keys_that_others_depend_on_are_applied_or_named() {
    const BASE: &str = "\
upstream: { address: 'a:1' }
tls: { certificate: one.crt, key: tls.key }
kafka: { brokers: 'a:1' }
clusters: { eu: { brokers: 'b:1' } }
streams: { s: { topics: [t], keys: [k, l] }, other: { topics: [t], keys: [k, l] }, validated: { topics: [v] },
  kept: { topics: [w], keys: [k, l], state: { key: k } } }
topics: { t: { cluster: kafka, format: text }, v: { schema: { file: one.json } }, w: { map: { keys: { k: key, l: key } } } }
auth: { issuers: [{ issuer: i, key_file: one.key, algorithms: [HS256] }], tickets: { key_file: three.key }, ca_file: one.pem,
  client_certificates: { trust: [10.0.0.0/8] }, api_keys: { file: one.yaml }, introspection: { url: 'https://i/x', client_id: c, client_secret_file: four.key } }
routes: [{ path: '/x/{id}/{jd}', stream: s, data: payload, bind: { k: path.id }, websocket: { frames: text } }]
";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.key"), "a secret of at least 32 bytes, for tests").unwrap();
    fs::write(folder.path().join("two.key"), "another secret of 32 bytes, for tests too").unwrap();
    fs::write(folder.path().join("three.key"), "a secret for tickets, of 32 bytes and more").unwrap();
    fs::write(folder.path().join("four.key"), "the secret of a client").unwrap();
    fs::write(folder.path().join("one.yaml"), "[]").unwrap();
    fs::write(folder.path().join("one.json"), "{}").unwrap();
    fs::write(folder.path().join("two.json"), r#"{"type": "object"}"#).unwrap();
    let authority = include_str!("../../conf/example-ca.pem");
    fs::write(folder.path().join("one.pem"), authority).unwrap();
    fs::write(folder.path().join("two.pem"), authority.repeat(2)).unwrap();
    let certificate = include_str!("../../conf/example-tls.pem");
    fs::write(folder.path().join("one.crt"), certificate).unwrap();
    fs::write(folder.path().join("two.crt"), certificate.repeat(2)).unwrap();
    fs::write(folder.path().join("tls.key"), include_str!("../../conf/example-tls.key")).unwrap();
    let two = format!("[{{ id: a, sha256: {} }}]", "a1".repeat(32));
    fs::write(folder.path().join("two.yaml"), two).unwrap();
    let keys = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/example-jwks.json")).unwrap();
    fs::write(folder.path().join("keys.json"), keys).unwrap();
    let compile = |text: &str| parse(text, "x.yaml", folder.path()).unwrap_or_else(|error| panic!("{error}"));
    for (written, other) in [
        ("algorithms: [HS256]", "algorithms: [HS256, HS512]"),
        ("key_file: one.key", "key_file: two.key"),
        ("key_file: three.key", "key_file: two.key"),
        ("certificate: one.crt", "certificate: two.crt"),
        ("file: one.yaml", "file: two.yaml"),
        ("ca_file: one.pem", "ca_file: two.pem"),
        ("file: one.json", "file: two.json"),
        ("file: one.json", "file: one.json, invalid: pass"),
        ("trust: [10.0.0.0/8]", "trust: [10.1.0.0/16]"),
        ("trust: [10.0.0.0/8]", "trust: [10.0.0.0/8], form: subject"),
        ("client_secret_file: four.key", "client_secret_file: two.key"),
        ("key_file: one.key, algorithms: [HS256]", "jwks_file: keys.json, algorithms: [RS256, ES256, EdDSA]"),
        ("key_file: one.key, algorithms: [HS256]", "jwks_url: 'https://i/keys', algorithms: [RS256]"),
        (
            "issuer: i, key_file: one.key, algorithms: [HS256]",
            "issuer: 'https://i', discovery: true, algorithms: [RS256]",
        ),
        ("bind: { k: path.id }", "bind: { k: path.jd }"),
        ("stream: s", "stream: other"),
        ("stream: s", "stream: s, token_from: [subprotocol]"),
        ("frames: text", "frames: binary"),
        ("s: { topics: [t], keys: [k, l] }", "s: { topics: [t], keys: [k] }"),
        ("topics: [t], keys: [k, l] }, other: { topics: [t]", "topics: [t, u], keys: [k, l] }, other: { topics: [t]"),
        ("cluster: kafka", "cluster: eu"),
        ("format: text", "format: binary"),
        ("state: { key: k }", "state: { key: l }"),
    ] {
        assert!(BASE.contains(written), "{written}");
        let diff = Diff::between(&compile(BASE), &compile(&BASE.replacen(written, other, 1)));
        assert!(!diff.is_empty(), "a reload ignores {other}");
    }
}

#[test]
fn topics_and_their_settings_need_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.json"), "{}").unwrap();
    let compile = |topics: &str, settings: &str| {
        let text = format!(
            "upstream: {{ address: 'a:1' }}\nkafka: {{ brokers: 'a:1' }}\nclusters: {{ eu: {{ brokers: 'b:1' }} }}\n\
             streams: {{ s: {{ topics: [{topics}], keys: [k] }}, eu: {{ topics: [far] }} }}\n\
             topics: {{ far: {{ cluster: eu }}, t: {{ {settings} }} }}\n"
        );
        parse(&text, "x.yaml", folder.path()).unwrap_or_else(|error| panic!("{error}"))
    };
    let before = compile("t, old", "");
    for settings in [
        "schema: { file: t.json }",
        "map: { type: const:x }",
        "shape: connect",
        "replay: { events: 1 }",
        "format: text",
    ] {
        let diff = Diff::between(&before, &compile("t, old", settings));
        assert_eq!(diff.to_string(), "topics changed: t", "{settings}");
    }
    let diff = Diff::between(&before, &compile("t, new", ""));
    assert_eq!(diff.to_string(), "topics added: new; topics removed: old");
    for (settings, key) in [("cluster: eu", "topics.t.cluster"), ("topic: other", "topics.t.topic")] {
        assert_eq!(Diff::between(&before, &compile("t, old", settings)).needs_restart, [key]);
    }
}
