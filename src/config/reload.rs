//! Reloads: watches the files a configuration is made of, compiles them when their content changes, and swaps the
//! snapshot. Requests take the snapshot when they begin; whoever holds streams that are open is told of the change.
//!
//! Directories are watched, not files: a mounted ConfigMap or Secret changes by the renaming of a symlink beside it,
//! which no watch on the file sees. What counts in the end is the content, looked at every now and then in any case.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::diff::Diff;
use super::{Fingerprint, LoadError, Reading, Snapshot, read};
use crate::metrics::Metrics;

/// How often the files are looked at though nothing was heard of them: some file systems don't tell.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long a change is left to finish before it is looked at: files are written in several steps.
const SETTLE: Duration = Duration::from_millis(200);

/// A file that a configuration is read from, and what the command line says beside it.
#[derive(Clone, Debug)]
pub struct Origin {
    pub path: PathBuf,
    /// Where to listen, whatever the file says.
    pub listen: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    /// The port of this host that the upstream is at, whatever the file says.
    pub upstream_port: Option<u16>,
}

impl Origin {
    /// Reads the file as it is now.
    pub fn read(&self) -> Reading {
        let mut reading = read(&self.path);
        if let Ok(snapshot) = &mut reading.snapshot {
            snapshot.listen = self.listen.unwrap_or(snapshot.listen);
            snapshot.admin = self.admin.unwrap_or(snapshot.admin);
            if let Some(port) = self.upstream_port {
                snapshot.upstream.address = format!("127.0.0.1:{port}");
            }
        }
        reading
    }
}

/// What came of a reload, which is its label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The configuration has mistakes.
    Invalid,
    /// The file can't be read.
    Unreadable,
    /// Something changed that is read at start only.
    NeedsRestart,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Success, Self::Invalid, Self::Unreadable, Self::NeedsRestart];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Invalid => "invalid",
            Self::Unreadable => "unreadable",
            Self::NeedsRestart => "needs-restart",
        }
    }
}

/// Hears of a snapshot that was taken over: the one before, and the new one.
pub type OnReload = Box<dyn Fn(&Snapshot, &Snapshot) + Send>;

/// Keeps the running snapshot the one that the file says, as far as that is possible.
pub struct Reloader {
    origin: Origin,
    current: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    /// Of the content that was last looked at, good or not.
    fingerprint: Fingerprint,
    watch: Watch,
    on_reload: OnReload,
}

impl Reloader {
    /// Begins to watch. `fingerprint` and `files` are those of the reading that `current` came from.
    pub fn new(
        origin: Origin,
        current: Arc<ArcSwap<Snapshot>>,
        metrics: Arc<Metrics>,
        fingerprint: Fingerprint,
        files: &[PathBuf],
        on_reload: OnReload,
    ) -> Self {
        // Every result is there from the start: rates need a zero to begin from.
        for outcome in Outcome::ALL {
            metrics.config_reloads.with_label_values(&[outcome.as_str()]).inc_by(0);
        }
        let mut watch = Watch::new();
        watch.follow(files);
        Self { origin, current, metrics, fingerprint, watch, on_reload }
    }

    /// Reloads whenever the content changes, or when `asked` says so whatever the content. Never ends.
    pub async fn run(mut self, asked: Arc<Notify>) {
        // What changed between the first reading and the first watch was not heard of.
        let mut is_asked = false;
        loop {
            // Compiling is a matter of milliseconds, but it reads files.
            tokio::task::block_in_place(|| self.look(is_asked));
            is_asked = tokio::select! {
                () = asked.notified() => true,
                () = self.watch.changed.notified() => {
                    sleep(SETTLE).await;
                    false
                }
                () = sleep(LOOK_AGAIN) => false,
            };
        }
    }

    /// Reads the files, and reloads where their content is another one than it was, or `is_asked`.
    fn look(&mut self, is_asked: bool) -> Option<Outcome> {
        let reading = self.origin.read();
        self.watch.follow(&reading.files);
        if reading.fingerprint == self.fingerprint && !is_asked {
            return None;
        }
        self.fingerprint = reading.fingerprint;
        let outcome = self.reload(reading);
        self.metrics.config_reloads.with_label_values(&[outcome.as_str()]).inc();
        self.metrics.config_last_reload_successful.set((outcome == Outcome::Success).into());
        Some(outcome)
    }

    fn reload(&self, reading: Reading) -> Outcome {
        for warning in &reading.warnings {
            tracing::warn!("{warning}");
        }
        let snapshot = match reading.snapshot {
            Ok(snapshot) => snapshot,
            Err(LoadError::Invalid(mistakes)) => {
                tracing::error!(mistakes = mistakes.len(), "the configuration is invalid; the one before stays");
                for mistake in mistakes {
                    tracing::error!("{mistake}");
                }
                return Outcome::Invalid;
            }
            Err(error @ LoadError::Unreadable { .. }) => {
                tracing::error!("{error}; the configuration before stays");
                return Outcome::Unreadable;
            }
        };
        let diff = Diff::between(&self.current.load(), &snapshot);
        if !diff.needs_restart.is_empty() {
            tracing::error!("the configuration before stays; {diff}");
            return Outcome::NeedsRestart;
        }
        let snapshot = Arc::new(snapshot);
        let before = self.current.swap(snapshot.clone());
        record_success(&self.metrics, &reading.sha256);
        tracing::info!("configuration reloaded; {diff}");
        (self.on_reload)(&before, &snapshot);
        Outcome::Success
    }
}

/// Notes in the metrics that a configuration was taken over; also the one of the start, which is no reload.
pub fn record_success(metrics: &Metrics, sha256: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics.config_last_reload_successful.set(1);
    metrics.config_last_reload_success_timestamp.set(now.as_secs_f64());
    metrics.config_info.reset();
    if !sha256.is_empty() {
        metrics.config_info.with_label_values(&[sha256]).set(1);
    }
}

/// Hears of changes in directories.
struct Watch {
    /// Absent where the system has no more watches to give: then looking again must do.
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

impl Watch {
    fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let heard = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error may mean that something was not heard of.
            if event.map_or(true, |event| is_change(&event.kind)) {
                heard.notify_one();
            }
        });
        let watcher = watcher.map_err(|error| report(None, &error)).ok();
        Self { watcher, directories: BTreeSet::new(), changed }
    }

    /// Watches the directories of these files, and no other ones.
    fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = files.iter().filter_map(|file| directory(file)).collect();
        for gone in self.directories.difference(&wanted) {
            // It may be gone from the disk as well, and its watch with it.
            let _ = watcher.unwatch(gone);
        }
        self.directories.retain(|directory| wanted.contains(directory));
        for directory in wanted {
            if self.directories.contains(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.directories.insert(directory);
                }
                Err(error) => report(Some(&directory), &error),
            }
        }
    }
}

/// The directory that holds a file. A name without one is in the working directory.
fn directory(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.into() })
}

/// Opening and reading are heard of too, our own among them.
fn is_change(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write))) || !kind.is_access()
}

fn report(directory: Option<&Path>, error: &notify::Error) {
    let every = LOOK_AGAIN.as_secs();
    tracing::warn!(?directory, %error, "cannot watch for changes of the configuration; looking every {every} s instead");
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
