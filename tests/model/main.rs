//! Explores interleavings of threads with loom, up to [`PREEMPTIONS_MAX`] preemptions.
//!
//! First, sessions that request chunks of the log and the thread that reads them: no session waits for a chunk that is
//! available, and a chunk that several sessions request is read once. Second, a source that feeds two writers, one of
//! which takes nothing: the source is not blocked, the other writer receives everything, and the first one's losses
//! become gaps.
//!
//! loom compiles the product's own files with its locks in place of the standard library's, and reports a thread that
//! waits for ever as a deadlock. There is no broker and no time; other tests cover them.
#![allow(dead_code, unused_imports)] // The model uses a part of the files, without their tests.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../src/kafka/history/cache.rs"]
mod cache;
#[path = "../../src/writer/inbox.rs"]
mod inbox;
#[path = "../../src/kafka/history/requests.rs"]
mod requests;
#[path = "../../src/kafka/history/store.rs"]
mod store;
#[path = "../../src/kafka/history/times.rs"]
mod times;
#[path = "../../src/kafka/history/wakeup.rs"]
mod wakeup;
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

use self::event::{Entry, Event, EventId, Feed, Frames};
use self::hub::{Asker, Lookup, Page};
use self::inbox::{Amount, Inboxes, Next};
use self::requests::{TopicPartition, Wanted};
use self::store::ChunkStore;
use self::wakeup::Wakeup;

const PARTITION: TopicPartition = TopicPartition { topic: 0, partition: 0 };
const CACHE_BYTES: usize = 1 << 20;
/// The most preemptions of a thread that could continue; all interleavings with this many are explored. Bugs between
/// threads rarely need more than two, and without a bound the exploration takes hours.
const PREEMPTIONS_MAX: usize = 2;
/// loom's clock does not advance: waits until the notification.
const FOR_EVER: Duration = Duration::MAX;

fn main() {
    // Two offsets in one chunk, and two offsets in two chunks.
    for (offsets, pages) in [([3, 5], 1), ([3, 905], 2)] {
        meet(offsets, pages);
        println!("two ask for {offsets:?}: both get it, in every order");
    }
    starve();
    println!("one writer takes nothing: the source and the other writer go on, in every order");
}

/// Feeds two writers, the second of which takes nothing until the source has finished.
fn starve() {
    const EVENTS: i64 = 3;
    let amount = |feeds| Amount { feeds, entries: usize::MAX, bytes: usize::MAX };
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(move || {
        let inboxes = Arc::new(Inboxes::<()>::new(2, amount(1), amount(2)));
        let woken = Arc::new(Wakeup::default());
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
            woken.wake();
        }
        let all: Vec<_> = (0..EVENTS).map(|offset| (offset, offset)).collect();
        assert_eq!(quick.join().unwrap(), all);
        let slow: Vec<_> = std::iter::from_fn(|| take(&inboxes, 1)).flatten().collect();
        let covered: Vec<_> = slow.iter().flat_map(|(from, to)| *from..=*to).collect();
        assert_eq!(covered, (0..EVENTS).collect::<Vec<_>>());
        assert!(slow[0].0 < slow[0].1, "it lost something");
    });
}

/// The offsets that a writer takes next, lost or not.
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
        is_gap_without_key: false,
        received: Instant::now(),
        received_ms: 0,
        trace: None,
        frames: Frames::default(),
    }
}

/// Two sessions request these offsets while they are read; this many chunks contain them.
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
    store: ChunkStore,
    /// The reader's notification.
    wakeup: Wakeup,
    /// The notification of each session.
    calls: [Wakeup; 2],
    served: AtomicUsize,
    now: Instant,
}

impl Meeting {
    fn new() -> Self {
        Self {
            store: ChunkStore::new(1, CACHE_BYTES),
            wakeup: Wakeup::default(),
            calls: Default::default(),
            served: AtomicUsize::new(0),
            now: Instant::now(),
        }
    }

    /// A session: requests the chunk, and again whenever it is called, until it has the chunk.
    fn ask(&self, session: usize, offset: i64) {
        let (wanted, asker) = (Wanted { offset, until: 1000 }, Asker { writer: 0, session: session as u32 });
        while !matches!(self.store.page(0, PARTITION, wanted, asker, self.now), Lookup::Found(_)) {
            self.wakeup.wake();
            self.calls[session].wait(FOR_EVER);
        }
        self.served.fetch_add(1, Ordering::AcqRel);
        self.wakeup.wake();
    }

    /// The reading thread: publishes requested chunks until both sessions have theirs. Returns the number of chunks
    /// read.
    fn read(&self) -> usize {
        let mut pages = 0;
        while self.served.load(Ordering::Acquire) < self.calls.len() {
            let Some(job) = self.store.job(0, PARTITION, 1) else {
                self.wakeup.wait(FOR_EVER);
                continue;
            };
            pages += 1;
            for asker in self.store.publish(0, PARTITION, page(job.start..job.start + 100), false, self.now) {
                self.calls[asker.session as usize].wake();
            }
        }
        pages
    }
}

fn page(offsets: Range<i64>) -> Page {
    let entries = [].into();
    Page { topic: "a".into(), partition: 0, epoch: 0, offsets, entries, first_ms: None, bytes: 0 }
}
