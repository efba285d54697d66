//! Turns of a shard with peers in memory, and a clock that the test sets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::codec::{Encodings, Parts};
use crate::encoding::ENCODING_OVERHEAD_BYTES;
use crate::event::{Assigned, Entry, Feed};
use crate::hub::NoLog;
use crate::metrics::Metrics;
use crate::route::{Overflow, QueueLimits, RouteTable, StreamRoute, Transport};
use crate::session::{self, Request};
use crate::testing::{self, event, stream};
use crate::writer::connection::READ_BYTES;
use crate::writer::tcp_info::Peer;

/// A peer in memory; its clones are the two ends of one wire.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Ends>>);

#[derive(Default)]
struct Ends {
    /// What the peer has sent, and is not read yet.
    sent: VecDeque<u8>,
    has_peer_ended: bool,
    /// What the peer has received.
    received: Vec<u8>,
    /// How many more bytes the wire takes.
    room: usize,
    has_ended: bool,
}

impl Wire for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        if ends.sent.is_empty() && !ends.has_peer_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = buffer.len().min(ends.sent.len());
        buffer.iter_mut().zip(ends.sent.drain(..n)).for_each(|(to, from)| *to = from);
        Ok(n)
    }

    fn write(&mut self, parts: &Parts<'_, '_>) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        let all = parts.slices().collect::<Vec<_>>().concat();
        let n = all.len().min(ends.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        ends.room -= n;
        ends.received.extend_from_slice(&all[..n]);
        Ok(n)
    }

    fn end(&mut self) {
        self.0.borrow_mut().has_ended = true;
    }

    fn peer(&self) -> io::Result<Peer> {
        let is_unsent = self.0.borrow().room == 0;
        let (sent, silent) = (Duration::ZERO, Duration::ZERO);
        Ok(Peer { is_unacked: false, is_unsent, is_probed: false, acked: 0, sent, silent })
    }

    fn set_peer_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    /// What the peer has received since the last call.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.borrow_mut().received)).unwrap()
    }
}

struct Bench {
    shard: Shard<Memory>,
    metrics: Arc<Metrics>,
    now: Now,
    routes: Arc<RouteTable>,
    /// Of the next clients.
    http11: bool,
}

impl Bench {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new("test").unwrap());
        let shared = Shared {
            log: Arc::new(NoLog),
            encodings: Arc::new(Encodings::new(1 << 20)),
            metrics: metrics.clone(),
            tracer: None,
        };
        let now = Now { instant: Instant::now(), unix_ms: 1_000_000 };
        let windows = [("orders".into(), WindowLimits { events: 100, bytes: 1 << 20 })];
        let mut shard = Shard::new(0, &windows, &shared, now.instant);
        shard.apply(&Feed::Assigned(Assigned::new("orders", 0, [0])), now);
        shard.apply(&Feed::Live { topics: ["orders".into()].into() }, now);
        Self { shard, metrics, now, routes: Arc::default(), http11: false }
    }

    /// A client with a queue of four events.
    fn open(&mut self, transport: Transport) -> Memory {
        self.open_at(transport, None)
    }

    /// One that asks for at most this many events a second.
    fn open_at(&mut self, transport: Transport, max_rate: Option<u32>) -> Memory {
        let queue = QueueLimits { events: 4, bytes: 1 << 20, overflow: Overflow::DropOldest };
        let route = StreamRoute { stream: stream(1, &["orders"]), queue, ..testing::route("/orders") };
        let request = Request {
            http11: self.http11,
            pace: session::Pace::asked(None, max_rate, self.now.instant),
            routes: self.routes.clone(),
            ..testing::request(Arc::new(route), transport)
        };
        let wire = Memory::default();
        wire.0.borrow_mut().room = usize::MAX;
        self.shard.streams().fetch_add(1, Ordering::Relaxed);
        let opening = Opening {
            socket: wire.clone(),
            peer_timeout: Duration::from_secs(30),
            early: Bytes::new(),
            request,
            span: None,
            slot: Box::new(()),
        };
        self.shard.open(opening, 0.0, self.now);
        wire
    }

    /// A client that has received the start of its stream.
    fn opened(&mut self, transport: Transport) -> Memory {
        let wire = self.open(transport);
        self.turn();
        assert!(wire.take().starts_with("HTTP/1.1 200 OK\r\n"));
        wire
    }

    fn turn(&mut self) {
        self.shard.finish_turn(self.now);
    }

    /// Sleeps like the loop of a writer, and has a turn whenever the shard wants one.
    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        loop {
            let wait = self.shard.wait(self.now.instant).filter(|wait| self.now.instant + *wait < end);
            let step = wait.unwrap_or(end - self.now.instant);
            self.now.instant += step;
            self.now.unix_ms += step.as_millis() as i64;
            self.turn();
            if wait.is_none() {
                return;
            }
        }
    }

    fn feed(&mut self, offsets: std::ops::Range<i64>) {
        let entries: Arc<[Entry]> = offsets.map(|offset| Entry::Event(event("orders", 0, offset, &[]))).collect();
        self.shard.apply(&Feed::Batch(entries), self.now);
    }

    fn streams(&self) -> usize {
        self.shard.streams().load(Ordering::Relaxed)
    }
}

fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("{\"id\":\"orders:0:")?.split('"').next()).collect()
}

#[test]
fn events_of_a_turn_go_out_in_one_turn_to_every_client() {
    let mut bench = Bench::new();
    let clients = [(); 3].map(|()| bench.opened(Transport::Ndjson));
    bench.feed(0..2);
    bench.feed(2..3);
    assert!(clients.iter().all(|client| client.take().is_empty()), "before the turn is over");
    bench.turn();
    for client in &clients {
        assert_eq!(ids(&client.take()), ["0", "1", "2"]);
    }
}

/// Whatever a wire takes at a time, the client receives the same bytes.
#[test]
fn a_record_is_continued_where_the_wire_took_no_more() {
    for room in 1..200 {
        let mut bench = Bench::new();
        let client = bench.opened(Transport::Ndjson);
        client.0.borrow_mut().room = 0;
        bench.feed(0..3);
        let mut text = String::new();
        while ids(&text).len() < 3 || !text.ends_with('\n') {
            client.0.borrow_mut().room = room;
            bench.shard.is_ready(0, false, true);
            bench.turn();
            text += &client.take();
        }
        assert_eq!(text.matches('\n').count(), 3, "{text}");
    }
}

#[test]
fn one_encoding_serves_connections_with_and_without_chunks() {
    let mut bench = Bench::new();
    let plain = bench.opened(Transport::Ndjson);
    bench.http11 = true;
    let chunked = bench.opened(Transport::Ndjson);
    bench.feed(0..1);
    bench.turn();
    let line = plain.take();
    assert_eq!(chunked.take(), format!("{:x}\r\n{line}\r\n", line.len()));
    let one = line.len() + "orders:0:0".len() + ENCODING_OVERHEAD_BYTES;
    assert_eq!(bench.shard.state.encodings.kept_bytes(), one);
}

#[test]
fn a_full_wire_fills_its_own_queue_only() {
    let mut bench = Bench::new();
    let [slow, quick] = [(); 2].map(|()| bench.opened(Transport::Ndjson));
    slow.0.borrow_mut().room = 0;
    bench.feed(0..1);
    bench.turn();
    bench.feed(1..10);
    bench.turn();
    assert_eq!(ids(&quick.take()).len(), 10);
    slow.0.borrow_mut().room = usize::MAX;
    bench.shard.is_ready(0, false, true);
    bench.turn();
    let text = slow.take();
    assert_eq!(ids(&text), ["6", "7", "8", "9"]);
    assert!(text.starts_with(r#"{"type":"gap","cause":"overflow""#), "{text}");
    assert_eq!(bench.metrics.events_dropped.with_label_values(&["drop-oldest"]).get(), 6);
}

#[test]
fn an_idle_stream_has_a_turn_for_each_heartbeat() {
    let mut bench = Bench::new();
    let client = bench.opened(Transport::Sse);
    bench.pass(Duration::from_secs(14));
    assert_eq!(client.take(), "");
    bench.pass(Duration::from_secs(2));
    assert_eq!(client.take(), ": keep-alive\n\n");
    bench.pass(Duration::from_secs(150));
    assert_eq!(client.take(), ": keep-alive\n\n".repeat(10));
}

#[test]
fn a_stream_that_waits_for_its_rate_has_few_timers() {
    let mut bench = Bench::new();
    let client = bench.open_at(Transport::Sse, Some(10));
    bench.turn();
    client.take();
    for offset in 0..1000 {
        bench.feed(offset..offset + 1);
        bench.turn();
        while client.take().is_empty() {
            bench.pass(Duration::from_millis(20));
        }
    }
    let timers = bench.shard.timers.len();
    assert!(timers <= 4, "{timers} timers of one stream");
}

#[test]
fn a_client_that_leaves_is_removed_at_once() {
    let mut bench = Bench::new();
    let client = bench.opened(Transport::Sse);
    client.0.borrow_mut().has_peer_ended = true;
    bench.shard.is_ready(0, true, false);
    assert_eq!((bench.shard.unread(), bench.shard.wait(bench.now.instant)), (1, Some(Duration::ZERO)));
    bench.shard.read_next(&mut [0; READ_BYTES], bench.now);
    assert_eq!((bench.shard.unread(), bench.streams()), (0, 0));
    assert_eq!(bench.metrics.transport(Transport::Sse).active_connections.get(), 0);
}

#[test]
fn a_client_that_sends_too_much_is_disconnected() {
    let mut bench = Bench::new();
    let client = bench.opened(Transport::Sse);
    client.0.borrow_mut().sent = vec![b'x'; 10 * READ_BYTES].into();
    bench.shard.is_ready(0, true, false);
    while bench.shard.unread() > 0 {
        bench.shard.read_next(&mut [0; READ_BYTES], bench.now);
    }
    bench.turn();
    assert!(client.0.borrow().has_ended);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.streams(), 0, "a peer that does not end its direction has a second");
    let ended = &bench.metrics.transport(Transport::Sse).disconnects;
    assert_eq!(ended.with_label_values(&["unexpected-data"]).get(), 1);
}

#[test]
fn a_drain_ends_streams_at_its_rate() {
    let mut bench = Bench::new();
    let clients: Vec<_> = (0..10).map(|_| bench.opened(Transport::Sse)).collect();
    let until = bench.now.instant + Duration::from_secs(60);
    bench.shard.drain(Pace { per_second: 1.0, within: Duration::from_secs(60), until }, bench.now);
    let ended = || clients.iter().filter(|client| client.0.borrow().has_ended).count();
    let mut seen = Vec::new();
    for _ in 0..5 {
        bench.turn();
        seen.push(ended());
        bench.pass(Duration::from_secs(2));
    }
    assert_eq!(seen, [1, 3, 5, 7, 9]);
    bench.pass(Duration::from_secs(2));
    assert!(clients.iter().all(|client| client.take().ends_with("retry: 2000\n\n")));
    // One that arrives late is ended as well.
    let late = bench.open(Transport::Sse);
    bench.turn();
    assert!(late.0.borrow().has_ended);
}

#[test]
fn streams_of_a_removed_route_end_and_later_ones_too() {
    let mut bench = Bench::new();
    let route = Arc::new(testing::route("/orders"));
    let old = Arc::new(RouteTable::new(vec![route]).unwrap());
    bench.routes = old.clone();
    let client = bench.opened(Transport::Sse);
    let until = bench.now.instant;
    bench.shard.reload(
        Arc::new(Reload::new(&old, Arc::default(), [])),
        Pace { per_second: 1.0, within: Duration::ZERO, until },
        bench.now,
    );
    let late = bench.open(Transport::Sse);
    bench.turn();
    assert!(client.0.borrow().has_ended && late.0.borrow().has_ended);
    bench.pass(Duration::from_secs(2));
    let ended = &bench.metrics.transport(Transport::Sse).disconnects;
    assert_eq!((ended.with_label_values(&["reload"]).get(), bench.streams()), (2, 0));
}

#[test]
fn the_end_of_a_writer_removes_its_streams() {
    let mut bench = Bench::new();
    let _clients = [(); 3].map(|()| bench.opened(Transport::Sse));
    let streams = bench.shard.streams();
    bench.shard.end(bench.now);
    assert_eq!(streams.load(Ordering::Relaxed), 0);
    assert_eq!(bench.metrics.transport(Transport::Sse).active_connections.get(), 0);
}
