//! Tests the source with a real client and a mock broker in this process.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::embedded::{Embedded, PROPERTIES, Quiet};
use super::*;
use crate::config::snapshot::TopicConfig;
use crate::decode::ShownHeaders;
use crate::event::{Assigned, Entry, Feed, GapCause};
use crate::source::{STOP_WAIT, stop_all};

/// Never reached, but ends a test that hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Responses and decompressed batches of at most 300 kB.
pub(super) const SMALL_RESPONSES: &[(&str, &str)] = &[
    ("message.max.bytes", "100000"),
    ("fetch.max.bytes", "200000"),
    ("max.partition.fetch.bytes", "100000"),
    ("receive.message.max.bytes", "300000"),
];

/// Appends `count` records of `bytes` bytes each to a partition, as one batch with this compression.
pub(super) fn produce_batch(brokers: &str, topic: &str, partition: i32, codec: &str, count: usize, bytes: usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("compression.codec", codec)
        .set("linger.ms", "60000")
        .set("message.max.bytes", "20000000")
        .set("batch.size", "20000000")
        .create()
        .unwrap();
    let value = format!("{{\"data\":\"{}\"}}", "a".repeat(bytes));
    for _ in 0..count {
        let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// A source that reads from an embedded broker into a channel.
pub(super) struct Bench {
    pub(super) broker: Embedded,
    pub(super) metrics: Arc<Metrics>,
    pub(super) config: Kafka,
}

impl Bench {
    /// A broker with these topics; the source reads `read`, each topic with a window of three events.
    pub(super) fn new(topics: &[(&str, i32)], read: &[&str]) -> Self {
        Self::at(Embedded::start(topics).unwrap(), read)
    }

    /// Three brokers with these topics of one partition, each led by the given broker.
    pub(super) fn of_three(topics: &[(&str, i32)], read: &[&str]) -> Self {
        let producer = ClientConfig::new()
            .set("test.mock.num.brokers", "3")
            .set("linger.ms", "0")
            .set("enable.idempotence", "true")
            .set("reconnect.backoff.max.ms", "500")
            .create_with_context(Quiet)
            .unwrap();
        let broker = Embedded { producer };
        for (topic, leader) in topics {
            broker.cluster().unwrap().create_topic(topic, 1, 3).unwrap();
            broker.cluster().unwrap().partition_leader(topic, 0, Some(*leader)).unwrap();
        }
        Self::at(broker, read)
    }

    fn at(broker: Embedded, read: &[&str]) -> Self {
        let topic = |name: &&str| TopicConfig {
            replay_events: 3,
            replay_bytes: 64 * 1024 * 1024,
            ..TopicConfig::new((*name).into(), ["userId".into()])
        };
        let config = Kafka {
            cluster: "kafka".into(),
            brokers: broker.bootstrap_servers().unwrap(),
            properties: PROPERTIES.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            property_files: Vec::new(),
            topics: read.iter().map(topic).collect(),
            warm_up: PATIENCE,
            required_for_readiness: false,
            finds_times: true,
        };
        Self { broker, metrics: Arc::new(Metrics::new("test").unwrap()), config }
    }

    pub(super) fn start(&self) -> (KafkaSource, Feeds) {
        let (sender, receiver) = channel();
        // The channel is closed when the test has seen enough.
        let sink = Arc::new(move |feed| sender.send(feed).unwrap_or_default());
        let source = KafkaSource::start(self.config.clone(), sink, self.metrics.clone(), None).unwrap();
        (source, Feeds { receiver, entries: VecDeque::new(), live: 0 })
    }

    /// Uses a client that accepts responses and decompressed batches of at most 300 kB.
    pub(super) fn with_small_responses(mut self) -> Self {
        for (name, value) in SMALL_RESPONSES {
            self.config.properties.push((name.to_string(), value.to_string()));
        }
        self
    }

    /// Produces a record, and waits for its acknowledgement. The payload is the record's time.
    pub(super) fn produce(&self, topic: &str, partition: i32, ts: i64, payload: &str) {
        let record = BaseRecord::to(topic).partition(partition).timestamp(ts).key("").payload(payload);
        self.broker.producer.send(record).map_err(|(error, _)| error).unwrap();
        until("the broker has it", || self.broker.producer.in_flight_count() == 0);
    }
}

pub(super) struct Feeds {
    pub(super) receiver: Receiver<Feed>,
    entries: VecDeque<Entry>,
    /// The number of finished warm-ups.
    live: usize,
}

impl Feeds {
    /// The next announcement: `topic [next of 0, next of 1, ...]`.
    pub(super) fn assigned(&mut self) -> String {
        assert!(self.entries.is_empty(), "entries come before the announcement");
        match self.next() {
            Feed::Assigned(Assigned { topic, next, .. }) => format!("{topic} {next:?}"),
            other => panic!("expected an announcement, got {other:?}"),
        }
    }

    /// The next message that is not only the end of a warm-up.
    pub(super) fn next(&mut self) -> Feed {
        loop {
            match self.receiver.recv_timeout(PATIENCE).unwrap() {
                Feed::Live { .. } => self.live += 1,
                feed => return feed,
            }
        }
    }

    /// The next entry.
    pub(super) fn entry(&mut self) -> Entry {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return entry;
            }
            match self.next() {
                Feed::Batch(entries) => self.entries.extend(entries.iter().cloned()),
                other => panic!("expected entries, got {other:?}"),
            }
        }
    }

    /// The places of the next `n` entries; for a gap, with its cause.
    pub(super) fn places(&mut self, n: usize) -> Vec<String> {
        let place = |entry| match entry {
            Entry::Event(event) => event.id.to_string(),
            Entry::Hole { topic, partition, end } => format!("hole {topic}:{partition}:{end}"),
            Entry::Gap { cause, range } => {
                format!("{} {}:{}:{}-{}", cause.as_str(), range.topic, range.partition, range.from, range.to)
            }
        };
        (0..n).map(|_| place(self.entry())).collect()
    }
}

pub(super) fn stop(source: KafkaSource) {
    stop_all(vec![Box::new(source)]);
}

pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_window_is_warmed_in_the_order_of_time_and_live_records_follow() {
    let bench = Bench::new(&[("orders", 2), ("notes", 1)], &["orders", "notes"]);
    for (topic, partition, ts) in [
        ("orders", 0, 10),
        ("orders", 0, 30),
        ("orders", 0, 50),
        ("orders", 1, 20),
        ("orders", 1, 40),
        ("notes", 0, 35),
    ] {
        bench.produce(topic, partition, ts, "{}");
    }
    let (source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [1, 1]", "10 and 20 are older than the window");
    assert_eq!(feeds.assigned(), "notes [0]");
    assert_eq!(feeds.places(4), ["orders:0:1", "notes:0:0", "orders:1:1", "orders:0:2"]);
    until("warm after the warm-up", || source.status() == Status { warm: true, connected: true });

    bench.produce("orders", 1, 1, r#"{"type":"paid","userId":"u1","data":1}"#);
    let Entry::Event(event) = feeds.entry() else { panic!("no event") };
    assert_eq!(feeds.live, 1, "the hub was notified between the two");
    assert_eq!(
        std::str::from_utf8(&event.envelope).unwrap(),
        r#"{"id":"orders:1:2","ts":1,"type":"paid","userId":"u1","data":1}"#
    );
    for i in 0..5 {
        bench.produce("notes", 0, i, "{}");
    }
    assert_eq!(feeds.places(5), ["notes:0:1", "notes:0:2", "notes:0:3", "notes:0:4", "notes:0:5"]);
    assert_eq!(bench.metrics.records.with_label_values(&["notes"]).get(), 6);
    stop(source);
}

#[test]
fn empty_topics_are_announced_and_warm_at_once() {
    let bench = Bench::new(&[("orders", 3)], &["orders"]);
    let (source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0, 0, 0]");
    until("warm", || source.status().warm);
    bench.produce("orders", 2, 1, "{}");
    assert_eq!(feeds.places(1), ["orders:2:0"]);
}

#[test]
fn undecodable_records_are_gaps_in_their_place_and_counted() {
    let bench = Bench::new(&[("orders", 1)], &["orders"]);
    bench.produce("orders", 0, 1, "garbage");
    bench.produce("orders", 0, 2, "{}");
    let (_source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0]");
    assert_eq!(feeds.places(2), ["undecodable orders:0:0-0", "orders:0:1"]);
    bench.produce("orders", 0, 3, "{\"half\":");
    bench.produce("orders", 0, 4, "{}");
    assert_eq!(feeds.places(2), ["undecodable orders:0:2-2", "orders:0:3"]);
    assert_eq!(bench.metrics.undecodable.with_label_values(&["orders"]).get(), 2);
}

#[test]
fn a_topics_uuid_is_its_epoch() {
    let bench = Bench::new(&[("orders", 1), ("notes", 1)], &["orders", "notes"]);
    let (_source, mut feeds) = bench.start();
    let mut epoch = || match feeds.next() {
        Feed::Assigned(assigned) => assigned.epoch,
        other => panic!("expected an announcement, got {other:?}"),
    };
    let (one, other) = (epoch(), epoch());
    assert!(one != 0 && other != 0 && one != other, "{one} {other}");
}

#[test]
fn records_deleted_before_they_were_read_are_a_gap() {
    let mut bench = Bench::new(&[("orders", 1)], &["orders"]);
    // Almost nothing is prefetched, so that the log can overtake the reader.
    for (name, value) in
        [("queued.max.messages.kbytes", "1"), ("queued.min.messages", "1"), ("fetch.max.bytes", "1000000")]
    {
        bench.config.properties.push((name.into(), value.into()));
    }
    let (sender, receiver) = channel();
    let (permit, permits) = channel();
    let permits = Mutex::new(permits);
    let sink = Arc::new(move |feed| {
        sender.send(feed).unwrap_or_default();
        permits.lock().unwrap().recv().unwrap_or_default();
    });
    let _source = KafkaSource::start(bench.config.clone(), sink, bench.metrics.clone(), None).unwrap();
    assert!(matches!(receiver.recv_timeout(PATIENCE).unwrap(), Feed::Assigned(_)));
    permit.send(()).unwrap();
    assert!(matches!(receiver.recv_timeout(PATIENCE).unwrap(), Feed::Live { .. }));
    permit.send(()).unwrap();
    bench.produce("orders", 0, 1, "{}");
    let Feed::Batch(first) = receiver.recv_timeout(PATIENCE).unwrap() else { panic!("announced twice") };
    assert_eq!(first.len(), 1);
    // The sink blocks the reader at this record while the broker, which keeps 5 MiB, deletes the next ones.
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    (0..12).for_each(|_| bench.produce("orders", 0, 1, &large));
    drop(permit);

    let mut offsets = vec![0];
    let mut gaps = Vec::new();
    while offsets.last() != Some(&12) {
        let Feed::Batch(batch) = receiver.recv_timeout(PATIENCE).unwrap() else { panic!("announced twice") };
        for entry in batch.iter() {
            match entry {
                Entry::Event(event) => offsets.push(event.id.offset),
                Entry::Gap { cause: GapCause::Retention, range } => {
                    gaps.push((range.from, range.to));
                    offsets.extend(range.from..=range.to);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(offsets, (0..=12).collect::<Vec<_>>(), "each offset is an event or in a gap, once");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
}

#[test]
fn fetching_resumes_as_soon_as_the_queue_is_drained() {
    const RECORDS: i64 = 60;
    /// Less than with librdkafka's default pause of a second, after almost every record. Without the pause, the records
    /// take far less than a second: the rest is a margin for a busy machine.
    const LIMIT: Duration = Duration::from_secs(40);
    let mut bench = Bench::new(&[("orders", 1)], &["orders"]);
    // Prefetches one record. The broker returns one batch at a time: what its producer sent together.
    bench.config.properties.push(("queued.min.messages".into(), "1".into()));
    bench.config.topics[0].replay_events = 100;
    (0..RECORDS).for_each(|ts| bench.produce("orders", 0, ts, "{}"));
    let begun = Instant::now();
    let (_source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0]");
    assert_eq!(feeds.places(RECORDS as usize).len(), RECORDS as usize);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn a_record_of_ten_megabytes_arrives() {
    let bench = Bench::new(&[("orders", 1)], &["orders"]);
    let (_source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0]");
    bench.produce("orders", 0, 1, &format!("\"{}\"", "x".repeat(10_000_000)));
    let Entry::Event(event) = feeds.entry() else { panic!("no event") };
    assert_eq!(event.data().len(), 10_000_002);
}

#[test]
fn lag_counts_unread_records() {
    let bench = Bench::new(&[("orders", 1)], &["orders"]);
    bench.produce("orders", 0, 1, "{}");
    let (_source, mut feeds) = bench.start();
    feeds.assigned();
    feeds.places(1);
    let lag = bench.metrics.consumer_lag.with_label_values(&["orders", "0"]);
    lag.set(-7);
    until("the lag is measured", || lag.get() == 0);
}

#[test]
fn a_topic_may_have_another_name_and_its_headers_arrive() {
    let mut bench = Bench::new(&[("orders.v1", 2)], &["orders"]);
    bench.config.topics[0].source = "orders.v1".into();
    bench.config.topics[0].shape.headers = ShownHeaders::All;
    bench.produce("orders.v1", 1, 1, "1");
    let (source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0, 0]");
    assert_eq!(feeds.places(1), ["orders:1:0"]);
    let header = |key, value| Header { key, value };
    let headers = OwnedHeaders::new()
        .insert(header("a", Some("1")))
        .insert(header("empty", Some("")))
        .insert(header("null", None))
        .insert(header("a", Some("2")));
    let record = BaseRecord::to("orders.v1").partition(0).timestamp(5).key("").payload("7").headers(headers);
    bench.broker.producer.send(record).map_err(|(error, _)| error).unwrap();
    let Entry::Event(event) = feeds.entry() else { panic!("no event") };
    assert_eq!(
        std::str::from_utf8(&event.envelope).unwrap(),
        r#"{"id":"orders:0:0","ts":5,"type":"message","headers":{"empty":"","null":null,"a":"2"},"data":7}"#
    );
    let lag = bench.metrics.consumer_lag.with_label_values(&["orders", "0"]);
    lag.set(-7);
    until("the lag is measured under our name", || lag.get() == 0);
    stop(source);
}

#[test]
fn a_stop_is_quick_and_waits_for_the_thread() {
    let bench = Bench::new(&[("orders", 1)], &["orders"]);
    let (source, mut feeds) = bench.start();
    feeds.assigned();
    let begun = Instant::now();
    stop(source);
    assert!(begun.elapsed() < STOP_WAIT);
    // The thread has dropped the sink.
    assert!(feeds.receiver.iter().all(|feed| matches!(feed, Feed::Live { .. })));
}
