//! Sessions without sockets: a context with a hub and an index, and a clock that the test sets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::codec::Encodings;
use crate::codec::websocket::{self, Opcode, frame};
use crate::cursor::{Positions, TopicPosition};
use crate::event::{Assigned, Entry, EventId, GapCause, GapRange};
use crate::hub::{Hub, Index, Log, NoLog, WindowLimits};
use crate::route::{OnGap, QueueLimits, Stream, StreamRoute};
pub(super) use crate::testing::principal as token;
use crate::testing::{self, FakeLog, event, selector, stream};

/// A writer without sockets.
pub(super) struct Bench {
    pub(super) hub: Hub,
    index: Index,
    pub(super) log: Arc<dyn Log>,
    pub(super) encodings: Encodings,
    pub(super) judge: Judge,
    pub(super) now: Now,
    /// For the next sessions.
    pub(super) jitter: f64,
    pub(super) stream: Arc<Stream>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let limits = WindowLimits { events: 4, bytes: 10_000 };
        let mut hub = Hub::new([("orders".into(), limits)]);
        hub.assign(&Assigned::new("orders", 0, [0]));
        hub.go_live(&["orders".into()]);
        let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
        Self {
            hub,
            index: Index::default(),
            log: Arc::new(NoLog),
            encodings: Encodings::new(1 << 20),
            judge: Judge::default(),
            now,
            jitter: 0.5,
            stream: stream(1, &["orders"]),
        }
    }

    pub(super) fn context(&mut self) -> WriterContext<'_> {
        WriterContext {
            hub: &self.hub,
            index: &mut self.index,
            log: &*self.log,
            encodings: &self.encodings,
            judge: &self.judge,
            writer: 0,
            session: 0,
            now: self.now,
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.unix_ms += time.as_millis() as i64;
    }

    pub(super) fn route(&self) -> StreamRoute {
        let queue = QueueLimits { events: 8, bytes: 10_000, overflow: Overflow::DropOldest };
        StreamRoute { stream: self.stream.clone(), refresh: Some("/all".into()), queue, ..testing::route("/orders") }
    }

    pub(super) fn open(
        &mut self,
        transport: Transport,
        change: impl FnOnce(&mut Request, &mut StreamRoute),
    ) -> Session {
        let mut route = self.route();
        let mut request = Request {
            content_type: "text/event-stream",
            socket: (transport == Transport::WebSocket).then(testing::socket),
            ..testing::request(Arc::new(self.route()), transport)
        };
        change(&mut request, &mut route);
        request.heartbeat_form = route.heartbeat_form;
        request.route = Arc::new(route);
        Session::open(request, self.jitter, &mut self.context())
    }

    /// Appends an event, and offers it to the session like the writer.
    pub(super) fn append(&mut self, session: &mut Session, offset: i64, keys: &[(&str, &str)]) {
        self.deliver(session, &event("orders", 0, offset, keys));
    }

    /// The same with this event.
    pub(super) fn deliver(&mut self, session: &mut Session, event: &Arc<Event>) {
        let seq = self.hub.append(&Entry::Event(event.clone()));
        let Self { hub, encodings, judge, .. } = &*self;
        self.index.matches(event, |stream, subscribers| {
            let cursor = Bytes::from(hub.cursor_at(stream, &event.id).to_string());
            for subscriber in subscribers {
                if !session.may_receive(event, subscriber.frame, judge) {
                    continue;
                }
                let encoding =
                    encodings.shared(event, session.frame(subscriber.frame).unwrap(), || cursor.clone()).unwrap();
                session.offer(event, &encoding, seq);
            }
        });
    }

    /// All bytes that the session has to write.
    pub(super) fn written(&mut self, session: &mut Session) -> String {
        String::from_utf8_lossy(&self.bytes(session)).into_owned()
    }

    pub(super) fn bytes(&mut self, session: &mut Session) -> Vec<u8> {
        let (mut bytes, mut silent) = (Vec::new(), 0);
        loop {
            session.catch_up(&mut self.context());
            session.prepare(self.now, |_| {});
            let ready = ready(session);
            if ready.is_empty() {
                // Requested data of the log is available at the next check, which may request more.
                silent += 1;
                if silent > 4 {
                    return bytes;
                }
                continue;
            }
            silent = 0;
            session.wrote(ready.len(), self.now, |_, _| {});
            bytes.extend(ready);
        }
    }

    /// The response to a WebSocket command, without its frame.
    pub(super) fn ask(&mut self, session: &mut Session, command: &Value) -> Vec<Value> {
        session.read(&masked(Opcode::Text, command.to_string().as_bytes()), &mut self.context());
        let text = self.written(session);
        let starts: Vec<usize> = text.match_indices(r#"{"id":"#).map(|(at, _)| at).collect();
        let messages = starts.iter().map(|at| serde_json::Deserializer::from_str(&text[*at..]).into_iter().next());
        // Envelopes inside of messages look similar; only messages have a timestamp.
        messages.filter_map(|value| value?.ok()).filter(|value: &Value| value.get("timestamp").is_some()).collect()
    }
}

/// The bytes of the next write.
pub(super) fn ready(session: &Session) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut parts = Parts::new(&mut buffer);
    session.write(&mut parts);
    parts.slices().collect::<Vec<_>>().concat()
}

pub(super) fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(opcode, payload);
    let head = bytes.len() - payload.len();
    bytes[1] |= 0x80;
    bytes.splice(head..head, [0; 4]);
    bytes
}

pub(super) fn resume(cursor: &str) -> Option<Box<Resume>> {
    Some(Box::new(Resume::From(cursor.parse().unwrap())))
}

#[test]
fn an_sse_stream_starts_with_its_head_and_a_priming_record() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Sse, |request, _| request.http11 = true);
    let text = bench.written(&mut session);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    for line in [
        "Content-Type: text/event-stream",
        "Cache-Control: no-cache, no-store, no-transform",
        "X-Accel-Buffering: no",
        "Connection: keep-alive",
        "Transfer-Encoding: chunked",
    ] {
        assert!(head.contains(line), "{line}");
    }
    assert_eq!(body, "1d\r\nretry: 2500\nid: orders:0:-1\n\n\r\n");
    bench.append(&mut session, 0, &[]);
    assert!(bench.written(&mut session).contains("id: orders:0:0\ndata: {\"id\":\"orders:0:0\""));
}

#[test]
fn a_resumed_stream_continues_exactly_and_then_live() {
    let mut bench = Bench::new();
    let mut first = bench.open(Transport::Ndjson, |_, _| {});
    for offset in 0..3 {
        bench.append(&mut first, offset, &[]);
    }
    first.close(CloseReason::ClientLost);
    first.leave(&mut bench.context());
    let mut session = bench.open(Transport::Ndjson, |request, _| request.resume = resume("orders:0:0"));
    bench.append(&mut session, 3, &[]);
    let body = bench.written(&mut session).split_once("\r\n\r\n").unwrap().1.to_owned();
    let ids: Vec<_> = body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids, ["orders:0:1", "orders:0:2", "orders:0:3"]);
}

#[test]
fn events_outside_the_window_are_a_410_or_a_gap() {
    let mut bench = Bench::new();
    let mut other = bench.open(Transport::Sse, |_, _| {});
    for offset in 0..8 {
        bench.append(&mut other, offset, &[]);
    }
    let mut gone = bench.open(Transport::Ndjson, |request, _| request.resume = resume("orders:0:1"));
    assert_eq!(gone.closed(), Some(CloseReason::ReplayNotPossible));
    let text = bench.written(&mut gone);
    assert!(text.starts_with("HTTP/1.1 410 Gone\r\n") && text.contains("X-Replay-Not-Possible: true\r\n"), "{text}");
    assert!(text.contains(r#""refresh":"/all""#) && text.contains(r#""cause":"retention""#), "{text}");

    let mut notified = bench.open(Transport::Ndjson, |request, route| {
        request.resume = resume("orders:0:1");
        route.on_gap = OnGap::Continue;
    });
    let text = bench.written(&mut notified);
    assert!(text.contains(r#"{"type":"gap","cause":"retention","ranges":[{"topic":"orders","partition":0,"from":2,"to":3}],"missed":null,"refresh":"/all","cursor":"orders:0:3"}"#), "{text}");
    assert_eq!(text.matches("\"data\":{").count(), 4);

    let mut sse = bench.open(Transport::Sse, |request, _| request.resume = Some(Box::new(Resume::Unreadable)));
    assert!(bench.written(&mut sse).contains("event: gap\ndata: {\"type\":\"gap\",\"cause\":\"truncated\""));
}

#[test]
fn no_position_is_after_a_gap_before_it_is_sent() {
    let mut bench = Bench::new();
    bench.hub.assign(&Assigned::new("orders", 0, [0, 0]));
    let mut other = bench.open(Transport::Sse, |_, _| {});
    for offset in 0..8 {
        bench.append(&mut other, offset, &[]);
    }
    let at = |next: [i64; 2]| {
        let id = EventId { topic: "orders".into(), partition: 0, offset: next[0] - 1 };
        let position = TopicPosition { epoch: 0, next: next.to_vec() };
        Positions(vec![position]).cursor(&["orders".into()], id)
    };
    let mut fell_out =
        bench.open(Transport::Sse, |request, _| request.resume = Some(Box::new(Resume::From(at([2, 0])))));
    let text = bench.written(&mut fell_out);
    assert!(text.contains(&format!("retry: 2500\nid: {}\n\nid: {}\nevent: gap\n", at([2, 0]), at([4, 0]))), "{text}");

    // The log is not replayed, and its partitions are empty.
    let mut fake_log = FakeLog::new(Vec::new(), 1);
    (fake_log.limits.events, fake_log.high) = (0, 0);
    bench.log = Arc::new(fake_log);
    let mut twice = bench.open(Transport::Sse, |request, _| request.resume = Some(Box::new(Resume::From(at([2, 5])))));
    bench.pass(Duration::from_secs(1));
    let text = bench.written(&mut twice);
    let gaps: Vec<&str> = text.split("\n\n").filter(|record| record.contains("event: gap\n")).collect();
    assert_eq!(gaps.len(), 2, "{text}");
    assert!(gaps[0].starts_with("event: gap") && gaps[1].starts_with("id: "), "{text}");
}

#[test]
fn streams_end_with_their_token() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::WebSocket, |request, _| {
        request.principal = Some(token("a", Some(1_000_000 + 5_000)));
    });
    bench.written(&mut session);
    bench.pass(Duration::from_secs(4));
    session.tick(&mut bench.context());
    bench.written(&mut session);
    assert_eq!(session.deadline(), bench.now.instant + Duration::from_secs(1));
    bench.pass(Duration::from_secs(1));
    session.tick(&mut bench.context());
    assert_eq!(session.closed(), Some(CloseReason::TokenExpired));
    assert_eq!(bench.bytes(&mut session), websocket::close_frame(1008, "token expired"));
}

#[test]
fn a_drain_ends_streams_at_a_record_boundary() {
    let mut bench = Bench::new();
    let mut session = bench.open(Transport::Sse, |request, _| request.http11 = true);
    bench.append(&mut session, 0, &[]);
    session.close(CloseReason::Drain);
    session.leave(&mut bench.context());
    bench.append(&mut session, 1, &[]);
    let text = bench.written(&mut session);
    assert!(text.contains("orders:0:0") && !text.contains("orders:0:1"));
    assert!(text.ends_with("retry: 2500\n\n\r\n0\r\n\r\n"), "{text}");
    assert!(session.is_flushed());
}

#[test]
fn a_full_queue_causes_a_gap_or_ends_the_stream() {
    let mut bench = Bench::new();
    let queue = |overflow| QueueLimits { events: 2, bytes: 10_000, overflow };
    let mut dropping = bench.open(Transport::Sse, |_, route| route.queue = queue(Overflow::DropOldest));
    bench.written(&mut dropping);
    for offset in 0..5 {
        bench.append(&mut dropping, offset, &[]);
    }
    let text = bench.written(&mut dropping);
    assert!(text.starts_with("id: orders:0:2\nevent: gap\n"), "{text}");
    assert!(text.contains(r#""missed":3"#) && text.contains("id: orders:0:3\n") && text.contains("id: orders:0:4\n"));
    dropping.leave(&mut bench.context());

    let mut strict = bench.open(Transport::WebSocket, |_, route| route.queue = queue(Overflow::Disconnect));
    bench.written(&mut strict);
    for offset in 5..8 {
        bench.append(&mut strict, offset, &[]);
    }
    assert_eq!(strict.closed(), Some(CloseReason::SlowConsumer));
    assert!(!bench.written(&mut strict).contains("orders:0"), "nothing after the loss is sent");
}

#[test]
fn losses_at_the_source_reach_live_and_replaying_sessions() {
    let mut bench = Bench::new();
    let mut live = bench.open(Transport::Sse, |request, _| request.selector = selector(&[("userId", "a")]));
    bench.written(&mut live);
    let range = GapRange { topic: "orders".into(), partition: 0, from: 0, to: 0 };
    let seq = bench.hub.append(&Entry::Gap { cause: GapCause::Undecodable, range: range.clone() });
    assert!(live.report_gap(Gap::at_source(GapCause::Undecodable, range, "orders:0:0".into()), Some(seq)));
    assert!(bench.written(&mut live).starts_with("id: orders:0:0\nevent: gap\n"));
    let mut late = bench.open(Transport::Sse, |request, _| request.resume = resume("orders:0:-1"));
    assert!(bench.written(&mut late).contains("id: orders:0:0\nevent: gap\n"));
}
