//! A writer without a thread: a shard whose wires are in memory. It sleeps like the loop of a writer, and has a turn
//! when something arrives or its time has come.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::READ_BYTES;
use super::shard::Shard;
use super::tcp_info::Peer;
use super::wire::Wire;
use super::{Opening, Pace, Shared};
use crate::codec::{Encodings, Parts};
use crate::event::{Entry, Feed, GapCause, Topic};
use crate::hub::{Log, WindowLimits};
use crate::metrics::Metrics;
use crate::session::{Now, Request};

/// How long a peer may acknowledge nothing.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);
/// How many streams a drain ends per second.
const ENDED_PER_SECOND: f64 = 10.0;

/// The two directions of a connection.
#[derive(Default)]
struct Pipe {
    /// What the client has sent, and the writer has not read.
    sent: VecDeque<u8>,
    /// What the writer has sent, and the client has not read.
    received: VecDeque<u8>,
    /// How many more bytes the client's side takes.
    room: usize,
    has_client_ended: bool,
    is_reset: bool,
    has_writer_ended: bool,
    /// The writer has dropped its side.
    is_dropped: bool,
    /// What the writer has not been notified of.
    is_readable: bool,
    is_writable: bool,
}

/// The writer's side.
struct WriterSide(Rc<RefCell<Pipe>>);

/// The client's side.
pub(crate) struct ClientSide(Rc<RefCell<Pipe>>);

impl Wire for WriterSide {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if pipe.sent.is_empty() && !pipe.has_client_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = buffer.len().min(pipe.sent.len());
        buffer.iter_mut().zip(pipe.sent.drain(..n)).for_each(|(to, from)| *to = from);
        Ok(n)
    }

    fn write(&mut self, parts: &Parts<'_, '_>) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let n = pipe.room.min(parts.slices().map(<[u8]>::len).sum());
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.room -= n;
        pipe.received.extend(parts.slices().flatten().take(n));
        Ok(n)
    }

    fn end(&mut self) {
        self.0.borrow_mut().has_writer_ended = true;
    }

    fn peer(&self) -> io::Result<Peer> {
        let is_unsent = self.0.borrow().room == 0;
        let (sent, silent) = (Duration::ZERO, Duration::ZERO);
        Ok(Peer { is_unacked: false, is_unsent, is_probed: false, acked: 0, sent, silent })
    }

    fn set_peer_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for WriterSide {
    fn drop(&mut self) {
        self.0.borrow_mut().is_dropped = true;
    }
}

impl ClientSide {
    /// Reads up to this many bytes, which makes room for as many more.
    pub(crate) fn read(&self, bytes: usize) -> Vec<u8> {
        let mut pipe = self.0.borrow_mut();
        let n = bytes.min(pipe.received.len());
        pipe.is_writable |= pipe.room == 0 && n > 0;
        pipe.room += n;
        pipe.received.drain(..n).collect()
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut pipe = self.0.borrow_mut();
        pipe.sent.extend(bytes);
        pipe.is_readable = true;
    }

    /// Whether nothing more will arrive.
    pub(crate) fn is_over(&self) -> bool {
        let pipe = self.0.borrow();
        pipe.received.is_empty() && (pipe.has_writer_ended || pipe.is_dropped)
    }

    /// Whether the writer ended the stream properly.
    pub(crate) fn is_proper_end(&self) -> bool {
        self.0.borrow().has_writer_ended
    }

    pub(crate) fn reset(&self) {
        let mut pipe = self.0.borrow_mut();
        (pipe.is_reset, pipe.is_readable) = (true, true);
    }
}

impl Drop for ClientSide {
    /// Closes the connection.
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        (pipe.has_client_ended, pipe.is_readable) = (true, true);
    }
}

pub(crate) struct Writer {
    shard: Shard<WriterSide>,
    /// The connections by their keys.
    wires: Vec<(usize, Rc<RefCell<Pipe>>)>,
    inbox: VecDeque<Feed>,
    /// When the next turn is due.
    wake_at: Option<Instant>,
    scratch: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(
        number: u32,
        windows: &[(Topic, WindowLimits)],
        log: &Arc<dyn Log>,
        encodings: &Arc<Encodings>,
        metrics: &Arc<Metrics>,
        now: Now,
    ) -> Self {
        let (log, encodings, metrics) = (log.clone(), encodings.clone(), metrics.clone());
        let shared = Shared { log, encodings, metrics, tracer: None };
        let shard = Shard::new(number, windows, &shared, now.instant);
        let (wires, inbox, scratch) = (Vec::new(), VecDeque::new(), vec![0; READ_BYTES]);
        Self { shard, wires, inbox, wake_at: Some(now.instant), scratch }
    }

    /// Opens a stream whose client's side takes this many bytes at a time.
    pub(crate) fn open(&mut self, request: Request, room: usize, jitter: f64, now: Now) -> ClientSide {
        let pipe = Rc::new(RefCell::new(Pipe { room, ..Pipe::default() }));
        self.wires.push((self.shard.next_key(), pipe.clone()));
        self.shard.streams().fetch_add(1, Ordering::Relaxed);
        let opening = Opening {
            socket: WriterSide(pipe.clone()),
            peer_timeout: PEER_TIMEOUT,
            early: Bytes::new(),
            request,
            span: None,
            slot: Box::new(()),
        };
        self.shard.open(opening, jitter, now);
        self.wake_at = Some(now.instant);
        ClientSide(pipe)
    }

    /// Ends all streams within this time.
    pub(crate) fn drain(&mut self, within: Duration, now: Now) {
        let pace = Pace { per_second: ENDED_PER_SECOND, within, until: now.instant + within };
        self.shard.drain(pace, now);
        self.wake_at = Some(now.instant);
    }

    pub(crate) fn feed(&mut self, feed: Feed) {
        self.inbox.push_back(feed);
    }

    /// Whether no truncation waits to be applied.
    pub(crate) fn knows_truncations(&self) -> bool {
        let is_truncation = |entry: &Entry| matches!(entry, Entry::Gap { cause: GapCause::Truncated, .. });
        let has_truncation = |feed: &Feed| matches!(feed, Feed::Batch(entries) if entries.iter().any(is_truncation));
        !self.inbox.iter().any(has_truncation)
    }

    /// Data that a session requested from the log is available.
    pub(crate) fn call(&mut self, session: u32, now: Now) {
        self.shard.call(session as usize);
        self.wake_at = Some(now.instant);
    }

    /// Applies at most this many feeds, and has a turn if there is a reason for one.
    pub(crate) fn run(&mut self, feeds: usize, now: Now) {
        let mut is_woken = self.notify();
        while self.shard.unread() > 0 && is_woken {
            for _ in 0..self.shard.unread() {
                self.shard.read_next(&mut self.scratch, now);
            }
            is_woken = false;
            self.wake_at = Some(now.instant);
        }
        for feed in self.inbox.drain(..feeds.min(self.inbox.len())) {
            self.shard.apply(&feed, now);
            self.wake_at = Some(now.instant);
        }
        if is_woken || self.wake_at.is_some_and(|at| at <= now.instant) {
            self.shard.finish_turn(now);
            self.wake_at = self.shard.wait(now.instant).map(|wait| now.instant + wait);
        }
    }

    /// Reports readiness as epoll does: each change once.
    fn notify(&mut self) -> bool {
        let Self { shard, wires, .. } = self;
        wires.retain(|(_, pipe)| !pipe.borrow().is_dropped);
        let mut is_woken = false;
        for (key, pipe) in wires {
            let mut pipe = pipe.borrow_mut();
            let (readable, writable) = (std::mem::take(&mut pipe.is_readable), std::mem::take(&mut pipe.is_writable));
            drop(pipe);
            if readable || writable {
                shard.is_ready(*key, readable, writable);
                is_woken = true;
            }
        }
        is_woken
    }
}
