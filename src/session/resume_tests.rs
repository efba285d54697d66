//! Sessions that resume from the log behind the window.

use std::time::Duration;

use super::tests::{Bench, resume, token};
use super::*;
use crate::admission::Rights;
use crate::cursor::TopicPosition;
use crate::cursor::{Cursor, Positions};
use crate::encoding::ENCODING_OVERHEAD_BYTES;
use crate::event::{Assigned, Entry, EventId, GapRange, Topic, UNKNOWN_POSITION};
use crate::hub::{Asker, Hub, Log, Lookup, NoLog, OffsetsAt, Page, Place, ReplayLimits, TopicDescription};
use crate::route::{OnGap, StreamRoute};
use crate::testing::{FakeLog, event, route, selector};

#[path = "ahead_tests.rs"]
mod ahead;

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
    fn page(&self, wanted: &Place, asker: Asker) -> Lookup<Arc<Page>> {
        match wanted.partition {
            0 => Lookup::Down,
            _ if self.is_late => Lookup::Asked,
            _ => self.fake_log.page(wanted, asker),
        }
    }

    fn offsets_at(&self, topic: &Topic, ms: i64, asker: Asker) -> Lookup<OffsetsAt> {
        self.fake_log.offsets_at(topic, ms, asker)
    }

    fn description(&self, topic: &Topic, since_ms: i64, asker: Asker) -> Lookup<TopicDescription> {
        self.fake_log.description(topic, since_ms, asker)
    }

    fn limits(&self) -> ReplayLimits {
        self.fake_log.limits
    }
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

/// A log without reachable brokers.
#[derive(Debug)]
struct Mute;

impl Log for Mute {
    fn page(&self, _: &Place, _: Asker) -> Lookup<Arc<Page>> {
        Lookup::Down
    }

    fn offsets_at(&self, _: &Topic, _: i64, _: Asker) -> Lookup<OffsetsAt> {
        Lookup::Down
    }

    fn description(&self, _: &Topic, _: i64, _: Asker) -> Lookup<TopicDescription> {
        Lookup::Down
    }

    fn limits(&self) -> ReplayLimits {
        ReplayLimits { events: 100, bytes: 1 << 20, time: Duration::from_secs(10) }
    }
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
