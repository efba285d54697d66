//! The report of an import: each setting in one of four classes, and warnings.
//!
//! It makes no decisions; it collects, sorts and formats.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The longest quotation from the input, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// The outcome of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The setting is part of the configuration.
    Mapped,
    /// The setting has no counterpart and needs none.
    NotNeeded,
    /// The setting belongs in the gateway before sidestream.
    Gateway,
    /// The user has to decide.
    Unknown,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Mapped, Self::NotNeeded, Self::Gateway, Self::Unknown];

    /// The heading in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::NotNeeded => "not needed any more",
            Self::Gateway => "stays at the gateway",
            Self::Unknown => "unknown",
        }
    }
}

/// What a line is about: `Ingress shop/orders, proxy-read-timeout (line 12)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// Kind, namespace and name.
    pub(super) object: Arc<str>,
    /// The annotation, key or field.
    pub(super) key: Arc<str>,
    /// In the whole input, 1-based.
    pub(super) line: u64,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} (line {})", self.object, shown(&self.key), self.line)
    }
}

/// The report. Its text has a line per item.
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

    /// Adds a warning.
    pub(super) fn warn(&mut self, subject: &Subject, text: impl Into<String>) {
        self.warnings.push((subject.clone(), text.into()));
    }

    /// Counts an object of a kind without settings.
    pub(super) fn skip(&mut self, kind: &str) {
        *self.skipped.entry(shown(kind)).or_default() += 1;
    }

    /// The number of settings in a class.
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
        // Stable, so that settings of one line stay in the order of the input.
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

/// A quotation from the input: on one line, shortened, without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}
