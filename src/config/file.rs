//! What the user wrote: YAML as a tree in which every key and value knows its place.
//!
//! It is a tree rather than a set of derived structs because those stop at the first mistake: from the tree the
//! compiler reports unknown keys and wrong values all at once. It knows no key of the configuration.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, Spanned};

use super::diagnostic::Diagnostics;

/// How deep mappings and lists may be nested. A configuration needs 5 levels; a thousand would overflow the stack.
const DEPTH_MAX: usize = 32;
/// How many values there may be, those that aliases repeat included.
const VALUES_MAX: usize = 50_000;

/// Where something stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: u64,
    /// From 1, in characters.
    pub(crate) column: u64,
}

impl Place {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// Where it was written: an alias stands elsewhere.
    pub(crate) defined: Place,
    /// Bytes of the text that it was written with; empty where the parser does not say.
    pub(crate) bytes: Range<usize>,
    /// It may be a secret: it is in no message.
    pub(crate) is_secret: bool,
}

/// A key and its place.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) place: Place,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// `key:` with nothing behind it.
    Nothing,
    Flag(bool),
    Integer(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Name, Node)>),
}

/// Reads the tree. A text that is no YAML has one mistake: the parser can't know how it goes on.
pub(super) fn read(text: &str, diagnostics: &Diagnostics) -> Option<Node> {
    match serde_saphyr::from_str_with_options(text, options(VALUES_MAX)) {
        Ok(node) => Some(node),
        Err(error) => {
            diagnostics.wrong(place(&error), yaml_message(&error, VALUES_MAX));
            None
        }
    }
}

/// Reads the trees of all documents of a text, of `values_max` values in all; empty documents are left out.
pub(crate) fn read_documents(text: &str, values_max: usize) -> Result<Vec<Node>, (Place, String)> {
    serde_saphyr::from_multiple_with_options(text, options(values_max))
        .map_err(|error| (place(&error), yaml_message(&error, values_max)))
}

fn options(values_max: usize) -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: values_max,
            // What the parser counts besides: every value has a beginning and an end, and every document.
            max_events: values_max.saturating_mul(4),
            max_documents: values_max,
        },
        // Repeated keys come through, to be reported with all else.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
    }
}

fn place(error: &Error) -> Place {
    error.location().map_or(Place::START, Place::from)
}

/// The parser's message without the place, which the diagnostic has.
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

/// A message of the parser without what it quotes of the text, but for single characters.
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

/// What values begin with that stand in for what somebody has to decide, as `import-ingress` writes them.
pub(crate) const PLACEHOLDER: &str = "REPLACE-";

impl Node {
    pub(super) fn is_placeholder(&self) -> bool {
        matches!(&self.value, Value::Text(text) if text.starts_with(PLACEHOLDER))
    }

    /// What was found, for messages: scalars as written, shortened; of what may be a secret only its kind.
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

    /// What was found, for messages: scalars as written, shortened.
    pub(crate) fn describe(&self) -> String {
        /// Characters of a value that are repeated in a message.
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
        Ok(Self { value: spanned.value, place, defined, bytes, is_secret: false })
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
