//! Errors and warnings of a configuration, with their positions.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::excerpt::{self, Excerpt};
use super::file::{Node, Place};
use super::nearest::nearest;
use super::source::Sources;

/// Whether the configuration is usable nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// An error or warning. Its text is `conf/x.yaml:12:5: message; expected what`; as JSON it is an object of these
/// fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file name, as given.
    pub file: Arc<str>,
    /// 1-based.
    pub line: u64,
    /// 1-based, in characters.
    pub column: u64,
    pub severity: Severity,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The affected line; `None` if there is none, or if it may contain a secret.
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

impl Diagnostic {
    /// The text, followed by the affected line with a marker.
    pub fn render(&self) -> String {
        match &self.excerpt {
            Some(excerpt) => format!("{self}\n{}", excerpt.render(self.line)),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{}:{}:{}: {severity}{}", self.file, self.line, self.column, self.message)?;
        match &self.expected {
            Some(expected) => write!(f, "; expected {expected}"),
            None => Ok(()),
        }
    }
}

/// Collects the diagnostics of one file.
#[derive(Debug)]
pub(super) struct Diagnostics {
    file: Arc<str>,
    pub(super) sources: RefCell<Sources>,
    found: RefCell<Vec<Diagnostic>>,
    /// Every key that the compiler reads, and whether it was present: the annotated example must contain all of them.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeMap<String, bool>>,
}

impl Diagnostics {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            sources: RefCell::default(),
            found: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Reports an error without an expectation.
    pub(super) fn wrong(&self, place: Place, message: impl Into<String>) {
        self.push(place, Severity::Error, message.into(), None);
    }

    /// Reports an error with the expected value.
    pub(super) fn expected(&self, place: Place, message: impl Into<String>, expected: impl Into<String>) {
        self.push(place, Severity::Error, message.into(), Some(expected.into()));
    }

    /// The number of diagnostics so far.
    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// Reports a valid setting that is probably unintended.
    pub(super) fn warn(&self, place: Place, message: impl Into<String>) {
        self.push(place, Severity::Warning, message.into(), None);
    }

    /// The errors and the warnings, each in the order of the file. An error at a key that was read twice is reported
    /// once. `text` and `root` are the file.
    pub(super) fn into_found(self, text: &str, root: Option<&Node>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let mut found = self.found.into_inner();
        found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        found.dedup();
        excerpt::add(&mut found, text, root);
        found.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error)
    }

    fn push(&self, place: Place, severity: Severity, message: String, expected: Option<String>) {
        let Place { line, column } = place;
        let file = self.file.clone();
        self.found.borrow_mut().push(Diagnostic { file, line, column, severity, message, expected, excerpt: None });
    }
}

/// ` (did you mean `x`?)` if one of the names is similar, otherwise empty.
pub(crate) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, names).map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// `a`, `b` or `c`.
pub(super) fn alternatives<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => "nothing".into(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}
