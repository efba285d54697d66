//! Finds the end of a request's body (RFC 9112 section 6) while another component reads the body.
//!
//! It decodes nothing and buffers nothing. It rejects what parsers interpret differently (an empty chunk size, bare
//! line feeds, signs and spaces in sizes), so that a request cannot end in two places (request smuggling).

/// The longest line of a chunked body in bytes: a chunk size with its extensions, or a trailer field.
pub(super) const CHUNK_LINE_BYTES_MAX: u32 = 4096;
/// The total size of the trailer section, in bytes.
pub(super) const TRAILER_BYTES_MAX: u32 = 16 * 1024;

/// The rest of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes.
    Length(u64),
    Chunked(Chunks),
    /// All bytes until the connection ends: the client requested an upgrade.
    Tunnel,
}

/// The chunked coding is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked body")]
pub(super) struct BadChunk;

impl Framing {
    /// Whether the body has ended.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks { state: State::Over, .. }))
    }

    /// How many of `bytes`, the next bytes of the connection, belong to the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        match self {
            Self::Tunnel => Ok(bytes.len()),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.take(bytes),
        }
    }
}

/// The parser state of a chunked body (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
    /// The chunk size parsed so far, then the bytes left of the chunk.
    size: u64,
    /// The length of the current line, or of all trailer lines.
    line: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Over,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Over {
            if self.state == State::Data {
                let step = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.size -= step as u64;
                at += step;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::SizeStart, _) => {
                (self.size, self.line) = (0, 0);
                self.digit(byte)
            }
            (State::Size, b'\r') | (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size, b';') => Ok(State::Extension),
            (State::Size, _) => self.digit(byte),
            (State::Extension, _) if is_text(byte) => self.in_line(State::Extension, CHUNK_LINE_BYTES_MAX),
            (State::SizeLf, b'\n') if self.size > 0 => Ok(State::Data),
            (State::SizeLf, b'\n') => {
                self.line = 0;
                Ok(State::TrailerStart)
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeStart),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart | State::Trailer, _) if is_text(byte) => {
                self.in_line(State::Trailer, TRAILER_BYTES_MAX)
            }
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::EndLf, b'\n') => Ok(State::Over),
            _ => Err(BadChunk),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, BadChunk> {
        let digit = char::from(byte).to_digit(16).ok_or(BadChunk)?;
        self.size = self.size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit))).ok_or(BadChunk)?;
        self.in_line(State::Size, CHUNK_LINE_BYTES_MAX)
    }

    fn in_line(&mut self, next: State, limit: u32) -> Result<State, BadChunk> {
        self.line += 1;
        if self.line > limit { Err(BadChunk) } else { Ok(next) }
    }
}

/// Whether a byte is allowed in a chunk extension or a trailer field.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked() -> Framing {
        Framing::Chunked(Chunks::default())
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailer_section() {
        let body = b"5;name=\"a b\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nDigest: x\r\n\r\n";
        let mut framing = chunked();
        let mut bytes = body.to_vec();
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(framing.take(&bytes), Ok(body.len()));
        assert!(framing.is_over());
    }

    #[test]
    fn ambiguous_chunks_are_rejected() {
        for body in [
            &b"\r\nhello"[..],
            b"5\nhello\r\n",
            b"+5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r\n\r\n",
            b"11111111111111111\r\n",
            b"5;a\nb\r\nhello",
            b"0\r\nx: y\n\r\n",
            b";x\r\n",
        ] {
            assert_eq!(chunked().take(body), Err(BadChunk), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn lines_and_trailers_are_limited() {
        let mut extension = b"5;".to_vec();
        extension.resize(CHUNK_LINE_BYTES_MAX as usize + 8, b'x');
        assert_eq!(chunked().take(&extension), Err(BadChunk));
        let mut trailers = b"0\r\n".to_vec();
        trailers.extend(b"x: y\r\n".repeat(TRAILER_BYTES_MAX as usize / 4 + 8));
        assert_eq!(chunked().take(&trailers), Err(BadChunk));
    }

    #[test]
    fn a_length_is_counted_down() {
        let mut framing = Framing::Length(5);
        assert_eq!(framing.take(b"he"), Ok(2));
        assert_eq!(framing.take(b"lloGET"), Ok(3));
        assert!(framing.is_over());
        assert_eq!(framing.take(b"GET"), Ok(0));
    }

    proptest! {
        #[test]
        fn results_do_not_depend_on_read_boundaries(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            step in 1usize..20,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let end = body.len();
            body.extend_from_slice(b"next request");
            let mut framing = chunked();
            let mut taken = 0;
            for piece in body.chunks(step) {
                taken += framing.take(piece).unwrap();
            }
            prop_assert_eq!(taken, end);
            prop_assert!(framing.is_over());
        }
    }
}
