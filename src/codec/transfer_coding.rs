//! How a connection delimits the parts of a response body (RFC 9112 section 7). Shared encodings do not contain it:
//! each connection adds it to its own writes.

/// The transfer coding of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransferCoding {
    /// The end of the connection ends the body (HTTP/1.0), or the parts delimit themselves (WebSocket).
    #[default]
    None,
    /// Each part is a chunk of HTTP/1.1 (RFC 9112 section 7.1).
    Chunked,
}

/// The end of a chunk.
const CHUNK_END: &[u8] = b"\r\n";
/// The end of a chunked body, without trailer fields.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The longest beginning of a chunk: its size in hexadecimal digits, and CRLF.
const CHUNK_START_MAX: usize = size_of::<usize>() * 2 + CHUNK_END.len();

/// The bytes before a part.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    bytes: [u8; CHUNK_START_MAX],
    len: usize,
}

impl TransferCoding {
    /// The bytes before a part of this length. An empty part has none, because an empty chunk would end the body.
    pub fn before(self, part: usize) -> Before {
        let mut before = Before { bytes: [0; CHUNK_START_MAX], len: self.before_len(part) };
        if let Some((digits, end)) = before.bytes[..before.len].split_last_chunk_mut::<2>() {
            *end = *b"\r\n";
            let mut rest = part;
            for digit in digits.iter_mut().rev() {
                *digit = b"0123456789abcdef"[rest & 0xf];
                rest >>= 4;
            }
        }
        before
    }

    /// The bytes after a part of this length.
    pub fn after(self, part: usize) -> &'static [u8] {
        if self.before_len(part) > 0 { CHUNK_END } else { b"" }
    }

    /// The length of a part on the connection.
    pub fn len(self, part: usize) -> usize {
        self.before_len(part) + part + self.after(part).len()
    }

    /// A part on the connection, if only one connection sends it.
    pub fn apply(self, part: &[u8]) -> Vec<u8> {
        [self.before(part.len()).as_ref(), part, self.after(part.len())].concat()
    }

    /// The end of the body.
    pub fn end(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Chunked => LAST_CHUNK,
        }
    }

    fn before_len(self, part: usize) -> usize {
        match self {
            Self::Chunked if part > 0 => part.ilog2() as usize / 4 + 1 + CHUNK_END.len(),
            Self::Chunked | Self::None => 0,
        }
    }
}

impl AsRef<[u8]> for Before {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_chunk() {
        for len in [1, 9, 15, 16, 255, 256, 4095, 4096, 70_000] {
            let part = vec![b'x'; len];
            let chunk = TransferCoding::Chunked.apply(&part);
            assert_eq!(chunk, [format!("{len:x}\r\n").as_bytes(), &part, b"\r\n"].concat());
            assert_eq!(chunk.len(), TransferCoding::Chunked.len(len));
            assert_eq!((TransferCoding::None.apply(&part), TransferCoding::None.len(len)), (part, len));
        }
        assert_eq!(TransferCoding::Chunked.before(usize::MAX).as_ref().len(), CHUNK_START_MAX);
    }

    #[test]
    fn no_part_ends_the_body() {
        assert!(TransferCoding::Chunked.apply(b"").is_empty());
        assert_eq!((TransferCoding::Chunked.end(), TransferCoding::None.end()), (&b"0\r\n\r\n"[..], &b""[..]));
    }
}
