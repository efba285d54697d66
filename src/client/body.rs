//! Decodes the framing of a response body (RFC 9112 sections 6 and 7).

use super::Head;

/// The longest line of a chunk size or a trailer field, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Chunked(Chunked),
    /// The remaining bytes.
    Counted(u64),
    /// Ends with the connection, so that truncation is not detected.
    UntilClose,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunked {
    unread: Vec<u8>,
    part: Part,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Size,
    Data(u64),
    /// The line break after the data.
    DataEnd,
    Trailers,
    End,
}

impl Body {
    pub(super) fn of(head: &Head) -> Self {
        let length = head.header("content-length").and_then(|length| length.parse().ok());
        match length {
            _ if head.names("transfer-encoding", "chunked") => Self::Chunked(Chunked::default()),
            Some(length) => Self::Counted(length),
            None => Self::UntilClose,
        }
    }

    /// Consumes bytes, and appends those of the body to `content`.
    pub(super) fn feed(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Self::Chunked(chunked) => return chunked.feed(bytes, content),
            Self::Counted(left) => {
                let count = (*left).min(bytes.len() as u64);
                content.extend_from_slice(&bytes[..count as usize]);
                *left -= count;
            }
            Self::UntilClose => content.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Whether the body is complete.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Chunked(chunked) => chunked.part == Part::End,
            Self::Counted(left) => *left == 0,
            Self::UntilClose => false,
        }
    }
}

impl Chunked {
    fn feed(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> Result<(), &'static str> {
        self.unread.extend_from_slice(bytes);
        let mut rest = &self.unread[..];
        loop {
            self.part = match self.part {
                Part::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        rest = &rest[length..];
                        if size == 0 { Part::Trailers } else { Part::Data(size) }
                    }
                    Ok(httparse::Status::Partial) if rest.len() <= LINE_BYTES_MAX => break,
                    _ => return Err("a chunk has no size"),
                },
                Part::Data(size) => {
                    let count = size.min(rest.len() as u64);
                    let (data, behind) = rest.split_at(count as usize);
                    content.extend_from_slice(data);
                    rest = behind;
                    match size - count {
                        0 => Part::DataEnd,
                        left => {
                            self.part = Part::Data(left);
                            break;
                        }
                    }
                }
                Part::DataEnd => match rest {
                    [b'\r', b'\n', behind @ ..] => {
                        rest = behind;
                        Part::Size
                    }
                    [] | [b'\r'] => break,
                    _ => return Err("a chunk is longer than its size"),
                },
                Part::Trailers => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        let is_last = matches!(&rest[..end], b"" | b"\r");
                        rest = &rest[end + 1..];
                        if is_last { Part::End } else { Part::Trailers }
                    }
                    None if rest.len() <= LINE_BYTES_MAX => break,
                    None => return Err("a trailer is too long"),
                },
                Part::End => break,
            };
        }
        self.unread = rest.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(bytes: &[u8], piece: usize) -> Result<(String, bool), &'static str> {
        let mut body = Body::Chunked(Chunked::default());
        let mut content = Vec::new();
        for bytes in bytes.chunks(piece) {
            body.feed(bytes, &mut content)?;
        }
        Ok((String::from_utf8(content).unwrap(), body.is_whole()))
    }

    #[test]
    fn chunks_survive_any_cut() {
        let bytes = b"5\r\nhello\r\nA;x=y\r\n, world!!!\r\n0\r\nTrailer: 1\r\n\r\n";
        for piece in 1..bytes.len() {
            assert_eq!(fed(bytes, piece), Ok(("hello, world!!!".into(), true)), "{piece}");
        }
        assert_eq!(fed(b"5\r\nhel", 100), Ok(("hel".into(), false)));
        assert!(fed(b"x\r\n", 1).is_err() && fed(b"1\r\nab", 1).is_err());
    }

    #[test]
    fn the_head_determines_the_framing() {
        let head = |name: &str, value: &str| Head { minor: 1, status: 200, headers: vec![(name.into(), value.into())] };
        assert_eq!(Body::of(&head("Transfer-Encoding", "gzip, Chunked")), Body::Chunked(Chunked::default()));
        assert_eq!(Body::of(&head("content-length", "3")), Body::Counted(3));
        assert_eq!(Body::of(&head("x", "y")), Body::UntilClose);
    }
}
