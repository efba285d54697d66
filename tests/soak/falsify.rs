//! Falsifies a correct history in one place at a time, as a faulty product would: the checker must find each
//! falsification.

use crate::checker::{Verdict, judge};
use crate::history::{FENCE, Op, Range, Record};

/// The name of a falsification, its effect, and the count that must detect it.
type Falsification = (&'static str, fn(&mut Vec<Record>), fn(&Verdict) -> u64);

const FALSIFICATIONS: [Falsification; 11] = [
    ("an event is skipped", skip, |verdict| verdict.unreported_losses),
    ("a resume is one too early", repeat, |verdict| verdict.duplicates),
    ("two events change places", |history| swap(history), |verdict| verdict.order_violations),
    ("an event goes to another tenant", leak, |verdict| verdict.unauthorized),
    ("an id names another record", |history| rename(history), |verdict| verdict.unauthorized),
    ("a client never ends", lose_an_end, |verdict| verdict.unreached),
    ("an event comes again after a gap", repeat_after_gap, |verdict| verdict.duplicates),
    ("a gap names an event that comes", name_before, |verdict| verdict.false_gaps),
    ("a gap names an event that came", name_after, |verdict| verdict.false_gaps),
    ("a record is in the log twice", log_twice, |verdict| verdict.duplicates),
    ("an aborted record is sent", send_aborted, |verdict| verdict.unauthorized),
];

/// Applies each falsification to a correct history.
pub fn assert_every_falsification_is_found(history: &[Record]) {
    assert!(judge(history).is_clean());
    for (name, apply, count) in FALSIFICATIONS {
        let mut falsified = history.to_vec();
        apply(&mut falsified);
        let verdict = judge(&falsified);
        assert_eq!(count(&verdict), 1, "{name}: {verdict}\n{:#?}", verdict.findings);
        assert!(!verdict.is_clean(), "{name}");
    }
}

fn skip(history: &mut Vec<Record>) {
    let (at, _) = two(history);
    history.remove(at);
}

fn repeat(history: &mut Vec<Record>) {
    let (at, next) = two(history);
    let again = history[at].clone();
    history.insert(next + 1, again);
}

fn repeat_after_gap(history: &mut Vec<Record>) {
    let (at, next) = two(history);
    let again = history[at].clone();
    history.splice(next + 1..next + 1, [gap_of(&again), again]);
}

fn name_before(history: &mut Vec<Record>) {
    let (at, _) = two(history);
    let gap = gap_of(&history[at]);
    history.insert(at, gap);
}

fn name_after(history: &mut Vec<Record>) {
    let (at, next) = two(history);
    let gap = gap_of(&history[at]);
    history.insert(next + 1, gap);
}

/// A gap that names this event to its client.
fn gap_of(received: &Record) -> Record {
    let Op::Recv { client, conn, place, .. } = received.op.clone() else { unreachable!() };
    let range = Range { topic: place.topic, partition: place.part, from: place.off, to: place.off };
    let op = Op::Gap { client, conn, reason: "truncated".into(), ranges: vec![range] };
    Record { t: received.t, op }
}

fn log_twice(history: &mut Vec<Record>) {
    let logged = history.iter().rposition(|record| matches!(record.op, Op::Log { .. })).expect("a log");
    let mut again = history[logged].clone();
    // At the end, and in no scope, so that it is not missing anywhere.
    let Op::Log { place, acl, .. } = &mut again.op else { unreachable!() };
    (place.off, *acl) = (i64::MAX - 1, "nobody/nobody".into());
    history.push(again);
}

fn send_aborted(history: &mut Vec<Record>) {
    let aborted = history.iter().find_map(|record| match &record.op {
        Op::Aborted { uid } => Some(uid.clone()),
        _ => None,
    });
    let (at, _) = two(history);
    let mut sent = history[at].clone();
    let Op::Recv { uid, place, .. } = &mut sent.op else { unreachable!() };
    // An offset without a record.
    (*uid, place.off) = (aborted.expect("an aborted record"), i64::MAX - 1);
    history.insert(at, sent);
}

fn swap(history: &mut [Record]) {
    let (at, next) = two(history);
    history.swap(at, next);
}

fn leak(history: &mut Vec<Record>) {
    let (at, _) = two(history);
    let mut copy = history[at].clone();
    let Op::Recv { client, .. } = &mut copy.op else { unreachable!() };
    *client = of_another_tenant(history, *client);
    history.insert(at, copy);
}

fn rename(history: &mut [Record]) {
    let (at, next) = two(history);
    let Op::Recv { uid: other, .. } = history[next].op.clone() else { unreachable!() };
    let Op::Recv { uid, .. } = &mut history[at].op else { unreachable!() };
    *uid = other;
}

fn lose_an_end(history: &mut Vec<Record>) {
    history.retain(|record| !matches!(record.op, Op::End { client: 0, .. }));
}

/// Two events of one partition that one client received in order, in the middle of the history and not covered by a
/// gap.
fn two(history: &[Record]) -> (usize, usize) {
    let events = || history.iter().enumerate().skip(history.len() / 3);
    events()
        .filter(|(_, record)| is_plain(history, record))
        .find_map(|(at, first)| {
            let (next, second) = events().find(|(next, record)| *next > at && of_one_lane(first, record))?;
            is_plain(history, second).then_some((at, next))
        })
        .expect("two events")
}

fn of_one_lane(one: &Record, other: &Record) -> bool {
    let lane = |record: &Record| match &record.op {
        Op::Recv { client, place, .. } => Some((*client, place.topic.clone(), place.part)),
        _ => None,
    };
    lane(one).is_some() && lane(one) == lane(other)
}

/// An event, not a fence, that no gap names to its client.
fn is_plain(history: &[Record], record: &Record) -> bool {
    let Op::Recv { client, place, uid, .. } = &record.op else { return false };
    let is_reported = history.iter().any(|record| match &record.op {
        Op::Gap { client: who, ranges, .. } => who == client && ranges.iter().any(|range| range.holds(place)),
        _ => false,
    });
    !uid.starts_with(FENCE) && !is_reported
}

fn of_another_tenant(history: &[Record], client: usize) -> usize {
    let scopes = || {
        history.iter().filter_map(|record| match &record.op {
            Op::Open { client, scope, .. } => Some((*client, scope[0].split_once('/')?.0)),
            _ => None,
        })
    };
    let (_, mine) = scopes().find(|(who, _)| *who == client).expect("an opened client");
    scopes().find(|(_, tenant)| *tenant != mine).expect("a client of another tenant").0
}
