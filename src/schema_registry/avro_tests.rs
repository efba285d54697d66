use super::*;
use crate::decode::{DEPTH_MAX, RECORD_BYTES_MAX};

fn schema(text: &str) -> AvroSchema {
    AvroSchema::compile(&SchemaText { schema: text.into(), references: Vec::new() }).unwrap()
}

#[track_caller]
fn json(schema_text: &str, body: &[u8]) -> Result<String, String> {
    schema(schema_text).json(&Vec::new(), body).map_err(|error| error.to_string())
}

/// A length or a number as a zigzag varint.
fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.into()].concat()
}

#[test]
fn every_type_has_its_json() {
    let order = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"id","type":"long"}, {"name":"note","type":["null","string"]}, {"name":"tags","type":{"type":"array","items":"string"}},
        {"name":"by","type":{"type":"map","values":"int"}}, {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID"]}},
        {"name":"hash","type":{"type":"fixed","name":"Hash","size":2}}, {"name":"raw","type":"bytes"}, {"name":"paid","type":"boolean"}]}"#;
    let body = [
        long(9_007_199_254_740_993),
        long(1),
        text("a \"b\"\n"),
        [long(2), text("x"), text("y"), long(0)].concat(),
        // A block with its size in bytes.
        [long(-1), long(3), text("k"), long(-7), long(0)].concat(),
        long(1),
        vec![1, 2],
        text("hi"),
        vec![1],
    ]
    .concat();
    let expected = r#"{"id":9007199254740993,"note":"a \"b\"\n","tags":["x","y"],"by":{"k":-7},"state":"PAID","hash":"AQI=","raw":"aGk=","paid":true}"#;
    assert_eq!(json(order, &body), Ok(expected.into()));
    assert_eq!(json(r#""float""#, &0.1_f32.to_le_bytes()), Ok("0.1".into()));
    assert_eq!(json(r#""double""#, &0.1_f64.to_le_bytes()), Ok("0.1".into()));
    assert_eq!(json(r#""double""#, &f64::NEG_INFINITY.to_le_bytes()), Ok(r#""-inf""#.into()));
    assert_eq!(json(r#""long""#, &long(i64::MIN)), Ok(i64::MIN.to_string()));
    assert_eq!(json(r#"["null","long"]"#, &long(0)), Ok("null".into()));
}

#[test]
fn logical_types_are_texts_without_loss() {
    let json = |kind: &str, body: &[u8]| json(kind, body).unwrap();
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#;
    for (bytes, expected) in [
        (&[0x30, 0x39][..], "123.45"),
        (&[0xff], "-0.01"),
        (&[], "0.00"),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 0], "184467440737095516.16"),
    ] {
        let body = [long(bytes.len() as i64), bytes.to_vec()].concat();
        assert_eq!(json(decimal, &body), format!("\"{expected}\""));
    }
    let fixed = r#"{"type":"fixed","name":"D","size":2,"logicalType":"decimal","precision":4,"scale":0}"#;
    assert_eq!(json(fixed, &[0xff, 0x85]), r#""-123""#);
    let of = |kind: &str, logical: &str| format!(r#"{{"type":"{kind}","logicalType":"{logical}"}}"#);
    for (kind, logical, number, expected) in [
        ("int", "date", 20_785, r#""2026-11-28""#),
        ("int", "date", -1, r#""1969-12-31""#),
        ("int", "date", 2_147_483_647, "2147483647"),
        ("int", "time-millis", 36_000_123, r#""10:00:00.123""#),
        ("long", "time-micros", 86_400_000_000, "86400000000"),
        ("long", "timestamp-millis", 1_795_860_000_123, r#""2026-11-28T10:00:00.123Z""#),
        ("long", "timestamp-millis", -1, r#""1969-12-31T23:59:59.999Z""#),
        ("long", "timestamp-micros", 1_795_860_000_123_456, r#""2026-11-28T10:00:00.123456Z""#),
        ("long", "local-timestamp-millis", 1_795_860_000_123, r#""2026-11-28T10:00:00.123""#),
        ("long", "timestamp-millis", i64::MAX, "9223372036854775807"),
        ("long", "of-tomorrow", 7, "7"),
    ] {
        assert_eq!(json(&of(kind, logical), &long(number)), expected, "{logical}");
    }
    assert_eq!(json(&of("string", "uuid"), &text("abcdef01-0203-0405-0607-08090a0b0c0d")).len(), 38);
    let uuid = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    assert_eq!(json(uuid, &[0xab; 16]), r#""abababab-abab-abab-abab-abababababab""#);
    let duration = r#"{"type":"fixed","name":"P","size":12,"logicalType":"duration"}"#;
    assert_eq!(json(duration, &[1, 0, 0, 0, 2, 0, 0, 0, 0xe9, 3, 0, 0]), r#""P1M2DT1.001S""#);
}

#[test]
fn types_refer_to_other_schemas_and_to_themselves() {
    let references = vec![
        (
            "Item".into(),
            r#"{"type":"record","name":"shop.Item","fields":[{"name":"price","type":"shop.Price"}]}"#.into(),
        ),
        ("Price".into(), r#"{"type":"record","name":"shop.Price","fields":[{"name":"cents","type":"int"}]}"#.into()),
    ];
    let schema = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"item","type":"Item"},
        {"name":"old","type":"shop.Price"},{"name":"next","type":["null","Order"]}]}"#;
    let schema = AvroSchema::compile(&SchemaText { schema: schema.into(), references }).unwrap();
    let body = [long(1), long(2), long(1), long(3), long(4), long(0)].concat();
    let expected = r#"{"item":{"price":{"cents":1}},"old":{"cents":2},"next":{"item":{"price":{"cents":3}},"old":{"cents":4},"next":null}}"#;
    assert_eq!(schema.json(&Vec::new(), &body).unwrap(), expected);
}

#[test]
fn an_invalid_body_is_named_by_its_path() {
    let order = r#"{"type":"record","name":"Order","fields":[{"name":"lines","type":{"type":"array","items":
        {"type":"record","name":"Line","fields":[{"name":"sku","type":"string"},{"name":"kind","type":["null","int"]}]}}}]}"#;
    let line = |kind: i64| [text("s"), long(kind)].concat();
    let body = [long(2), line(0), line(2), long(0)].concat();
    assert_eq!(json(order, &body), Err("at `/lines/1/kind`: there is no such branch of the union".into()));
    let body = [long(1), long(100), b"short".to_vec()].concat();
    assert_eq!(json(order, &body), Err("at `/lines/0/sku`: it is cut off".into()));
    assert_eq!(json(r#""int""#, &[2, 0]), Err("1 bytes follow its end".into()));
    assert_eq!(json(r#""string""#, &[2, 0xff]), Err("a text is not UTF-8".into()));
    assert_eq!(json(r#""string""#, &[1]), Err("a length is negative".into()));
    assert_eq!(json(r#""long""#, &[0xff; 11]), Err("a number has no end".into()));
}

#[test]
fn hostile_bodies_and_schemas_are_limited() {
    // 2^40 empty records in a block of 13 bytes.
    let empty = r#"{"type":"array","items":{"type":"record","name":"E","fields":[]}}"#;
    let error = json(empty, &[long(1 << 40), long(0)].concat()).unwrap_err();
    assert!(error.ends_with(&format!("it is longer than {RECORD_BYTES_MAX} bytes as JSON")), "{error}");
    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    let error = json(list, &[long(1)].concat().repeat(1_000_000)).unwrap_err();
    assert!(error.ends_with(&format!("it is nested deeper than {DEPTH_MAX}")), "{error}");
    let compile = |text: &str| AvroSchema::compile(&SchemaText { schema: text.into(), references: Vec::new() });
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(5000), "}".repeat(5000));
    assert!(compile(&deep).is_err());
    let scale = r#"{"type":"bytes","logicalType":"decimal","precision":2000000000,"scale":1999999999}"#;
    assert!(compile(scale).is_err());
    assert!(compile(r#"{"type":"record","name":"A","fields":[{"name":"b","type":"Missing"}]}"#).is_err());
}

#[test]
fn references_use_types_that_are_defined_within_others() {
    let customer = r#"{"type":"record","name":"Customer","namespace":"shop","fields":[
        {"name":"level","type":{"type":"enum","name":"Level","symbols":["NEW","REGULAR"]}}, {"name":"friend","type":["null","Customer"]}]}"#;
    let orders = (0..20).map(|n| {
        format!(
            r#"{{"type":"record","name":"Part{n}","namespace":"shop","fields":[{{"name":"level","type":"Level"}}]}}"#
        )
    });
    let references = orders.chain([customer.to_owned()]).map(|text| (String::new(), text)).collect();
    let order = r#"{"type":"record","name":"Order","fields":[{"name":"part","type":"shop.Part7"},{"name":"by","type":"shop.Customer"}]}"#;
    let schema = AvroSchema::compile(&SchemaText { schema: order.into(), references }).unwrap();
    let body = [long(1), long(0), long(0)].concat();
    let expected = r#"{"part":{"level":"REGULAR"},"by":{"level":"NEW","friend":null}}"#;
    assert_eq!(schema.json(&Vec::new(), &body).unwrap(), expected);
}
