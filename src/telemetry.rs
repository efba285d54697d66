//! Logs, on standard error: standard output belongs to the lines that scripts read.
//!
//! It says how logs are filtered and written; what is logged is up to each room. No traces are exported.

use std::env;
use std::io;

use tracing_subscriber::EnvFilter;

/// Filters logs: a level, or `target=level,...`.
pub const FILTER_VARIABLE: &str = "SIDESTREAM_LOG";
/// `json` for one JSON object a line; anything else is text.
pub const FORMAT_VARIABLE: &str = "SIDESTREAM_LOG_FORMAT";

/// Pingora tells of each step of its start and of every client that goes away.
const FILTER: &str = "info,pingora=warn,pingora_core=warn,pingora_proxy=error";

/// Sends logs to standard error from now on, those of libraries that use the `log` crate too.
///
/// A filter that can't be read is told and replaced by the default. Where somebody set up logging before, theirs stays.
pub fn init() {
    let written = env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let parsed = written.as_deref().map(EnvFilter::try_new);
    let unreadable = matches!(parsed, Some(Err(_)));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let is_json = env::var(FORMAT_VARIABLE).is_ok_and(|format| format == "json");
    let installed = if is_json { builder.json().try_init() } else { builder.try_init() };
    if unreadable && installed.is_ok() {
        tracing::warn!("{FILTER_VARIABLE} can't be read, logs are filtered by {FILTER}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_is_one_and_setting_up_twice_does_no_harm() {
        assert!(EnvFilter::try_new(FILTER).is_ok());
        init();
        init();
    }
}
