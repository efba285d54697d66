//! `sidestream config`: a configuration with its defaults, the difference between two configurations, and the JSON
//! Schema. It contacts no running process.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::output::{note, print};
use super::{ConfigCommand, UNREADABLE, exit_code};
use crate::access::Authority;
use crate::config::{self, Diff, ReadOptions, Snapshot};
use crate::route::{Admission, Offer, StreamRoute, Transport};
use crate::session::Reload;

/// Exit code: the configurations differ.
const CHANGES: u8 = 1;

/// Runs a subcommand of `config`.
///
/// # Errors
///
/// The output cannot be written.
pub fn configuration(command: &ConfigCommand) -> io::Result<ExitCode> {
    match command {
        ConfigCommand::Effective { config, read } => effective(config, &read.options(None)),
        ConfigCommand::Diff { before, after, read } => diff(before, after, &read.options(None)),
        ConfigCommand::Schema => {
            print(config::schema())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn effective(path: &Path, options: &ReadOptions) -> io::Result<ExitCode> {
    let filled = match config::effective(path, options) {
        Ok(filled) => filled,
        Err(error) => {
            note(&error)?;
            return Ok(exit_code(&error));
        }
    };
    match serde_saphyr::to_string(&filled) {
        Ok(yaml) => {
            print(yaml.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            note(error)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn diff(before: &Path, after: &Path, options: &ReadOptions) -> io::Result<ExitCode> {
    let read = |path| config::read_with(path, options).snapshot;
    let (before, after) = (read(before), read(after));
    let (before, after) = match (before, after) {
        (Ok(before), Ok(after)) => (before, after),
        (before, after) => {
            for error in [before.err(), after.err()].into_iter().flatten() {
                note(error)?;
            }
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let diff = Diff::between(&before, &after);
    print(summary(&diff, &before, &after))?;
    Ok(if diff.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

/// A line for the differences, and one for each route whose streams end.
fn summary(diff: &Diff, before: &Snapshot, after: &Snapshot) -> String {
    let mut text = diff.to_string();
    if !diff.needs_restart.is_empty() {
        text += "\na reload would change nothing: what needs a restart is refused with all else";
        return text;
    }
    let trusted: HashSet<Authority> = authorities(after).collect();
    let reload = Reload::new(&before.routes, after.routes.clone(), trusted.iter().copied());
    let is_distrusting = authorities(before).any(|authority| !trusted.contains(&authority));
    for route in before.routes.routes() {
        let ends = reload.ends(route, &before.routes);
        if !ends.is_empty() {
            let _ = write!(text, "\nstreams end: {}{}", route.pattern, some(route, &ends));
        } else if is_distrusting && route.admission == Admission::Token {
            let _ = write!(text, "\nstreams end: {} (whose token's key is no longer trusted)", route.pattern);
        }
    }
    text
}

fn authorities(snapshot: &Snapshot) -> impl Iterator<Item = Authority> {
    snapshot.verifier.iter().flat_map(|verifier| verifier.authorities())
}

/// For example ` (sse, ws)`, if the streams of only some of the route's transports end.
fn some(route: &StreamRoute, ends: &[Transport]) -> String {
    let is_all = match route.offer {
        Offer::Only(_) => true,
        Offer::Auto => ends.len() == Transport::ALL.len(),
    };
    let names: Vec<_> = ends.iter().map(|transport| transport.as_str()).collect();
    if is_all { String::new() } else { format!(" ({})", names.join(", ")) }
}
