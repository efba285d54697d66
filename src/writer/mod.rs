//! The stream writers: a few threads, each owning its sockets, their sessions, its share of the index and one
//! timer wheel. Nothing else writes stream bytes.
//!
//! Every writer is told every entry, in the same order, as one message per batch; one that is too slow is told a gap
//! instead, and holds up nobody. A connection stays with the writer it was handed to. Writers belong to no async runtime: they sleep in `epoll`.

mod by_route;
mod connection;
mod counting;
mod ending;
mod event_spans;
mod inbox;
mod openings;
mod shard;
mod survey;
mod tcp_info;
#[cfg(test)]
mod tests;
mod watch;
mod wheel;

/// loom has locks of its own under these names.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
}

use std::io;
use std::net::TcpStream;
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
use crate::traces::{RequestSpan, Tracer};

use counting::Counting;
pub use ending::Pace;
use event_spans::EventSpans;
use inbox::Inboxes;
use openings::Openings;
pub use shard::UNSENT_BYTES_MAX;
use shard::{Ended, Shard};
pub use survey::{StreamStats, Survey};

/// How long a survey waits for a writer that is busy.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a drain looks whether all streams are gone.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// A connection taken out of the proxy, with its admitted request.
pub struct Opening {
    /// Non-blocking; nothing of the response was written to it yet: the writer writes the head.
    pub socket: TcpStream,
    /// How long the peer may acknowledge nothing while something is on its way to it.
    pub peer_timeout: Duration,
    /// What the client sent after the request's head (a WebSocket client may be early).
    pub early: Bytes,
    pub request: Request,
    /// Ends once the answer is decided, where the request is told of.
    pub span: Option<Box<RequestSpan>>,
    /// Held while the stream is open; dropping it frees the admission slot.
    pub slot: Box<dyn Send>,
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

/// The way to one writer.
struct Writer {
    openings: Arc<Openings>,
    waker: Arc<Waker>,
    /// Whether it is to look for streams whose principals are no longer accepted.
    withdrawals: Arc<AtomicBool>,
    /// Streams it owns or is about to.
    streams: Arc<AtomicUsize>,
}

/// What a writer is told beside feeds and calls.
enum Order {
    /// Go on under another configuration; end the streams that can't.
    Reload(Arc<Reload>, Pace),
    /// Tell of some streams.
    Survey(Arc<Survey>, SyncSender<Vec<StreamStats>>),
    /// Keep at most so many bytes in all windows together.
    LimitWindows(Option<usize>),
    /// Drop what waits for slow clients.
    DropBacklogs,
    /// End every stream.
    Drain(Pace),
    Stop,
}

impl Writers {
    /// Starts `threads` writers with these replay windows, and the log behind them.
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
        for n in 0..u32::try_from(threads.max(1)).unwrap_or(u32::MAX) {
            let openings = Arc::new(Openings::new());
            let streams = Arc::new(AtomicUsize::new(0));
            let count = Counting::new(metrics.clone(), EventSpans::new(tracer.cloned(), n));
            let shard = Shard::new(
                n,
                windows,
                log.clone(),
                encodings.clone(),
                count,
                inboxes.clone(),
                openings.clone(),
                streams.clone(),
            )?;
            writers.push(Writer { openings, waker: shard.waker(), withdrawals: shard.withdrawals(), streams });
            handles.push(std::thread::Builder::new().name(format!("writer-{n}")).spawn(move || watch(shard))?);
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

    /// Says that what these sessions of a writer asked of the log may be there.
    pub fn call(&self, writer: u32, sessions: Vec<u32>) {
        self.inner.inboxes.call(writer as usize, sessions);
        if let Some(writer) = self.inner.writers.get(writer as usize) {
            writer.wake();
        }
    }

    /// Hands a connection to the writer with the fewest; gives it back where the writers take no more (draining, or
    /// too many waiting): 503.
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

    /// Streams open now.
    pub fn streams(&self) -> usize {
        self.inner.writers.iter().map(|writer| writer.streams.load(Ordering::Relaxed)).sum()
    }

    /// Tells of some of the open streams. Blocks its thread until every writer has answered, or is too busy to.
    pub fn survey(&self, survey: Survey) -> Vec<StreamStats> {
        let (tell, told) = sync_channel(self.inner.writers.len());
        let survey = Arc::new(survey);
        self.tell_all(|| Order::Survey(survey.clone(), tell.clone()));
        drop(tell);
        let mut stats = Vec::new();
        while let Ok(more) = told.recv_timeout(SURVEY_TIMEOUT) {
            stats.extend(more);
        }
        Survey::merge(stats)
    }

    /// Keeps at most so many bytes in all windows together; nothing: as much as is configured.
    pub fn limit_windows(&self, bytes_max: Option<usize>) {
        self.tell_all(|| Order::LimitWindows(bytes_max));
    }

    /// Drops what waits for clients that take no more, as the policies of their queues say.
    pub fn drop_backlogs(&self) {
        self.tell_all(|| Order::DropBacklogs);
    }

    /// Ends the streams whose principals are no longer accepted.
    pub fn end_withdrawn(&self) {
        for writer in &self.inner.writers {
            // No order: it is never refused, and several at once are one.
            writer.withdrawals.store(true, Ordering::Release);
            writer.wake();
        }
    }

    /// Lets the streams go on under another configuration, and ends those that can't, one after the other.
    pub fn reload(&self, reload: Reload, pace: Pace) {
        let (reload, pace) = (Arc::new(reload), pace.shared_by(self.inner.writers.len()));
        self.tell_all(|| Order::Reload(reload.clone(), pace));
    }

    /// Ends every stream at a record boundary (SSE `retry`, WebSocket 1012), one after the other, and takes no new
    /// ones. Returns when all are gone or the time of `pace` is over, whichever is first; blocks its thread. Gives the
    /// number of streams that were still open then. The writers end.
    pub fn drain(&self, pace: Pace) -> usize {
        self.inner.draining.store(true, Ordering::Relaxed);
        let pace = pace.shared_by(self.inner.writers.len());
        self.tell_all(|| Order::Drain(pace));
        while self.streams() > 0 && Instant::now() < pace.until {
            std::thread::sleep(DRAIN_LOOK);
        }
        let left = self.streams();
        self.tell_all(|| Order::Stop);
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

    /// A writer that is gone, or has not taken hundreds of orders, is told nothing.
    fn tell_all(&self, order: impl Fn() -> Order) {
        for (n, writer) in self.inner.writers.iter().enumerate() {
            if self.inner.inboxes.order(n, order()) {
                writer.wake();
            }
        }
    }
}

impl Fanout for Writers {
    /// Passes entries to every writer, in the same order from every source. Blocks for a bounded time while all writers are
    /// behind: the log is the buffer. What a writer does not take that is slower than the others becomes a gap of its
    /// streams.
    fn feed(&self, feed: &Feed) {
        for (writer, events) in self.inner.inboxes.feed(feed) {
            tracing::warn!(writer, events, "a stream writer is too slow: its streams receive a gap");
            self.inner.metrics.writer_skipped.with_label_values(&[&*writer.to_string()]).inc_by(events);
        }
        self.inner.writers.iter().for_each(Writer::wake);
    }
}

/// Runs a writer. Without one of them its streams are dead and its share of new ones would die: the process ends then,
/// to be started anew, rather than look alive.
fn watch(shard: Shard) {
    if !matches!(contain(|| shard.run()), Some(Ended::Told)) {
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
