//! Which data is validated, and what becomes of data that does not conform.

use std::sync::Arc;

use serde_json::Value;

use super::schema::{Nonconforming, Schema, VALIDATED_BYTES_MAX, Validator, Violation};
use super::tests::{self, decoder_of};
use super::*;

/// Accepts objects only.
#[derive(Debug)]
struct ObjectsOnly;

impl Validator for ObjectsOnly {
    fn is_valid(&self, value: &Value) -> bool {
        value.is_object()
    }

    fn violated(&self, _: &Value) -> Option<String> {
        Some("/type".into())
    }
}

fn objects_only(nonconforming: Nonconforming) -> Option<Schema> {
    Some(Schema::new(b"objects", Arc::new(ObjectsOnly), nonconforming))
}

fn record(value: &str) -> Record<'_> {
    tests::record(Some(value.as_bytes()))
}

fn shape(schema: &Option<Schema>) -> Shape {
    Shape { schema: schema.clone(), ..Shape::new([]) }
}

#[test]
fn the_data_of_an_event_is_validated() {
    let mut decoder = decoder_of(&shape(&objects_only(Nonconforming::Gap)));
    let mut violation = |value: &str| match decoder.decode(&record(value)) {
        Ok(_) => None,
        Err(error @ Undecodable::Invalid(_)) => {
            assert_eq!(error.cause(), GapCause::Invalid);
            Some(error.to_string())
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(violation(r#"{"a":1}"#), None, "a bare payload");
    assert_eq!(violation(r#"{"type":"x","data":{"a":1}}"#), None);
    let of_type = Some("its data does not conform to the schema: it violates `/type` of the schema".into());
    assert_eq!(violation("7"), of_type);
    assert_eq!(violation(r#"{"type":"x","data":[7]}"#), of_type, "the envelope is no data");
    let cloud_event = r#"{"specversion":"1.0","id":"1","source":"/","type":"x","data":7}"#;
    assert_eq!(violation(cloud_event), of_type);
    assert_eq!(
        violation(r#"{"data":1e999}"#).unwrap().split(": ").last(),
        Some("it has a number, a text or a nesting that cannot be read")
    );
}

#[test]
fn a_tombstone_has_nothing_to_validate() {
    let mut decoder = decoder_of(&shape(&objects_only(Nonconforming::Gap)));
    assert!(decoder.decode(&Record { value: None, ..record("") }).is_ok());
    let undecodable = decoder.decode(&record("{")).unwrap_err();
    assert_eq!(undecodable.cause(), GapCause::Undecodable);
}

#[test]
fn data_that_does_not_conform_may_pass() {
    let mut decoder = decoder_of(&shape(&objects_only(Nonconforming::Pass)));
    assert_eq!(decoder.decode(&record("7")).unwrap().data(), b"7");
    assert_eq!(decoder.take_passed(), Some(Violation::Keyword("/type".into())));
    assert!(decoder.decode(&record("{}")).is_ok());
    assert_eq!(decoder.take_passed(), None);
}

#[test]
fn long_data_does_not_conform() {
    let mut decoder = decoder_of(&shape(&objects_only(Nonconforming::Gap)));
    let of = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    assert!(decoder.decode(&record(&of(VALIDATED_BYTES_MAX))).is_ok());
    let error = decoder.decode(&record(&of(VALIDATED_BYTES_MAX + 1))).unwrap_err();
    assert!(matches!(error, Undecodable::Invalid(Violation::TooLong)), "{error}");
}

#[test]
fn the_violated_keyword_is_looked_for_in_small_data() {
    let mut decoder = decoder_of(&shape(&objects_only(Nonconforming::Gap)));
    let mut violation = |numbers: usize| match decoder.decode(&record(&format!("[{}10]", "1,".repeat(numbers)))) {
        Err(Undecodable::Invalid(violation)) => violation,
        other => panic!("{other:?}"),
    };
    assert_eq!(violation(2046), Violation::Keyword("/type".into()));
    assert_eq!(violation(2047), Violation::Unknown);
}

#[test]
fn no_schema_accepts_data_that_cannot_be_read() {
    /// The schema `true`.
    #[derive(Debug)]
    struct Anything;

    impl Validator for Anything {
        fn is_valid(&self, _: &Value) -> bool {
            true
        }

        fn violated(&self, _: &Value) -> Option<String> {
            None
        }
    }

    let anything = |nonconforming| Some(Schema::new(b"true", Arc::new(Anything), nonconforming));
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let mut decoder = decoder_of(&shape(&anything(Nonconforming::Gap)));
    assert!(decoder.decode(&record(&nested(DEPTH_MAX - 1))).is_ok());
    let mut passing = decoder_of(&shape(&anything(Nonconforming::Pass)));
    for value in [nested(DEPTH_MAX), "[1e400]".into(), r#"["\ud800"]"#.into()] {
        let error = decoder.decode(&record(&value)).unwrap_err();
        assert!(matches!(error, Undecodable::Invalid(Violation::Unreadable)), "{value}: {error}");
        assert_eq!(passing.decode(&record(&value)).unwrap().data(), value.as_bytes());
        assert_eq!(passing.take_passed(), Some(Violation::Unreadable));
    }
}
