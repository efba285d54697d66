//! The form of a case; `tests/protocol/README.md` describes it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// The section of docs/protocol.md, as a fragment of a link.
    pub rule: String,
    pub steps: Vec<Step>,
}

/// A step has one of these fields; `answer` accompanies `open`, and `on` accompanies `expect` and `closes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub produce: Option<Produce>,
    pub open: Option<Open>,
    pub answer: Option<Answer>,
    pub expect: Option<Vec<Value>>,
    pub on: Option<String>,
    pub send: Option<Value>,
    #[serde(default)]
    pub cut: bool,
    /// A close code, or `end`.
    pub closes: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Produce {
    pub topic: String,
    #[serde(default)]
    pub partition: i32,
    pub key: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
    pub value: Option<Value>,
    pub text: Option<String>,
    pub hex: Option<String>,
    pub r#as: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    pub get: Option<String>,
    pub method: Option<String>,
    pub path: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub version: Option<String>,
    #[serde(default)]
    pub websocket: bool,
    pub r#as: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub without: Vec<String>,
    pub problem: Option<Value>,
}
