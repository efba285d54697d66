//! The kinds of keys that hold more than one value: lists, mappings and sections.

use serde_json::{Value as Json, json};

use super::kind::{Kind, Secrecy, string};
use super::{Table, or_variable};

/// A list of texts.
pub(in crate::config) struct List {
    /// What the elements are, in the reference; empty where the meaning says it.
    pub(in crate::config) of: &'static str,
    pub(in crate::config) items: Items,
    /// What a diagnostic expects of an element.
    pub(in crate::config) expected: &'static str,
    pub(in crate::config) min: usize,
    pub(in crate::config) max: usize,
    /// Whether the elements are distinct.
    pub(in crate::config) is_set: bool,
}

/// A list of any length.
pub(super) const LIST: List =
    List { of: "", items: Items::Pattern(""), expected: "", min: 0, max: usize::MAX, is_set: false };

/// The elements of a list.
pub(in crate::config) enum Items {
    /// Texts that match a regular expression.
    Pattern(&'static str),
    /// Some of these names.
    Names(fn() -> Vec<&'static str>),
}

impl Kind for List {
    type Value = &'static [&'static str];

    fn type_name(&self) -> String {
        if self.of.is_empty() { "list".into() } else { format!("list of {}", self.of) }
    }

    fn schema(&self) -> Json {
        let items = match self.items {
            Items::Pattern(pattern) => string(pattern),
            Items::Names(names) => json!({ "enum": names() }),
        };
        let mut schema = array(or_variable(items), self.min, self.max);
        if self.is_set {
            schema["uniqueItems"] = json!(true);
        }
        schema
    }

    fn write(&self, value: &&'static [&'static str]) -> Json {
        json!(value)
    }
}

/// The schema of a list.
fn array(items: Json, min: usize, max: usize) -> Json {
    let mut schema = json!({ "type": "array", "items": items });
    if min > 0 {
        schema["minItems"] = json!(min);
    }
    if max < usize::MAX {
        schema["maxItems"] = json!(max);
    }
    schema
}

/// A mapping with names that the user chooses.
pub(in crate::config) struct Map {
    /// The schema of its values, as JSON.
    pub(in crate::config) values: &'static str,
    /// What a diagnostic expects of a value.
    pub(in crate::config) expected: &'static str,
    pub(in crate::config) secrecy: Secrecy,
}

impl Kind for Map {
    type Value = ();

    fn type_name(&self) -> String {
        "map".into()
    }

    fn schema(&self) -> Json {
        let mut values: Json = serde_json::from_str(self.values).unwrap_or_default();
        if self.secrecy == Secrecy::Secret {
            values["writeOnly"] = json!(true);
        }
        json!({ "type": "object", "additionalProperties": values })
    }

    fn write(&self, (): &()) -> Json {
        json!({})
    }

    fn secrecy(&self) -> Secrecy {
        self.secrecy
    }
}

/// Values of several types.
pub(in crate::config) struct Mixed {
    pub(in crate::config) type_name: &'static str,
    /// Its schema, as JSON.
    pub(in crate::config) schema: &'static str,
    pub(in crate::config) expected: &'static str,
}

impl Kind for Mixed {
    /// As JSON.
    type Value = &'static str;

    fn type_name(&self) -> String {
        self.type_name.into()
    }

    fn schema(&self) -> Json {
        serde_json::from_str(self.schema).unwrap_or_default()
    }

    fn write(&self, value: &&'static str) -> Json {
        serde_json::from_str(value).unwrap_or_default()
    }
}

/// A section.
pub(in crate::config) struct Sub(pub(in crate::config) &'static Table);

impl Kind for Sub {
    type Value = ();

    fn type_name(&self) -> String {
        "section".into()
    }

    fn schema(&self) -> Json {
        self.0.schema()
    }

    fn write(&self, (): &()) -> Json {
        json!({})
    }

    fn table(&self) -> Option<&'static Table> {
        Some(self.0)
    }
}

/// A list of sections.
pub(in crate::config) struct Each {
    pub(in crate::config) table: &'static Table,
    pub(in crate::config) min: usize,
    pub(in crate::config) max: usize,
}

impl Kind for Each {
    type Value = ();

    fn type_name(&self) -> String {
        "list".into()
    }

    fn schema(&self) -> Json {
        array(self.table.schema(), self.min, self.max)
    }

    fn write(&self, (): &()) -> Json {
        json!([])
    }

    fn table(&self) -> Option<&'static Table> {
        Some(self.table)
    }
}

/// Sections by names that the user chooses.
pub(in crate::config) struct Named {
    pub(in crate::config) table: &'static Table,
    /// A regular expression of the names; empty for any name.
    pub(in crate::config) names: &'static str,
}

impl Kind for Named {
    type Value = ();

    fn type_name(&self) -> String {
        "map".into()
    }

    fn schema(&self) -> Json {
        let mut schema = json!({ "type": "object", "additionalProperties": self.table.schema() });
        if !self.names.is_empty() {
            schema["propertyNames"] = json!({ "pattern": self.names });
        }
        schema
    }

    fn write(&self, (): &()) -> Json {
        json!({})
    }

    fn table(&self) -> Option<&'static Table> {
        Some(self.table)
    }
}
