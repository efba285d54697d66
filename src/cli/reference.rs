//! `completions` and `man`: the definition of the command line in the forms of shells and of `man`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use super::output::print_whole;

/// Prints the completion script of a shell.
///
/// # Errors
///
/// The output cannot be written.
pub fn completions(shell: Shell) -> io::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sidestream", &mut script);
    print_whole(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a man page for each command into an existing folder.
///
/// # Errors
///
/// A page cannot be written.
pub fn man(folder: &Path) -> io::Result<ExitCode> {
    clap_mangen::generate_to(Cli::command(), folder)?;
    Ok(ExitCode::SUCCESS)
}
