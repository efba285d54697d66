//! Runs the independent clients of `tests/clients`, which print what they receive as JSON lines.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// An interpreter starts slowly on a busy machine, and a client may wait before it reconnects.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running client.
pub struct Client {
    child: Child,
    lines: Receiver<String>,
}

impl Client {
    /// Starts a script of `tests/clients` with these arguments: `.cjs` and `.mjs` with node, `.py` with Python from the
    /// virtual environment, `.sh` with `sh`. Other scripts have an absolute path. The name may be followed by a space
    /// and a first argument.
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        Self::start_with(script, arguments, &[])
    }

    /// The same with this certificate authority.
    pub fn start_trusting(script: &str, arguments: &[&str], authority: &Path) -> Self {
        Self::start_with(script, arguments, &["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"].map(|name| (name, authority)))
    }

    fn start_with(script: &str, arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let installed = installed();
        let (script, first) = script.split_once(' ').map_or((script, None), |(script, first)| (script, Some(first)));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
        let mut command = if script.ends_with(".py") {
            Command::new(installed.join("venv/bin/python"))
        } else if script.ends_with(".sh") {
            Command::new("sh")
        } else {
            let mut node = Command::new("node");
            node.env("NODE_PATH", installed.join("node_modules"));
            node
        };
        let mut child = command
            .arg(path)
            .args(first)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect(script);
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// The next line that it prints.
    pub fn line(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line of the client");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))
    }

    /// Waits until it reports that its stream is open.
    pub fn await_open(&self) {
        assert_eq!(self.line()["open"], true);
    }

    /// The event ids that it prints next.
    pub fn ids(&self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                loop {
                    let line = self.line();
                    assert!(line["gap"].is_null(), "a gap where nothing may be lost: {line}");
                    // It also reports each reconnect.
                    if let Some(id) = line["id"].as_str() {
                        break id.to_owned();
                    }
                }
            })
            .collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory that `make clients` installs into.
pub fn installed() -> PathBuf {
    let place = std::env::var_os("SIDESTREAM_CLIENTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients"), PathBuf::from);
    let complete = place.join("node_modules/ws").exists() && place.join("venv/bin/python").exists();
    assert!(complete, "the clients are not in {}: run `make clients`", place.display());
    place
}
