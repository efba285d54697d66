//! Chunks of a log that a real client reads from a mock broker in this process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::channel;
use std::time::Duration;

use rdkafka::message::ToBytes;
use rdkafka::producer::{BaseRecord, Producer};

use super::*;
use crate::config::snapshot::TopicConfig;
use crate::event::{Entry, EventId};
use crate::ingest::Chunks as _;
use crate::kafka::embedded::{Embedded, PROPERTIES};
use crate::kafka::tests::{SMALL_RESPONSES, produce_batch};

/// Never reached, but ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const WRITERS: u32 = 2;

/// A broker, and sessions that the test simulates.
struct Bench {
    broker: Embedded,
    metrics: Arc<Metrics>,
    history: KafkaHistory,
    calls: Receiver<(u32, Vec<u32>)>,
}

impl Bench {
    fn new(topics: &[(&str, i32)]) -> Self {
        Self::with_cache(topics, 32 << 20)
    }

    fn with_cache(topics: &[(&str, i32)], cache_bytes: usize) -> Self {
        Self::with(topics, cache_bytes, &[])
    }

    /// With these additional properties of the reading client.
    fn with(topics: &[(&str, i32)], cache_bytes: usize, properties: &[(&str, &str)]) -> Self {
        let broker = Embedded::start(topics).unwrap();
        let config = Kafka {
            cluster: "kafka".into(),
            brokers: broker.bootstrap_servers().unwrap(),
            property_files: Vec::new(),
            properties: PROPERTIES
                .iter()
                .chain(properties)
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            topics: topics.iter().map(|(name, _)| TopicConfig::new((*name).into(), [])).collect(),
            warm_up: PATIENCE,
            required_for_readiness: false,
            finds_times: true,
        };
        let metrics = Arc::new(Metrics::new("test").unwrap());
        let (sender, calls) = channel();
        // The channel is closed when the test has seen enough.
        let call: Call = Arc::new(move |writer, sessions| sender.send((writer, sessions)).unwrap_or_default());
        let limits = ReplayLimits { events: 1, bytes: 1, time: PATIENCE };
        let history = KafkaHistory::start([&config], &ReplayLog { limits, cache_bytes }, &metrics, &call).unwrap();
        Self { broker, metrics, history, calls }
    }

    /// Produces to a partition, and waits for all acknowledgements.
    fn produce<P: ToBytes + ?Sized>(&self, topic: &str, partition: i32, count: usize, payload: &P) {
        for _ in 0..count {
            let record = BaseRecord::to(topic).partition(partition).timestamp(7).key("").payload(payload);
            self.broker.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.broker.producer.flush(PATIENCE).unwrap();
    }

    /// Replays from an offset to another, as one session.
    fn replay(&self, topic: &str, partition: i32, from: i64, until: i64) -> Replay {
        let mut replays = self.replay_all([Replay::new(topic, partition, from, until)]);
        replays.pop().unwrap()
    }

    /// Replays concurrently as the sessions 0, 1, ..., which belong to the writers in turn.
    fn replay_all(&self, replays: impl IntoIterator<Item = Replay>) -> Vec<Replay> {
        let mut replays: Vec<_> = replays.into_iter().collect();
        let mut called: VecDeque<usize> = (0..replays.len()).collect();
        let deadline = Instant::now() + PATIENCE;
        while replays.iter().any(|replay| !replay.is_at_its_end()) {
            while let Some(index) = called.pop_front() {
                replays[index].go(&self.history, asker(index));
            }
            if replays.iter().all(Replay::is_at_its_end) {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let (writer, sessions) = self.calls.recv_timeout(left).expect("everybody who asked is called");
            assert!(sessions.is_sorted_by(|a, b| a < b), "each once: {sessions:?}");
            assert!(sessions.iter().all(|session| session % WRITERS == writer));
            // Other sessions may wait for something else.
            called.extend(sessions.iter().map(|session| *session as usize).filter(|index| *index < replays.len()));
        }
        replays
    }

    fn records_read(&self, topic: &str) -> u64 {
        self.metrics.replay_records.with_label_values(&[topic]).get()
    }

    fn pages(&self, from: &str) -> u64 {
        self.metrics.replay_pages.with_label_values(&[from]).get()
    }
}

/// Sessions are numbered across all writers here.
fn asker(index: usize) -> Asker {
    let session = u32::try_from(index).unwrap();
    Asker { writer: session % WRITERS, session }
}

/// The replay of a session.
struct Replay {
    place: Place,
    pages: Vec<Arc<Page>>,
    was_down: bool,
}

impl Replay {
    fn new(topic: &str, partition: i32, from: i64, until: i64) -> Self {
        let place = Place { topic: topic.into(), partition, epoch: 0, offset: from, until };
        Self { place, pages: Vec::new(), was_down: false }
    }

    fn is_at_its_end(&self) -> bool {
        self.place.offset >= self.place.until
    }

    /// Advances as far as chunks are available.
    fn go(&mut self, history: &KafkaHistory, asker: Asker) {
        while !self.is_at_its_end() {
            match history.page(&self.place, asker) {
                Lookup::Found(page) => {
                    assert!(
                        page.offsets.contains(&self.place.offset),
                        "{:?} holds {}",
                        page.offsets,
                        self.place.offset
                    );
                    assert_eq!((&page.topic, page.partition), (&self.place.topic, self.place.partition));
                    self.place.offset = page.offsets.end;
                    self.pages.push(page);
                }
                Lookup::Down => return self.was_down = true,
                Lookup::Asked => return,
                Lookup::Busy => panic!("busy"),
            }
        }
    }

    /// The places of the received entries from an offset on; for a gap, with its cause.
    fn seen(&self, from: i64) -> Vec<String> {
        let entries = self.pages.iter().flat_map(|page| &page.entries);
        let places = entries.filter_map(|entry| match entry {
            Entry::Event(event) => (event.id.offset >= from).then(|| event.id.to_string()),
            Entry::Hole { .. } => panic!("a page has no holes"),
            Entry::Gap { cause, range } => {
                (range.to >= from).then(|| format!("{} {}-{}", cause.as_str(), range.from, range.to))
            }
        });
        places.collect()
    }
}

/// The ids of the records at these offsets.
fn ids(topic: &str, partition: i32, offsets: std::ops::Range<i64>) -> Vec<String> {
    offsets.map(|offset| EventId { topic: topic.into(), partition, offset }.to_string()).collect()
}

#[test]
fn a_range_of_the_log_is_read_page_by_page_and_exactly() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 2000, r#"{"type":"paid","data":1}"#);
    let replay = bench.replay("orders", 0, 300, 1900);
    assert_eq!(replay.seen(300), ids("orders", 0, 300..1900));
    let offsets: Vec<_> = replay.pages.iter().map(|page| page.offsets.clone()).collect();
    assert_eq!(offsets, [300..812, 812..1324, 1324..1836, 1836..1900]);
    let page = &replay.pages[0];
    assert_eq!((page.first_ms, page.epoch), (Some(7), 0));
    let Entry::Event(event) = &page.entries[0] else { panic!("no event") };
    assert_eq!(&*event.envelope, br#"{"id":"orders:0:300","ts":7,"type":"paid","data":1}"#);
    assert_eq!(bench.metrics.records.with_label_values(&["orders"]).get(), 0, "those are the live ones");
}

#[test]
fn many_sessions_share_one_reading_of_the_log() {
    const RECORDS: i64 = 5000;
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, RECORDS as usize, "{}");
    // Some start at the beginning and others later, out of step.
    let starts: Vec<i64> = (0..200).map(|n| (n % 10) * 97).collect();
    let replays = bench.replay_all(starts.iter().map(|start| Replay::new("orders", 0, *start, RECORDS)));
    let wanted = ids("orders", 0, 0..RECORDS);
    for (replay, start) in replays.iter().zip(starts) {
        assert_eq!(replay.seen(start), wanted[start as usize..]);
    }
    assert_eq!(bench.records_read("orders"), RECORDS as u64);
    assert!(bench.pages("cache") >= 200 * bench.pages("log") - 1000, "{} pages", bench.pages("cache"));
    let pages = bench.pages("log");
    // A later session finds everything in the cache.
    assert_eq!(bench.replay("orders", 0, 0, RECORDS).seen(0), wanted);
    assert_eq!((bench.records_read("orders"), bench.pages("log")), (RECORDS as u64, pages));
}

#[test]
fn partitions_and_topics_are_read_at_the_same_time() {
    let bench = Bench::new(&[("orders", 12), ("notes", 2)]);
    let all = (0..12).map(|partition| ("orders", partition)).chain([("notes", 0), ("notes", 1)]);
    let all: Vec<_> = all.collect();
    all.iter().for_each(|(topic, partition)| bench.produce(topic, *partition, 700, "{}"));
    let replays = bench.replay_all(all.iter().map(|(topic, partition)| Replay::new(topic, *partition, 0, 700)));
    for ((topic, partition), replay) in all.iter().zip(replays) {
        assert_eq!(replay.seen(0), ids(topic, *partition, 0..700));
    }
    assert_eq!(bench.records_read("orders"), 12 * 700);
}

#[test]
fn two_readers_at_distant_offsets_of_a_partition_both_finish() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 6000, "{}");
    let replays = bench.replay_all([Replay::new("orders", 0, 0, 2000), Replay::new("orders", 0, 4000, 6000)]);
    assert_eq!(replays[0].seen(0), ids("orders", 0, 0..2000));
    assert_eq!(replays[1].seen(4000), ids("orders", 0, 4000..6000));
}

#[test]
fn undecodable_records_are_gaps_and_not_counted_again() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 1, "{}");
    bench.produce("orders", 0, 1, "garbage");
    bench.produce("orders", 0, 1, "{}");
    assert_eq!(bench.replay("orders", 0, 0, 3).seen(0), ["orders:0:0", "undecodable 1-1", "orders:0:2"]);
    assert_eq!(bench.metrics.undecodable.with_label_values(&["orders"]).get(), 0);
}

#[test]
fn deleted_records_are_a_gap_at_the_start() {
    let bench = Bench::new(&[("orders", 1)]);
    // The broker keeps 5 MiB.
    let large = format!("\"{}\"", "x".repeat(100_000));
    bench.produce("orders", 0, 100, &large);
    let replay = bench.replay("orders", 0, 3, 100);
    let first = &replay.pages[0];
    let Entry::Gap { cause, range } = &first.entries[0] else { panic!("{:?}", first.entries[0]) };
    assert_eq!((cause.as_str(), range.from, first.offsets.start), ("retention", 3, 3));
    assert!((40..60).contains(&range.to), "{range:?}");
    let mut wanted = vec![format!("retention 3-{}", range.to)];
    wanted.extend(ids("orders", 0, range.to + 1..100));
    assert_eq!(replay.seen(3), wanted);
    // Everything that is requested is deleted.
    assert_eq!(bench.replay("orders", 0, 1, 3).seen(1), ["retention 1-2"]);
}

#[test]
fn a_log_that_ends_before_the_request_causes_a_gap() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 10, "{}");
    let replay = bench.replay("orders", 0, 5, 50);
    let mut wanted = ids("orders", 0, 5..10);
    wanted.push("truncated 10-49".into());
    assert_eq!(replay.seen(5), wanted);
    assert_eq!(bench.replay("orders", 0, 30, 40).seen(30), ["truncated 10-49"]);
}

#[test]
fn large_records_have_pages_of_their_own() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 4, &format!("\"{}\"", "x".repeat(1_200_000)));
    let replay = bench.replay("orders", 0, 1, 4);
    assert_eq!(replay.seen(1), ids("orders", 0, 1..4));
    let offsets: Vec<_> = replay.pages.iter().map(|page| page.offsets.clone()).collect();
    assert_eq!(offsets, [1..2, 2..3, 3..4]);
}

#[test]
fn an_outage_is_reported_and_ends_with_the_broker() {
    let bench = Bench::new(&[("orders", 2)]);
    bench.produce("orders", 0, 100, "{}");
    bench.produce("orders", 1, 1500, "{}");
    assert_eq!(bench.replay("orders", 0, 0, 100).seen(0).len(), 100);
    bench.broker.set_reachable(false).unwrap();
    let mut replay = Replay::new("orders", 1, 100, 1500);
    // It is called while it waits, and notified once the outage is known.
    while !replay.was_down {
        replay.go(&bench.history, asker(0));
        bench.calls.recv_timeout(PATIENCE).expect("those who wait are called now and then");
    }
    bench.broker.set_reachable(true).unwrap();
    let replays = bench.replay_all([replay]);
    assert_eq!(replays[0].seen(100), ids("orders", 1, 100..1500));
}

#[test]
fn a_missing_topic_delays_nothing() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 10, "{}");
    let nowhere = Place { topic: "orders".into(), partition: 7, epoch: 0, offset: 0, until: 10 };
    assert!(matches!(bench.history.page(&nowhere, asker(1)), Lookup::Asked));
    let (_, called) = bench.calls.recv_timeout(PATIENCE).unwrap();
    assert_eq!(called, [1], "to look at its own limits");
    assert!(matches!(bench.history.page(&nowhere, asker(1)), Lookup::Asked | Lookup::Down));
    assert_eq!(bench.replay("orders", 0, 0, 10).seen(0), ids("orders", 0, 0..10));
    let unknown = Place { topic: "unknown".into(), ..nowhere };
    assert!(matches!(bench.history.page(&unknown, asker(1)), Lookup::Busy));
}

#[test]
fn the_offset_of_a_time_is_requested_per_partition() {
    let bench = Bench::new(&[("orders", 3)]);
    bench.produce("orders", 0, 10, "{}");
    let topic: Topic = "orders".into();
    let mut found = bench.history.offsets_at(&topic, 5, asker(0));
    while matches!(found, Lookup::Asked | Lookup::Down) {
        assert_eq!(bench.calls.recv_timeout(PATIENCE).unwrap(), (0, vec![0]));
        found = bench.history.offsets_at(&topic, 5, asker(0));
    }
    // The mock cluster always responds that there is none.
    assert!(matches!(&found, Lookup::Found(found) if *found.offsets == [i64::MAX; 3]), "{found:?}");
}

#[test]
fn pages_have_the_epoch_of_their_topic_and_are_dropped_with_it() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 100, "{}");
    let epochs = |replay: &Replay| replay.pages.iter().map(|page| page.epoch).collect::<Vec<_>>();
    assert_eq!(epochs(&bench.replay("orders", 0, 0, 50)), [0]);
    bench.history.assigned(&"orders".into(), 7);
    // The partition is assigned to read the deleted topic; the next chunk begins at the block's start.
    assert_eq!(epochs(&bench.replay("orders", 0, 50, 60)), [7]);
    assert_eq!(epochs(&bench.replay("orders", 0, 0, 60)), [7]);
    assert_eq!(bench.records_read("orders"), 50 + 60);
}

#[test]
fn it_stops_on_request() {
    let bench = Bench::new(&[("orders", 1)]);
    bench.produce("orders", 0, 10, "{}");
    bench.replay("orders", 0, 0, 10);
    let begun = Instant::now();
    bench.history.stop();
    assert!(begun.elapsed() < STOP_WAIT);
    let left: BTreeMap<u32, Vec<u32>> = bench.calls.try_iter().collect();
    assert!(left.is_empty(), "nobody was waiting");
}

#[test]
fn unreadable_batches_are_skipped() {
    let bench = Bench::with(&[("orders", 1)], 32 << 20, SMALL_RESPONSES);
    let brokers = bench.broker.bootstrap_servers().unwrap();
    bench.produce("orders", 0, 2, "{}");
    produce_batch(&brokers, "orders", 0, "zstd", 5, 100_000);
    bench.produce("orders", 0, 1, "{}");
    produce_batch(&brokers, "orders", 0, "none", 2, 200_000);
    bench.produce("orders", 0, 1, "{}");
    let replay = bench.replay("orders", 0, 0, 11);
    assert_eq!(
        replay.seen(0),
        ["orders:0:0", "orders:0:1", "unreadable 2-6", "orders:0:7", "unreadable 8-9", "orders:0:10"]
    );
}
