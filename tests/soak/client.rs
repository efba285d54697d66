//! A client: a thread that follows a stream from before the first record to the fences, on any replica, and records
//! what it receives. It keeps the cursor of the last complete frame, and judges nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::history::{By, FENCE, Op, Place, Proto, Range, Recorder, Text};
use crate::personas::{CONTINUE, Persona};
use crate::stream::{Content, Frame, Next, Opened, Problem, Stream, open};
use crate::support::http::Call;

/// The lifetime of a connection without faults, in milliseconds.
const LIFE_MS: std::ops::Range<u64> = 1_000..10_000;
/// The pause before a reconnect, in milliseconds: sometimes longer than a short window covers.
const PAUSE_MS: std::ops::Range<u64> = 5..300;
/// The polling interval while it waits for the end.
const NAP: Duration = Duration::from_millis(50);

/// A fault of a client.
#[derive(Clone, Copy, Debug)]
pub enum ClientFault {
    Reset,
    Stall(Duration),
    /// A reset, and a pause of this long.
    Leave(Duration),
}

/// The last record of a partition for one access scope.
pub struct Fence {
    pub place: Place,
    pub uid: Text,
    pub acl: Text,
}

/// Shared by all clients.
pub struct Ground {
    pub recorder: Recorder,
    /// The addresses of the running replicas.
    pub addresses: Mutex<Vec<Option<SocketAddr>>>,
    /// Set once no more records follow.
    pub fences: OnceLock<Vec<Fence>>,
    /// Ends clients that have not finished.
    pub over: AtomicBool,
}

pub struct Client {
    number: usize,
    persona: Persona,
    ground: std::sync::Arc<Ground>,
    faults: Receiver<ClientFault>,
    rng: fastrand::Rng,
    cursor: Text,
    conn: u32,
    /// The last response was a 410: the next request is for a stream that continues after a gap.
    gone: bool,
    /// The uids of the received fences.
    fences: HashSet<Text>,
    reported: Vec<Range>,
}

impl Client {
    /// `cursor` is from before the first record.
    pub fn new(
        number: usize,
        persona: Persona,
        ground: std::sync::Arc<Ground>,
        faults: Receiver<ClientFault>,
        seed: u64,
        cursor: Text,
    ) -> Self {
        let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(number as u64));
        let (fences, reported) = (HashSet::new(), Vec::new());
        Self { number, persona, ground, faults, rng, cursor, conn: 0, gone: false, fences, reported }
    }

    /// Runs until it has received every fence, or stops early.
    pub fn run(mut self) {
        while !self.is_through() && !self.is_over() {
            if let Some(stream) = self.open() {
                self.listen(stream);
            }
            thread::sleep(Duration::from_millis(self.rng.u64(PAUSE_MS)));
        }
        self.ground.recorder.note(Op::End { client: self.number, gave_up: !self.is_through() });
    }

    fn is_over(&self) -> bool {
        self.ground.over.load(Ordering::Relaxed)
    }

    fn is_through(&self) -> bool {
        let Some(fences) = self.ground.fences.get() else { return false };
        let mut mine = fences.iter().filter(|fence| {
            self.persona.scope.contains(&fence.acl) && self.persona.topics.contains(&fence.place.topic)
        });
        mine.all(|fence| {
            self.fences.contains(&fence.uid) || self.reported.iter().any(|range| range.holds(&fence.place))
        })
    }

    fn open(&mut self) -> Option<Stream> {
        let addresses: Vec<_> = self.ground.addresses.lock().unwrap().iter().flatten().copied().collect();
        let address = *self.rng.choice(&addresses)?;
        let call = self.call(address);
        let opened = open(self.persona.proto, &call);
        let status = match &opened {
            Opened::Granted(status, _) | Opened::Refused(status, _) => *status,
            Opened::Nobody => return None,
        };
        self.conn += 1;
        self.ground.recorder.note(Op::Open {
            client: self.number,
            conn: self.conn,
            proto: self.persona.proto,
            scope: self.persona.scope.clone(),
            topics: self.persona.topics.clone(),
            last: Some(self.cursor.clone()),
            status,
        });
        match opened {
            Opened::Granted(_, stream) => {
                self.gone = false;
                Some(stream)
            }
            Opened::Refused(status, problem) => {
                self.refused(status, problem);
                None
            }
            Opened::Nobody => None,
        }
    }

    fn call(&mut self, address: SocketAddr) -> Call {
        let token = self.persona.token(&mut self.rng);
        let end = if self.persona.continues || self.gone { CONTINUE } else { "" };
        let heartbeat = if self.rng.bool() { "event" } else { "line" };
        let target = format!("{}{end}?heartbeat={heartbeat}", self.persona.path);
        if self.persona.proto == Proto::Sse {
            Call::new(address, "GET", &target).bearer(&token).header("Last-Event-ID", &self.cursor)
        } else {
            Call::new(address, "GET", &format!("{target}&since={}", self.cursor)).bearer(&token)
        }
    }

    fn refused(&mut self, status: u16, problem: Problem) {
        match (status, problem.cause) {
            (410, Some(cause)) => {
                self.gone = true;
                self.miss(cause, problem.ranges);
            }
            // Not ready, or draining: another replica may be ready.
            (503, _) => {}
            (status, cause) => panic!("client {} ({}) got {status}, {cause:?}", self.number, self.persona.path),
        }
    }

    fn listen(&mut self, mut stream: Stream) {
        let end = Instant::now() + Duration::from_millis(self.rng.u64(LIFE_MS));
        let by = loop {
            if Instant::now() >= end || self.is_through() || self.is_over() {
                stream.close();
                break By::Client;
            }
            match self.faults.try_recv() {
                Ok(ClientFault::Reset) => {
                    stream.reset();
                    break By::Reset;
                }
                Ok(ClientFault::Leave(time)) => {
                    stream.reset();
                    self.sleep(time);
                    break By::Reset;
                }
                Ok(ClientFault::Stall(time)) => self.sleep(time),
                Err(_) => {}
            }
            match stream.next() {
                Next::Frame(frame) => self.take(frame),
                Next::Quiet => {}
                Next::Ended(by) => break by,
            }
        };
        self.ground.recorder.note(Op::Close { client: self.number, conn: self.conn, by });
    }

    fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.is_over() {
            thread::sleep(NAP);
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame.content {
            Content::Event { id, uid } => {
                let place = Place::of(&id).unwrap_or_else(|| panic!("no event id: {id}"));
                if uid.starts_with(FENCE) {
                    self.fences.insert(uid.clone());
                }
                let (client, conn) = (self.number, self.conn);
                self.ground.recorder.note(Op::Recv { client, conn, id, uid, place });
            }
            Content::Gap { reason, ranges } => self.miss(reason, ranges),
            Content::Nothing => {}
        }
        if let Some(cursor) = frame.cursor {
            self.cursor = cursor;
        }
    }

    fn miss(&mut self, reason: Text, ranges: Vec<Range>) {
        self.reported.extend(ranges.iter().cloned());
        self.ground.recorder.note(Op::Gap { client: self.number, conn: self.conn, reason, ranges });
    }
}
