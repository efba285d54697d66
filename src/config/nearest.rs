//! The name that a slip of it probably meant.

/// Edits between two names of which one is taken for a slip of the other.
const EDITS_MAX: usize = 2;

/// The name that is closest to what was written, where one is close.
pub(super) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (strsim::damerau_levenshtein(written, name), name));
    near.filter(|(edits, name)| *edits <= EDITS_MAX && *edits < name.chars().count()).min().map(|(_, name)| name)
}
