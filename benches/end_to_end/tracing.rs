//! The cost of traces: the product with tracing compared with the product without.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::product::{self, PAYLOAD_BYTES};
use crate::row::Row;
use crate::{Fallible, Plan, fan_out, side};

const STREAMS: usize = 1_000;
const PER_S: f64 = 100.0;

/// Broadcast with the default sampling ratio, and with every event sampled.
pub fn rows(plan: &Plan) -> Fallible<Vec<Row>> {
    let sampled = [("tracing_default", "0.01", "<=1.05"), ("tracing_all", "1", "<=1.15")];
    sampled.into_iter().map(|(name, sample, target)| beside_none(plan, name, sample, target)).collect()
}

fn beside_none(plan: &Plan, name: &str, sample: &str, target: &'static str) -> Fallible<Row> {
    let endpoint = collector()?;
    let traced = format!("tracing: {{ endpoint: '{endpoint}', sample: {sample} }}\n");
    // Each side has a cluster of its own, so that it receives only its own events.
    let clusters = [product::mock(1)?, product::mock(1)?];
    let mut with = fan_out::product_with(&clusters[0], "/sse", STREAMS, PAYLOAD_BYTES, &traced)?;
    let mut without = fan_out::product(&clusters[1], "/sse", STREAMS, PAYLOAD_BYTES)?;
    for side in [&mut with, &mut without] {
        side.paced(PER_S, fan_out::WARM_UP)?;
    }
    let pairs = side::pairs(&mut with, &mut without, plan.pairs, |side| side.paced(PER_S, plan.time))?;
    side::close([with, without])?;
    Ok(Row::of_pairs(name, "us of CPU a delivery", &side::cpu(&pairs), target))
}

/// A collector that discards everything; it ends with the benchmark.
fn collector() -> Fallible<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // The product closes the connection when it ends.
            thread::spawn(move || swallow(socket).unwrap_or_default());
        }
    });
    Ok(format!("http://{address}"))
}

fn swallow(socket: TcpStream) -> std::io::Result<()> {
    let mut output = socket.try_clone()?;
    let mut input = BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut input.by_ref().take(length), &mut std::io::sink())?;
        output.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}
