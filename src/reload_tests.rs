use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::config::snapshot::Tracing;
use crate::route::Found;

const BASE: &str = "\
upstream: { address: 127.0.0.1:3000 }
kafka: { brokers: kafka:9092 }
streams: { s: { topics: [t], keys: [k] } }
auth: { key_file: jwt.key, algorithms: [HS256] }
";
const ONE: &str = "routes: [{ path: /one, stream: s, public: true }]\n";
const TWO: &str = "routes: [{ path: /two, stream: s, public: true }]\n";

/// A directory with a configuration, and its reloader.
struct Bench {
    folder: TempDir,
    reloader: Reloader,
}

impl Bench {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("jwt.key"), "a secret of at least 32 bytes, for tests").unwrap();
        let path = folder.path().join("x.yaml");
        fs::write(&path, format!("{BASE}{text}")).unwrap();
        let reloader = follow(&path);
        Self { folder, reloader }
    }

    /// The outcome of replacing the configuration with this text.
    fn write(&mut self, text: &str) -> Option<Outcome> {
        fs::write(&self.reloader.origin.path, text).unwrap();
        self.look(false)
    }

    fn look(&mut self, is_asked: bool) -> Option<Outcome> {
        self.reloader.look(is_asked).map(|reloaded| reloaded.outcome)
    }

    fn has(&self, path: &str) -> bool {
        has(&self.reloader.current, path)
    }
}

fn follow(path: &Path) -> Reloader {
    let origin = Origin { path: path.into(), options: ReadOptions::default() };
    let Reading { snapshot, files, fingerprint, .. } = origin.read();
    let current = Arc::new(ArcSwap::from_pointee(snapshot.unwrap()));
    let adopt = Adopt { before: Box::new(|_| {}), after: Box::new(|_, _| {}) };
    Reloader::new(origin, current, Arc::new(Metrics::new("x").unwrap()), fingerprint, &files, adopt)
}

fn has(current: &ArcSwap<Snapshot>, path: &str) -> bool {
    matches!(current.load().routes.find(path), Found::Stream { .. })
}

#[test]
fn changed_content_is_applied_and_unchanged_content_is_not_compiled() {
    let mut bench = Bench::new(ONE);
    assert_eq!(bench.look(false), None);
    let before = bench.reloader.current.load_full();
    assert_eq!(bench.write(&format!("{BASE}{TWO}")), Some(Outcome::Success));
    assert!(bench.has("/two") && !bench.has("/one"));
    assert!(before.routes.find("/one") != Found::Upstream, "who has the old one keeps it");
    assert_eq!(bench.look(false), None);
    assert_eq!(bench.look(true), Some(Outcome::Success), "whoever asks is not refused");
}

#[test]
fn an_invalid_configuration_changes_nothing_and_the_next_one_is_tried() {
    let mut bench = Bench::new(ONE);
    let metrics = bench.reloader.metrics.clone();
    assert_eq!(bench.write(&format!("{BASE}{TWO}nonsense: 1\n")), Some(Outcome::Invalid));
    assert_eq!(bench.look(false), None, "reported once");
    assert_eq!(metrics.config_last_reload_successful.get(), 0);
    fs::remove_file(&bench.reloader.origin.path).unwrap();
    assert_eq!(bench.look(false), Some(Outcome::Unreadable));
    assert_eq!(bench.look(false), None, "reported once");
    assert!(bench.has("/one"));
    assert_eq!(bench.write(&format!("{BASE}{TWO}")), Some(Outcome::Success));
    assert!(bench.has("/two"));
    assert_eq!(metrics.config_last_reload_successful.get(), 1);
    let count = |outcome: Outcome| metrics.config_reloads.with_label_values(&[outcome.as_str()]).get();
    assert_eq!(Outcome::ALL.map(count), [1, 1, 1, 0, 0]);
}

#[test]
fn a_key_that_changes_is_a_change() {
    let mut bench = Bench::new(ONE);
    let key = bench.folder.path().join("jwt.key");
    fs::write(&key, "another secret of at least 32 bytes, for tests").unwrap();
    assert_eq!(bench.look(false), Some(Outcome::Success));
    fs::remove_file(&key).unwrap();
    assert_eq!(bench.look(false), Some(Outcome::Invalid));
    fs::write(&key, "a third secret of at least 32 bytes, for tests").unwrap();
    assert_eq!(bench.look(false), Some(Outcome::Success));
}

#[test]
fn a_change_that_needs_a_restart_is_named_and_rejected_with_all_others() {
    let mut bench = Bench::new(ONE);
    let changed = BASE.replace("kafka:9092", "other:9092").replace("[t]", "[t, u]").replace("[k]", "[k, l]");
    let text =
        format!("{changed}{TWO}topics: {{ t: {{ replay: {{ events: 7 }} }} }}\nwriters: 7\nreplay: {{ events: 7 }}\n");
    fs::write(&bench.reloader.origin.path, &text).unwrap();
    let next = bench.reloader.origin.read().snapshot.unwrap();
    let diff = Diff::between(&bench.reloader.current.load(), &next);
    assert_eq!(diff.needs_restart, ["replay", "writers", "kafka.brokers"]);
    assert!(diff.to_string().starts_with("needs a restart: replay, writers, kafka.brokers; "), "{diff}");
    let traced = "tracing: { endpoint: 'http://c:4318' }\n";
    fs::write(&bench.reloader.origin.path, format!("{BASE}{ONE}{traced}")).unwrap();
    let traced = bench.reloader.origin.read().snapshot.unwrap();
    assert_eq!(Diff::between(&bench.reloader.current.load(), &traced).needs_restart, ["tracing"]);
    let rarely = Tracing { sample: 0.5, ..traced.tracing.clone().unwrap() };
    let rarely = Snapshot { tracing: Some(rarely), ..bench.reloader.origin.read().snapshot.unwrap() };
    assert_eq!(Diff::between(&traced, &rarely).to_string(), "changed: tracing.sample");
    fs::write(&bench.reloader.origin.path, &text).unwrap();
    assert_eq!(bench.look(false), Some(Outcome::NeedsRestart));
    assert!(bench.has("/one") && !bench.has("/two"));
    let keys = bench.write(&BASE.replace("[k]", "[k, l]"));
    assert_eq!(keys, Some(Outcome::Success), "the sources read other keys without a restart");
}

#[test]
fn differences_are_reported_by_name() {
    let bench = Bench::new(&format!("{ONE}limits: {{ streams: 5 }}\n"));
    let old = bench.reloader.current.load_full();
    let diff = |text: &str| {
        fs::write(&bench.reloader.origin.path, text).unwrap();
        Diff::between(&old, &bench.reloader.origin.read().snapshot.unwrap()).to_string()
    };
    assert_eq!(diff(&format!("{BASE}{ONE}limits: {{ streams: 5 }}\n")), "nothing changed");
    assert_eq!(
        diff(&format!("{BASE}{TWO}limits: {{ streams: 6 }}\ndrain: {{ budget: 1s }}\n")),
        "routes added: /two; routes removed: /one; changed: limits.streams, drain"
    );
    let retry = ONE.replace("public: true", "public: true, retry: 1s");
    assert_eq!(diff(&format!("{BASE}{retry}limits: {{ streams: 5 }}\n")), "routes changed: /one");
    let rest = BASE.replace(":3000", ":3001").replace("HS256", "HS384");
    assert_eq!(
        diff(&format!("{rest}{ONE}limits: {{ streams: 5 }}\nforwarded: {{ trust: all }}\n")),
        "changed: upstream, forwarded, auth"
    );
}

/// A kubelet updates a volume by renaming a link `..data`, into which the files are linked.
#[tokio::test(flavor = "multi_thread")]
async fn the_swap_of_a_volumes_symlink_is_detected() {
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    let version = |name: &str, text: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("x.yaml"), format!("{BASE}{text}")).unwrap();
        fs::write(at(name).join("jwt.key"), "a secret of at least 32 bytes, for tests").unwrap();
    };
    version("..1", ONE);
    symlink("..1", at("..data")).unwrap();
    symlink("..data/x.yaml", at("x.yaml")).unwrap();
    symlink("..data/jwt.key", at("jwt.key")).unwrap();
    let reloader = follow(&at("x.yaml"));
    let current = reloader.current.clone();
    let running = tokio::spawn(reloader.run());

    for (name, text, path) in [("..2", TWO, "/two"), ("..3", ONE, "/one")] {
        version(name, text);
        symlink(name, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        let deadline = Instant::now() + LOOK_AGAIN / 2;
        while !has(&current, path) {
            assert!(Instant::now() < deadline, "{path}");
            sleep(Duration::from_millis(10)).await;
        }
    }
    running.abort();
}

#[test]
fn reading_the_files_is_not_a_change() {
    use notify::event::{CreateKind, ModifyKind, RenameMode};
    assert!(!is_change(&EventKind::Access(AccessKind::Open(AccessMode::Any))));
    assert!(!is_change(&EventKind::Access(AccessKind::Close(AccessMode::Read))));
    assert!(is_change(&EventKind::Access(AccessKind::Close(AccessMode::Write))));
    assert!(is_change(&EventKind::Create(CreateKind::File)));
    assert!(is_change(&EventKind::Modify(ModifyKind::Name(RenameMode::To))));
}

#[test]
fn a_path_that_is_no_file_never_blocks() {
    let mut bench = Bench::new(ONE);
    let path = bench.reloader.origin.path.clone();
    let (elsewhere, aside) = (bench.folder.path().join("else"), bench.folder.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    let mut outcomes = Vec::new();
    let mut look = |make: &dyn Fn()| {
        make();
        outcomes.push(bench.look(true).unwrap());
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    };
    look(&|| fs::create_dir(&path).unwrap());
    look(&|| assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()));
    look(&|| symlink("/dev/zero", &path).unwrap());
    look(&|| symlink(&path, &path).unwrap());
    look(&|| symlink(&elsewhere, &path).unwrap());
    look(&|| fs::write(&path, vec![b'#'; 2 << 20]).unwrap());
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Unreadable), "{outcomes:?}");
    fs::rename(&aside, &path).unwrap();
    assert_eq!(bench.look(true), Some(Outcome::Success));
    assert!(bench.has("/one"));
}
