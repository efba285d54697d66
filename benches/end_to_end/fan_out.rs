//! Broadcast and keyed streams compared with the floor: paced, with a backlog, and next to clients that do not read.

use std::io::Write;
use std::time::Duration;

use crate::clients::{self, Clients};
use crate::process::Running;
use crate::product::{self, BROADCAST, Feed, KEYED, Mock, Product};
use crate::row::Row;
use crate::side::{self, Side};
use crate::{Fallible, Plan};

/// Two sides with this many streams each must fit into this process's 20,000 descriptors.
pub const MANY: usize = 9_900;
/// Events in flight in the rows with a backlog.
pub const OUTSTANDING: u64 = 64;
/// Keyed events per second: one for each user.
pub const KEYED_PER_S: f64 = MANY as f64;
const STALLED: usize = 10;
const READERS: usize = 90;
/// Fills the buffers of clients that do not read within a second.
const SLOW_PAYLOAD_BYTES: usize = 50_000;
const SLOW_PER_S: f64 = 20.0;
pub const WARM_UP: Duration = Duration::from_millis(500);

/// The product's side, with everything it needs.
pub fn product<'a>(cluster: &Mock, path: &str, streams: usize, bytes: usize) -> Fallible<Side<'a>> {
    product_with(cluster, path, streams, bytes, "")
}

/// With additional configuration lines.
pub fn product_with<'a>(cluster: &Mock, path: &str, streams: usize, bytes: usize, more: &str) -> Fallible<Side<'a>> {
    let product = Product::start_with(&cluster.bootstrap_servers(), "127.0.0.1:9", more)?;
    let sockets = clients::connect(product.address, (0..streams).map(|_| product::request(path)))?;
    let feed = Feed::in_batches(&cluster.bootstrap_servers())?;
    let value = product::envelope(None, &product::data(bytes));
    let publish = Box::new(move |events: std::ops::Range<u64>| {
        events.into_iter().try_for_each(|_| feed.send(BROADCAST, None, &value))
    });
    Ok(Side::new(product.server, Clients::read(sockets)?, streams, publish))
}

/// The product with a stream for each of so many users.
pub fn product_keyed<'a>(cluster: &Mock, users: usize) -> Fallible<Side<'a>> {
    let product = Product::start(&cluster.bootstrap_servers(), "127.0.0.1:9")?;
    let paths = (0..users).map(|n| product::request(&format!("/users/{}", product::user(n))));
    let sockets = clients::connect(product.address, paths)?;
    let feed = Feed::in_batches(&cluster.bootstrap_servers())?;
    let data = product::data(product::PAYLOAD_BYTES);
    let publish = Box::new(move |events: std::ops::Range<u64>| {
        for n in events {
            feed.send(KEYED, None, &product::envelope(Some(&product::user(which(n, users))), &data))?;
        }
        Ok(())
    });
    Ok(Side::new(product.server, Clients::read(sockets)?, 1, publish))
}

/// The user of an event: every user in turn, in an order that caches cannot predict.
pub fn which(event: u64, users: usize) -> usize {
    (event.wrapping_mul(7_919) % users as u64) as usize
}

pub fn floor<'a>(streams: usize, bytes: f64, at_once: usize) -> Fallible<Side<'a>> {
    let (streams_text, bytes_text, at_once) = (streams.to_string(), bytes.round().to_string(), at_once.to_string());
    let mut server = Running::own(["floor", &streams_text, &bytes_text, &at_once])?;
    let address = server.line("listen=")?.parse()?;
    let sockets = clients::connect(address, (0..streams).map(|_| product::request("/sse")))?;
    let mut input = server.input()?;
    let publish = Box::new(move |events: std::ops::Range<u64>| {
        let ticks = vec![b'.'; (events.end - events.start) as usize];
        Ok(input.write_all(&ticks).and_then(|()| input.flush())?)
    });
    Ok(Side::new(server, Clients::read(sockets)?, streams, publish))
}

pub fn floor_keyed<'a>(users: usize, bytes: f64) -> Fallible<Side<'a>> {
    let mut server = Running::own(["floor-keyed", &users.to_string(), &bytes.round().to_string()])?;
    let address = server.line("listen=")?.parse()?;
    let sockets = clients::connect(address, (0..users).map(|_| product::request("/sse")))?;
    let mut input = server.input()?;
    let publish = Box::new(move |events: std::ops::Range<u64>| {
        let numbers: Vec<u8> = events.flat_map(|n| (which(n, users) as u32).to_le_bytes()).collect();
        Ok(input.write_all(&numbers).and_then(|()| input.flush())?)
    });
    Ok(Side::new(server, Clients::read(sockets)?, 1, publish))
}

pub fn paced(plan: &Plan, name: &str, path: &str, streams: usize, per_s: f64) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let mut product = product(&cluster, path, streams, product::PAYLOAD_BYTES)?;
    let bytes = product.paced(per_s, WARM_UP)?.bytes;
    let mut floor = floor(streams, bytes, 1)?;
    floor.paced(per_s, WARM_UP)?;
    let pairs = side::pairs(&mut product, &mut floor, plan.pairs, |side| side.paced(per_s, plan.time))?;
    side::close([product, floor])?;
    Ok(vec![Row::of_pairs(name, "us of CPU a delivery", &side::cpu(&pairs), "<=1.15")])
}

pub fn backlog(plan: &Plan) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let mut product = product(&cluster, "/sse", 1000, product::PAYLOAD_BYTES)?;
    let bytes = product.saturated(OUTSTANDING, WARM_UP)?.bytes;
    let mut floor = floor(1000, bytes, OUTSTANDING as usize)?;
    floor.saturated(OUTSTANDING, WARM_UP)?;
    let pairs = side::pairs(&mut product, &mut floor, plan.pairs, |side| side.saturated(OUTSTANDING, plan.time))?;
    side::close([product, floor])?;
    Ok(vec![Row::of_pairs("backlog_1k_floor", "us of CPU a delivery", &side::cpu(&pairs), "<=2")])
}

pub fn keyed(plan: &Plan) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let mut product = product_keyed(&cluster, MANY)?;
    let bytes = product.paced(KEYED_PER_S, WARM_UP)?.bytes;
    let mut floor = floor_keyed(MANY, bytes)?;
    floor.paced(KEYED_PER_S, WARM_UP)?;
    let pairs = side::pairs(&mut product, &mut floor, plan.pairs, |side| side.paced(KEYED_PER_S, plan.time))?;
    side::close([product, floor])?;
    Ok(vec![Row::of_pairs("keyed_10k_floor", "us of CPU a delivery", &side::cpu(&pairs), "<=1.25")])
}

/// A tenth of the clients never read; the result is what the others miss of some megabytes each.
pub fn slow(plan: &Plan) -> Fallible<Vec<Row>> {
    let cluster = product::mock(1)?;
    let product = Product::start(&cluster.bootstrap_servers(), "127.0.0.1:9")?;
    let stalled = clients::connect(product.address, (0..STALLED).map(|_| product::request("/sse")))?;
    let sockets = clients::connect(product.address, (0..READERS).map(|_| product::request("/sse")))?;
    let (feed, value) =
        (Feed::to(&cluster.bootstrap_servers())?, product::envelope(None, &product::data(SLOW_PAYLOAD_BYTES)));
    let publish = Box::new(move |events: std::ops::Range<u64>| {
        events.into_iter().try_for_each(|_| feed.send(BROADCAST, None, &value))
    });
    let mut side = Side::new(product.server, Clients::read(sockets)?, READERS, publish);
    side.paced(SLOW_PER_S, plan.time * 2)?;
    let lost = side.close()?;
    drop(stalled);
    Ok(vec![Row::of_values("slow_clients_lost", "deliveries that others lost", &[lost as f64], "<=0")])
}
