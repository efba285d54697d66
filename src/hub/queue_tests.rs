use proptest::prelude::*;

use super::*;
use crate::event::{GapCause, GapRange};
use crate::testing::event;

/// An encoding of this length.
fn encoding(event: &Event, len: usize) -> Arc<Encoding> {
    Arc::new(Encoding::new(vec![b'x'; len].into(), event.id.to_string().into(), None, &Arc::default()))
}

fn replay(queue: &mut Queue, offset: i64, len: usize) {
    let event = event("t", 0, offset, &[]);
    let encoding = encoding(&event, len);
    queue.push_replayed(event, encoding);
}

pub(super) fn push_it(queue: &mut Queue, event: Arc<Event>, len: usize, limits: &QueueLimits) -> Pushed {
    let encoding = encoding(&event, len);
    queue.push_event(event, encoding, limits)
}

fn push(queue: &mut Queue, offset: i64, len: usize, limits: &QueueLimits) -> Pushed {
    push_it(queue, event("t", 0, offset, &[]), len, limits)
}

/// The bytes of all items, up to a gap that is not encoded.
pub(super) fn bytes(queue: &Queue) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut parts = Parts::new(&mut buffer);
    queue.write(usize::MAX, &mut parts);
    parts.slices().collect::<Vec<_>>().concat()
}

/// Writes everything, at most `step` bytes at a time. Returns the offsets that arrived, and the number of events
/// reported as missing.
pub(super) fn write_all(queue: &mut Queue, step: usize) -> (Vec<i64>, u64) {
    let (mut sent, mut missed) = (Vec::new(), 0);
    while !queue.is_empty() {
        queue.settle_gaps(8, |gap| {
            missed += gap.missed.unwrap_or(0);
            "gap".into()
        });
        let ready = bytes(queue).len().min(step);
        queue.advance(ready, |event, _| sent.push(event.id.offset));
    }
    (sent, missed)
}

#[test]
fn replayed_events_are_distinguished_from_live_ones() {
    let limits = QueueLimits { events: 1, bytes: 1, overflow: Overflow::DropOldest };
    let mut queue = Queue::default();
    replay(&mut queue, 0, 5);
    replay(&mut queue, 1, 5);
    assert_eq!((queue.events(), queue.event_bytes()), (2, 10), "beyond the limits of what comes live");
    queue.clear_unsent();
    replay(&mut queue, 2, 5);
    let mut sent = Vec::new();
    queue.advance(5, |event, is_live| sent.push((event.id.offset, is_live)));
    push(&mut queue, 3, 5, &limits);
    queue.advance(5, |event, is_live| sent.push((event.id.offset, is_live)));
    assert_eq!(sent, [(2, false), (3, true)]);
    assert!(queue.is_empty() && queue.event_bytes() == 0);
}

#[test]
fn a_head_that_was_not_written_yet_is_not_dropped() {
    let limits = QueueLimits { events: 9, bytes: 99, overflow: Overflow::DropOldest };
    let mut queue = Queue::default();
    assert!(queue.push_raw(usize::MAX, Bytes::from_static(b"head")));
    push(&mut queue, 0, 5, &limits);
    assert_eq!(queue.clear_unsent(), 1);
    assert!(queue.push_raw(usize::MAX, Bytes::from_static(b"end")));
    assert_eq!(bytes(&queue), b"headend");
    queue.advance(4, |_, _| {});
    queue.clear_unsent();
    assert!(queue.is_empty());
}

/// A chunk is written as a whole: an item whose chunk has begun stays, even if no byte of the item itself was written.
#[test]
fn a_begun_chunk_is_completed() {
    let limits = QueueLimits { events: 9, bytes: 99, overflow: Overflow::DropOldest };
    for written in 0..4 + 3 + 20 + 2 {
        let mut queue = Queue::new(TransferCoding::Chunked, None);
        assert!(queue.push_raw(usize::MAX, Bytes::from_static(b"head")));
        push(&mut queue, 0, 20, &limits);
        push(&mut queue, 1, 5, &limits);
        let mut sent = bytes(&queue)[..written].to_vec();
        queue.advance(written, |_, _| {});
        queue.clear_unsent();
        assert_eq!(queue.events(), usize::from(written > 4), "{written}");
        assert!(queue.push_raw(usize::MAX, Bytes::from_static(b"0\r\n\r\n")));
        sent.extend(bytes(&queue));
        let event = if written > 4 { format!("14\r\n{}\r\n", "x".repeat(20)) } else { String::new() };
        assert_eq!(String::from_utf8(sent).unwrap(), format!("head{event}0\r\n\r\n"), "{written}");
    }
}

#[test]
fn queued_items_stay_small() {
    assert!(size_of::<Item>() <= 24, "{} bytes", size_of::<Item>());
}

#[test]
fn dropped_events_are_reported_in_their_place() {
    let limits = |overflow| QueueLimits { events: 2, bytes: 999, overflow };
    let mut oldest = Queue::default();
    let mut newest = Queue::default();
    for offset in 0..5 {
        push(&mut oldest, offset, 1, &limits(Overflow::DropOldest));
        push(&mut newest, offset, 1, &limits(Overflow::DropNewest));
    }
    assert!(matches!(&oldest.items[0], Item::Gap(gap) if gap.missed == Some(3)
        && gap.ranges[0].from == 0 && gap.ranges[0].to == 2 && gap.cursor.as_deref() == Some(b"t:0:2")));
    assert!(matches!(&newest.items[2], Item::Gap(gap) if gap.missed == Some(3)
        && gap.ranges[0].from == 2 && gap.ranges[0].to == 4 && gap.cursor.as_deref() == Some(b"t:0:4")));
    assert_eq!(write_all(&mut oldest, 1), (vec![3, 4], 3));
    assert_eq!(write_all(&mut newest, 1), (vec![0, 1], 3));
}

#[test]
fn an_event_larger_than_the_queue_passes_alone() {
    let limits = QueueLimits { events: 9, bytes: 10, overflow: Overflow::DropOldest };
    let mut queue = Queue::default();
    assert_eq!(push(&mut queue, 0, 100, &limits), Pushed::Queued);
    assert_eq!(push(&mut queue, 1, 5, &limits), Pushed::Dropped(1));
    assert_eq!(write_all(&mut queue, 7), (vec![1], 1));
}

#[test]
fn an_event_larger_than_the_queue_is_dropped_instead_of_queued_ones() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Coalesce] {
        let limits = QueueLimits { events: 9, bytes: 10, overflow };
        let mut queue = Queue::default();
        for offset in 0..3 {
            assert_eq!(push(&mut queue, offset, 2, &limits), Pushed::Queued);
        }
        assert_eq!(push(&mut queue, 3, 11, &limits), Pushed::Dropped(1));
        assert_eq!(push(&mut queue, 4, 2, &limits), Pushed::Queued);
        assert_eq!(write_all(&mut queue, 7), (vec![0, 1, 2, 4], 1), "{overflow:?}");
    }
}

#[test]
fn the_policy_disconnect_accepts_nothing_at_the_limit() {
    let limits = QueueLimits { events: 1, bytes: 10, overflow: Overflow::Disconnect };
    let mut queue = Queue::default();
    assert_eq!(push(&mut queue, 0, 1, &limits), Pushed::Queued);
    assert_eq!(push(&mut queue, 1, 1, &limits), Pushed::Full);
}

fn at_source(offset: i64) -> Gap {
    let range = GapRange { topic: "t".into(), partition: 0, from: offset, to: offset };
    Gap::at_source(GapCause::Undecodable, range, format!("t:0:{offset}").into())
}

#[test]
fn gaps_of_two_causes_do_not_accumulate() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let limits = QueueLimits { events: 4, bytes: 999, overflow };
        let mut queue = Queue::default();
        for offset in 0..1000 {
            push(&mut queue, 2 * offset, 1, &limits);
            queue.push_gap(at_source(2 * offset + 1));
        }
        assert!(queue.items.len() <= 3 * (limits.events + 1), "{overflow:?}: {} items", queue.items.len());
        let gaps = queue.items.iter().filter_map(|item| match item {
            Item::Gap(gap) => Some(gap),
            _ => None,
        });
        let missed = gaps.clone().filter(|gap| gap.cause == GapCause::Overflow).filter_map(|gap| gap.missed);
        assert_eq!(missed.sum::<u64>(), 996);
        // No gap before the last one states a position after the others.
        let stands: Vec<i64> = gaps.map(|gap| stand(gap)).collect();
        assert!(stands.is_sorted(), "{overflow:?}: {stands:?}");
        assert_eq!(stands.last(), Some(&1999));
    }
}

/// The offset in a gap's cursor.
fn stand(gap: &Gap) -> i64 {
    let cursor = std::str::from_utf8(gap.cursor.as_ref().unwrap()).unwrap();
    cursor.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn many_small_responses_reach_the_limit() {
    let mut queue = Queue::default();
    let taken = (0..100_000).take_while(|_| queue.push_control(usize::MAX, Bytes::from_static(b"ok"))).count();
    assert!((100..CONTROL_BYTES_MAX as usize / 100).contains(&taken), "{taken}");
    queue.advance(2 * taken, |_, _| {});
    assert_eq!((queue.items.len(), queue.control_bytes), (0, 0));
}

#[test]
fn an_empty_queue_releases_the_memory_of_a_burst() {
    let limits = QueueLimits { events: 9, bytes: 10, overflow: Overflow::DropOldest };
    let mut queue = Queue::default();
    for offset in 0..9 {
        push(&mut queue, offset, 1, &limits);
    }
    write_all(&mut queue, 9);
    assert_eq!(queue.items.capacity(), 0);
    push(&mut queue, 9, 1, &limits);
    write_all(&mut queue, 9);
    assert_eq!(queue.items.capacity(), ITEMS_KEPT);
}

proptest! {
    /// For any sequence of writes and events: order is preserved, limits hold, and every event arrives or is reported
    /// as missing.
    #[test]
    fn nothing_is_lost_silently(
        drop_oldest in any::<bool>(),
        steps in prop::collection::vec((1..6usize, 0..12usize), 1..80),
        events in 1..5usize,
    ) {
        let overflow = if drop_oldest { Overflow::DropOldest } else { Overflow::DropNewest };
        let limits = QueueLimits { events, bytes: 12, overflow };
        let mut queue = Queue::default();
        let (mut sent, mut missed) = (Vec::new(), 0);
        for (offset, (len, written)) in steps.iter().enumerate() {
            push(&mut queue, offset as i64, *len, &limits);
            prop_assert!(queue.events() <= events && (queue.event_bytes() <= 12 || queue.events() == 1));
            queue.settle_gaps(8, |gap| { missed += gap.missed.unwrap_or(0); "gap".into() });
            let ready = bytes(&queue).len().min(*written);
            queue.advance(ready, |event, _| sent.push(event.id.offset));
        }
        let (rest, reported) = write_all(&mut queue, 3);
        sent.extend(rest);
        prop_assert!(sent.is_sorted());
        prop_assert_eq!(sent.len() as u64 + missed + reported, steps.len() as u64);
    }
}
