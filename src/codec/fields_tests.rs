use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::codec::{DataForm, Encodings, Form, Frame, Transport};
use crate::pointer;
use crate::testing;

fn fields(choice: Choice, pointers: &[&str]) -> Fields {
    Fields::new(1, choice, pointers.iter().map(|text| pointer::parse(text).unwrap()))
}

/// An event with these members before its data, as text.
fn event(members: &str, data: &str) -> Event {
    let head = format!(r#"{{"id":"orders:0:7","ts":7,"type":"test",{members}"data":"#);
    let payload = head.len()..head.len() + data.len();
    testing::event("orders", 0, 7, &[]).with_envelope(format!("{head}{data}}}").into(), payload)
}

/// The shown members after `type`, and the shown data.
fn shown(fields: &Fields, event: &Event) -> (String, String) {
    let shown = fields.of(event).unwrap();
    let envelope = std::str::from_utf8(&shown.envelope).unwrap();
    let rest = envelope.strip_prefix(r#"{"id":"orders:0:7","ts":7,"type":"test","#).unwrap();
    (rest[..rest.len() - 1].into(), String::from_utf8(shown.data().to_vec()).unwrap())
}

#[test]
fn listed_fields_are_kept_or_dropped() {
    let data = r#"{"a":1.50,"b":{"c":[{"d":1,"e":2},{"d":3}],"f":"x"},"g/h":null}"#;
    let cases: &[(Choice, &[&str], &str)] = &[
        (Choice::Keep, &["/data/a"], r#"{"a":1.50}"#),
        (Choice::Keep, &["/data/b/c/*/d"], r#"{"b":{"c":[{"d":1},{"d":3}]}}"#),
        (Choice::Keep, &["/data/b/c/1"], r#"{"b":{"c":[{"d":3}]}}"#),
        (Choice::Keep, &["/data/b", "/data/b/f"], r#"{"b":{"c":[{"d":1,"e":2},{"d":3}],"f":"x"}}"#),
        (Choice::Keep, &["/data/a/b", "/data/none"], "{}"),
        (Choice::Keep, &["/data"], data),
        (Choice::Keep, &[], "null"),
        (Choice::Drop, &["/data/b"], r#"{"a":1.50,"g/h":null}"#),
        (Choice::Drop, &["/data/b/c/*/d", "/data/g~1h"], r#"{"a":1.50,"b":{"c":[{"e":2},{}],"f":"x"}}"#),
        (Choice::Drop, &["/data/b/c/0", "/data/b/c/*/d"], r#"{"a":1.50,"b":{"c":[{}],"f":"x"},"g/h":null}"#),
        (Choice::Drop, &["/data/b/c/*"], r#"{"a":1.50,"b":{"c":[],"f":"x"},"g/h":null}"#),
        (Choice::Drop, &["/data/a/x", "/data/none", "/none"], data),
        (Choice::Drop, &["/data"], "null"),
    ];
    for (choice, pointers, expected) in cases {
        let (rest, shown) = shown(&fields(*choice, pointers), &event("", data));
        assert_eq!(shown, *expected, "{choice:?} {pointers:?}");
        assert_eq!(rest, format!(r#""data":{expected}"#), "{choice:?} {pointers:?}");
    }
}

#[test]
fn members_of_the_envelope_are_fields_too() {
    let event = event(r#""headers":{"a":"1","b":"2"},"userId":"u","encoding":"base64","#, r#""AA==""#);
    let of = |choice, pointers: &[&str]| shown(&fields(choice, pointers), &event).0;
    assert_eq!(of(Choice::Keep, &["/data"]), r#""encoding":"base64","data":"AA==""#);
    assert_eq!(
        of(Choice::Keep, &["/headers/a", "/userId"]),
        r#""headers":{"a":"1"},"userId":"u","encoding":"base64","data":null"#
    );
    assert_eq!(
        of(Choice::Drop, &["/headers/a", "/userId", "/type"]),
        r#""headers":{"b":"2"},"encoding":"base64","data":"AA==""#
    );
}

#[test]
fn other_spellings_of_a_name_are_the_same_field() {
    let data = r#"{"c\u0061rd":1,"card":2,"card":{"x":3},"Card":4}"#;
    assert_eq!(shown(&fields(Choice::Drop, &["/data/card"]), &event("", data)).1, r#"{"Card":4}"#);
    assert_eq!(shown(&fields(Choice::Keep, &["/data/card/x"]), &event("", data)).1, r#"{"card":{"x":3}}"#);
    let star = r#"{"*":1,"b":2}"#;
    assert_eq!(shown(&fields(Choice::Drop, &["/data/*"]), &event("", star)).1, r#"{"b":2}"#);
}

#[test]
fn nothing_of_an_event_is_shown_whose_names_cannot_be_compared() {
    let data = r#"{"\ud800card":1}"#;
    assert!(fields(Choice::Drop, &["/data/card"]).of(&event("", data)).is_none());
    assert!(fields(Choice::Drop, &["/data"]).of(&event("", data)).is_some());
}

#[test]
fn an_encoding_is_shared_only_by_clients_that_are_shown_the_same() {
    let event = Arc::new(event("", r#"{"card":1,"n":2}"#));
    let encodings = Encodings::new(1 << 20);
    let fields = fields(Choice::Drop, &["/data/card"]);
    let form = Form { data: DataForm::Payload, ..testing::route("/x").form(Transport::Ndjson) };
    let key = form.key(1);
    let bytes = |frame| encodings.shared(&event, frame, || Bytes::from_static(b"c")).map(|it| it.bytes.clone());
    let whole = bytes(Frame { key, fields: None });
    assert_eq!(whole.as_deref(), Some(&b"{\"card\":1,\"n\":2}\n"[..]));
    let shown = Frame { key: key.showing(fields.id()), fields: Some(&fields) };
    assert_eq!(bytes(shown).as_deref(), Some(&b"{\"n\":2}\n"[..]));
    assert_eq!(bytes(shown).map(|bytes| bytes.as_ptr()), bytes(shown).map(|bytes| bytes.as_ptr()));
    let other = Fields::new(2, Choice::Drop, []);
    assert_eq!(bytes(Frame { key: key.showing(2), fields: None }), None, "a key without its fields");
    assert_eq!(bytes(Frame { key: key.showing(3), fields: Some(&other) }), None, "a key with other fields");
    assert_eq!(bytes(Frame { key: form.key(2), fields: Some(&fields) }), None, "fields without their key");
}

/// The shown part of a value, from the definition.
fn oracle(value: &Value, choice: Choice, pointers: &[Vec<String>]) -> Option<Value> {
    let is_listed = pointers.iter().any(Vec::is_empty);
    let below = |matches: &dyn Fn(&str) -> bool| -> Vec<Vec<String>> {
        pointers.iter().filter(|p| p.first().is_some_and(|t| matches(t))).map(|p| p[1..].to_vec()).collect()
    };
    let is_open = match (choice, is_listed, pointers.is_empty()) {
        (Choice::Drop, true, _) | (Choice::Keep, false, true) => return None,
        (Choice::Keep, true, _) | (Choice::Drop, _, true) => return Some(value.clone()),
        _ => value.is_object() || value.is_array(),
    };
    match value {
        Value::Object(map) => Some(Value::Object(
            map.iter()
                .filter_map(|(name, value)| Some((name.clone(), oracle(value, choice, &below(&|t| t == name))?)))
                .collect(),
        )),
        Value::Array(list) => Some(Value::Array(
            list.iter()
                .enumerate()
                .filter_map(|(n, value)| oracle(value, choice, &below(&|t| t == "*" || t == n.to_string())))
                .collect(),
        )),
        scalar => (choice == Choice::Drop || is_open).then(|| scalar.clone()),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(json!(null)), any::<bool>().prop_map(Value::from), "[a-c\"]{0,2}".prop_map(Value::from)];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc*0]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn exactly_the_shown_fields_are_left(
        value in any_value(),
        keeps in any::<bool>(),
        pointers in prop::collection::vec(prop::collection::vec("[abc*01]", 0..4), 0..4),
    ) {
        let choice = if keeps { Choice::Keep } else { Choice::Drop };
        let below: Vec<Pointer> =
            pointers.iter().map(|p| ["data"].into_iter().chain(p.iter().map(|t| &**t)).map(Box::from).collect()).collect();
        let fields = Fields::new(1, choice, below);
        let data = shown(&fields, &event("", &value.to_string())).1;
        let expected = oracle(&value, choice, &pointers).unwrap_or(Value::Null);
        prop_assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), expected);
    }
}
