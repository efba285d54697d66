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
/// The deepest nesting of subschemas with every reference replaced by its target: validation recurses.
const NESTING_MAX: usize = 128;
/// The deepest nesting of a schema that refers to itself: it is nested so deeply at each level of the data. It
/// determines [`VALIDATION_STACK_BYTES`](crate::decode::schema::VALIDATION_STACK_BYTES).
const RECURSIVE_NESTING_MAX: usize = 32;
/// The most subschemas of a schema whose violated keyword is looked for: `anyOf` collects the errors of all of them for
/// each value.
const LOCATED_SUBSCHEMAS_MAX: usize = 256;
/// The keywords whose value is a schema or a list of schemas.
const OF_SCHEMAS: [&str; 15] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// The keywords whose value has schemas as members, whatever their names are.
const OF_NAMED_SCHEMAS: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
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

/// Compiles a schema. Recursion is at most as deep as the limits of its nesting.
///
/// # Errors
///
/// The first error, with its place.
pub fn compile(source: &[u8]) -> Result<Arc<dyn Validator>, InvalidSchema> {
    let schema: Value = serde_json::from_slice(source).map_err(|error| InvalidSchema {
        line_and_column: Some((error.line(), error.column())),
        message: "it is not JSON".into(),
    })?;
    let wrong = |tokens: &[Box<str>], message: String| {
        let of = if tokens.is_empty() { "the schema".into() } else { format!("`/{}`", tokens.join("/")) };
        InvalidSchema { line_and_column: place(source, tokens), message: format!("{of}: {message}") }
    };
    let unfolding = Unfolding::of(&schema).map_err(|refusal| wrong(&refusal.tokens, refusal.message))?;
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    let options = jsonschema::options().offline().should_validate_formats(false).with_pattern_options(patterns);
    let validator = options.build(&schema).map_err(|error| {
        let message = error.masked_with("the value").to_string();
        let tokens: Vec<Box<str>> =
            error.instance_path().segments().map(|segment| segment.to_string().into()).collect();
        // An error in a reference has no place.
        let tokens = if tokens.is_empty() { reference_in(&schema, &message).unwrap_or_default() } else { tokens };
        wrong(&tokens, message)
    })?;
    Ok(Arc::new(Compiled {
        validator,
        is_located: unfolding.is_finite && unfolding.subschemas <= LOCATED_SUBSCHEMAS_MAX,
    }))
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

/// Counts the subschemas that a validation applies, with every reference replaced by its target. The validator remembers
/// results of recursive references only: others would take a time that doubles with each level.
struct Unfolding<'a> {
    schema: &'a Value,
    subschemas: usize,
    /// The deepest nesting so far.
    nesting: usize,
    /// No reference is recursive, as far as is known.
    is_finite: bool,
    /// The references that are being followed.
    open: Vec<&'a str>,
    /// The place of the subschema.
    tokens: Vec<Box<str>>,
}

/// Why a schema is refused, and the place of the reason.
struct Refusal {
    tokens: Vec<Box<str>>,
    message: String,
}

impl<'a> Unfolding<'a> {
    fn of(schema: &'a Value) -> Result<Self, Refusal> {
        let (open, tokens) = (vec!["#"], Vec::new());
        let mut unfolding = Self { schema, subschemas: 0, nesting: 0, is_finite: true, open, tokens };
        unfolding.subschema(schema, 1)?;
        if !unfolding.is_finite && unfolding.nesting > RECURSIVE_NESTING_MAX {
            let message = format!("it refers to itself, and is nested deeper than {RECURSIVE_NESTING_MAX}");
            return Err(unfolding.refusal(message));
        }
        Ok(unfolding)
    }

    /// A schema or a list of schemas. Any other value is not applied.
    fn subschema(&mut self, part: &'a Value, nesting: usize) -> Result<(), Refusal> {
        match part {
            Value::Object(_) | Value::Bool(_) => self.count(nesting)?,
            Value::Array(elements) => {
                let mut elements = elements.iter().enumerate();
                return elements.try_for_each(|(n, element)| self.below(&n.to_string(), element, nesting));
            }
            _ => return Ok(()),
        }
        if !self.tokens.is_empty() && has_own_base(part) {
            return Err(self.refusal("only the whole schema may have an `$id` or `id`".into()));
        }
        for (name, member) in part.as_object().into_iter().flatten() {
            match (&**name, member) {
                ("$ref", Value::String(reference)) => self.follow(reference, nesting)?,
                ("$dynamicRef" | "$recursiveRef", _) => {
                    self.tokens.push(name.as_str().into());
                    return Err(self.refusal("use `$ref`".into()));
                }
                (keyword, Value::Object(schemas)) if OF_NAMED_SCHEMAS.contains(&keyword) => {
                    self.tokens.push(keyword.into());
                    schemas.iter().try_for_each(|(name, schema)| self.below(name, schema, nesting + 1))?;
                    self.tokens.pop();
                }
                (keyword, _) if OF_SCHEMAS.contains(&keyword) => self.below(keyword, member, nesting + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn below(&mut self, token: &str, part: &'a Value, nesting: usize) -> Result<(), Refusal> {
        self.tokens.push(token.into());
        self.subschema(part, nesting)?;
        self.tokens.pop();
        Ok(())
    }

    fn count(&mut self, nesting: usize) -> Result<(), Refusal> {
        self.subschemas += 1;
        self.nesting = self.nesting.max(nesting);
        let exceeded = if self.subschemas > SUBSCHEMAS_MAX {
            format!("has more than {SUBSCHEMAS_MAX} subschemas")
        } else if nesting > NESTING_MAX {
            format!("is nested deeper than {NESTING_MAX}")
        } else {
            return Ok(());
        };
        self.tokens.clear();
        Err(self.refusal(format!("with its references resolved, it {exceeded}")))
    }

    fn follow(&mut self, reference: &'a str, nesting: usize) -> Result<(), Refusal> {
        if self.open.contains(&reference) {
            self.is_finite = false;
            return Ok(());
        }
        let target = self.target(reference).map_err(|message| {
            self.tokens.push("$ref".into());
            self.refusal(format!("`{reference}` {message}"))
        })?;
        let place = reference.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~").into());
        let before = std::mem::replace(&mut self.tokens, place.collect());
        self.open.push(reference);
        self.subschema(target, nesting + 1)?;
        self.open.pop();
        self.tokens = before;
        Ok(())
    }

    /// The target of a reference, if it is known here as it is to the validator.
    fn target(&self, reference: &str) -> Result<&'a Value, &'static str> {
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let Some(pointer) = pointer.filter(|pointer| !pointer.contains('%')) else {
            return Err("is not `#` or `#/` with a JSON pointer that has no percent-encoding");
        };
        let mut parents = pointer.match_indices('/').skip(1).filter_map(|(at, _)| self.schema.pointer(&pointer[..at]));
        if parents.any(has_own_base) {
            return Err("leads into a schema with its own `$id` or `id`");
        }
        self.schema.pointer(pointer).ok_or("leads to nothing")
    }

    fn refusal(&self, message: String) -> Refusal {
        Refusal { tokens: self.tokens.clone(), message }
    }
}

/// References in this schema may be relative to it.
fn has_own_base(schema: &Value) -> bool {
    ["$id", "id"].iter().any(|name| schema.get(name).is_some_and(Value::is_string))
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
    /// The violated keyword is looked for.
    is_located: bool,
}

impl Validator for Compiled {
    fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// The search remembers no results, so recursive references could take an exponential time.
    fn violated(&self, value: &Value) -> Option<String> {
        let found = self.is_located.then(|| self.validator.validate(value))?;
        found.err().map(|error| error.schema_path().to_string())
    }
}

#[cfg(test)]
#[path = "json_schema_tests.rs"]
mod tests;
