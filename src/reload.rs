//! Reloads: watches the files of a configuration, compiles them when their content changes, and swaps the snapshot.
//! Requests take the snapshot when they begin; open streams are notified of the change.
//!
//! Directories are watched instead of files: a mounted ConfigMap or Secret changes by renaming a symlink next to it,
//! which a watch of the file does not observe. The content decides, and is also checked periodically.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use serde::Serialize;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep;

use crate::config::{Diagnostic, Diff, Fingerprint, LoadError, ReadOptions, Reading, Snapshot, fingerprint, read_with};
use crate::contain::contain;
use crate::fault::provoke;
use crate::metrics::Metrics;

/// The interval of checks without a notification: some file systems send none.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long to wait after a notification: files are written in several steps.
const SETTLE: Duration = Duration::from_millis(200);

/// The most callers that may wait for a requested reload.
const ASKED_AHEAD: usize = 16;

/// The file of a configuration, and the options of the command line.
#[derive(Clone, Debug)]
pub struct Origin {
    pub path: PathBuf,
    pub options: ReadOptions,
}

impl Origin {
    /// Reads the current file.
    pub fn read(&self) -> Reading {
        read_with(&self.path, &self.options)
    }
}

/// The result of a reload, and its label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The configuration is invalid.
    Invalid,
    /// The file cannot be read.
    Unreadable,
    /// A setting changed that is read only at start.
    NeedsRestart,
    /// The reload panicked, which is a bug.
    InternalError,
}

impl Outcome {
    pub const ALL: [Self; 5] =
        [Self::Success, Self::Invalid, Self::Unreadable, Self::NeedsRestart, Self::InternalError];

    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Invalid => "invalid",
            Self::Unreadable => "unreadable",
            Self::NeedsRestart => "needs-restart",
            Self::InternalError => "internal-error",
        }
    }
}

/// The result of a reload, for the caller that requested it.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    #[serde(skip)]
    pub outcome: Outcome,
    /// `applied`, `unchanged`, or the outcome's name.
    pub result: &'static str,
    /// The differences, on one line; empty if there is nothing to compare.
    pub changed: String,
    /// The errors, with positions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
}

impl Reloaded {
    fn success(diff: &Diff) -> Self {
        let result = if diff.is_empty() { "unchanged" } else { "applied" };
        Self { result, ..Self::failure(Outcome::Success, diff.to_string(), Vec::new()) }
    }

    fn failure(outcome: Outcome, changed: String, diagnostics: Vec<Diagnostic>) -> Self {
        let at = since_epoch().as_millis() as u64;
        Self { outcome, result: outcome.as_str(), changed, diagnostics, at }
    }
}

/// A handle of a running reloader. Cheap to clone.
#[derive(Clone)]
pub struct ReloadHandle {
    asked: mpsc::Sender<oneshot::Sender<Arc<Reloaded>>>,
    last: Arc<ArcSwapOption<Reloaded>>,
}

impl ReloadHandle {
    /// Requests a reload, even if the content is unchanged. The receiver gets the result. `None` if [`ASKED_AHEAD`]
    /// callers are waiting, or if the reloader has ended.
    pub fn ask(&self) -> Option<oneshot::Receiver<Arc<Reloaded>>> {
        let (sender, receiver) = oneshot::channel();
        self.asked.try_send(sender).ok().map(|()| receiver)
    }

    /// The result of the last reload, if there was one.
    pub fn last(&self) -> Option<Arc<Reloaded>> {
        self.last.load_full()
    }
}

/// Called with the previous snapshot and the new one.
pub type OnReload = Box<dyn Fn(&Snapshot, &Snapshot) + Send>;

/// What a reload applies in addition to the snapshot.
pub struct Adopt {
    /// Called with a snapshot before requests see it. May block briefly.
    pub before: Box<dyn Fn(&Snapshot) + Send>,
    /// Called afterwards, with the previous one and the new one.
    pub after: OnReload,
}

/// Keeps the running snapshot equal to the configuration's files, if they are valid.
pub struct Reloader {
    origin: Origin,
    current: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    /// The content that was read last, valid or not.
    fingerprint: Fingerprint,
    /// The files of that content.
    files: Vec<PathBuf>,
    watch: Watch,
    adopt: Adopt,
    asked: mpsc::Receiver<oneshot::Sender<Arc<Reloaded>>>,
    handle: ReloadHandle,
}

impl Reloader {
    /// Starts watching. `fingerprint` and `files` are those of the reading of `current`.
    pub fn new(
        origin: Origin,
        current: Arc<ArcSwap<Snapshot>>,
        metrics: Arc<Metrics>,
        fingerprint: Fingerprint,
        files: &[PathBuf],
        adopt: Adopt,
    ) -> Self {
        // All results are initialized: rates need a zero to start from.
        for outcome in Outcome::ALL {
            metrics.config_reloads.with_label_values(&[outcome.as_str()]).inc_by(0);
        }
        let mut watch = Watch::new();
        watch.follow(files);
        let (ask, asked) = mpsc::channel(ASKED_AHEAD);
        let handle = ReloadHandle { asked: ask, last: Arc::default() };
        Self { origin, current, metrics, fingerprint, files: files.to_vec(), watch, adopt, asked, handle }
    }

    /// A handle for requesting reloads once it runs.
    pub fn handle(&self) -> ReloadHandle {
        self.handle.clone()
    }

    /// Reloads when the content changes, or on request regardless of the content. Runs for ever.
    pub async fn run(mut self) {
        // A change between the first reading and the first watch was not notified.
        let mut waits = None;
        loop {
            // Compiling takes milliseconds, but reads files.
            let reloaded = tokio::task::block_in_place(|| self.look_contained(waits.is_some()));
            if let (Some(waits), Some(reloaded)) = (waits.take(), reloaded) {
                // A caller that sent a signal does not wait.
                let _: Result<(), _> = oneshot::Sender::send(waits, reloaded);
            }
            waits = tokio::select! {
                waits = self.asked.recv() => waits,
                () = self.watch.changed.notified() => self.settle().await,
                () = sleep(LOOK_AGAIN) => None,
            };
        }
    }

    /// Waits until a change is complete. A request ends the wait, and its caller gets the result.
    async fn settle(&mut self) -> Option<oneshot::Sender<Arc<Reloaded>>> {
        tokio::select! {
            waits = self.asked.recv() => waits,
            () = sleep(SETTLE) => None,
        }
    }

    /// Like [`Self::look`]. A panic fails this reload only.
    fn look_contained(&mut self, is_asked: bool) -> Option<Arc<Reloaded>> {
        contain(|| self.look(is_asked)).unwrap_or_else(|| {
            tracing::error!("the reload panicked, which is a bug; the next change is loaded again");
            Some(self.record(Reloaded::failure(Outcome::InternalError, String::new(), Vec::new())))
        })
    }

    /// Reads the files, and reloads if their content has changed, or if `is_asked`.
    fn look(&mut self, is_asked: bool) -> Option<Arc<Reloaded>> {
        // Unchanged files are not compiled again, because that creates a Kafka client per cluster to validate its
        // properties.
        if !is_asked && fingerprint(&self.files) == self.fingerprint {
            return None;
        }
        let reading = self.origin.read();
        self.watch.follow(&reading.files);
        self.files.clone_from(&reading.files);
        if reading.fingerprint == self.fingerprint && !is_asked {
            return None;
        }
        self.fingerprint = reading.fingerprint;
        let reloaded = self.reload(reading);
        Some(self.record(reloaded))
    }

    fn record(&self, reloaded: Reloaded) -> Arc<Reloaded> {
        let reloaded = Arc::new(reloaded);
        self.metrics.config_reloads.with_label_values(&[reloaded.outcome.as_str()]).inc();
        self.metrics.config_last_reload_successful.set((reloaded.outcome == Outcome::Success).into());
        self.handle.last.store(Some(reloaded.clone()));
        reloaded
    }

    fn reload(&self, reading: Reading) -> Reloaded {
        for warning in &reading.warnings {
            tracing::warn!("{warning}");
        }
        let mut snapshot = match reading.snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => return stays(&error),
        };
        let diff = Diff::between(&self.current.load(), &snapshot);
        if !diff.needs_restart.is_empty() {
            tracing::error!("the previous configuration stays; {diff}");
            return Reloaded::failure(Outcome::NeedsRestart, diff.to_string(), Vec::new());
        }
        snapshot.routes.routes().for_each(|route| provoke("reload", route.pattern.as_bytes()));
        snapshot.inherit_keys(&self.current.load());
        snapshot.inherit_registries(&self.current.load());
        let snapshot = Arc::new(snapshot);
        (self.adopt.before)(&snapshot);
        let before = self.current.swap(snapshot.clone());
        record_success(&self.metrics, &reading.sha256);
        self.metrics.certificates(&snapshot.certificates);
        tracing::info!("configuration reloaded; {diff}");
        (self.adopt.after)(&before, &snapshot);
        Reloaded::success(&diff)
    }
}

/// Logs why the previous configuration stays.
fn stays(error: &LoadError) -> Reloaded {
    let outcome = match error {
        LoadError::Invalid(mistakes) => {
            tracing::error!(mistakes = mistakes.len(), "the configuration is invalid; the previous one stays");
            for mistake in mistakes {
                tracing::error!("{mistake}");
            }
            Outcome::Invalid
        }
        LoadError::Unreadable { .. } => {
            tracing::error!("{error}; the configuration before stays");
            Outcome::Unreadable
        }
    };
    Reloaded::failure(outcome, String::new(), error.diagnostics())
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Records in the metrics that a configuration was applied, including the one at start.
pub fn record_success(metrics: &Metrics, sha256: &str) {
    metrics.config_last_reload_successful.set(1);
    metrics.config_last_reload_success_timestamp.set(since_epoch().as_secs_f64());
    metrics.config_info.reset();
    if !sha256.is_empty() {
        metrics.config_info.with_label_values(&[sha256]).set(1);
    }
}

/// Watches directories for changes.
struct Watch {
    /// Absent if the system has no watches left: then only the periodic check detects changes.
    watcher: Option<RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    /// Directories that cannot be watched, which is logged once.
    unwatched: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

impl Watch {
    fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let heard = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // After an error, a notification may be missing.
            if event.map_or(true, |event| is_change(&event.kind)) {
                heard.notify_one();
            }
        });
        let watcher = watcher.map_err(|error| report(None, &error)).ok();
        Self { watcher, directories: BTreeSet::new(), unwatched: BTreeSet::new(), changed }
    }

    /// Watches the directories of these files, and stops watching others.
    fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = files.iter().filter_map(|file| directory(file)).collect();
        for gone in self.directories.difference(&wanted) {
            // The directory may be deleted, and its watch with it.
            let _ = watcher.unwatch(gone);
        }
        self.directories.retain(|directory| wanted.contains(directory));
        self.unwatched.retain(|directory| wanted.contains(directory));
        for directory in wanted {
            if self.directories.contains(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.unwatched.remove(&directory);
                    self.directories.insert(directory);
                }
                Err(error) => {
                    if self.unwatched.insert(directory.clone()) {
                        report(Some(&directory), &error);
                    }
                }
            }
        }
    }
}

/// The directory of a file. A name without a directory is in the working directory.
fn directory(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.into() })
}

/// Opening and reading also cause notifications, including those of this process.
fn is_change(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write))) || !kind.is_access()
}

fn report(directory: Option<&Path>, error: &notify::Error) {
    let every = LOOK_AGAIN.as_secs();
    tracing::warn!(?directory, %error, "cannot watch for changes of the configuration; checking every {every} s instead");
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
