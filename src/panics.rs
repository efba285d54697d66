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
