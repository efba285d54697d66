//! Plans and replays, without a log and with a fake one.

use super::*;
use crate::event::{Assigned, Entry, TopicChange};
use crate::hub::entry::place;
use crate::hub::{Asker, Log, Lookup, NO_OFFSET, NoLog, WindowLimits, last_id};
use crate::testing::{FakeLog, event, stream};

#[path = "resume_losses_tests.rs"]
mod losses;
#[path = "resume_property_tests.rs"]
mod properties;

const TOPICS: [&str; 2] = ["a", "b"];
const PARTITIONS: usize = 3;

fn hub(events: usize) -> Hub {
    let limits = WindowLimits { events, bytes: usize::MAX };
    let mut hub = Hub::new(TOPICS.map(|topic| (topic.into(), limits)));
    for topic in TOPICS {
        hub.assign(&Assigned::new(topic, 0, [0; PARTITIONS]));
    }
    hub.go_live(&TOPICS.map(Into::into));
    hub
}

/// Appends an entry that is sent on the stream.
fn send(hub: &mut Hub, stream: &Stream, entry: &Entry) {
    hub.append(entry);
    if let Entry::Event(event) = entry {
        event.frames.send_on(stream.id);
    }
}

/// Builds a log from choices of (topic, partition); each partition counts its own offsets.
fn log(choices: &[(usize, usize)]) -> Vec<Entry> {
    let mut next = [[0; PARTITIONS]; 2];
    let mut take = |(topic, partition): (usize, usize)| {
        next[topic][partition] += 1;
        Entry::Event(event(TOPICS[topic], partition as i32, next[topic][partition] - 1, &[]))
    };
    choices.iter().map(|choice| take(*choice)).collect()
}

fn ids(hub: &Hub, stream: &Stream, mut plan: Plan) -> Vec<String> {
    let steps = std::iter::from_fn(|| plan.replay.step(hub, stream).map(|e| last_id(&e).to_string()));
    steps.collect()
}

/// Retention deletes a quiet partition up to its last control record; a replica that starts then reads no record of it.
#[test]
fn control_records_cause_no_gap_on_another_replica() {
    let stream = stream(1, &["a"]);
    let limits = WindowLimits { events: 9, bytes: 9999 };
    let mut here = Hub::new([("a".into(), limits)]);
    here.assign(&Assigned::new("a", 7, [0, 0]));
    // A committed transaction with an event in each, then an aborted one in partition 1 only.
    let mut cursors = Vec::new();
    for partition in [1, 0] {
        let mut entry = Entry::Event(event("a", partition, 0, &[]));
        assert!(entry.go_on_at(2));
        here.append(&entry);
        cursors.push(here.cursor_at(&stream, &last_id(&entry)));
    }
    here.append(&Entry::Hole { topic: "a".into(), partition: 1, end: 5 });
    here.go_live(&["a".into()]);
    cursors.push(here.cursor_now(&stream).unwrap());

    let starts = [(0, [0, 2]), (1, [2, 2]), (2, [2, 5])];
    for (n, start) in starts {
        let mut there = Hub::new([("a".into(), limits)]);
        there.assign(&Assigned::new("a", 7, start));
        there.go_live(&["a".into()]);
        let plan = there.plan(&stream, &cursors[n], &NoLog.limits());
        assert!(plan.gaps.is_empty() && plan.replay.places(&there, &stream).is_empty(), "{:?}", plan.gaps);
    }
    // The replica that read these offsets knows that they contain no records, whatever the log still contains.
    let plan = here.plan(&stream, &cursors[0], &NoLog.limits());
    assert!(plan.gaps.is_empty());
    assert_eq!(ids(&here, &stream, plan), ["a:0:0"], "and nothing comes twice");
}

#[test]
fn a_position_among_control_records_repeats_no_event() {
    let stream = stream(1, &["a"]);
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 9, bytes: 9999 })]);
    hub.assign(&Assigned::new("a", 7, [0]));
    let mut entry = Entry::Event(event("a", 0, 0, &[]));
    assert!(entry.go_on_at(3));
    hub.append(&entry);
    hub.append(&Entry::Event(event("a", 0, 3, &[])));
    hub.go_live(&["a".into()]);
    for next in 1..=3 {
        let position = TopicPosition { epoch: 7, next: vec![next] };
        let cursor = Positions(vec![position]).cursor(&stream.topics, "a:0:0".parse().unwrap());
        let plan = hub.plan(&stream, &cursor, &NoLog.limits());
        assert_eq!(ids(&hub, &stream, plan), ["a:0:3"], "who stands at {next}");
    }
}

const LIMITS: ReplayLimits = ReplayLimits { events: 1000, bytes: 1 << 20, time: std::time::Duration::from_secs(1) };

/// A topic of two partitions, of which the second was not read yet.
fn hub_without_the_second() -> (Hub, Arc<Stream>) {
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 9, bytes: 9999 })]);
    hub.assign(&Assigned::new("a", 7, [5, UNKNOWN_POSITION]));
    hub.go_live(&["a".into()]);
    (hub, stream(1, &["a"]))
}

fn append(hub: &mut Hub, partition: i32, offset: i64) {
    hub.append(&Entry::Event(event("a", partition, offset, &[])));
}

fn places(hub: &Hub, stream: &Stream, replay: &Replay) -> Vec<(i32, i64, i64)> {
    replay.places(hub, stream).iter().map(|place| (place.partition, place.offset, place.until)).collect()
}

#[test]
fn a_position_in_a_partition_that_is_not_read_yet_waits_for_it() {
    let (mut hub, stream) = hub_without_the_second();
    append(&mut hub, 0, 5);
    let seen = Positions(vec![TopicPosition { epoch: 7, next: vec![5, 3] }]);
    let cursor = seen.cursor(&stream.topics, "a:0:4".parse().unwrap());
    assert!(hub.ahead(&stream, &cursor).is_nothing());
    let Plan { gaps, mut replay } = hub.plan(&stream, &cursor, &LIMITS);
    assert!(gaps.is_empty() && places(&hub, &stream, &replay).is_empty());
    assert_eq!(replay.step(&hub, &stream).map(|entry| last_id(&entry).to_string()).as_deref(), Some("a:0:5"));
    assert!(replay.step(&hub, &stream).is_none() && replay.is_waiting(&hub, &stream));
    hub.assign(&Assigned::new("a", 7, [6, 8]));
    append(&mut hub, 1, 8);
    assert!(replay.lost(&hub, &stream).is_empty());
    assert!(!replay.is_waiting(&hub, &stream));
    assert_eq!(places(&hub, &stream, &replay), [(1, 3, 8)]);
    assert_eq!(replay.positions().0[0].next, [6, 3]);
}

/// A partition that is read for the first time is read from before the client's position.
#[test]
fn a_client_ahead_of_a_partition_that_becomes_known_has_lost_nothing() {
    let (mut hub, stream) = hub_without_the_second();
    let seen = Positions(vec![TopicPosition { epoch: 7, next: vec![5, 3] }]);
    let cursor = seen.cursor(&stream.topics, "a:0:4".parse().unwrap());
    let mut replay = hub.plan(&stream, &cursor, &LIMITS).replay;
    assert!(replay.lost(&hub, &stream).is_empty() && replay.ahead(&hub, &stream).is_empty());
    hub.assign(&Assigned::new("a", 7, [5, 2]));
    assert!(replay.lost(&hub, &stream).is_empty());
    assert!(!replay.ahead(&hub, &stream).is_empty() && replay.is_waiting(&hub, &stream));
    (2..4).for_each(|offset| append(&mut hub, 1, offset));
    assert!(replay.lost(&hub, &stream).is_empty() && !replay.is_waiting(&hub, &stream));
    assert_eq!(replay.step(&hub, &stream).map(|entry| last_id(&entry).to_string()).as_deref(), Some("a:1:3"));
}

#[test]
fn a_partition_that_becomes_known_keeps_the_windows_of_the_others() {
    let (mut hub, stream) = hub_without_the_second();
    append(&mut hub, 0, 5);
    assert_eq!(hub.cursor_now(&stream).unwrap().id.to_string(), "a:0:5");
    let Plan { replay, .. } = hub.plan_unknown(&stream);
    assert!(!replay.is_waiting(&hub, &stream), "it stands where live streams stand");
    assert!(hub.assign(&Assigned::new("a", 7, [6, 8])).is_empty());
    append(&mut hub, 1, 8);
    let mut replay = replay;
    assert!(replay.lost(&hub, &stream).is_empty());
    let ids: Vec<_> =
        std::iter::from_fn(|| replay.step(&hub, &stream).map(|entry| last_id(&entry).to_string())).collect();
    assert_eq!(ids, ["a:0:5", "a:1:8"]);
}

#[test]
fn a_time_is_found_later_in_a_partition_that_did_not_answer() {
    let (mut hub, stream) = (hub(9), stream(1, &["a"]));
    (0..4).for_each(|offset| append(&mut hub, 1, offset));
    let (ends, unanswered) = (hub.positions(&stream), [Arc::from([0, UNKNOWN_POSITION, NO_OFFSET])]);
    let start = TimeStart { ms: 100, offsets: &unanswered, ends: &ends, id: None };
    let mut replay = hub.plan_at(&stream, &start, &LIMITS).replay;
    append(&mut hub, 0, 0);
    append(&mut hub, 1, 4);
    let steps = |replay: &mut Replay| {
        std::iter::from_fn(|| replay.step(&hub, &stream).map(|e| last_id(&e).to_string())).collect::<Vec<_>>()
    };
    assert_eq!(steps(&mut replay), ["a:0:0"]);
    assert!(replay.is_waiting(&hub, &stream) && places(&hub, &stream, &replay).is_empty());
    assert!(replay.cursor_now(&stream).is_some());
    assert_eq!(replay.times(&hub, &stream), [(0, 99)]);
    replay.resolve(&hub, &stream, 0, &[0, UNKNOWN_POSITION, NO_OFFSET], &[]);
    assert!(replay.is_waiting(&hub, &stream));
    replay.resolve(&hub, &stream, 0, &[0, 2, NO_OFFSET], &[]);
    assert!(!replay.is_waiting(&hub, &stream) && replay.times(&hub, &stream).is_empty());
    assert_eq!(steps(&mut replay), ["a:1:2", "a:1:3", "a:1:4"]);
}

#[test]
fn where_nothing_is_as_late_as_a_time_replay_begins_where_the_stream_stood_before_the_question() {
    let (mut hub, stream) = hub_without_the_second();
    let (ends, unanswered) = (hub.positions(&stream), [Arc::from([5, NO_OFFSET])]);
    let start = TimeStart { ms: 100, offsets: &unanswered, ends: &ends, id: None };
    let mut replay = hub.plan_at(&stream, &start, &LIMITS).replay;
    assert!(replay.times(&hub, &stream).is_empty() && replay.is_waiting(&hub, &stream), "it is not read yet");
    hub.assign(&Assigned::new("a", 7, [5, 8]));
    assert!(replay.lost(&hub, &stream).is_empty());
    assert_eq!(replay.times(&hub, &stream), [(0, 98)]);
    append(&mut hub, 1, 8);
    replay.resolve(&hub, &stream, 0, &[5, NO_OFFSET], &[]);
    assert_eq!(replay.positions().0[0].next, [5, 8]);
}

fn plan(hub: &Hub, stream: &Stream, cursor: &str) -> Plan {
    hub.plan(stream, &cursor.parse().unwrap(), &NoLog.limits())
}

fn resume(hub: &Hub, stream: &Stream, cursor: &str) -> (Vec<GapCause>, Vec<String>) {
    let plan = plan(hub, stream, cursor);
    (plan.gaps.iter().map(|gap| gap.cause).collect(), ids(hub, stream, plan))
}

fn lost(gaps: &[Gap]) -> Vec<String> {
    let ranges = gaps.iter().flat_map(|gap| &gap.ranges);
    let offsets = ranges.flat_map(|range| {
        (range.from..=range.to).map(|offset| format!("{}:{}:{offset}", range.topic, range.partition))
    });
    offsets.collect()
}

/// Replays to the present through the log and the window, and calls `append` before each chunk. Returns the received
/// and the missing events.
fn replay_all(
    hub: &mut Hub,
    stream: &Stream,
    mut plan: Plan,
    log: &FakeLog,
    mut append: impl FnMut(&mut Hub),
) -> Vec<String> {
    let mut got = lost(&plan.gaps);
    let asker = Asker { writer: 0, session: 0 };
    loop {
        append(hub);
        got.extend(lost(&plan.replay.lost(hub, stream)));
        let Some(place) = plan.replay.places(hub, stream).into_iter().next() else { break };
        let Lookup::Found(page) = log.page(&place, asker) else { continue };
        for entry in plan.replay.unseen(stream, &page, place.until) {
            match &*entry {
                Entry::Event(_) => got.push(last_id(&entry).to_string()),
                Entry::Gap { range, .. } => {
                    let gap =
                        Gap { cause: GapCause::Retention, ranges: vec![range.clone()], missed: None, cursor: None };
                    got.extend(lost(&[gap]));
                }
                Entry::Hole { .. } => panic!("a page has no holes"),
            }
            plan.replay.pass(stream, &entry);
        }
        plan.replay.end_page(stream, &page, place.until);
    }
    got.extend(ids(hub, stream, plan));
    got
}

#[test]
fn cursors_are_not_shared_once_a_window_no_longer_determines_the_position() {
    let stream = stream(1, &TOPICS);
    let limits = |events| WindowLimits { events, bytes: usize::MAX };
    let mut hub = Hub::new([("a".into(), limits(9)), ("b".into(), limits(1))]);
    TOPICS.iter().for_each(|topic| drop(hub.assign(&Assigned::new(*topic, 0, [0]))));
    hub.go_live(&TOPICS.map(Into::into));
    let entries = log(&[(1, 0), (0, 0), (1, 0), (1, 0), (0, 0)]);
    entries.iter().for_each(|entry| send(&mut hub, &stream, entry));
    // A client that received a:0:0 live was positioned before b:0:1, which has left the window.
    let position = |next| TopicPosition { epoch: 0, next: vec![next] };
    let seen = Positions(vec![position(0), position(2)]).cursor(&stream.topics, last_id(&entries[0]));
    let mut replay = hub.plan(&stream, &seen, &NoLog.limits()).replay;
    assert_eq!(replay.step(&hub, &stream).map(|entry| last_id(&entry)), Some(last_id(&entries[1])));
    assert!(!replay.is_in_order(&hub, &stream));
    while replay.step(&hub, &stream).is_some() {}
    assert!(replay.is_in_order(&hub, &stream), "what is newer is known");
}

#[test]
fn events_after_a_skipped_partition_have_cursors_of_their_own() {
    let (stream, mut hub) = (stream(1, &["a"]), hub(4));
    let entries = log(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 1), (0, 0), (0, 1)]);
    entries.iter().for_each(|entry| send(&mut hub, &stream, entry));
    let fake_log = FakeLog::new(entries.clone(), 9);
    let seen = Positions(vec![TopicPosition { epoch: 0, next: vec![2, 0, 0] }]);
    let mut replay = hub.plan(&stream, &seen.cursor(&stream.topics, last_id(&entries[1])), &fake_log.limits).replay;
    let step = |replay: &mut Replay| replay.step(&hub, &stream).map(|entry| last_id(&entry).to_string());
    assert_eq!([(); 3].map(|()| step(&mut replay)), [Some("a:1:0".into()), Some("a:1:1".into()), None]);
    let place = replay.places(&hub, &stream).into_iter().next().unwrap();
    let page = fake_log.read(&place);
    replay.unseen(&stream, &page, place.until).for_each(|entry| replay.pass(&stream, &entry));
    replay.end_page(&stream, &page, place.until);
    for offset in [4, 5] {
        assert_eq!(step(&mut replay), Some(format!("a:0:{offset}")));
        assert!(!replay.is_in_order(&hub, &stream), "others that got it did not have a:1:1");
    }
    assert_eq!(step(&mut replay), None);
    assert!(replay.is_in_order(&hub, &stream));
}

#[test]
fn gaps_name_the_missing_offsets() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(2);
    for entry in log(&[(0, 0), (0, 0), (0, 0), (0, 0)]) {
        hub.append(&entry);
    }
    assert_eq!(resume(&hub, &stream, "a:0:1"), (vec![], vec!["a:0:2".into(), "a:0:3".into()]));
    let plan = plan(&hub, &stream, "a:0:0");
    assert_eq!(plan.gaps[0].cause, GapCause::Retention);
    assert_eq!(plan.gaps[0].ranges, [GapRange { topic: "a".into(), partition: 0, from: 1, to: 1 }]);
    assert_eq!(resume(&hub, &stream, "a:0:99").0, [GapCause::Truncated]);
    assert_eq!(resume(&hub, &stream, "a:7:0").0, [GapCause::Truncated]);
    assert_eq!(resume(&hub, &stream, "other:0:0").0, [GapCause::Truncated]);
    assert_eq!(resume(&hub, &stream, "a:0:3"), (vec![], vec![]), "caught up");
}

#[test]
fn clients_that_are_ahead_are_detected() {
    let stream = stream(1, &["a"]);
    let mut here = hub(9);
    let mut there = hub(9);
    let entries = log(&[(0, 0), (0, 1)]);
    here.append(&entries[0]);
    there.append(&entries[0]);
    let even = there.cursor_at(&stream, &last_id(&entries[0]));
    there.append(&entries[1]);
    let ahead = there.cursor_at(&stream, &last_id(&entries[1]));
    let is_ahead = |cursor: &Cursor| !here.ahead(&stream, cursor).is_nothing();
    assert!(!is_ahead(&even) && is_ahead(&ahead));
    assert!(!is_ahead(&even.id.clone().into()) && is_ahead(&ahead.id.into()));
    assert!(!is_ahead(&"other:0:99".parse().unwrap()), "waiting would not help");
    let unknown = here.ahead(&stream, &"a:9:5".parse().unwrap()).unknown;
    assert_eq!(unknown, [("a".into(), 10)], "a partition that was not heard of");
}

#[test]
fn an_id_read_from_the_log_at_start_resumes_at_least_once() {
    let stream = stream(1, &["a"]);
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 9, bytes: usize::MAX })]);
    hub.assign(&Assigned::new("a", 0, [0, 0]));
    for entry in log(&[(0, 0), (0, 1), (0, 0)]) {
        hub.append(&entry);
    }
    assert!(!hub.is_ready(&stream));
    hub.go_live(&["a".into()]);
    // The event has been sent since, which does not show that this client received it.
    for (_, entry) in &hub.topic(&"a".into()).unwrap().entries {
        let Entry::Event(event) = entry else { continue };
        event.frames.send_on(stream.id);
    }
    assert_eq!(resume(&hub, &stream, "a:0:0").1, ["a:1:0", "a:0:1"]);
    assert_eq!(resume(&hub, &stream, "a:1:0").1, ["a:0:0", "a:0:1"], "a:0:0 may not have been seen elsewhere");
}

#[test]
fn a_stream_waits_for_every_topic_that_is_still_warming_up() {
    let (both, of_a) = (stream(1, &["a", "b"]), stream(2, &["a"]));
    let mut hub = Hub::new([]);
    hub.assign(&Assigned::new("a", 0, [0]));
    hub.go_live(&["a".into()]);
    assert!(hub.is_ready(&of_a) && !hub.is_ready(&both), "the source of `b` has said nothing yet");
    hub.assign(&Assigned::new("b", 0, [0]));
    hub.go_live(&["a".into()]);
    assert!(!hub.is_ready(&both), "`b` is being read, whatever another source says");
    hub.go_live(&["b".into()]);
    assert!(hub.is_ready(&both));

    let mut hub = Hub::new([]);
    hub.go_live(&["b".into()]);
    assert!(!hub.is_ready(&both), "there is nothing to resume from");
    hub.assign(&Assigned::new("a", 0, [0]));
    hub.go_live(&["a".into()]);
    assert!(hub.is_ready(&both), "`b` is not there, and its source said so");
}

#[test]
fn a_replay_that_is_too_slow_reports_the_lost_events() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(2);
    let entries = log(&[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]);
    hub.append(&entries[0]);
    hub.append(&entries[1]);
    let mut replay = plan(&hub, &stream, "a:0:-1").replay;
    replay.step(&hub, &stream);
    entries[2..].iter().for_each(|entry| {
        hub.append(entry);
    });
    assert_eq!(replay.lost(&hub, &stream), []);
    let lost = replay.fell_out(&hub, &stream);
    assert_eq!((lost.len(), lost[0].cause), (1, GapCause::Overflow));
    assert_eq!(lost[0].ranges, [GapRange { topic: "a".into(), partition: 0, from: 1, to: 2 }]);
    assert_eq!(replay.fell_out(&hub, &stream), []);
}
