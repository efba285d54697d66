//! Sessions and a reader that meet at the store.

use super::*;

const P0: TopicPartition = TopicPartition { topic: 0, partition: 0 };
const SMALL: usize = 100;

fn asker(session: u32) -> Asker {
    Asker { writer: 0, session }
}

fn page(offsets: Range<i64>) -> Page {
    Page { topic: "a".into(), partition: 0, epoch: 0, offsets, entries: [].into(), first_ms: None, bytes: 0 }
}

fn store() -> (ChunkStore, Instant) {
    (ChunkStore::new(1, 1 << 20), Instant::now())
}

fn ask(store: &ChunkStore, offset: i64, until: i64, now: Instant) -> Lookup<Arc<Page>> {
    store.page(0, P0, Wanted { offset, until }, asker(0), now)
}

#[test]
fn a_requested_page_is_found_once_it_is_published() {
    let (store, now) = store();
    assert!(matches!(ask(&store, 200, 1000, now), Lookup::Asked));
    assert_eq!(store.job(0, P0, SMALL), Some(Job { wanted: 200, start: 128, stop: 1000, until: 1000 }));
    assert_eq!(store.publish(0, P0, page(128..640), false, now), [asker(0)]);
    assert!(matches!(ask(&store, 200, 1000, now), Lookup::Found(found) if found.offsets == (128..640)));
    assert!(store.is_empty(0));
}

#[test]
fn a_page_fills_the_hole_between_others() {
    let (store, now) = store();
    store.publish(0, P0, page(100..150), false, now);
    store.publish(0, P0, page(300..400), false, now);
    assert!(matches!(ask(&store, 200, 1000, now), Lookup::Asked));
    assert_eq!(store.job(0, P0, SMALL), Some(Job { wanted: 200, start: 150, stop: 300, until: 1000 }));
    assert_eq!(store.job_at(0, P0, 150, false), Some(Job { wanted: 200, start: 150, stop: 300, until: 1000 }));
    assert_eq!(store.job_at(0, P0, 140, false), None, "who stands before the other page would read that again");
}

#[test]
fn a_tired_reader_yields_to_older_requests() {
    let (store, now) = store();
    assert!(matches!(ask(&store, 9000, 9999, now), Lookup::Asked));
    assert!(matches!(ask(&store, 512, 9999, now), Lookup::Asked));
    let on = Some(Job { wanted: 512, start: 512, stop: 9999, until: 9999 });
    assert_eq!([false, true].map(|tired| store.job_at(0, P0, 512, tired)), [on, None]);
    store.publish(0, P0, page(9000..9999), false, now);
    assert_eq!(store.job_at(0, P0, 512, true).map(|job| job.wanted), Some(512), "nothing else is wanted");
}

#[test]
fn pages_of_large_records_begin_at_the_requested_offset() {
    let starts = [1, 512, 1000, 20_000, 10_000_000].map(|bytes| aligned(1_023, bytes));
    assert_eq!(starts, [896, 896, 960, 1_022, 1_023]);
}

#[test]
fn a_truncated_log_is_read_again() {
    let (store, now) = store();
    store.publish(0, P0, page(10..20), true, now);
    assert!(matches!(ask(&store, 15, 20, now), Lookup::Found(_)));
    assert!(matches!(ask(&store, 15, 20, now + TRUNCATED_KEPT), Lookup::Asked));
}

#[test]
fn all_waiting_sessions_are_called_after_an_outage() {
    let (store, now) = store();
    store.down(0);
    assert!(matches!(ask(&store, 15, 20, now), Lookup::Down));
    assert!(matches!(store.offsets_at(0, (0, 5), asker(1), now), Lookup::Down));
    assert_eq!(store.up(0, now), [asker(0), asker(1)]);
    assert!(store.up(0, now).is_empty());
    assert!(matches!(ask(&store, 15, 20, now), Lookup::Asked));
}

#[test]
fn a_partition_that_does_not_respond_does_not_affect_others() {
    let (store, now) = store();
    let other = TopicPartition { partition: 1, ..P0 };
    store.partition_is_down(0, P0, true);
    assert!(matches!(ask(&store, 15, 20, now), Lookup::Down));
    assert!(matches!(store.page(0, other, Wanted { offset: 0, until: 1 }, asker(0), now), Lookup::Asked));
    store.partition_is_down(0, P0, false);
    assert!(matches!(ask(&store, 15, 20, now), Lookup::Asked));
}

#[test]
fn pages_of_a_deleted_topic_are_dropped() {
    let (store, now) = store();
    store.topic_is(0, 0, 0);
    store.publish(0, P0, page(0..10), false, now);
    store.topic_is(0, 0, 0);
    assert!(matches!(ask(&store, 5, 20, now), Lookup::Found(_)));
    store.topic_is(0, 0, 7);
    assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
    assert!(store.publish(0, P0, page(0..10), false, now).is_empty(), "it was read before");
    assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
    assert_eq!(store.publish(0, P0, Page { epoch: 7, ..page(0..10) }, false, now), [asker(0)]);
    assert!(matches!(ask(&store, 5, 20, now), Lookup::Found(_)));
}

#[test]
fn a_changed_log_is_reported_to_the_reader_once() {
    let (store, now) = store();
    store.topic_is(0, 0, 7);
    assert!(!store.is_outdated(0), "it was not known before");
    store.topic_is(0, 0, 8);
    store.publish(0, P0, Page { epoch: 8, ..page(0..10) }, false, now);
    store.is_cut(0, 0);
    assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
    // Read before the reader was notified.
    store.publish(0, P0, Page { epoch: 8, ..page(0..10) }, false, now);
    assert!(store.is_outdated(0));
    assert_eq!(store.take_outdated(0), BTreeSet::from([0]));
    assert!(matches!(ask(&store, 5, 20, now), Lookup::Asked));
    assert!(!store.is_outdated(0));
}

#[test]
fn clusters_have_requests_of_their_own() {
    let (store, now) = (ChunkStore::new(2, 1 << 20), Instant::now());
    assert!(matches!(store.page(1, P0, Wanted { offset: 5, until: 9 }, asker(0), now), Lookup::Asked));
    assert!(store.oldest(0, 9, |_| false).is_empty() && store.is_empty(0));
    assert_eq!(store.oldest(1, 9, |_| false), [P0]);
}
