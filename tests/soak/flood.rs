//! Hostile clients: they send requests and frames to a replica as fast as it accepts them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::http::Call;

/// Requests or frames per write.
const AT_ONCE: usize = 500;
/// The timeout of a write or a read: a replica that stops is not waited for.
const WAIT: Duration = Duration::from_millis(200);
/// The pause before the next connection.
const PAUSE: Duration = Duration::from_millis(20);
/// An unsolicited pong with an empty payload and a zero mask (RFC 6455 section 5.5.3).
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// Floods until it is dropped.
pub struct Flood {
    over: Arc<AtomicBool>,
    senders: Vec<thread::JoinHandle<()>>,
}

impl Flood {
    /// One client without a token sends requests for this stream. One with a token opens it as a WebSocket, and sends
    /// frames.
    pub fn start(address: SocketAddr, path: &str, token: &str) -> Self {
        let over: Arc<AtomicBool> = Arc::default();
        let requests = Call::new(address, "GET", path).bytes().repeat(AT_ONCE);
        let handshake = Call::new(address, "GET", path).bearer(token).upgrade().bytes();
        let senders = [(Vec::new(), requests), (handshake, PONG.repeat(AT_ONCE))].map(|(first, rest)| {
            let over = over.clone();
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // The replica may end the connection at any time.
                    let _ = send(address, &first, &rest, &over);
                    thread::sleep(PAUSE);
                }
            })
        });
        Self { over, senders: senders.into() }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.senders.drain(..).for_each(|sender| sender.join().expect("a hostile client"));
    }
}

fn send(address: SocketAddr, first: &[u8], rest: &[u8], over: &AtomicBool) -> std::io::Result<()> {
    let mut socket = TcpStream::connect_timeout(&address, WAIT)?;
    socket.set_write_timeout(Some(WAIT))?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.write_all(first)?;
    let mut answer = [0; 64 * 1024];
    while !over.load(Ordering::Relaxed) {
        socket.write_all(rest)?;
        if socket.read(&mut answer)? == 0 {
            break;
        }
    }
    Ok(())
}
