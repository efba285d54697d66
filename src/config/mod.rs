//! Configuration in three forms: the file as written, compiled with every error reported, and the running snapshot.
//!
//! It reads files (the configuration, the token key, files with secret properties) and nothing else: no environment,
//! no network. Watching files for changes is not done here.

mod compile;
mod diagnostic;
mod file;
pub mod mapping;
mod section;
pub mod snapshot;
mod units;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use diagnostic::Diagnostic;
pub use snapshot::Snapshot;

use diagnostic::Diagnostics;
use file::Place;

/// The largest configuration, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file itself could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// Everything that is wrong in it, in the order of the file; one line each.
    #[error("{}", lines(.0))]
    Invalid(Vec<Diagnostic>),
}

/// Reads and compiles a configuration. File names in it are relative to its folder.
pub fn load(path: &Path) -> Result<Snapshot, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.into(), source };
    let bytes = read_limited(path, CONFIG_BYTES_MAX).map_err(unreadable)?;
    let origin = path.display().to_string();
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &origin, path.parent().unwrap_or_else(|| Path::new(""))),
        Err(error) => Err(not_utf8(&bytes[..error.valid_up_to()], &origin)),
    }
}

/// Compiles a configuration from its text. `origin` is what diagnostics call it; file names in it are relative to
/// `base_dir`.
pub fn parse(text: &str, origin: &str, base_dir: &Path) -> Result<Snapshot, LoadError> {
    let diagnostics = Diagnostics::new(origin);
    let snapshot = file::read(text, &diagnostics).and_then(|root| compile::compile(&root, base_dir, &diagnostics));
    let found = diagnostics.into_found();
    snapshot.filter(|_| found.is_empty()).ok_or(LoadError::Invalid(found))
}

/// Reads a file of `limit` bytes at most. A longer one is an error, and so is a folder.
fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that just fits.
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn not_utf8(valid: &[u8], origin: &str) -> LoadError {
    let before = String::from_utf8_lossy(valid);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let line = before.matches('\n').count() as u64 + 1;
    let place = Place { line, column: last_line.chars().count() as u64 + 1 };
    let diagnostics = Diagnostics::new(origin);
    diagnostics.wrong(place, "not UTF-8");
    LoadError::Invalid(diagnostics.into_found())
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
