//! Compares a received item with the expected one.

use serde_json::Value;

/// Allows an object to have further fields.
const OPEN: &str = "...";
/// Stores values of the item for later steps; not part of the item.
pub const KEEP: &str = "keep";

/// Why an item differs: the JSON pointer of the first difference.
pub fn compare(expected: &Value, got: &Value, at: &str) -> Result<(), String> {
    match (expected, got) {
        (Value::String(text), _) if text.starts_with('<') && text.ends_with('>') => matcher(text, got, at),
        (Value::Object(wanted), Value::Object(fields)) => {
            let listed = wanted.iter().filter(|(name, _)| *name != OPEN && *name != KEEP);
            for (name, value) in listed {
                let found = fields.get(name).ok_or_else(|| format!("{at}/{name} is absent"))?;
                compare(value, found, &format!("{at}/{name}"))?;
            }
            let is_open = wanted.contains_key(OPEN);
            match fields.keys().find(|name| !is_open && !wanted.contains_key(*name)) {
                Some(name) => Err(format!("{at}/{name} is not expected")),
                None => Ok(()),
            }
        }
        (Value::Array(wanted), Value::Array(items)) if wanted.len() == items.len() => {
            wanted.iter().zip(items).enumerate().try_for_each(|(n, (w, i))| compare(w, i, &format!("{at}/{n}")))
        }
        _ if expected == got => Ok(()),
        _ => Err(format!("{at}: expected {expected}, got {got}")),
    }
}

fn matcher(name: &str, got: &Value, at: &str) -> Result<(), String> {
    let text = got.as_str().unwrap_or_default();
    let fits = match name {
        "<any>" => true,
        "<number>" => got.is_number(),
        "<string>" => !text.is_empty(),
        "<cursor>" => is_cursor(text),
        "<time>" => is_time(text),
        other => panic!("{other} is no matcher"),
    };
    fits.then_some(()).ok_or_else(|| format!("{at}: {got} is not {name}"))
}

/// `topic:partition:offset`, alone or with `~` and an opaque part.
fn is_cursor(text: &str) -> bool {
    let (id, rest) = text.split_once('~').unwrap_or((text, "A"));
    let mut parts = id.rsplitn(3, ':');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<i64>().is_ok());
    is_number(parts.next())
        && is_number(parts.next())
        && parts.next().is_some_and(|topic| !topic.is_empty())
        && !rest.is_empty()
}

fn is_time(text: &str) -> bool {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}

pub fn tests() {
    use serde_json::json;
    let differs = |expected: Value, got: Value| compare(&expected, &got, "").is_err();
    assert!(differs(json!({"a": 1}), json!({"a": 2})));
    assert!(differs(json!({"a": 1}), json!({"a": 1, "b": 2})));
    assert!(differs(json!({"a": 1, "b": 2}), json!({"a": 1})));
    assert!(differs(json!([1, 2]), json!([1])));
    assert!(differs(json!({"id": "<cursor>"}), json!({"id": "orders"})));
    assert!(differs(json!("<time>"), json!("yesterday")));
    assert!(differs(json!("<number>"), json!("1")));
    let same = json!({"a": "<number>", "b": [{"c": "<any>"}], "...": true});
    assert_eq!(compare(&same, &json!({"a": 1, "b": [{"c": null}], "d": 3}), ""), Ok(()));
    assert_eq!(compare(&json!("<cursor>"), &json!("orders:0:-1~AQ"), ""), Ok(()));
}
