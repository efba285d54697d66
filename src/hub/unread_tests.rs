//! Clients of a topic of two partitions, of which the second one is silent at first.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Ends, Hub, LogEnd, Plan, Replay, ReplayLimits, WindowLimits, last_id};
use crate::cursor::{Cursor, Positions, TopicPosition};
use crate::event::{Assigned, CLOCK_SKEW_MS, Entry, Gap, GapCause, GapRange, UNKNOWN_POSITION, unread_since};
use crate::hub::{NO_OFFSET, TimeStart};
use crate::route::Stream;
use crate::testing::{event, stream};

const LIMITS: ReplayLimits = ReplayLimits { events: 1000, bytes: 1 << 20, time: Duration::from_secs(1) };
/// When a process read the topic first, and when the second partition joined.
const FIRST_MS: i64 = 5_000_000;
const JOINED_MS: i64 = 6_000_000;
/// How much of the second partition precedes the join.
const OLD: i64 = 100_000;

fn hub(next: [i64; 2], at_ms: i64) -> (Hub, Arc<Stream>) {
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 3, bytes: 9999 })]);
    hub.assign(&Assigned { at_ms, ..Assigned::new("a", 7, next) });
    hub.go_live(&["a".into()]);
    (hub, stream(1, &["a"]))
}

/// The second partition joins at [`OLD`].
fn join(hub: &mut Hub) {
    let next = hub.positions(&stream(1, &["a"])).0[0].next[0];
    let unseen = GapRange { topic: "a".into(), partition: 1, from: 10, to: OLD - 1 };
    hub.assign(&Assigned { at_ms: JOINED_MS, unseen: [unseen].into(), ..Assigned::new("a", 7, [next, OLD]) });
}

fn append(hub: &mut Hub, partition: i32, offset: i64) {
    hub.append(&Entry::Event(event("a", partition, offset, &[])));
}

fn steps(replay: &mut Replay, hub: &Hub, stream: &Stream) -> Vec<String> {
    std::iter::from_fn(|| replay.step(hub, stream).map(|entry| last_id(&entry).to_string())).collect()
}

fn ranges(gaps: &[Gap]) -> Vec<(&'static str, i64, i64)> {
    gaps.iter().flat_map(|gap| gap.ranges.iter().map(|range| (gap.cause.as_str(), range.from, range.to))).collect()
}

/// The cursor of a live client of a process that has not read the second partition.
fn cursor_without_the_second() -> Cursor {
    let (mut hub, stream) = hub([5, UNKNOWN_POSITION], FIRST_MS);
    append(&mut hub, 0, 5);
    hub.cursor_now(&stream).unwrap()
}

#[test]
fn a_client_comes_back_before_the_partition_is_read() {
    let (mut hub, stream) = hub([5, UNKNOWN_POSITION], FIRST_MS);
    append(&mut hub, 0, 5);
    let Plan { gaps, mut replay } = hub.plan(&stream, &cursor_without_the_second(), &LIMITS);
    assert!(gaps.is_empty() && !replay.is_waiting(&hub, &stream));
    join(&mut hub);
    assert_eq!(ranges(&replay.lost(&hub, &stream)), [("unavailable", 10, OLD - 1)]);
    append(&mut hub, 1, OLD);
    assert_eq!(steps(&mut replay, &hub, &stream), ["a:1:100000"]);
}

#[test]
fn a_client_of_the_same_process_continues_where_live_streams_began() {
    let (mut hub, stream) = hub([5, UNKNOWN_POSITION], FIRST_MS);
    append(&mut hub, 0, 5);
    join(&mut hub);
    (OLD..OLD + 5).for_each(|offset| append(&mut hub, 1, offset));
    let Plan { gaps, mut replay } = hub.plan(&stream, &cursor_without_the_second(), &LIMITS);
    assert!(gaps.is_empty(), "{gaps:?}");
    assert_eq!(ranges(&replay.lost(&hub, &stream)), [("unavailable", 10, OLD - 1)]);
    let places: Vec<_> = replay.places(&hub, &stream).iter().map(|place| (place.partition, place.offset)).collect();
    assert_eq!(places, [(1, OLD)], "what left the window comes from the log");
}

#[test]
fn a_client_of_another_process_continues_at_the_time_since_when_it_was_not_read() {
    for (next, at_ms) in [([6, OLD + 5], FIRST_MS), ([6, UNKNOWN_POSITION], FIRST_MS + 1)] {
        let (mut hub, stream) = hub(next, at_ms);
        let Plan { gaps, mut replay } = hub.plan(&stream, &cursor_without_the_second(), &LIMITS);
        assert!(gaps.is_empty() && replay.is_waiting(&hub, &stream) && replay.places(&hub, &stream).is_empty());
        // A client that comes back once more does so at the same place.
        assert_eq!(replay.cursor_now(&stream).unwrap().opaque, cursor_without_the_second().opaque);
        if next[1] == UNKNOWN_POSITION {
            join(&mut hub);
        }
        assert!(replay.lost(&hub, &stream).is_empty());
        let times = replay.times(&hub, &stream);
        assert!((FIRST_MS - CLOCK_SKEW_MS - 2..FIRST_MS - CLOCK_SKEW_MS).contains(&times[0].1), "{times:?}");
        let gaps = replay.resolve(&hub, &stream, 0, &[3, OLD - 20], &[0, 7]);
        assert_eq!(ranges(&gaps), [("unavailable", 7, OLD - 21)], "the log begins there");
        assert_eq!(replay.positions().0[0].next, [6, OLD - 20]);
    }
}

#[test]
fn what_a_client_may_lack_of_a_partition_is_in_its_log_and_newer_than_its_stream() {
    // The first offset of the log, that of the time, where the partition went live and whether before the time.
    let cases = [
        (NO_OFFSET, NO_OFFSET, 50, false, vec![("unavailable", 0, 50)]),
        (40, 40, 50, false, vec![("unavailable", 0, 39)]),
        (7, 40, 50, false, vec![("unavailable", 7, 39)]),
        (7, 40, 30, true, vec![("unavailable", 30, 39)]),
        (35, 40, 30, true, vec![("unavailable", 35, 39)]),
        (7, 40, 50, true, vec![]),
        (NO_OFFSET, NO_OFFSET, 51, true, vec![]),
    ];
    for (first, of_time, live, is_before, lost) in cases {
        let at_ms = FIRST_MS - CLOCK_SKEW_MS - i64::from(is_before);
        let (mut hub, stream) = hub([6, live], at_ms);
        append(&mut hub, 1, 50);
        let mut replay = hub.plan(&stream, &cursor_without_the_second(), &LIMITS).replay;
        assert!(!replay.times(&hub, &stream).is_empty());
        assert_eq!(ranges(&replay.resolve(&hub, &stream, 0, &[3, of_time], &[0, first])), lost);
    }
}

/// The process that was left, without a log or with one: only the first has to send all of its window.
#[test]
fn without_a_log_another_process_reports_what_it_does_not_have() {
    let (hub, stream) = hub([6, OLD + 5], FIRST_MS);
    let plan = hub.plan(&stream, &cursor_without_the_second(), &ReplayLimits { events: 0, ..LIMITS });
    assert_eq!(ranges(&plan.gaps), [("retention", 0, OLD + 4)]);
}

#[test]
fn without_a_log_the_same_process_reports_no_offset_before_the_first() {
    let (mut hub, stream) = hub([5, UNKNOWN_POSITION], FIRST_MS);
    append(&mut hub, 0, 5);
    join(&mut hub);
    (OLD..OLD + 5).for_each(|offset| append(&mut hub, 1, offset));
    let limits = ReplayLimits { events: 0, ..LIMITS };
    let Plan { gaps, mut replay } = hub.plan(&stream, &cursor_without_the_second(), &limits);
    assert!(gaps.is_empty(), "{gaps:?}");
    assert_eq!(ranges(&replay.lost(&hub, &stream)), [("unavailable", 10, OLD - 1)]);
    assert_eq!(ranges(&replay.fell_out(&hub, &stream)), [("overflow", OLD, OLD + 1)]);
}

#[test]
fn an_event_id_from_before_the_join_includes_what_live_streams_received_since() {
    let (mut hub, stream) = hub([5, UNKNOWN_POSITION], FIRST_MS);
    append(&mut hub, 0, 5);
    join(&mut hub);
    (OLD..OLD + 9).for_each(|offset| append(&mut hub, 1, offset));
    let (ends, id) = (hub.positions(&stream), "a:0:5".parse().unwrap());
    let position = |ms: i64, offsets: [i64; 2]| {
        let start = TimeStart { ms, offsets: &[Arc::from(offsets)], ends: &ends, id: Some(&id) };
        hub.plan_at(&stream, &start, &LIMITS).replay.positions().0[0].next[1]
    };
    assert_eq!(position(FIRST_MS, [5, OLD + 3]), OLD);
    assert_eq!(position(FIRST_MS, [5, OLD - 3]), OLD - 3);
    assert_eq!(position(JOINED_MS + 1, [5, OLD + 3]), OLD + 3, "the stream was open when the partition joined");
    assert_eq!(position(JOINED_MS + 1, [5, NO_OFFSET]), OLD + 6, "the window is sent in any case");
}

#[test]
fn who_is_ahead_waits_in_that_partition_only() {
    let (mut hub, stream) = hub([5, 2], FIRST_MS);
    let seen = Positions(vec![TopicPosition { epoch: 7, next: vec![5, 4] }]);
    let cursor = seen.cursor(&stream.topics, "a:0:4".parse().unwrap());
    let plan = |hub: &Hub, may_follow| {
        hub.plan_before(&stream, &cursor, Ends { known: &[], may_follow, ..Ends::default() }, &LIMITS)
    };
    assert_eq!(ranges(&plan(&hub, false).gaps), [("truncated", 2, 3)]);
    let mut replay = plan(&hub, true).replay;
    append(&mut hub, 0, 5);
    assert!(replay.lost(&hub, &stream).is_empty());
    assert_eq!(steps(&mut replay, &hub, &stream), ["a:0:5"]);
    assert!(replay.is_waiting(&hub, &stream));
    let end = |end| LogEnd { topic: "a".into(), partition: 1, epoch: 7, end };
    replay.note_end(&stream, &end(3));
    assert!(replay.lost(&hub, &stream).is_empty(), "it is not read up to its end");
    (2..5).for_each(|offset| append(&mut hub, 1, offset));
    assert_eq!(ranges(&replay.lost(&hub, &stream)), [("truncated", 3, 3)]);
    assert!(replay.lost(&hub, &stream).is_empty() && !replay.is_waiting(&hub, &stream));
    assert_eq!(steps(&mut replay, &hub, &stream), ["a:1:3", "a:1:4"], "they replace what was lost");
}

#[test]
fn a_lost_end_without_events_is_no_gap() {
    let (hub, stream) = hub([5, 2], FIRST_MS);
    let seen = Positions(vec![TopicPosition { epoch: 7, next: vec![5, 4] }]);
    let cursor = seen.cursor(&stream.topics, "a:1:1".parse().unwrap());
    let mut replay =
        hub.plan_before(&stream, &cursor, Ends { known: &[], may_follow: true, ..Ends::default() }, &LIMITS).replay;
    let end = LogEnd { topic: "a".into(), partition: 1, epoch: 7, end: 2 };
    replay.note_end(&stream, &end);
    assert!(replay.lost(&hub, &stream).is_empty());
    assert_eq!(replay.positions().0[0].next, [5, 2]);
}

/// The topic did not exist here when the replay began.
#[test]
fn a_topic_that_appears_during_a_replay_is_not_taken_for_the_newer_one() {
    let stream = stream(1, &["a", "b"]);
    let limits = WindowLimits { events: 9, bytes: 9999 };
    let mut hub = Hub::new([("a".into(), limits), ("b".into(), limits)]);
    hub.assign(&Assigned::new("a", 7, [5]));
    hub.go_live(&["a".into(), "b".into()]);
    let at = |epoch, next: i64| TopicPosition { epoch, next: vec![next] };
    let cursor = Positions(vec![at(7, 5), at(9, 4)]).cursor(&stream.topics, "a:0:4".parse().unwrap());
    let start = |hub: &Hub| {
        let ends = Ends { has_unknown: true, may_follow: true, ..Ends::default() };
        let Plan { gaps, replay } = hub.plan_before(&stream, &cursor, ends, &LIMITS);
        assert!(gaps.is_empty() && replay.is_waiting(hub, &stream));
        replay
    };
    let (mut waits, mut confirmed) = (start(&hub), start(&hub));
    hub.assign(&Assigned::new("b", 8, [6]));
    hub.append(&Entry::Event(event("b", 0, 6, &[])));
    append(&mut hub, 0, 5);
    for replay in [&mut waits, &mut confirmed] {
        assert!(replay.lost(&hub, &stream).is_empty(), "the client may know a newer topic");
        assert_eq!(steps(replay, &hub, &stream), ["a:0:5"]);
        assert!(replay.is_waiting(&hub, &stream) && replay.places(&hub, &stream).is_empty());
        assert!(replay.ahead(&hub, &stream).is_empty() && replay.unknown(&hub, &stream).is_empty());
    }
    let others = confirmed.others(&hub, &stream);
    assert_eq!((others.len(), others[0].0, others[0].1.here), (1, 1, 8));
    assert_eq!(ranges(&confirmed.end_other(&hub, &stream, 1)), [("topic-recreated", 4, GapRange::OPEN)]);
    assert!(confirmed.others(&hub, &stream).is_empty());
    let places = confirmed.places(&hub, &stream);
    assert_eq!(places.iter().map(|place| (place.offset, place.until)).collect::<Vec<_>>(), [(0, 6)]);
    // The replica reads the topic of the client.
    hub.assign(&Assigned::new("b", 9, [0]));
    for offset in 0..6 {
        hub.append(&Entry::Event(event("b", 0, offset, &[])));
    }
    assert!(waits.lost(&hub, &stream).is_empty());
    assert_eq!(steps(&mut waits, &hub, &stream), ["b:0:4", "b:0:5"]);
    assert!(!waits.is_waiting(&hub, &stream));
}

/// Retention deleted what another process, which was ahead, had read.
#[test]
fn a_gap_of_the_window_names_no_offset_that_the_client_has() {
    let (mut hub, stream) = hub([5, UNKNOWN_POSITION], FIRST_MS);
    let range = |from, to| GapRange { topic: "a".into(), partition: 0, from, to };
    hub.append(&Entry::Gap { cause: GapCause::Retention, range: range(5, 9) });
    for (next, named) in [(5, Some(range(5, 9))), (8, Some(range(8, 9))), (10, None)] {
        let seen = Positions(vec![TopicPosition { epoch: 7, next: vec![next, UNKNOWN_POSITION] }]);
        let mut replay = Replay::new(&hub, seen, hub.base(&stream));
        let step = replay.step(&hub, &stream).map(Cow::into_owned);
        let range = step.and_then(|entry| if let Entry::Gap { range, .. } = entry { Some(range) } else { None });
        assert_eq!(range, named);
        assert_eq!(replay.positions().0[0].next[0], 10);
    }
}

#[test]
fn of_two_times_the_earlier_one_is_behind() {
    assert!(unread_since(5) < unread_since(6) && unread_since(i64::MAX) < UNKNOWN_POSITION);
    let (mut one, other) = ([unread_since(5)], [unread_since(6)].to_vec());
    one[0] = one[0].min(other[0]);
    assert_eq!(one, [unread_since(5)]);
}
