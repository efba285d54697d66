//! JSON Schemas of topics: compiled with their errors in place, and applied to the data of events.
//!
//! It neither reads files nor uses the network: a schema is complete in itself. Regular expressions take linear time.
//! `format` is an annotation and not validated, because some formats are expensive.

use std::sync::Arc;

use jsonschema::PatternOptions;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::decode::schema::Validator;
use crate::pointer;

/// The largest schema, in bytes.
pub const SCHEMA_BYTES_MAX: u64 = 256 * 1024;
/// The most subschemas with every reference replaced by its target: each may be applied to a value of a record.
const SUBSCHEMAS_MAX: usize = 50_000;
/// The most memory of a compiled regular expression, and of its cache, in bytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Why a text is not a usable schema. It repeats nothing of the text but names of keywords and references.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", at(*.line_and_column))]
pub struct InvalidSchema {
    /// 1-based, in characters; `None` if it is not known.
    pub line_and_column: Option<(usize, usize)>,
    pub message: String,
}

fn at(line_and_column: Option<(usize, usize)>) -> String {
    line_and_column.map(|(line, column)| format!("line {line}, column {column}: ")).unwrap_or_default()
}

/// Compiles a schema. It recurses as deeply as the schema is nested.
///
/// # Errors
///
/// The first error, with its place.
pub fn compile(source: &[u8]) -> Result<Arc<dyn Validator>, InvalidSchema> {
    let schema: Value = serde_json::from_slice(source).map_err(|error| InvalidSchema {
        line_and_column: Some((error.line(), error.column())),
        message: "it is not JSON".into(),
    })?;
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    let options = jsonschema::options().offline().should_validate_formats(false).with_pattern_options(patterns);
    let wrong = |tokens: &[Box<str>], message: String| {
        let of = if tokens.is_empty() { "the schema".into() } else { format!("`/{}`", tokens.join("/")) };
        InvalidSchema { line_and_column: place(source, tokens), message: format!("{of}: {message}") }
    };
    let validator = options.build(&schema).map_err(|error| {
        let message = error.masked_with("the value").to_string();
        let tokens: Vec<Box<str>> =
            error.instance_path().segments().map(|segment| segment.to_string().into()).collect();
        // An error in a reference has no place.
        let tokens = if tokens.is_empty() { reference_in(&schema, &message).unwrap_or_default() } else { tokens };
        wrong(&tokens, message)
    })?;
    let mut unfolding = Unfolding { schema: &schema, subschemas: 0, open: Vec::new(), is_finite: true };
    if !unfolding.is_limited(&schema) {
        return Err(wrong(&[], format!("with its references resolved, it has more than {SUBSCHEMAS_MAX} subschemas")));
    }
    Ok(Arc::new(Compiled { validator, is_finite: unfolding.is_finite }))
}

/// The place of a reference that a message names.
fn reference_in(schema: &Value, message: &str) -> Option<Vec<Box<str>>> {
    let below = |token: String, value: &Value| {
        let is_named = |text: &str| message.contains(text.trim_start_matches('#'));
        match value {
            Value::String(text) if matches!(&*token, "$ref" | "$schema") && is_named(text) => Some(vec![token.into()]),
            value => {
                let mut tokens = reference_in(value, message)?;
                tokens.insert(0, token.into());
                Some(tokens)
            }
        }
    };
    match schema {
        Value::Object(members) => members.iter().find_map(|(name, value)| below(name.clone(), value)),
        Value::Array(elements) => elements.iter().enumerate().find_map(|(n, value)| below(n.to_string(), value)),
        _ => None,
    }
}

/// Counts subschemas. The validator remembers results of recursive references only: others would take a time that
/// doubles with each level. Only JSON pointers are followed.
struct Unfolding<'a> {
    schema: &'a Value,
    subschemas: usize,
    /// The references that are being followed.
    open: Vec<&'a str>,
    /// No reference is recursive, as far as is known.
    is_finite: bool,
}

impl<'a> Unfolding<'a> {
    fn is_limited(&mut self, part: &'a Value) -> bool {
        let members = match part {
            Value::Object(members) => members,
            Value::Array(elements) => return elements.iter().all(|element| self.is_limited(element)),
            _ => return true,
        };
        self.subschemas += 1;
        if self.subschemas > SUBSCHEMAS_MAX {
            return false;
        }
        self.is_finite &= !members.contains_key("$dynamicRef") && !members.contains_key("$recursiveRef");
        if let Some(Value::String(reference)) = members.get("$ref")
            && !self.follow(reference)
        {
            return false;
        }
        let is_applied =
            |name: &str| !matches!(name, "$defs" | "definitions" | "enum" | "const" | "default" | "examples");
        members.iter().filter(|(name, _)| is_applied(name)).all(|(_, member)| self.is_limited(member))
    }

    fn follow(&mut self, reference: &'a str) -> bool {
        let target = reference.strip_prefix('#').and_then(|pointer| self.schema.pointer(pointer));
        match target.filter(|_| !self.open.contains(&reference)) {
            Some(target) => {
                self.open.push(reference);
                let is_limited = self.is_limited(target);
                self.open.pop();
                is_limited
            }
            None => {
                self.is_finite = false;
                true
            }
        }
    }
}

/// The line and the column of a value in a JSON text.
fn place(source: &[u8], tokens: &[Box<str>]) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(source).ok()?;
    let value: &RawValue = serde_json::from_str(text).ok()?;
    let found = pointer::find(value, tokens)?;
    // The value is a part of the text.
    let before = text.get(..(found.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some((before.matches('\n').count() + 1, line.chars().count() + 1))
}

#[derive(Debug)]
struct Compiled {
    validator: jsonschema::Validator,
    is_finite: bool,
}

impl Validator for Compiled {
    fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// The search remembers no results, so recursive references could take an exponential time.
    fn violated(&self, value: &Value) -> Option<String> {
        let found = self.is_finite.then(|| self.validator.validate(value))?;
        found.err().map(|error| error.schema_path().to_string())
    }
}

#[cfg(test)]
#[path = "json_schema_tests.rs"]
mod tests;
