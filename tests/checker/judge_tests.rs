use super::super::history::By;
use super::*;

const MINE: &str = "a/u0";
const THEIRS: &str = "b/u0";

fn place(part: i32, off: i64) -> Place {
    Place { topic: "t".into(), part, off }
}

fn uid(part: i32, off: i64) -> Text {
    format!("p-{part}-{off}").into()
}

fn log(acl: &str, part: i32, off: i64) -> Op {
    Op::Log { place: place(part, off), uid: uid(part, off), acl: acl.into() }
}

fn fence(part: i32, off: i64) -> [Op; 2] {
    let uid: Text = format!("{FENCE}{part}").into();
    let place = place(part, off);
    let id = format!("t:{part}:{off}").into();
    [
        Op::Log { place: place.clone(), uid: uid.clone(), acl: MINE.into() },
        Op::Recv { client: 0, conn: 0, id, uid, place },
    ]
}

fn open() -> Op {
    let (scope, topics) = ([MINE.into()].into(), ["t".into()].into());
    Op::Open { client: 0, conn: 0, proto: Proto::Sse, scope, topics, last: None, status: 200 }
}

fn recv(part: i32, off: i64) -> Op {
    let id = format!("t:{part}:{off}").into();
    Op::Recv { client: 0, conn: 0, id, uid: uid(part, off), place: place(part, off) }
}

fn gap(reason: &str, from: i64, to: i64) -> Op {
    let range = Range { topic: "t".into(), partition: 0, from, to };
    Op::Gap { client: 0, conn: 0, reason: reason.into(), ranges: vec![range] }
}

fn end() -> Op {
    Op::End { client: 0, gave_up: false }
}

/// The counts of losses, duplicates, order, unauthorized, unreached, false gaps.
fn counts(ops: impl IntoIterator<Item = Op>) -> [u64; 6] {
    let history: Vec<_> = ops.into_iter().map(|op| Record { t: 0, op }).collect();
    let verdict = judge(&history);
    [
        verdict.unreported_losses,
        verdict.duplicates,
        verdict.order_violations,
        verdict.unauthorized,
        verdict.unreached,
        verdict.false_gaps,
    ]
}

/// Offsets 0 to 4 are the client's except 2, which is another client's; then its fence, which it received.
fn of(received: impl IntoIterator<Item = Op>) -> [u64; 6] {
    let records = (0..5).map(|off| log(if off == 2 { THEIRS } else { MINE }, 0, off));
    counts(records.chain([open()]).chain(received).chain(fence(0, 5)).chain([end()]))
}

#[test]
fn a_complete_history_is_clean() {
    assert_eq!(of([0, 1, 3, 4].map(|off| recv(0, off))), [0; 6]);
}

#[test]
fn a_missing_event_is_a_loss_unless_a_gap_names_it() {
    assert_eq!(of([0, 3, 4].map(|off| recv(0, off))), [1, 0, 0, 0, 0, 0]);
    assert_eq!(of([recv(0, 0), gap("overflow", 1, 1), recv(0, 3), recv(0, 4)]), [0; 6]);
    assert_eq!(of([recv(0, 0), gap("overflow", 2, 3), recv(0, 4)]), [1, 0, 0, 0, 0, 0], "the range says what");
    assert_eq!(of([recv(0, 0), recv(0, 3), gap("overflow", 1, 1), recv(0, 4)]), [1, 0, 0, 0, 0, 0], "too late");
}

#[test]
fn a_repeated_event_is_a_duplicate_even_after_a_gap() {
    assert_eq!(of([0, 1, 1, 3, 4].map(|off| recv(0, off))), [0, 1, 0, 0, 0, 0]);
    let again = |reason| of([recv(0, 0), recv(0, 1), gap(reason, 1, 1), recv(0, 1), recv(0, 3), recv(0, 4)]);
    assert_eq!((again("truncated"), again("overflow")), ([0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1]));
}

#[test]
fn a_gap_must_not_name_received_events() {
    let before = of([recv(0, 0), recv(0, 1), gap("truncated", 1, 2), recv(0, 3), recv(0, 4)]);
    let after = of([recv(0, 0), gap("retention", 1, 2), recv(0, 1), recv(0, 3), recv(0, 4)]);
    assert_eq!((before, after), ([0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]));
    assert_eq!(of([recv(0, 0), recv(0, 1), gap("overflow", 2, 2), recv(0, 3), recv(0, 4)]), [0; 6], "another's");
}

#[test]
fn a_log_holds_a_record_once_and_an_aborted_one_never() {
    let twice = Op::Log { place: place(1, 7), uid: uid(0, 0), acl: THEIRS.into() };
    assert_eq!(counts([log(MINE, 0, 0), twice]), [0, 1, 0, 0, 0, 0]);
    assert_eq!(counts([log(MINE, 0, 0), Op::Aborted { uid: uid(0, 0) }]), [0, 0, 0, 1, 0, 0]);
    assert_eq!(counts([log(MINE, 0, 0), Op::Aborted { uid: uid(0, 1) }]), [0; 6]);
}

#[test]
fn order_is_per_partition() {
    assert_eq!(of([0, 3, 1, 4].map(|off| recv(0, off))), [0, 0, 1, 0, 0, 0]);
    let two = [log(MINE, 0, 0), log(MINE, 1, 9), open(), recv(1, 9), recv(0, 0)];
    assert_eq!(counts(two.into_iter().chain(fence(0, 1)).chain(fence(1, 10)).chain([end()])), [0; 6]);
}

#[test]
fn an_event_outside_the_scope_is_unauthorized() {
    assert_eq!(of([0, 1, 2, 3, 4].map(|off| recv(0, off))), [0, 0, 0, 1, 0, 0]);
    assert_eq!(of([0, 1, 3, 4, 77].map(|off| recv(0, off))), [0, 0, 0, 1, 0, 0]);
    let id: Text = "t:0:1".into();
    let renamed = Op::Recv { client: 0, conn: 0, id, uid: "other".into(), place: place(0, 1) };
    assert_eq!(of([recv(0, 0), renamed, recv(0, 3), recv(0, 4)]), [1, 0, 0, 1, 0, 0], "and what it should be is lost");
}

#[test]
fn a_client_without_every_fence_is_unreached() {
    let given_up = Op::End { client: 0, gave_up: true };
    let close = Op::Close { client: 0, conn: 0, by: By::Client };
    let [of_log, seen] = fence(0, 1);
    assert_eq!(counts([log(MINE, 0, 0), of_log.clone(), open(), recv(0, 0), close, given_up]), [0, 0, 0, 0, 1, 0]);
    assert_eq!(counts([log(MINE, 0, 0), of_log.clone(), open(), recv(0, 0), seen]), [0, 0, 0, 0, 1, 0]);
    assert_eq!(counts([log(MINE, 0, 0), of_log, open(), recv(0, 0), end()]), [1, 0, 0, 0, 1, 0]);
}

#[test]
fn an_acknowledged_record_must_be_in_the_log() {
    let receipt = |off| Op::Produce { place: place(0, off), key: "".into(), uid: uid(0, off), acl: MINE.into() };
    assert_eq!(counts([receipt(0), log(MINE, 0, 0)]), [0; 6]);
    assert_eq!(counts([receipt(0), receipt(1), log(MINE, 0, 0)]), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_crash_is_never_clean() {
    let crash = Op::Crash { replica: 0, status: "signal 11".into() };
    assert_eq!(judge(&[Record { t: 0, op: crash }]).crashes, 1);
}

#[test]
fn a_record_that_the_log_lost_may_be_missing_and_must_not_come_twice() {
    let lost = |off| Op::Lost { place: place(0, off) };
    assert_eq!(of([recv(0, 0), recv(0, 3), recv(0, 4), lost(1)]), [0; 6]);
    assert_eq!(of([recv(0, 0), recv(0, 1), recv(0, 1), recv(0, 3), recv(0, 4), lost(1)]), [0, 1, 0, 0, 0, 0]);
}

#[test]
fn a_gap_in_a_replaced_log_names_any_record_of_its_offsets() {
    let replaced = || Op::Replaced { topic: "t".into(), part: 0 };
    let all = [recv(0, 0), recv(0, 1), gap("truncated", 1, 3), recv(0, 3), recv(0, 4), replaced()];
    assert_eq!(of(all), [0; 6]);
    let records = [log(MINE, 0, 0), log(MINE, 0, GENERATION + 1)];
    let missed = |gaps: Vec<Op>| {
        let received = [open(), recv(0, 0), replaced()].into_iter().chain(gaps);
        counts(records.clone().into_iter().chain(received).chain(fence(0, GENERATION + 2)).chain([end()]))
    };
    assert_eq!((missed(vec![]), missed(vec![gap("overflow", 1, 1)])), ([1, 0, 0, 0, 0, 0], [0; 6]));
}

#[test]
fn a_run_in_which_nothing_happened_is_not_clean() {
    assert!(!judge(&[]).is_clean());
}
