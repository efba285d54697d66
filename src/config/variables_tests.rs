use std::os::unix::ffi::OsStringExt as _;

use super::*;
use crate::config::{file, secrets};

fn environment(name: &str) -> Option<OsString> {
    let value = match name {
        "HOST" => "db.local",
        "PORT" => "3000",
        "EMPTY" => "",
        "FLAG" => "true",
        "HALF" => "0.5",
        "POD" => "12e4567",
        "CODE" => "007",
        "HOSTILE" => "x\n}] # & \"' ${HOST}: {a: b}",
        "DB_PASSWORD" => "hunter2",
        "LONG" => return Some("x".repeat(REPLACED_BYTES_MAX / 2 + 1).into()),
        "BYTES" => return Some(OsString::from_vec(vec![0xff])),
        _ => return None,
    };
    Some(value.into())
}

/// The tree, and the errors as `line:column message`.
fn replaced(text: &str) -> (Node, Vec<String>) {
    let diagnostics = Diagnostics::new("x.yaml");
    let mut root = file::read(text, &diagnostics).unwrap();
    replace(&mut root, text, &environment, &diagnostics);
    secrets::mark(&mut root);
    let (errors, _) = diagnostics.into_found(text, Some(&root));
    let errors = errors.iter().map(|error| format!("{}:{} {}", error.line, error.column, error.message)).collect();
    (root, errors)
}

/// The value of the only key of a text.
fn value(text: &str) -> String {
    let (root, errors) = replaced(text);
    assert_eq!(errors, [""; 0], "{text}");
    let Value::Map(entries) = root.value else { panic!("{text}") };
    format!("{:?}", entries[0].1.value)
}

#[test]
fn values_keep_the_type_that_their_text_has_without_quotes() {
    for (text, expected) in [
        ("a: ${HOST}:${PORT}", r#"Text("db.local:3000")"#),
        ("a: ${PORT}", "Integer(3000)"),
        ("a: -${PORT}", "Integer(-3000)"),
        ("a: \"${PORT}\"", r#"Text("3000")"#),
        ("a: '${PORT}'", r#"Text("3000")"#),
        ("a: ${FLAG}", "Flag(true)"),
        ("a: '${FLAG}'", r#"Text("true")"#),
        ("a: ${HALF}", "Fraction(0.5)"),
        ("a: ${POD}", r#"Text("12e4567")"#),
        ("a: ${CODE}", r#"Text("007")"#),
        ("a: ${EMPTY:-}", "Nothing"),
        ("a: '${EMPTY:-}'", r#"Text("")"#),
        ("a: ${EMPTY:-7}", "Integer(7)"),
        ("a: ${NONE:-7s}", r#"Text("7s")"#),
        ("a: ${NONE:-}", "Nothing"),
        ("a: ${NONE:-a:-b}", r#"Text("a:-b")"#),
        ("a: ${HOST:-b}", r#"Text("db.local")"#),
        ("a: &x ${PORT}", "Integer(3000)"),
        ("a: $${HOST} $HOST $$ $", r#"Text("${HOST} $HOST $$ $")"#),
        ("a: |\n  one\n  ${HOST}\n", r#"Text("one\ndb.local\n")"#),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn a_variable_cannot_change_the_structure() {
    let hostile = format!("{:?}", Value::Text(environment("HOSTILE").unwrap().into_string().unwrap()));
    for text in ["a: ${HOSTILE}", "a: \"${HOSTILE}\"", "a: '${HOSTILE}' # ${NONE} in a comment"] {
        assert_eq!(value(text), hostile, "{text}");
    }
}

#[test]
fn an_invalid_variable_is_reported_at_its_place() {
    for (text, expected) in [
        ("a: 1\nbé: x${NONE} ${HOST} ${NO}", &["2:6 the environment variable `NONE` is not set", "2:22 the"][..]),
        ("a: |\n  one\n  é ${NONE}\n", &["3:5 the environment"]),
        ("a: $${HOST} ${NONE}", &["1:13 the environment"]),
        ("rule: ${EMPTY}", &["1:7 the environment variable `EMPTY` is empty"]),
        ("a: 'x${EMPTY}'", &["1:6 the environment variable `EMPTY` is empty"]),
        ("a: ${1A}", &["1:4 this is not a variable"]),
        ("a: ${}", &["1:4 this is not"]),
        ("a: ${env:HOST}", &["1:4 this is not"]),
        ("a: ${HOST:?why}", &["1:4 this is not"]),
        ("a: ${NONE:-${HOST}}", &["1:4 this is not"]),
        ("a: x ${HOST", &["1:6 `${` without `}`"]),
        ("a: ${BYTES}", &["1:4 the environment variable `BYTES` is not UTF-8"]),
        ("a: ${LONG}\nb: ${LONG}", &["2:4 variables have more than"]),
        ("'${HOST}': 1", &["1:1 a key cannot contain a variable"]),
        ("a: &x ${NONE}\nb: *x", &["1:7 the environment"]),
    ] {
        let (_, errors) = replaced(text);
        assert_eq!(errors.len(), expected.len(), "{text}: {errors:?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}

#[test]
fn what_may_be_secret_is_not_listed() {
    let text = "listen: ${HOST}\nprobe: ${DB_PASSWORD}\nwriters: &w ${W:-4}\nlimits: { streams: *w }\n\
                kafka: { properties: { client.id: '${PORT}' } }\n";
    let (root, _) = replaced(text);
    let listed: Vec<String> = list(&root).iter().map(ToString::to_string).collect();
    let expected = [
        "1:9: ${HOST} is \"db.local\", from the environment",
        "2:8: ${DB_PASSWORD} is (redacted), from the environment",
        "3:13: ${W} is \"4\", the default",
        "5:36: ${PORT} is (redacted), from the environment",
    ];
    assert_eq!(listed, expected);
}

#[test]
fn a_variable_in_braces_without_quotes_is_not_yaml() {
    let diagnostics = Diagnostics::new("x.yaml");
    assert!(file::read("a: { b: ${HOST}:80 }", &diagnostics).is_none());
    let (errors, _) = diagnostics.into_found("", None);
    assert!(errors[0].render().contains("needs quotes"), "{}", errors[0].render());
}
