//! What a client of a recreated, cut or deleted log has lost.

use super::*;
use crate::event::{Event, PARTITION_KNOWN_MS};

#[test]
fn a_recreated_topic_causes_a_gap_and_is_read_from_its_start() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(9);
    hub.assign(&Assigned::new("a", 1, [0; PARTITIONS]));
    let entries = log(&[(0, 0), (0, 1), (0, 0)]);
    entries.iter().for_each(|entry| {
        hub.append(entry);
    });
    let cursor = hub.cursor_at(&stream, &last_id(&entries[2])).to_string();
    let mut behind = plan(&hub, &stream, &cursor).replay;
    let rest = [(0, 2), (1, 1), (2, 0)].map(|(n, from)| range(&"a".into(), n, from, GapRange::OPEN));
    assert_eq!(hub.assign(&Assigned::new("a", 2, [0])), rest);
    // The new log is already longer than the client's position.
    for offset in 0..5 {
        hub.append(&Entry::Event(event("a", 0, offset, &[])));
    }
    let plan = plan(&hub, &stream, &cursor);
    assert_eq!((plan.gaps[0].cause, &plan.gaps[0].ranges[..]), (GapCause::TopicRecreated, &rest[..]));
    assert_eq!(ids(&hub, &stream, plan), ["a:0:0", "a:0:1", "a:0:2", "a:0:3", "a:0:4"]);
    assert_eq!(behind.lost(&hub, &stream)[0].ranges, rest);
    assert_eq!(ids(&hub, &stream, Plan { gaps: Vec::new(), replay: behind }).len(), 5);
    assert!(hub.assign(&Assigned::new("a", 0, [5])).is_empty(), "an epoch that is not known says nothing");
    assert!(hub.assign(&Assigned::new("a", 2, [5, 0])).is_empty());
}

#[test]
fn a_shared_chunk_reports_only_the_losses_of_this_client() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(2);
    let entries = log(&[(0, 0); 12]);
    entries.iter().for_each(|entry| {
        hub.append(entry);
    });
    let fake_log = FakeLog { low: 11, ..FakeLog::new(entries, 20) };
    let replay = hub.plan(&stream, &"a:0:3".parse().unwrap(), &fake_log.limits).replay;
    let place = replay.places(&hub, &stream).into_iter().next().unwrap();
    assert_eq!((place.offset, place.until), (4, 10));
    // Another session requested the whole range, of which the log has nothing before 11.
    let page = fake_log.read(&Place { offset: 0, until: 12, ..place.clone() });
    let unseen: Vec<_> = replay.unseen(&stream, &page, place.until).collect();
    let [gap] = &unseen[..] else { panic!("{unseen:?}") };
    let Entry::Gap { range, .. } = &**gap else { panic!("{gap:?}") };
    assert_eq!((range.from, range.to), (4, 9));
}

#[test]
fn records_beyond_the_replay_limit_become_a_gap() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(2);
    let entries = log(&[(0, 0); 12].into_iter().chain([(0, 1); 4]).collect::<Vec<_>>());
    entries.iter().for_each(|entry| {
        hub.append(entry);
    });
    let mut fake_log = FakeLog::new(entries, 3);
    fake_log.limits.events = 8;
    let nothing_seen = hub.plan(&stream, &"a:0:-1".parse().unwrap(), &fake_log.limits);
    assert_eq!(nothing_seen.gaps[0].cause, GapCause::ReplayLimit);
    // Twelve events of one partition precede the window, and two of the other one: each has half of the limit.
    assert_eq!(nothing_seen.gaps[0].ranges, [range(&"a".into(), 0, 0, 7)]);
    let got = replay_all(&mut hub, &stream, nothing_seen, &fake_log, |_| {});
    assert_eq!(got.len(), 8 + 4 + 4, "{got:?}");
}

#[test]
fn partitions_that_came_after_the_cursor_are_read_from_their_start() {
    let stream = stream(1, &["a"]);
    let limits = WindowLimits { events: 2, bytes: usize::MAX };
    let mut hub = Hub::new([("a".into(), limits)]);
    hub.assign(&Assigned::new("a", 3, [0]));
    hub.go_live(&["a".into()]);
    let cursor =
        Positions(vec![TopicPosition { epoch: 3, next: vec![0] }]).cursor(&stream.topics, "a:0:-1".parse().unwrap());
    hub.assign(&Assigned::new("a", 3, [0, 0]));
    let entries = log(&[(0, 1), (0, 1), (0, 1), (0, 1), (0, 0)]);
    entries.iter().for_each(|entry| {
        hub.append(entry);
    });
    let fake_log = FakeLog::new(entries, 2);
    assert_eq!(cursor.opaque, None, "there was one partition");
    let plan = hub.plan(&stream, &cursor, &fake_log.limits);
    let got = replay_all(&mut hub, &stream, plan, &fake_log, |_| {});
    assert_eq!(got, ["a:1:0", "a:1:1", "a:1:2", "a:1:3", "a:0:0"]);
}

#[test]
fn without_a_log_the_evicted_start_of_an_added_partition_or_a_recreated_topic_is_a_gap() {
    let stream = stream(1, &["a"]);
    let limits = WindowLimits { events: 2, bytes: usize::MAX };
    let at = |epoch, next: &[i64]| {
        let mut hub = Hub::new([("a".into(), limits)]);
        hub.assign(&Assigned::new("a", epoch, next));
        hub.go_live(&["a".into()]);
        log(&[(0, 1), (0, 1), (0, 1), (0, 1)]).iter().for_each(|entry| {
            hub.append(entry);
        });
        let seen = Positions(vec![TopicPosition { epoch: 3, next: vec![0] }]);
        hub.plan_exact(&stream, seen, Ends::default(), &NoLog.limits()).gaps
    };
    let evicted = [range(&"a".into(), 1, 0, 1)];
    let added = at(3, &[0, 0]);
    assert_eq!((added.len(), added[0].cause, &added[0].ranges[..]), (1, GapCause::Retention, &evicted[..]));
    let recreated = at(4, &[0, 0]);
    assert_eq!(
        recreated.iter().map(|gap| gap.cause).collect::<Vec<_>>(),
        [GapCause::TopicRecreated, GapCause::Retention]
    );
    assert_eq!(recreated[1].ranges, evicted);
}

/// The stream may have had one partition when the id was sent.
#[test]
fn without_a_log_an_event_id_reports_what_has_left_the_windows_of_the_other_partitions() {
    let stream = stream(1, &["a"]);
    let mut hub = Hub::new([("a".into(), WindowLimits { events: 3, bytes: usize::MAX })]);
    hub.assign(&Assigned::new("a", 0, [0]));
    hub.go_live(&["a".into()]);
    let append = |hub: &mut Hub, ids: &[(i32, i64)]| {
        for (partition, offset) in ids {
            hub.append(&Entry::Event(event("a", *partition, *offset, &[])));
        }
    };
    append(&mut hub, &[(0, 0)]);
    hub.assign(&Assigned::new("a", 0, [1, 5, UNKNOWN_POSITION]));
    append(&mut hub, &[(1, 5), (1, 6), (0, 1)]);
    assert_eq!(resume(&hub, &stream, "a:0:0"), (Vec::new(), ids_of(&[(1, 5), (1, 6), (0, 1)])));
    append(&mut hub, &[(1, 7)]);
    let late = plan(&hub, &stream, "a:0:0");
    assert_eq!(late.gaps[0].cause, GapCause::Retention);
    assert_eq!(lost(&late.gaps), ["a:1:5"], "streams began with the first offset that was read");
    assert_eq!(ids(&hub, &stream, late), ids_of(&[(1, 6), (0, 1), (1, 7)]));
    // The id of another partition than the first one was not alone; its event is in the window.
    assert_eq!(resume(&hub, &stream, "a:1:6"), (Vec::new(), ids_of(&[(0, 1), (1, 7)])));
    append(&mut hub, &[(0, 2), (0, 3)]);
    assert_eq!(lost(&plan(&hub, &stream, "a:1:5").gaps), ["a:0:0", "a:0:1", "a:1:6"], "it is not");
}

/// A replica that did not know of the second partition may have sent the event alone.
#[test]
fn an_event_id_from_soon_after_a_partition_was_added_includes_all_of_the_partition() {
    const ADDED_MS: i64 = 5_000_000;
    let stream = stream(1, &["a"]);
    let limits = FakeLog::new(Vec::new(), 9).limits;
    for (after_ms, is_exact) in [(0, false), (PARTITION_KNOWN_MS, false), (PARTITION_KNOWN_MS + 1, true)] {
        for is_added_here in [true, false] {
            let mut hub = Hub::new([("a".into(), WindowLimits { events: 9, bytes: usize::MAX })]);
            let assigned = |at_ms, next: &[i64]| Assigned { at_ms, ..Assigned::new("a", 0, next) };
            hub.assign(&assigned(ADDED_MS - i64::from(is_added_here), if is_added_here { &[0] } else { &[0, 0] }));
            hub.go_live(&["a".into()]);
            hub.assign(&assigned(ADDED_MS, &[0, 0]));
            let received =
                |event: Arc<Event>| Event { received_ms: ADDED_MS + after_ms, ..event.with_next(event.next) };
            for (partition, offset) in [(1, 0), (1, 1), (0, 0), (0, 1), (1, 2)] {
                let event = received(event("a", partition, offset, &[]));
                send(&mut hub, &stream, &Entry::Event(Arc::new(event)));
            }
            let cursor = "a:0:0".parse().unwrap();
            assert_eq!(hub.is_time_needed(&stream, &cursor, &limits).is_none(), is_exact);
            assert_eq!(hub.received_ms(&cursor.id), Some(ADDED_MS + after_ms));
            let missed = if is_exact { &[(0, 1), (1, 2)][..] } else { &[(1, 0), (1, 1), (0, 1), (1, 2)] };
            assert_eq!(resume(&hub, &stream, "a:0:0"), (Vec::new(), ids_of(missed)));
            // The id of another partition was not alone.
            assert_eq!(resume(&hub, &stream, "a:1:1"), (Vec::new(), ids_of(&[(0, 0), (0, 1), (1, 2)])));
        }
    }
}

fn ids_of(ids: &[(i32, i64)]) -> Vec<String> {
    ids.iter().map(|(partition, offset)| format!("a:{partition}:{offset}")).collect()
}

#[test]
fn which_of_two_topics_replaced_the_other_is_known_only_of_those_that_were_read() {
    let stream = stream(1, &["a"]);
    let mut hub = hub(9);
    for epoch in 1..=3 {
        hub.assign(&Assigned::new("a", epoch, [0]));
    }
    let others = |hub: &Hub, epoch| {
        let seen = Positions(vec![TopicPosition { epoch, next: vec![0, 2] }]);
        hub.ahead(&stream, &seen.cursor(&stream.topics, "a:1:1".parse().unwrap())).others
    };
    assert!((0..=2).all(|epoch| others(&hub, epoch).is_empty()), "their logs were deleted");
    assert_eq!(others(&hub, 4), [OtherEpoch { topic: "a".into(), here: 3 }]);
    (5..50).for_each(|epoch| drop(hub.assign(&Assigned::new("a", epoch, [0]))));
    assert!(others(&hub, 48).is_empty());
    assert_eq!(others(&hub, 1).len(), 1, "few are remembered");
}

#[test]
fn clients_resume_from_the_log_after_a_change_of_the_topic() {
    let (stream, mut hub) = (stream(1, &["a"]), hub(9));
    let entries = log(&[(0, 0), (0, 0), (0, 0), (0, 0)]);
    entries.iter().for_each(|entry| send(&mut hub, &stream, entry));
    let change = |events, is_reshaped| {
        let window = Some(WindowLimits { events, bytes: usize::MAX });
        TopicChange { topic: "a".into(), window, is_reshaped, applied: std::sync::mpsc::channel().0 }
    };
    let start = Positions(vec![TopicPosition { epoch: 0, next: vec![0; PARTITIONS] }]);
    let seen = start.cursor(&stream.topics, last_id(&entries[0]));
    let held = |hub: &Hub| {
        let limits = FakeLog::new(entries.clone(), 9).limits;
        let plan = hub.plan(&stream, &seen, &limits);
        let missing: Vec<i64> = plan.replay.places(hub, &stream).iter().map(|place| place.until).collect();
        (hub.newest_first(&stream).count(), missing)
    };
    assert_eq!(held(&hub), (4, vec![]));
    hub.change(&change(2, false));
    assert_eq!(held(&hub), (2, vec![2]), "the newest entries stay");
    hub.change(&change(9, true));
    assert_eq!(held(&hub), (0, vec![4]), "none of another shape stays");
    assert_eq!(hub.positions(&stream).0[0].next[0], 4, "live streams go on at their position");
    send(&mut hub, &stream, &Entry::Event(event("a", 0, 4, &[])));
    assert_eq!(held(&hub), (1, vec![4]));
    hub.change(&TopicChange { window: None, ..change(0, true) });
    assert!(hub.positions(&stream).0[0].next.is_empty() && !hub.is_ready(&stream));
}
