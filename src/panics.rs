//! Panics: counted and logged. Each thread contains its own.

use std::panic;
use std::sync::Arc;
use std::thread;

use crate::metrics::Metrics;
use crate::telemetry;

/// The exit code of a process after a component failed: EX_SOFTWARE of sysexits.h.
pub const FAILED_EXIT: i32 = 70;
/// The names of threads that are label values; other threads count as `other`.
const PLACES: &[&str] =
    &["gateway", "kafka", "kafka-close", "kafka-probe", "kafka-replay", "log", "main", "traces", "writer"];

/// Installs a panic hook that counts each panic, and logs its location in the code. The message is omitted, because it
/// may quote data.
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

/// Ends the process after a bug in a component that it cannot work without, so that it is restarted.
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
    fn labels_are_thread_names_without_numbers() {
        assert_eq!(
            ["writer-12", "kafka-replay", "kafka", "tokio", ""].map(place),
            ["writer", "kafka-replay", "kafka", "other", "other"]
        );
    }
}
