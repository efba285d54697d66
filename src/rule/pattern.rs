//! Regular expressions of rules: of a limited size, and applied to limited texts in a time that is linear in them.

use regex::{Regex, RegexBuilder};

/// The longest text that a pattern is applied to, in bytes.
pub const MATCHED_BYTES_MAX: usize = 4096;
/// The most memory of a compiled pattern, in bytes, and of what it remembers between texts.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a line.
    pub fn new(source: &str) -> Result<Self, String> {
        let compiled =
            RegexBuilder::new(source).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
        compiled.map(Self).map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        })
    }

    /// Whether a part of the text matches.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}
