//! Any bytes as a request head: checking terminates, and an accepted head is unambiguous.

#![no_main]
#![allow(dead_code)] // Functions that are not called here are called by the server.

use libfuzzer_sys::fuzz_target;

mod codec {
    pub use sidestream::codec::problem;
}
#[path = "../../../src/problem.rs"]
mod problem;

#[path = "../../../src/listener/framing.rs"]
mod framing;
#[path = "../../../src/listener/head.rs"]
mod head;

use framing::Framing;

/// If the bytes begin with an accepted head: its length and the framing of its body.
fn accepted(bytes: &[u8]) -> Option<(usize, Framing)> {
    let end = head::end(bytes, 0)?;
    Some((end, head::check(&bytes[..end]).ok()?))
}

/// Consumes a body in pieces of this size: the number of bytes that belong to it, or `None` if it is rejected.
fn body(mut framing: Framing, bytes: &[u8], size: usize) -> Option<usize> {
    let mut taken = 0;
    for piece in bytes.chunks(size.max(1)) {
        if framing.is_over() {
            break;
        }
        taken += framing.take(piece).ok()?;
    }
    Some(taken)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let Some((end, framing)) = accepted(bytes) else { return };
    let head = &bytes[..end];
    assert!(head.ends_with(b"\r\n\r\n"));
    assert!(!head.contains(&0), "no NUL passes");
    let bare = head.iter().enumerate().any(|(n, byte)| *byte == b'\n' && head.get(n.wrapping_sub(1)) != Some(&b'\r'));
    assert!(!bare, "no bare line feed passes");
    let lower = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!(!(lower.contains("\r\ncontent-length:") && lower.contains("\r\ntransfer-encoding:")));
    let Some((_, again)) = accepted(head) else { panic!("the head alone is refused") };
    let rest = &bytes[end..];
    let whole = body(framing, rest, rest.len());
    assert_eq!(whole, body(again, rest, usize::from(size)), "the pieces decide");
});
