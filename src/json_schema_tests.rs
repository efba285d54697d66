//! Errors of schemas, what is refused, and that validation is bounded.

use serde_json::{Map, json};

use super::*;

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
