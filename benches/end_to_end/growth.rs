//! How cost scales with subscribers, users, payload and partitions, as plots in `docs/images/`. There are no targets.

use std::path::Path;
use std::time::Duration;

use crate::fan_out::{self, KEYED_PER_S};
use crate::plot::{self, Curve, Plot};
use crate::product;
use crate::row::Row;
use crate::side::{self, Side};
use crate::{Fallible, Plan};

/// As many as this process's descriptors allow.
const SUBSCRIBERS: &[usize] = &[100, 1_000, 5_000, 10_000, 19_000];
const PAYLOADS: &[usize] = &[100, 1_000, 10_000, 60_000];
const PARTITIONS: &[usize] = &[1, 10, 50, 100];
/// Deliveries per second to all subscribers together, so that every point takes about a third of a core.
const DELIVERIES_PER_S: f64 = 40_000.0;
/// Subscribers if another parameter is varied.
const FEW: usize = 200;
const WARM_UP: Duration = Duration::from_millis(300);
const CPU: &str = "microseconds of CPU a delivery";

pub fn rows(plan: &Plan) -> Fallible<Vec<Row>> {
    let draw =
        |name: &str, title: &str, x: &'static str, points: &[usize], run: &dyn Fn(usize) -> Fallible<(f64, f64)>| {
            let points = points.iter().map(|x| run(*x).map(|y| (*x as f64, y))).collect::<Fallible<Vec<_>>>()?;
            let curve = |name, of: fn((f64, f64)) -> f64| Curve {
                name,
                points: points.iter().map(|(x, y)| (*x, of(*y))).collect(),
            };
            let curves = vec![curve("sidestream", |y| y.0), curve("floor", |y| y.1)];
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/images/cost-{name}.svg"));
            plot::write(&file, &Plot { title: title.into(), x, y: CPU, curves })
        };
    let time = plan.time;
    draw("subscribers", "Cost by subscribers, SSE, 200 bytes", "subscribers", SUBSCRIBERS, &|n| {
        broadcast(n, product::PAYLOAD_BYTES, 1, DELIVERIES_PER_S / n as f64, time)
    })?;
    draw("users", "Cost by users, each with a stream of their own", "users", SUBSCRIBERS, &|n| keyed(n, time))?;
    draw("payload", "Cost by payload, 200 subscribers", "bytes of data", PAYLOADS, &|bytes| {
        broadcast(FEW, bytes, 1, 20.0, time)
    })?;
    draw("partitions", "Cost by partitions, 200 subscribers, 200 bytes", "partitions", PARTITIONS, &|partitions| {
        broadcast(FEW, product::PAYLOAD_BYTES, partitions, 100.0, time)
    })?;
    Ok(Vec::new())
}

/// CPU time per delivery of the product and of the floor, which sends as many bytes.
fn broadcast(streams: usize, bytes: usize, partitions: usize, per_s: f64, time: Duration) -> Fallible<(f64, f64)> {
    let cluster = product::mock(i32::try_from(partitions)?)?;
    let side = fan_out::product(&cluster, "/sse", streams, bytes)?;
    let cost = one(side, per_s, time)?;
    let floor = one(fan_out::floor(streams, cost.bytes, 1)?, per_s, time)?;
    Ok((cost.cpu_us, floor.cpu_us))
}

fn keyed(users: usize, time: Duration) -> Fallible<(f64, f64)> {
    let cluster = product::mock(1)?;
    let cost = one(fan_out::product_keyed(&cluster, users)?, KEYED_PER_S, time)?;
    let floor = one(fan_out::floor_keyed(users, cost.bytes)?, KEYED_PER_S, time)?;
    Ok((cost.cpu_us, floor.cpu_us))
}

/// One side alone: two with 19,000 streams would not fit into this process.
fn one(mut side: Side<'_>, per_s: f64, time: Duration) -> Fallible<side::Cost> {
    side.paced(per_s, WARM_UP)?;
    let cost = side.paced(per_s, time)?;
    side::close([side])?;
    Ok(cost)
}
