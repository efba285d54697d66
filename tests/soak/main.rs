//! Replicas under faults and the events that their clients receive: a history and a checker, as in Jepsen.
//!
//! Three replicas of the real binary read Apache Kafka with three brokers and Kafka's default settings; idempotent and
//! transactional producers write. Clients of two tenants follow on SSE, NDJSON and WebSocket, and resume by cursor on any
//! replica. Meanwhile replicas, brokers, networks, files and clients fail, and hostile clients flood, as the seed
//! determines. At the end, every client must have received each event of its scope once and in order, or a gap that
//! names it. `make soak` runs for minutes; the short run here also shows that the checker finds falsifications.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test panics to fail; so do its fixtures.
#![allow(clippy::print_stdout, reason = "the verdict is the output")]
#![allow(unreachable_pub)] // Nothing is reachable from outside of a test binary.

#[path = "../checker/judge.rs"]
mod checker;
mod client;
mod falsify;
mod flood;
#[path = "../checker/history.rs"]
#[allow(dead_code)] // The simulation uses all of it.
mod history;
#[path = "../jose.rs"]
mod jose;
mod log;
mod personas;
mod plan;
mod producer;
mod run;
mod stream;
#[path = "../integration/support/mod.rs"]
#[allow(dead_code)] // The integration tests use all of it.
mod support;
mod world;

use std::time::Duration;

use checker::{Verdict, judge};
use run::Run;

const SHORT: Duration = Duration::from_secs(12);
/// Its plan contains every kind of fault.
const SHORT_SEED: u64 = 4;

#[test]
fn a_short_run_is_clean_and_every_falsification_is_found() {
    let history = Run { duration: SHORT, seed: SHORT_SEED, history: None }.carry_out();
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{}", report(&verdict));
    println!("{verdict}");
    falsify::assert_every_falsification_is_found(&history);
}

/// Exits by itself, so that the verdict is the last line.
#[test]
#[ignore = "minutes long: make soak"]
fn soak() {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        _ => default,
    };
    let history = std::env::var_os("HISTORY").filter(|path| !path.is_empty()).map(Into::into);
    let (duration, seed) = (Duration::from_secs(number("DURATION", 300)), number("SEED", 1));
    println!("\n{} s of faults, seed {seed}", duration.as_secs());
    let verdict = judge(&Run { duration, seed, history }.carry_out());
    println!("{}", report(&verdict));
    std::process::exit(i32::from(!verdict.is_clean()));
}

/// What is wrong, the causes of gaps, and the counts.
fn report(verdict: &Verdict) -> String {
    let findings: String = verdict.findings.iter().map(|finding| format!("{finding}\n")).collect();
    let (reasons, reported) = (&verdict.reasons, verdict.reported);
    format!("{findings}gaps: {reasons:?}; they named {reported} events that never came\n{verdict}")
}
