//! The command line: its definition, and the commands that do not run the proxy. `app` runs it.

mod arguments;
mod check;
mod configuration;
mod doctor;
mod drain;
mod explain;
mod follow;
mod import;
mod indent;
mod inject;
mod neighbour;
mod online;
mod output;
mod reference;
mod tap;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Brief, LoadError, Snapshot};

pub use arguments::{BriefArguments, Cli, Command, ConfigCommand, Output, ReadArguments};
pub use check::check;
pub use configuration::configuration;
pub use doctor::{Doctor, doctor};
pub use drain::drain;
pub use explain::{Explain, explain};
pub use import::import_ingress;
pub use inject::{InjectArguments, inject};
pub use output::failed;
pub use reference::{completions, man};
pub use tap::{Tap, tap};

use arguments::{CONFIG_VARIABLE, duration};
use output::note;

/// Exit code: the configuration is invalid.
const INVALID: u8 = 1;
/// Exit code: the configuration cannot be read.
const UNREADABLE: u8 = 2;
/// Exit code: the input contains nothing to import.
const NOTHING_MAPPED: u8 = 3;

/// The environment variable with the port of the REST service on this host, which overrides the configuration. In a pod
/// an annotation sets it; an empty value counts as absent.
const UPSTREAM_PORT: &str = "SIDESTREAM_UPSTREAM_PORT";

/// Reports what a start without a file assumes: a line each in the log, and the equivalent file on standard error.
pub fn say_assumptions(brief: &Brief, snapshot: &Snapshot) {
    for assumption in brief.assumptions(snapshot) {
        tracing::info!("{assumption}");
    }
    // Like the log: a failed write does not prevent serving.
    let _ = note(format_args!("# no configuration file was given; this one says the same:\n{}", brief.written()));
}

/// The port of the REST service in the environment.
///
/// # Errors
///
/// The variable is not a port.
pub fn upstream_port() -> anyhow::Result<Option<u16>> {
    let Some(written) = std::env::var_os(UPSTREAM_PORT).filter(|written| !written.is_empty()) else { return Ok(None) };
    let port = written.to_str().and_then(|written| written.parse().ok()).filter(|port| *port > 0);
    port.map(Some).ok_or_else(|| anyhow::anyhow!("{UPSTREAM_PORT} is not a port: {}", written.display()))
}

/// The exit code of a process that cannot load its configuration.
pub fn exit_code(error: &LoadError) -> ExitCode {
    ExitCode::from(match error {
        LoadError::Invalid(_) => INVALID,
        LoadError::Unreadable { .. } => UNREADABLE,
    })
}

/// Parses the arguments. Otherwise prints the help, the version or the errors, and returns the exit code.
///
/// # Errors
///
/// The exit code, if there is nothing to run.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // clap's own exit does not report whether its text could be written.
        let written = error.print().and_then(|()| io::stdout().flush());
        written.map_or_else(
            |error| failed(&error),
            |()| ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(INVALID)),
        )
    })
}
