//! Thousands of connections that one thread reads, throws away and counts by.
//!
//! Every event carries one [`MARK`], a byte that is in nothing else that servers send here, so that deliveries are
//! counted without parsing, on any transport, wherever a read ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Fallible;

/// Stands once in each event, and in no length of a WebSocket frame of the sizes used here.
pub const MARK: u8 = b'!';
/// How long a server may take to answer a request, or to deliver what was published.
const SILENCE: Duration = Duration::from_secs(60);
/// Requests without an answer while connecting; some servers drop what is too much at once.
const UNANSWERED_MAX: usize = 100;
/// How often what was counted is looked at.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Open connections whose answers have begun.
pub struct Clients {
    counted: Arc<Counted>,
    reader: Option<JoinHandle<Sendable<Vec<u64>>>>,
}

/// What a thread may return.
type Sendable<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Default)]
struct Counted {
    deliveries: AtomicU64,
    bytes: AtomicU64,
    is_over: AtomicBool,
}

/// Opens a connection for each request, all answered when it returns.
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

    /// Waits until so many deliveries came since the beginning.
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

    /// Closes all; how many deliveries each had.
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
                        // A short read emptied the socket; what comes next wakes it again.
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
