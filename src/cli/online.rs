//! `sidestream check --online`: tests whether the configured issuers provide usable keys. Prints a line for each to
//! standard error.

use std::io;
use std::process::ExitCode;

use super::INVALID;
use super::output::note;
use crate::config::Snapshot;

pub(super) fn check(snapshot: &Snapshot) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut code = ExitCode::SUCCESS;
    for (issuer, keys) in snapshot.verifier.iter().flat_map(|verifier| verifier.remote_keys()) {
        match runtime.block_on(keys.fetch()) {
            Ok(count) => note(format_args!("issuer {issuer}: usable keys: {count}"))?,
            Err(error) => {
                note(format_args!("issuer {issuer}: cannot get its keys: {error}"))?;
                code = ExitCode::from(INVALID);
            }
        }
    }
    Ok(code)
}
