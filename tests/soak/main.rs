//! Replicas under faults, and what their clients were sent: in the spirit of Jepsen, a history and a checker.
//!
//! Three replicas of the real binary read a real Apache Kafka of three brokers, with Kafka's default settings; idempotent
//! and transactional producers write. Two tenants' clients follow over every transport and come back by cursor wherever
//! they like, and meanwhile replicas, brokers, networks, files and clients fail, and floods come, as the seed says. At the end every client must have been sent what its scope holds, each once and in order, or have been
//! told what not. `make soak` runs for minutes; the short run here shows as well that the checker finds lies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test panics to fail; so do its words.
#![allow(clippy::print_stdout, reason = "the verdict is the output")]
#![allow(unreachable_pub)] // Nothing is reachable from outside of a test binary.

mod checker;
mod client;
mod falsify;
mod flood;
mod history;
mod log;
mod people;
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
/// Its plan has every kind of fault.
const SHORT_SEED: u64 = 4;

#[test]
fn a_short_run_is_clean_and_every_lie_about_it_is_found() {
    let history = Run { duration: SHORT, seed: SHORT_SEED, history: None }.carry_out();
    let verdict = judge(&history);
    print(&verdict);
    assert!(verdict.is_clean());
    falsify::assert_every_lie_is_found(&history);
}

/// Ends the process itself, since the last line is to be the verdict.
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
    print(&verdict);
    std::process::exit(i32::from(!verdict.is_clean()));
}

fn print(verdict: &Verdict) {
    verdict.findings.iter().for_each(|finding| println!("{finding}"));
    println!("gaps: {:?}; they named {} events that never came", verdict.reasons, verdict.told);
    println!("{verdict}");
}
