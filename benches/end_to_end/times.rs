//! Events that contain their time of sending, and clients that record the latency of each, on any transport.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::product::{self, PAYLOAD_BYTES};

/// How long a client may wait for its next event.
const SILENCE: Duration = Duration::from_secs(20);
/// The text before an event's time.
const TIME: &[u8] = b"^sent_us=";
/// The time in the event that ends the reading.
const LAST: u64 = 0;

/// A received event, in microseconds.
#[derive(Clone, Copy)]
pub struct Taken {
    /// Since the start of the run.
    pub sent_us: u64,
    pub took_us: u64,
}

/// A broadcast event, sent now.
pub fn envelope(start: Instant) -> String {
    sent_at(start.elapsed().as_micros())
}

/// The last event.
pub fn last() -> String {
    sent_at(LAST.into())
}

fn sent_at(us: u128) -> String {
    product::envelope(None, &format!("{}^sent_us={us};", "x".repeat(PAYLOAD_BYTES)))
}

/// NaN for no events.
pub fn p99_ms(taken: &[Taken]) -> f64 {
    let mut took: Vec<u64> = taken.iter().map(|event| event.took_us).collect();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).map_or(f64::NAN, |us| *us as f64 / 1000.0)
}

/// The events that these clients receive, until each has the last one.
pub fn read(sockets: Vec<TcpStream>, start: Instant) -> Fallible<Vec<Taken>> {
    let mut poll = mio::Poll::new()?;
    let mut clients = Vec::new();
    for (n, socket) in sockets.into_iter().enumerate() {
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, mio::Token(n), mio::Interest::READABLE)?;
        clients.push((socket, Vec::new()));
    }
    let (mut taken, mut ready) = (Vec::new(), mio::Events::with_capacity(1024));
    let mut open = clients.len();
    while open > 0 {
        poll.poll(&mut ready, Some(SILENCE))?;
        if ready.is_empty() {
            return Err("events are missing".into());
        }
        for event in &ready {
            let (socket, text) = &mut clients[event.token().0];
            receive(socket, text)?;
            let now = u64::try_from(start.elapsed().as_micros())?;
            take_times(text, |sent_us| match sent_us {
                LAST => open -= 1,
                _ => taken.push(Taken { sent_us, took_us: now.saturating_sub(sent_us) }),
            });
        }
    }
    Ok(taken)
}

fn receive(socket: &mut mio::net::TcpStream, text: &mut Vec<u8>) -> Fallible<()> {
    let mut bytes = [0; 1 << 14];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return Err("a stream ended".into()),
            Ok(length) => text.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes complete times from the text; the framing of all transports is skipped.
fn take_times(text: &mut Vec<u8>, mut take: impl FnMut(u64)) {
    let mut taken = 0;
    while let Some(at) = memchr::memmem::find(&text[taken..], TIME) {
        let digits = taken + at + TIME.len();
        let Some(end) = memchr::memchr(b';', &text[digits..]) else { break };
        if let Some(sent) = std::str::from_utf8(&text[digits..digits + end]).ok().and_then(|text| text.parse().ok()) {
            take(sent);
        }
        taken = digits + end;
    }
    text.drain(..taken);
}
