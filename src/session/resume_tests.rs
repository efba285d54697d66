//! Sessions that resume from the log behind the window.

use std::time::Duration;

use super::tests::{Bench, resume, token};
use super::*;
use crate::admission::Rights;
use crate::cursor::TopicPosition;
use crate::cursor::{Cursor, Positions};
use crate::encoding::ENCODING_OVERHEAD_BYTES;
use crate::event::{Assigned, Entry, EventId, GapRange, UNKNOWN_POSITION};
use crate::hub::{Asker, Hub, Log, NoLog, ReplayLimits};
use crate::route::{OnGap, StreamRoute};
use crate::testing::{FakeLog, event, route, selector};

/// A window of four events, and a log with all `events`, whose users alternate.
fn bench(events: i64, change: impl FnOnce(&mut FakeLog)) -> Bench {
    let mut bench = Bench::new();
    let users = ["a", "b"];
    let entries: Vec<Entry> =
        (0..events).map(|n| Entry::Event(event("orders", 0, n, &[("userId", users[n as usize % 2])]))).collect();
    entries.iter().for_each(|entry| {
        bench.hub.append(entry);
    });
    let mut fake_log = FakeLog::new(entries, 3);
    change(&mut fake_log);
    bench.log = Arc::new(fake_log);
    bench
}

fn since(position: &str) -> impl FnOnce(&mut Request, &mut StreamRoute) {
    let resume = position.parse().unwrap();
    move |request, _| request.resume = Some(Box::new(resume))
}

/// The offsets of the events and the causes of the gaps in a response, in order.
fn received(answer: &str) -> Vec<String> {
    let objects =
        answer.lines().filter_map(|line| line.strip_prefix("data: ").or_else(|| line.starts_with('{').then_some(line)));
    let objects = objects.filter_map(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    objects.map(|o| o.get("cause").unwrap_or_else(|| &o["data"]["n"]).to_string().replace('"', "")).collect()
}

#[test]
fn what_left_the_window_comes_from_the_log() {
    let mut bench = bench(20, |_| {});
    let mut sse = bench.open(Transport::Sse, since("orders:0:4"));
    assert_eq!(received(&bench.written(&mut sse)), (5..20).map(|n| n.to_string()).collect::<Vec<_>>());
    bench.append(&mut sse, 20, &[]);
    assert_eq!(received(&bench.written(&mut sse)), ["20"], "and then live");
    let mut own = bench.open(Transport::Ndjson, |request, _| {
        request.resume = resume("orders:0:4");
        request.selector = selector(&[("userId", "a")]);
    });
    let answer = bench.written(&mut own);
    assert!(answer.starts_with("HTTP/1.1 200"));
    assert_eq!(received(&answer), ["6", "8", "10", "12", "14", "16", "18"], "each user's own");
}

#[test]
fn what_two_subscriptions_match_is_sent_once_however_each_came_to_it() {
    let mut bench = bench(18, |_| {});
    let mut session = bench.open(Transport::WebSocket, |request, _| request.selector = selector(&[("userId", "a")]));
    bench.written(&mut session);
    let seen = |answer: &str| {
        let times = (0..20).map(|n| (n, answer.matches(&format!("\"data\":{{\"n\":{n}}}")).count()));
        times.flat_map(|(n, times)| vec![n; times]).collect::<Vec<_>>()
    };
    session.add_subscription(session.request.route.clone(), Rights::default(), None);
    session.resume(1, "orders:0:14".parse().unwrap(), &bench.context());
    // Two events, one of which matches the first subscription, while the second one waits.
    bench.append(&mut session, 18, &[("userId", "a")]);
    bench.append(&mut session, 19, &[("userId", "b")]);
    assert_eq!(seen(&bench.written(&mut session)), [15, 16, 17, 18, 19]);
    // A third subscription resumes within the range that the second one replayed.
    let rights = Rights { selector: selector(&[("userId", "b")]), rule: None };
    session.add_subscription(session.request.route.clone(), rights, None);
    session.resume(2, "orders:0:11".parse().unwrap(), &bench.context());
    assert_eq!(seen(&bench.written(&mut session)), [13]);
}

#[test]
fn who_waits_for_an_answer_gets_one_when_the_stream_has_to_end() {
    let mut bench = Bench::new();
    bench.hub = Hub::new([]);
    for transport in [Transport::Ndjson, Transport::WebSocket] {
        for reason in [CloseReason::Drain, CloseReason::Reload] {
            let mut session = bench.open(transport, since("orders:0:4"));
            assert!(session.is_unanswered());
            session.end(reason, bench.context().now);
            let answer = bench.written(&mut session);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 3\r\n"), "{answer}");
            assert!(answer.contains("application/problem+json"), "{answer}");
            assert_eq!(session.closed(), Some(CloseReason::NotReady), "a stream that never started");
        }
        let exp = bench.now.unix_ms + 500;
        let mut session = bench.open(transport, |request, _| {
            request.resume = resume("orders:0:4");
            request.principal = Some(token("a", Some(exp)));
        });
        bench.pass(Duration::from_millis(500));
        session.tick(&mut bench.context());
        let answer = bench.written(&mut session);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 3\r\n"), "{answer}");
    }
    let mut ended = bench.open(Transport::Sse, since("orders:0:4"));
    ended.end(CloseReason::Drain, bench.context().now);
    let answer = bench.written(&mut ended);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("retry: 2500\n\n"), "{answer}");
}

#[test]
fn what_is_replayed_is_encoded_once_a_form() {
    let mut bench = bench(20, |_| {});
    for transport in [Transport::Sse, Transport::Sse, Transport::Ndjson] {
        let mut session = bench.open(transport, since("orders:0:4"));
        bench.written(&mut session);
    }
    let size = |transport, n: i64| {
        let event = event("orders", 0, n, &[("userId", "a")]);
        route("/x").form(transport).event(&event, format!("orders:0:{n}").as_bytes()).len()
    };
    let (line, record) = (|n| size(Transport::Ndjson, n), |n| size(Transport::Sse, n));
    let cursor = |n: i64| format!("orders:0:{n}").len() + ENCODING_OVERHEAD_BYTES;
    let once = (5..20).map(|n| line(n) + record(n) + 2 * cursor(n)).sum::<usize>();
    // The epoch, the number of partitions and the position that all encodings share.
    assert_eq!(bench.encodings.kept_bytes(), once + 3 * size_of::<i64>());
    // Without a cache of encodings, the same is sent, and nothing is retained.
    bench.encodings.limit(0);
    let mut session = bench.open(Transport::Ndjson, since("orders:0:4"));
    assert_eq!(received(&bench.written(&mut session)), (5..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!((bench.encodings.kept_bytes(), bench.encodings.bytes()), (0, 0));
}

/// A position with this many partitions, each at offset 5.
fn of_partitions(partitions: usize) -> Resume {
    let topic = TopicPosition { epoch: 0, next: vec![5; partitions] };
    let id = EventId { topic: "orders".into(), partition: 0, offset: 4 };
    Resume::From(Positions(vec![topic]).cursor(&["orders".into()], id))
}

#[test]
fn a_position_is_bounded_by_what_the_stream_has() {
    let mut bench = bench(20, |_| {});
    let mut made_up = bench.open(Transport::Sse, |request, _| request.resume = Some(Box::new(of_partitions(10_000))));
    assert!(bench.written(&mut made_up).contains(r#""cause":"truncated","ranges":[]"#));
    assert!(made_up.request().resume.is_none(), "what the client said is not kept");
    let mut ahead = bench.open(Transport::Sse, |request, _| request.resume = Some(Box::new(of_partitions(3))));
    assert!(!bench.written(&mut ahead).contains("truncated"), "partitions may have been added: it waits");
}

#[test]
fn a_long_position_is_not_kept_until_the_log_is_read() {
    let mut bench = Bench::new();
    bench.hub = Hub::new([]);
    let long = of_partitions(2000);
    let cursor = long.cursor().unwrap().to_string();
    let mut sse = bench.open(Transport::Sse, |request, _| request.resume = Some(Box::new(long.clone())));
    let answer = bench.written(&mut sse);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("id: {cursor}\n")), "{answer}");
    assert!(answer.contains("retry: ") && sse.closed() == Some(CloseReason::NotReady), "{answer}");
    let mut ndjson = bench.open(Transport::Ndjson, |request, _| request.resume = Some(Box::new(long)));
    assert!(bench.written(&mut ndjson).starts_with("HTTP/1.1 503 "));
    let mut short = bench.open(Transport::Sse, since("orders:0:4"));
    bench.written(&mut short);
    assert_eq!(short.closed(), None, "it waits");
}

#[test]
fn what_the_log_lost_is_reported_in_place_of_the_stream_or_in_it() {
    let mut bench = bench(20, |fake_log| fake_log.low = 7);
    let mut gone = bench.open(Transport::Ndjson, since("orders:0:4"));
    let answer = bench.written(&mut gone);
    assert!(answer.starts_with("HTTP/1.1 410"), "{answer}");
    assert!(
        answer.contains(r#""cause":"retention""#) && answer.contains(r#""from":5,"partition":0,"to":6"#),
        "{answer}"
    );
    for transport in [Transport::Sse, Transport::Ndjson] {
        let mut session = bench.open(transport, |request, route| {
            request.resume = resume("orders:0:4");
            route.on_gap = OnGap::Continue;
        });
        let answer = bench.written(&mut session);
        assert_eq!(received(&answer)[..3], ["retention", "7", "8"], "{answer}");
        assert_eq!(received(&answer).len(), 14);
    }
}

#[test]
fn a_client_is_not_answered_before_it_is_known_whether_it_can_resume() {
    let mut bench = bench(20, |_| {});
    let mut session = bench.open(Transport::Ndjson, since("orders:0:4"));
    assert!(session.is_unanswered() && session.is_flushed());
    bench.written(&mut session);
    assert!(!session.is_unanswered());

    // The log never responds: transports with an error response get one, and the others wait.
    bench.log = Arc::new(Mute);
    let mut refused = bench.open(Transport::Ndjson, since("orders:0:4"));
    let mut waits = bench.open(Transport::Sse, since("orders:0:4"));
    assert!(bench.written(&mut waits).contains("id: orders:0:4\n"));
    bench.pass(Duration::from_secs(10));
    assert!(bench.written(&mut refused).starts_with("HTTP/1.1 503"));
    bench.pass(Duration::from_secs(5));
    assert!(waits.tick(&mut bench.context()));
    assert_eq!(bench.written(&mut waits), ": keep-alive\n\n");
    let fake_log = FakeLog::new(bench_entries(20), 5);
    bench.log = Arc::new(fake_log);
    assert_eq!(received(&bench.written(&mut waits)).len(), 15, "it was not held to the time without a broker");
}

fn bench_entries(events: i64) -> Vec<Entry> {
    (0..events).map(|n| Entry::Event(event("orders", 0, n, &[]))).collect()
}

#[test]
fn the_time_limit_of_replay_does_not_apply_while_a_partition_is_not_read() {
    let of_second = (0..3).map(|n| Entry::Event(event("orders", 1, n, &[])));
    let mut bench = bench(20, |log| log.entries.extend(of_second));
    bench.hub.assign(&Assigned::new("orders", 0, [20, UNKNOWN_POSITION]));
    let positions = Positions(vec![TopicPosition { epoch: 0, next: vec![5, 0] }]);
    let cursor = positions.cursor(&["orders".into()], "orders:0:4".parse().unwrap()).to_string();
    let mut session = bench.open(Transport::Sse, since(&cursor));
    assert_eq!(received(&bench.written(&mut session)).len(), 15);
    bench.pass(Duration::from_secs(11));
    bench.written(&mut session);
    bench.hub.assign(&Assigned::new("orders", 0, [20, 3]));
    assert_eq!(received(&bench.written(&mut session)), ["0", "1", "2"]);
}

/// A log without reachable brokers.
#[derive(Debug)]
struct Mute;

impl Log for Mute {
    fn page(&self, _: &crate::hub::Place, _: Asker) -> crate::hub::Lookup<Arc<crate::hub::Page>> {
        crate::hub::Lookup::Down
    }

    fn offsets_at(&self, _: &crate::event::Topic, _: i64, _: Asker) -> crate::hub::Lookup<crate::hub::OffsetsAt> {
        crate::hub::Lookup::Down
    }

    fn limits(&self) -> ReplayLimits {
        ReplayLimits { events: 100, bytes: 1 << 20, time: Duration::from_secs(10) }
    }
}

#[test]
fn a_client_that_is_ahead_is_reported_of_a_loss_only_once_the_log_says_so() {
    // This replica has read four events; the client has received ten elsewhere.
    let mut bench = bench(4, |_| {});
    bench.log = Arc::new(Mute);
    let mut waits = bench.open(Transport::Sse, since("orders:0:9"));
    bench.written(&mut waits);
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.written(&mut waits), "", "Kafka is away: nobody knows what it holds");
    bench.log = Arc::new(FakeLog::new(bench_entries(12), 20));
    assert_eq!(bench.written(&mut waits), "", "it is there, and will be read here");
    for entry in &bench_entries(12)[4..] {
        bench.hub.append(entry);
    }
    assert_eq!(received(&bench.written(&mut waits)), ["10", "11"]);
}

#[test]
fn a_client_that_is_ahead_of_a_partition_that_joins_late_receives_the_others() {
    let of = |partition, n| Entry::Event(event("orders", partition, n, &[]));
    for is_read_already in [false, true] {
        let mut bench = Bench::new();
        let at = |next| Assigned::new("orders", 0, [0, next]);
        bench.hub.assign(&at(if is_read_already { 4 } else { UNKNOWN_POSITION }));
        bench.log = Arc::new(Mute);
        let positions = Positions(vec![TopicPosition { epoch: 0, next: vec![0, 7] }]);
        let cursor = positions.cursor(&["orders".into()], "orders:1:6".parse().unwrap()).to_string();
        let mut sse = bench.open(Transport::Sse, since(&cursor));
        let mut ndjson = bench.open(Transport::Ndjson, since(&cursor));
        bench.written(&mut sse);
        bench.written(&mut ndjson);
        if !is_read_already {
            bench.hub.assign(&at(4));
        }
        // Its broker falls silent again.
        bench.pass(Duration::from_secs(4));
        bench.hub.append(&of(0, 0));
        assert_eq!(received(&bench.written(&mut sse)), ["0"]);
        assert_eq!(received(&bench.written(&mut ndjson)), ["0"]);
        bench.pass(Duration::from_secs(60));
        assert_eq!(received(&bench.written(&mut sse)), Vec::<String>::new(), "no loss is proven");
        // The log ends before the client's position.
        let mut log = FakeLog::new((0..5).map(|n| of(1, n)).collect(), 20);
        log.high = 5;
        bench.log = Arc::new(log);
        bench.written(&mut sse);
        bench.pass(Duration::from_secs(2));
        assert_eq!(received(&bench.written(&mut sse)), Vec::<String>::new(), "it is not read here up to its end");
        bench.hub.append(&of(1, 4));
        bench.hub.append(&of(1, 5));
        assert_eq!(received(&bench.written(&mut sse)), ["truncated", "5"], "and what replaced the lost end");
        bench.append(&mut sse, 1, &[]);
        assert_eq!(received(&bench.written(&mut sse)), ["1"], "it is live");
    }
}

/// A log with eight events in each of two partitions. The broker of the first one does not respond. If it `is_late`,
/// chunks of the second one do not arrive.
#[derive(Debug)]
struct HalfSilent {
    fake_log: FakeLog,
    is_late: bool,
}

impl HalfSilent {
    fn new(is_late: bool) -> Self {
        let entries = [0, 1].map(|partition| (0..8).map(move |n| Entry::Event(event("orders", partition, n, &[]))));
        Self { fake_log: FakeLog::new(entries.into_iter().flatten().collect(), 3), is_late }
    }

    /// With a window of the newest four, which are of the second partition.
    fn bench(self) -> Bench {
        let mut bench = Bench::new();
        bench.hub.assign(&Assigned::new("orders", 0, [0, 0]));
        for entry in &self.fake_log.entries {
            bench.hub.append(entry);
        }
        bench.log = Arc::new(self);
        bench
    }
}

impl Log for HalfSilent {
    fn page(&self, wanted: &crate::hub::Place, asker: Asker) -> crate::hub::Lookup<Arc<crate::hub::Page>> {
        match wanted.partition {
            0 => crate::hub::Lookup::Down,
            _ if self.is_late => crate::hub::Lookup::Asked,
            _ => self.fake_log.page(wanted, asker),
        }
    }

    fn offsets_at(
        &self,
        topic: &crate::event::Topic,
        ms: i64,
        asker: Asker,
    ) -> crate::hub::Lookup<crate::hub::OffsetsAt> {
        self.fake_log.offsets_at(topic, ms, asker)
    }

    fn limits(&self) -> ReplayLimits {
        self.fake_log.limits
    }
}

#[test]
fn a_partition_whose_broker_is_silent_holds_up_no_other() {
    let mut bench = HalfSilent::new(false).bench();
    let mut session = bench.open(Transport::Sse, since(&at(&bench, &[5, 2])));
    assert_eq!(received(&bench.written(&mut session)), ["2", "3", "4", "5", "6", "7"]);
    for n in 8..14 {
        bench.hub.append(&Entry::Event(event("orders", 1, n, &[])));
        assert_eq!(received(&bench.written(&mut session)), [n.to_string()], "live");
    }
    bench.pass(Duration::from_secs(60));
    assert_eq!(received(&bench.written(&mut session)), Vec::<String>::new());
    bench.hub.append(&Entry::Event(event("orders", 0, 8, &[])));
    assert_eq!(received(&bench.written(&mut session)), Vec::<String>::new(), "what comes before it was not read");
    bench.log = Arc::new(HalfSilent::new(false).fake_log);
    assert_eq!(received(&bench.written(&mut session)), ["5", "6", "7", "8"], "and nothing twice");
    bench.append(&mut session, 9, &[]);
    assert_eq!(received(&bench.written(&mut session)), ["9"], "it is live");
}

#[test]
fn the_time_of_a_replay_does_not_run_for_a_partition_whose_broker_is_silent() {
    let mut bench = HalfSilent::new(true).bench();
    let mut session = bench.open(Transport::Sse, since(&at(&bench, &[5, 0])));
    assert_eq!(received(&bench.written(&mut session)), Vec::<String>::new());
    bench.pass(bench.log.limits().time);
    let answer = bench.written(&mut session);
    assert!(answer.contains(r#""ranges":[{"topic":"orders","partition":1,"from":0,"to":3}]"#), "{answer}");
    assert_eq!(received(&answer), ["replay-limit", "4", "5", "6", "7"]);
    bench.log = Arc::new(HalfSilent::new(false).fake_log);
    assert_eq!(received(&bench.written(&mut session)), ["5", "6", "7"]);
}

/// The cursor of a client at these offsets.
fn at(bench: &Bench, next: &[i64]) -> String {
    let positions = Positions(vec![TopicPosition { epoch: 0, next: next.to_vec() }]);
    let id = EventId { topic: "orders".into(), partition: 0, offset: next[0] - 1 };
    positions.cursor(&bench.route().stream.topics, id).to_string()
}

#[test]
fn a_partition_that_is_not_known_here_is_lost_only_once_the_brokers_say_so() {
    // A new partition; the client has read it elsewhere, and this replica does not know it.
    let mut bench = bench(4, |_| {});
    bench.log = Arc::new(Mute);
    let cursor = at(&bench, &[4, 0, 74]);
    let mut waits = bench.open(Transport::Sse, since(&cursor));
    let mut refused = bench.open(Transport::Ndjson, since(&cursor));
    bench.written(&mut waits);
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.written(&mut waits), "", "Kafka is away: nobody knows which partitions there are");
    let answer = bench.written(&mut refused);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    // The topic has three partitions.
    bench.log = Arc::new(FakeLog::new(bench_entries(4), 20));
    assert_eq!(bench.written(&mut waits), "", "it is there, and will be read here");
    bench.hub.assign(&Assigned::new("orders", 0, [4, 0, 0]));
    for n in 0..75 {
        bench.hub.append(&Entry::Event(event("orders", 2, n, &[])));
    }
    assert_eq!(received(&bench.written(&mut waits)), ["74"]);

    let mut gone = bench.open(Transport::Sse, since("orders:3:73"));
    bench.written(&mut gone);
    bench.pass(Duration::from_secs(7));
    assert_eq!(bench.written(&mut gone), "", "a broker may not know of it yet");
    bench.pass(Duration::from_secs(1));
    assert_eq!(received(&bench.written(&mut gone))[0], "truncated");
}

#[test]
fn a_partition_that_is_not_known_here_holds_up_no_other() {
    let of = |partition, n| Entry::Event(event("orders", partition, n, &[]));
    for exists in [true, false] {
        let mut bench = bench(4, |_| {});
        bench.log = Arc::new(Mute);
        let cursor = at(&bench, &[4, 0, 7]);
        let mut sse = bench.open(Transport::Sse, since(&cursor));
        bench.written(&mut sse);
        bench.hub.append(&of(0, 4));
        bench.pass(Duration::from_secs(4));
        let answer = bench.written(&mut sse);
        assert_eq!(received(&answer), ["4"]);
        let (_, next) = answer.split_once("id: ").unwrap();
        let next: Cursor = next.lines().next().unwrap().parse().unwrap();
        let seen = Positions::decode(next.opaque.as_deref().unwrap(), &bench.route().stream.topics).unwrap();
        assert_eq!(seen.0[0].next, [5, 0, 7], "it still stands where it stood");
        bench.pass(Duration::from_secs(60));
        assert_eq!(received(&bench.written(&mut sse)), Vec::<String>::new(), "no loss is proven");
        if exists {
            bench.hub.assign(&Assigned::new("orders", 0, [5, 0, 0]));
            for n in 0..9 {
                bench.hub.append(&of(2, n));
            }
            assert_eq!(received(&bench.written(&mut sse)), ["7", "8"]);
        } else {
            let mut log = FakeLog::new(Vec::new(), 20);
            log.partitions = 2;
            bench.log = Arc::new(log);
            let answer = bench.written(&mut sse);
            assert!(answer.contains(r#""ranges":[{"topic":"orders","partition":2,"from":0,"to":6}]"#), "{answer}");
        }
        bench.append(&mut sse, 5, &[]);
        assert_eq!(received(&bench.written(&mut sse)), ["5"], "it is live, or will be");
    }
}

/// A client of a recreated topic, at its second event.
fn of_epoch(bench: &Bench, epoch: u32) -> String {
    let positions = Positions(vec![TopicPosition { epoch, next: vec![2, 0] }]);
    positions.cursor(&bench.route().stream.topics, "orders:0:1".parse().unwrap()).to_string()
}

#[test]
fn a_client_that_knows_a_newer_topic_waits_for_it() {
    let mut bench = Bench::new();
    let assign = |bench: &mut Bench, epoch| {
        bench.hub.assign(&Assigned::new("orders", epoch, [0, 0]));
        for n in 0..4 {
            bench.hub.append(&Entry::Event(event("orders", 0, n, &[])));
        }
    };
    assign(&mut bench, 7);
    let mut log = FakeLog::new(Vec::new(), 20);
    log.epoch = 8;
    bench.log = Arc::new(log);
    let cursor = of_epoch(&bench, 8);
    let mut sse = bench.open(Transport::Sse, since(&cursor));
    let mut ndjson = bench.open(Transport::Ndjson, since(&cursor));
    for seconds in [0, 2, 6, 1] {
        bench.pass(Duration::from_secs(seconds));
        assert_eq!(received(&bench.written(&mut sse)), Vec::<String>::new());
        assert_eq!(bench.written(&mut ndjson), "");
    }
    assign(&mut bench, 8);
    assert_eq!(received(&bench.written(&mut sse)), ["2", "3"], "no gap, and no event again");
    assert_eq!(received(&bench.written(&mut ndjson)), ["2", "3"]);
    let mut waits = bench.open(Transport::Ndjson, since(&of_epoch(&bench, 9)));
    bench.written(&mut waits);
    bench.log = Arc::new(Mute);
    bench.pass(Duration::from_secs(60));
    assert!(bench.written(&mut waits).starts_with("HTTP/1.1 503"), "no broker says which topic there is");
}

#[test]
fn a_client_of_an_older_topic_is_sent_on_once_the_brokers_confirm_the_newer_one() {
    let mut bench = Bench::new();
    bench.hub.assign(&Assigned::new("orders", 7, [0, 0]));
    bench.hub.append(&Entry::Event(event("orders", 0, 0, &[])));
    let mut log = FakeLog::new(Vec::new(), 20);
    log.epoch = 7;
    bench.log = Arc::new(log);
    let mut sse = bench.open(Transport::Sse, since(&of_epoch(&bench, 6)));
    bench.written(&mut sse);
    bench.pass(Duration::from_secs(7));
    assert_eq!(bench.written(&mut sse), "", "a broker may not know of the newer one yet");
    bench.pass(Duration::from_secs(1));
    assert_eq!(received(&bench.written(&mut sse)), ["topic-recreated", "0"]);
    // This replica has read both.
    bench.hub.assign(&Assigned::new("orders", 8, [0, 0]));
    let mut known = bench.open(Transport::Sse, since(&of_epoch(&bench, 7)));
    assert_eq!(received(&bench.written(&mut known)), ["topic-recreated"]);
}

/// The stream may have had one partition when the id was sent.
#[test]
fn what_the_log_of_another_partition_has_lost_since_an_event_is_a_gap() {
    let mut bench = bench(10, |fake_log| {
        let added = (3..5).map(|n| Entry::Event(event("orders", 1, n, &[])));
        fake_log.entries.extend(added);
        fake_log.low = 3;
    });
    bench.hub.assign(&Assigned::new("orders", 0, [10, 5]));
    let mut sse = bench.open(Transport::Sse, since("orders:0:7"));
    (0..4).for_each(|_| drop(bench.written(&mut sse)));
    let mut sse = bench.open(Transport::Sse, since("orders:0:7"));
    let answer = bench.written(&mut sse);
    assert!(answer.contains(r#""ranges":[{"topic":"orders","partition":1,"from":0,"to":2}]"#), "{answer}");
    let mut got = received(&answer);
    got.sort_unstable();
    assert_eq!(got, ["3", "4", "8", "9", "retention"]);
}

#[test]
fn a_gap_names_what_the_log_lost_and_nothing_that_was_not_read_here_yet() {
    // This replica has read four events; the client has received fifteen, of which the log lost the last five.
    let mut bench = bench(4, |fake_log| {
        fake_log.entries = bench_entries(10);
        fake_log.high = 10;
    });
    let mut session = bench.open(Transport::Sse, since("orders:0:14"));
    bench.written(&mut session);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.written(&mut session), "", "it goes on once all that is left was read here");
    // The records that replaced the lost ones are sent as well.
    bench.log = Arc::new(FakeLog::new(bench_entries(17), 20));
    for entry in &bench_entries(17)[4..] {
        bench.hub.append(entry);
    }
    let answer = bench.written(&mut session);
    assert!(answer.contains(r#""ranges":[{"topic":"orders","partition":0,"from":10,"to":14}]"#), "{answer}");
    let events: Vec<String> = (10..17).map(|n| n.to_string()).collect();
    assert_eq!(received(&answer)[1..], events);
}

#[test]
fn of_two_partitions_that_are_ahead_only_what_is_gone_is_lost() {
    let mut bench = bench(4, |fake_log| fake_log.high = 4);
    bench.hub.assign(&Assigned::new("orders", 0, [4, 0]));
    let cursor = at(&bench, &[6, 3]);
    let mut session = bench.open(Transport::Sse, since(&cursor));
    bench.written(&mut session);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.written(&mut session), "", "of the other partition the log says that it is there");
    for n in 0..4 {
        bench.hub.append(&Entry::Event(event("orders", 1, n, &[])));
    }
    let answer = bench.written(&mut session);
    assert!(answer.contains(r#""ranges":[{"topic":"orders","partition":0,"from":4,"to":5}]"#), "{answer}");
    assert_eq!(received(&answer), ["truncated", "3"]);
}

#[test]
fn a_time_is_a_position() {
    let mut bench = bench(20, |_| {});
    // The time of an event is its offset in milliseconds.
    let mut session = bench.open(Transport::Ndjson, since("1970-01-01T00:00:00.012Z"));
    assert_eq!(received(&bench.written(&mut session)), (12..20).map(|n| n.to_string()).collect::<Vec<_>>());
    let mut session = bench.open(Transport::Ndjson, since("1970-01-01T00:00:09Z"));
    assert_eq!(received(&bench.written(&mut session)), Vec::<String>::new(), "nothing yet");
    bench.append(&mut session, 20, &[]);
    assert_eq!(received(&bench.written(&mut session)), ["20"]);
    let mut session = bench.open(Transport::Ndjson, since("-1s"));
    assert_eq!(received(&bench.written(&mut session)), Vec::<String>::new());
}

#[test]
fn reading_the_log_has_limits() {
    let mut bench = bench(20, |fake_log| fake_log.limits.events = 6);
    let mut gone = bench.open(Transport::Ndjson, since("orders:0:4"));
    assert!(bench.written(&mut gone).contains(r#""cause":"replay-limit""#));
    let mut session = bench.open(Transport::Sse, since("orders:0:4"));
    let answer = bench.written(&mut session);
    assert_eq!(received(&answer)[..2], ["replay-limit", "10"], "{answer}");
    assert!(answer.contains(r#""ranges":[{"topic":"orders","partition":0,"from":5,"to":9}]"#));

    let mut bench = self::bench(20, |fake_log| fake_log.limits.bytes = 1);
    let mut session = bench.open(Transport::Sse, since("orders:0:4"));
    let told_of = received(&bench.written(&mut session));
    assert_eq!(told_of, ["5", "6", "7", "replay-limit", "16", "17", "18", "19"], "a page is read to its end");
}

#[test]
fn offsets_without_events_do_not_count_towards_the_limit() {
    const EVENTS: i64 = 20;
    // Each tenth offset holds an event; compaction took the others. The window holds the last four.
    let sparse = |limit: u64| {
        let mut bench = Bench::new();
        let entries: Vec<Entry> = (0..EVENTS).map(|n| Entry::Event(event("orders", 0, 10 * n, &[]))).collect();
        entries.iter().for_each(|entry| {
            bench.hub.append(entry);
        });
        let mut fake_log = FakeLog::new(entries, 6);
        fake_log.limits.events = limit;
        bench.log = Arc::new(fake_log);
        bench
    };
    let all: Vec<String> = (1..EVENTS).map(|n| (10 * n).to_string()).collect();
    let mut bench = sparse(15);
    for transport in [Transport::Sse, Transport::Ndjson] {
        let mut session = bench.open(transport, since("orders:0:0"));
        assert_eq!(received(&bench.written(&mut session)), all, "{transport:?}");
    }
    let mut bench = sparse(14);
    let mut session = bench.open(Transport::Sse, since("orders:0:0"));
    assert_eq!(received(&bench.written(&mut session))[0], "replay-limit");
    // Where the log does not answer in time, offsets count.
    let mut bench = sparse(15);
    let limits = bench.log.limits();
    bench.log = Arc::new(HalfSilent { fake_log: FakeLog { limits, ..FakeLog::new(Vec::new(), 3) }, is_late: false });
    let mut session = bench.open(Transport::Sse, since("orders:0:0"));
    assert_eq!(received(&bench.written(&mut session)), Vec::<String>::new());
    bench.pass(Duration::from_secs(5));
    assert_eq!(received(&bench.written(&mut session))[0], "replay-limit");
}

#[test]
fn without_a_log_the_window_is_all_there_is() {
    let mut bench = bench(20, |_| {});
    bench.log = Arc::new(NoLog);
    let mut session = bench.open(Transport::Sse, since("orders:0:4"));
    let answer = bench.written(&mut session);
    assert_eq!(received(&answer)[..2], ["retention", "16"], "{answer}");
}

#[test]
fn a_heartbeat_says_how_far_others_came() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Sse, |request, _| request.selector = selector(&[("userId", "a")]));
    bench.written(&mut session);
    let beat = |bench: &mut Bench, session: &mut Session| {
        bench.pass(Duration::from_secs(15));
        assert!(session.tick(&mut bench.context()));
        bench.written(session)
    };
    assert_eq!(beat(&mut bench, &mut session), ": keep-alive\n\n");
    bench.append(&mut session, 0, &[("userId", "b")]);
    assert_eq!(beat(&mut bench, &mut session), ": keep-alive\nid: orders:0:0\n\n");
    assert_eq!(beat(&mut bench, &mut session), ": keep-alive\n\n", "once");
    bench.append(&mut session, 1, &[("userId", "a")]);
    assert!(bench.written(&mut session).starts_with("id: orders:0:1\n"));
    assert_eq!(beat(&mut bench, &mut session), ": keep-alive\n\n", "it knows");
}

#[test]
fn records_that_are_no_events_are_reported_from_the_log_as_well() {
    let range = |from| GapRange { topic: "orders".into(), partition: 0, from, to: from };
    let mut bench = bench(20, |fake_log| {
        let entries = (5..7).map(|from| Entry::Gap { cause: GapCause::Undecodable, range: range(from) });
        fake_log.entries.splice(5..7, entries);
    });
    let mut session = bench.open(Transport::Sse, since("orders:0:4"));
    assert_eq!(received(&bench.written(&mut session))[..2], ["undecodable", "7"]);
}
