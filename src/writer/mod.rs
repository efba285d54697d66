//! The stream writers: a few threads, each of which owns its sockets, their sessions, its part of the index and a timer
//! wheel. Only writers write the bytes of streams.
//!
//! Every writer receives all entries in the same order, as one message per batch. A writer that is too slow receives a
//! gap instead, and delays no other. A connection stays with its writer. Writers do not use an async runtime: they
//! block in `epoll`.

mod by_route;
mod connection;
mod counting;
mod ending;
mod event_loop;
mod event_spans;
mod inbox;
mod openings;
mod shard;
mod signals;
#[cfg(test)]
#[path = "../../tests/simulation/writer.rs"]
pub(crate) mod simulation;
mod survey;
mod tcp_info;
#[cfg(test)]
mod tests;
mod watch;
mod wheel;
mod wire;

/// loom has its own locks with these names.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
}

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::Waker;

use crate::codec::Encodings;
use crate::contain::contain;
use crate::event::{Feed, Topic};
use crate::hub::{Log, WindowLimits};
use crate::ingest::Fanout;
use crate::metrics::Metrics;
use crate::panics;
use crate::session::{Reload, Request};
use crate::socket::Socket;
use crate::traces::{RequestSpan, Tracer};

pub use ending::Pace;
pub use event_loop::UNSENT_BYTES_MAX;
use event_loop::{Ended, EventLoop};
use inbox::Inboxes;
use openings::Openings;
use shard::Shard;
pub use survey::{StreamStats, Survey};

/// How long a survey waits for a busy writer.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval at which a drain checks whether all streams are closed.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// A connection taken from the proxy, with its admitted request.
pub struct Opening<W = Socket> {
    /// Nothing of the response has been written: the writer writes its head.
    pub socket: W,
    /// How long the peer may acknowledge nothing while data is in flight.
    pub peer_timeout: Duration,
    /// Bytes that the client sent after the request head (a WebSocket client may send early).
    pub early: Bytes,
    pub request: Request,
    /// Ends once the response is decided, if the request is sampled.
    pub span: Option<Box<RequestSpan>>,
    /// Held while the stream is open; dropping it frees the admission slot.
    pub slot: Box<dyn Send>,
}

/// What a writer shares with the rest of the process.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) encodings: Arc<Encodings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracer: Option<Tracer>,
}

/// The running writers. Cheap to clone.
#[derive(Clone)]
pub struct Writers {
    inner: Arc<Inner>,
}

struct Inner {
    writers: Vec<Writer>,
    inboxes: Arc<Inboxes<Order>>,
    metrics: Arc<Metrics>,
    draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The handle of one writer.
struct Writer {
    openings: Arc<Openings>,
    waker: Arc<Waker>,
    /// Whether it is to look for streams whose principals are no longer accepted.
    withdrawals: Arc<AtomicBool>,
    /// The streams that it owns or is about to own.
    streams: Arc<AtomicUsize>,
}

/// A control message to a writer.
enum Order {
    /// Continue with another configuration; end the streams that cannot.
    Reload(Arc<Reload>, Pace),
    /// Report some streams.
    Survey(Arc<Survey>, SyncSender<Vec<StreamStats>>),
    /// Limit the bytes of all windows together.
    LimitWindows(Option<usize>),
    /// Drop the queued events of slow clients.
    DropBacklogs,
    /// End all streams.
    Drain(Pace),
    Stop,
}

impl Writers {
    /// Starts `threads` writers with these replay windows, and the log behind them.
    ///
    /// # Errors
    ///
    /// A thread or its epoll instance cannot be created.
    pub fn start(
        threads: usize,
        windows: &[(Topic, WindowLimits)],
        log: &Arc<dyn Log>,
        encodings: &Arc<Encodings>,
        metrics: &Arc<Metrics>,
        tracer: Option<&Tracer>,
    ) -> io::Result<Self> {
        let mut writers = Vec::with_capacity(threads);
        let mut handles = Vec::with_capacity(threads);
        let inboxes = Arc::new(Inboxes::new(threads.max(1), inbox::AHEAD, inbox::INBOX_MAX));
        let shared = Shared {
            log: log.clone(),
            encodings: encodings.clone(),
            metrics: metrics.clone(),
            tracer: tracer.cloned(),
        };
        for n in 0..u32::try_from(threads.max(1)).unwrap_or(u32::MAX) {
            let shard = Shard::new(n, windows, &shared, Instant::now());
            let event_loop = EventLoop::new(shard, inboxes.clone(), metrics)?;
            writers.push(event_loop.handle());
            handles.push(std::thread::Builder::new().name(format!("writer-{n}")).spawn(move || watch(event_loop))?);
        }
        let threads = Mutex::new(handles);
        Ok(Self {
            inner: Arc::new(Inner {
                writers,
                inboxes,
                metrics: metrics.clone(),
                draining: AtomicBool::new(false),
                threads,
            }),
        })
    }

    /// Reports that data which these sessions of a writer requested from the log may be available.
    pub fn call(&self, writer: u32, sessions: Vec<u32>) {
        self.inner.inboxes.call(writer as usize, sessions);
        if let Some(writer) = self.inner.writers.get(writer as usize) {
            writer.wake();
        }
    }

    /// Hands a connection to the writer with the fewest streams.
    ///
    /// # Errors
    ///
    /// Returns the connection if the writers accept no more (draining, or too many are waiting): 503.
    pub fn open(&self, opening: Opening) -> Result<(), Box<Opening>> {
        let fewest = self.inner.writers.iter().min_by_key(|writer| writer.streams.load(Ordering::Relaxed));
        let Some(writer) = fewest.filter(|_| !self.is_draining()) else { return Err(Box::new(opening)) };
        writer.streams.fetch_add(1, Ordering::Relaxed);
        match writer.openings.push(opening) {
            Ok(()) => {
                writer.wake();
                Ok(())
            }
            Err(opening) => {
                writer.streams.fetch_sub(1, Ordering::Relaxed);
                Err(opening)
            }
        }
    }

    /// The number of open streams.
    pub fn streams(&self) -> usize {
        self.inner.writers.iter().map(|writer| writer.streams.load(Ordering::Relaxed)).sum()
    }

    /// Reports some of the open streams. Blocks its thread until every writer has responded, or is too busy to.
    pub fn survey(&self, survey: Survey) -> Vec<StreamStats> {
        let (sender, answers) = sync_channel(self.inner.writers.len());
        let survey = Arc::new(survey);
        self.order_all(|| Order::Survey(survey.clone(), sender.clone()));
        drop(sender);
        let mut stats = Vec::new();
        while let Ok(more) = answers.recv_timeout(SURVEY_TIMEOUT) {
            stats.extend(more);
        }
        Survey::merge(stats)
    }

    /// Limits the bytes of all windows together; `None` restores the configured limits.
    pub fn limit_windows(&self, bytes_max: Option<usize>) {
        self.order_all(|| Order::LimitWindows(bytes_max));
    }

    /// Drops the queued events of clients whose sockets are full, according to their overflow policies.
    pub fn drop_backlogs(&self) {
        self.order_all(|| Order::DropBacklogs);
    }

    /// Ends the streams whose principals are no longer accepted.
    pub fn end_withdrawn(&self) {
        for writer in &self.inner.writers {
            // No order: it is never refused, and several at once are one.
            writer.withdrawals.store(true, Ordering::Release);
            writer.wake();
        }
    }

    /// Lets the streams adopt another configuration, and ends those that cannot, at a bounded rate.
    pub fn reload(&self, reload: Reload, pace: Pace) {
        let (reload, pace) = (Arc::new(reload), pace.shared_by(self.inner.writers.len()));
        self.order_all(|| Order::Reload(reload.clone(), pace));
    }

    /// Ends all streams at a record boundary (SSE `retry`, WebSocket 1012) at a bounded rate, and rejects new ones.
    /// Blocks its thread until all are closed or the time of `pace` is over, whichever is first. Returns the number of
    /// streams that were still open. The writers end.
    pub fn drain(&self, pace: Pace) -> usize {
        self.inner.draining.store(true, Ordering::Relaxed);
        let pace = pace.shared_by(self.inner.writers.len());
        self.order_all(|| Order::Drain(pace));
        while self.streams() > 0 && Instant::now() < pace.until {
            std::thread::sleep(DRAIN_LOOK);
        }
        let left = self.streams();
        self.order_all(|| Order::Stop);
        let handles = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a stream writer panicked");
            }
        }
        left
    }

    fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }

    /// A writer that has ended, or has not taken hundreds of orders, is skipped.
    fn order_all(&self, order: impl Fn() -> Order) {
        for (n, writer) in self.inner.writers.iter().enumerate() {
            if self.inner.inboxes.order(n, order()) {
                writer.wake();
            }
        }
    }
}

impl Fanout for Writers {
    /// Passes entries to all writers in the same order. Blocks for a bounded time while all writers are behind: the log
    /// is the buffer. Entries that a slow writer does not take become a gap of its streams.
    fn feed(&self, feed: &Feed) {
        for (writer, events) in self.inner.inboxes.feed(feed) {
            tracing::warn!(writer, events, "a stream writer is too slow: its streams receive a gap");
            self.inner.metrics.writer_skipped.with_label_values(&[&*writer.to_string()]).inc_by(events);
        }
        self.inner.writers.iter().for_each(Writer::wake);
    }
}

/// Runs a writer. If one fails, its streams are dead, and its share of new ones would be: the process exits to be
/// restarted.
fn watch(event_loop: EventLoop) {
    if !matches!(contain(|| event_loop.run()), Some(Ended::Stopped)) {
        panics::end_process("writer");
    }
}

impl Writer {
    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a stream writer cannot be woken");
        }
    }
}
