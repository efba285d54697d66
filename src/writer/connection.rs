//! One connection of a writer: a wire, its session, and the transfer of bytes between them.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::Parts;
use crate::event::{Event, GapCause};
use crate::session::{CloseReason, Now, Refused, Session, WriterContext};

use super::by_route::RouteNumber;
use super::counting::By;
use super::watch::{Patience, Seen, Watch};
use super::wheel::Tick;
use super::wire::Wire;

/// The read size in bytes.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// How long a peer may take to close its side once the closing bytes are with the kernel, or to read data that it has
/// not read so far.
const LINGER: Duration = Duration::from_secs(1);
/// The delay until an early pong deadline is checked again.
const PONG_AGAIN: Duration = Duration::from_secs(1);
/// The shortest effective peer timeout. Kernels respond to out-of-window segments at most twice per second (Linux:
/// `tcp_invalid_ratelimit`), so that less silence has no meaning.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// Reads of one connection before the others have their turn: 64 KiB.
const READS_PER_TURN: usize = 4;

pub(super) struct Connection<W> {
    wire: W,
    pub(super) session: Session,
    /// Whether it is in the list of connections with something to write.
    pub(super) dirty: bool,
    /// Whether it is in the list of connections with something to read.
    pub(super) unread: bool,
    /// Whether the wire took everything at the last write.
    pub(super) writable: bool,
    /// The valid timer; 0 if none is set.
    pub(super) timer: Tick,
    /// The timer that it replaced, if that one has not fired; 0 if there is none.
    pub(super) later_timer: Tick,
    /// The deadline for the peer of a closed session.
    pub(super) linger: Option<Instant>,
    /// Set while the peer may not have everything that was written.
    watch: Option<Box<Watch>>,
    /// How long the peer may acknowledge nothing, in milliseconds.
    peer_timeout_ms: u32,
    /// Whether it is being ended by a drain or a reload.
    pub(super) is_ending: bool,
    /// Whether our side is closed.
    shut: bool,
    /// Whether it counts as an open stream, or as a refused one: set once its response is decided.
    pub(super) counted: bool,
    route: RouteNumber,
    pub(super) tally: Tally,
    _slot: Box<dyn Send>,
}

/// The totals of a stream, for its log line.
pub(super) struct Tally {
    pub(super) opened: Instant,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// A written item.
pub(super) enum Written<'a> {
    /// A completely written event, and whether it was live.
    Event(&'a Event, bool),
    /// A gap that is about to be written.
    Gap(GapCause),
}

/// The result of writing.
pub(super) struct Wrote {
    pub(super) bytes: usize,
    /// Whether more can be written at once: the client catches up, and reads.
    pub(super) more: bool,
    /// Whether the queue waits for a batch to fill.
    pub(super) gathers: bool,
}

/// The result of reading.
pub(super) enum ReadEnd {
    /// Nothing more for now.
    Later,
    /// There may be more.
    Again,
    Gone(CloseReason),
}

impl<W: Wire> Connection<W> {
    pub(super) fn new(
        wire: W,
        peer_timeout: Duration,
        session: Session,
        route: RouteNumber,
        slot: Box<dyn Send>,
        now: Instant,
    ) -> Self {
        Self {
            wire,
            session,
            dirty: false,
            unread: false,
            writable: true,
            timer: 0,
            later_timer: 0,
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

    /// Passes received bytes to the session: at most [`READS_PER_TURN`] reads, and none while decoded frames are left.
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
                // The rest stays in the kernel until the deadline for the peer.
                return ReadEnd::Later;
            }
            match self.wire.read(scratch) {
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

    /// Passes on the bytes that the client sent before the handover.
    pub(super) fn read_early(&mut self, early: &Bytes, context: &mut WriterContext<'_>, refused: impl FnMut(Refused)) {
        if !early.is_empty() {
            self.session.read(early, context).into_iter().for_each(refused);
        }
    }

    /// Writes everything that is ready in as few writes as possible, and reports each item. A session in catch-up
    /// advances by one step. An error if the peer is gone.
    pub(super) fn write(
        &mut self,
        buffer: &mut Vec<u8>,
        context: &mut WriterContext<'_>,
        report: impl FnMut(Written<'_>, Now),
    ) -> io::Result<Wrote> {
        let more = self.writable && self.session.is_behind() && self.session.catch_up(context);
        if self.session.gathers(context.now.instant) {
            return Ok(Wrote { bytes: 0, more: false, gathers: true });
        }
        let bytes = self.flush(buffer, context.now, report)?;
        // Held by credit or a rate, replay continues later.
        Ok(Wrote { bytes, more: more && self.writable && !self.session.is_holding(), gathers: false })
    }

    /// Writes queued bytes, by `buffer`. Returns their number, or an error if the peer is gone.
    pub(super) fn flush(
        &mut self,
        buffer: &mut Vec<u8>,
        now: Now,
        mut report: impl FnMut(Written<'_>, Now),
    ) -> io::Result<usize> {
        let mut bytes = 0;
        while self.writable {
            self.session.prepare(now, |cause| report(Written::Gap(cause), now));
            let mut parts = Parts::new(buffer);
            self.session.write(&mut parts);
            if parts.is_empty() {
                self.writable = self.flush_wire()?;
                break;
            }
            match self.wire.write(&parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes += n;
                    let patience = self.peer_timeout();
                    self.watch.get_or_insert_with(|| Box::new(Watch::begin(now.instant, patience)));
                    // The time of a turn does not include the writes before this one; metrics do.
                    let written = Now { instant: Instant::now(), ..now };
                    self.tally.bytes += n as u64;
                    let Self { session, tally, .. } = self;
                    session.wrote(n, now, |event, is_live| {
                        tally.events += 1;
                        report(Written::Event(event, is_live), written);
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

    /// Whether the wire holds nothing that it has taken. An error if the peer is gone.
    fn flush_wire(&mut self) -> io::Result<bool> {
        match self.wire.flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next time at which this connection needs attention.
    pub(super) fn deadline(&self) -> Instant {
        self.linger.unwrap_or_else(|| {
            let deadline = self.session.deadline();
            self.watch.as_ref().map_or(deadline, |watch| deadline.min(watch.at))
        })
    }

    /// Whether the peer has to be watched, and no timer has been set for that.
    pub(super) fn take_new_watch(&mut self) -> bool {
        self.watch.as_mut().is_some_and(|watch| std::mem::take(&mut watch.is_new))
    }

    /// Checks the peer, if that is due. Returns the reason if the stream has to end.
    pub(super) fn look(&mut self, now: Instant) -> Option<CloseReason> {
        let patience = Patience { peer: self.peer_timeout(), stall: self.session.request().route.stall_timeout };
        let watch = self.watch.as_mut().filter(|watch| watch.at <= now)?;
        let Ok(peer) = self.wire.peer() else { return Some(CloseReason::ClientLost) };
        let pace = match watch.look(&peer, patience, now) {
            Seen::Gone => return Some(CloseReason::ClientLost),
            Seen::Stalled => return Some(CloseReason::SlowConsumer),
            Seen::Behind(pace) => pace,
            Seen::Everything => None,
        };
        if pace.is_some() || watch.is_paced {
            // Without it, a dead peer with a closed window is detected later.
            watch.is_paced = self.wire.set_peer_timeout(pace).is_ok() && pace.is_some();
        }
        if !peer.is_behind() {
            self.watch = None;
        }
        None
    }

    /// Extends the pong deadline if the peer cannot have read the ping: it has not received all earlier data.
    pub(super) fn excuse_pong(&mut self, now: Instant) {
        if self.session.is_pong_due(now) && self.wire.peer().is_ok_and(|peer| peer.is_behind()) {
            self.session.put_off_pong(now + PONG_AGAIN);
        }
    }

    fn peer_timeout(&self) -> Duration {
        Duration::from_millis(self.peer_timeout_ms.into()).max(PEER_TIMEOUT_MIN)
    }

    /// Ends our direction of a closed session's connection once everything is written. The peer then closes its side,
    /// so that no unread data is lost (RFC 9112 section 9.6).
    ///
    /// While streams are being ended, a slow peer has until `until` to read its queued data: a stream is not cut inside
    /// of a record before the time limit.
    pub(super) fn say_goodbye(&mut self, now: Instant, until: Option<Instant>) {
        if !self.session.is_flushed() || self.wire.flush().is_err() {
            let soon = now + LINGER;
            self.linger.get_or_insert_with(|| until.map_or(soon, |until| until.max(soon)));
        } else if !self.shut {
            self.shut = true;
            self.linger = Some(now + LINGER);
            self.wire.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Request;
    use crate::socket::Socket;

    /// These two are most of an idle stream's cost: increase the limits only for a reason.
    #[test]
    fn an_idle_stream_stays_small() {
        // The tally for the log takes 32 of these bytes, and the replaced timer, which bounds the wheel, takes 8.
        let connection = size_of::<Connection<Socket>>();
        assert!(connection <= 360, "{connection} bytes");
        // A size class of the allocator.
        assert!(size_of::<Request>() <= 192, "{} bytes", size_of::<Request>());
    }
}
