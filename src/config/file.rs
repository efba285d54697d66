//! The written configuration: YAML as a tree in which every key and value has a position.
//!
//! It is a tree instead of derived structs, because those stop at the first error: from the tree, the compiler reports
//! all unknown keys and invalid values. It does not know the configuration's keys.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, Spanned};

use super::diagnostic::Diagnostics;
use super::variables::Variable;

/// The deepest nesting of mappings and lists. A configuration needs 5 levels; a thousand would overflow the stack.
const DEPTH_MAX: usize = 32;
/// The most values, including those that aliases repeat.
const VALUES_MAX: usize = 50_000;

/// A position in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// 1-based.
    pub(crate) line: u64,
    /// 1-based, in characters.
    pub(crate) column: u64,
}

impl Place {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A value and its position.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// Where it is written: for an alias, the position of the anchor.
    pub(crate) defined: Place,
    /// The byte range of its text; empty if the parser does not report it.
    pub(crate) bytes: Range<usize>,
    /// It may be a secret, so no message contains it.
    pub(crate) is_secret: bool,
    /// The environment variables that were replaced in it.
    pub(super) variables: Vec<Variable>,
}

/// A key and its position.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) place: Place,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// `key:` without a value.
    Nothing,
    Flag(bool),
    Integer(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Name, Node)>),
}

/// Parses the tree. A text that is not YAML yields one error, because the parser cannot continue.
pub(super) fn read(text: &str, diagnostics: &Diagnostics) -> Option<Node> {
    match serde_saphyr::from_str_with_options(text, options(VALUES_MAX)) {
        Ok(node) => Some(node),
        Err(error) => {
            let (place, message) = (place(&error), yaml_message(&error, VALUES_MAX));
            let line = usize::try_from(place.line).ok().and_then(|line| text.lines().nth(line.saturating_sub(1)));
            match line.filter(|line| line.contains("${")) {
                Some(_) => diagnostics.expected(place, message, IN_BRACES),
                None => diagnostics.wrong(place, message),
            }
            None
        }
    }
}

/// Parses the trees of all documents of a text, with at most `values_max` values; empty documents are skipped.
pub(crate) fn read_documents(text: &str, values_max: usize) -> Result<Vec<Node>, (Place, String)> {
    serde_saphyr::from_multiple_with_options(text, options(values_max))
        .map_err(|error| (place(&error), yaml_message(&error, values_max)))
}

/// In flow style, `{` of a variable begins a mapping.
const IN_BRACES: &str = "a value with `${...}` needs quotes inside of `{ }` and `[ ]`";

fn options(values_max: usize) -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: values_max,
            // The parser also counts the ends of values, and documents.
            max_events: values_max.saturating_mul(4),
            max_documents: values_max,
        },
        // Repeated keys are kept, to be reported with all other errors.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
    }
}

fn place(error: &Error) -> Place {
    error.location().map_or(Place::START, Place::from)
}

/// The parser's message without the position, which the diagnostic contains.
fn yaml_message(error: &Error, values_max: usize) -> String {
    match error {
        Error::MultipleDocuments { .. } => return "a second YAML document begins here; a configuration is one".into(),
        Error::Budget { .. } => {
            return format!("nested deeper than {DEPTH_MAX} levels, or more than {values_max} values");
        }
        Error::AliasError { error, .. } => return yaml_message(error, values_max),
        _ => {}
    }
    let message = error.render();
    let end = message.find(" at line ").unwrap_or(message.len());
    format!("not valid YAML: {}", without_quotations(&message[..end]))
}

/// A message of the parser without quotations of the text, except for single characters.
fn without_quotations(message: &str) -> String {
    const QUOTES: [(char, char); 4] = [('`', '`'), ('\'', '\''), ('"', '"'), ('[', ']')];
    let mut out = String::new();
    let mut rest = message;
    while let Some(open) = rest.find(|c| QUOTES.iter().any(|(open, _)| *open == c)) {
        let (before, quoted) = rest.split_at(open);
        let close = QUOTES.iter().find(|(open, _)| quoted.starts_with(*open)).map_or('`', |(_, close)| *close);
        let end = quoted[1..].find(close).map_or(quoted.len(), |at| at + 2);
        out += before;
        out += if quoted[..end].chars().count() <= 3 { &quoted[..end] } else { "..." };
        rest = &quoted[end..];
    }
    out + rest
}

/// The prefix of placeholders that the user has to fill in, as `import-ingress` writes them.
pub(crate) const PLACEHOLDER: &str = "REPLACE-";

impl Node {
    pub(super) fn is_placeholder(&self) -> bool {
        matches!(&self.value, Value::Text(text) if text.starts_with(PLACEHOLDER))
    }

    /// The found value, for messages: a scalar as written, truncated; for a possible secret, only its type.
    pub(crate) fn describe(&self) -> String {
        if self.is_secret { self.value.kind().into() } else { self.value.describe() }
    }
}

impl Value {
    /// The type, for messages that must not quote the value.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Flag(_) => "a flag",
            Self::Integer(_) | Self::Fraction(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// The found value, for messages: a scalar as written, truncated.
    pub(crate) fn describe(&self) -> String {
        /// The longest quotation of a value, in characters.
        const SHOWN_CHARS_MAX: usize = 60;
        match self {
            Self::Nothing => "nothing".into(),
            Self::Flag(flag) => format!("`{flag}`"),
            Self::Integer(number) => format!("`{number}`"),
            Self::Fraction(number) => format!("`{number}`"),
            Self::Text(text) if text.chars().count() > SHOWN_CHARS_MAX => {
                format!("`{}...`", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
            }
            Self::Text(text) => format!("`{text}`"),
            Self::List(_) | Self::Map(_) => self.kind().into(),
        }
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let start = span.byte_offset().unwrap_or_default() as usize;
        let bytes = start..start.saturating_add(span.byte_len().unwrap_or_default() as usize);
        let (place, defined) = (spanned.referenced.into(), spanned.defined.into());
        Ok(Self { value: spanned.value, place, defined, bytes, is_secret: false, variables: Vec::new() })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { text: spanned.value, place: spanned.referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}
