//! One side of a comparison: a server, its clients, and its feed. Sides run in turn, in short runs, so that other load
//! on the machine affects them alike.

use std::thread;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::clients::Clients;
use crate::process::Running;

/// The interval at which events are published at high rates; a fetch of Kafka returns those of an interval.
const TICK: Duration = Duration::from_millis(10);
/// The polling interval of a closed loop.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Publishes the events with these numbers.
pub type Publish<'a> = Box<dyn FnMut(std::ops::Range<u64>) -> Fallible<()> + 'a>;

pub struct Side<'a> {
    pub server: Running,
    pub clients: Clients,
    pub publish: Publish<'a>,
    /// The connections that each event is delivered to.
    pub fan_out: u64,
    sent: u64,
}

/// The cost of a run.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The server's CPU time per delivery, in microseconds.
    pub cpu_us: f64,
    pub deliveries_per_s: f64,
    pub bytes: f64,
}

impl<'a> Side<'a> {
    pub fn new(server: Running, clients: Clients, fan_out: usize, publish: Publish<'a>) -> Self {
        Self { server, clients, publish, fan_out: fan_out as u64, sent: 0 }
    }

    /// Publishes at an even pace, until everything is delivered.
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

    /// Publishes as fast as possible with this many events in flight.
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

    /// Ends the side. Returns the number of missing and repeated deliveries, per client for broadcasts.
    pub fn close(self) -> Fallible<u64> {
        let each = self.clients.close()?;
        if self.fan_out as usize == each.len() {
            return Ok(each.iter().map(|count| count.abs_diff(self.sent)).sum());
        }
        Ok(each.iter().sum::<u64>().abs_diff(self.sent * self.fan_out))
    }
}

/// Ends the sides. A lost delivery is an error, because the server's figures are meaningless then.
pub fn close<'a>(sides: impl IntoIterator<Item = Side<'a>>) -> Fallible<()> {
    for side in sides {
        let lost = side.close()?;
        if lost > 0 {
            return Err(format!("{lost} deliveries are missing or came twice").into());
        }
    }
    Ok(())
}

/// Runs both sides in turn, and alternates which one is first.
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
