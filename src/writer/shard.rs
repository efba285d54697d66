//! The loop of one writer: sockets, entries, new connections and timers in; one write per connection and wake-up out.

mod contained;
mod ends;
mod feeds;
mod incoming;
mod load;
mod queued;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event as Readiness;
use mio::{Events, Poll, Token, Waker};
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::codec::Encodings;
use crate::event::Topic;
use crate::hub::{Hub, Index, Log, WindowLimits};
use crate::session::{CloseReason, ITEMS_PER_WRITE, Now, WriterContext};
use crate::traces::RequestSpan;

use super::Order;
use super::connection::{Connection, READ_BYTES, Wrote};
use super::counting::{self, Counting};
use super::ending::Ending;
use super::inbox::{Inboxes, Next};
use super::openings::Openings;
use super::wheel::Wheel;
use ends::Reloads;
pub use incoming::UNSENT_BYTES_MAX;
use incoming::mark_unread;
use load::Load;

/// Socket events per wake-up.
const READY_MAX: usize = 1024;
/// Sockets are served after the batch with which this many events were taken: as many as fit into one write, so that
/// small batches are written together, and a reading client makes room between large ones.
const ENTRIES_PER_TURN: usize = ITEMS_PER_WRITE;
/// Messages per turn.
const MESSAGES_PER_TURN: usize = 64;
/// Connections in catch-up that are served before live ones have their turn again.
const REPLAYS_PER_TURN: usize = 64;
/// The interval of ending streams.
const ENDING_STEP: Duration = Duration::from_millis(50);

const WAKE: Token = Token(usize::MAX);

pub(super) struct Shard {
    poll: Poll,
    waker: Arc<Waker>,
    inboxes: Arc<Inboxes<Order>>,
    openings: Arc<Openings>,
    streams: Arc<AtomicUsize>,
    connections: Slab<Connection>,
    hub: Hub,
    index: Index,
    log: Arc<dyn Log>,
    encodings: Arc<Encodings>,
    /// The index of this writer.
    number: u32,
    wheel: Wheel,
    /// Connections with something to write.
    dirty: Vec<usize>,
    /// Connections that wait to resume.
    waiting: Vec<usize>,
    /// Connections in catch-up that wait for their turn.
    later: Vec<usize>,
    /// Connections with something to read, in the order of reading.
    unread: VecDeque<usize>,
    /// Streams that are being ended; may be empty.
    ending: Option<Ending>,
    /// Whether principals may have been withdrawn since that was looked at.
    withdrawals: Arc<AtomicBool>,
    reloads: Reloads,
    load: Load,
    /// The spans of sampled requests whose response is not decided yet.
    spans: FxHashMap<usize, Box<RequestSpan>>,
    count: Counting,
}

impl Shard {
    #[expect(clippy::too_many_arguments, reason = "what a writer shares with the rest of the process")]
    pub(super) fn new(
        number: u32,
        windows: &[(Topic, WindowLimits)],
        log: Arc<dyn Log>,
        encodings: Arc<Encodings>,
        count: Counting,
        inboxes: Arc<Inboxes<Order>>,
        openings: Arc<Openings>,
        streams: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        Ok(Self {
            poll,
            waker,
            inboxes,
            openings,
            streams,
            connections: Slab::new(),
            hub: Hub::new(windows.iter().cloned()),
            index: Index::default(),
            wheel: Wheel::new(Instant::now()),
            dirty: Vec::new(),
            waiting: Vec::new(),
            later: Vec::new(),
            log,
            encodings,
            number,
            unread: VecDeque::new(),
            ending: None,
            withdrawals: Arc::default(),
            reloads: Reloads::default(),
            load: Load::new(number, count.metrics(), Instant::now()),
            spans: FxHashMap::default(),
            count,
        })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    pub(super) fn withdrawals(&self) -> Arc<AtomicBool> {
        self.withdrawals.clone()
    }

    /// Runs until the drain ends it.
    pub(super) fn run(mut self) -> Ended {
        let mut ready = Events::with_capacity(READY_MAX);
        let mut scratch = vec![0; READ_BYTES];
        let mut more = false;
        loop {
            let wait = if more || !self.unread.is_empty() || !self.later.is_empty() {
                Some(Duration::ZERO)
            } else {
                self.wait()
            };
            if let Err(error) = self.poll.poll(&mut ready, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "epoll failed");
                return Ended::Failed;
            }
            let now = time();
            ready.iter().for_each(|readiness| self.socket_is_ready(readiness));
            self.read_some(&mut scratch, now);
            // Process feeds before new connections, so that a client that connects after readiness finds a warm window.
            more = match self.messages(now) {
                Turn::Done => false,
                Turn::More => true,
                Turn::Stop => {
                    self.openings.close();
                    self.inboxes.close(self.number as usize);
                    self.remove_all(now);
                    self.count.flush();
                    self.count.event_spans.end_all();
                    return Ended::Told;
                }
            };
            more |= self.take_over(now);
            self.end_withdrawn(now);
            self.timers(now);
            self.end_some(now);
            self.write_all(now);
            self.count.flush();
            self.count.event_spans.expire(now.instant);
            self.take_stock(now.instant);
        }
    }

    fn wait(&self) -> Option<Duration> {
        let timer = self.wheel.wait(Instant::now());
        let ending = self.ending.as_ref().filter(|ending| !ending.is_over()).map(|_| ENDING_STEP);
        timer.into_iter().chain(ending).chain(self.load.wait()).chain(self.count.event_spans.wait()).min()
    }

    fn socket_is_ready(&mut self, readiness: &Readiness) {
        let Token(key) = readiness.token();
        let Some(connection) = self.connections.get_mut(key) else { return };
        if readiness.is_writable() {
            connection.writable = true;
            mark(&mut self.dirty, key, connection);
        }
        if readiness.is_readable() || readiness.is_read_closed() || readiness.is_error() {
            mark_unread(&mut self.unread, key, connection);
        }
    }

    fn messages(&mut self, now: Now) -> Turn {
        let mut entries = 0;
        for _ in 0..MESSAGES_PER_TURN {
            match self.inboxes.next(self.number as usize) {
                Some(Next::Feed(feed)) => {
                    self.apply(&feed, now);
                    entries += feed.entries();
                    if entries >= ENTRIES_PER_TURN {
                        return Turn::More;
                    }
                }
                Some(Next::Calls(sessions)) => sessions.iter().for_each(|session| self.call(*session as usize)),
                Some(Next::Order(Order::Reload(reload, pace))) => self.reload(reload, pace, now),
                Some(Next::Order(Order::Survey(survey, sender))) => {
                    // There is room for each writer's response; a survey that has timed out needs none.
                    let _ = sender.try_send(survey.of(self.connections.iter().map(|(_, connection)| connection)));
                }
                Some(Next::Order(Order::LimitWindows(bytes_max))) => self.hub.limit(bytes_max),
                Some(Next::Order(Order::DropBacklogs)) => self.drop_backlogs(),
                Some(Next::Order(Order::Drain(pace))) => self.start_drain(pace, now),
                Some(Next::Order(Order::Stop)) => return Turn::Stop,
                None => return Turn::Done,
            }
        }
        Turn::More
    }

    /// Data that a session requested from the log may be available. The session may be gone, and its slot reused: an
    /// extra check is harmless.
    fn call(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            mark(&mut self.dirty, key, connection);
        }
    }

    fn timers(&mut self, now: Now) {
        let mut due = Vec::new();
        self.wheel.expire(now.instant, |key, tick| due.push((key, tick)));
        for (key, tick) in due {
            if self.connections.get(key).is_some_and(|connection| connection.timer == tick) {
                self.contained(key, now, |shard| shard.tick(key, now));
            }
        }
    }

    /// A connection's timer is due.
    fn tick(&mut self, key: usize, now: Now) {
        let Self { connections, hub, index, log, encodings, number, count, dirty, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.linger.is_some_and(|until| until <= now.instant) {
            return self.remove(key, CloseReason::ClientLost, now);
        }
        if connection.linger.is_none()
            && let Some(reason) = connection.look(now.instant)
        {
            if reason == CloseReason::ClientLost {
                return self.remove(key, reason, now);
            }
            connection.session.close(reason);
        }
        connection.excuse_pong(now.instant);
        let mut context =
            WriterContext { hub, index, log: &**log, encodings, writer: *number, session: key as u32, now };
        if connection.session.tick(&mut context) {
            count.heartbeat(&connection.session);
        }
        mark(dirty, key, connection);
        connection.timer = 0;
        self.schedule(key);
    }

    /// Sets the connection's timer, unless an earlier one is set.
    fn schedule(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let deadline = connection.deadline();
        if connection.timer == 0 || self.wheel.is_before(deadline, connection.timer) {
            connection.timer = self.wheel.set(key, deadline);
        }
    }

    /// One write for every connection with something to write.
    fn write_all(&mut self, now: Now) {
        let mut replays = REPLAYS_PER_TURN;
        let mut unserved = Vec::new();
        let later = std::mem::take(&mut self.later);
        for key in later.into_iter().chain(std::mem::take(&mut self.dirty)) {
            if self.connections.get(key).is_some_and(|c| c.writable && c.session.is_behind()) {
                if replays == 0 {
                    unserved.push(key);
                    continue;
                }
                replays -= 1;
            }
            self.write(key, now);
        }
        // Before those that have had their turn and want another.
        unserved.append(&mut self.later);
        self.later = unserved;
        let Self { connections, waiting, .. } = self;
        waiting.retain(|key| connections.get(*key).is_some_and(|connection| connection.session.is_waiting()));
    }

    fn write(&mut self, key: usize, now: Now) {
        self.contained(key, now, |shard| shard.write_some(key, now));
    }

    fn write_some(&mut self, key: usize, now: Now) {
        let Self { connections, hub, index, log, encodings, number, count, later, spans, unread, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        connection.dirty = false;
        let by = connection.counted_by();
        let mut context =
            WriterContext { hub, index, log: &**log, encodings, writer: *number, session: key as u32, now };
        match connection.write(&mut context, |told, now| count.told(by, told, now)) {
            Ok(Wrote { bytes, more, gathers }) => {
                if gathers {
                    return self.schedule(key);
                }
                count.wrote(by.transport, bytes);
                if more {
                    connection.dirty = true;
                    later.push(key);
                }
            }
            Err(_) => return self.remove(key, CloseReason::ClientLost, now),
        }
        if connection.session.has_frames() {
            // Data that arrived before the response was decided.
            mark_unread(unread, key, connection);
        }
        count.resumed(connection.session.take_resumes());
        if !connection.counted && !connection.session.is_unanswered() {
            connection.counted = true;
            count.opened(&connection.session);
            if let Some(span) = spans.remove(&key) {
                span.end(Some(counting::status(&connection.session)));
            }
        }
        if connection.session.closed().is_some() {
            connection.session.leave(&mut context);
            connection.say_goodbye(now.instant, self.ending.as_ref().map(|ending| ending.until));
            self.schedule(key);
        } else if connection.session.is_behind() || connection.take_new_watch() {
            self.schedule(key);
        }
    }

    /// One of the streams that were given to this writer is gone.
    fn count_out(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Removes a connection; `reason` counts if the session itself has none.
    fn remove(&mut self, key: usize, reason: CloseReason, now: Now) {
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        connection.session.close(reason);
        let mut context = WriterContext {
            hub: &self.hub,
            index: &mut self.index,
            log: &*self.log,
            encodings: &self.encodings,
            writer: self.number,
            session: key as u32,
            now,
        };
        connection.session.leave(&mut context);
        self.count.resumed(connection.session.take_resumes());
        if connection.counted {
            self.count.closed(&connection, now);
        } else if let Some(span) = self.spans.remove(&key) {
            span.end(None);
        }
        self.count_out();
        if self.connections.is_empty() {
            // Releases the memory of a burst of connections.
            self.connections = Slab::new();
        }
        // Closing the socket removes it from epoll.
    }
}

/// Why a writer ended.
pub(super) enum Ended {
    Told,
    Failed,
}

/// Whether a turn completed all work.
enum Turn {
    Done,
    More,
    Stop,
}

fn mark(dirty: &mut Vec<usize>, key: usize, connection: &mut Connection) {
    if !connection.dirty {
        connection.dirty = true;
        dirty.push(key);
    }
}

fn time() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX) }
}
