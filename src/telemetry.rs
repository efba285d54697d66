//! Logs on standard error: standard output is for lines that scripts read.
//!
//! This module filters and formats logs; each module decides what it logs. Traces are a separate module.
//!
//! A thread writes the lines, so that logging never blocks on the reader of standard error. Lines that cannot be queued
//! are dropped and counted. `line.rs` has the rules for lines.

mod line;
mod repeats;

use std::env;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, JsonFields};

use line::Lines;

/// The filter: a level, or `target=level,...`.
pub const FILTER_VARIABLE: &str = "SIDESTREAM_LOG";
/// `json` writes a JSON object per line; any other value writes text.
pub const FORMAT_VARIABLE: &str = "SIDESTREAM_LOG_FORMAT";

/// Pingora logs each step of its start, and every client that disconnects.
const FILTER: &str = "info,pingora=warn,pingora_core=warn,pingora_proxy=error";
/// Lines that may wait to be written; further ones are dropped.
const LINES_AHEAD: usize = 8192;

/// The writing thread, until it is stopped.
static THREAD: Mutex<Option<WorkerGuard>> = Mutex::new(None);
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
/// The number of dropped lines that [`newly_dropped`] has returned.
static RETURNED: AtomicU64 = AtomicU64::new(0);

/// Writes the remaining lines when dropped.
#[must_use]
#[derive(Debug)]
pub struct Logs;

impl Drop for Logs {
    fn drop(&mut self) {
        flush();
    }
}

/// Sends logs to standard error from now on, including those of libraries that use the `log` crate.
///
/// An invalid filter is reported and replaced by the default. An existing global logger stays.
pub fn init() -> Logs {
    let written = env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let parsed = written.as_deref().map(EnvFilter::try_new);
    let unreadable = matches!(parsed, Some(Err(_)));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(FILTER));
    let writing = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_AHEAD).thread_name("log");
    let (writer, thread) = writing.finish(io::stderr());
    let dropped = writer.error_counter();
    // A suppressed event is a format error.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let is_json = env::var(FORMAT_VARIABLE).is_ok_and(|format| format == "json");
    let installed = if is_json {
        let lines = Lines::new(format::format().json(), true);
        builder.fmt_fields(JsonFields::new()).event_format(lines).try_init()
    } else {
        builder.event_format(Lines::new(format::format(), false)).try_init()
    };
    if installed.is_ok() {
        *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        let _ = DROPPED.set(dropped);
    }
    if unreadable && installed.is_ok() {
        tracing::warn!("{FILTER_VARIABLE} can't be read, logs are filtered by {FILTER}");
    }
    Logs
}

/// Writes the queued lines, within about a second. Later lines are lost: call this before the process ends other than
/// by returning from `main`.
pub fn flush() {
    drop(THREAD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// The number of lines dropped since the last call.
pub fn newly_dropped() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines) as u64;
    dropped.saturating_sub(RETURNED.fetch_max(dropped, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_is_valid_and_init_may_be_called_twice() {
        assert!(EnvFilter::try_new(FILTER).is_ok());
        let _first = init();
        let _second = init();
        assert_eq!(newly_dropped(), 0);
    }
}
