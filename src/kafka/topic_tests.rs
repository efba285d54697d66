//! The state of a topic, record by record and survey by survey.

use rdkafka::error::RDKafkaErrorCode;

use super::change::Change;
use super::*;
use crate::kafka::warm::merge;

/// A topic's epoch, and that of its successor.
const EPOCH: Epoch = 7;
const RECREATED: Epoch = 8;
/// When topics go live.
const LIVE_MS: i64 = 1_000_000;

#[path = "topic_change_tests.rs"]
mod change;

fn absent() -> TopicReader {
    absent_read(false)
}

fn absent_read(from_start: bool) -> TopicReader {
    let config = TopicConfig { replay_events: 10, replay_bytes: 1000, from_start, ..TopicConfig::new("a".into(), []) };
    TopicReader::new(config, true, &Metrics::new("test").unwrap())
}

fn reader(logs: &[(i64, i64)]) -> TopicReader {
    let mut topic = absent();
    assert_eq!(survey(&mut topic, EPOCH, logs).assign, Assign::Again);
    topic
}

fn live(logs: &[(i64, i64)]) -> TopicReader {
    let mut topic = reader(logs);
    topic.finish_warm_up(LIVE_MS).unwrap();
    topic
}

/// A survey finds the topic with these logs, whether it needs them or not.
fn survey(topic: &mut TopicReader, epoch: Epoch, logs: &[(i64, i64)]) -> Change {
    look(topic, epoch, logs, false, None)
}

/// The same after the client lost a position; `position` is the client's own.
fn survey_lost(topic: &mut TopicReader, logs: &[(i64, i64)], position: Option<i64>) -> Change {
    look(topic, EPOCH, logs, true, position)
}

fn look(topic: &mut TopicReader, epoch: Epoch, logs: &[(i64, i64)], lost: bool, position: Option<i64>) -> Change {
    let logs: Vec<_> = logs.iter().map(|(low, high)| Some(ends(*low, *high))).collect();
    look_at(topic, epoch, &logs, lost, position)
}

fn ends(low: i64, high: i64) -> LogEnds {
    LogEnds { low, high, at: None }
}

/// The same where the leaders of some partitions do not answer.
fn look_at(
    topic: &mut TopicReader,
    epoch: Epoch,
    logs: &[Option<LogEnds>],
    lost: bool,
    position: Option<i64>,
) -> Change {
    let described = Described { epoch, partitions: logs.len() as i32 };
    let suspects: Vec<i32> = if lost { (0..described.partitions).collect() } else { Vec::new() };
    let wanted = topic.wanted(&described, &suspects);
    let unanswered =
        wanted.iter().any(|id| logs[*id as usize].is_none()).then_some(RDKafkaErrorCode::OperationTimedOut);
    let logs = wanted.iter().filter_map(|id| Some((*id, logs[*id as usize]?))).collect();
    topic.take_in(&Seen { described, logs, unanswered, was: next(topic), at_ms: LIVE_MS }, |_| position)
}

/// The epoch and the positions of an announcement.
fn announced(feed: Option<Feed>) -> Option<(Epoch, Vec<i64>)> {
    match feed? {
        Feed::Assigned(assigned) => Some((assigned.epoch, assigned.next.to_vec())),
        other => panic!("{other:?}"),
    }
}

fn gaps(change: &Change) -> Vec<(GapCause, i32, i64, i64)> {
    let gap = |entry: &Entry| match entry {
        Entry::Gap { cause, range } => (*cause, range.partition, range.from, range.to),
        other => panic!("{other:?}"),
    };
    change.gaps.iter().map(gap).collect()
}

/// Receives an empty record; returns the number of entries.
fn take(topic: &mut TopicReader, partition: i32, offset: i64) -> usize {
    let mut batch = Vec::new();
    take_into(topic, partition, offset, &mut batch);
    topic.end_batch();
    batch.len()
}

fn take_into(topic: &mut TopicReader, partition: i32, offset: i64, batch: &mut Vec<Entry>) {
    let received = Instant::now();
    let value = Some(&b"{}"[..]);
    let (timestamp, headers) = (Some(1), &[][..]);
    let record =
        Record { partition, offset, timestamp, key: None, headers, value, received, received_ms: 1, trace: None };
    topic.take(&record, batch);
}

fn next(topic: &TopicReader) -> Vec<i64> {
    topic.next().collect()
}

/// Receives a batch of empty records, with the client's position in each partition afterwards. Returns the offset of
/// each entry and the position after it.
fn batch(topic: &mut TopicReader, records: &[(i32, i64)], positions: &[(i32, i64)]) -> Vec<(i64, i64)> {
    let mut entries = Vec::new();
    for (partition, offset) in records {
        take_into(topic, *partition, *offset, &mut entries);
    }
    positions.iter().for_each(|(partition, position)| topic.pass(*partition, *position, &mut entries));
    topic.end_batch();
    entries.iter().map(|entry| (crate::hub::last_id(entry).offset, crate::hub::after(entry))).collect()
}

#[test]
fn an_event_lets_positions_pass_the_control_records_behind_it() {
    let mut topic = live(&[(0, 0), (0, 0)]);
    // Each record of partition 0 is a transaction; partition 1 has none.
    let given = batch(&mut topic, &[(0, 0), (1, 0), (0, 2)], &[(0, 4), (1, 1)]);
    assert_eq!(given, [(0, 2), (0, 1), (2, 4)]);
    assert_eq!(next(&topic), [4, 1]);
    // After the previous batch, a transaction was aborted: three records and the marker.
    assert_eq!(batch(&mut topic, &[], &[(0, 8)]), [(7, 8)]);
    assert_eq!(batch(&mut topic, &[], &[(0, 8), (1, 1)]), [], "once");
    assert_eq!(
        (announced(topic.announcement(LIVE_MS, Vec::new())), batch(&mut topic, &[(0, 8)], &[])),
        (Some((EPOCH, vec![8, 1])), vec![(8, 9)])
    );
}

#[test]
fn a_warm_up_passes_control_records_as_well() {
    let mut topic = reader(&[(0, 4), (0, 2)]);
    take(&mut topic, 0, 0);
    take(&mut topic, 0, 2);
    // Partition 1 contains an aborted transaction and no record.
    let mut entries = Vec::new();
    for (partition, position) in [(0, 4), (1, 2)] {
        topic.pass(partition, position, &mut entries);
    }
    let (assigned, warm, holes) = topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(announced(Some(assigned)), Some((EPOCH, vec![0, 0])));
    entries.extend(crate::kafka::warm::merge(vec![warm]).into_iter().chain(holes));
    let given: Vec<_> = entries.iter().map(|entry| (crate::hub::last_id(entry), crate::hub::after(entry))).collect();
    let id = |partition, offset| crate::event::EventId { topic: "a".into(), partition, offset };
    assert_eq!(given, [(id(0, 0), 2), (id(0, 2), 4), (id(1, 1), 2)]);
    assert_eq!(next(&topic), [4, 2]);
}

#[test]
fn it_starts_a_window_before_the_end_but_within_the_log() {
    assert_eq!(next(&reader(&[(0, 100), (95, 100), (0, 3), (7, 7)])), [90, 95, 0, 7]);
}

#[test]
fn records_are_taken_once_and_only_of_known_partitions() {
    let mut topic = live(&[(0, 0)]);
    assert_eq!([0, 1, 1, 0, 5, 3].map(|offset| take(&mut topic, 0, offset)), [1, 1, 0, 0, 1, 0]);
    assert_eq!([1, -1].map(|partition| take(&mut topic, partition, 0)), [0, 0]);
    assert_eq!(next(&topic), [6]);
}

#[test]
fn it_has_caught_up_by_record_by_position_or_by_the_end_of_the_log() {
    let nowhere = |_| None;
    let mut topic = reader(&[(0, 3)]);
    assert!(!topic.has_caught_up(nowhere));
    assert_eq!(take(&mut topic, 0, 1), 0, "kept back");
    assert!(!topic.has_caught_up(|_| Some(2)));
    assert!(topic.has_caught_up(|_| Some(3)), "the last offset may be a control record");
    topic.reached_end(0);
    assert!(topic.has_caught_up(nowhere), "the last offsets may be compacted away");
    let mut topic = reader(&[(0, 3), (5, 5)]);
    take(&mut topic, 0, 2);
    assert!(topic.has_caught_up(nowhere));
}

#[test]
fn added_partitions_are_read_from_their_start_and_announced_once_live() {
    let mut topic = reader(&[(0, 1)]);
    let grown = survey(&mut topic, EPOCH, &[(0, 1), (4, 9)]);
    assert_eq!((grown.assign, announced(grown.announcement)), (Assign::Again, None));
    let (feed, ..) = topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(announced(Some(feed)), Some((EPOCH, vec![0, 4])));
    let grown = survey(&mut topic, EPOCH, &[(0, 1), (4, 9), (0, 100)]);
    assert_eq!((grown.assign, announced(grown.announcement)), (Assign::Again, Some((EPOCH, vec![0, 4, 0]))));
    let same = survey(&mut topic, EPOCH, &[(0, 1), (4, 9), (0, 100)]);
    assert_eq!((same.assign, announced(same.announcement)), (Assign::AsItIs, None));
}

#[test]
fn what_a_new_log_lost_before_it_was_known_is_a_gap() {
    let mut topic = live(&[(0, 1)]);
    let grown = survey(&mut topic, EPOCH, &[(0, 1), (4, 9)]);
    assert_eq!((announced(grown.announcement), grown.gaps.len()), (Some((EPOCH, vec![0, 0])), 0));
    let found = survey_lost(&mut topic, &[(0, 1), (4, 9)], None);
    assert_eq!((gaps(&found), next(&topic)), (vec![(GapCause::Retention, 1, 0, 3)], vec![0, 4]));
    let change = survey(&mut topic, RECREATED, &[(2, 3), (0, 0)]);
    assert_eq!((announced(change.announcement), change.assign), (Some((RECREATED, vec![0, 0])), Assign::OnNewClient));
    let found = look(&mut topic, RECREATED, &[(2, 3), (0, 0)], true, None);
    assert_eq!((gaps(&found), next(&topic)), (vec![(GapCause::Retention, 0, 0, 1)], vec![2, 0]));
}

#[test]
fn what_precedes_the_window_of_a_new_topic_may_be_new_to_open_streams() {
    for (is_new, unseen) in [(true, vec![(1, 0, 14)]), (false, Vec::new())] {
        let mut topic = absent();
        if is_new {
            topic.note_missing();
        }
        survey(&mut topic, EPOCH, &[(0, 5), (2, 25)]);
        let Some((Feed::Assigned(assigned), ..)) = topic.finish_warm_up(LIVE_MS) else { panic!() };
        assert_eq!(*assigned.next, [0, 15]);
        let ranges: Vec<_> = assigned.unseen.iter().map(|range| (range.partition, range.from, range.to)).collect();
        assert_eq!(ranges, unseen);
    }
}

#[test]
fn a_log_that_lost_its_start_is_a_gap_up_to_it() {
    let mut topic = live(&[(0, 5), (0, 5)]);
    take(&mut topic, 0, 4);
    take(&mut topic, 1, 4);
    let change = survey_lost(&mut topic, &[(20, 30), (5, 30)], None);
    assert_eq!((gaps(&change), change.assign), (vec![(GapCause::Retention, 0, 5, 19)], Assign::Again));
    assert_eq!(next(&topic), [20, 5]);
    let change = survey_lost(&mut topic, &[(20, 30), (20, 30)], Some(8));
    assert_eq!(gaps(&change), [(GapCause::Retention, 1, 8, 19)], "5 to 7 held no records");
    let change = survey_lost(&mut topic, &[(20, 30), (20, 30)], None);
    assert_eq!((gaps(&change), change.assign), (vec![], Assign::Again), "a stuck partition is assigned again");
}

#[test]
fn a_partition_that_does_not_answer_holds_up_no_other() {
    let mut topic = absent();
    assert_eq!(look_at(&mut topic, EPOCH, &[Some(ends(0, 0)), None], false, None).assign, Assign::Again);
    assert_eq!((topic.reads().collect::<Vec<_>>(), next(&topic)), (vec![(0, 0)], vec![0, UNKNOWN_POSITION]));
    assert!(topic.has_caught_up(|_| None));
    let (feed, ..) = topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(announced(Some(feed)), Some((EPOCH, vec![0, UNKNOWN_POSITION])));
    assert_eq!(take(&mut topic, 0, 0), 1);
    let described = Described { epoch: EPOCH, partitions: 2 };
    assert_eq!((topic.wanted(&described, &[]), topic.joins_at()), (vec![1], Some(LIVE_MS - CLOCK_SKEW_MS)));
    // This answer was requested before the topic went live, so that it has no offset of that time.
    let change = look_at(&mut topic, EPOCH, &[None, Some(ends(0, 90))], false, None);
    assert_eq!((change.assign, announced(change.announcement)), (Assign::AsItIs, None));
    // It had 30 records before, and got more than its window holds since.
    let found = LogEnds { at: Some(30), ..ends(0, 90) };
    let change = look_at(&mut topic, EPOCH, &[None, Some(found)], false, None);
    let Some(Feed::Assigned(assigned)) = change.announcement else { panic!("no announcement") };
    assert_eq!((change.assign, &*assigned.next, assigned.at_ms), (Assign::Again, &[1, 30][..], LIVE_MS));
    // Producers choose times: these records may have come since.
    let unseen: Vec<_> = assigned.unseen.iter().map(|range| (range.partition, range.from, range.to)).collect();
    assert_eq!(unseen, [(1, 0, 29)]);
    assert_eq!([take(&mut topic, 1, 30), take(&mut topic, 0, 1)], [1, 1]);
    assert!(topic.wanted(&described, &[]).is_empty());
}

#[test]
fn a_partition_that_answers_while_others_warm_warms_as_well() {
    let mut topic = absent();
    look_at(&mut topic, EPOCH, &[Some(ends(0, 5)), None], false, None);
    let change = look_at(&mut topic, EPOCH, &[None, Some(ends(0, 50))], false, None);
    assert_eq!((change.assign, announced(change.announcement)), (Assign::Again, None));
    assert!(!topic.has_caught_up(|partition| (partition == 0).then_some(5)));
    let (feed, ..) = topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(announced(Some(feed)), Some((EPOCH, vec![0, 40])));
}

#[test]
fn a_topic_that_is_read_from_the_start_waits_for_all_partitions() {
    let mut topic = absent_read(true);
    look_at(&mut topic, EPOCH, &[Some(ends(0, 3)), None], false, None);
    let everything = |_| Some(3);
    assert!(!topic.has_caught_up(everything), "a leader has not responded");
    topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(topic.joins_at(), None);
    look_at(&mut topic, EPOCH, &[None, Some(ends(2, 90))], false, None);
    assert_eq!(next(&topic), [0, 2]);

    let mut topic = absent_read(true);
    look_at(&mut topic, EPOCH, &[Some(ends(0, 3)), None], false, None);
    look_at(&mut topic, EPOCH, &[None, Some(ends(0, 3))], false, None);
    assert!(topic.has_caught_up(everything));
}

#[test]
fn a_topic_that_is_read_from_the_start_passes_on_every_record() {
    let mut topic = absent_read(true);
    survey(&mut topic, EPOCH, &[(4, 90)]);
    assert_eq!(next(&topic), [4], "more than a window before the end");
    assert!((4..40).all(|offset| take(&mut topic, 0, offset) == 1));
    let (_, warm, _) = topic.finish_warm_up(LIVE_MS).unwrap();
    assert!(merge(vec![warm]).is_empty(), "no entry is passed on twice");
    assert_eq!(take(&mut topic, 0, 40), 1);
}

#[test]
fn a_new_partition_that_answers_late_is_read_from_its_first_record() {
    let mut topic = live(&[(0, 5)]);
    let grown = look_at(&mut topic, EPOCH, &[Some(ends(0, 5)), Some(ends(0, 0)), None], false, None);
    assert_eq!(announced(grown.announcement), Some((EPOCH, vec![0, 0, UNKNOWN_POSITION])));
    let found = LogEnds { at: Some(70), ..ends(3, 90) };
    let change = look_at(&mut topic, EPOCH, &[None, None, Some(found)], false, None);
    assert_eq!(announced(change.announcement), Some((EPOCH, vec![0, 0, 0])));

    let mut new = absent();
    new.note_missing();
    look_at(&mut new, EPOCH, &[Some(ends(0, 0)), None], false, None);
    new.finish_warm_up(LIVE_MS).unwrap();
    let change = look_at(&mut new, EPOCH, &[None, Some(found)], false, None);
    assert_eq!(announced(change.announcement), Some((EPOCH, vec![0, 0])));
}
