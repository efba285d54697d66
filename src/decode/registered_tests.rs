use std::sync::Mutex;

use super::*;
use crate::decode::tests::record;
use crate::decode::{Decoder, Format, Header, Shape};
use crate::event::Event;

/// Finds what a test has put there, and notes what is looked up.
#[derive(Debug)]
struct Known(Lookup, Mutex<Vec<SchemaId>>);

/// Returns the body and the message, or an error for an empty body.
#[derive(Debug)]
struct Echo;

impl Schemas for Known {
    fn name(&self) -> &str {
        "registry"
    }

    fn find(&self, id: SchemaId, _: SchemaFormat) -> Lookup {
        self.1.lock().unwrap().push(id);
        self.0.clone()
    }
}

impl WriterSchema for Echo {
    fn json(&self, message: &MessageIndexes, body: &[u8]) -> Result<String, InvalidBody> {
        if body.is_empty() {
            return Err(InvalidBody::new("it is cut off").below("id").below("order"));
        }
        Ok(format!(r#"{{"message":{message:?},"user":"{}"}}"#, std::str::from_utf8(body).unwrap()))
    }
}

fn decode(
    format: SchemaFormat,
    lookup: Lookup,
    headers: &[Header<'_>],
    value: &[u8],
) -> (Result<Event, Undecodable>, Vec<SchemaId>) {
    let known = Arc::new(Known(lookup, Mutex::default()));
    let schemas = Some(SharedSchemas(known.clone()));
    let shape = Shape { format: Format::Registered(format), schemas, ..Shape::new(["user".into()]) };
    let record = Record { headers, ..record(Some(value)) };
    let event = Decoder::new("orders".into(), &shape).decode(&record);
    let looked_up = std::mem::take(&mut *known.1.lock().unwrap());
    (event, looked_up)
}

fn echo() -> Lookup {
    Lookup::Known(Arc::new(Echo))
}

const GUID: [u8; 16] = [0xab, 0xcd, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];

#[test]
fn the_schema_is_named_before_the_value_or_in_a_header() {
    let prefixed = b"\0\0\0\x01\x02ann";
    let (event, ids) = decode(SchemaFormat::Avro, echo(), &[], prefixed);
    let event = event.unwrap();
    assert_eq!((event.data(), event.key("user")), (&br#"{"message":[],"user":"ann"}"#[..], Some("ann")));
    assert_eq!(ids, [SchemaId::Number(258)]);

    let guid = [&[1][..], &GUID].concat();
    let (event, ids) = decode(SchemaFormat::Avro, echo(), &[("__value_schema_id", Some(&guid))], b"bob");
    assert_eq!((event.unwrap().key("user"), &*ids), (Some("bob"), &[SchemaId::Guid(GUID)][..]));
    assert_eq!(ids[0].to_string(), "abcdef01-0203-0405-0607-08090a0b0c0d");

    // The header counts: what looks like a prefix is the body then.
    let header = ("__value_schema_id", Some(&b"\0\0\0\0\x07"[..]));
    let (event, ids) = decode(SchemaFormat::Avro, echo(), &[header], b"cid");
    assert_eq!((event.unwrap().key("user"), &*ids), (Some("cid"), &[SchemaId::Number(7)][..]));
}

#[test]
fn protobuf_names_its_message() {
    for (indexes, expected) in
        [(&b"\0"[..], "[0]"), (b"\x02\0", "[0]"), (b"\x02\x02", "[1]"), (b"\x04\x02\x80\x01", "[1,64]")]
    {
        let value = [b"\0\0\0\0\x07", indexes, b"ann"].concat();
        let event = decode(SchemaFormat::Protobuf, echo(), &[], &value).0.unwrap();
        assert_eq!(std::str::from_utf8(event.data()).unwrap(), format!(r#"{{"message":{expected},"user":"ann"}}"#));
        let header = [&[1][..], &GUID, indexes].concat();
        let event = decode(SchemaFormat::Protobuf, echo(), &[("__value_schema_id", Some(&header))], b"ann").0.unwrap();
        assert_eq!(std::str::from_utf8(event.data()).unwrap(), format!(r#"{{"message":{expected},"user":"ann"}}"#));
    }
    // A negative number, more levels than allowed, an index that is cut off, and a number without an end.
    for indexes in [&b"\x01"[..], b"\x22\0", b"\x02\x80", b"\x02\x01", b"\xff\xff\xff\xff\xff\x01"] {
        let value = [b"\0\0\0\0\x07", indexes].concat();
        let error = decode(SchemaFormat::Protobuf, echo(), &[], &value).0.unwrap_err().to_string();
        assert_eq!(error, "the value has invalid message indexes after the schema id 7");
    }
}

#[test]
fn json_behind_an_id_needs_no_schema() {
    let (event, ids) = decode(SchemaFormat::JsonSchema, echo(), &[], b"\0\0\0\0\x07{\"user\":\"ann\"}");
    assert_eq!((event.unwrap().key("user"), ids.len()), (Some("ann"), 0));
    let error = |value| decode(SchemaFormat::JsonSchema, echo(), &[], value).0.unwrap_err().to_string();
    assert_eq!(error(b"\0\0\0\0\x07\xff"), "the value is not JSON behind the schema id 7");
    assert!(error(b"\0\0\0\0\x07{").starts_with("the value is not JSON: "));
}

#[test]
fn the_reason_names_the_schema_and_the_place() {
    let error = |lookup, headers: &[Header<'_>], value: &[u8]| {
        decode(SchemaFormat::Avro, lookup, headers, value).0.unwrap_err().to_string()
    };
    let none = "the value has no schema id, neither before it nor in the header `__value_schema_id`";
    assert_eq!(error(echo(), &[], b"{}"), none);
    let glue = [&[3, 5][..], &[7; 17]].concat();
    assert_eq!(error(echo(), &[], &glue), format!("{none}; it looks like the format of AWS Glue's schema registry"));
    assert_eq!(
        error(echo(), &[("__value_schema_id", Some(b"\x01short"))], b""),
        "the value has an invalid schema id in the header `__value_schema_id`"
    );
    assert_eq!(
        error(echo(), &[], b"\0\0\0\0\x07"),
        "the value is not of its schema, id 7: at `/order/id`: it is cut off"
    );
    assert_eq!(
        error(Lookup::Unavailable("no answer".into()), &[], b"\0\0\0\0\x07x"),
        "the value has the schema id 7, which is not available: no answer"
    );
    let awaited = decode(SchemaFormat::Avro, Lookup::Awaited, &[], b"\0\0\0\0\x07x").0;
    assert!(matches!(awaited, Err(Undecodable::AwaitsSchema(SchemaId::Number(7)))));
}

#[test]
fn a_key_of_a_registry_is_text_or_json() {
    let shape = |key_format| Shape {
        key_format: Some(key_format),
        schemas: Some(SharedSchemas(Arc::new(Known(echo(), Mutex::default())))),
        ..Shape::new(["user".into()])
    };
    let mut decoder = Decoder::new("orders".into(), &shape(SchemaFormat::JsonSchema));
    let tombstone = |key| Record { key: Some(key), ..record(None) };
    let event = decoder.decode(&tombstone(b"\0\0\0\0\x07\"ann\"")).unwrap();
    assert_eq!(event.key("user"), Some("ann"));
    let event = decoder.decode(&tombstone(b"\0\0\0\0\x07{\"id\":1}")).unwrap();
    assert_eq!(event.key("user"), Some(r#"{"id":1}"#));
    let error = decoder.decode(&tombstone(b"plain")).unwrap_err().to_string();
    assert!(error.starts_with("the key has no schema id"), "{error}");
    // A record without a key is none.
    assert!(decoder.decode(&record(Some(b"{}"))).is_ok());
}
