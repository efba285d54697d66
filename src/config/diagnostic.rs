//! What is wrong with a configuration, and where.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::file::Place;

/// One mistake in a configuration. Its text is `conf/x.yaml:12:5: what is wrong; expected what`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    pub message: String,
    pub expected: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.expected {
            Some(expected) => write!(f, "; expected {expected}"),
            None => Ok(()),
        }
    }
}

/// Collects the mistakes of one file.
#[derive(Debug)]
pub(super) struct Diagnostics {
    file: Arc<str>,
    found: RefCell<Vec<Diagnostic>>,
    /// Every key the compiler asked for, and whether it was there: what the annotated example must hold.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeMap<String, bool>>,
}

impl Diagnostics {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            found: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Something is wrong here, and no list of good values would help.
    pub(super) fn wrong(&self, place: Place, message: impl Into<String>) {
        self.push(place, message.into(), None);
    }

    /// Something is wrong here, and this would be right.
    pub(super) fn expected(&self, place: Place, message: impl Into<String>, expected: impl Into<String>) {
        self.push(place, message.into(), Some(expected.into()));
    }

    /// What was found, in the order of the file; a key that was read twice is wrong once.
    pub(super) fn into_found(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        found.dedup();
        found
    }

    fn push(&self, place: Place, message: String, expected: Option<String>) {
        let Place { line, column } = place;
        self.found.borrow_mut().push(Diagnostic { file: self.file.clone(), line, column, message, expected });
    }
}

/// ` (did you mean `x`?)` where one of the names is close to what was written, or nothing.
pub(super) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    /// Edits between two names of which one is taken for a slip of the other.
    const EDITS_MAX: usize = 2;
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(edits, name)| *edits <= EDITS_MAX && *edits < name.chars().count())
        .min()
        .map(|(_, name)| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
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
