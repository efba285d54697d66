use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::*;
use crate::event::{Assigned, Event, EventId, Frames};

const SMALL: Amount = Amount { feeds: 4, entries: 1000, bytes: 1 << 20 };
const MOST: Amount = Amount { feeds: 8, ..SMALL };

fn batch(partition: i32, offsets: Range<i64>) -> Feed {
    Feed::Batch(offsets.map(|offset| Entry::Event(event(partition, offset))).collect())
}

fn event(partition: i32, offset: i64) -> Arc<Event> {
    Arc::new(Event {
        id: EventId { topic: "orders".into(), partition, offset },
        next: offset + 1,
        ts: 0,
        kind: "test".into(),
        keys: [].into(),
        envelope: "{}".into(),
        payload: 0..2,
        is_base64: false,
        is_gap_without_key: false,
        received: Instant::now(),
        received_ms: 0,
        trace: None,
        frames: Frames::default(),
    })
}

fn gap(cause: GapCause, partition: i32, from: i64, to: i64) -> Entry {
    Entry::Gap { cause, range: GapRange { topic: "orders".into(), partition, from, to } }
}

/// All queued messages of a writer, a line each.
fn taken(inboxes: &Inboxes<()>, writer: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(next) = inboxes.next(writer) {
        match next {
            Next::Feed(Feed::Batch(entries)) => lines.extend(entries.iter().map(|entry| match entry {
                Entry::Event(event) => event.id.to_string(),
                Entry::Hole { partition, end, .. } => format!("hole {partition}:{end}"),
                Entry::Gap { cause, range } => {
                    format!("{} {}:{}:{}-{}", cause.as_str(), range.topic, range.partition, range.from, range.to)
                }
            })),
            Next::Feed(Feed::Assigned(Assigned { topic, next, .. })) => {
                lines.push(format!("assigned {topic} {next:?}"))
            }
            Next::Feed(Feed::Topic(change)) => lines.push(format!("change of {}", change.topic)),
            Next::Feed(Feed::Live { topics }) => lines.push(format!("live {topics:?}")),
            Next::Order(()) => lines.push("order".into()),
            Next::Calls(mut sessions) => {
                let mut sessions: Vec<u32> = sessions.drain().collect();
                sessions.sort_unstable();
                lines.push(format!("calls {sessions:?}"));
            }
        }
    }
    lines
}

#[test]
fn a_slow_writer_delays_nothing_and_gets_gaps() {
    const FEEDS: i64 = 2000;
    let inboxes = Arc::new(Inboxes::<()>::new(2, SMALL, MOST));
    let is_over = Arc::new(AtomicBool::new(false));
    let (quick, over) = (inboxes.clone(), is_over.clone());
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        while !over.load(Ordering::Acquire) {
            lines.extend(taken(&quick, 0));
        }
        lines.extend(taken(&quick, 0));
        lines
    });
    let lost: u64 = (0..FEEDS)
        .flat_map(|n| inboxes.feed(&batch(0, n..n + 1)))
        .map(|(writer, lost)| {
            assert_eq!(writer, 1, "the one that takes loses nothing");
            lost
        })
        .sum();
    is_over.store(true, Ordering::Release);
    assert_eq!(reader.join().unwrap(), (0..FEEDS).map(|n| format!("orders:0:{n}")).collect::<Vec<_>>());
    let received = taken(&inboxes, 1);
    assert_eq!(received[0], format!("overflow orders:0:0-{}", lost - 1));
    assert_eq!(received[1..], (lost as i64..FEEDS).map(|n| format!("orders:0:{n}")).collect::<Vec<_>>());
    assert!(received.len() <= MOST.feeds + 1);
}

#[test]
fn sources_wait_for_a_bounded_time_while_all_writers_are_behind() {
    let inboxes = Arc::new(Inboxes::<()>::new(2, SMALL, MOST));
    (0..4).for_each(|n| assert!(inboxes.feed(&batch(0, n..n + 1)).is_empty()));
    let source = inboxes.clone();
    let waits = thread::spawn(move || source.feed(&batch(0, 4..5)));
    // One of them makes room.
    assert!(matches!(inboxes.next(1), Some(Next::Feed(_))));
    assert!(waits.join().unwrap().is_empty());
    // Now no writer takes anything: the source waits once.
    for n in 5..100 {
        inboxes.feed(&batch(0, n..n + 1));
    }
    for writer in [0, 1] {
        let received = taken(&inboxes, writer);
        assert!(
            received[0].starts_with("overflow orders:0:") && received.last().unwrap() == "orders:0:99",
            "{received:?}"
        );
    }
}

#[test]
fn sources_do_not_wait_for_an_ended_writer() {
    let inboxes = Inboxes::<()>::new(1, SMALL, MOST);
    (0..4).for_each(|n| drop(inboxes.feed(&batch(0, n..n + 1))));
    inboxes.close(0);
    (4..50).for_each(|n| assert!(inboxes.feed(&batch(0, n..n + 1)).is_empty()));
    assert!(!inboxes.order(0, ()));
    inboxes.call(0, vec![1]);
    assert!(taken(&inboxes, 0).is_empty());
}

#[test]
fn orders_and_calls_do_not_wait_for_feeds() {
    let inboxes = Inboxes::new(1, SMALL, MOST);
    inboxes.feed(&batch(0, 0..1));
    inboxes.call(0, vec![7, 8]);
    inboxes.call(0, vec![8]);
    assert!(inboxes.order(0, ()));
    assert_eq!(taken(&inboxes, 0), ["order", "calls [7, 8]", "orders:0:0"]);
    assert_eq!((0..=ORDERS_MAX).filter(|_| inboxes.order(0, ())).count(), ORDERS_MAX);
}

#[test]
fn only_events_are_skipped() {
    let topic: Topic = "orders".into();
    let mut inbox = Inbox::<()>::default();
    let feeds = [
        Feed::Assigned(Assigned::new(topic.clone(), 1, [0, 0])),
        batch(0, 0..3),
        batch(1, 0..2),
        Feed::Batch([gap(GapCause::Undecodable, 0, 3, 3)].into()),
        batch(0, 4..6),
        Feed::Batch([gap(GapCause::Truncated, 0, 5, 5)].into()),
        batch(0, 5..8),
        Feed::Live { topics: [topic].into() },
        batch(1, 2..4),
    ];
    feeds.iter().for_each(|feed| assert_eq!(inbox.push(feed, INBOX_MAX), 0));
    assert_eq!(inbox.skip(), 3 + 2 + 2 + 3 + 2);
    let bytes = 5 * gap(GapCause::Overflow, 0, 0, 5).weight();
    assert_eq!(inbox.waiting, Amount { feeds: 4, entries: 5, bytes });
    let inboxes = Inboxes { inboxes: vec![Mutex::new(inbox)], ..Inboxes::new(0, SMALL, MOST) };
    let expected = [
        "assigned orders [0, 0]",
        "overflow orders:0:0-5",
        "overflow orders:1:0-1",
        "truncated orders:0:5-5",
        "overflow orders:0:5-7",
        "live [\"orders\"]",
        "overflow orders:1:2-3",
    ];
    assert_eq!(taken(&inboxes, 0), expected);
}

#[test]
fn holes_join_the_gap_before_them_and_each_other() {
    let mut inbox = Inbox::<()>::default();
    let hole = |partition, end| Feed::Batch([Entry::Hole { topic: "orders".into(), partition, end }].into());
    for feed in [hole(1, 3), hole(1, 5), batch(0, 0..2), hole(0, 4), batch(0, 4..5), batch(1, 5..6), hole(1, 9)] {
        inbox.push(&feed, INBOX_MAX);
    }
    assert_eq!(inbox.skip(), 4);
    let inboxes = Inboxes { inboxes: vec![Mutex::new(inbox)], ..Inboxes::new(0, SMALL, MOST) };
    assert_eq!(taken(&inboxes, 0), ["hole 1:5", "overflow orders:0:0-4", "overflow orders:1:5-8"]);
}

#[test]
fn one_batch_that_is_larger_than_the_inbox_is_kept() {
    let mut inbox = Inbox::<()>::default();
    let most = Amount { entries: 10, ..MOST };
    assert_eq!(inbox.push(&batch(0, 0..50), most), 0);
    assert_eq!(inbox.push(&batch(0, 50..60), most), 50);
    assert_eq!(inbox.feeds.len(), 2);
}
