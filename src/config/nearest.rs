//! Suggests the name that a typo was meant to be.

/// The largest edit distance of a typo.
const EDITS_MAX: usize = 2;

/// The most similar name, if one is similar enough.
pub(super) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (strsim::damerau_levenshtein(written, name), name));
    near.filter(|(edits, name)| *edits <= EDITS_MAX && *edits < name.chars().count()).min().map(|(_, name)| name)
}
