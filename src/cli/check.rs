//! `sidestream check`: validates a configuration, and reports every error and warning.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::output::{note, print};
use super::{INVALID, Output, ReadArguments, exit_code, online, upstream_port};
use crate::config::{self, Budget, Reading, Snapshot};

/// Validates a configuration. The text output is a line on standard output if it is valid, and warnings and errors on
/// standard error. The JSON output is an array on standard output of objects with `file`, `line`, `column`, `severity`
/// (`error` or `warning`), `message` and possibly `expected`. With `explain_env`, the environment variables come first,
/// a line each.
///
/// # Errors
///
/// The output cannot be written.
pub fn check(
    path: &Path,
    read: ReadArguments,
    output: Output,
    online: bool,
    explain_env: bool,
) -> io::Result<ExitCode> {
    let upstream_port = match upstream_port() {
        Ok(port) => port,
        Err(error) => {
            note(error)?;
            return Ok(ExitCode::from(INVALID));
        }
    };
    let reading = config::read_with(path, &read.options(upstream_port));
    if explain_env {
        print_variables(path, &reading)?;
    }
    match output {
        Output::Text => print_text(path, &reading)?,
        Output::Json => print_json(&reading)?,
    }
    match &reading.snapshot {
        Ok(snapshot) if online => online::check(snapshot),
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => Ok(exit_code(error)),
    }
}

fn print_variables(path: &Path, reading: &Reading) -> io::Result<()> {
    for variable in &reading.variables {
        print(format_args!("{}:{variable}", path.display()))?;
    }
    Ok(())
}

fn print_text(path: &Path, reading: &Reading) -> io::Result<()> {
    for warning in &reading.warnings {
        note(warning.render())?;
    }
    match &reading.snapshot {
        Ok(snapshot) => print(summary(path, snapshot)),
        Err(error) => note(error),
    }
}

fn print_json(reading: &Reading) -> io::Result<()> {
    let mut found = match &reading.snapshot {
        Ok(_) => Vec::new(),
        Err(error) => error.diagnostics(),
    };
    found.extend(reading.warnings.iter().cloned());
    print(serde_json::json!(found))
}

fn summary(path: &Path, snapshot: &Snapshot) -> String {
    let routes = snapshot.routes.routes().count();
    let topics: usize = snapshot.sources().map(|cluster| cluster.topics.len()).sum();
    format!("{}: OK ({routes} stream routes, {topics} topics)\n{}", path.display(), Budget::of(snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_check_distinguish_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        assert_eq!(check(&path, ReadArguments::default(), Output::Text, false, false).unwrap(), ExitCode::from(2));
        std::fs::write(&path, "nonsense: 1").unwrap();
        assert_eq!(check(&path, ReadArguments::default(), Output::Text, false, false).unwrap(), ExitCode::from(1));
        std::fs::write(&path, "upstream: { address: a:1 }\nkafka: { brokers: a:1 }").unwrap();
        assert_eq!(check(&path, ReadArguments::default(), Output::Text, false, false).unwrap(), ExitCode::SUCCESS);
    }
}
