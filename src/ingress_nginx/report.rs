//! What is told of an import: each setting that was found, in one of four classes, and what is doubtful as a whole.
//!
//! It decides nothing; it keeps, sorts and writes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Characters of a text from the input that are repeated.
const SHOWN_CHARS_MAX: usize = 80;

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It is in the configuration.
    Mapped,
    /// Nothing has to be done for it.
    NotNeeded,
    /// It is for what stands before sidestream.
    Gateway,
    /// Somebody has to look at it.
    Unknown,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Mapped, Self::NotNeeded, Self::Gateway, Self::Unknown];

    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::NotNeeded => "not needed any more",
            Self::Gateway => "stays at the gateway",
            Self::Unknown => "unknown",
        }
    }
}

/// What something is about: `Ingress shop/orders, proxy-read-timeout (line 12)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// Kind, namespace and name.
    pub(super) object: Arc<str>,
    /// The annotation, key or field.
    pub(super) key: Arc<str>,
    /// Of the whole input, from 1.
    pub(super) line: u64,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} (line {})", self.object, shown(&self.key), self.line)
    }
}

/// Everything that is told of an import. Its text has a line for each thing.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<(Class, Subject, String)>,
    warnings: Vec<(Subject, String)>,
    skipped: BTreeMap<String, usize>,
}

impl Report {
    pub(super) fn add(&mut self, class: Class, subject: &Subject, text: impl Into<String>) {
        self.findings.push((class, subject.clone(), text.into()));
    }

    /// Something is doubtful as a whole.
    pub(super) fn warn(&mut self, subject: &Subject, text: impl Into<String>) {
        self.warnings.push((subject.clone(), text.into()));
    }

    /// An object of a kind that holds no settings.
    pub(super) fn skip(&mut self, kind: &str) {
        *self.skipped.entry(shown(kind)).or_default() += 1;
    }

    /// How many settings are of a class.
    pub fn count(&self, class: Class) -> usize {
        self.findings.iter().filter(|(found, ..)| *found == class).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (subject, text) in &self.warnings {
            writeln!(f, "warning: {subject}: {text}")?;
        }
        let mut findings: Vec<_> = self.findings.iter().collect();
        // Stable: what stands in one line stays in the order in which it was found.
        findings.sort_by_key(|(class, subject, _)| (*class, subject.line));
        for (class, subject, text) in findings {
            writeln!(f, "{}: {subject}: {text}", class.name())?;
        }
        if !self.skipped.is_empty() {
            let kinds: Vec<_> = self.skipped.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
            writeln!(f, "not read, as they hold no settings: {}", kinds.join(", "))?;
        }
        let counts: Vec<_> =
            Class::ALL.iter().map(|class| format!("{} {}", class.name(), self.count(*class))).collect();
        write!(f, "in all: {}", counts.join(", "))
    }
}

/// A text from the input in one line, shortened, without what a terminal would act on.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}
