//! Those who ask for pages of the log and the thread that reads them, in every order in which their steps can come (with
//! [`PREEMPTIONS_MAX`]): nobody who asked waits for a page that is there, and what several ask for is read once. And a
//! source that feeds two writers, one of which takes nothing: it gets through, the other writer gets everything, and what
//! the first one loses becomes a gap.
//!
//! loom runs the files of the product themselves, with its own locks in place of the standard library's. Whoever waits
//! for ever in one of the orders is a deadlock that it reports. No broker here, and no time: those have tests of their
//! own.
#![allow(dead_code, unused_imports)] // The model uses a part of the files, without their tests.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../src/kafka/history/bell.rs"]
mod bell;
#[path = "../../src/kafka/history/cache.rs"]
mod cache;
#[path = "../../src/kafka/history/desk.rs"]
mod desk;
#[path = "../../src/writer/inbox.rs"]
mod inbox;
#[path = "../../src/kafka/history/requests.rs"]
mod requests;
#[path = "../../src/kafka/history/times.rs"]
mod times;
mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use std::ops::Range;
use std::sync::Arc as Arc2;
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use sidestream::{event, hub};

use self::bell::Bell;
use self::desk::Desk;
use self::event::{Entry, Event, EventId, Feed, Frames};
use self::hub::{Asker, Lookup, Page};
use self::inbox::{Amount, Inboxes, Next};
use self::requests::{TopicPartition, Wanted};

const PARTITION: TopicPartition = TopicPartition { topic: 0, partition: 0 };
const CACHE_BYTES: usize = 1 << 20;
/// How often a thread is interrupted where it could go on: all orders with so many. What goes wrong between threads needs
/// two or fewer as a rule, and all orders without such a bound take hours.
const PREEMPTIONS_MAX: usize = 2;
/// loom's clock stands still: this is until the bell rings.
const FOR_EVER: Duration = Duration::MAX;

fn main() {
    // Two in one page, and two in two.
    for (offsets, pages) in [([3, 5], 1), ([3, 905], 2)] {
        meet(offsets, pages);
        println!("two ask for {offsets:?}: both get it, in every order");
    }
    starve();
    println!("one writer takes nothing: the source and the other writer go on, in every order");
}

/// Feeds two writers, the second of which takes nothing until the source is through.
fn starve() {
    const EVENTS: i64 = 3;
    let amount = |feeds| Amount { feeds, entries: usize::MAX, bytes: usize::MAX };
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(move || {
        let inboxes = Arc::new(Inboxes::<()>::new(2, amount(1), amount(2)));
        let woken = Arc::new(Bell::default());
        let quick = {
            let (inboxes, woken) = (inboxes.clone(), woken.clone());
            thread::spawn(move || {
                let mut got = Vec::new();
                while got.len() < EVENTS as usize {
                    match take(&inboxes, 0) {
                        Some(ranges) => got.extend(ranges),
                        None => woken.wait(FOR_EVER),
                    }
                }
                got
            })
        };
        for offset in 0..EVENTS {
            inboxes.feed(&Feed::Batch([Entry::Event(Arc2::new(event(offset)))].into()));
            woken.ring();
        }
        let all: Vec<_> = (0..EVENTS).map(|offset| (offset, offset)).collect();
        assert_eq!(quick.join().unwrap(), all);
        let slow: Vec<_> = std::iter::from_fn(|| take(&inboxes, 1)).flatten().collect();
        let covered: Vec<_> = slow.iter().flat_map(|(from, to)| *from..=*to).collect();
        assert_eq!(covered, (0..EVENTS).collect::<Vec<_>>());
        assert!(slow[0].0 < slow[0].1, "it lost something");
    });
}

/// The offsets of what a writer takes next, lost or not.
fn take(inboxes: &Inboxes<()>, writer: usize) -> Option<Vec<(i64, i64)>> {
    let Next::Feed(Feed::Batch(entries)) = inboxes.next(writer)? else { return None };
    let offsets = |entry: &Entry| match entry {
        Entry::Event(event) => (event.id.offset, event.id.offset),
        Entry::Gap { range, .. } => (range.from, range.to),
        Entry::Hole { end, .. } => (*end, *end),
    };
    Some(entries.iter().map(offsets).collect())
}

fn event(offset: i64) -> Event {
    Event {
        id: EventId { topic: "a".into(), partition: 0, offset },
        next: offset + 1,
        ts: 0,
        kind: "t".into(),
        keys: [].into(),
        envelope: "{}".into(),
        payload: 0..2,
        is_base64: false,
        received: Instant::now(),
        trace: None,
        frames: Frames::default(),
    }
}

/// Two sessions ask for these offsets while they are read; so many pages hold them.
fn meet(offsets: [i64; 2], pages: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(move || {
        let place = Arc::new(Meeting::new());
        let askers = [0, 1].map(|session| {
            let (place, offset) = (place.clone(), offsets[session]);
            thread::spawn(move || place.ask(session, offset))
        });
        assert_eq!(place.read(), pages);
        askers.into_iter().for_each(|asker| asker.join().unwrap());
    });
}

struct Meeting {
    desk: Desk,
    /// The reader's.
    bell: Bell,
    /// Each session's: it is called.
    calls: [Bell; 2],
    served: AtomicUsize,
    now: Instant,
}

impl Meeting {
    fn new() -> Self {
        Self {
            desk: Desk::new(1, CACHE_BYTES),
            bell: Bell::default(),
            calls: Default::default(),
            served: AtomicUsize::new(0),
            now: Instant::now(),
        }
    }

    /// A session: asks, and asks again whenever it is called, until it has the page.
    fn ask(&self, session: usize, offset: i64) {
        let (wanted, asker) = (Wanted { offset, until: 1000 }, Asker { writer: 0, session: session as u32 });
        while !matches!(self.desk.page(0, PARTITION, wanted, asker, self.now), Lookup::Found(_)) {
            self.bell.ring();
            self.calls[session].wait(FOR_EVER);
        }
        self.served.fetch_add(1, Ordering::AcqRel);
        self.bell.ring();
    }

    /// The thread that reads: publishes what is asked for until both have it. How many pages it read.
    fn read(&self) -> usize {
        let mut pages = 0;
        while self.served.load(Ordering::Acquire) < self.calls.len() {
            let Some(job) = self.desk.job(0, PARTITION, 1) else {
                self.bell.wait(FOR_EVER);
                continue;
            };
            pages += 1;
            for asker in self.desk.publish(0, PARTITION, page(job.start..job.start + 100), false, self.now) {
                self.calls[asker.session as usize].ring();
            }
        }
        pages
    }
}

fn page(offsets: Range<i64>) -> Page {
    let entries = [].into();
    Page { topic: "a".into(), partition: 0, epoch: 0, offsets, entries, first_ms: None, bytes: 0 }
}
