//! The forms of `routes.fields`.

use super::tests::{refused, route, warnings};

#[test]
fn equal_fields_have_one_id_in_any_order() {
    let id = |text: &str| route(&format!("fields: {text}")).fields.as_ref().unwrap().id();
    let keep = id("{ keep: [/data/a, /data/b] }");
    assert_eq!(id("{ keep: [/data/b, /data/a] }"), keep);
    assert!(![id("{ drop: [/data/a, /data/b] }"), id("{ keep: [/data/a] }"), id("{ keep: [] }"), 0].contains(&keep));
    assert!(route("retry: 1s").fields.is_none());
}

#[test]
fn wrong_fields_are_refused() {
    let route = |fields: &str| {
        let stream = "streams: { s: { topics: [t], keys: [userId] } }\n";
        format!("{stream}routes: [{{ path: /x, stream: s, public: true, fields: {fields} }}]\n")
    };
    refused(&route("@@{}"), "`routes.fields` lists no fields; expected `keep` or `drop`");
    refused(&route("{ keep: [/data/a], drop: @@[/data/b] }"), "`keep` and `drop` exclude each other");
    for wrong in ["data", "''", "/data/~2", &"/a".repeat(17), "7", "[]"] {
        refused(&route(&format!("{{ drop: [@@{wrong}] }}")), "expected a JSON pointer into the envelope");
    }
    refused(&route("{ drop: [/data/a, @@/data/a] }"), "`/data/a` is listed twice");
    refused(&route("{ drop: [@@/id] }"), "`id` of an event is always sent");
    refused(&route("{ keep: [@@/type] }"), "`type` of an event is always sent");
}

#[test]
fn fields_that_may_be_meant_otherwise_are_warned_of() {
    let warnings = |fields: &str| {
        let stream = "streams: { s: { topics: [t], keys: [userId] } }\n";
        warnings(&format!("{stream}routes: [{{ path: /x, stream: s, public: true, fields: {fields} }}]\n"))
    };
    assert!(warnings("{ drop: [/card] }")[0].contains("the field of the data is `/data/card`"));
    assert!(warnings("{ drop: [/data/userId] }")[0].contains("the envelope has a copy of it, `/userId`"));
    for good in ["{ drop: [/data/userId, /userId] }", "{ keep: [/userId, /data/a, /headers/a, /ce/source] }"] {
        assert_eq!(warnings(good), [""; 0], "{good}");
    }
}
