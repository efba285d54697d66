//! Configuration in three forms: the file as written, the compiler that reports every error, and the running snapshot.
//!
//! It reads files (the configuration, keys of tokens, files with secret properties) and the environment variables that
//! the configuration names, and nothing else: no network.

mod brief;
mod budget;
mod cel;
mod certificates;
mod compile;
mod diagnostic;
mod diff;
mod effective;
mod excerpt;
mod file;
mod keys;
mod nearest;
mod schema;
mod secrets;
mod section;
pub mod snapshot;
mod source;
mod units;
mod variables;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use brief::Brief;
pub use budget::{ADMIN_CONNECTIONS_MAX, Budget, STALLED_BYTES};
pub use certificates::Certificates;
pub use diagnostic::{Diagnostic, Severity};
pub use diff::Diff;
pub use effective::effective;
pub use schema::schema;
pub use snapshot::Snapshot;
pub(crate) use source::fingerprint;
pub use source::{Fingerprint, check_file, read_secret_text};
pub use units::parse_duration;
pub use variables::Variable;

pub(crate) use diagnostic::did_you_mean;
pub(crate) use file::{Name, Node, PLACEHOLDER, Place, Value, read_documents};
pub(crate) use units::write_duration;

use diagnostic::Diagnostics;
use section::Section;
use source::Sources;

/// The largest configuration, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file itself could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// All errors in it, in the order of the file, each with its line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Diagnostic>),
}

impl LoadError {
    /// The errors, one each. For an unreadable file, one error at its beginning.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Self::Invalid(found) => found.clone(),
            Self::Unreadable { path, source } => {
                let diagnostics = Diagnostics::new(&path.display().to_string());
                diagnostics.wrong(Place::START, format!("cannot be read: {source}"));
                diagnostics.into_found("", None).0
            }
        }
    }
}

/// The result of reading a file, valid or not.
#[derive(Debug)]
pub struct Reading {
    pub snapshot: Result<Snapshot, LoadError>,
    /// Valid settings that are probably unintended, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// The environment variables in it, in the order of the file.
    pub variables: Vec<Variable>,
    /// Every file that was read or could not be read; the first one is the configuration.
    pub files: Vec<PathBuf>,
    /// Of all these files.
    pub fingerprint: Fingerprint,
    /// The SHA-256 of the configuration alone, as `sha256sum` prints it; empty if it cannot be read.
    pub sha256: String,
}

/// The options of reading a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Overrides the listen address.
    pub listen: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    /// Overrides the upstream with this port of the local host.
    pub upstream_port: Option<u16>,
    /// Does not read the files that the configuration names (secrets, keys, certificates), which may be absent. The
    /// result can be compared, but not run: it would accept no token.
    pub without_secrets: bool,
    /// The configuration will be run. Settings with which no Kafka client can be created are warnings, because neither
    /// start-up nor proxying depends on Kafka, and a file may appear later.
    pub is_run: bool,
}

/// Reads and compiles a configuration. File names in it are relative to its directory.
pub fn read(path: &Path) -> Reading {
    read_with(path, &ReadOptions::default())
}

/// Reads and compiles a configuration.
pub fn read_with(path: &Path, options: &ReadOptions) -> Reading {
    let origin = path.display().to_string();
    let mut sources = Sources::default();
    let bytes = match sources.read(path, CONFIG_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(source) => {
            let error = LoadError::Unreadable { path: path.into(), source };
            let (files, fingerprint) = sources.finish();
            return Reading {
                snapshot: Err(error),
                warnings: Vec::new(),
                variables: Vec::new(),
                files,
                fingerprint,
                sha256: String::new(),
            };
        }
    };
    let base_dir = path.parent().unwrap_or_else(|| Path::new(""));
    let mut reading = match std::str::from_utf8(&bytes) {
        Ok(text) => compile_text(text, &origin, base_dir, options, sources),
        Err(error) => {
            let (files, fingerprint) = sources.finish();
            let snapshot = Err(not_utf8(&bytes[..error.valid_up_to()], &origin));
            Reading { snapshot, warnings: Vec::new(), variables: Vec::new(), files, fingerprint, sha256: String::new() }
        }
    };
    reading.sha256 = source::sha256(&bytes);
    reading
}

/// The default address of metrics and health checks.
pub const ADMIN_LISTEN: SocketAddr = keys::ADMIN_ADDRESS;

/// The address of the admin listener in a configuration, regardless of other errors. No other file is read.
///
/// # Errors
///
/// The file cannot be read, or the address is invalid.
pub fn admin_listen(path: &Path) -> Result<SocketAddr, LoadError> {
    let text = read_text(path)?;
    let diagnostics = Diagnostics::new(&path.display().to_string());
    let Some(root) = tree(&text, &diagnostics) else {
        return Err(LoadError::Invalid(diagnostics.into_found(&text, None).0));
    };
    Ok(Section::open("", &root, &diagnostics).section(&keys::ADMIN_SECTION).value(&keys::ADMIN_LISTEN))
}

/// The time limit of a drain in this configuration, regardless of other errors; `None` if it is not YAML.
pub(crate) fn drain_budget(text: &str) -> Option<Duration> {
    let diagnostics = Diagnostics::new("");
    let root = tree(text, &diagnostics)?;
    let section = Section::open("", &root, &diagnostics).section(&keys::DRAIN_SECTION);
    // The environment of the process that reads the configuration is another one.
    let is_known = section.get(&keys::DRAIN_BUDGET).is_none_or(|node| node.variables.is_empty());
    is_known.then(|| compile::drain(&section).budget)
}

/// The tree of a configuration, with environment variables replaced and possible secrets marked.
fn tree(text: &str, diagnostics: &Diagnostics) -> Option<Node> {
    let mut root = file::read(text, diagnostics)?;
    variables::replace(&mut root, text, &|name| std::env::var_os(name), diagnostics);
    secrets::mark(&mut root);
    Some(root)
}

/// The text of a configuration.
fn read_text(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.into(), source };
    let bytes = Sources::default().read(path, CONFIG_BYTES_MAX).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        not_utf8(&error.as_bytes()[..valid], &path.display().to_string())
    })
}

/// Compiles a configuration from its text. `origin` is its name in diagnostics; file names in it are relative to
/// `base_dir`.
///
/// # Errors
///
/// All errors in the text.
pub fn parse(text: &str, origin: &str, base_dir: &Path) -> Result<Snapshot, LoadError> {
    parse_with(text, origin, base_dir, &ReadOptions::default())
}

fn parse_with(text: &str, origin: &str, base_dir: &Path, options: &ReadOptions) -> Result<Snapshot, LoadError> {
    compile_text(text, origin, base_dir, options, Sources::default()).snapshot
}

fn compile_text(text: &str, origin: &str, base_dir: &Path, options: &ReadOptions, sources: Sources) -> Reading {
    let diagnostics = Diagnostics::new(origin);
    diagnostics.sources.replace(sources);
    let root = tree(text, &diagnostics);
    let snapshot = root.as_ref().and_then(|root| compile::compile(root, base_dir, options, &diagnostics));
    let variables = root.as_ref().map(variables::list).unwrap_or_default();
    let (files, fingerprint) = diagnostics.sources.take().finish();
    let (errors, warnings) = diagnostics.into_found(text, root.as_ref());
    let snapshot = snapshot.filter(|_| errors.is_empty()).ok_or(LoadError::Invalid(errors));
    Reading { snapshot, warnings, variables, files, fingerprint, sha256: String::new() }
}

fn not_utf8(valid: &[u8], origin: &str) -> LoadError {
    let before = String::from_utf8_lossy(valid);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let line = before.matches('\n').count() as u64 + 1;
    let place = Place { line, column: last_line.chars().count() as u64 + 1 };
    let diagnostics = Diagnostics::new(origin);
    diagnostics.wrong(place, "not UTF-8");
    LoadError::Invalid(diagnostics.into_found("", None).0)
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::render).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod bindings_tests;
#[cfg(test)]
mod cel_tests;
#[cfg(test)]
mod fields_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
