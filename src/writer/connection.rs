//! One connection of a writer: a socket and its session, and the bytes between them.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::TcpStream;
use socket2::SockRef;

use crate::event::{Event, GapCause};
use crate::session::{CloseReason, ITEMS_PER_WRITE, Now, Refused, Session, WriterContext};

use super::by_route::RouteNumber;
use super::counting::By;
use super::tcp_info::Peer;
use super::watch::{Patience, Seen, Watch};
use super::wheel::Tick;

/// Bytes read at once.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// How long a peer may take to close its side once our goodbye is with the kernel, or to take what it did not want to
/// read before.
const LINGER: Duration = Duration::from_secs(1);
/// When a pong that could not be expected yet is looked for again.
const PONG_AGAIN: Duration = Duration::from_secs(1);
/// Kernels answer what is outside of their window at most twice a second (Linux: `tcp_invalid_ratelimit`): less silence
/// than this says nothing.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// Reads of one connection before the others have their turn: 64 KiB.
const READS_PER_TURN: usize = 4;

pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) session: Session,
    /// Whether it is on the list of those with something to write.
    pub(super) dirty: bool,
    /// Whether it is on the list of those with something to read.
    pub(super) unread: bool,
    /// Whether the socket took everything last time.
    pub(super) writable: bool,
    /// The timer that counts; older ones are forgotten.
    pub(super) timer: Tick,
    /// When waiting for the peer of a closed session is over.
    pub(super) linger: Option<Instant>,
    /// While the peer may not have everything that was written.
    watch: Option<Box<Watch>>,
    /// How long the peer may acknowledge nothing, in milliseconds.
    peer_timeout_ms: u32,
    /// Whether it is one of those that are being ended.
    pub(super) is_ending: bool,
    /// Whether our side is closed.
    shut: bool,
    /// Whether it counts as an open stream, or as a refused one: once its answer is decided.
    pub(super) counted: bool,
    route: RouteNumber,
    pub(super) tally: Tally,
    _slot: Box<dyn Send>,
}

/// What a stream came to, for the line in the log at its end.
pub(super) struct Tally {
    pub(super) opened: Instant,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// What a client is told.
pub(super) enum Told<'a> {
    /// An event that went out whole, and whether it came live.
    Event(&'a Event, bool),
    /// A loss whose turn to be written has come.
    Gap(GapCause),
}

/// What writing came to.
pub(super) struct Wrote {
    pub(super) bytes: usize,
    /// Whether there is more that could be written at once: a client that catches up, and reads.
    pub(super) more: bool,
    /// Whether what is queued waits for more to go with it.
    pub(super) gathers: bool,
}

/// What reading came to.
pub(super) enum ReadEnd {
    /// Nothing more for now.
    Later,
    /// There may be more.
    Again,
    Gone(CloseReason),
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        peer_timeout: Duration,
        session: Session,
        route: RouteNumber,
        slot: Box<dyn Send>,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            session,
            dirty: false,
            unread: false,
            writable: true,
            timer: 0,
            linger: None,
            watch: None,
            peer_timeout_ms: u32::try_from(peer_timeout.as_millis()).unwrap_or(u32::MAX),
            is_ending: false,
            shut: false,
            counted: false,
            route,
            tally: Tally { opened: now, events: 0, bytes: 0 },
            _slot: slot,
        }
    }

    pub(super) fn counted_by(&self) -> By {
        By { transport: self.session.transport(), route: self.route }
    }

    /// Hands what the client sent to its session: [`READS_PER_TURN`] at most, and nothing more while frames of what was
    /// read are left.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        context: &mut WriterContext<'_>,
        mut refused: impl FnMut(Refused),
    ) -> ReadEnd {
        self.session.read_on(context).into_iter().for_each(&mut refused);
        for _ in 0..READS_PER_TURN {
            if self.session.has_frames() {
                return ReadEnd::Again;
            }
            if self.session.closed().is_some() && self.session.is_overrun() {
                // The rest stays in the kernel, until waiting for the peer is over.
                return ReadEnd::Later;
            }
            match self.socket.read(scratch) {
                Ok(0) => return ReadEnd::Gone(CloseReason::ClientClosed),
                Ok(n) => self.session.read(&scratch[..n], context).into_iter().for_each(&mut refused),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return ReadEnd::Later,
                    ErrorKind::Interrupted => {}
                    _ => return ReadEnd::Gone(CloseReason::ClientLost),
                },
            }
        }
        ReadEnd::Again
    }

    /// What the client sent before its connection came here.
    pub(super) fn read_early(&mut self, early: &Bytes, context: &mut WriterContext<'_>, refused: impl FnMut(Refused)) {
        if !early.is_empty() {
            self.session.read(early, context).into_iter().for_each(refused);
        }
    }

    /// Writes everything that is ready, in as few writes as there can be; what went out is `told`. A session that
    /// catches up gets on by a piece. An error where the peer is gone.
    pub(super) fn write(
        &mut self,
        context: &mut WriterContext<'_>,
        told: impl FnMut(Told<'_>, Now),
    ) -> io::Result<Wrote> {
        let more = self.writable && self.session.is_behind() && self.session.catch_up(context);
        if self.session.gathers(context.now.instant) {
            return Ok(Wrote { bytes: 0, more: false, gathers: true });
        }
        let bytes = self.flush(context.now, told)?;
        Ok(Wrote { bytes, more: more && self.writable, gathers: false })
    }

    /// Writes what waits. Gives the number of bytes written, or an error where the peer is gone.
    pub(super) fn flush(&mut self, now: Now, mut told: impl FnMut(Told<'_>, Now)) -> io::Result<usize> {
        let mut bytes = 0;
        while self.writable {
            self.session.prepare(now, |cause| told(Told::Gap(cause), now));
            let mut slices = [IoSlice::new(&[]); ITEMS_PER_WRITE];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(self.session.chunks()) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            if count == 0 {
                break;
            }
            let result = match &slices[..count] {
                [only] => self.socket.write(only),
                all => self.socket.write_vectored(all),
            };
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes += n;
                    let patience = self.peer_timeout();
                    self.watch.get_or_insert_with(|| Box::new(Watch::begin(now.instant, patience)));
                    let now = Now { instant: Instant::now(), ..now };
                    self.tally.bytes += n as u64;
                    let Self { session, tally, .. } = self;
                    session.wrote(n, now, |event, is_live| {
                        tally.events += 1;
                        told(Told::Event(event, is_live), now);
                    });
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.writable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(bytes)
    }

    /// When this connection wants to be looked after next.
    pub(super) fn deadline(&self) -> Instant {
        self.linger.unwrap_or_else(|| {
            let deadline = self.session.deadline();
            self.watch.as_ref().map_or(deadline, |watch| deadline.min(watch.at))
        })
    }

    /// Whether the peer has to be looked at, and no timer was set for that so far.
    pub(super) fn take_new_watch(&mut self) -> bool {
        self.watch.as_mut().is_some_and(|watch| std::mem::take(&mut watch.is_new))
    }

    /// Looks at the peer, where that is due. Gives why the stream has to end, if it has.
    pub(super) fn look(&mut self, now: Instant) -> Option<CloseReason> {
        let patience = Patience { peer: self.peer_timeout(), stall: self.session.request().route.stall_timeout };
        let watch = self.watch.as_mut().filter(|watch| watch.at <= now)?;
        let Ok(peer) = Peer::of(&self.socket) else { return Some(CloseReason::ClientLost) };
        let pace = match watch.look(&peer, patience, now) {
            Seen::Gone => return Some(CloseReason::ClientLost),
            Seen::Stalled => return Some(CloseReason::SlowConsumer),
            Seen::Behind(pace) => pace,
            Seen::Everything => None,
        };
        if pace.is_some() || watch.is_paced {
            // Without it, death behind a closed window is found later.
            let set = SockRef::from(&self.socket).set_tcp_user_timeout(pace);
            watch.is_paced = pace.is_some() && set.is_ok();
        }
        if !peer.is_behind() {
            self.watch = None;
        }
        None
    }

    /// A pong that is overdue, where the ping can't have been read: the peer does not have all of what was written before.
    pub(super) fn excuse_pong(&mut self, now: Instant) {
        if self.session.is_pong_due(now) && Peer::of(&self.socket).is_ok_and(|peer| peer.is_behind()) {
            self.session.put_off_pong(now + PONG_AGAIN);
        }
    }

    fn peer_timeout(&self) -> Duration {
        Duration::from_millis(self.peer_timeout_ms.into()).max(PEER_TIMEOUT_MIN)
    }

    /// Ends our side of a closed session's connection once everything is written. The peer closes its side then, so
    /// that nothing it has not read is thrown away (RFC 9112 section 9.6).
    ///
    /// A peer that reads slowly has until `until`, where streams are being ended, to take what waits for it: a stream is
    /// not cut inside a record while there is time.
    pub(super) fn say_goodbye(&mut self, now: Instant, until: Option<Instant>) {
        if !self.session.is_flushed() {
            let soon = now + LINGER;
            self.linger.get_or_insert_with(|| until.map_or(soon, |until| until.max(soon)));
        } else if !self.shut {
            self.shut = true;
            self.linger = Some(now + LINGER);
            // A peer that is gone already needs no goodbye.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Request;

    /// What an idle stream costs is mostly these two; they may shrink, and grow only for a reason.
    #[test]
    fn an_idle_stream_stays_small() {
        // Of these, 32 are the tally for the log.
        assert!(size_of::<Connection>() <= 352, "{} bytes", size_of::<Connection>());
        // An allocator's size class.
        assert!(size_of::<Request>() <= 192, "{} bytes", size_of::<Request>());
    }
}
