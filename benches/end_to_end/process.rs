//! A measured server: starts it, reads its CPU time and memory from /proc, and stops it by process id.
//!
//! All of its processes count, since nginx and others have workers.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Fallible;

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The CPU time of each thread, by its directory in /proc.
pub type Threads = HashMap<PathBuf, Duration>;

/// A process and its descendants, ended when dropped.
pub struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Its files, deleted with it.
    files: Option<TempDir>,
}

impl Running {
    /// Discards its standard error.
    pub fn start(command: &mut Command) -> Fallible<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self { child, output, files: None })
    }

    /// With files that are deleted with it.
    pub fn start_with(files: TempDir, command: &mut Command) -> Fallible<Self> {
        let mut running = Self::start(command)?;
        running.files = Some(files);
        Ok(running)
    }

    /// The directory of its files.
    pub fn folder(&self) -> Option<&Path> {
        self.files.as_ref().map(TempDir::path)
    }

    /// This program as another server: its arguments begin with the server's name.
    pub fn own<const N: usize>(arguments: [&str; N]) -> Fallible<Self> {
        Self::start(Command::new(std::env::current_exe()?).args(arguments))
    }

    /// Reads until a line begins with `start`, and returns the rest of the line.
    pub fn line(&mut self, start: &str) -> Fallible<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err(format!("the server ended before it said {start:?}").into());
            }
            if let Some(found) = line.strip_prefix(start) {
                return Ok(found.trim_end().to_owned());
            }
        }
    }

    /// Waits until it accepts connections.
    pub fn await_port(&mut self, address: SocketAddr) -> Fallible<()> {
        let end = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended: {status}").into());
            }
            if Instant::now() > end {
                return Err(format!("nothing serves at {address}").into());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    pub fn input(&mut self) -> Fallible<ChildStdin> {
        Ok(self.child.stdin.take().ok_or("no stdin")?)
    }

    /// CPU time since `before`. Threads that have ended do not count: idle threads of a pool.
    #[allow(dead_code, reason = "for runs in which threads end: another program's")]
    pub fn cpu_since(&self, before: &Threads) -> Fallible<Duration> {
        self.cpu_of("", before)
    }

    /// CPU time of the threads whose names begin with `name`.
    pub fn cpu_of(&self, name: &str, before: &Threads) -> Fallible<Duration> {
        let is_named = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|it| it.starts_with(name));
        let now = self.threads()?.into_iter().filter(|(thread, _)| is_named(thread));
        Ok(now.map(|(thread, cpu)| cpu.saturating_sub(before.get(&thread).copied().unwrap_or_default())).sum())
    }

    /// User and system CPU time of each living thread.
    pub fn threads(&self) -> Fallible<Threads> {
        let mut threads = Threads::new();
        for pid in self.processes() {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let path = task?.path();
                // The first field is the time on a CPU in nanoseconds; /proc/PID/stat has a resolution of 10 ms.
                let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
                let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
                threads.insert(path, Duration::from_nanos(nanoseconds));
            }
        }
        Ok(threads)
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Fallible<u64> {
        let mut total = 0;
        for pid in self.processes() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
            total += line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse::<u64>()? * 1024;
        }
        Ok(total)
    }

    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while at < found.len() {
            let tasks = fs::read_dir(format!("/proc/{}/task", found[at])).into_iter().flatten().flatten();
            for task in tasks {
                let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            at += 1;
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in self.processes() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // It may have exited.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        let _ = self.child.wait();
    }
}

/// For servers that do not report their port.
pub fn free_address() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
