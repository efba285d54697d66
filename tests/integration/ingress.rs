//! `import-ingress` as users run it: every manifest of `tests/ingress` on standard input. The output equals the golden
//! files, and passes `check`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::support::sidecar::binary;

#[test]
fn every_manifest_becomes_a_configuration_that_check_accepts_once_it_is_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for manifest in std::fs::read_dir(root("tests/ingress")).unwrap().map(|entry| entry.unwrap().path()) {
        if manifest.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        count += 1;
        let output = import(&std::fs::read(&manifest).unwrap());
        let golden = |extension| {
            let file = root("tests/ingress/golden").join(manifest.file_stem().unwrap()).with_extension(extension);
            std::fs::read_to_string(file).unwrap()
        };
        let report = golden("txt");
        assert_eq!(text(&output.stdout), golden("yaml"), "{}", manifest.display());
        assert_eq!(text(&output.stderr), report, "{}", manifest.display());
        let is_mapped = report.lines().any(|line| line.starts_with("mapped: "));
        assert_eq!(output.status.code(), Some(if is_mapped { 0 } else { 3 }), "{}", manifest.display());
        let written = folder.path().join("sidestream.yaml");
        std::fs::write(&written, &output.stdout).unwrap();
        let check = || binary(&["check", "--config", written.to_str().unwrap()]).output().unwrap();
        assert_eq!(check().status.code(), Some(1), "{}: what nobody has decided passes", manifest.display());
        let filled = text(&output.stdout).replace("REPLACE-true-or-false", "true").replace("REPLACE-", "");
        std::fs::write(&written, filled).unwrap();
        let check = check();
        assert_eq!(check.status.code(), Some(0), "{}: {}", manifest.display(), text(&check.stderr));
    }
    assert!(count >= 30, "{count} manifests");
}

#[test]
fn each_decision_that_is_left_to_a_person_fails_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sidestream.yaml");
    let fill = |line: &str| line.replace("REPLACE-true-or-false", "true").replace("REPLACE-", "");
    let mut places = 0;
    for manifest in ["tests/ingress/oauth2-proxy.yaml", "tests/ingress/sse-of-the-guide.yaml"] {
        let written = text(&import(&std::fs::read(root(manifest)).unwrap()).stdout);
        for (left, _) in written.lines().enumerate().filter(|(_, line)| line.contains("REPLACE-")) {
            let lines = written.lines().enumerate();
            let lines = lines.map(|(n, line)| if n == left { line.to_owned() } else { fill(line) });
            std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
            let check = binary(&["check", "--config", file.to_str().unwrap()]).output().unwrap();
            assert_eq!(check.status.code(), Some(1));
            let place = format!("sidestream.yaml:{}:", left + 1);
            assert!(text(&check.stderr).contains(&place), "{place} {}", text(&check.stderr));
            places += 1;
        }
        for key in ["address:", "brokers:", "trust:"] {
            assert!(written.lines().any(|line| line.contains(key) && line.contains("REPLACE-")), "{key} {written}");
        }
    }
    assert!(places >= 8, "{places}");
}

#[test]
fn input_that_is_not_kubernetes_exits_with_1_and_a_position() {
    for (input, place) in
        [("a: [b\n", "standard input:1:4: not valid YAML"), ("---\na: b\n", "standard input:2:1: not a Kubernetes")]
    {
        let output = import(input.as_bytes());
        assert_eq!(output.status.code(), Some(1), "{input}");
        assert!(text(&output.stderr).starts_with(place), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    assert_eq!(import(b"\xff").status.code(), Some(2));
}

fn import(manifest: &[u8]) -> Output {
    let mut command = binary(&["import-ingress"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The command reads all input before it writes, so that neither side blocks.
    child.stdin.take().unwrap().write_all(manifest).unwrap();
    child.wait_with_output().unwrap()
}

fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
