//! Sessions of clients that know more than this replica: partitions and topics that it does not read yet.

use super::*;
use crate::event::CLOCK_SKEW_MS;

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

/// A log of which one leader is silent: requests for offsets have no answer yet.
#[derive(Debug)]
struct SilentLeader(FakeLog);

impl Log for SilentLeader {
    fn page(&self, wanted: &Place, asker: Asker) -> Lookup<Arc<Page>> {
        self.0.page(wanted, asker)
    }

    fn offsets_at(&self, _: &Topic, _: i64, _: Asker) -> Lookup<OffsetsAt> {
        Lookup::Asked
    }

    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription> {
        self.0.description(topic, since_ms, asker)
    }

    fn limits(&self) -> ReplayLimits {
        self.0.limits
    }
}

#[test]
fn a_silent_leader_does_not_delay_what_brokers_say_of_a_topic() {
    let mut bench = Bench::new();
    bench.hub.assign(&Assigned::new("orders", 7, [0, 0]));
    bench.hub.append(&Entry::Event(event("orders", 0, 0, &[])));
    let mut log = FakeLog::new(Vec::new(), 20);
    (log.epoch, log.partitions) = (7, 2);
    bench.log = Arc::new(SilentLeader(log));
    let mut older = bench.open(Transport::Sse, since(&of_epoch(&bench, 6)));
    let mut unknown = bench.open(Transport::Sse, since("orders:3:73"));
    bench.written(&mut older);
    bench.written(&mut unknown);
    bench.pass(Duration::from_secs(8));
    assert_eq!(received(&bench.written(&mut older)), ["topic-recreated", "0"]);
    assert_eq!(received(&bench.written(&mut unknown))[0], "truncated");
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

/// What a partition had when it went live here is older than an event from after that.
#[test]
fn what_an_idle_partition_has_lost_is_no_gap_for_a_newer_event() {
    const MS: i64 = 10_000 + CLOCK_SKEW_MS;
    let of_first = |n| Entry::Event(event("orders", 0, n, &[]));
    for (at_ms, is_lost) in [(9_999, false), (10_000, true)] {
        let mut bench = Bench::new();
        bench.hub.assign(&Assigned { at_ms, ..Assigned::new("orders", 0, [MS, 5]) });
        let mut log = FakeLog::new(vec![of_first(MS), of_first(MS + 1)], 20);
        (log.low, log.partitions) = (5, 2);
        for entry in &log.entries {
            bench.hub.append(entry);
        }
        bench.log = Arc::new(log);
        let mut sse = bench.open(Transport::Sse, since(&format!("orders:0:{MS}")));
        (0..4).for_each(|_| drop(bench.written(&mut sse)));
        let mut sse = bench.open(Transport::Sse, since(&format!("orders:0:{MS}")));
        let answer = bench.written(&mut sse);
        assert_eq!(received(&answer).contains(&"retention".into()), is_lost, "{answer}");
        assert!(received(&answer).contains(&(MS + 1).to_string()), "{answer}");
    }
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
