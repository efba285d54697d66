//! Any bytes as the head of a request: checking it ends, and what passes means one thing to everybody.

#![no_main]
#![allow(dead_code)] // What is not called here is called in the server.

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

/// Whether the bytes begin with a head that is accepted; where it is, its length, and how its body is framed.
fn accepted(bytes: &[u8]) -> Option<(usize, Framing)> {
    let end = head::end(bytes, 0)?;
    Some((end, head::check(&bytes[..end]).ok()?))
}

/// Takes a body in pieces of this size: how many bytes belong to it, or nothing where it is refused.
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
