//! The cost of connections: memory while they are idle, and CPU time while thousands are opened. Each on a new process,
//! because freed memory is reused.

use std::thread;
use std::time::Duration;

use crate::clients;
use crate::product::{self, BROADCAST, Feed, PAYLOAD_BYTES, Product, TRANSPORTS};
use crate::row::Row;
use crate::{Fallible, Plan};

const STREAMS: usize = 10_000;
/// As many as this process has descriptors for.
const MANY: usize = 19_000;
/// After this long without work, a process is idle: memory from the start or the storm has been released.
const IDLE: Duration = Duration::from_secs(2);
/// Streams that are not counted: one-time costs of a process are not per stream.
const FIRST: usize = 200;
/// The memory of an idle stream, one row per transport.
const ROWS: [&str; 3] = ["idle_sse_kb", "idle_ndjson_kb", "idle_ws_kb"];

pub fn idle(plan: &Plan) -> Fallible<Vec<Row>> {
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for (transport, name) in TRANSPORTS.into_iter().zip(ROWS) {
        let storms = (0..plan.fresh).map(|_| storm(transport)).collect::<Fallible<Vec<_>>>()?;
        rows.push(Row::of_values(name, "KB", &storms.iter().map(|storm| storm.idle_kb).collect::<Vec<_>>(), "<=1"));
        all.extend(storms);
    }
    let of = |figure: fn(&Storm) -> f64| all.iter().map(figure).collect::<Vec<_>>();
    rows.push(Row::of_values("received_kb", "KB", &of(|storm| storm.received_kb), "<=2"));
    rows.push(Row::of_values("left_behind_kb", "KB", &of(|storm| storm.left_kb), "<=0.2"));
    rows.push(Row::of_values("connect_us", "us of CPU", &of(|storm| storm.connect_us), "<=120"));
    Ok(rows)
}

/// Memory in kilobytes per stream, CPU in microseconds per connection.
struct Storm {
    idle_kb: f64,
    /// After one event.
    received_kb: f64,
    /// After all have disconnected.
    left_kb: f64,
    connect_us: f64,
}

/// A timer for each stream, none of which is due: the cost of their presence.
pub fn timers(plan: &Plan) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let product = Product::start(&cluster.bootstrap_servers(), "127.0.0.1:9")?;
    let sockets = clients::connect(product.address, (0..MANY).map(|_| product::request("/sse")))?;
    thread::sleep(IDLE);
    let mut shares = Vec::new();
    for _ in 0..plan.pairs {
        let threads = product.server.threads()?;
        thread::sleep(plan.time);
        let cpu = product.server.cpu_of("writer-", &threads)?;
        shares.push(cpu.as_secs_f64() / plan.time.as_secs_f64() * 100.0);
    }
    drop(sockets);
    Ok(vec![Row::of_values("timers_19k", "% of a core", &shares, "<=1")])
}

fn storm(transport: &str) -> Fallible<Storm> {
    let cluster = product::mock(1)?;
    let product = Product::start(&cluster.bootstrap_servers(), "127.0.0.1:9")?;
    let requests = |count| (0..count).map(|_| product::request(&format!("/{transport}")));
    let first = clients::connect(product.address, requests(FIRST))?;
    thread::sleep(IDLE);
    let (memory, threads) = (product.server.resident()?, product.server.threads()?);
    let sockets = clients::connect(product.address, requests(STREAMS))?;
    let cpu = product.server.cpu_since(&threads)?;
    let streams = STREAMS as f64;
    let kilobytes = || -> Fallible<f64> {
        thread::sleep(IDLE);
        Ok(product.server.resident()?.saturating_sub(memory) as f64 / 1000.0 / streams)
    };
    let idle_kb = kilobytes()?;
    let feed = Feed::to(&cluster.bootstrap_servers())?;
    feed.send(BROADCAST, None, &product::envelope(None, &product::data(PAYLOAD_BYTES)))?;
    feed.flush()?;
    let received_kb = kilobytes()?;
    drop((first, sockets));
    let left_kb = kilobytes()?;
    Ok(Storm { idle_kb, received_kb, left_kb, connect_us: cpu.as_secs_f64() * 1e6 / streams })
}
