//! The rate of the frames that a client of HTTP/2 sends beside requests and their bodies: each costs work and nothing else
//! limits it.
//!
//! `h2` checks the frames. This only finds their heads (RFC 9113 section 4.1).

use std::time::Instant;

use crate::rate::{Bucket, Rate};

/// What the frames of a connection may cost a second.
const COST_PER_SECOND: u64 = 2_000;
/// The cost of a reset, which discards the work for a request.
const RESET_COST: u64 = 20;
/// For this many bytes of responses, a client may send one more frame: it makes room for more.
const BYTES_PER_FRAME: usize = 4 * 1024;

const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// The frames of one connection.
#[derive(Debug)]
pub(in super::super) struct Frames {
    bucket: Bucket,
    /// The beginning of a head.
    head: [u8; HEAD_BYTES],
    begun: usize,
    /// The bytes of the current payload that have not arrived, or of the preface.
    payload: usize,
    /// The bytes of responses since the last frame that they paid for.
    sent: usize,
}

/// A client sends more frames than it may.
#[derive(Debug, thiserror::Error)]
#[error("a client sends too many frames")]
pub(in super::super) struct Flood;

impl Frames {
    /// Frames after this many bytes of the preface.
    pub(in super::super) fn new(preface: usize, now: Instant) -> Self {
        Self { bucket: Bucket::new(now), head: [0; HEAD_BYTES], begun: 0, payload: preface, sent: 0 }
    }

    /// Counts the frames in bytes of the client.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(in super::super) fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD_BYTES - self.begun).min(bytes.len());
            self.head[self.begun..self.begun + taken].copy_from_slice(&bytes[..taken]);
            self.begun += taken;
            bytes = &bytes[taken..];
            if self.begun == HEAD_BYTES {
                self.begun = 0;
                self.frame(now)?;
            }
        }
        Ok(())
    }

    /// Counts bytes that were sent to the client.
    pub(in super::super) fn send(&mut self, bytes: usize) {
        self.sent += bytes;
        let frames = self.sent / BYTES_PER_FRAME;
        if frames > 0 {
            self.sent %= BYTES_PER_FRAME;
            self.bucket.give_back(rate(), frames as u64);
        }
    }

    fn frame(&mut self, now: Instant) -> Result<(), Flood> {
        let [a, b, c, kind, ..] = self.head;
        self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
        let cost = match kind {
            HEADERS => return Ok(()),
            DATA if self.payload > 0 => return Ok(()),
            RST_STREAM => RESET_COST,
            _ => 1,
        };
        if self.bucket.wait(rate(), cost, now).is_some() {
            return Err(Flood);
        }
        self.bucket.take(rate(), cost, now);
        Ok(())
    }
}

fn rate() -> Rate {
    Rate::per_second(COST_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    fn frames(kind: u8, payload: usize, count: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, 0, 0, 0, 0, 0], &vec![0; payload]].concat();
        frame.repeat(count)
    }

    #[test]
    fn frames_without_requests_have_a_rate() {
        let now = Instant::now();
        let most = usize::try_from(COST_PER_SECOND).unwrap();
        for (kind, payload, most) in [(PING, 8, most), (DATA, 0, most), (RST_STREAM, 4, most / 20)] {
            let mut counted = Frames::new(3, now);
            assert!(counted.receive(b"pre", now).is_ok());
            // However they are cut.
            for part in frames(kind, payload, most).chunks(7) {
                assert!(counted.receive(part, now).is_ok(), "{kind}");
            }
            assert!(counted.receive(&frames(kind, payload, 1), now).is_err(), "{kind}");
            let later = now + Duration::from_secs(1);
            let mut counted = Frames::new(0, now);
            assert!(counted.receive(&frames(kind, payload, most), now).is_ok());
            assert!(counted.receive(&frames(kind, payload, most), later).is_ok(), "{kind} later");
        }
    }

    #[test]
    fn requests_and_bodies_have_other_limits() {
        let now = Instant::now();
        let mut counted = Frames::new(0, now);
        for kind in [DATA, HEADERS] {
            assert!(counted.receive(&frames(kind, 20, 10_000), now).is_ok());
        }
    }

    #[test]
    fn responses_pay_for_frames() {
        let now = Instant::now();
        let most = usize::try_from(COST_PER_SECOND).unwrap();
        let mut counted = Frames::new(0, now);
        assert!(counted.receive(&frames(PING, 8, most), now).is_ok());
        (0..8).for_each(|_| counted.send(BYTES_PER_FRAME / 4));
        assert!(counted.receive(&frames(PING, 8, 2), now).is_ok());
        assert!(counted.receive(&frames(PING, 8, 1), now).is_err());
    }
}
