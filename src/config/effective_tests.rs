//! Compares the schema with the compiler and the annotated example. `tests/integration/config.rs` uses a JSON Schema
//! validator.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::config::{Diff, compile, file, read};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/sidestream.yaml")
}

/// Every key in the schema, named as in the compiler; user-defined names are `*`.
fn keys_of(schema: &Json, path: &str, keys: &mut BTreeSet<String>) {
    let schema = resolve(schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        keys_of(inner, &path, keys);
        keys.insert(path);
    }
    if schema["items"].is_object() {
        keys_of(&schema["items"], path, keys);
    }
    if schema["additionalProperties"].is_object() {
        keys_of(&schema["additionalProperties"], &format!("{path}.*"), keys);
    }
}

/// The keys that the compiler reads in this configuration.
fn asked(text: &str) -> BTreeSet<String> {
    let diagnostics = Diagnostics::new("");
    let root = file::read(text, &diagnostics).unwrap();
    compile::compile(&root, example().parent().unwrap(), &ReadOptions::default(), &diagnostics).unwrap();
    let named = |key: &String| {
        let mut parts: Vec<&str> = key.split('.').collect();
        if parts.len() > 1 && ["topics", "streams", "clusters", "registries"].contains(&parts[0]) {
            parts[1] = "*";
        }
        parts.join(".")
    };
    diagnostics.asked.borrow().keys().map(named).collect()
}

#[test]
fn schema_compiler_and_example_know_the_same_keys() {
    let text = fs::read_to_string(example()).unwrap();
    let single = "upstream: { address: a:1 }\nkafka: { brokers: a:1 }\n\
                      auth: { key_file: example-jwt.key, algorithms: [HS256] }\n\
                      tls: { certificate: example-tls.pem, key: example-tls.key }\n";
    let mut compiled = asked(&text);
    compiled.extend(asked(single));
    let mut declared = BTreeSet::new();
    keys_of(&PARSED, "", &mut declared);
    let unread: Vec<_> = declared.difference(&compiled).collect();
    let undeclared: Vec<_> = compiled.difference(&declared).collect();
    assert!(unread.is_empty(), "in `keys/`, but not read in `compile/`: {unread:?}");
    assert!(undeclared.is_empty(), "read in `compile/`, but not in `keys/`: {undeclared:?}");
}

/// The schema's defaults equal the compiler's: writing them out changes nothing.
#[test]
fn the_effective_configuration_is_equivalent() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "example-jwt.key",
        "example-jwks.json",
        "example-api-keys.yaml",
        "example-ca.pem",
        "example-tls.pem",
        "example-tls.key",
        "example-shipments.schema.json",
    ] {
        fs::copy(example().with_file_name(name), folder.path().join(name)).unwrap();
    }
    let sparse = "upstream: { address: a:1 }\nkafka: { brokers: a:1 }\nstreams: { s: { topics: [t, u], keys: [k] } }\n\
                  topics: { t: { map: {} } }\nauth: { key_file: example-jwt.key, algorithms: [HS256] }\n\
                  routes: [{ path: /x, stream: s }]\n";
    // Values of properties are redacted, so the output differs from a file that has some.
    let whole = fs::read_to_string(example()).unwrap().replace("    client.id: sidestream\n", "    {}\n");
    for text in [sparse, &whole] {
        let path = folder.path().join("x.yaml");
        fs::write(&path, text).unwrap();
        let before = read(&path).snapshot.unwrap_or_else(|error| panic!("{error}"));
        let filled = effective(&path, &ReadOptions::default()).unwrap();
        fs::write(&path, serde_saphyr::to_string(&filled).unwrap()).unwrap();
        let now = read(&path).snapshot;
        let now = now.unwrap_or_else(|error| panic!("of the defaults, written out (read in `compile/`?): {error}"));
        assert_eq!(Diff::between(&before, &now).to_string(), "nothing changed");
        assert_eq!(effective(&path, &ReadOptions::default()).unwrap(), filled, "and there is nothing left to fill in");
        assert!(filled["routes"][0]["websocket"]["pong_timeout"].is_string(), "{filled}");
    }
}

#[test]
fn a_shape_is_written_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.yaml");
    let topic = "shape: debezium, map: { types: { c: new }, keys: { a: /after/number, b: 'field:id' } }";
    let text =
        "upstream: { address: a:1 }\nkafka: { brokers: a:1 }\nstreams: { s: { topics: [t], keys: [a, b, k] } }\n";
    fs::write(&path, format!("{text}topics: {{ t: {{ {topic} }} }}\n")).unwrap();
    let filled = effective(&path, &ReadOptions::default()).unwrap();
    let map = &filled["topics"]["t"]["map"];
    assert_eq!(map["type"], "/op");
    assert_eq!((&map["types"], &map["drop"]), (&json!({ "c": "new" }), &json!(["delete", "message"])));
    assert_eq!(map["keys"]["a"], "/after/number");
    assert_eq!((&map["keys"]["b"], &map["keys"]["k"]), (&json!("field:id"), &json!("field:k")));
    let before = read(&path).snapshot.unwrap();
    fs::write(&path, serde_saphyr::to_string(&filled).unwrap()).unwrap();
    let now = read(&path).snapshot.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(Diff::between(&before, &now).to_string(), "nothing changed");
}

#[test]
fn texts_are_escaped_so_that_the_output_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.yaml");
    let text = "upstream: { address: a:1 }\nkafka: { brokers: a:1 }\nstreams: { s: { topics: [t] } }\n\
                routes: [{ path: /x, stream: s, public: true, rule: \"event.type != '$${HOME}'\" }]\n";
    fs::write(&path, text).unwrap();
    let filled = effective(&path, &ReadOptions::default()).unwrap();
    assert_eq!(filled["routes"][0]["rule"], "event.type != '$${HOME}'");
}

#[test]
fn secrets_are_redacted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.yaml");
    fs::write(folder.path().join("pw"), "hunter3").unwrap();
    let kafka = "brokers: a:1, properties: { sasl.username: hunter1 }, property_files: { sasl.password: pw }";
    fs::write(&path, format!("upstream: {{ address: a:1 }}\nkafka: {{ {kafka} }}\n")).unwrap();
    let filled = effective(&path, &ReadOptions::default()).unwrap();
    assert!(!filled.to_string().contains("hunter"), "{filled}");
    assert_eq!(filled["kafka"]["property_files"]["sasl.password"], "pw");
    assert!(matches!(
        effective(&folder.path().join("none"), &ReadOptions::default()),
        Err(LoadError::Unreadable { .. })
    ));
}
