//! The parts of one write. Small parts are copied to one buffer, and large ones are borrowed: a vectored write costs
//! more than the copy of a small part, and a copy of a large part costs more than a vectored write.

/// The largest part that is copied, in bytes.
const COPIED_PART_MAX: usize = 2048;
/// The copied bytes after which a write takes no more parts.
const COPIED_BYTES_MAX: usize = 64 * 1024;

/// The parts of one write, in order.
pub struct Parts<'b, 'p> {
    /// The copied parts: fewer than [`COPIED_BYTES_MAX`] and one part more.
    buffer: &'b mut Vec<u8>,
    /// The borrowed parts, each with the length of `buffer` before it.
    borrowed: Vec<(usize, &'p [u8])>,
}

impl<'b, 'p> Parts<'b, 'p> {
    /// No parts. `buffer` is overwritten.
    pub fn new(buffer: &'b mut Vec<u8>) -> Self {
        buffer.clear();
        Self { buffer, borrowed: Vec::new() }
    }

    /// Appends a part.
    pub fn put(&mut self, part: &'p [u8]) {
        if part.len() <= COPIED_PART_MAX {
            self.copy(part);
        } else {
            self.borrowed.push((self.buffer.len(), part));
        }
    }

    /// Appends a short part by a copy.
    pub fn copy(&mut self, part: &[u8]) {
        self.buffer.extend_from_slice(part);
    }

    /// Whether the write should take no more parts.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= COPIED_BYTES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.borrowed.is_empty()
    }

    /// The only slice of the write, if it has one.
    pub fn only(&self) -> Option<&[u8]> {
        self.borrowed.is_empty().then_some(&self.buffer[..])
    }

    /// The slices of the write, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let ends = self.borrowed.iter().map(|(end, part)| (*end, *part)).chain([(self.buffer.len(), &[][..])]);
        let slices = ends.scan(0, |start, (end, part)| Some([&self.buffer[std::mem::replace(start, end)..end], part]));
        slices.flatten().filter(|slice| !slice.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_parts_are_borrowed_in_their_place() {
        let large = [vec![b'l'; COPIED_PART_MAX + 1], vec![b'm'; COPIED_PART_MAX + 1]];
        let mut buffer = b"of an earlier write".to_vec();
        let mut parts = Parts::new(&mut buffer);
        assert!(parts.is_empty() && parts.slices().next().is_none());
        parts.put(b"one ");
        parts.put(b"two");
        assert_eq!(parts.only(), Some(&b"one two"[..]));
        parts.put(&large[0]);
        parts.put(&large[1]);
        parts.copy(b"three");
        assert_eq!(parts.only(), None);
        let slices: Vec<_> = parts.slices().collect();
        assert_eq!(slices, [b"one two", &large[0][..], &large[1], b"three"]);
        assert_eq!(slices[1].as_ptr(), large[0].as_ptr());
    }

    #[test]
    fn a_write_has_a_limit() {
        let (mut buffer, part) = (Vec::new(), [0; COPIED_PART_MAX]);
        let mut parts = Parts::new(&mut buffer);
        while !parts.is_full() {
            parts.put(&part);
        }
        assert!(buffer.len() < COPIED_BYTES_MAX + COPIED_PART_MAX);
    }
}
