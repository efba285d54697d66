//! Panics: counted and logged wherever they happen. Containing them is up to each thread.

use std::panic;
use std::sync::Arc;
use std::thread;

use crate::metrics::Metrics;
use crate::telemetry;

/// The exit code of a process of which a part failed: EX_SOFTWARE of sysexits.h.
pub const FAILED_EXIT: i32 = 70;
/// Names of threads that are label values; the others count as `other`.
const PLACES: &[&str] =
    &["gateway", "kafka", "kafka-close", "kafka-probe", "kafka-replay", "log", "main", "traces", "writer"];
/// Where a test build panics on purpose: `PLACE=TEXT,...`, with whatever bytes hold the text there.
#[cfg(debug_assertions)]
const FAULT_VARIABLE: &str = "SIDESTREAM_FAULT";

/// From now on each panic is counted, and logged with its place in the code. The message is left out: it may quote what
/// was worked on.
pub fn report(metrics: &Arc<Metrics>) {
    let metrics = metrics.clone();
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let place = place(thread.name().unwrap_or_default());
        metrics.panics.with_label_values(&[place]).inc();
        let at = panic.location().map(ToString::to_string);
        tracing::error!(place, at, "a part of sidestream panicked, which is a bug: please report it");
    }));
}

/// Ends the process after a bug in a part without which the rest would only look alive: it is to be started again.
pub fn end_process(part: &str) -> ! {
    tracing::error!(part, "a part of sidestream failed; ending the process");
    telemetry::flush();
    std::process::exit(FAILED_EXIT);
}

/// The label of a thread: its name without a number.
fn place(thread: &str) -> &'static str {
    let name = thread.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
    PLACES.iter().find(|place| **place == name).copied().unwrap_or("other")
}

/// Panics where a test asked for it. Release builds have none of this.
#[cfg(debug_assertions)]
#[allow(clippy::panic)] // On purpose.
pub(crate) fn provoke(place: &str, bytes: &[u8]) {
    static FAULTS: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let faults = FAULTS.get_or_init(|| std::env::var(FAULT_VARIABLE).unwrap_or_default());
    for (at, text) in faults.split(',').filter_map(|fault| fault.split_once('=')) {
        if at == place && memchr::memmem::find(bytes, text.as_bytes()).is_some() {
            panic!("provoked by {FAULT_VARIABLE}");
        }
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn provoke(_: &str, _: &[u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_places_without_their_numbers() {
        assert_eq!(
            ["writer-12", "kafka-replay", "kafka", "tokio", ""].map(place),
            ["writer", "kafka-replay", "kafka", "other", "other"]
        );
    }
}
