//! Omits the separator of the first record of a stream, for transports with separators.
//!
//! Encodings are shared, so each begins with a separator. The first record is known only when it is written, because
//! queued ones may still be dropped.

use super::Session;

/// The first record of the stream, which is about to be written.
pub(super) struct FirstRecord {
    /// Its index in the queue.
    item: usize,
    /// The bytes to be written before it.
    bytes_before: usize,
    /// The length of its separator.
    separator: usize,
}

impl FirstRecord {
    /// The bytes to write of the item at this index.
    pub(super) fn omit<'a>(&self, item: usize, bytes: &'a [u8]) -> &'a [u8] {
        if item == self.item { &bytes[self.separator..] } else { bytes }
    }
}

impl Session {
    /// The first record of the stream, if it is queued and its transport has separators. Nothing else that a session
    /// writes begins with a separator.
    pub(super) fn first_record(&self) -> Option<FirstRecord> {
        if !self.omits_separator {
            return None;
        }
        let separator = self.form.separator();
        let mut bytes_before = 0;
        for (item, bytes) in self.queue.chunks().enumerate() {
            // The rest of a partly written item may begin with anything.
            if item >= self.queue.on_its_way() && bytes.starts_with(&separator) {
                return Some(FirstRecord { item, bytes_before, separator: separator.len() });
            }
            bytes_before += bytes.len();
        }
        None
    }

    /// The number of omitted bytes among this many written ones.
    pub(super) fn omitted(&mut self, written: usize) -> usize {
        let first = self.first_record().filter(|first| written > first.bytes_before);
        self.omits_separator &= first.is_none();
        first.map_or(0, |first| first.separator)
    }
}

#[cfg(test)]
#[path = "separator_tests.rs"]
mod tests;
