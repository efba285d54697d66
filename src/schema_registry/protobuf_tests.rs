use super::*;

const ORDER: &str = r#"syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/any.proto";
import "shop/price.proto";
message Order {
  message Line { string sku = 1; }
  int64 order_id = 1;
  repeated Line lines = 2;
  map<string, int32> counts = 3;
  Price price = 4;
  google.protobuf.Timestamp at = 5;
  google.protobuf.Any any = 6;
  bytes raw = 7;
  message Note { string text = 1; }
}
message Other { string name = 1; }
"#;
const PRICE: &str = "syntax = \"proto3\"; package shop; message Price { uint64 cents = 1; }";

fn schema() -> ProtobufSchema {
    let references = vec![("shop/price.proto".into(), PRICE.into())];
    ProtobufSchema::compile(&SchemaText { schema: ORDER.into(), references }).unwrap()
}

fn json(message: &[u32], body: &[u8]) -> Result<String, String> {
    schema().json(&message.to_vec(), body).map_err(|error| error.to_string())
}

/// A field with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut rest = content.len();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    [bytes, content.to_vec()].concat()
}

#[test]
fn a_message_is_json_with_all_of_its_fields() {
    let entry = |key: &str, value| field(3, &[field(1, key.as_bytes()), vec![16, value]].concat());
    let price = [vec![8], vec![0xff; 9], vec![1]].concat();
    let body = [
        [&[8][..], &[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]].concat(),
        field(2, &field(1, b"s-1")),
        entry("b", 2),
        entry("a", 1),
        entry("c", 3),
        field(4, &price),
        field(5, &[8, 1]),
        field(7, b"hi"),
    ]
    .concat();
    let expected = r#"{"any":null,"at":"1970-01-01T00:00:01Z","counts":{"a":1,"b":2,"c":3},"lines":[{"sku":"s-1"}],"orderId":"9007199254740993","price":{"cents":"18446744073709551615"},"raw":"aGk="}"#;
    let json = json(&[0], &body).unwrap();
    assert_eq!(json.replace(r#""any":null,"#, ""), expected.replace(r#""any":null,"#, ""));
    assert_eq!(super::sorted(&json).unwrap(), json);
}

#[test]
fn the_indexes_select_a_message() {
    assert_eq!(json(&[1], &field(1, b"ann")), Ok(r#"{"name":"ann"}"#.into()));
    assert_eq!(json(&[0, 0], &field(1, b"s")), Ok(r#"{"sku":"s"}"#.into()));
    // The entry of the map, which stands between them in the descriptor, is not counted.
    assert_eq!(json(&[0, 1], &field(1, b"t")), Ok(r#"{"text":"t"}"#.into()));
    assert_eq!(json(&[2], b""), Err("the schema has no message with the indexes [2]".into()));
    assert_eq!(json(&[0, 2], b""), Err("the schema has no message with the indexes [0, 2]".into()));
}

#[test]
fn hostile_bodies_and_schemas_are_limited() {
    let error = json(&[1], &vec![0; PROTOBUF_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(error, format!("it is longer than {PROTOBUF_BYTES_MAX} bytes"));
    assert!(json(&[0], &field(4, &[8])).is_err());
    // An Any in an Any, and so on.
    let mut any = field(1, b"type.googleapis.com/google.protobuf.Any");
    for _ in 0..1000 {
        any = [field(1, b"type.googleapis.com/google.protobuf.Any"), field(2, &any)].concat();
    }
    let error = json(&[0], &field(6, &any)).unwrap_err();
    assert_eq!(error, format!("it is nested deeper than {DEPTH_MAX}"));
    let compile = |text: &str| ProtobufSchema::compile(&SchemaText { schema: text.into(), references: Vec::new() });
    let deep = format!("syntax = \"proto3\"; {}{}", "message A {".repeat(100_000), "}".repeat(100_000));
    assert_eq!(compile(&deep).unwrap_err(), format!("it is nested deeper than {NESTING_MAX}"));
    assert!(compile("syntax = \"proto3\"; import \"missing.proto\";").is_err());
    assert!(compile(&format!("syntax = \"proto3\"; import \"{ROOT}\"; message A {{}}")).is_err());
}

#[test]
fn a_serialized_descriptor_is_a_schema_too() {
    // File { name: "a.proto", message_type: [{ name: "Order", field: [{ name: "id", number: 1, type: TYPE_INT64 }] }] }
    let id = [field(1, b"id"), vec![24, 1, 32, 1, 40, 3]].concat();
    let message = [field(1, b"Order"), field(2, &id)].concat();
    let file = [field(1, b"a.proto"), field(4, &message), field(12, b"proto3")].concat();
    let schema = SchemaText { schema: STANDARD.encode(file), references: Vec::new() };
    let schema = ProtobufSchema::compile(&schema).unwrap();
    assert_eq!(schema.json(&vec![0], &[8, 5]).unwrap(), r#"{"id":"5"}"#);
}
