//! Logs, on standard error: standard output belongs to the lines that scripts read.
//!
//! It says how logs are filtered and written; what is logged is up to each room. Traces are another room's.
//!
//! A thread of its own writes them: whoever logs never waits for whoever reads standard error. What it can't write in
//! time is dropped, and counted. What a line may hold is in `line.rs`.

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

/// Filters logs: a level, or `target=level,...`.
pub const FILTER_VARIABLE: &str = "SIDESTREAM_LOG";
/// `json` for one JSON object a line; anything else is text.
pub const FORMAT_VARIABLE: &str = "SIDESTREAM_LOG_FORMAT";

/// Pingora tells of each step of its start and of every client that goes away.
const FILTER: &str = "info,pingora=warn,pingora_core=warn,pingora_proxy=error";
/// Lines that may wait to be written; those that come when so many do are dropped.
const LINES_AHEAD: usize = 8192;

/// The thread that writes, until it was ended.
static THREAD: Mutex<Option<WorkerGuard>> = Mutex::new(None);
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
/// How many of the dropped lines [`newly_dropped`] has told.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// Writes what was logged when it goes.
#[must_use]
#[derive(Debug)]
pub struct Logs;

impl Drop for Logs {
    fn drop(&mut self) {
        flush();
    }
}

/// Sends logs to standard error from now on, those of libraries that use the `log` crate too.
///
/// A filter that can't be read is told and replaced by the default. Where somebody set up logging before, theirs stays.
pub fn init() -> Logs {
    let written = env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let parsed = written.as_deref().map(EnvFilter::try_new);
    let unreadable = matches!(parsed, Some(Err(_)));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(FILTER));
    let writing = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_AHEAD).thread_name("log");
    let (writer, thread) = writing.finish(io::stderr());
    let dropped = writer.error_counter();
    // An event that is left out is an error of its format.
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

/// Writes what was logged so far, as far as standard error takes it within about a second. What is logged later is
/// lost: to be called before the process ends other than by returning from `main`.
pub fn flush() {
    drop(THREAD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// How many lines were dropped since this was asked last.
pub fn newly_dropped() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines) as u64;
    dropped.saturating_sub(TOLD.fetch_max(dropped, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_is_one_and_setting_up_twice_does_no_harm() {
        assert!(EnvFilter::try_new(FILTER).is_ok());
        let _first = init();
        let _second = init();
        assert_eq!(newly_dropped(), 0);
    }
}
