//! WebSocket frames (RFC 6455 section 5): encodes unmasked frames, as servers send them, and decodes masked ones.
//!
//! Extensions are not negotiated, so that reserved bits are always a protocol error.

/// The largest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;
/// The longest reason in a close frame: a control payload without the code.
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;
/// The longest frame head of a client.
const HEAD_MAX: usize = 14;

/// The opcode of a frame (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

/// A client's message, with fragments reassembled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong,
    /// The close code, if there is one.
    Close(Option<u16>),
}

/// A protocol violation by the client, which ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Close code 1002.
    #[error("{0}")]
    Protocol(&'static str),
    /// Close code 1007.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// Close code 1009.
    #[error("message is too big")]
    TooBig,
}

/// One unmasked, unfragmented frame.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 10);
    bytes.push(0x80 | opcode as u8);
    match payload.len() {
        len @ 0..=125 => bytes.push(len as u8),
        len @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A close frame; a reason that is too long is truncated between two characters.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_MAX)]);
    frame(Opcode::Close, &payload)
}

/// The result of decoding a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The frame is incomplete: more bytes are needed.
    Incomplete,
    /// A fragment of an incomplete message.
    Fragment,
    Message(Message),
}

/// Decodes a client's bytes to messages, one frame per step. It holds at most one message and the bytes fed since; once
/// all are decoded, it holds nothing.
///
/// Frames are unmasked in place, and decoded bytes are removed when more are fed: each byte is moved a bounded number
/// of times, however small frames are.
#[derive(Debug, Default)]
pub struct Decoder {
    unread: Vec<u8>,
    /// The length of the decoded prefix of `unread`.
    decoded: usize,
    /// The data message whose final fragment has not arrived.
    fragments: Option<(Opcode, Vec<u8>)>,
}

/// The head of one frame.
struct Head {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    head_len: usize,
    payload_len: usize,
}

impl Decoder {
    /// Appends received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.unread.drain(..std::mem::take(&mut self.decoded));
        self.unread.extend_from_slice(bytes);
    }

    /// The number of bytes that are not decoded yet.
    pub fn unread(&self) -> usize {
        self.unread.len() - self.decoded
    }

    /// Decodes the next frame, as part of a message of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// How the client violated the protocol.
    pub fn next(&mut self, limit: usize) -> Result<Step, Violation> {
        let Some(head) = self.head(limit)? else { return Ok(Step::Incomplete) };
        let start = self.decoded + head.head_len;
        let end = start + head.payload_len;
        let Some(payload) = self.unread.get_mut(start..end) else { return Ok(Step::Incomplete) };
        unmask(payload, head.mask);
        let step = finish(&mut self.fragments, head.fin, head.opcode, payload)?;
        self.decoded = end;
        if end == self.unread.len() {
            (self.unread, self.decoded) = (Vec::new(), 0);
        }
        Ok(step)
    }

    /// Parses the head of the next frame once it is complete, and rejects invalid heads.
    fn head(&self, limit: usize) -> Result<Option<Head>, Violation> {
        let &[first, second, ref rest @ ..] = &self.unread[self.decoded..] else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(Violation::Protocol("frame is not masked"));
        }
        let opcode = Opcode::read(first & 0x0f)?;
        let fin = first & 0x80 != 0;
        self.check_order(opcode, fin, second & 0x7f)?;
        let Some((payload_len, len_len)) = payload_len(second & 0x7f, rest)? else { return Ok(None) };
        let so_far = self.fragments.as_ref().map_or(0, |(_, bytes)| bytes.len());
        if !opcode.is_control() && payload_len.saturating_add(so_far as u64) > limit as u64 {
            return Err(Violation::TooBig);
        }
        let Some(mask) = rest.get(len_len..len_len + 4).and_then(|mask| mask.try_into().ok()) else {
            return Ok(None);
        };
        Ok(Some(Head { fin, opcode, mask, head_len: 2 + len_len + 4, payload_len: payload_len as usize }))
    }

    fn check_order(&self, opcode: Opcode, fin: bool, short_len: u8) -> Result<(), Violation> {
        match opcode {
            _ if opcode.is_control() && !fin => Err(Violation::Protocol("control frame is fragmented")),
            _ if opcode.is_control() && usize::from(short_len) > CONTROL_PAYLOAD_MAX => {
                Err(Violation::Protocol("control frame is too long"))
            }
            Opcode::Continuation if self.fragments.is_none() => Err(Violation::Protocol("continuation of no message")),
            Opcode::Text | Opcode::Binary if self.fragments.is_some() => {
                Err(Violation::Protocol("new message inside a fragmented one"))
            }
            _ => Ok(()),
        }
    }
}

/// RFC 6455 section 5.3.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for four in payload.chunks_mut(mask.len()) {
        four.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// The result of a complete frame; `fragments` is the message whose final fragment has not arrived.
fn finish(
    fragments: &mut Option<(Opcode, Vec<u8>)>,
    fin: bool,
    opcode: Opcode,
    payload: &[u8],
) -> Result<Step, Violation> {
    let message = match (opcode, fin) {
        (Opcode::Ping, _) => Message::Ping(payload.to_vec()),
        (Opcode::Pong, _) => Message::Pong,
        (Opcode::Close, _) => Message::Close(close(payload)?),
        (Opcode::Text | Opcode::Binary, true) => message(opcode, payload.to_vec())?,
        (Opcode::Text | Opcode::Binary, false) => {
            *fragments = Some((opcode, payload.to_vec()));
            return Ok(Step::Fragment);
        }
        (Opcode::Continuation, fin) => {
            if let Some((_, bytes)) = fragments {
                bytes.extend_from_slice(payload);
            }
            match fragments.take_if(|_| fin) {
                Some((opcode, bytes)) => message(opcode, bytes)?,
                None => return Ok(Step::Fragment),
            }
        }
    };
    Ok(Step::Message(message))
}

fn message(opcode: Opcode, bytes: Vec<u8>) -> Result<Message, Violation> {
    match opcode {
        Opcode::Text => String::from_utf8(bytes).map(Message::Text).map_err(|_| Violation::NotUtf8),
        _ => Ok(Message::Binary),
    }
}

impl Opcode {
    fn read(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return Err(Violation::Protocol("reserved opcode")),
        })
    }

    fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The payload's length, and the number of extended length bytes (RFC 6455 section 5.2: the minimal form).
fn payload_len(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let read = |bytes: &[u8]| bytes.iter().fold(0u64, |len, byte| len << 8 | u64::from(*byte));
    let (len, len_len, least) = match short {
        126 => (rest.get(..2).map(read), 2, 126),
        127 => (rest.get(..8).map(read), 8, 0x1_0000),
        short => (Some(u64::from(short)), 0, 0),
    };
    match len {
        None => Ok(None),
        Some(len) if len < least || len > i64::MAX as u64 => Err(Violation::Protocol("length is not minimal")),
        Some(len) => Ok(Some((len, len_len))),
    }
}

/// The code of a close frame (RFC 6455 sections 5.5.1 and 7.4).
fn close(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::Protocol("close code is cut off")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Protocol("close code is not allowed"));
    }
    std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    Ok(Some(code))
}

/// The size of a message of `limit` bytes in one frame: how much unread data a client may have.
pub const fn unread_max(limit: usize) -> usize {
    limit + HEAD_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1000;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(Opcode::Text, payload);
        let head_len = bytes.len() - payload.len();
        bytes[0] = first;
        bytes[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&bytes[..head_len], &mask, &masked.collect::<Vec<_>>()].concat()
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Message>, Violation> {
        let mut decoder = Decoder::default();
        decoder.feed(bytes);
        let mut messages = Vec::new();
        loop {
            match decoder.next(LIMIT)? {
                Step::Message(message) => messages.push(message),
                Step::Fragment => {}
                Step::Incomplete => return Ok(messages),
            }
        }
    }

    #[test]
    fn fragments_make_one_message_and_control_frames_may_come_between() {
        let bytes = [masked(0x01, b"Hel"), masked(0x89, b"?"), masked(0x80, b"lo")].concat();
        assert_eq!(read_all(&bytes).unwrap(), [Message::Ping(b"?".to_vec()), Message::Text("Hello".into())]);
    }

    #[test]
    fn violations_are_distinguished() {
        let protocol = |bytes: &[u8]| matches!(read_all(bytes), Err(Violation::Protocol(_)));
        assert!(protocol(&frame(Opcode::Text, b"not masked")));
        assert!(protocol(&masked(0xc1, b"reserved bit")));
        assert!(protocol(&masked(0x83, b"reserved opcode")));
        assert!(protocol(&masked(0x80, b"continuation of nothing")));
        assert!(protocol(&[masked(0x01, b"a"), masked(0x81, b"b")].concat()));
        assert!(protocol(&masked(0x09, b"fragmented ping")));
        assert!(protocol(&masked(0x89, &[0; 126])));
        assert!(protocol(&masked(0x88, &[3])));
        assert!(protocol(&masked(0x88, &1005u16.to_be_bytes())));
        assert!(protocol(&[0x81, 0xfe, 0, 5, 0, 0, 0, 0]), "a length that is not minimal");
        assert_eq!(read_all(&masked(0x81, &[0xff])), Err(Violation::NotUtf8));
        assert_eq!(read_all(&masked(0x88, &[3, 232, 0xff])), Err(Violation::NotUtf8));
        assert_eq!(read_all(&masked(0x81, &[b'a'; LIMIT + 1])), Err(Violation::TooBig));
        let endless = [masked(0x01, &[b'a'; LIMIT]), masked(0x00, b"a")].concat();
        assert_eq!(read_all(&endless), Err(Violation::TooBig));
        assert_eq!(read_all(&[0x81, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0]), Err(Violation::TooBig), "by the head alone");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let bytes = close_frame(1008, &"ä".repeat(100));
        assert_eq!(usize::from(bytes[1]), 2 + 122);
        assert!(std::str::from_utf8(&bytes[4..]).is_ok());
    }

    #[test]
    fn an_idle_decoder_owns_no_memory() {
        let mut decoder = Decoder::default();
        decoder.feed(&masked(0x81, b"hello"));
        decoder.next(LIMIT).unwrap();
        assert_eq!(decoder.unread.capacity(), 0);
    }

    /// The cost of decoding depends on the bytes and not on the frames: a frame does not move the bytes after it.
    #[test]
    fn tiny_frames_are_decoded_in_place() {
        let tiny = [masked(0x8a, b""), masked(0x01, b""), masked(0x00, b""), masked(0x80, b"")].concat();
        let bytes = tiny.repeat(500);
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        let kept = decoder.unread.as_ptr();
        for frame in 1..4 * 500 {
            assert_ne!(decoder.next(LIMIT).unwrap(), Step::Incomplete);
            assert_eq!((decoder.unread.as_ptr(), decoder.unread.len()), (kept, bytes.len()), "frame {frame}");
            assert_eq!(decoder.unread(), bytes.len() - 6 * frame);
        }
        assert_eq!(decoder.next(LIMIT), Ok(Step::Message(Message::Text(String::new()))));
        assert_eq!((decoder.next(LIMIT), decoder.unread.capacity()), (Ok(Step::Incomplete), 0));
    }

    #[test]
    fn decoded_bytes_are_removed_when_more_are_fed() {
        let mut decoder = Decoder::default();
        let bytes = [masked(0x81, b"one"), masked(0x81, b"two")].concat();
        decoder.feed(&bytes[..bytes.len() - 1]);
        assert_eq!(decoder.next(LIMIT), Ok(Step::Message(Message::Text("one".into()))));
        assert_eq!(decoder.next(LIMIT), Ok(Step::Incomplete));
        decoder.feed(&bytes[bytes.len() - 1..]);
        assert_eq!(decoder.unread.len(), bytes.len() / 2);
        assert_eq!(decoder.next(LIMIT), Ok(Step::Message(Message::Text("two".into()))));
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut(texts in prop::collection::vec(".{0,200}", 0..5), size in 1..50usize) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| masked(0x81, text.as_bytes())).collect();
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.feed(piece);
                while let Step::Message(message) = decoder.next(LIMIT).unwrap() {
                    read.push(message);
                }
            }
            prop_assert_eq!(read, texts.into_iter().map(Message::Text).collect::<Vec<_>>());
        }

        #[test]
        fn invalid_bytes_never_panic_nor_accumulate(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(&bytes);
        }
    }
}
