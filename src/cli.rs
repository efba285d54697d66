//! The command line: what may be said, and `check`. Running is the composition root's job.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, LoadError, Snapshot};

/// Exit code: the configuration is invalid.
const INVALID: u8 = 1;
/// Exit code: the configuration cannot be read.
const UNREADABLE: u8 = 2;

/// A reverse proxy beside a REST service that turns Kafka topics into NDJSON, Server-Sent Events and WebSocket streams.
#[derive(Debug, Parser)]
#[command(name = "sidestream", version, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const ENVIRONMENT: &str = "Logs go to standard error. SIDESTREAM_LOG filters them (error, warn, info, debug, trace, \
                           or target=level,...); SIDESTREAM_LOG_FORMAT=json makes one JSON object a line of them.";

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve: proxy to the upstream, and stream what Kafka brings.
    Run {
        /// The configuration, a YAML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Listen here instead of where the configuration says; port 0 takes a free one.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Serve metrics and health here instead of where the configuration says; port 0 takes a free one.
        #[arg(long, value_name = "ADDR")]
        admin: Option<SocketAddr>,
    },
    /// Show everything at once: an embedded broker, a small REST service, a producer, and sidestream before them.
    Demo {
        /// Listen here; port 0 takes a free one.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Serve metrics and health here; port 0 takes a free one.
        #[arg(long, value_name = "ADDR")]
        admin: Option<SocketAddr>,
    },
    /// Validate a configuration. Exits with 0 (good), 1 (invalid: every mistake with its place) or 2 (cannot be read).
    Check {
        /// The configuration, a YAML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Validates a configuration: a line on standard output if it is good, every mistake on standard error if not.
pub fn check(path: &Path) -> ExitCode {
    match config::load(path) {
        Ok(snapshot) => {
            say(io::stdout(), summary(path, &snapshot));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(io::stderr(), &error);
            exit_code(&error)
        }
    }
}

/// The exit code of a process that can't load its configuration.
pub fn exit_code(error: &LoadError) -> ExitCode {
    ExitCode::from(match error {
        LoadError::Invalid(_) => INVALID,
        LoadError::Unreadable { .. } => UNREADABLE,
    })
}

fn summary(path: &Path, snapshot: &Snapshot) -> String {
    let routes = snapshot.routes.routes().count();
    let topics: usize = snapshot.sources().map(|cluster| cluster.topics.len()).sum();
    format!("{}: OK ({routes} stream routes, {topics} topics)", path.display())
}

/// Whoever closed our output does not want to hear, and the exit code says it all.
fn say(mut output: impl Write, text: impl Display) {
    let _ = writeln!(output, "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        Cli::try_parse_from([&["sidestream"], arguments].concat()).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_and_their_options() {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let run = parse(&["run", "--config", "x.yaml", "--listen", "127.0.0.1:0"]).unwrap();
        assert_eq!(run, Command::Run { config: "x.yaml".into(), listen, admin: None });
        let demo = parse(&["demo", "--admin", "127.0.0.1:0"]).unwrap();
        assert_eq!(demo, Command::Demo { listen: None, admin: listen });
        assert_eq!(parse(&["check", "--config", "x"]).unwrap(), Command::Check { config: "x".into() });
        for wrong in [&["run"][..], &["check"], &["run", "--config", "x", "--listen", "8080"], &[]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn check_tells_good_from_invalid_from_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        assert_eq!(check(&path), ExitCode::from(2));
        std::fs::write(&path, "nonsense: 1").unwrap();
        assert_eq!(check(&path), ExitCode::from(1));
        std::fs::write(&path, "upstream: { address: a:1 }\nkafka: { brokers: a:1 }").unwrap();
        assert_eq!(check(&path), ExitCode::SUCCESS);
    }
}
