//! A client of a simulated replica: it follows a stream from before the first record to the fences, on any replica and
//! at any pace, and records what it receives. It keeps the cursor of the last complete frame, and judges nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use fastrand::Rng;

use super::cluster::{Cluster, TENANTS, USERS};
use super::frames::{Content, Frame, Parser};
use super::history::{By, FENCE, GENERATION, Op, Place, Proto, Range, Record, Text};
use super::replica::Replica;
use crate::event::GapCause;
use crate::route::{HeartbeatForm, OnGap, StreamRoute, Transport};
use crate::session::{Now, Request};
use crate::testing::{self, selector};
use crate::writer::simulation::ClientSide;

/// The pause before a reconnect, and an absence, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 0..400;
const ABSENCE_MS: std::ops::Range<u64> = 500..4_000;
const STALL_MS: std::ops::Range<u64> = 100..6_000;
/// The subscription that a WebSocket adds to its own, which contains it.
const ADDED: &str = USERS[0];
/// Bytes that the client reads per step.
const PACES: [usize; 4] = [60, 400, 4_000, 1 << 20];

/// The description of a client.
pub(super) struct Persona {
    pub(super) proto: Proto,
    pub(super) tenant: &'static str,
    /// All users of the tenant without one.
    pub(super) user: Option<&'static str>,
    pub(super) route: StreamRoute,
    /// Whether streams continue after a gap from the start, or only after a 410.
    pub(super) continues: bool,
}

pub(super) struct Client {
    number: usize,
    persona: Persona,
    scope: Arc<[Text]>,
    topics: Arc<[Text]>,
    cursor: Text,
    conn: u32,
    stream: Option<(ClientSide, Parser)>,
    /// Whether the WebSocket has a second subscription.
    has_added: bool,
    pace: usize,
    /// It does nothing before this time.
    idle_until_ms: i64,
    gone: bool,
    /// The fences that it waits for, with their positions in their logs.
    fences: Option<HashSet<(Text, Place)>>,
    is_done: bool,
}

/// What a client has access to in a step.
pub(super) struct Surroundings<'a> {
    pub(super) cluster: &'a Mutex<Cluster>,
    pub(super) replicas: &'a mut [Option<Replica>],
    pub(super) history: &'a mut Vec<Record>,
    pub(super) now: Now,
    pub(super) rng: &'a mut Rng,
    pub(super) is_calm: bool,
}

impl Surroundings<'_> {
    fn note(&mut self, op: Op) {
        self.history.push(Record { t: self.now.unix_ms as u64, op });
    }
}

impl Client {
    pub(super) fn new(number: usize, persona: Persona, cursor: Text) -> Self {
        let users = USERS.iter().filter(|known| persona.user.is_none_or(|user| user == **known));
        let scope = users.map(|user| format!("{}/{user}", persona.tenant).into()).collect();
        let topics = persona.route.stream.topics.iter().map(|topic| Text::from(&**topic)).collect();
        Self {
            number,
            scope,
            topics,
            persona,
            cursor,
            conn: 0,
            stream: None,
            has_added: false,
            pace: PACES[3],
            idle_until_ms: 0,
            gone: false,
            fences: None,
            is_done: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// No more records follow: it is done when it has these.
    pub(super) fn await_fences(&mut self, truth: &[Op]) {
        let mut fences: HashSet<_> = HashSet::new();
        for op in truth {
            match op {
                Op::Log { place, uid, acl } if uid.starts_with(FENCE) => {
                    let is_mine = self.scope.contains(acl) && self.topics.contains(&place.topic);
                    fences.extend(is_mine.then(|| (uid.clone(), place.clone())));
                }
                // It follows the records in the list.
                Op::Lost { place } => fences.retain(|(_, fence)| fence != place),
                _ => {}
            }
        }
        self.fences = Some(fences);
        (self.pace, self.idle_until_ms) = (PACES[3], 0);
    }

    pub(super) fn step(&mut self, around: &mut Surroundings<'_>) {
        if !around.is_calm {
            self.misbehave(around);
        }
        if self.is_done || around.now.unix_ms < self.idle_until_ms {
            return;
        }
        if self.stream.is_none() {
            self.open(around);
        }
        self.read(around);
        if self.fences.as_ref().is_some_and(HashSet::is_empty) {
            self.is_done = true;
            self.close(By::Client, around);
            around.note(Op::End { client: self.number, gave_up: false });
        }
    }

    /// Ends the client without the fences.
    pub(super) fn give_up(&mut self, around: &mut Surroundings<'_>) {
        if !self.is_done {
            around.note(Op::End { client: self.number, gave_up: true });
        }
    }

    fn misbehave(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now.unix_ms;
        match around.rng.u16(..500) {
            0..=3 => {
                if let Some((side, _)) = &self.stream {
                    side.reset();
                }
                self.close(By::Reset, around);
            }
            4..=5 => {
                self.close(By::Client, around);
                self.idle_until_ms = now + around.rng.u64(ABSENCE_MS) as i64;
            }
            6..=9 => self.idle_until_ms = now + around.rng.u64(STALL_MS) as i64,
            16..=25 => self.change_subscriptions(around.rng),
            10..=15 => self.pace = PACES[around.rng.usize(..PACES.len())],
            _ => {}
        }
    }

    /// Adds a part of the own subscription to it, or removes that again: every event still arrives once.
    fn change_subscriptions(&mut self, rng: &mut Rng) {
        let Some((side, parser)) = self.stream.as_ref().filter(|(_, parser)| parser.is_open()) else { return };
        if self.persona.proto != Proto::Ws || self.persona.user.is_some() {
            return;
        }
        self.has_added = !self.has_added;
        let command = match (self.has_added, rng.bool()) {
            (true, true) => format!(r#"{{"command":"subscribe","resource":"{ADDED}","since":"{}"}}"#, self.cursor),
            (true, false) => format!(r#"{{"command":"subscribe","resource":"{ADDED}"}}"#),
            (false, _) => format!(r#"{{"command":"unsubscribe","resource":"{ADDED}"}}"#),
        };
        parser.command(side, &command);
    }

    fn open(&mut self, around: &mut Surroundings<'_>) {
        // A replica that does not know yet that a log was truncated sends a client back to the old one.
        if !around.replicas.iter().flatten().all(Replica::knows_truncations) {
            return;
        }
        let running: Vec<_> = around.replicas.iter_mut().flatten().filter(|replica| !replica.is_draining()).collect();
        let Some(replica) = around.rng.choice(running) else { return };
        let request = self.request();
        let side = replica.open(request, self.pace, around.rng.f64(), around.now, around.rng);
        self.conn += 1;
        self.has_added = false;
        self.stream = Some((side, Parser::new(self.persona.proto)));
    }

    fn request(&self) -> Request {
        let Persona { proto, tenant, user, continues, .. } = &self.persona;
        let transport = match proto {
            Proto::Sse => Transport::Sse,
            Proto::Ndjson => Transport::Ndjson,
            Proto::Ws => Transport::WebSocket,
            Proto::Length => Transport::Length,
            Proto::JsonSeq => Transport::JsonSeq,
        };
        let on_gap = if *continues || self.gone { OnGap::Continue } else { OnGap::Gone };
        let route = Arc::new(StreamRoute { on_gap, ..copy(&self.persona.route) });
        let keys: Vec<_> = [("tenant", *tenant)].into_iter().chain(user.map(|user| ("user", user))).collect();
        Request {
            selector: selector(&keys),
            resume: Some(Box::new(self.cursor.parse().unwrap())),
            heartbeat_form: HeartbeatForm::Visible,
            socket: transport.takes_commands().then(testing::socket),
            ..testing::request(route, transport)
        }
    }

    fn read(&mut self, around: &mut Surroundings<'_>) {
        let Some((side, parser)) = &mut self.stream else { return };
        parser.feed(&side.read(self.pace));
        let (mut frames, mut status) = (Vec::new(), None);
        while let Some(frame) = parser.next(side, &mut status) {
            frames.push(frame);
        }
        let end = side.is_over().then(|| if side.is_proper_end() { By::Server } else { By::Reset });
        if let Some(status) = status {
            self.answered(status, around);
        }
        frames.into_iter().for_each(|frame| self.take(frame, around));
        if let Some(by) = end {
            self.close(by, around);
        }
    }

    fn answered(&mut self, status: u16, around: &mut Surroundings<'_>) {
        around.note(Op::Open {
            client: self.number,
            conn: self.conn,
            proto: self.persona.proto,
            scope: self.scope.clone(),
            topics: self.topics.clone(),
            last: Some(self.cursor.clone()),
            status,
        });
        // What a replica cannot send, another one may: the stream that continues reports what is missing.
        self.gone = status == 410;
        assert!(matches!(status, 101 | 200 | 410 | 503), "status {status}");
    }

    fn take(&mut self, frame: Frame, around: &mut Surroundings<'_>) {
        let (client, conn) = (self.number, self.conn);
        match frame.content {
            Content::Event { id, uid } => {
                let named = Place::of(&id).unwrap();
                // Where the id is not that of the record, the checker finds that out.
                let known = around.cluster.lock().unwrap().place_of(&uid).cloned().filter(|known| {
                    (&known.topic, known.part, known.off % GENERATION) == (&named.topic, named.part, named.off)
                });
                let place = known.unwrap_or(named);
                if let Some(fences) = &mut self.fences {
                    fences.retain(|(fence, _)| *fence != uid);
                }
                around.note(Op::Recv { client, conn, id, uid, place });
            }
            Content::Gap { reason, ranges } => self.miss(reason, ranges, around),
            Content::Nothing => {}
        }
        if let Some(cursor) = frame.cursor {
            self.cursor = cursor;
        }
    }

    fn miss(&mut self, reason: Text, ranges: Vec<Range>, around: &mut Surroundings<'_>) {
        // The fences are in the newest log.
        let is_of_old_log = *reason == *GapCause::TopicRecreated.as_str();
        if let Some(fences) = self.fences.as_mut().filter(|_| !is_of_old_log) {
            let is_named = |place: &Place| {
                let place = Place { off: place.off % GENERATION, ..place.clone() };
                ranges.iter().any(|range| range.holds(&place))
            };
            fences.retain(|(_, place)| !is_named(place));
        }
        around.note(Op::Gap { client: self.number, conn: self.conn, reason, ranges });
    }

    fn close(&mut self, by: By, around: &mut Surroundings<'_>) {
        if self.stream.take().is_some() {
            around.note(Op::Close { client: self.number, conn: self.conn, by });
            self.idle_until_ms = around.now.unix_ms + around.rng.u64(PAUSE_MS) as i64;
        }
    }
}

/// Clients of each tenant on every transport, in all scopes and with several queues.
pub(super) fn everybody(route: impl Fn(usize) -> StreamRoute, rng: &mut Rng) -> Vec<Persona> {
    let protos = [Proto::Sse, Proto::Ndjson, Proto::Ws, Proto::Length, Proto::JsonSeq];
    let persona = |(n, (tenant, proto)): (usize, (&'static str, Proto))| Persona {
        proto,
        tenant,
        user: [None, Some(USERS[rng.usize(..USERS.len())])][n % 2],
        route: route(n),
        continues: rng.bool(),
    };
    TENANTS.iter().flat_map(|tenant| protos.map(|proto| (*tenant, proto))).enumerate().map(persona).collect()
}

fn copy(route: &StreamRoute) -> StreamRoute {
    let StreamRoute { stream, queue, heartbeat, bindings, .. } = route;
    let (stream, bindings) = (stream.clone(), bindings.clone());
    StreamRoute { stream, bindings, queue: *queue, heartbeat: *heartbeat, ..crate::testing::route("/stream") }
}
