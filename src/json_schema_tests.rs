//! Errors of schemas, what is refused, and that validation is bounded.

use serde_json::{Map, json};

use super::*;
use crate::decode::DEPTH_MAX;
use crate::decode::schema::VALIDATION_STACK_BYTES;

fn refused(schema: &str) -> String {
    compile(schema.as_bytes()).unwrap_err().to_string()
}

fn compiled(schema: &Value) -> Arc<dyn Validator> {
    compile(schema.to_string().as_bytes()).unwrap()
}

#[test]
fn a_violation_is_named_by_its_place_in_the_schema() {
    let schema = compiled(&json!({
        "type": "object",
        "required": ["id"],
        "properties": { "id": { "type": "string" }, "total": { "$ref": "#/$defs/amount" } },
        "$defs": { "amount": { "type": "number", "minimum": 0 } },
    }));
    for (value, place) in [
        (json!({"id": "a", "total": 1.5}), None),
        (json!({"id": "a"}), None),
        (json!([]), Some("/type")),
        (json!({}), Some("/required")),
        (json!({"id": 7}), Some("/properties/id/type")),
        (json!({"id": "a", "total": -1}), Some("/$defs/amount/minimum")),
    ] {
        assert_eq!((schema.is_valid(&value), schema.violated(&value).as_deref()), (place.is_none(), place), "{value}");
    }
}

#[test]
fn an_error_has_its_place() {
    assert_eq!(refused("{\n  \"type\": }"), "line 2, column 11: it is not JSON");
    let schema = "{\n  \"properties\": {\n    \"a\": { \"type\": \"strin\" }\n  }\n}";
    let error = refused(schema);
    assert!(error.starts_with("line 3, column 20: `/properties/a/type`: "), "{error}");
    let error = refused(r#"{"properties": {"a": {"pattern": "(?=a)b"}}}"#);
    assert!(error.starts_with("line 1, column 34: `/properties/a/pattern`: "), "{error}");
    assert!(refused("7").contains("the schema: "));
}

#[test]
fn other_documents_are_refused() {
    for uri in ["https://example.com/a.json", "file:///etc/passwd", "a.json", "#/$defs/none"] {
        let error = refused(&json!({"properties": {"a": {"$ref": uri}}}).to_string());
        assert!(error.starts_with("line 1, column 28: `/properties/a/$ref`: "), "{error}");
        assert!(error.contains(uri.trim_start_matches('#')), "{error}");
    }
    let error = refused(r#"{"$schema": "https://example.com/dialect"}"#);
    assert!(error.contains("https://example.com/dialect"), "{error}");
}

/// References that double at every level, of the schema or of the data.
#[test]
fn validation_takes_no_exponential_time() {
    let doubled = |levels: usize| {
        let twice = |n: usize| json!({"allOf": [{"$ref": format!("#/$defs/{n}")}, {"$ref": format!("#/$defs/{n}")}]});
        let mut definitions: Map<String, Value> = (0..levels).map(|n| (n.to_string(), twice(n + 1))).collect();
        definitions.insert(levels.to_string(), json!({"type": "string"}));
        json!({"$ref": "#/$defs/0", "$defs": definitions})
    };
    assert!(compiled(&doubled(10)).is_valid(&json!("a")));
    assert!(refused(&doubled(60).to_string()).contains("subschemas"));

    let items = json!({"type": "array", "items": {"$ref": "#"}});
    let recursive = compiled(&json!({"anyOf": [items, items, {"type": "string"}]}));
    let deep = (0..120).fold(json!(1), |value, _| json!([value]));
    assert!(!recursive.is_valid(&deep));
    assert_eq!(recursive.violated(&deep), None, "that would take an exponential time");
}

#[test]
fn patterns_take_linear_time_and_limited_memory() {
    let schema = compiled(&json!({"pattern": "^(a+)+$"}));
    assert!(!schema.is_valid(&format!("{}b", "a".repeat(500_000)).into()));
    refused(r#"{"pattern": "(a{1000}){1000}"}"#);
}

#[test]
fn recursion_ends() {
    let schema = compiled(&json!({"allOf": [{"$ref": "#"}], "type": "string"}));
    assert!(schema.is_valid(&json!("a")) && !schema.is_valid(&json!(1)));
    let nested = (0..120).fold(json!({"type": "string"}), |schema, _| json!({"not": schema}));
    assert!(compiled(&nested).is_valid(&json!("a")));
}

/// Properties may have the names of keywords.
#[test]
fn subschemas_are_counted_under_any_name() {
    for name in ["const", "default", "definitions", "enum", "examples", "$defs"] {
        let twice = |n: usize| {
            let next = json!({"$ref": format!("#/$defs/{n}")});
            json!({"properties": {name: next}, "patternProperties": {name: next}})
        };
        let mut definitions: Map<String, Value> = (0..40).map(|n| (n.to_string(), twice(n + 1))).collect();
        definitions.insert("40".into(), json!({}));
        let error = refused(&json!({"$ref": "#/$defs/0", "$defs": definitions}).to_string());
        assert!(error.contains("more than 50000 subschemas"), "{name}: {error}");
    }
    assert!(
        compiled(&json!({"const": {"$ref": 7, "items": {"$ref": "a"}}}))
            .is_valid(&json!({"$ref": 7, "items": {"$ref": "a"}}))
    );
}

#[test]
fn references_that_are_not_counted_are_refused() {
    let of = |reference: &str| {
        json!({
            "properties": {"a": {"$ref": reference}},
            "$id": "https://example.com/a",
            "$defs": {"b": {"$anchor": "b"}, "c": {"$id": "c", "not": {"type": "string"}}},
        })
    };
    for reference in ["#b", "#/%24defs/b", "https://example.com/a#/$defs/b", "c", "#/$defs/c/not", "#/$defs/none"] {
        let error = refused(&of(reference).to_string());
        assert!(error.contains("`/properties/a/$ref`: ") && error.starts_with("line 1, column "), "{error}");
        assert!(error.contains(reference), "{error}");
    }
    assert!(refused(&of("#/$defs/c").to_string()).contains("`/$defs/c`: only the whole schema may have"));
    assert!(compiled(&of("#/$defs/b")).is_valid(&json!({"a": 1})));
    for keyword in ["$dynamicRef", "$recursiveRef"] {
        let error = refused(&json!({"items": {keyword: "#"}}).to_string());
        assert!(error.contains(&format!("`/items/{keyword}`: use `$ref`")), "{error}");
    }
}

#[test]
fn nesting_is_limited_with_references() {
    let chain = |length: usize| {
        let next = |n: usize| (n.to_string(), json!({"$ref": format!("#/$defs/{}", n + 1)}));
        let mut definitions: Map<String, Value> = (0..length).map(next).collect();
        definitions.insert(length.to_string(), json!({"type": "string"}));
        json!({"$ref": "#/$defs/0", "$defs": definitions})
    };
    assert!(compiled(&chain(NESTING_MAX - 2)).is_valid(&json!("a")));
    assert!(refused(&chain(NESTING_MAX - 1).to_string()).contains("nested deeper than 128"));
    assert!(refused(&recursive(RECURSIVE_NESTING_MAX + 1).to_string()).contains("nested deeper than 32"));
}

/// Refers to itself for each element, at this nesting.
fn recursive(nesting: usize) -> Value {
    let items = json!({"type": ["array", "null"], "items": {"$ref": "#"}});
    (2..nesting).fold(items, |schema, _| json!({"anyOf": [schema, {"type": "string"}]}))
}

#[test]
fn the_stack_is_large_enough_for_the_deepest_data() {
    let schema = compiled(&recursive(RECURSIVE_NESTING_MAX));
    let validate = move || {
        let deep = |value: Value| (0..DEPTH_MAX - 1).fold(value, |value, _| json!([value]));
        assert!(schema.is_valid(&deep(Value::Null)));
        assert!(!schema.is_valid(&deep(json!(1))));
    };
    std::thread::Builder::new().stack_size(VALIDATION_STACK_BYTES).spawn(validate).unwrap().join().unwrap();
}

#[test]
fn the_violated_keyword_is_looked_for_in_small_schemas() {
    let of = |alternatives: usize| compiled(&json!({"anyOf": vec![json!({"type": "string"}); alternatives]}));
    assert_eq!(of(LOCATED_SUBSCHEMAS_MAX - 1).violated(&json!(1)).as_deref(), Some("/anyOf"));
    assert_eq!(of(LOCATED_SUBSCHEMAS_MAX).violated(&json!(1)), None);
}
