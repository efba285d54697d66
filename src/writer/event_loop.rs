//! The loop of one writer: waits for readiness, messages and timers, and drives its shard. It owns the poll instance
//! and reads the clock.
//!
//! Each kind of input has a bounded share of a turn.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event as Readiness;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use prometheus::Counter;

use crate::metrics::Metrics;
use crate::session::{ITEMS_PER_WRITE, Now};
use crate::socket::Socket;

use super::connection::READ_BYTES;
use super::inbox::{Inboxes, Next};
use super::openings::Openings;
use super::shard::Shard;
use super::signals::Signals;
use super::{Opening, Order, Writer};

/// Unsent bytes in the kernel per stream (TCP_NOTSENT_LOWAT): the rest waits in the session's queue, where it is
/// bounded, counted, and dropped by policy.
pub const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// Socket events per wake-up.
const READY_MAX: usize = 1024;
/// Sockets are served after the batch with which this many events were taken: as many as fit into one write, so that
/// small batches are written together, and a reading client makes room between large ones.
const ENTRIES_PER_TURN: usize = ITEMS_PER_WRITE;
/// Messages per turn.
const MESSAGES_PER_TURN: usize = 64;
/// New connections per turn.
const OPENINGS_PER_TURN: usize = 256;
/// The most time per turn for reading sockets, and for new connections: the amount of work from clients must not delay
/// events and writes.
const SHARE: Duration = Duration::from_millis(2);

const WAKE: Token = Token(usize::MAX);

pub(super) struct EventLoop {
    poll: Poll,
    waker: Arc<Waker>,
    /// The wires without a descriptor that are ready.
    signals: Arc<Signals>,
    inboxes: Arc<Inboxes<Order>>,
    openings: Arc<Openings>,
    /// Whether principals may have been withdrawn since that was looked at.
    withdrawals: Arc<AtomicBool>,
    /// The seconds in which this writer was not asleep.
    busy: Counter,
    shard: Shard<Socket>,
}

impl EventLoop {
    /// # Errors
    ///
    /// The poll instance cannot be created.
    pub(super) fn new(shard: Shard<Socket>, inboxes: Arc<Inboxes<Order>>, metrics: &Metrics) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let signals = Arc::new(Signals::new(waker.clone()));
        let busy = metrics.writer_busy.with_label_values(&[&*shard.number().to_string()]);
        Ok(Self { poll, waker, signals, inboxes, openings: Arc::default(), withdrawals: Arc::default(), busy, shard })
    }

    pub(super) fn handle(&self) -> Writer {
        Writer {
            openings: self.openings.clone(),
            waker: self.waker.clone(),
            withdrawals: self.withdrawals.clone(),
            streams: self.shard.streams(),
        }
    }

    /// Runs until the drain ends it.
    pub(super) fn run(mut self) -> Ended {
        let mut ready = Events::with_capacity(READY_MAX);
        let mut scratch = vec![0; READ_BYTES];
        let mut more = false;
        loop {
            let wait = if more { Some(Duration::ZERO) } else { self.shard.wait(Instant::now()) };
            if let Err(error) = self.poll.poll(&mut ready, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "epoll failed");
                return Ended::Failed;
            }
            let now = time();
            ready.iter().for_each(|readiness| self.is_ready(readiness));
            self.signals.take().for_each(|key| self.shard.is_ready(key, true, true));
            self.read_some(&mut scratch, now);
            // Process feeds before new connections, so that a client that connects after readiness finds a warm window.
            more = match self.messages(now) {
                Turn::Done => false,
                Turn::More => true,
                Turn::Stop => {
                    self.openings.close();
                    self.inboxes.close(self.shard.number() as usize);
                    self.shard.end(now);
                    return Ended::Stopped;
                }
            };
            more |= self.take_over(now);
            if self.withdrawals.swap(false, Ordering::AcqRel) {
                self.shard.end_withdrawn(now);
            }
            self.shard.finish_turn(now);
            self.busy.inc_by(now.instant.elapsed().as_secs_f64());
        }
    }

    fn is_ready(&mut self, readiness: &Readiness) {
        let Token(key) = readiness.token();
        let is_readable = readiness.is_readable() || readiness.is_read_closed() || readiness.is_error();
        self.shard.is_ready(key, is_readable, readiness.is_writable());
    }

    /// Reads once from each connection with data, within this turn's share. The others come first in the next turn.
    fn read_some(&mut self, scratch: &mut [u8], now: Now) {
        let until = Instant::now() + SHARE;
        for _ in 0..self.shard.unread() {
            self.shard.read_next(scratch, now);
            if Instant::now() >= until {
                break;
            }
        }
    }

    fn messages(&mut self, now: Now) -> Turn {
        let mut entries = 0;
        for _ in 0..MESSAGES_PER_TURN {
            match self.inboxes.next(self.shard.number() as usize) {
                Some(Next::Feed(feed)) => {
                    self.shard.apply(&feed, now);
                    entries += feed.entries();
                    if entries >= ENTRIES_PER_TURN {
                        return Turn::More;
                    }
                }
                Some(Next::Calls(sessions)) => sessions.iter().for_each(|session| self.shard.call(*session as usize)),
                Some(Next::Order(Order::Stop)) => return Turn::Stop,
                Some(Next::Order(order)) => self.obey(order, now),
                None => return Turn::Done,
            }
        }
        Turn::More
    }

    fn obey(&mut self, order: Order, now: Now) {
        match order {
            Order::Reload(reload, pace) => self.shard.reload(reload, pace, now),
            Order::Survey(survey, sender) => {
                // There is room for each writer's response; a survey that has timed out needs none.
                let _ = sender.try_send(self.shard.survey(&survey));
            }
            Order::LimitWindows(bytes_max) => self.shard.limit_windows(bytes_max),
            Order::DropBacklogs => self.shard.drop_backlogs(),
            Order::Drain(pace) => self.shard.drain(pace, now),
            Order::Stop => {}
        }
    }

    /// Takes over new connections. Returns whether there may be more.
    fn take_over(&mut self, now: Now) -> bool {
        let until = Instant::now() + SHARE;
        for _ in 0..OPENINGS_PER_TURN {
            let Some(opening) = self.openings.pop() else { return false };
            if let Err(error) = self.open(opening, now) {
                self.shard.count_out();
                tracing::warn!(%error, "a stream's socket could not be watched");
            }
            if Instant::now() >= until {
                break;
            }
        }
        true
    }

    fn open(&mut self, mut opening: Opening, now: Now) -> io::Result<()> {
        let key = self.shard.next_key();
        if let Socket::Http2(stream) = &mut opening.socket {
            stream.set_waker(self.signals.waker(key));
        }
        let tcp = opening.socket.tcp();
        tcp.map_or(Ok(()), |tcp| self.watch(tcp, key))?;
        let is_http2 = tcp.is_none();
        self.shard.open(opening, fastrand::f64(), now);
        if is_http2 {
            // It reports readiness once it was read.
            self.shard.is_ready(key, true, false);
        }
        Ok(())
    }

    fn watch(&self, tcp: &TcpStream, key: usize) -> io::Result<()> {
        // Without it, more bytes wait in the kernel, and policies apply later: more memory, same behavior.
        if let Err(error) = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT is not available");
        }
        // Closing the socket removes it from epoll.
        let mut source = SourceFd(&tcp.as_raw_fd());
        self.poll.registry().register(&mut source, Token(key), Interest::READABLE | Interest::WRITABLE)
    }
}

/// Why a writer ended.
pub(super) enum Ended {
    Stopped,
    Failed,
}

/// Whether a turn completed all work.
enum Turn {
    Done,
    More,
    Stop,
}

fn time() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX) }
}
