//! Derives a verdict from a history. Pure: no process, no clock, no file.
//!
//! The truth is the log as read at the end. Every client began before the first record. It must have received each
//! record in its scope once, in the order of its partition, except for those that a gap named to it.
//!
//! A gap counts only if it arrives before the client receives a later record of the partition. Events that a gap names
//! must never be received, before or after it, and received events must not be repeated. Logs are not truncated here,
//! and the producers are idempotent, so there is no exception.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::history::{FENCE, GENERATION, Op, Phase, Place, Proto, Range, Record, Text};

/// The most violations that are described; all are counted.
const FINDINGS_MAX: usize = 50;

/// The verdict.
#[derive(Debug, Default)]
pub struct Verdict {
    pub unreported_losses: u64,
    pub duplicates: u64,
    pub order_violations: u64,
    pub unauthorized: u64,
    /// Received events that a gap named to the same client.
    pub false_gaps: u64,
    /// Clients that did not receive every fence.
    pub unreached: u64,
    /// Replicas that exited by themselves. Not part of the last line, because no client is affected directly.
    pub crashes: u64,
    pub events: u64,
    pub faults: u64,
    pub reconnects: u64,
    pub gaps: u64,
    pub by_transport: BTreeMap<Proto, u64>,
    /// Descriptions of the first violations.
    pub findings: Vec<String>,
    /// Gaps by cause.
    pub reasons: BTreeMap<Text, u64>,
    /// Missing events of a client's scope that gaps named to it.
    pub reported: u64,
}

impl Verdict {
    /// Whether there is no violation, in a history that is long enough to have one.
    pub fn is_clean(&self) -> bool {
        let [sse, ndjson, ws] = self.received();
        let covered = [self.events, self.faults, self.reconnects, sse, ndjson, ws];
        !self.has_violation() && covered.iter().all(|count| *count > 0)
    }

    pub fn has_violation(&self) -> bool {
        let wrong = [
            self.unreported_losses,
            self.duplicates,
            self.order_violations,
            self.unauthorized,
            self.false_gaps,
            self.unreached,
        ];
        wrong.iter().any(|count| *count > 0)
    }

    fn received(&self) -> [u64; 3] {
        [Proto::Sse, Proto::Ndjson, Proto::Ws].map(|proto| self.by_transport.get(&proto).copied().unwrap_or(0))
    }

    fn find(&mut self, count: impl Fn(&mut Self) -> &mut u64, what: impl FnOnce() -> String) {
        *count(self) += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sse, ndjson, ws] = self.received();
        write!(
            f,
            "unreported_losses={} duplicates={} order_violations={} unauthorized={} false_gaps={} unreached={} events={} \
             faults={} reconnects={} gaps={} sse={sse} ndjson={ndjson} ws={ws}",
            self.unreported_losses,
            self.duplicates,
            self.order_violations,
            self.unauthorized,
            self.false_gaps,
            self.unreached,
            self.events,
            self.faults,
            self.reconnects,
            self.gaps,
        )
    }
}

/// Judges a whole history.
pub fn judge(history: &[Record]) -> Verdict {
    let mut verdict = Verdict::default();
    let log = Log::of(history, &mut verdict);
    let mut clients: BTreeMap<usize, Client<'_>> = BTreeMap::new();
    for (now, Record { op, .. }) in history.iter().enumerate() {
        match op {
            Op::Produce { place, uid, .. } => log.check_receipt(place, uid, &mut verdict),
            Op::Aborted { uid } if log.holds(uid) => {
                verdict.find(|v| &mut v.unauthorized, || format!("{uid} was aborted; the log holds it"));
            }
            Op::Open { client, proto, scope, topics, status, .. } => {
                let client = clients.entry(*client).or_insert_with(|| Client::new(*proto, scope, topics));
                client.answered(*status, &mut verdict);
            }
            Op::Recv { client, uid, place, .. } => {
                verdict.events += 1;
                match clients.get_mut(client) {
                    Some(known) => known.receive(now, *client, place, uid, &log, &mut verdict),
                    None => verdict.find(|v| &mut v.unauthorized, || format!("client {client} got {place:?} unopened")),
                }
            }
            Op::Gap { client, reason, ranges, .. } => {
                verdict.gaps += 1;
                *verdict.reasons.entry(reason.clone()).or_default() += 1;
                let reported = ranges.iter().map(|range| (now, range));
                clients.get_mut(client).into_iter().for_each(|client| client.reported.extend(reported.clone()));
            }
            Op::Fault { phase: Phase::Begin, .. } => verdict.faults += 1,
            Op::Crash { replica, status } => {
                verdict.find(|v| &mut v.crashes, || format!("replica {replica} ended by itself: {status}"));
            }
            Op::End { client, gave_up: false } => {
                clients.get_mut(client).into_iter().for_each(|client| client.ended = true);
            }
            _ => {}
        }
    }
    clients.iter().for_each(|(name, client)| client.settle(*name, &log, &mut verdict));
    verdict
}

/// The log.
struct Log<'h> {
    /// By partition, by offset.
    lanes: BTreeMap<Lane, BTreeMap<i64, Entry<'h>>>,
    /// Partitions whose logs were replaced, in part or as a whole.
    replaced: BTreeSet<Lane>,
}

/// The partition of a topic.
type Lane = (Text, i32);

struct Entry<'h> {
    uid: &'h Text,
    acl: &'h Text,
    /// No client has to receive it.
    is_lost: bool,
}

impl<'h> Log<'h> {
    /// A record of an idempotent producer occurs once: a duplicate in the log would hide duplicates at clients.
    fn of(history: &'h [Record], verdict: &mut Verdict) -> Self {
        let mut log = Self { lanes: BTreeMap::new(), replaced: BTreeSet::new() };
        let mut uids = BTreeSet::new();
        for Record { op, .. } in history {
            match op {
                Op::Log { place, uid, acl } => {
                    let entry = Entry { uid, acl, is_lost: false };
                    log.lanes.entry(place.lane()).or_default().insert(place.off, entry);
                    if !uids.insert(uid) {
                        let what = || format!("the log holds {uid} twice, at {place:?} as well");
                        verdict.find(|v| &mut v.duplicates, what);
                    }
                }
                Op::Lost { place } => {
                    let entry = log.lanes.get_mut(&place.lane()).and_then(|lane| lane.get_mut(&place.off));
                    entry.into_iter().for_each(|entry| entry.is_lost = true);
                }
                Op::Replaced { topic, part } => drop(log.replaced.insert((topic.clone(), *part))),
                _ => {}
            }
        }
        log
    }

    fn holds(&self, uid: &Text) -> bool {
        self.lanes.values().flat_map(BTreeMap::values).any(|entry| entry.uid == uid)
    }

    fn get(&self, place: &Place) -> Option<&Entry<'h>> {
        self.lanes.get(&place.lane())?.get(&place.off)
    }

    /// Checks that an acknowledged record is in the log under the reported id.
    fn check_receipt(&self, place: &Place, uid: &Text, verdict: &mut Verdict) {
        if self.get(place).is_none_or(|entry| entry.uid != uid) {
            verdict
                .find(|v| &mut v.unreported_losses, || format!("{uid} was acknowledged at {place:?}; it isn't there"));
        }
    }
}

struct Client<'h> {
    proto: Proto,
    scope: BTreeSet<&'h Text>,
    topics: &'h [Text],
    opened: bool,
    ended: bool,
    lanes: HashMap<Lane, Seen>,
    /// The gaps that it received, and when.
    reported: Vec<(usize, &'h Range)>,
}

/// What a client has received of a partition.
#[derive(Default)]
struct Seen {
    /// With the time of the first receipt.
    offsets: BTreeMap<i64, usize>,
    /// The offset after the last received one.
    next: i64,
}

impl<'h> Client<'h> {
    fn new(proto: Proto, scope: &'h [Text], topics: &'h [Text]) -> Self {
        let scope = scope.iter().collect();
        Self { proto, scope, topics, opened: false, ended: false, lanes: HashMap::new(), reported: Vec::new() }
    }

    fn answered(&mut self, status: u16, verdict: &mut Verdict) {
        let granted = matches!(status, 101 | 200);
        verdict.reconnects += u64::from(granted && self.opened);
        self.opened |= granted;
    }

    fn receive(&mut self, now: usize, name: usize, place: &'h Place, uid: &Text, log: &Log<'h>, verdict: &mut Verdict) {
        *verdict.by_transport.entry(self.proto).or_default() += 1;
        let Some(entry) = log.get(place).filter(|entry| entry.uid == uid) else {
            let what = || format!("client {name} got {uid} at {place:?}; the log has something else there");
            return verdict.find(|v| &mut v.unauthorized, what);
        };
        if !self.scope.contains(entry.acl) || !self.topics.contains(&place.topic) {
            let what = || format!("client {name} got {uid} at {place:?}, which is {}'s", entry.acl);
            return verdict.find(|v| &mut v.unauthorized, what);
        }
        let lane = self.lanes.entry(place.lane()).or_default();
        let next = lane.next;
        lane.next = next.max(place.off + 1);
        let is_new = !lane.offsets.contains_key(&place.off);
        lane.offsets.entry(place.off).or_insert(now);
        if !is_new {
            verdict.find(|v| &mut v.duplicates, || format!("client {name} got {place:?} again, {next} was next"));
        } else if place.off < next {
            verdict.find(|v| &mut v.order_violations, || format!("client {name} got {place:?} when {next} was next"));
        }
    }

    /// Finds missing records.
    fn settle(&self, name: usize, log: &Log<'h>, verdict: &mut Verdict) {
        let mut reached = self.ended;
        for (lane, entries) in log.lanes.iter().filter(|((topic, _), _)| self.topics.contains(topic)) {
            let (unseen, reported) = (Seen::default(), self.gaps_of(lane));
            let seen = self.lanes.get(lane).unwrap_or(&unseen);
            // Of a replaced log, a gap does not say which of two records with one offset it names.
            let is_replaced = log.replaced.contains(lane);
            for (off, entry) in entries.iter().filter(|(_, entry)| self.scope.contains(entry.acl)) {
                let named = off % GENERATION;
                let reported = reported.iter().find(|(_, range)| (range.from..=range.to).contains(&named));
                match (seen.offsets.contains_key(off), reported) {
                    (true, _) if is_replaced => {}
                    (true, None) => {}
                    (true, Some((_, range))) => {
                        let what = || {
                            format!("client {name} got {} at {lane:?} {off}; {range:?} was reported lost", entry.uid)
                        };
                        verdict.find(|v| &mut v.false_gaps, what);
                    }
                    (false, Some((when, _))) if is_replaced || seen.follower(*off).is_none_or(|next| *when < next) => {
                        verdict.reported += 1;
                    }
                    (false, _) if entry.is_lost => {}
                    // A client that stopped early may miss records after its last one, which makes it unreached.
                    (false, _) if self.ended || *off < seen.next => {
                        let what = || format!("client {name} never got {} at {lane:?} {off}", entry.uid);
                        verdict.find(|v| &mut v.unreported_losses, what);
                        reached &= !entry.uid.starts_with(FENCE);
                    }
                    (false, _) => {}
                }
            }
        }
        if !reached {
            verdict.find(|v| &mut v.unreached, || format!("client {name} did not see every fence"));
        }
    }

    /// The gaps that it received for a partition, sorted.
    fn gaps_of(&self, (topic, part): &Lane) -> Vec<(usize, &'h Range)> {
        let of_lane = |(_, range): &&(usize, &Range)| range.topic == *topic && range.partition == *part;
        self.reported.iter().filter(of_lane).copied().collect()
    }
}

impl Seen {
    /// The time of the first record that was received after this one.
    fn follower(&self, off: i64) -> Option<usize> {
        self.offsets.range(off..).next().map(|(_, when)| *when)
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
