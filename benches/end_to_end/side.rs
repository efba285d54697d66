//! One side of a comparison: a server, its clients, and how events get to it. Sides are driven in turn, in short runs,
//! so that what else the machine does hits them alike.

use std::thread;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::clients::Clients;
use crate::process::Running;

/// How often events are handed over where there are more; a fetch of Kafka brings what came meanwhile.
const TICK: Duration = Duration::from_millis(10);
/// How often a closed loop looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Publishes the events with these numbers.
pub type Publish<'a> = Box<dyn FnMut(std::ops::Range<u64>) -> Fallible<()> + 'a>;

pub struct Side<'a> {
    pub server: Running,
    pub clients: Clients,
    pub publish: Publish<'a>,
    /// Connections that each event goes to.
    pub fan_out: u64,
    sent: u64,
}

/// What a run cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The server's CPU time a delivery, in microseconds.
    pub cpu_us: f64,
    pub deliveries_per_s: f64,
    pub bytes: f64,
}

impl<'a> Side<'a> {
    pub fn new(server: Running, clients: Clients, fan_out: usize, publish: Publish<'a>) -> Self {
        Self { server, clients, publish, fan_out: fan_out as u64, sent: 0 }
    }

    /// At an even pace, and until everything is delivered.
    pub fn paced(&mut self, events_per_s: f64, time: Duration) -> Fallible<Cost> {
        let count = (events_per_s * time.as_secs_f64()).ceil().max(1.0) as u64;
        let (first, start) = (self.sent, Instant::now());
        self.measured(|side| {
            while side.sent < first + count {
                let due = (start.elapsed().as_secs_f64() * events_per_s) as u64 + 1;
                let until = (first + due.min(count)).max(side.sent);
                side.send(until - side.sent)?;
                let next = start + Duration::from_secs_f64((side.sent - first) as f64 / events_per_s);
                if side.sent < first + count {
                    thread::sleep(next.saturating_duration_since(Instant::now()).max(TICK));
                }
            }
            Ok(())
        })
    }

    /// As fast as it goes with so many events on their way.
    pub fn saturated(&mut self, outstanding: u64, time: Duration) -> Fallible<Cost> {
        let start = Instant::now();
        self.measured(|side| {
            while start.elapsed() < time {
                let done = side.clients.deliveries() / side.fan_out;
                let room = (done + outstanding).saturating_sub(side.sent);
                if room == 0 {
                    thread::sleep(LOOK_AGAIN);
                }
                side.send(room)?;
            }
            Ok(())
        })
    }

    fn send(&mut self, count: u64) -> Fallible<()> {
        if count > 0 {
            (self.publish)(self.sent..self.sent + count)?;
            self.sent += count;
        }
        Ok(())
    }

    fn measured(&mut self, run: impl FnOnce(&mut Self) -> Fallible<()>) -> Fallible<Cost> {
        let (before, bytes, threads, start) =
            (self.clients.deliveries(), self.clients.bytes(), self.server.threads()?, Instant::now());
        run(self)?;
        self.clients.await_deliveries(self.sent * self.fan_out)?;
        let (time, cpu) = (start.elapsed(), self.server.cpu_since(&threads)?);
        let deliveries = (self.clients.deliveries() - before) as f64;
        Ok(Cost {
            cpu_us: cpu.as_secs_f64() * 1e6 / deliveries,
            deliveries_per_s: deliveries / time.as_secs_f64(),
            bytes: (self.clients.bytes() - bytes) as f64 / deliveries,
        })
    }

    /// Ends it; how many deliveries are missing or came twice, by client where each event is everybody's.
    pub fn close(self) -> Fallible<u64> {
        let each = self.clients.close()?;
        if self.fan_out as usize == each.len() {
            return Ok(each.iter().map(|count| count.abs_diff(self.sent)).sum());
        }
        Ok(each.iter().sum::<u64>().abs_diff(self.sent * self.fan_out))
    }
}

/// Ends them. A figure of a server that lost something is worth nothing, and an error.
pub fn close<'a>(sides: impl IntoIterator<Item = Side<'a>>) -> Fallible<()> {
    for side in sides {
        let lost = side.close()?;
        if lost > 0 {
            return Err(format!("{lost} deliveries are missing or came twice").into());
        }
    }
    Ok(())
}

/// Runs both sides in turn, the first one first and last by turns.
pub fn pairs(
    product: &mut Side<'_>,
    reference: &mut Side<'_>,
    count: usize,
    run: impl Fn(&mut Side<'_>) -> Fallible<Cost>,
) -> Fallible<Vec<(Cost, Cost)>> {
    let mut pairs = Vec::new();
    for n in 0..count {
        pairs.push(if n % 2 == 0 {
            let product = run(product)?;
            (product, run(reference)?)
        } else {
            let reference = run(reference)?;
            (run(product)?, reference)
        });
    }
    Ok(pairs)
}

pub fn cpu(pairs: &[(Cost, Cost)]) -> Vec<(f64, f64)> {
    pairs.iter().map(|(product, reference)| (product.cpu_us, reference.cpu_us)).collect()
}

pub fn throughput(pairs: &[(Cost, Cost)]) -> Vec<(f64, f64)> {
    pairs.iter().map(|(product, reference)| (product.deliveries_per_s, reference.deliveries_per_s)).collect()
}
