//! docs/first-steps.md: runs every command in it, next to a running demo.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::support::sidecar::{Sidecar, binary};
use crate::support::upstream::Upstream;

/// A command that runs until it is stopped.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    fn start(command: &str) -> Self {
        // `exec` replaces the shell, so that stopping the process stops the command.
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self(child, lines)
    }

    /// The first line that contains this text.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let line = (&mut self.1).lines().map_while(Result::ok).find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("it ended without {text}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_command_works_with_a_running_demo() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let demo = Sidecar::start(&["demo"], &file("demo.log"));
    let upstream = Upstream::start();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/first-steps.md")).unwrap();
    let text = text.replace("kafka:9092", &demo.kafka).replace("127.0.0.1:3000", &upstream.address.to_string());
    assert!(!text.contains(":8080/") && !text.contains(":9090/"), "those are the demo's ports");
    let commands: Vec<&str> = blocks(&text, "sh").flat_map(|block| block.lines()).collect();
    let [run, follow, produce, resume, check, run_file, follow_key] = commands[..] else { panic!("{commands:?}") };

    let sidecar = start(run, &file("run.log"));
    let at = |command: &str, sidecar: &Sidecar| command.replace("127.0.0.1:8081", &sidecar.listen.to_string());
    let mut lines = Running::start(&at(follow, &sidecar));
    sidecar.await_metric("notifications_stream_active_connections", 1.0);
    shell(produce);
    let event: Value = serde_json::from_str(&lines.until("\"orderId\":\"o-1\"")).unwrap();
    let (shown, _) = resume.split_once("since=").unwrap();
    shell(produce);
    let resume = format!("{shown}since={}'", event["cursor"].as_str().unwrap());
    Running::start(&at(&resume, &sidecar)).until("\"orderId\":\"o-1\"");
    drop((lines, sidecar));

    let [written, mapping, own] = blocks(&text, "yaml").collect::<Vec<_>>()[..] else { panic!("the configurations") };
    std::fs::write(file("o.yaml"), written).unwrap();
    assert!(passes(check, directory.path()));
    let sidecar = start(&run_file.replace("o.yaml", file("o.yaml").to_str().unwrap()), &file("run.log"));
    let mut records = Running::start(&at(follow_key, &sidecar));
    records.until("retry:");
    shell(produce);
    records.until("\"total\":42");

    // Later sections replace earlier ones.
    let (head, _) = written.split_once("topics:").unwrap();
    std::fs::write(file("jwt.key"), "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::write(file("o.yaml"), format!("{head}{mapping}\n{own}")).unwrap();
    assert!(passes(check, directory.path()));
}

/// The code blocks of a language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    text.split("```").skip(1).step_by(2).filter_map(move |block| block.strip_prefix(language)?.strip_prefix('\n'))
}

/// Runs `sidestream run ...` on free ports instead of the documented ones.
fn start(command: &str, log: &Path) -> Sidecar {
    let command = command.replace("--listen 127.0.0.1:8081 --admin 127.0.0.1:9091", "");
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(words[..2], ["sidestream", "run"], "{command}");
    Sidecar::start(&words[1..], log)
}

fn passes(command: &str, folder: &Path) -> bool {
    let (command, _comment) = command.split_once('#').unwrap_or((command, ""));
    let words: Vec<&str> = command.split_whitespace().collect();
    binary(&words[1..]).current_dir(folder).status().unwrap().success()
}

#[track_caller]
fn shell(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}
