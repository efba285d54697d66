//! Writers with real sockets, and entries fed by the test.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::event::{Assigned, Entry, GapRange};
use crate::hub::NoLog;
use crate::route::*;
use crate::testing::{self, event, stream};

/// On a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);

fn no_log() -> Arc<dyn Log> {
    Arc::new(NoLog)
}

struct Bench {
    writers: Writers,
    metrics: Arc<Metrics>,
    stream: Arc<Stream>,
    peer_timeout: Duration,
    stall_timeout: Duration,
}

impl Bench {
    fn new() -> Self {
        Self::with_writers(2)
    }

    fn with_writers(threads: usize) -> Self {
        let metrics = Arc::new(Metrics::new("test").unwrap());
        let windows = [("orders".into(), WindowLimits { events: 100, bytes: 1 << 20 })];
        let writers =
            Writers::start(threads, &windows, &no_log(), &Arc::new(Encodings::new(1 << 20)), &metrics, None).unwrap();
        writers.feed(&Feed::Assigned(Assigned::new("orders", 0, [0])));
        writers.feed(&Feed::Live { topics: ["orders".into()].into() });
        Self::of(writers, metrics, stream(1, &["orders"]))
    }

    fn of(writers: Writers, metrics: Arc<Metrics>, stream: Arc<Stream>) -> Self {
        let (peer_timeout, stall_timeout) = (Duration::from_secs(30), Duration::from_secs(300));
        Self { writers, metrics, stream, peer_timeout, stall_timeout }
    }

    fn open(&self, transport: Transport, queue_events: usize) -> TcpStream {
        self.try_open(transport, queue_events).unwrap()
    }

    /// A client, unless the writers rejected it.
    fn try_open(&self, transport: Transport, queue_events: usize) -> Option<TcpStream> {
        self.try_open_under(&Arc::default(), transport, queue_events)
    }

    /// A client that was admitted under these routes.
    fn try_open_under(&self, routes: &Arc<RouteTable>, transport: Transport, queue_events: usize) -> Option<TcpStream> {
        self.try_open_with(routes, transport, queue_events, Box::new(()))
    }

    fn try_open_with(
        &self,
        routes: &Arc<RouteTable>,
        transport: Transport,
        queue_events: usize,
        slot: Box<dyn Send>,
    ) -> Option<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        // As the listener does; a batch that is written in pieces would wait for delayed acknowledgements.
        socket.set_nodelay(true).unwrap();
        let route = Arc::new(self.route(queue_events));
        let request = Request {
            content_type: "application/x-ndjson",
            routes: routes.clone(),
            ..testing::request(route, transport)
        };
        let socket = Socket::Plain(socket);
        let opening =
            Opening { socket, peer_timeout: self.peer_timeout, early: Bytes::new(), request, span: None, slot };
        self.writers.open(opening).is_ok().then_some(client)
    }

    fn route(&self, queue_events: usize) -> StreamRoute {
        let queue = QueueLimits { events: queue_events, bytes: usize::MAX, overflow: Overflow::DropOldest };
        let heartbeat = Duration::from_millis(100);
        let (stream, stall_timeout) = (self.stream.clone(), self.stall_timeout);
        StreamRoute { stream, heartbeat, queue, stall_timeout, ..testing::route("/orders") }
    }

    fn feed(&self, offsets: std::ops::Range<i64>) {
        let entries: Arc<[Entry]> = offsets.map(|offset| Entry::Event(event("orders", 0, offset, &[]))).collect();
        self.writers.feed(&Feed::Batch(entries));
    }

    /// Feeds one batch, and gives what a client receives of it: the client's writer has taken the batch then. Without
    /// that, how far a writer is behind depends on the machine, and one that is too far behind skips events.
    fn feed_to(&self, client: &mut TcpStream, offsets: std::ops::Range<i64>) -> String {
        let end = format!("\"id\":\"orders:0:{}\"", offsets.end - 1);
        self.feed(offsets);
        read_until(client, &end)
    }

    fn wait_for(&self, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "the condition never came true");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let n = client.read(&mut buffer).unwrap();
        assert!(n > 0, "the stream ended after {}", String::from_utf8_lossy(&text));
        let seen = text.len().saturating_sub(end.len());
        text.extend_from_slice(&buffer[..n]);
        if text[seen..].windows(end.len()).any(|window| window == end.as_bytes()) {
            return String::from_utf8(text).unwrap();
        }
    }
}

#[test]
fn events_reach_every_client_of_every_writer_in_order() {
    let bench = Bench::new();
    let mut clients: Vec<_> = (0..5).map(|_| bench.open(Transport::Ndjson, 100)).collect();
    clients.iter_mut().for_each(|client| drop(read_until(client, "\r\n\r\n")));
    bench.feed(0..50);
    bench.feed(50..60);
    for client in &mut clients {
        let text = read_until(client, "\"id\":\"orders:0:59\"");
        let ids: Vec<_> = text.lines().filter_map(|line| line.split('"').nth(3)).map(str::to_owned).collect();
        assert_eq!(ids, (0..60).map(|n| format!("orders:0:{n}")).collect::<Vec<_>>());
    }
}

#[test]
fn live_streams_report_what_they_may_lack_of_a_partition_that_joins() {
    let bench = Bench::new();
    let mut client = bench.open(Transport::Ndjson, 10);
    read_until(&mut client, "\r\n\r\n");
    bench.feed_to(&mut client, 0..1);
    let unseen = GapRange { topic: "orders".into(), partition: 1, from: 3, to: 6 };
    bench.writers.feed(&Feed::Assigned(Assigned { unseen: [unseen].into(), ..Assigned::new("orders", 0, [1, 7]) }));
    let text = bench.feed_to(&mut client, 1..2);
    let gap = r#""cause":"unavailable","ranges":[{"topic":"orders","partition":1,"from":3,"to":6}]"#;
    assert!(text.contains(gap), "{text}");
}

#[test]
fn a_burst_beyond_the_queue_loses_nothing_if_the_socket_accepts_it() {
    let bench = Bench::new();
    let mut client = bench.open(Transport::Ndjson, 10);
    read_until(&mut client, "\r\n\r\n");
    bench.feed(0..500);
    let text = read_until(&mut client, "\"id\":\"orders:0:499\"");
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"id\"")).count(), 500);
    assert!(!text.contains("gap"));
}

#[test]
fn all_writers_see_one_order_of_several_sources() {
    const EVENTS: i64 = 300;
    let windows = ["a", "b"].map(|topic| (topic.into(), WindowLimits { events: 10, bytes: 1 << 20 }));
    let metrics = Arc::new(Metrics::new("test").unwrap());
    let writers = Writers::start(2, &windows, &no_log(), &Arc::new(Encodings::new(1 << 20)), &metrics, None).unwrap();
    for topic in ["a", "b"] {
        writers.feed(&Feed::Assigned(Assigned::new(topic, 0, [0])));
    }
    let bench = Bench::of(writers, metrics, stream(1, &["a", "b"]));
    let mut clients: Vec<_> = (0..4).map(|_| bench.open(Transport::Ndjson, 2 * EVENTS as usize)).collect();
    clients.iter_mut().for_each(|client| drop(read_until(client, "\r\n\r\n")));
    std::thread::scope(|scope| {
        for topic in ["a", "b"] {
            let writers = &bench.writers;
            scope.spawn(move || {
                (0..EVENTS).for_each(|n| writers.feed(&Feed::Batch([Entry::Event(event(topic, 0, n, &[]))].into())));
            });
        }
    });
    bench.writers.feed(&Feed::Batch([Entry::Event(event("a", 0, EVENTS, &[]))].into()));
    let end = format!("\"id\":\"a:0:{EVENTS}\"");
    let texts: Vec<_> = clients.iter_mut().map(|client| read_until(client, &end)).collect();
    let ids =
        |text: &str| text.lines().filter_map(|line| line.split('"').nth(3)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ids(&texts[0]).len() as i64, 2 * EVENTS + 1);
    assert!(texts.iter().all(|text| ids(text) == ids(&texts[0])));
}

/// The slot of a stream that blocks its writer when the stream ends, until it is released.
struct Blocking {
    blocks: SyncSender<()>,
    let_go: std::sync::mpsc::Receiver<()>,
}

impl Drop for Blocking {
    fn drop(&mut self) {
        self.blocks.send(()).unwrap();
        self.let_go.recv().unwrap();
    }
}

#[test]
fn a_slow_writer_delays_nothing_and_its_streams_get_gaps() {
    let bench = Bench::new();
    let (mut stuck, mut quick) = (bench.open(Transport::Ndjson, usize::MAX), bench.open(Transport::Ndjson, usize::MAX));
    read_until(&mut stuck, "\r\n\r\n");
    read_until(&mut quick, "\r\n\r\n");
    let ((blocks, blocked), (go, let_go)) = (sync_channel(1), sync_channel(1));
    let slot = Box::new(Blocking { blocks, let_go });
    // Both writers have one stream: the next one goes to the first.
    drop(bench.try_open_with(&Arc::default(), Transport::Ndjson, 10, slot).unwrap());
    blocked.recv().unwrap();
    let total = 2 * inbox::INBOX_MAX.entries as i64;
    let text: String = (0..total).step_by(1024).map(|from| bench.feed_to(&mut quick, from..from + 1024)).collect();
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"id\"")).count() as i64, total);
    assert!(!text.contains("gap"));
    let skipped = bench.metrics.writer_skipped.with_label_values(&["0"]).get() as i64;
    assert!(skipped > 0);
    go.send(()).unwrap();
    let text = read_until(&mut stuck, &format!("\"id\":\"orders:0:{}\"", total - 1));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    let range = format!("\"from\":0,\"to\":{}}}", skipped - 1);
    assert!(lines[0].contains("\"cause\":\"overflow\"") && lines[0].contains(&range), "{}", lines[0]);
    assert_eq!(lines.len() as i64, 1 + total - skipped);
}

#[test]
fn a_disconnect_is_detected_at_once_and_frees_the_slot() {
    let bench = Bench::new();
    let client = bench.open(Transport::Sse, 100);
    bench.wait_for(|bench| bench.metrics.transport(Transport::Sse).active_connections.get() == 1);
    client.shutdown(Shutdown::Write).unwrap();
    bench.wait_for(|bench| bench.metrics.transport(Transport::Sse).active_connections.get() == 0);
    bench.wait_for(|bench| bench.writers.streams() == 0);
}

#[test]
fn an_idle_stream_sends_heartbeats_repeatedly() {
    let bench = Bench::new();
    let mut client = bench.open(Transport::Sse, 100);
    let mut text = String::new();
    while text.matches(": keep-alive\n\n").count() < 3 {
        text.push_str(&read_until(&mut client, "\n\n"));
    }
    assert!(bench.metrics.transport(Transport::Sse).heartbeats.get() >= 3);
}

#[test]
fn a_client_that_never_reads_loses_only_its_own_events_and_gets_a_gap() {
    let bench = Bench::new();
    let mut slow = bench.open(Transport::Ndjson, 10);
    let mut quick = bench.open(Transport::Ndjson, 100_000);
    read_until(&mut quick, "\r\n\r\n");
    // Each writer takes over its own.
    bench.wait_for(|bench| bench.metrics.transport(Transport::Ndjson).active_connections.get() == 2);
    let total = 30_000;
    let reader = std::thread::spawn(move || read_until(&mut quick, &format!("\"id\":\"orders:0:{}\"", total - 1)));
    for start in (0..total).step_by(1000) {
        bench.feed(start..start + 1000);
    }
    let text = reader.join().unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"id\"")).count() as i64, total);
    bench.wait_for(|bench| bench.metrics.events_dropped.with_label_values(&["drop-oldest"]).get() > 0);
    let text = read_until(&mut slow, &format!("\"id\":\"orders:0:{}\"", total - 1));
    let missed: i64 = text
        .lines()
        .filter_map(|line| line.split_once("\"missed\":"))
        .filter_map(|(_, rest)| rest.split(',').next()?.parse::<i64>().ok())
        .sum();
    let got = text.lines().filter(|line| line.starts_with("{\"id\"")).count() as i64;
    assert!(missed > 0);
    assert_eq!(got + missed, total);
    let gaps = text.lines().filter(|line| line.starts_with("{\"type\":\"gap\"")).count() as u64;
    assert_eq!(bench.metrics.gaps.with_label_values(&["overflow"]).get(), gaps);
}

#[test]
fn a_drain_ends_streams_properly_and_rejects_new_ones() {
    let bench = Bench::new();
    let mut client = bench.open(Transport::Sse, 100);
    read_until(&mut client, "\n\n");
    let writers = bench.writers.clone();
    let pace = Pace { per_second: 100.0, within: Duration::ZERO, until: Instant::now() + DEADLINE };
    let drain = std::thread::spawn(move || writers.drain(pace));
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("\n\n") && rest.contains("retry: "), "{rest:?}");
    drop(client);
    assert_eq!(drain.join().unwrap(), 0);
    assert!(bench.try_open(Transport::Sse, 100).is_none());
}

/// Everything until the end of the stream, which heartbeats must not delay for ever.
fn read_to_end(client: &mut TcpStream) -> String {
    let deadline = Instant::now() + DEADLINE;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        assert!(Instant::now() < deadline, "the stream does not end: {}", String::from_utf8_lossy(&text));
        match client.read(&mut buffer).unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            n => text.extend_from_slice(&buffer[..n]),
        }
    }
}

fn no_haste() -> Pace {
    Pace { per_second: 1000.0, within: DEADLINE, until: Instant::now() + DEADLINE }
}

#[test]
fn a_reload_ends_the_streams_whose_route_is_gone_and_no_others() {
    let bench = Bench::new();
    let route = || StreamRoute { stream: bench.stream.clone(), ..testing::route("/orders") };
    let [old, same] = [(); 2].map(|()| Arc::new(RouteTable::new(vec![Arc::new(route())]).unwrap()));
    let mut clients: Vec<_> = (0..4).map(|_| bench.try_open_under(&old, Transport::Sse, 100).unwrap()).collect();
    clients.iter_mut().for_each(|client| drop(read_until(client, "\n\n")));
    bench.writers.reload(Reload::new(&old, same.clone(), []), no_haste());
    bench.feed(0..1);
    clients.iter_mut().for_each(|client| drop(read_until(client, "orders:0:0")));
    let none = Arc::default();
    bench.writers.reload(Reload::new(&same, Arc::clone(&none), []), no_haste());
    for client in &mut clients {
        let rest = read_to_end(client);
        assert!(rest.ends_with("\n\n") && rest.contains("retry: "), "{rest:?}");
    }
    // Two streams that were admitted earlier and arrive after the routes have been replaced twice.
    for late in [old, same] {
        let mut client = bench.try_open_under(&late, Transport::Sse, 100).unwrap();
        let all = read_to_end(&mut client);
        assert!(all.ends_with("\n\n") && all.matches("retry: ").count() == 2, "{all:?}");
    }
    drop(clients);
    let ended = &bench.metrics.transport(Transport::Sse).disconnects;
    bench.wait_for(|_| ended.with_label_values(&["reload"]).get() == 6);
}

#[path = "peer_tests.rs"]
mod peer;
