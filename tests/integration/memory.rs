//! Memory is what the configuration says: of the real process, measured.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use serde_json::json;

use crate::support::eventually_true;
use crate::support::fixture::{Fixture, Plan};
use crate::support::http::{Body, Head};
use crate::support::ndjson::Ndjson;
use crate::support::raw_upstream::RawUpstream;
use crate::support::sidecar::binary;
use crate::support::slow::deaf;

const MIB: u64 = 1024;
/// Bytes of a record's `data`.
const DATA_BYTES: usize = 990;
/// Records that are produced at once.
const PORTION: usize = 500;
/// What the process may hold beyond what is configured: half as much again.
const SLACK: u64 = 2;

const STREAM: &str = "streams:\n  orders: { topics: [orders], keys: [orderId] }\n";

fn value(n: usize, bytes: usize) -> String {
    json!({"type": "t", "orderId": "o", "data": format!("{n}{}", "x".repeat(bytes))}).to_string()
}

fn produce(fixture: &Fixture, events: usize, bytes: usize) -> String {
    let mut last = String::new();
    for start in (0..events).step_by(PORTION) {
        let values: Vec<String> = (start..start + PORTION).map(|n| value(n, bytes)).collect();
        last = fixture.broker.produce_all("orders", 0, values.iter().map(String::as_bytes)).pop().unwrap();
    }
    last
}

/// Waits until a new client would start behind this event.
fn settle(fixture: &Fixture, last: &str) {
    fixture.settle("/r0", std::slice::from_ref(&last.to_owned()));
}

#[test]
fn a_window_costs_its_bytes_however_many_forms_are_read() {
    const WINDOW_MIB: u64 = 16;
    const ENCODINGS_MIB: u64 = 4;
    const EVENTS: usize = 12_500;
    const ROUTES: usize = 2;
    let routes: String = (0..ROUTES)
        .map(|n| format!("  - {{ path: /r{n}, stream: orders, transport: auto, public: true }}\n"))
        .collect();
    let topics = format!("topics: {{ orders: {{ replay: {{ events: 100000, bytes: {WINDOW_MIB}MiB }} }} }}\n");
    let fixture =
        Plan::new(format!("{STREAM}{topics}limits: {{ encodings: {ENCODINGS_MIB}MiB }}\nroutes:\n{routes}")).build();
    let idle = fixture.sidecar.resident_kib();
    let mut readers: Vec<std::thread::JoinHandle<()>> = Vec::new();
    let last = format!("orders:0:{}", EVENTS - 1);
    for n in 0..ROUTES {
        let call = || fixture.get(&format!("/r{n}"));
        for http10 in [false, true] {
            let with = |call: crate::support::http::Call| if http10 { call.http10() } else { call };
            let (mut sse, end) = (with(call().header("Accept", "text/event-stream")).sse(), last.clone());
            readers.push(std::thread::spawn(move || while sse.event().event_id() != end {}));
            let (mut lines, end) = (with(call().header("Accept", "application/x-ndjson")).ndjson(), last.clone());
            readers.push(std::thread::spawn(move || while lines.event()["id"] != *end {}));
        }
        let (mut socket, end) = (call().websocket(), last.clone());
        readers.push(std::thread::spawn(move || while socket.ids(1)[0] != end {}));
    }
    assert_eq!(produce(&fixture, EVENTS, DATA_BYTES), last);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let full = fixture.sidecar.resident_kib();
    println!("idle {idle} KiB, after {EVENTS} events to {} clients {full} KiB", 5 * ROUTES);
    let most = (WINDOW_MIB + ENCODINGS_MIB) * MIB;
    assert!(full - idle <= most + most / SLACK, "{idle} KiB, then {full} KiB");
    let held =
        |holder: &str| fixture.sidecar.metric(&format!("notifications_memory_held_bytes{{holder=\"{holder}\"}}"));
    eventually_true("what is held", || held("encodings").unwrap() > 0.0 && held("queues") == Some(0.0));
    assert!(held("windows").unwrap() <= (WINDOW_MIB << 20) as f64, "{:?}", held("windows"));
    assert!(held("windows").unwrap() > (WINDOW_MIB << 20) as f64 * 0.9, "{:?}", held("windows"));
    assert!(held("encodings").unwrap() <= (ENCODINGS_MIB << 20) as f64, "{:?}", held("encodings"));
}

#[test]
fn a_writer_costs_little() {
    const WRITERS: u64 = 64;
    let resident = |writers| {
        let fixture = Fixture::plan_route("/r0", "auto", "").writers(writers).build();
        fixture.sidecar.resident_kib()
    };
    let (few, many) = (resident(1), resident(WRITERS));
    println!("1 writer {few} KiB, {WRITERS} writers {many} KiB");
    // The formula counts 256 KiB.
    assert!(many - few <= (WRITERS - 1) * 256, "1: {few} KiB, {WRITERS}: {many} KiB");
}

#[test]
fn a_long_position_costs_no_more_than_a_short_one() {
    const STREAMS: usize = 200;
    let fixture = Fixture::with_route("/r0", "sse", "");
    settle(&fixture, &fixture.broker.order("o"));
    let cursor = long_cursor();
    assert!(cursor.len() > 13_000);
    let open = |position: &str| -> Vec<_> {
        let call = || fixture.get("/r0").header("Accept", "text/event-stream").header("Last-Event-ID", position);
        (0..STREAMS).map(|_| call().sse()).collect()
    };
    let await_all = |count: usize| {
        fixture.sidecar.await_metric("notifications_sse_active_connections", count as f64);
    };
    // What the first ones take once.
    drop(open(&cursor));
    await_all(0);
    let before = fixture.sidecar.resident_kib();
    let streams = open(&cursor);
    await_all(STREAMS);
    let after = fixture.sidecar.resident_kib();
    println!("{STREAMS} streams with a cursor of {} bytes: {before} KiB, then {after} KiB", cursor.len());
    assert!(after.saturating_sub(before) <= 10 * STREAMS as u64, "{before} KiB, then {after} KiB");
    drop(streams);
}

/// A cursor that names 10,000 partitions of the topic `orders`: the version, which topics, the epoch, the number of
/// partitions, and for each the offset 0.
fn long_cursor() -> String {
    use base64::Engine as _;
    let fingerprint = |bytes: &[u8]| {
        bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    };
    let mut bytes = vec![1];
    bytes.extend(fingerprint(b"orders\0").to_le_bytes());
    bytes.extend([0, 0x90, 0x4e]);
    bytes.extend([0; 10_000]);
    format!("orders:0:0~{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

#[test]
fn near_the_limit_what_is_kept_is_given_up() {
    const LIMIT_MIB: u64 = 64;
    let topics = "topics: { orders: { replay: { events: 1000000, bytes: 1GiB } } }\n";
    let limit = format!("limits: {{ memory: {LIMIT_MIB}MiB }}\n");
    let fixture = Fixture::plan_route("/r0", "auto", "").with(topics).with(&limit).build();
    let mut client = fixture.get("/r0").header("Accept", "application/x-ndjson").ndjson();
    // Smaller than a queue, so that the client that reads never overflows.
    const BURST: usize = 200;
    for portion in 0..100 {
        let values: Vec<String> = (0..BURST).map(|n| value(n, 4 * DATA_BYTES)).collect();
        fixture.broker.produce_all("orders", 0, values.iter().map(String::as_bytes));
        for n in 0..BURST {
            assert_eq!(client.event()["id"], *format!("orders:0:{}", portion * BURST + n), "nothing is missing");
        }
        let held = fixture.sidecar.anonymous_kib();
        assert!(held <= LIMIT_MIB * MIB, "{held} KiB after {portion} portions");
    }
    // The step at which windows shrink; the metric shows it for a moment only.
    fixture.sidecar.await_log("Windows");
}

#[test]
fn streams_are_rejected_and_slow_queues_emptied_before_the_limit() {
    const LIMIT_MIB: usize = 96;
    const SLOW: usize = 4;
    const EVENTS: usize = 8;
    const EVENT_BYTES: usize = 64 << 10;
    const PORTIONS_MAX: usize = 400;
    let keys = "queue: { events: 100000, bytes: 1GiB, overflow: drop-oldest }";
    let topics = "topics: { orders: { replay: { events: 10, bytes: 1MiB } } }\n";
    let limit = format!("limits: {{ memory: {LIMIT_MIB}MiB, encodings: 1MiB }}\n");
    let fixture = Fixture::plan_route("/r0", "auto", keys).with(topics).with(&limit).build();
    let metric = |name: &str| fixture.sidecar.metric(name).unwrap_or(0.0);
    let lines = |call: crate::support::http::Call| call.header("Accept", "application/x-ndjson");
    let slow: Vec<_> = (0..SLOW).map(|_| deaf(&fixture, lines(fixture.get("/r0")))).collect();
    let mut innocent = lines(fixture.get("/r0")).ndjson();
    let (mut sent, mut rejected) = (0, false);
    let queues = || metric("notifications_memory_held_bytes{holder=\"queues\"}");
    let is_dropped = || fixture.sidecar.metric_sum("notifications_events_dropped_total") > 0.0;
    for _ in 0..PORTIONS_MAX {
        let before = queues();
        let values: Vec<String> = (sent..sent + EVENTS).map(|n| value(n, EVENT_BYTES)).collect();
        fixture.broker.produce_all("orders", 0, values.iter().map(String::as_bytes));
        for n in sent..sent + EVENTS {
            assert_eq!(innocent.event()["id"], *format!("orders:0:{n}"), "the reader misses nothing");
        }
        sent += EVENTS;
        // Near the limit, each portion waits for the next measurement: a portion is half a percent of the limit and a
        // level five percent, so that no level is skipped. Before that, the measurement may lag.
        let is_near = metric("notifications_memory_level") > 0.0;
        let floor = if is_near { before + 1.0 } else { (sent * EVENT_BYTES) as f64 * 0.8 - (8 << 20) as f64 };
        eventually_true("a measurement of memory", || queues() >= floor || is_dropped());
        if is_dropped() {
            break;
        }
        if metric("notifications_memory_level") == 4.0 && !rejected {
            let answer = lines(fixture.get("/r0")).send();
            answer.problem(503);
            assert!(answer.header("retry-after").is_some());
            let turned_away = fixture.get("/r0").header("Accept", "text/event-stream").sse().rest();
            assert!(turned_away.len() == 1 && turned_away[0].retry.is_some(), "{turned_away:?}");
            rejected = true;
        }
    }
    assert!(rejected, "level 4 rejects streams");
    assert!(is_dropped(), "level 5 empties queues");
    assert_eq!(metric("notifications_streams_rejected_total{reason=\"memory\"}"), 2.0);
    eventually_true("there is memory again", || metric("notifications_memory_level") < 4.0);
    let mut late = lines(fixture.get("/r0")).ndjson();
    let id = fixture.broker.order("o1");
    assert_eq!((&innocent.event()["id"], &late.event()["id"]), (&json!(id), &json!(id)));
    let (head, body) = slow.into_iter().next().unwrap();
    let mut slow = Ndjson::over(head, body);
    let gap = std::iter::from_fn(|| slow.object()).find(|object| object["type"] == "gap").expect("a gap");
    assert_eq!(gap["cause"], "overflow", "{gap}");
}

#[test]
fn the_ceiling_holds_with_everything_at_its_limit() {
    for writers in [2, 64] {
        let mut full = Full::new(writers);
        full.fill();
        let (idle, peak, ceiling) = (full.idle_kib, full.fixture.sidecar.peak_kib(), full.ceiling_kib());
        println!("{writers} writers: idle {idle} KiB, at most {peak} KiB of {ceiling} KiB");
        assert!(peak <= ceiling, "{writers} writers: {peak} KiB, ceiling {ceiling} KiB");
        // Less would prove little.
        assert!(peak >= idle + ceiling / 4, "{writers} writers: {idle} KiB, {peak} KiB of {ceiling} KiB");
    }
}

/// A sidecar that reaches its limits one after the other, with the clients that keep it there.
struct Full {
    fixture: Fixture,
    idle_kib: u64,
    /// Open until the end.
    streams: Vec<(Head, Body)>,
    sockets: Vec<TcpStream>,
}

impl Full {
    const IDLE: usize = 40;
    const SLOW: usize = 60;
    const REPLAYS: usize = 10;
    /// `proxy_buffers` admits ten.
    const STALLED: usize = 20;
    const STREAMS: usize = Self::IDLE + Self::SLOW + Self::REPLAYS + 4;
    const QUEUE_BYTES: usize = 256 << 10;
    const EVENT_BYTES: usize = 16 << 10;
    /// Twice the contents of a queue and of the kernel's buffers.
    const ROUNDS_MAX: usize = 2 * (256 + 128 + 64) / 16;

    fn new(writers: u64) -> Self {
        let endless = RawUpstream::start(|_, socket| {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
            while socket.write_all(&[b'x'; 65536]).is_ok() {}
        });
        let settings = format!(
            "{STREAM}topics: {{ orders: {{ replay: {{ events: 1000, bytes: 2MiB }} }} }}\n\
             replay: {{ cache: 4MiB }}\n\
             limits: {{ streams: {}, connections: {}, encodings: 4MiB, proxy_buffers: 8MiB }}\n\
             routes:\n\
             \x20 - {{ path: /all, stream: orders, transport: auto, public: true, queue: {{ bytes: 256KiB }} }}\n\
             \x20 - {{ path: \"/orders/{{orderId}}\", stream: orders, transport: ndjson, public: true, bind: {{ orderId: path.orderId }}, \
             stall_timeout: 10m, queue: {{ events: 100000, bytes: 256KiB, overflow: drop-oldest }} }}\n",
            Self::STREAMS,
            Self::STREAMS + Self::STALLED,
        );
        let kafka = "properties: { queued.max.messages.kbytes: 2048, fetch.max.bytes: 2097152, message.max.bytes: 1000000, \
             receive.message.max.bytes: 4000000 }";
        let fixture = Plan::new(settings).upstream(&endless.key()).kafka(kafka).writers(writers).build();
        let idle_kib = fixture.sidecar.resident_kib();
        Self { fixture, idle_kib, streams: Vec::new(), sockets: Vec::new() }
    }

    fn fill(&mut self) {
        let fixture = &self.fixture;
        let of_order = |id: &str| fixture.get(&format!("/orders/{id}"));
        self.streams.extend((0..Self::IDLE).map(|_| deaf(fixture, of_order("none"))));
        self.streams.extend((0..Self::SLOW).map(|n| deaf(fixture, of_order(&format!("k{n}")))));
        for _ in 0..Self::STALLED {
            let mut socket = TcpStream::connect(fixture.sidecar.listen).unwrap();
            socket.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            self.sockets.push(socket);
        }
        fixture.sidecar.await_metric("notifications_connections_evicted_total", (Self::STALLED - 10) as f64);
        // Each form is encoded.
        let all = |query: &str, accept| fixture.get(&format!("/all{query}")).header("Accept", accept);
        let (mut sse, mut lines) = (all("", "text/event-stream").sse(), all("", "application/x-ndjson").ndjson());
        let readers = [
            thread::spawn(move || while !sse.event().data.is_some_and(|data| data.contains(LAST)) {}),
            thread::spawn(move || while lines.event()["orderId"] != LAST {}),
        ];
        let queues = (Self::SLOW * Self::QUEUE_BYTES) as f64 * 0.8;
        let held =
            |holder: &str| fixture.sidecar.metric(&format!("notifications_memory_held_bytes{{holder=\"{holder}\"}}"));
        let mut rounds = 0;
        while held("queues").is_none_or(|bytes| bytes < queues) {
            assert!(rounds < Self::ROUNDS_MAX, "{:?} of {queues}", held("queues"));
            let values: Vec<String> = (0..Self::SLOW).map(|n| keyed(&format!("k{n}"), Self::EVENT_BYTES)).collect();
            fixture.broker.produce_all("orders", 0, values.iter().map(String::as_bytes));
            rounds += 1;
        }
        fixture.broker.produce_all("orders", 0, [keyed(LAST, 1).as_bytes()].into_iter());
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        // The broker of the tests keeps the last 5 MB.
        let since = format!("?since=orders:0:{}", rounds * Self::SLOW - 200);
        let replay = || deaf(fixture, all(&since, "application/x-ndjson"));
        self.streams.extend((0..Self::REPLAYS).map(|_| replay()));
        eventually_true("pages", || held("pages") > Some(0.0));
    }

    /// The formula, as `check` prints it.
    fn ceiling_kib(&self) -> u64 {
        let config = self.fixture.config.to_str().unwrap();
        let said = binary(&["check", "--config", config]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let (_, rest) = said.split_once("memory: at most ").expect(&said);
        let mib: f64 = rest.split_once("MiB").expect(&said).0.parse().expect(&said);
        (mib * MIB as f64) as u64
    }
}

/// The key of the last event.
const LAST: &str = "last";

fn keyed(key: &str, bytes: usize) -> String {
    json!({"type": "t", "orderId": key, "data": "x".repeat(bytes)}).to_string()
}

#[test]
fn the_ceiling_is_said_by_check_and_at_start() {
    let fixture = Fixture::plan_route("/r0", "auto", "").with("limits: { memory: 100MiB }").build();
    let said = binary(&["check", "--config", fixture.config.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let ceiling = said.lines().find(|line| line.starts_with("memory: at most ")).expect(&said);
    assert!(ceiling.contains("limited to 100.0MiB; descriptors: at most "), "{said}");
    fixture.sidecar.await_log(ceiling);
}
