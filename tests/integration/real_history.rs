//! Pages of a log on Apache Kafka: records deleted, offsets without records, the offsets of times.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sidestream::config::snapshot::{Kafka, ReplayLog, TopicConfig};
use sidestream::event::{Entry, Topic};
use sidestream::hub::{Asker, Log, Lookup, Page, Place, ReplayLimits};
use sidestream::kafka::history::KafkaHistory;
use sidestream::metrics::Metrics;
use sidestream::source::Call;

use crate::support::DEADLINE;
use crate::support::admin::Admin;
use crate::support::broker::Broker;
use crate::support::real::shared;

const ASKER: Asker = Asker { writer: 3, session: 5 };
/// Larger than what is fetched ahead, in bytes: a log of a thousand such records is not in the client when it is cut.
const LARGE: usize = 4_000;

#[test]
fn deleted_records_are_gaps_before_and_while_they_are_read() {
    const RECORDS: i64 = 2_000;
    let bench = Bench::new("history-deleted", 1);
    let value = format!("\"{}\"", "x".repeat(LARGE));
    Broker::at(&shared().address).produce_all(bench.topic, 0, (0..RECORDS).map(|_| value.as_bytes()));
    bench.admin.delete_before(bench.topic, 100);
    let first = bench.page(0, 30, RECORDS);
    assert_eq!((gap(&first), first.offsets.start), (Some(("retention", 30..100)), 30));
    assert_eq!(offsets(&first), (100..first.offsets.end).collect::<Vec<_>>());
    // The client stands behind the first page, with little more in its hands.
    bench.admin.delete_before(bench.topic, 1_500);
    let pages = bench.walk(0, first.offsets.end, RECORDS);
    let gaps: Vec<_> = pages.iter().filter_map(|page| gap(page)).collect();
    let [("retention", lost)] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!(lost.end, 1_500);
    let seen: Vec<_> = pages.iter().flat_map(|page| offsets(page)).collect();
    assert_eq!(seen, (first.offsets.end..lost.start).chain(lost.end..RECORDS).collect::<Vec<_>>());
}

#[test]
fn offsets_without_records_are_covered() {
    let bench = Bench::new("history-transactions", 1);
    let values: Vec<String> = (0..3).map(|n| n.to_string()).collect();
    let topic = bench.topic;
    // 0 to 2 and a control record, 4 to 6 and another, 8, and four offsets more that hold nothing.
    bench.admin.transaction(topic, &values, false);
    bench.admin.transaction(topic, &values, true);
    let broker = Broker::at(&shared().address);
    assert_eq!(broker.produce(topic, 0, None, Some(b"1")), format!("{topic}:0:8"));
    bench.admin.transaction(topic, &values, false);
    let page = bench.page(0, 0, 13);
    assert_eq!((offsets(&page), page.offsets.clone()), (vec![4, 5, 6, 8], 0..13));
    assert_eq!(bench.page(0, 3, 13).offsets, 0..13);
    // The client has met this end. The log grows by nothing, and by a record behind it.
    bench.admin.transaction(topic, &values, false);
    let page = bench.page(0, 13, 17);
    assert_eq!((offsets(&page), page.offsets.clone()), (vec![], 13..17));
    assert_eq!(broker.produce(topic, 0, None, Some(b"1")), format!("{topic}:0:17"));
    bench.admin.transaction(topic, &values, false);
    let page = bench.page(0, 17, 22);
    assert_eq!((offsets(&page), page.offsets.clone()), (vec![17], 17..22));
}

#[test]
fn each_partition_has_its_offset_at_a_time() {
    let bench = Bench::new("history-times", 3);
    // Of late, else the broker deletes them.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let [first, second, third] = [now - 30_000, now - 20_000, now - 10_000];
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &shared().address).create().unwrap();
    for (partition, ms) in [(0, first), (0, second), (0, third), (1, first)] {
        let record = BaseRecord::<(), _>::to(bench.topic).partition(partition).timestamp(ms).payload("1");
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    assert_eq!(bench.offsets_at(first), [0, 0, i64::MAX]);
    assert_eq!(bench.offsets_at(first + 1), [1, i64::MAX, i64::MAX]);
    assert_eq!(bench.offsets_at(third), [2, i64::MAX, i64::MAX]);
    assert_eq!(bench.page(0, 1, 3).first_ms, Some(second));
}

/// The history of one topic of the shared node, and a session that asks for it.
struct Bench {
    topic: &'static str,
    admin: Admin,
    history: KafkaHistory,
    calls: Receiver<(u32, Vec<u32>)>,
}

impl Bench {
    fn new(topic: &'static str, partitions: i32) -> Self {
        let admin = Admin::of(&shared().address);
        admin.create_topic(topic, partitions, &[]);
        let config = Kafka {
            cluster: "kafka".into(),
            brokers: shared().address.clone(),
            property_files: Vec::new(),
            properties: Vec::new(),
            topics: vec![TopicConfig::new(topic.into(), [])],
            warm_up: Duration::ZERO,
            required_for_readiness: false,
            finds_times: true,
        };
        let (sender, calls) = channel();
        let call: Call = Arc::new(move |writer, sessions| sender.send((writer, sessions)).unwrap_or_default());
        let limits = ReplayLimits { events: 1, bytes: 1, time: DEADLINE };
        let replay = ReplayLog { limits, cache_bytes: 32 << 20 };
        let metrics = Arc::new(Metrics::new("test").unwrap());
        let history = KafkaHistory::start([&config], &replay, &metrics, &call).unwrap();
        Self { topic, admin, history, calls }
    }

    /// Asks until it is there, as often as it is called.
    #[track_caller]
    fn found<T>(&self, look: impl Fn() -> Lookup<T>) -> T {
        loop {
            match look() {
                Lookup::Found(found) => return found,
                Lookup::Busy => panic!("busy"),
                Lookup::Asked | Lookup::Down => {
                    let called = self.calls.recv_timeout(DEADLINE).expect("who asked is called");
                    assert_eq!(called, (ASKER.writer, vec![ASKER.session]));
                }
            }
        }
    }

    #[track_caller]
    fn page(&self, partition: i32, offset: i64, until: i64) -> Arc<Page> {
        let place = Place { topic: self.topic.into(), partition, epoch: 0, offset, until };
        let page = self.found(|| self.history.page(&place, ASKER));
        assert!(page.offsets.contains(&offset), "{:?} holds {offset}", page.offsets);
        page
    }

    fn walk(&self, partition: i32, from: i64, until: i64) -> Vec<Arc<Page>> {
        let (mut pages, mut next) = (Vec::new(), from);
        while next < until {
            let page = self.page(partition, next, until);
            next = page.offsets.end;
            pages.push(page);
        }
        pages
    }

    fn offsets_at(&self, ms: i64) -> Vec<i64> {
        let topic: Topic = self.topic.into();
        self.found(|| self.history.offsets_at(&topic, ms, ASKER)).offsets.to_vec()
    }
}

/// The offsets of a page's events.
fn offsets(page: &Page) -> Vec<i64> {
    let offset = |entry: &Entry| match entry {
        Entry::Event(event) => Some(event.id.offset),
        Entry::Gap { .. } | Entry::Hole { .. } => None,
    };
    page.entries.iter().filter_map(offset).collect()
}

/// The gap that a page begins with.
fn gap(page: &Page) -> Option<(&'static str, Range<i64>)> {
    match page.entries.first()? {
        Entry::Gap { cause, range } => Some((cause.as_str(), range.from..range.to + 1)),
        Entry::Event(_) | Entry::Hole { .. } => None,
    }
}
