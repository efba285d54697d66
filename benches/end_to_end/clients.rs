//! Thousands of connections whose data one thread reads, discards and counts.
//!
//! Every event contains one [`MARK`], a byte that occurs nowhere else in what the servers send, so that deliveries are
//! counted without parsing, on any transport, at any read boundary.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Fallible;

/// Occurs once in each event, and in no length field of a WebSocket frame of the sizes used here.
pub const MARK: u8 = b'!';
/// How long a server may take to respond, or to deliver published events.
const SILENCE: Duration = Duration::from_secs(60);
/// Pending requests while connecting; some servers drop connections beyond that.
const UNANSWERED_MAX: usize = 100;
/// The polling interval of the counters.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Open connections whose responses have begun.
pub struct Clients {
    counted: Arc<Counted>,
    reader: Option<JoinHandle<Sendable<Vec<u64>>>>,
}

/// The result of a thread.
type Sendable<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Default)]
struct Counted {
    deliveries: AtomicU64,
    bytes: AtomicU64,
    is_over: AtomicBool,
}

/// Opens a connection for each request, and waits for all responses.
pub fn connect(address: SocketAddr, requests: impl Iterator<Item = String>) -> Fallible<Vec<TcpStream>> {
    let mut sockets = Vec::new();
    let mut answered = 0;
    for request in requests {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.write_all(request.as_bytes())?;
        sockets.push(socket);
        if sockets.len() - answered > UNANSWERED_MAX {
            read_head(&mut sockets[answered])?;
            answered += 1;
        }
    }
    sockets[answered..].iter_mut().try_for_each(read_head)?;
    Ok(sockets)
}

fn read_head(socket: &mut TcpStream) -> Fallible<()> {
    let mut bytes = [0; 4096];
    let length = socket.read(&mut bytes)?;
    if bytes[..length].starts_with(b"HTTP/1.1 200") || bytes[..length].starts_with(b"HTTP/1.1 101") {
        return Ok(());
    }
    Err(format!("refused: {}", String::from_utf8_lossy(&bytes[..length.min(200)])).into())
}

impl Clients {
    pub fn read(sockets: Vec<TcpStream>) -> Fallible<Self> {
        let counted = Arc::new(Counted::default());
        let mut sockets: Vec<_> = sockets
            .into_iter()
            .map(|socket| socket.set_nonblocking(true).map(|()| mio::net::TcpStream::from_std(socket)))
            .collect::<Result<_, _>>()?;
        let poll = mio::Poll::new()?;
        for (n, socket) in sockets.iter_mut().enumerate() {
            poll.registry().register(socket, mio::Token(n), mio::Interest::READABLE)?;
        }
        let counter = counted.clone();
        let reader = Some(thread::spawn(move || count_marks(poll, &mut sockets, &counter)));
        Ok(Self { counted, reader })
    }

    pub fn deliveries(&self) -> u64 {
        self.counted.deliveries.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.counted.bytes.load(Ordering::Relaxed)
    }

    /// Waits until there have been this many deliveries since the beginning.
    pub fn await_deliveries(&self, wanted: u64) -> Fallible<()> {
        let (mut seen, mut since) = (self.deliveries(), Instant::now());
        while seen < wanted {
            thread::sleep(LOOK_AGAIN);
            let now = self.deliveries();
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
            if since.elapsed() > SILENCE || self.reader.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err(format!("{seen} deliveries of {wanted} came").into());
            }
        }
        Ok(())
    }

    /// Closes all connections, and returns the deliveries of each.
    pub fn close(mut self) -> Fallible<Vec<u64>> {
        self.counted.is_over.store(true, Ordering::Relaxed);
        let reader = self.reader.take().ok_or("closed twice")?;
        reader.join().map_err(|_| "the reader failed")?.map_err(|error| error.to_string().into())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.counted.is_over.store(true, Ordering::Relaxed);
    }
}

fn count_marks(mut poll: mio::Poll, sockets: &mut [mio::net::TcpStream], counted: &Counted) -> Sendable<Vec<u64>> {
    let mut ready = mio::Events::with_capacity(1024);
    let mut buffer = vec![0; 1 << 18];
    let mut each = vec![0; sockets.len()];
    while !counted.is_over.load(Ordering::Relaxed) {
        match poll.poll(&mut ready, Some(Duration::from_millis(50))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &ready {
            let n = event.token().0;
            loop {
                match sockets[n].read(&mut buffer) {
                    Ok(0) => return Err("a server closed a stream".into()),
                    Ok(length) => {
                        let marks = memchr::memchr_iter(MARK, &buffer[..length]).count() as u64;
                        each[n] += marks;
                        counted.deliveries.fetch_add(marks, Ordering::Relaxed);
                        counted.bytes.fetch_add(length as u64, Ordering::Relaxed);
                        // A short read emptied the socket; further data wakes it again.
                        if length < buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(each)
}
