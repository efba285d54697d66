use proptest::prelude::*;

use super::super::tests::{bytes, push_it, write_all};
use super::super::{Pushed, Queue};
use super::*;
use crate::event::{EventId, GapRange};
use crate::route::Overflow;
use crate::testing::event;

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
