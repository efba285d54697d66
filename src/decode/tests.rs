use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::access::scalar_text;

pub(super) fn record(value: Option<&[u8]>) -> Record<'_> {
    Record {
        partition: 3,
        offset: 42,
        timestamp: Some(1000),
        key: None,
        headers: &[],
        value,
        received: Instant::now(),
        received_ms: 2000,
        trace: None,
    }
}

pub(super) fn shape(keys: &[&str]) -> Shape {
    Shape::new(keys.iter().map(|key| Arc::from(*key)))
}

/// A decoder of the topic `orders`.
pub(super) fn decoder_of(shape: &Shape) -> Decoder {
    Decoder::new("orders".into(), shape)
}

fn decoder(keys: &[&str]) -> Decoder {
    decoder_of(&shape(keys))
}

fn decode(keys: &[&str], value: &str) -> Event {
    decoder(keys).decode(&record(Some(value.as_bytes()))).unwrap()
}

fn envelope(keys: &[&str], value: &str) -> String {
    String::from_utf8(decode(keys, value).envelope.to_vec()).unwrap()
}

pub(super) fn keys(event: &Event) -> Vec<(&str, &str)> {
    event.keys.iter().map(|(name, value)| (&**name, &**value)).collect()
}

#[test]
fn an_envelope_keeps_its_fields_and_gets_our_id() {
    let event = decode(
        &["userId"],
        r#"{"id":"theirs","data":{"a":1},"type":"order.paid","ts":1737000123456,"userId":"u1","trace":[1,2]}"#,
    );
    assert_eq!(
        std::str::from_utf8(&event.envelope).unwrap(),
        r#"{"id":"orders:3:42","ts":1737000123456,"type":"order.paid","userId":"u1","trace":[1,2],"data":{"a":1}}"#
    );
    assert_eq!((event.data(), event.ts, &*event.kind), (&br#"{"a":1}"#[..], 1_737_000_123_456, "order.paid"));
    assert_eq!(keys(&event), [("userId", "u1")]);
}

#[test]
fn a_field_with_a_reserved_name_is_renamed() {
    let value = r#"{"cursor":"theirs","cursor_":1,"encoding":"base64","ce":{},"headers":7,"\u0063ursor":2,"data":"x"}"#;
    assert_eq!(
        envelope(&[], value),
        r#"{"id":"orders:3:42","ts":1000,"type":"message","cursor_":"theirs","cursor__":1,"encoding_":"base64","ce_":{},"headers":7,"cursor_":2,"data":"x"}"#
    );
}

#[test]
fn a_bare_payload_is_data_with_its_declared_keys_lifted() {
    assert_eq!(
        envelope(&["orderId"], "{\"total\": 1.50,\r\n \"orderId\": 7}\n"),
        r#"{"id":"orders:3:42","ts":1000,"type":"message","orderId":7,"data":{"total":1.50,"orderId":7}}"#
    );
    assert_eq!(keys(&decode(&["orderId"], r#"{"orderId":7}"#)), [("orderId", "7")]);
}

#[test]
fn any_json_value_is_data() {
    for value in ["[1,2]", "\"a b\"", "12345678901234567890.10", "true", "null"] {
        assert_eq!(
            envelope(&["userId"], value),
            format!(r#"{{"id":"orders:3:42","ts":1000,"type":"message","data":{value}}}"#)
        );
    }
}

#[test]
fn a_tombstone_is_a_delete_by_the_records_key() {
    let mut tombstone = record(None);
    tombstone.key = Some(b"o\"1");
    let event = decoder(&["orderId"]).decode(&tombstone).unwrap();
    assert_eq!(
        std::str::from_utf8(&event.envelope).unwrap(),
        r#"{"id":"orders:3:42","ts":1000,"type":"delete","orderId":"o\"1","key":"o\"1","data":null}"#
    );
    assert_eq!((keys(&event), event.data()), (vec![("orderId", "o\"1")], &b"null"[..]));

    let two = decoder(&["a", "b"]).decode(&tombstone).unwrap();
    assert!(keys(&two).is_empty(), "which of two keys the record's key means is not known");
    tombstone.key = Some(b"\xff");
    let binary = decoder(&["orderId"]).decode(&tombstone).unwrap();
    assert_eq!(&binary.envelope[..], br#"{"id":"orders:3:42","ts":1000,"type":"delete","data":null}"#);
}

#[test]
fn the_time_is_the_records_own_then_kafkas_then_that_of_the_receipt() {
    assert_eq!(decode(&[], r#"{"ts":5,"data":1}"#).ts, 5);
    for unusable in ["-1", "1.5", "\"5\"", "null", "253402300800000", "99999999999999999999"] {
        assert_eq!(decode(&[], &format!(r#"{{"ts":{unusable},"data":1}}"#)).ts, 1000, "{unusable}");
    }
    let mut without = record(Some(b"1"));
    without.timestamp = None;
    assert_eq!(decoder(&[]).decode(&without).unwrap().ts, 2000);
}

#[test]
fn an_invalid_type_counts_as_absent() {
    let long = format!("\"{}\"", "x".repeat(TYPE_BYTES_MAX + 1));
    for unusable in [r#""""#, r#""a\u0000b""#, r#""a\nb""#, "\"a\u{85}b\"", "5", "null", "{}", r#""\ud800""#, &long] {
        assert_eq!(&*decode(&[], &format!(r#"{{"type":{unusable},"data":1}}"#)).kind, "message", "{unusable}");
    }
    assert_eq!(&*decode(&[], r#"{"type":"caf\u00e9","data":1}"#).kind, "café");
    assert_eq!(&*decode(&[], r#"{"type":"order.paid","total":1}"#).kind, "order.paid");
}

#[test]
fn an_event_is_routed_by_the_values_that_its_reader_sees() {
    // Repeated, once with an escape: only the last one is sent.
    let event = decode(&["userId"], r#"{"userId":"u1","x":1,"user\u0049d":"u2","data":1,"data":2}"#);
    assert_eq!(keys(&event), [("userId", "u2")]);
    assert_eq!(
        std::str::from_utf8(&event.envelope).unwrap(),
        r#"{"id":"orders:3:42","ts":1000,"type":"message","userId":"u2","x":1,"data":2}"#
    );
    // Integers that are equal as floating-point numbers.
    let event = decode(&["n"], r#"{"n":12345678901234567890123,"data":1}"#);
    assert!(keys(&event).is_empty());
    assert_eq!(keys(&decode(&["n"], r#"{"n":18446744073709551615,"data":1}"#)), [("n", "18446744073709551615")]);
}

#[test]
fn reserved_names_are_keys_but_stand_once() {
    let event = decode(&["id", "type"], r#"{"id":9,"type":"t","name":"x"}"#);
    assert_eq!(keys(&event), [("id", "9"), ("type", "t")]);
    assert_eq!(
        std::str::from_utf8(&event.envelope).unwrap(),
        r#"{"id":"orders:3:42","ts":1000,"type":"t","data":{"id":9,"type":"t","name":"x"}}"#
    );
}

#[test]
fn invalid_records_are_undecodable_with_a_reason() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let why = |value: &[u8]| decoder(&["k"]).decode(&record(Some(value))).unwrap_err();
    for garbage in [&b""[..], b" ", b"{", b"{}{}", b"nul", b"\"\n\"", b"{'a':1}", b"\0", b"{\"a\":1,}"] {
        assert!(matches!(why(garbage), Undecodable::NotJson(_)), "{garbage:?}");
    }
    assert!(matches!(why(b"\"\xff\""), Undecodable::NotUtf8));
    assert!(matches!(why(&vec![b' '; RECORD_BYTES_MAX + 1]), Undecodable::TooLong));
    assert!(matches!(why(nested(DEPTH_MAX + 1).as_bytes()), Undecodable::TooDeep));
    assert!(matches!(why(nested(1_000_000).as_bytes()), Undecodable::TooDeep));
    assert_eq!(decode(&[], &nested(DEPTH_MAX)).data().len(), 2 * DEPTH_MAX);
}

#[test]
fn an_envelope_has_a_limit_of_fields_and_a_bare_payload_has_not() {
    let fields = |n: usize| (0..n).map(|i| format!("\"f{i}\":1,")).collect::<String>();
    let many = fields(FIELDS_MAX + 1);
    let refused = decoder(&["k"]).decode(&record(Some(format!("{{{many}\"k\":1,\"data\":1}}").as_bytes())));
    assert!(matches!(refused.unwrap_err(), Undecodable::TooManyFields));
    let bare = decode(&["k"], &format!("{{{many}\"k\":1}}"));
    assert_eq!(keys(&bare), [("k", "1")]);
}

#[test]
fn ten_megabytes_are_decoded() {
    let value = format!(r#"{{"type":"big","data":"{}"}}"#, "x".repeat(10_000_000));
    assert_eq!(decode(&[], &value).data().len(), 10_000_002);
}

#[test]
fn types_share_their_text_up_to_a_limit() {
    let mut decoder = decoder(&[]);
    let mut kind =
        |name: &str| decoder.decode(&record(Some(format!(r#"{{"type":"{name}"}}"#).as_bytes()))).unwrap().kind;
    assert!(Arc::ptr_eq(&kind("a"), &kind("a")));
    for i in 0..2 * KINDS_MAX {
        kind(&i.to_string());
    }
    assert!(decoder.kinds.len() == KINDS_MAX);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((prop_oneof!["data", "type", "ts", "id", "userId", ".*"], inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_json_value_becomes_one_line_that_means_the_same(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let event = decode(&["userId"], &text);
        prop_assert!(!event.envelope.iter().any(|b| matches!(b, b'\n' | b'\r')));
        let envelope: Value = serde_json::from_slice(&event.envelope).unwrap();
        let data = value.get("data").unwrap_or(&value);
        let rendered = serde_json::to_string(data).unwrap();
        prop_assert_eq!(event.data(), rendered.as_bytes());
        prop_assert_eq!(&envelope["id"], "orders:3:42");
        prop_assert_eq!(&envelope["ts"], event.ts);
        prop_assert_eq!(&envelope["type"], &*event.kind);
        prop_assert_eq!(event.key("userId").is_some(), value.get("userId").and_then(scalar_text).is_some_and(|_| !value["userId"].is_f64()));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), key in any::<Option<Vec<u8>>>()) {
        let mut record = record(Some(&bytes));
        record.key = key.as_deref();
        let _ = decoder(&["userId"]).decode(&record);
        record.value = None;
        let event = decoder(&["userId"]).decode(&record).unwrap();
        serde_json::from_slice::<Value>(&event.envelope).unwrap();
    }

    #[test]
    fn text_that_resembles_json_yields_a_line_or_a_reason(text in r#"[\[\]{}",:\\ \n\r\ta0-9eE.+u-]{0,60}"#) {
        if let Ok(event) = decoder(&["a"]).decode(&record(Some(text.as_bytes()))) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&event.envelope).is_ok());
            prop_assert!(!event.envelope.iter().any(|b| matches!(b, b'\n' | b'\r')));
        }
    }
}
