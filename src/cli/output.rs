//! The output of commands: results on standard output, messages on standard error.
//!
//! A command whose output is lost has failed. Every write returns its error, and `main` reports it once with
//! [`failed`].

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Exit code: the output cannot be written (`EX_IOERR` of BSD's sysexits.h). No command uses it for anything else.
const UNWRITABLE: u8 = 74;

/// Writes and flushes a text and a line break to standard output.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    line(io::stdout().lock(), text)
}

/// Writes and flushes a text to standard output.
pub(super) fn print_whole(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Writes a text and a line break to standard error.
pub(super) fn note(text: impl Display) -> io::Result<()> {
    line(io::stderr().lock(), text)
}

/// The exit code of a command whose output cannot be written. A closed pipe is not reported: its reader closed it.
pub fn failed(error: &io::Error) -> ExitCode {
    if error.kind() != ErrorKind::BrokenPipe {
        // If standard error fails too, there is nowhere to report it.
        let _ = note(format_args!("the output cannot be written: {error}"));
    }
    ExitCode::from(UNWRITABLE)
}

fn line(mut output: impl Write, text: impl Display) -> io::Result<()> {
    // A single write keeps lines of several processes on one terminal whole.
    output.write_all(format!("{text}\n").as_bytes())?;
    output.flush()
}
