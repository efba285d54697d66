//! The cost of sidestream, compared with references in the same run: `cargo bench --bench end_to_end [-- --peers]
//! [SCENARIO...]`.
//!
//! The release binary, a floor (the least a server has to do) and other servers handle the same load in turn, in pairs
//! of short runs. A figure is a server's own CPU time or memory from /proc, or a rate, and is judged by the ratio of
//! its pair. `QUICK=1` runs fewer and shorter runs. If a delivery is missing, there is no figure. Loopback only; all
//! processes end with it. `docs/performance.md` describes the method and its limits, and contains the results.

#![allow(clippy::print_stdout, reason = "a benchmark's figures are its output")]
#![allow(unreachable_pub, reason = "a program, whose modules are nobody else's")]

mod clients;
mod connections;
mod document;
mod fan_out;
mod floor;
mod growth;
mod kafka;
mod passthrough;
mod peers;
mod pieces;
mod plot;
mod process;
mod product;
#[path = "../../tests/integration/support/real_broker.rs"]
// Written for tests, which fail by panicking; here the run ends as well.
#[allow(clippy::unwrap_used, clippy::expect_used)]
#[allow(dead_code, unreachable_pub)] // Only the tests kill the node and read its data.
mod real_broker;
mod row;
mod side;
mod times;
mod tracing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use row::Row;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The extent of the run.
pub struct Plan {
    /// Pairs of runs, product and reference.
    pub pairs: usize,
    /// New processes, if each run needs one.
    pub fresh: usize,
    /// The duration of a run.
    pub time: Duration,
    pub peers: bool,
}

impl Plan {
    fn new(peers: bool, quick: bool) -> Self {
        let (pairs, fresh, time) = if quick { (3, 1, 1) } else { (7, 3, 3) };
        Self { pairs, fresh, time: Duration::from_secs(time), peers }
    }
}

type Scenario = (&'static str, fn(&Plan) -> Fallible<Vec<Row>>);

const SCENARIOS: &[Scenario] = &[
    ("pieces", pieces::rows),
    ("paced_1k", |plan| fan_out::paced(plan, "paced_1k", "/sse", 1_000, 100.0)),
    ("paced_1k_ndjson", |plan| fan_out::paced(plan, "paced_1k_ndjson", "/ndjson", 1_000, 100.0)),
    ("paced_1k_ws", |plan| fan_out::paced(plan, "paced_1k_ws", "/ws", 1_000, 100.0)),
    ("paced_10k", |plan| fan_out::paced(plan, "paced_10k", "/sse", fan_out::MANY, 10.0)),
    ("backlog_1k", fan_out::backlog),
    ("keyed_10k", fan_out::keyed),
    ("slow_clients", fan_out::slow),
    ("idle", connections::idle),
    ("timers", connections::timers),
    ("tracing", tracing::rows),
    ("passthrough", passthrough::rows),
    ("requests_beside", passthrough::beside_streams),
    ("kafka", kafka::rows),
];

/// Plots are independent of peers, and are skipped with them.
const GROWTH: Scenario = ("growth", growth::rows);

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |n: usize| -> Fallible<usize> { Ok(arguments.get(n).ok_or("an argument is missing")?.parse()?) };
    match arguments.first().map(String::as_str) {
        Some("floor") => floor::broadcast(number(1)?, number(2)?, number(3)?),
        Some("floor-keyed") => floor::keyed(number(1)?, number(2)?),
        _ => measure(&arguments),
    }
}

fn measure(arguments: &[String]) -> Fallible<()> {
    let quick = std::env::var("QUICK").is_ok_and(|quick| quick == "1");
    let plan = Plan::new(arguments.iter().any(|argument| argument == "--peers"), quick);
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let last: &[Scenario] = if plan.peers { peers::SCENARIOS } else { &[GROWTH] };
    let start = Instant::now();
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (name, run) in SCENARIOS.iter().chain(last) {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name == wanted) {
            continue;
        }
        println!("== {name} ({:.0} s)", start.elapsed().as_secs_f64());
        // The fixture of the broker panics if it cannot start.
        match catch_unwind(AssertUnwindSafe(|| run(&plan))).unwrap_or_else(|_| Err("a panic".into())) {
            Ok(found) => {
                found.iter().for_each(|row| print!("{}", row.markdown()));
                rows.extend(found);
                // Written after each scenario, so that an interrupted run keeps its results.
                document::write_results(&rows)?;
            }
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    if wanted.is_empty() {
        let command = if plan.peers { "make bench-peers" } else { "make bench" };
        document::write_document(&rows, &format!("{}{command}", if quick { "QUICK=1 " } else { "" }))?;
    }
    println!("{} rows in {:.0} s", rows.len(), start.elapsed().as_secs_f64());
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join("; ")).into()) }
}
