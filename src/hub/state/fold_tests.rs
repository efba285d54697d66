//! The state at any position equals a naive fold of the log up to there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::event::{Assigned, Entry, EventId, GapCause, GapRange};
use crate::testing;

/// What happens to a topic.
#[derive(Clone, Copy, Debug)]
enum Op {
    Set(u8),
    Delete(u8),
    /// Offsets that contain no records: transaction markers, records of aborted transactions, compacted records.
    Hole(u8),
    Undecodable(u8),
    AddPartition,
    Recreate,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..8u8).prop_map(Op::Set),
        4 => (0..8u8).prop_map(Op::Delete),
        2 => (0..8u8).prop_map(Op::Hole),
        1 => (0..8u8).prop_map(Op::Undecodable),
        1 => Just(Op::AddPartition),
        1 => Just(Op::Recreate),
    ]
}

/// A topic, and the naive fold of its log.
#[derive(Default)]
struct Model {
    epoch: u32,
    next: Vec<i64>,
    state: BTreeMap<String, EventId>,
    unreadable: u64,
    time: i64,
}

impl Model {
    fn new() -> Self {
        Self { epoch: 1, next: vec![0, 0], ..Self::default() }
    }

    /// Writes to the log. Returns the entry.
    fn write(&mut self, op: Op) -> Option<Entry> {
        self.time += 1;
        let (Op::Set(n) | Op::Delete(n) | Op::Hole(n) | Op::Undecodable(n)) = op else {
            match op {
                Op::AddPartition => self.next.push(0),
                // The new topic has as many partitions.
                _ => {
                    *self = Self {
                        epoch: self.epoch + 1,
                        next: vec![0; self.next.len()],
                        time: self.time,
                        ..Self::default()
                    }
                }
            }
            return None;
        };
        let (key, partition) = (format!("k{n}"), usize::from(n) % self.next.len());
        let offset = self.next[partition];
        let topic: Topic = "t".into();
        self.next[partition] += 1;
        let mut event = Arc::into_inner(testing::event("t", partition as i32, offset, &[("k", &key)])).unwrap();
        event.ts = self.time;
        match op {
            Op::Delete(_) => {
                event.kind = "delete".into();
                self.state.remove(&key);
            }
            Op::Set(_) => drop(self.state.insert(key, event.id.clone())),
            Op::Hole(_) => {
                self.next[partition] += 2;
                return Some(Entry::Hole { topic, partition: partition as i32, end: offset + 3 });
            }
            _ => {
                self.unreadable += 1;
                let range = GapRange { topic, partition: partition as i32, from: offset, to: offset };
                return Some(Entry::Gap { cause: GapCause::Undecodable, range });
            }
        }
        Some(Entry::Event(Arc::new(event)))
    }

    fn seen(&self) -> (BTreeMap<String, EventId>, Vec<i64>, u32, u64) {
        (self.state.clone(), self.next.clone(), self.epoch, self.unreadable)
    }
}

fn seen(cut: &Cut) -> (BTreeMap<String, EventId>, Vec<i64>, u32, u64) {
    let state = cut.after(None, None).map(|(key, event)| (key.to_string(), event.id.clone())).collect();
    (state, cut.position.next.clone(), cut.position.epoch, cut.unreadable)
}

fn table(bytes: usize) -> Table {
    Table::new(TableConfig { topic: "t".into(), key: "k".into(), deletes: ["delete".into()].into(), bytes })
}

fn live() -> Feed {
    Feed::Live { topics: ["t".into()].into() }
}

fn assigned(model: &Model) -> Feed {
    Feed::Assigned(Assigned::new("t", model.epoch, model.next.clone()))
}

proptest! {
    #[test]
    fn a_cut_is_the_naive_fold_of_the_log_up_to_its_position(
        before in proptest::collection::vec(op(), 0..60),
        after in proptest::collection::vec(op(), 0..60),
        is_reversed: bool,
    ) {
        let (table, mut model, mut now) = (table(1 << 20), Model::new(), Instant::now());
        // The log as it is when reading begins.
        let mut log = Vec::new();
        for op in before {
            match model.write(op) {
                Some(entry) => log.push(entry),
                None if matches!(op, Op::Recreate) => log.clear(),
                None => {}
            }
        }
        // Partitions are read one after the other.
        let partition = |entry: &Entry| place_of(entry);
        log.sort_by_key(|entry| if is_reversed { -partition(entry) } else { partition(entry) });
        let start = Assigned::new("t", model.epoch, vec![0; model.next.len()]);
        table.feed(&Feed::Assigned(start), now);
        for entry in log {
            table.feed(&Feed::Batch([entry].into()), now);
            prop_assert_eq!(table.cut(now).err(), Some(NoState::NotRead));
        }
        table.feed(&assigned(&model), now);
        table.feed(&live(), now);
        let mut cuts = Vec::new();
        for op in after {
            now += CUT_SHARED;
            let cut = table.cut(now).unwrap();
            prop_assert_eq!(seen(&cut), model.seen());
            cuts.push((cut, model.seen()));
            match model.write(op) {
                Some(entry) => table.feed(&Feed::Batch([entry].into()), now),
                None => {
                    table.feed(&assigned(&model), now);
                    table.feed(&live(), now);
                }
            }
        }
        for (cut, expected) in cuts {
            prop_assert_eq!(seen(&cut), expected);
        }
    }
}

fn place_of(entry: &Entry) -> i32 {
    crate::hub::entry::place(entry).1
}

fn set(model: &mut Model, table: &Table, n: u8, now: Instant) {
    let entry = model.write(Op::Set(n)).unwrap();
    table.feed(&Feed::Batch([entry].into()), now);
}

fn ready(bytes: usize) -> (Table, Model, Instant) {
    let (table, model, now) = (table(bytes), Model::new(), Instant::now());
    table.feed(&assigned(&model), now);
    table.feed(&live(), now);
    (table, model, now)
}

#[test]
fn clients_of_one_moment_share_a_cut_and_it_stays_kept() {
    let (table, mut model, now) = ready(1 << 20);
    let first = table.cut(now).unwrap();
    set(&mut model, &table, 1, now);
    assert!(Arc::ptr_eq(&first, &table.cut(now).unwrap()), "a moment later");
    let second = table.cut(now + CUT_SHARED).unwrap();
    assert_eq!((first.len(), second.len()), (0, 1));
    assert!(Arc::ptr_eq(&second, &table.cut(now + CUT_TIME_MAX / 2).unwrap()), "nothing came since");
    assert!(Arc::ptr_eq(&first, &table.kept(&first.position).unwrap()));
    table.feed(&live(), now + CUT_TIME_MAX);
    assert!(table.kept(&first.position).is_none(), "it is too old");
    assert!(table.kept(&second.position).is_some());
}

#[test]
fn a_cut_is_dropped_once_it_keeps_too_much_that_was_replaced() {
    let (table, mut model, now) = ready(16 << 10);
    set(&mut model, &table, 1, now);
    let cut = Arc::downgrade(&table.cut(now).unwrap());
    for _ in 0..4 {
        set(&mut model, &table, 1, now);
    }
    assert_eq!(cut.upgrade().map(|cut| cut.len()), Some(1));
    for _ in 0..8 {
        set(&mut model, &table, 1, now);
    }
    assert!(cut.upgrade().is_none());
    assert_eq!(table.cut(now).unwrap().len(), 1, "the state itself is small");
}

#[test]
fn beyond_its_limit_a_table_refuses_and_recovers_when_the_log_is_read_again() {
    let (table, mut model, now) = ready(3 << 10);
    (0..8).for_each(|n| set(&mut model, &table, n, now));
    assert_eq!(table.cut(now).err(), Some(NoState::TooLarge));
    assert_eq!((table.size().keys, table.size().bytes), (0, 0), "its memory is released");
    model.write(Op::Recreate);
    table.feed(&assigned(&model), now);
    assert_eq!(table.cut(now).err(), Some(NoState::NotRead));
    table.feed(&live(), now);
    set(&mut model, &table, 1, now);
    assert_eq!(seen(&table.cut(now + Duration::from_secs(9)).unwrap()), model.seen());
}

#[test]
fn a_log_that_is_read_again_is_folded_from_its_start() {
    let (table, mut model, now) = ready(1 << 20);
    (0..4).for_each(|n| set(&mut model, &table, n, now));
    let same_epoch = Assigned::new("t", model.epoch, vec![0, 0]);
    table.feed(&Feed::Assigned(same_epoch), now);
    assert_eq!(table.cut(now).err(), Some(NoState::NotRead));
    table.feed(&live(), now);
    assert!(table.cut(now + CUT_SHARED).unwrap().is_empty());
}

#[test]
fn a_key_that_no_cursor_can_name_is_counted() {
    let (table, _, now) = ready(1 << 20);
    let key = "x".repeat(KEY_BYTES_MAX + 1);
    table.feed(&Feed::Batch([Entry::Event(testing::event("t", 0, 0, &[("k", &key)]))].into()), now);
    let cut = table.cut(now).unwrap();
    assert_eq!((cut.len(), cut.unreadable), (0, 1));
}
