//! What a command writes: its output on standard output, and what it says beside it on standard error.
//!
//! A command whose output was lost has failed. Every write gives its error, and [`failed`] says it once, in `main`.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Exit code: the output could not be written (`EX_IOERR` of BSD's sysexits.h). No command uses it for anything else.
const UNWRITABLE: u8 = 74;

/// Writes text and a line break to standard output, down to the system.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    line(io::stdout().lock(), text)
}

/// Writes text as it is to standard output, down to the system.
pub(super) fn print_whole(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Writes text and a line break to standard error.
pub(super) fn note(text: impl Display) -> io::Result<()> {
    line(io::stderr().lock(), text)
}

/// The exit code of a command whose output could not be written. A reader that went away knows it, and is not told.
pub fn failed(error: &io::Error) -> ExitCode {
    if error.kind() != ErrorKind::BrokenPipe {
        // Nothing is left to say it to where standard error fails too.
        let _ = note(format_args!("the output cannot be written: {error}"));
    }
    ExitCode::from(UNWRITABLE)
}

fn line(mut output: impl Write, text: impl Display) -> io::Result<()> {
    // One write for all of it: lines of several processes on one terminal stay whole.
    output.write_all(format!("{text}\n").as_bytes())?;
    output.flush()
}
