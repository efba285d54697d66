use std::path::Path;

use super::*;
use crate::config::parse;

const MINIMAL: &str = "upstream: { address: 'a:1' }\nkafka: { brokers: 'a:1' }\n";

/// All diagnostics of a configuration, as text and as JSON.
fn said(text: &str) -> String {
    let error = parse(text, "x.yaml", Path::new("/nowhere")).unwrap_err();
    format!("{error}\n{}", serde_json::json!(error.diagnostics()))
}

#[test]
fn names_of_secrets_and_their_typos() {
    for name in [
        "sasl.password",
        "password",
        "PASSWORD",
        "sasl.pasword",
        "pasword",
        "Passwort",
        "api_key",
        "clientSecret",
        "secrt",
        "ssl.key.pem",
        "db-pwd",
        "pw",
        "token",
        "access_token",
        "sasl.jaas.config",
        "ssl_key_password",
        "proprties",
    ] {
        assert!(mentions_secret(name), "{name}");
    }
    for name in
        ["heartbeet", "steams", "brokers", "address", "retries", "max_streams", "warm_up", "keys", "user", "path"]
    {
        assert!(!mentions_secret(name), "{name}");
    }
}

#[test]
fn a_misplaced_secret_is_never_shown() {
    let misplaced = [
        // Indented two spaces too few or too many, at the top level, in other sections.
        "upstream: { address: 'a:1' }\nkafka:\n  brokers: a:1\n  properties:\n    security.protocol: SSL\n  sasl.password: hunter2\n",
        "upstream: { address: 'a:1' }\nkafka:\n  brokers:\n    sasl.password: hunter2\n",
        "upstream: { address: 'a:1' }\nkafka:\n  brokers: a:1\n    sasl.password:hunter2\n",
        "sasl.password: hunter2\n",
        "upstream: { address: 'a:1', password: hunter2 }\nkafka: { brokers: 'a:1' }\n",
        "streams: { sasl.password: hunter2 }\n",
        "topics: { sasl.password: hunter2 }\n",
        "clusters: { eu: hunter2 }\n",
        "clusters: { eu: { brokers: 'a:1', sasl.password: hunter2 } }\n",
        "streams: { s: { topics: [t], keys: [k] } }\nroutes: [{ path: /x, stream: s, public: true, bind: { password: hunter2 } }]\n",
        "auth: { secret: hunter2, algorithms: [HS256] }\n",
        "auth: { key_file: hunter2, algorithms: [HS256] }\n",
        "auth: { key: hunter2 }\n",
        "kafka: { brokers: 'a:1', property_files: { sasl.password: hunter2 } }\n",
        "kafka: { brokers: 'a:1', property_files: hunter2 }\n",
        "kafka: { brokers: 'a:1', properties: hunter2 }\n",
        "kafka: { brokers: 'a:1', properties: [{ sasl.password: hunter2 }] }\n",
        "kafka: hunter2\n",
        // Typos.
        "kafka: { brokers: 'a:1', proprties: { sasl.password: hunter2 } }\n",
        "kafka: { brokers: 'a:1', properties: { sasl.pasword: hunter2 } }\n",
        "kafka: { brokers: 'a:1', sasl.pasword: hunter2 }\n",
        "kafka: { brokers: 'a:1', pw: hunter2, nonsense: 1 }\n",
        // Flow style without the space that separates a value.
        "kafka: { brokers: 'a:1', sasl.password:hunter2 }\n",
        "kafka: { brokers: 'a:1', sasl.password=hunter2 }\n",
        "kafka: { brokers: 'a:1', properties: { sasl.password:hunter2 } }\n",
        "kafka:\n  brokers: a:1\n  properties:\n    sasl.password:hunter2\n",
        // Block scalars, and values of several lines.
        "kafka:\n  brokers: a:1\n  sasl.password: |\n    one\n    hunter2\n",
        "kafka:\n  brokers: a:1\n  properties:\n    sasl.password:\n      - one\n      - hunter2\n",
        "kafka:\n  brokers: a:1\n  sasl.password: >-\n    one\n    hunter2\nwriters: 0\n",
        // Anchors: the value is at its anchor.
        "x-hidden: &pw hunter2\nkafka: { brokers: 'a:1', properties: { sasl.password: *pw } }\n",
        "metrics: { prefix: &pw 'hunter2!' }\nkafka: { brokers: 'a:1', properties: { sasl.password: *pw } }\n",
        // JSON.
        "{\"upstream\": {\"address\": \"a:1\"}, \"kafka\": {\"brokers\": \"a:1\", \"sasl.password\": \"hunter2\"}}",
        "{\"kafka\": {\"brokers\": \"a:1\", \"sasl.password\": \"hunter2\"",
        // Not YAML.
        "kafka:\n  brokers: a:1\n  sasl.password: \"hunter2\n",
        "kafka:\n\tsasl.password: hunter2\n",
        "kafka:\n  sasl.pasword: hunter2 ]: x\n",
        "kafka: { sasl.password: *hunter2 }\n",
        "kafka: { sasl.password: !hunter2 x }\n",
        "kafka: { sasl.password: !!int hunter2 }\n",
        "kafka: { sasl.password: @hunter2 }\n",
        "kafka: { sasl.password: %hunter2 }\n",
        // Next to an error, and in a comment.
        "kafka: { brokers: 'a:1', nonsense: 1 } # password hunter2\n",
        "kafka: { brokers: 'a:1', properties: { sasl.password: hunter2 }, nonsense: 1 }\n",
        // In URLs.
        "tracing: { endpoint: 'https://me:hunter2@c/' }\n",
        "upstream: { address: 'http://me:hunter2@c/' }\nkafka: { brokers: 'a:1' }\n",
        "kafka: { brokers: 'http://me:hunter2@c/' }\n",
    ];
    let wholes = misplaced.iter().flat_map(|text| [(*text).to_owned(), format!("{MINIMAL}{text}")]);
    let shown: Vec<_> = wholes.map(|text| (said(&text), text)).filter(|(said, _)| said.contains("hunter2")).collect();
    assert!(shown.is_empty(), "{shown:#?}");
}

#[test]
fn what_is_harmless_is_shown() {
    for (text, shown) in [
        ("limits: { steams: 5 }\n", "| limits: { steams: 5 }"),
        ("drain: { bugdet: 1s }\n", "| drain: { bugdet: 1s }"),
        ("drain: { budget: soon }\n", "found `soon`"),
    ] {
        let said = said(&format!("{MINIMAL}{text}"));
        assert!(said.contains(shown), "{said}");
    }
}
