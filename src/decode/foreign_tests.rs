//! Records in other formats than sidestream's envelope: mappings, text, bytes, headers, CloudEvents.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::mapping::{Origin, Origins};
use super::tests::{decoder_of, keys, record, shape};
use super::*;

fn origins(texts: &[&str]) -> Origins {
    Origins(texts.iter().map(|text| Origin::parse(text).unwrap()).collect())
}

/// A decoder with this mapping: type, ts, and keys by name.
fn mapped(format: Format, kind: &str, ts: &str, keys: &[(&str, &str)]) -> Decoder {
    let names: Vec<_> = keys.iter().map(|(name, _)| *name).collect();
    let keys = keys.iter().map(|(name, from)| (Arc::from(*name), origins(&[from])));
    let mapping = Mapping::new(origins(&[kind]), origins(&[ts]), keys);
    decoder_of(&Shape { format, mapping: Some(Arc::new(mapping)), ..shape(&names) })
}

fn of_format(format: Format) -> Decoder {
    decoder_of(&Shape { format, ..shape(&["userId"]) })
}

fn with_headers(shown: ShownHeaders) -> Decoder {
    decoder_of(&Shape { headers: shown, ..shape(&[]) })
}

/// The envelope of a record with this value and these headers, without its id and topic.
#[track_caller]
fn sent(decoder: &mut Decoder, key: Option<&str>, headers: &[Header<'_>], value: Option<&[u8]>) -> String {
    let record = Record { key: key.map(str::as_bytes), headers, ..record(value) };
    let event = decoder.decode(&record).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&event.envelope).unwrap()["type"], *event.kind);
    let envelope = std::str::from_utf8(&event.envelope).unwrap();
    envelope.strip_prefix(r#"{"id":"orders:3:42","ts":"#).unwrap().into()
}

#[test]
fn a_mapping_finds_type_time_and_keys_and_the_value_is_data() {
    let keys = &[("deep", "/user/ids/1"), ("orderId", "key"), ("site", "const:eu"), ("tenant", "header:tenant")];
    let mut decoder = mapped(Format::Json, "/eventType", "/meta/at", keys);
    let value = br#"{"eventType": "paid", "data": 1, "user": {"ids": [7, 8.0, 9]}, "meta": {"at": "2026-11-22T10:00:00.1239Z"}}"#;
    let headers: &[Header<'_>] = &[("tenant", Some(b"t1")), ("tenant", Some(b"t2"))];
    assert_eq!(
        sent(&mut decoder, Some("o-1"), headers, Some(value)),
        r#"1795341600123,"type":"paid","orderId":"o-1","site":"eu","tenant":"t2","data":{"eventType":"paid","data":1,"user":{"ids":[7,8.0,9]},"meta":{"at":"2026-11-22T10:00:00.1239Z"}}}"#,
        "8.0 is no key"
    );
    let integer = br#"{"user":{"ids":[7,8]},"eventType":5,"meta":{"at":12}}"#;
    let event = decoder.decode(&Record { key: Some(b"o-2"), ..record(Some(integer)) }).unwrap();
    assert_eq!(super::tests::keys(&event), [("deep", "8"), ("orderId", "o-2"), ("site", "eu")]);
    assert_eq!((&*event.kind, event.ts, event.data()), ("5", 12, &integer[..]));
}

/// A decoder of JSON with this mapping of the key `id`.
fn over(mapping: Mapping) -> Decoder {
    decoder_of(&Shape { mapping: Some(Arc::new(mapping)), ..shape(&["id"]) })
}

#[test]
fn the_first_origin_with_a_value_counts() {
    let mut decoder = over(Mapping {
        data: Some(origins(&["/after", "/before"])),
        ..Mapping::new(
            origins(&["/kind", "header:kind", "const:change"]),
            origins(&["/at", "/time"]),
            [("id".into(), origins(&["/after/id", "/before/id", "key:/id", "key"]))],
        )
    });
    let headers: &[Header<'_>] = &[("kind", Some(b"noted"))];
    for (key, headers, value, expected) in [
        (
            None,
            &[][..],
            r#"{"after":{"id":1},"before":{"id":2},"at":7}"#,
            r#"7,"type":"change","id":1,"data":{"id":1}}"#,
        ),
        (None, headers, r#"{"after":null,"before":{"id":2}}"#, r#"1000,"type":"noted","id":2,"data":{"id":2}}"#),
        (None, headers, r#"{"after":{"id":{}},"kind":5}"#, r#"1000,"type":"5","data":{"id":{}}}"#),
        (None, &[], r#"{"after":{"id":""},"before":{"id":2}}"#, r#"1000,"type":"change","data":{"id":""}}"#),
        (None, &[], r#"{"after":{"id":null},"before":{"id":2}}"#, r#"1000,"type":"change","id":2,"data":{"id":null}}"#),
        (Some(r#"{"id":"a"}"#), &[], r#"{"at":"soon","time":8}"#, r#"8,"type":"change","id":"a","data":null}"#),
        (Some("[1]"), &[], "1", r#"1000,"type":"change","id":"[1]","data":null}"#),
    ] {
        assert_eq!(sent(&mut decoder, key, headers, Some(value.as_bytes())), expected, "{value}");
    }
}

#[test]
fn a_key_is_missing_if_its_first_present_origin_is_invalid() {
    let keys = [("id".into(), origins(&["header:id", "key", "/id"]))];
    let mut decoder = over(Mapping::new(origins(&["/type"]), origins(&["/ts"]), keys));
    for (key, header, expected) in [
        (None, None, Some("7")),
        (Some(&b"k"[..]), None, Some("k")),
        (Some(b"k"), Some(&b"h"[..]), Some("h")),
        (Some(b"k"), Some(b""), None),
        (Some(b"k"), Some(b"\xff"), None),
        (Some(b"\xff"), None, None),
    ] {
        let headers: &[Header<'_>] = &[("id", header)];
        let event = decoder.decode(&Record { key, headers, ..record(Some(br#"{"id":7}"#)) }).unwrap();
        assert_eq!(event.key("id"), expected, "{key:?} {header:?}");
    }
}

#[test]
fn types_are_replaced_and_dropped() {
    let mut decoder = over(Mapping {
        types: [("c".into(), "created".into())].into(),
        drop: ["x".into(), "message".into(), "delete".into()].into(),
        ..Mapping::new(origins(&["/op"]), origins(&["/ts"]), [])
    });
    assert_eq!(sent(&mut decoder, None, &[], Some(br#"{"op":"c"}"#)), r#"1000,"type":"created","data":{"op":"c"}}"#);
    assert_eq!(sent(&mut decoder, None, &[], Some(br#"{"op":"u"}"#)), r#"1000,"type":"u","data":{"op":"u"}}"#);
    for value in [Some(&br#"{"op":"x"}"#[..]), Some(b"{}"), None] {
        let dropped = decoder.decode(&record(value)).unwrap_err();
        assert!(matches!(dropped, Undecodable::Dropped), "{dropped}");
        assert!(matches!(dropped.entry("t".into(), 0, 7), Entry::Hole { end: 8, .. }), "it is not missing");
    }
}

#[test]
fn an_event_that_lacks_a_key_is_a_gap_where_the_topic_says_so() {
    let decode = |missing_key, value: &str| {
        let mut decoder = decoder_of(&Shape { missing_key, ..shape(&["a", "b"]) });
        let event = decoder.decode(&record(Some(value.as_bytes()))).unwrap();
        (event.is_gap_without_key, decoder.missing_keys(&event).collect::<Vec<_>>())
    };
    assert_eq!(decode(MissingKey::Gap, r#"{"b":1}"#), (true, vec![0]));
    assert_eq!(decode(MissingKey::Gap, r#"{"a":1,"b":1}"#), (false, vec![]));
    assert_eq!(decode(MissingKey::Count, r#"{"a":[]}"#), (false, vec![0, 1]));
}

#[test]
fn changes_of_debezium_are_recognized_with_and_without_schemas() {
    let mut decoder = over(Preset::Debezium.mapping(["id".into()]));
    let row = r#"{"id":7,"note":null}"#;
    let change = |op: &str, before: &str, after: &str| {
        format!(r#"{{"before":{before},"after":{after},"source":{{"ts_ms":5}},"op":"{op}","ts_ms":6}}"#)
    };
    for (op, before, after, kind) in [
        ("c", "null", row, "created"),
        ("r", "null", row, "read"),
        ("u", r#"{"id":7,"note":1}"#, row, "updated"),
        ("d", row, "null", "deleted"),
    ] {
        let bare = change(op, before, after);
        for value in [format!(r#"{{"schema":{{"fields":[]}},"payload":{bare}}}"#), bare] {
            let expected = format!(r#"5,"type":"{kind}","id":7,"data":{row}}}"#);
            assert_eq!(sent(&mut decoder, None, &[], Some(value.as_bytes())), expected, "{value}");
        }
    }
    for key in [r#"{"id":7}"#, r#"{"schema":{},"payload":{"id":7}}"#] {
        let value = change("d", "null", "null");
        let expected = r#"5,"type":"deleted","id":7,"data":null}"#;
        assert_eq!(sent(&mut decoder, Some(key), &[], Some(value.as_bytes())), expected, "{key}");
    }
    let border = r#"{"status":"BEGIN","id":"571","event_count":null,"ts_ms":1}"#;
    for value in [None, Some(border), Some(r#"{"ts_ms":1}"#)] {
        let dropped = decoder.decode(&Record { key: Some(br#"{"id":7}"#), ..record(value.map(str::as_bytes)) });
        assert!(matches!(dropped, Err(Undecodable::Dropped)), "{value:?}");
    }
}

#[test]
fn keys_and_data_of_a_change_are_of_one_row() {
    let mut decoder = over(Preset::Debezium.mapping(["id".into()]));
    for after in ["null", r#""""#, r#"{"id":"c-1"}"#, "1.5"] {
        let row = format!(r#"{{"id":{after}}}"#);
        let value = format!(r#"{{"before":{{"id":"c-1"}},"after":{row},"op":"u","ts_ms":6}}"#);
        let expected = format!(r#"6,"type":"updated","data":{row}}}"#);
        assert_eq!(sent(&mut decoder, None, &[], Some(value.as_bytes())), expected);
    }
    let document = r#"{"before":{"id":"c-1"},"after":"{}","op":"u","ts_ms":6}"#;
    let expected = r#"6,"type":"updated","id":"c-2","data":"{}"}"#;
    assert_eq!(sent(&mut decoder, Some(r#"{"id":"c-2"}"#), &[], Some(document.as_bytes())), expected);
}

#[test]
fn a_row_may_have_a_field_with_the_name_of_the_payload() {
    let mut decoder = over(Preset::Connect.mapping(["id".into()]));
    for rest in ["", r#","schema":1"#] {
        let row = format!(r#"{{"id":1,"payload":{{"id":2,"type":"x"}}{rest}}}"#);
        let expected = format!(r#"1000,"type":"message","id":1,"data":{row}}}"#);
        assert_eq!(sent(&mut decoder, None, &[], Some(row.as_bytes())), expected);
    }
    let row = r#"{"payload":{"id":2}}"#;
    let expected = format!(r#"1000,"type":"message","id":1,"data":{row}}}"#);
    let key = r#"{"id":1,"payload":{"id":2}}"#;
    assert_eq!(sent(&mut decoder, Some(key), &[], Some(row.as_bytes())), expected);
}

#[test]
fn rows_of_kafka_connect_are_recognized_with_and_without_schemas() {
    let mut decoder = over(Preset::Connect.mapping(["id".into()]));
    let row = r#"{"id":7,"type":"x","ts":5}"#;
    for value in [format!(r#"{{"schema":null,"payload":{row}}}"#), row.to_owned()] {
        let expected = format!(r#"5,"type":"x","id":7,"data":{row}}}"#);
        assert_eq!(sent(&mut decoder, None, &[], Some(value.as_bytes())), expected);
    }
    let tombstone = sent(&mut decoder, Some(r#"{"schema":{},"payload":{"id":7}}"#), &[], None);
    assert!(tombstone.starts_with(r#"1000,"type":"delete","id":7,"#), "{tombstone}");
}

#[test]
fn a_missing_value_of_a_mapping_counts_as_absent() {
    let mut decoder = mapped(Format::Json, "header:type", "key", &[("a", "/a/b"), ("b", "header:b")]);
    for value in
        ["1", "[]", r#"{"a":1}"#, r#"{"a":{"b":null}}"#, r#"{"a":{"b":""}}"#, r#"{"a":{"b":{}}}"#, r#"{"a":{"b":1.5}}"#]
    {
        let headers: &[Header<'_>] = &[("b", Some(b"\xff")), ("type", Some(b"a\nb"))];
        let expected = format!(r#"1000,"type":"message","data":{value}}}"#);
        assert_eq!(sent(&mut decoder, Some("soon"), headers, Some(value.as_bytes())), expected);
    }
    let refused = decoder.decode(&record(Some(b""))).unwrap_err();
    assert!(matches!(refused, Undecodable::NotJson(_)), "zero bytes are no JSON: {refused}");
}

#[test]
fn a_pointer_sees_what_a_reader_sees() {
    let find = |pointer: &str, value: &str| {
        let event = mapped(Format::Json, "const:t", "/ts", &[("k", pointer)]).decode(&record(Some(value.as_bytes())));
        event.unwrap().key("k").map(str::to_owned)
    };
    assert_eq!(find("/a", r#"{"a":1,"\u0061":2}"#).as_deref(), Some("2"), "the last of a repeated name");
    assert_eq!(find("/a/0", r#"{"a":["x"]}"#).as_deref(), Some("x"));
    assert_eq!(find("/a/0", r#"{"a":{"0":"x"}}"#).as_deref(), Some("x"));
    for none in ["/a/00", "/a/-", "/a/1", "/a/0/0", "/b"] {
        assert_eq!(find(none, r#"{"a":["x"]}"#), None, "{none}");
    }
    assert_eq!(find("/a~1b/", r#"{"a/b":{"":"x"}}"#).as_deref(), Some("x"));
}

#[test]
fn a_tombstone_keeps_the_keys_that_need_no_value() {
    let mut decoder =
        mapped(Format::Json, "const:changed", "header:ts", &[("a", "/a"), ("orderId", "key"), ("t", "header:t")]);
    let headers: &[Header<'_>] = &[("t", Some(b"x")), ("ts", Some(b"77"))];
    assert_eq!(
        sent(&mut decoder, Some("o-1"), headers, None),
        r#"77,"type":"delete","orderId":"o-1","t":"x","key":"o-1","data":null}"#
    );
    let mut by_value = mapped(Format::Json, "/type", "/ts", &[("userId", "/user")]);
    let event = by_value.decode(&Record { key: Some(b"o-1"), ..record(None) }).unwrap();
    assert!(keys(&event).is_empty(), "the mapping does not say that the record's key is the user");
    assert_eq!(sent(&mut of_format(Format::Binary), None, &[], None), r#"1000,"type":"delete","data":null}"#);
}

#[test]
fn text_and_bytes_are_strings() {
    let mut text = of_format(Format::Text);
    assert_eq!(sent(&mut text, None, &[], Some(b"a \"b\"\n")), r#"1000,"type":"message","data":"a \"b\"\n"}"#);
    assert_eq!(sent(&mut text, None, &[], Some(b"{}")), r#"1000,"type":"message","data":"{}"}"#);
    assert_eq!(sent(&mut text, None, &[], Some(b"")), r#"1000,"type":"message","data":""}"#);
    assert!(matches!(text.decode(&record(Some(b"\xff"))), Err(Undecodable::NotUtf8)));
    let mut binary = of_format(Format::Binary);
    assert_eq!(
        sent(&mut binary, None, &[], Some(b"\xff\0\x01")),
        r#"1000,"type":"message","encoding":"base64","data":"/wAB"}"#
    );
    assert_eq!(sent(&mut binary, None, &[], Some(b"")), r#"1000,"type":"message","encoding":"base64","data":""}"#);
    let mut keyed = mapped(Format::Binary, "header:type", "header:ts", &[("userId", "key")]);
    assert_eq!(
        sent(&mut keyed, Some("u1"), &[("type", Some(b"frame"))], Some(b"\xff")),
        r#"1000,"type":"frame","userId":"u1","encoding":"base64","data":"/w=="}"#
    );
}

#[test]
fn headers_are_shown_on_request_each_once() {
    let headers: &[Header<'_>] =
        &[("a", Some(b"1")), ("b", None), ("c", Some(b"\xff")), ("a", Some(b"\"2\"")), ("d", Some(b""))];
    let show = |shown| sent(&mut with_headers(shown), None, headers, Some(br#"{"headers":7,"x":1,"data":2}"#));
    assert_eq!(
        show(ShownHeaders::All),
        r#"1000,"type":"message","headers":{"b":null,"c":{"base64":"/w=="},"a":"\"2\"","d":""},"headers_":7,"x":1,"data":2}"#
    );
    assert_eq!(
        show(ShownHeaders::Named(["a".into(), "z".into()].into())),
        r#"1000,"type":"message","headers":{"a":"\"2\""},"headers_":7,"x":1,"data":2}"#
    );
    assert_eq!(show(ShownHeaders::Named([].into())), r#"1000,"type":"message","headers":7,"x":1,"data":2}"#);
    let many = vec![("a", None); HEADERS_MAX + 1];
    let refused = with_headers(ShownHeaders::All).decode(&Record { headers: &many, ..record(Some(b"1")) });
    assert!(matches!(refused, Err(Undecodable::TooManyHeaders)));
    assert!(
        with_headers(ShownHeaders::Named([].into())).decode(&Record { headers: &many, ..record(Some(b"1")) }).is_ok()
    );
}

fn cloud_event(rest: &str) -> String {
    format!(r#"{{"specversion":"1.0","type":"com.shop.paid","source":"/shop","id":"A1"{rest}}}"#)
}

#[test]
fn a_structured_cloudevent_is_recognized() {
    let decoder = || decoder_of(&shape(&["orderId", "userid"]));
    let value = cloud_event(r#","time":"2026-11-22T10:00:00Z","userid":"u1","data":{"orderId":7}"#);
    assert_eq!(
        sent(&mut decoder(), None, &[], Some(value.as_bytes())),
        r#"1795341600000,"type":"com.shop.paid","orderId":7,"userid":"u1","ce":{"id":"A1","specversion":"1.0","source":"/shop","time":"2026-11-22T10:00:00Z","userid":"u1"},"data":{"orderId":7}}"#
    );
    assert_eq!(
        sent(&mut decoder(), None, &[], Some(cloud_event(r#","data_base64":"/wA=""#).as_bytes())),
        r#"1000,"type":"com.shop.paid","ce":{"id":"A1","specversion":"1.0","source":"/shop"},"encoding":"base64","data":"/wA="}"#
    );
    assert_eq!(
        sent(&mut decoder(), None, &[], Some(cloud_event("").as_bytes())),
        r#"1000,"type":"com.shop.paid","ce":{"id":"A1","specversion":"1.0","source":"/shop"},"data":null}"#
    );
    for missing in [r#""id":"A1""#, r#""source":"/shop""#, r#""type":"com.shop.paid""#, r#""specversion":"1.0""#] {
        let value = cloud_event(r#","data":1"#).replace(missing, r#""x":1"#);
        assert!(!sent(&mut decoder(), None, &[], Some(value.as_bytes())).contains(r#""ce""#), "{missing}");
    }
}

#[test]
fn a_binary_cloudevent_is_recognized_and_its_data_is_what_its_content_type_says() {
    let attributes: [Header<'_>; 6] = [
        ("ce_specversion", Some(b"1.0")),
        ("ce_type", Some(b"paid")),
        ("ce_source", Some(b"/shop")),
        ("ce_id", Some(b"A1")),
        ("ce_time", Some(b"2026-11-22T10:00:00Z")),
        ("ce_userid", Some(b"u1")),
    ];
    let sent_as = |content_type: Option<&str>, value: &[u8]| {
        let mut headers = attributes.to_vec();
        headers.extend(content_type.map(|text| ("content-type", Some(text.as_bytes()))));
        let record = Record { headers: &headers, ..record(Some(value)) };
        let event = decoder_of(&shape(&["orderId", "userid"])).decode(&record)?;
        Ok::<_, Undecodable>(serde_json::from_slice::<Value>(&event.envelope).unwrap())
    };
    let event = sent_as(Some("application/json; charset=utf-8"), br#"{"orderId":"o1"}"#).unwrap();
    let ce = json!({"specversion": "1.0", "source": "/shop", "id": "A1", "time": "2026-11-22T10:00:00Z",
        "userid": "u1", "datacontenttype": "application/json; charset=utf-8"});
    assert_eq!((&event["ce"], &event["type"], &event["ts"]), (&ce, &json!("paid"), &json!(1_795_341_600_000_i64)));
    assert_eq!(
        (&event["orderId"], &event["userid"], &event["data"]),
        (&json!("o1"), &json!("u1"), &json!({"orderId": "o1"}))
    );
    assert_eq!(sent_as(None, b"5").unwrap()["data"], 5);
    assert_eq!(sent_as(Some("application/vnd.x+JSON"), b"5").unwrap()["data"], 5);
    assert_eq!(sent_as(Some("text/plain"), b"5").unwrap()["data"], "5");
    let bytes = sent_as(Some("application/avro"), b"5").unwrap();
    assert_eq!((&bytes["data"], &bytes["encoding"]), (&json!("NQ=="), &json!("base64")));
    assert!(matches!(sent_as(Some("application/json"), b"{"), Err(Undecodable::NotJson(_))));
    let partial = Record { headers: &attributes[1..], ..record(Some(b"5")) };
    assert_eq!(&*decoder_of(&shape(&[])).decode(&partial).unwrap().kind, "message");
}

#[test]
fn a_mapping_and_other_formats_turn_recognition_off() {
    let value = cloud_event(r#","data":1"#);
    let mut decoder = mapped(Format::Json, "/type", "/time", &[]);
    assert_eq!(
        sent(&mut decoder, None, &[], Some(value.as_bytes())),
        format!(r#"1000,"type":"com.shop.paid","data":{value}}}"#)
    );
    let mut text = of_format(Format::Text);
    assert!(!sent(&mut text, None, &[], Some(value.as_bytes())).contains(r#""ce""#));
}

proptest! {
    #[test]
    fn no_record_makes_it_panic_and_every_envelope_is_one_line_of_json(
        value in any::<Option<Vec<u8>>>(),
        text in r#"\{("(a|b|type|ts)":(1|"x"|\[1,2\]|\{"b":null\}|"2026-11-22T10:00:00Z"),){0,5}"a":\[0\]\}"#,
        key in any::<Option<Vec<u8>>>(),
        headers in prop::collection::vec(("a|ce_id|ce_type|ce_source|ce_specversion|content-type", any::<Option<Vec<u8>>>()), 0..8),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        for format in [Format::Json, Format::Text, Format::Binary] {
            let mut mapped = mapped(format, "/type", "/ts", &[("k", "/a/0"), ("l", "key"), ("m", "header:a")]);
            let mut shown = decoder_of(&Shape { format, headers: ShownHeaders::All, ..shape(&["a"]) });
            for value in [value.as_deref(), Some(text.as_bytes())] {
                let record = Record { key: key.as_deref(), headers: &headers, ..record(value) };
                for event in [mapped.decode(&record), shown.decode(&record)].into_iter().flatten() {
                    prop_assert!(!event.envelope.iter().any(|b| matches!(b, b'\n' | b'\r')));
                    let envelope: Value = serde_json::from_slice(&event.envelope).unwrap();
                    prop_assert_eq!(&envelope["data"], &serde_json::from_slice::<Value>(event.data()).unwrap());
                }
            }
        }
    }
}
