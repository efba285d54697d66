//! Any bytes of a WebSocket client, in pieces of any size: the messages do not depend on the pieces, a rejected message
//! is not buffered, and every piece is decoded or pending.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidestream::codec::websocket::{Decoder, Message, Step, Violation, unread_max};

const LIMIT: usize = 300;

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<Violation>) {
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next(LIMIT) {
                Ok(Step::Message(message)) => messages.push(message),
                Ok(Step::Fragment) => {}
                Ok(Step::Incomplete) => break,
                Err(violation) => return (messages, Some(violation)),
            }
        }
        assert!(decoder.unread() < unread_max(LIMIT), "{} bytes are kept", decoder.unread());
    }
    (messages, None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = decode(std::iter::once(bytes));
    let in_pieces = decode(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, in_pieces);
    let is_small = |message: &Message| !matches!(message, Message::Text(text) if text.len() > LIMIT);
    assert!(whole.0.iter().all(is_small));
});
