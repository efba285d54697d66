use proptest::prelude::*;

use super::*;
use crate::event::{EventId, GapCause, GapRange};
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

fn push_it(queue: &mut Queue, event: Arc<Event>, len: usize, limits: &QueueLimits) -> Pushed {
    let encoding = encoding(&event, len);
    queue.push_event(event, encoding, limits)
}

fn push(queue: &mut Queue, offset: i64, len: usize, limits: &QueueLimits) -> Pushed {
    push_it(queue, event("t", 0, offset, &[]), len, limits)
}

/// The bytes of all items, up to a gap that is not encoded.
fn bytes(queue: &Queue) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut parts = Parts::new(&mut buffer);
    queue.write(usize::MAX, &mut parts);
    parts.slices().collect::<Vec<_>>().concat()
}

/// Writes everything, at most `step` bytes at a time. Returns the offsets that arrived, and the number of events
/// reported as missing.
fn write_all(queue: &mut Queue, step: usize) -> (Vec<i64>, u64) {
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

/// An event of the state `key`, or without keys if it is empty.
fn of_state(key: &str, partition: i32, offset: i64) -> Arc<Event> {
    let keys: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("orderId", key)] };
    event("t", partition, offset, keys)
}

fn push_state(queue: &mut Queue, key: &str, offset: i64, limits: &QueueLimits) -> Pushed {
    push_it(queue, of_state(key, 0, offset), 1, limits)
}

/// The queued offsets and gap ranges, in order.
fn shown(queue: &Queue) -> String {
    let show = |item: &Item| match item {
        Item::Event(event, ..) => event.id.offset.to_string(),
        Item::Gap(gap) => format!("({}-{} {})", gap.ranges[0].from, gap.ranges[0].to, gap.missed.unwrap()),
        Item::Control(_) | Item::Raw(_) => "c".into(),
    };
    queue.items.iter().map(show).collect::<Vec<_>>().join(" ")
}

const COALESCE: QueueLimits = QueueLimits { events: 4, bytes: 999, overflow: Overflow::Coalesce };

#[test]
fn beyond_the_limit_the_newest_event_of_each_state_stays() {
    let mut queue = Queue::default();
    for (offset, key) in ["a", "b", "a", "b"].iter().enumerate() {
        assert_eq!(push_state(&mut queue, key, offset as i64, &COALESCE), Pushed::Queued);
    }
    assert_eq!(shown(&queue), "0 1 2 3");
    assert_eq!(push_state(&mut queue, "c", 4, &COALESCE), Pushed::Dropped(2));
    assert_eq!(shown(&queue), "(0-1 2) 2 3 4");
    // Coalescing applies to every event from now on, although one more would fit.
    assert_eq!(push_state(&mut queue, "b", 5, &COALESCE), Pushed::Dropped(1));
    assert_eq!(shown(&queue), "(0-1 2) 2 (3-3 1) 4 5");
    assert_eq!(push_state(&mut queue, "a", 6, &COALESCE), Pushed::Dropped(1));
    assert_eq!(shown(&queue), "(0-3 4) 4 5 6");
    // No event is superseded: the same as `drop-oldest`.
    assert_eq!(push_state(&mut queue, "d", 7, &COALESCE), Pushed::Queued);
    assert_eq!(push_state(&mut queue, "e", 8, &COALESCE), Pushed::Dropped(1));
    assert_eq!(shown(&queue), "(0-4 5) 5 6 7 8");
}

#[test]
fn events_without_keys_have_no_state_and_states_are_per_topic() {
    let mut queue = Queue::default();
    for offset in 0..4 {
        push_state(&mut queue, "", offset, &COALESCE);
    }
    assert_eq!(push_state(&mut queue, "", 4, &COALESCE), Pushed::Dropped(1));
    assert_eq!(shown(&queue), "(0-0 1) 1 2 3 4");
    let mut queue = Queue::default();
    for (n, topic) in ["t", "u", "t", "u"].into_iter().enumerate() {
        let event = event(topic, 0, n as i64, &[("orderId", "a")]);
        push_it(&mut queue, event, 1, &COALESCE);
    }
    push_state(&mut queue, "b", 4, &COALESCE);
    assert_eq!(queue.items.iter().filter(|item| matches!(item, Item::Event(..))).count(), 3);
}

#[test]
fn a_partly_written_event_is_not_superseded() {
    let mut queue = Queue::default();
    for offset in 0..4 {
        push_it(&mut queue, of_state("a", 0, offset), 3, &COALESCE);
    }
    queue.advance(1, |_, _| {});
    push_state(&mut queue, "a", 4, &COALESCE);
    assert_eq!(shown(&queue), "0 (1-3 3) 4");
    assert_eq!(write_all(&mut queue, 2), (vec![0, 4], 3));
    assert!(!queue.is_coalesced);
}

/// Thousands of updates of more states than fit: the queue stays within its limit, gaps included.
#[test]
fn the_queue_of_a_client_that_never_reads_is_bounded() {
    let limits = QueueLimits { events: 100, bytes: 150, overflow: Overflow::Coalesce };
    let mut queue = Queue::default();
    for offset in 0..50_000_i64 {
        let key = (offset * offset % 131).to_string();
        push_state(&mut queue, &key, offset, &limits);
        assert!(queue.events() <= 100 && queue.event_bytes() <= 150);
        assert!(queue.items.len() <= 2 * limits.events + 1, "{} items", queue.items.len());
    }
    assert!(queue.items.capacity() <= 1024 && size_of::<Item>() <= 24);
    let (sent, missed) = write_all(&mut queue, 1000);
    assert_eq!(sent.len() as u64 + missed, 50_000);
}

/// A client of states: the state from the received events, and the events reported as missing.
#[derive(Default)]
struct StateClient {
    has: std::collections::BTreeMap<String, EventId>,
    got: Vec<EventId>,
    reported: Vec<EventId>,
    missed: u64,
}

impl StateClient {
    fn read(&mut self, queue: &mut Queue, most: usize) {
        queue.settle_gaps(8, |gap| {
            self.missed += gap.missed.unwrap();
            for range in &gap.ranges {
                let GapRange { topic, partition, from, to } = range;
                let id = |offset| EventId { topic: topic.clone(), partition: *partition, offset };
                self.reported.extend((*from..=*to).map(id));
            }
            "gap".into()
        });
        let ready = bytes(queue).len().min(most);
        queue.advance(ready, |event, _| {
            self.got.push(event.id.clone());
            if let Some(key) = event.key("orderId") {
                self.has.insert(key.to_owned(), event.id.clone());
            }
        });
    }
}

proptest! {
    /// For any sequence of reads and events: the client ends with the newest event of every state, or knows that it is
    /// missing, which happens only if there are more states than fit. No event is repeated, out of order, or both sent
    /// and reported as missing.
    #[test]
    fn a_coalesced_client_has_the_newest_of_every_state(
        steps in prop::collection::vec((0..7usize, 0..2i32, 1..6usize, 0..4usize), 1..25),
        states in 1..8usize,
        events in 2..10usize,
        bytes in prop::option::of(6..30usize),
    ) {
        let limits = QueueLimits { events, bytes: bytes.unwrap_or(usize::MAX), overflow: Overflow::Coalesce };
        let (mut queue, mut client) = (Queue::default(), StateClient::default());
        let mut newest = std::collections::BTreeMap::new();
        let mut offsets = [0; 2];
        for (key, partition, len, read) in &steps {
            // The last key represents events without keys.
            let key = ["a", "b", "c", "d", "e", "f", ""][*key % states];
            let offset = offsets[*partition as usize];
            offsets[*partition as usize] += 1;
            let event = of_state(key, *partition, offset);
            if !key.is_empty() {
                newest.insert(key.to_owned(), event.id.clone());
            }
            push_it(&mut queue, event, *len, &limits);
            prop_assert!(queue.events() <= events && (queue.event_bytes() <= limits.bytes || queue.events() == 1));
            client.read(&mut queue, *read);
        }
        while !queue.is_empty() {
            client.read(&mut queue, 3);
        }
        prop_assert_eq!(client.got.len() as u64 + client.missed, steps.len() as u64);
        for partition in 0..2 {
            let of = |ids: &[EventId]| ids.iter().filter(|id| id.partition == partition).map(|id| id.offset).collect::<Vec<_>>();
            let (got, reported) = (of(&client.got), of(&client.reported));
            prop_assert!(got.is_sorted());
            let all: std::collections::BTreeSet<_> = got.iter().chain(&reported).collect();
            prop_assert_eq!(all.len(), got.len() + reported.len());
        }
        let has_keyless = states == 7;
        for (key, id) in newest {
            let has = client.has.get(&key) == Some(&id);
            let fits = events > states && bytes.is_none() && !has_keyless;
            prop_assert!(has || (!fits && client.reported.contains(&id)), "{key}: {id:?}");
        }
    }
}
