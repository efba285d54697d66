//! The real binary as a child process: started on free ports, signalled by its pid, and always stopped.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Answer, Call};
use super::{DEADLINE, eventually, within_deadline};

/// A debug build starts slowly on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A command that runs the binary with these arguments.
pub fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidestream"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub struct Sidecar {
    child: Child,
    stderr: PathBuf,
    lines: Receiver<String>,
    /// The lines before its ready line.
    pub preamble: Vec<String>,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub kafka: String,
}

impl Sidecar {
    /// Runs `sidestream run` with this configuration on free ports.
    pub fn run(config: &Path) -> Self {
        Self::start(&["run", "--config", config.to_str().unwrap()], &config.with_extension("log"))
    }

    /// Runs it with injected panics (see `src/fault.rs`).
    pub fn run_faulty(config: &Path, faults: &str) -> Self {
        let stderr = config.with_extension("log");
        let log = File::options().create(true).append(true).open(&stderr).unwrap();
        let mut command = binary(&["run", "--config", config.to_str().unwrap()]);
        command.env("SIDESTREAM_FAULT", faults);
        Self::spawn(command, log.into(), &stderr)
    }

    /// Starts a subcommand on free ports, and waits for its ready line.
    pub fn start(arguments: &[&str], stderr: &Path) -> Self {
        let log = File::options().create(true).append(true).open(stderr).unwrap();
        Self::spawn(binary(arguments), log.into(), stderr)
    }

    /// Like `run`, with this limit of descriptors.
    pub fn run_with_descriptors(config: &Path, limit: u32) -> Self {
        let inner = binary(&["run", "--config", config.to_str().unwrap()]);
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")])
            .arg(inner.get_program())
            .args(inner.get_args());
        let stderr = config.with_extension("few.log");
        let log = File::options().create(true).append(true).open(&stderr).unwrap();
        Self::spawn(command, log.into(), &stderr)
    }

    /// Like `run`, with this log filter and a standard error that is never read. The pipe stays open as long as the
    /// second value lives.
    pub fn run_unread(config: &Path, filter: &str) -> (Self, std::io::PipeReader) {
        let (unread, pipe) = std::io::pipe().unwrap();
        let mut command = binary(&["run", "--config", config.to_str().unwrap()]);
        command.env("SIDESTREAM_LOG", filter);
        (Self::spawn(command, pipe.into(), &config.with_extension("log")), unread)
    }

    fn spawn(mut command: Command, log: Stdio, stderr: &Path) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = lines_of(BufReader::new(child.stdout.take().unwrap()));
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut sidecar = Self {
            child,
            stderr: stderr.to_owned(),
            lines,
            preamble: Vec::new(),
            listen: unknown,
            admin: unknown,
            kafka: String::new(),
        };
        sidecar.await_ready();
        sidecar
    }

    pub fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.listen, method, target)
    }

    /// Sends a request to the admin port.
    pub fn admin(&self, target: &str) -> Answer {
        Call::of_admin(self.admin, "GET", target).send()
    }

    /// The value of a series, written as in the exposition format: `name{label="value"}`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.admin("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }

    /// The sum of all series of this name.
    pub fn metric_sum(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").text();
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until a series has this value.
    #[track_caller]
    pub fn await_metric(&self, series: &str, value: f64) {
        let mut last = None;
        let reached = within_deadline(|| {
            last = self.metric(series);
            (last == Some(value)).then_some(())
        });
        assert!(reached.is_some(), "not within {DEADLINE:?}: {series} = {value}, but {last:?}");
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// Resident memory without file mappings, in KiB.
    pub fn anonymous_kib(&self) -> u64 {
        self.memory_kib("RssAnon:")
    }

    /// The most that was resident so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Sends a signal: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until the process exits.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the sidecar's end", || self.child.try_wait().unwrap())
    }

    /// Ends the process as Kubernetes does, and asserts exit code 0.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it has logged this text: lines are written with a short delay.
    #[track_caller]
    pub fn await_log(&self, said: &str) {
        eventually(&format!("{said:?} in the log"), || self.log().contains(said).then_some(()));
    }

    fn await_ready(&mut self) {
        let deadline = Instant::now() + START;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with("ready ") => return self.read_ready(&line),
                Ok(line) => self.preamble.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no ready line within {START:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before it was ready: {:?}", self.wait()),
            }
        }
    }

    fn read_ready(&mut self, line: &str) {
        let field = |name: &str| {
            line.split(' ')
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("no {name} in {line:?}"))
        };
        self.listen = field("listen").parse().unwrap();
        self.admin = field("admin").parse().unwrap();
        self.kafka = field("kafka").to_owned();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the sidecar's log ---\n{}--- end ---", self.log());
        }
    }
}

fn lines_of(reader: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}
