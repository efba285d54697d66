//! Truncation of a log: the effect on live sessions, sessions in catch-up and resuming clients. Also a writer that
//! skipped a part of the log.

use std::time::Duration;

use super::{Ends, Hub, LogEnd, NoLog, Plan, ReplayLimits, WindowLimits, last_id};
use crate::cursor::Cursor;
use crate::event::{Assigned, Entry, Gap, GapCause, GapRange};
use crate::hub::Log;
use crate::route::Stream;
use crate::testing::{event, stream};

const EVENTS: usize = 10;

/// Ten events of partition 0, offsets 0 to 9, after one of partition 1; all were sent on the stream.
fn hub(stream: &Stream) -> Hub {
    hub_of(stream, 100)
}

fn hub_of(stream: &Stream, events: usize) -> Hub {
    let mut hub = Hub::new([("a".into(), WindowLimits { events, bytes: usize::MAX })]);
    hub.assign(&Assigned::new("a", 0, [0, 0]));
    hub.go_live(&["a".into()]);
    read(&mut hub, stream, 1, 0..1);
    read(&mut hub, stream, 0, 0..EVENTS as i64);
    hub
}

fn read(hub: &mut Hub, stream: &Stream, partition: i32, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        let event = event("a", partition, offset, &[]);
        hub.append(&Entry::Event(event.clone()));
        event.frames.send_on(stream.id);
    }
}

/// The log of partition 0 is truncated at offset 6.
fn cut(hub: &mut Hub) -> Entry {
    let range = GapRange { topic: "a".into(), partition: 0, from: 6, to: 9 };
    let gap = Entry::Gap { cause: GapCause::Truncated, range };
    hub.append(&gap);
    gap
}

#[test]
fn offsets_without_records_may_contain_records_after_a_truncation() {
    let stream = stream(1, &["a"]);
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 9, bytes: 9999 })]);
    hub.assign(&Assigned::new("a", 0, [4]));
    hub.go_live(&["a".into()]);
    // The last remaining event was followed by a control record.
    let mut last = Entry::Event(event("a", 0, 5, &[]));
    assert!(last.go_on_at(7));
    for entry in [Entry::Event(event("a", 0, 4, &[])), last, Entry::Event(event("a", 0, 7, &[]))] {
        hub.append(&entry);
    }
    cut(&mut hub);
    hub.append(&Entry::Event(event("a", 0, 6, &[])));
    let mut behind = plan(&hub, &stream, "a:0:3");
    assert_eq!(rest(&hub, &stream, &mut behind), [4, 5, 6]);
}

fn plan(hub: &Hub, stream: &Stream, cursor: &str) -> Plan {
    hub.plan(stream, &cursor.parse().unwrap(), &NoLog.limits())
}

fn rest(hub: &Hub, stream: &Stream, plan: &mut Plan) -> Vec<i64> {
    std::iter::from_fn(|| plan.replay.step(hub, stream).map(|entry| last_id(&entry).offset)).collect()
}

fn reported(gaps: &[Gap]) -> Vec<(GapCause, i64, i64)> {
    gaps.iter().flat_map(|gap| gap.ranges.iter().map(|range| (gap.cause, range.from, range.to))).collect()
}

#[test]
fn a_live_session_continues_at_the_end_of_a_truncated_log() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(&stream);
    let gap = cut(&mut hub);
    let cursor = hub.cursor_at(&stream, &last_id(&gap));
    assert_eq!(cursor.id.to_string(), "a:0:5");
    read(&mut hub, &stream, 0, 6..8);
    // Resuming with the gap's cursor yields the new records and no others.
    assert_eq!(rest(&hub, &stream, &mut plan(&hub, &stream, &cursor.to_string())), [6, 7]);
}

#[test]
fn a_session_in_catch_up_beyond_the_truncation_receives_a_gap() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(&stream);
    // The first step is the event of partition 1.
    let [mut beyond, mut before] = [1 + 8, 1 + 4].map(|steps| {
        let mut plan = hub.plan_unknown(&stream);
        (0..steps).for_each(|_| assert!(plan.replay.step(&hub, &stream).is_some()));
        plan
    });
    cut(&mut hub);
    read(&mut hub, &stream, 0, 6..20);
    assert_eq!(reported(&beyond.replay.lost(&hub, &stream)), [(GapCause::Truncated, 6, 7)]);
    assert_eq!(rest(&hub, &stream, &mut beyond), (6..20).collect::<Vec<_>>());
    assert!(before.replay.lost(&hub, &stream).is_empty(), "it was not there yet");
    assert_eq!(rest(&hub, &stream, &mut before), (4..20).collect::<Vec<_>>());
    assert!(beyond.replay.lost(&hub, &stream).is_empty(), "reported once");
}

#[test]
fn a_client_from_beyond_the_truncation_receives_the_new_records() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(&stream);
    let seen = hub.cursor_now(&stream).unwrap().to_string();
    cut(&mut hub);
    read(&mut hub, &stream, 0, 6..8);
    let mut plan = plan(&hub, &stream, &seen);
    assert_eq!(reported(&plan.gaps), [(GapCause::Truncated, 6, 9)]);
    assert_eq!(rest(&hub, &stream, &mut plan), [6, 7]);
}

#[test]
fn a_position_that_was_never_read_here_is_unrelated_to_an_older_truncation() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(&stream);
    cut(&mut hub);
    read(&mut hub, &stream, 0, 6..20);
    let mut ahead = hub_of(&stream, 100);
    read(&mut ahead, &stream, 0, EVENTS as i64..25);
    let seen = ahead.cursor_now(&stream).unwrap().to_string();
    assert_eq!(reported(&plan(&hub, &stream, &seen).gaps), [(GapCause::Truncated, 20, 24)]);
}

/// The last event of partition 0 is offset 5; a transaction marker followed it, or more that no client is sent.
fn hub_with_markers(stream: &Stream, base: i64) -> Hub {
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 100, bytes: usize::MAX })]);
    hub.assign(&Assigned::new("a", 0, [base]));
    hub.go_live(&["a".into()]);
    read(&mut hub, stream, 0, base..6);
    hub.append(&Entry::Hole { topic: "a".into(), partition: 0, end: 10 });
    hub
}

#[test]
fn a_tail_of_markers_is_no_loss() {
    let stream = stream(1, &["a"]);
    let mut hub = hub_with_markers(&stream, 4);
    let seen = hub.cursor_now(&stream).unwrap().to_string();
    let mut replaying = plan(&hub, &stream, &seen).replay;
    let before = hub.next_seq();
    cut(&mut hub);
    assert!(!hub.is_loss(&"a".into(), before), "nor for live clients");
    read(&mut hub, &stream, 0, 6..8);
    assert_eq!(reported(&replaying.lost(&hub, &stream)), []);
    assert_eq!(
        std::iter::from_fn(|| replaying.step(&hub, &stream)).map(|it| last_id(&it).offset).collect::<Vec<_>>(),
        [6, 7]
    );
    let mut plan = plan(&hub, &stream, &seen);
    assert_eq!((reported(&plan.gaps), rest(&hub, &stream, &mut plan)), (vec![], vec![6, 7]));
}

#[test]
fn a_tail_that_the_window_does_not_hold_is_a_loss() {
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 100, bytes: usize::MAX })]);
    hub.assign(&Assigned::new("a", 0, [8]));
    hub.append(&Entry::Hole { topic: "a".into(), partition: 0, end: 10 });
    let before = hub.next_seq();
    cut(&mut hub);
    assert!(hub.is_loss(&"a".into(), before));
}

/// On a replica that has read nothing of the tail.
#[test]
fn a_cursor_shows_that_markers_followed_its_event() {
    let stream = stream(1, &["a"]);
    let seen = hub_with_markers(&stream, 4).cursor_now(&stream).unwrap();
    let after_the_event = "a:0:5";
    assert_eq!(seen.id.to_string(), after_the_event);
    let mut other = Hub::new([("a".into(), WindowLimits { events: 100, bytes: usize::MAX })]);
    other.assign(&Assigned::new("a", 0, [0]));
    other.go_live(&["a".into()]);
    read(&mut other, &stream, 0, 0..6);
    // An event came in the place of the first marker.
    read(&mut other, &stream, 0, 6..7);
    let end = LogEnd { topic: "a".into(), partition: 0, epoch: 0, end: 7 };
    let mut plan = other.plan_before(
        &stream,
        &seen,
        Ends { known: std::slice::from_ref(&end), ..Ends::default() },
        &NoLog.limits(),
    );
    assert_eq!((reported(&plan.gaps), rest(&other, &stream, &mut plan)), (vec![], vec![6]));
    let later = Cursor { id: "a:0:8".parse().unwrap(), ..seen };
    let plan = other.plan_before(&stream, &later, Ends { known: &[end], ..Ends::default() }, &NoLog.limits());
    assert_eq!(reported(&plan.gaps), [(GapCause::Truncated, 7, 9)], "it had an event beyond");
}

#[test]
fn entries_that_a_writer_skipped_are_read_from_the_log() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(&stream);
    read(&mut hub, &stream, 1, 1..3);
    let range = GapRange { topic: "a".into(), partition: 0, from: 10, to: 29 };
    let gap = Entry::Gap { cause: GapCause::Overflow, range };
    hub.append(&gap);
    // A client that received the gap is positioned after it.
    let cursor = hub.cursor_at(&stream, &last_id(&gap)).to_string();
    read(&mut hub, &stream, 0, 30..32);
    assert_eq!(rest(&hub, &stream, &mut plan(&hub, &stream, &cursor)), [30, 31]);
    let limits = ReplayLimits { events: 1000, bytes: u64::MAX, time: Duration::from_secs(10) };
    let before = hub_of(&stream, 100).cursor_now(&stream).unwrap();
    let plan = hub.plan(&stream, &before, &limits);
    let places: Vec<_> =
        plan.replay.places(&hub, &stream).iter().map(|it| (it.partition, it.offset, it.until)).collect();
    assert_eq!((reported(&plan.gaps), places), (vec![], vec![(0, 10, 30)]));
}

#[test]
fn cursors_from_before_a_truncation_are_not_shared() {
    let stream = stream(1, &["a"]);
    // All entries are kept; or entries leave the window after the truncation.
    for events in [100, 9] {
        let mut hub = hub_of(&stream, events);
        read(&mut hub, &stream, 1, 1..2);
        cut(&mut hub);
        read(&mut hub, &stream, 0, 6..11);
        let mut replay = hub.plan_unknown(&stream).replay;
        let mut shared = Vec::new();
        while let Some(entry) = replay.step(&hub, &stream) {
            shared.extend(replay.is_in_order(&hub, &stream).then(|| last_id(&entry).to_string()));
        }
        // The cursor of partition 1 just before the truncation contains a position that no longer exists.
        assert_eq!(shared, [6, 7, 8, 9, 10].map(|offset| format!("a:0:{offset}")));
    }
}

#[test]
fn all_windows_together_evict_the_oldest_entries_under_memory_pressure() {
    let limits = WindowLimits { events: 100, bytes: usize::MAX };
    let mut hub = Hub::new(["a", "b"].map(|topic| (topic.into(), limits)));
    ["a", "b"].iter().for_each(|topic| drop(hub.assign(&Assigned::new(*topic, 0, [0]))));
    let append = |hub: &mut Hub, topic: &str, offset| {
        hub.append(&Entry::Event(event(topic, 0, offset, &[])));
    };
    (0..8).for_each(|n| append(&mut hub, ["a", "b"][n % 2], n as i64 / 2));
    let half = hub.bytes() / 2;
    let left = |hub: &Hub| ["a", "b"].map(|topic| hub.topic(&topic.into()).unwrap().base[0]);
    hub.limit(Some(half));
    assert_eq!((hub.bytes(), left(&hub)), (half, [2, 2]));
    append(&mut hub, "a", 4);
    assert_eq!((hub.bytes(), left(&hub)), (half, [3, 2]), "it stays within");
    hub.limit(None);
    append(&mut hub, "b", 4);
    assert_eq!(left(&hub), [3, 2], "they grow again");
}
