//! The definition of the command line: commands and their flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::{Doctor, Explain, InjectArguments, Tap};
use crate::config::{self, Brief, ReadOptions};

/// A reverse proxy beside a REST service that streams Kafka topics as NDJSON, Server-Sent Events and WebSocket.
#[derive(Debug, Parser)]
#[command(name = "sidestream", version, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const ENVIRONMENT: &str = "Logs go to standard error. SIDESTREAM_LOG filters them (error, warn, info, debug, trace, \
                           or target=level,...); SIDESTREAM_LOG_FORMAT=json prints one JSON object per line. \
                           SIDESTREAM_CONFIG is the configuration file if --config is absent. \
                           SIDESTREAM_UPSTREAM_PORT=PORT, with --config, sets the REST service to this port of 127.0.0.1.";

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the proxy: forward requests to the upstream, and serve streams from Kafka.
    ///
    /// Without a file, --upstream, --brokers and --topic serve public streams at /stream, /events and /ws.
    Run {
        /// The configuration file (YAML); reloaded when it changes.
        #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, required_unless_present = "upstream")]
        config: Option<PathBuf>,
        #[command(flatten)]
        brief: Option<BriefArguments>,
        /// Listen on this address, instead of the configured one; port 0 binds a free port.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Serve metrics and probes on this address, instead of the configured one; port 0 binds a free port.
        #[arg(long, value_name = "ADDR")]
        admin: Option<SocketAddr>,
    },
    /// Run a demo: an embedded broker, a small REST service, a producer, and sidestream in front of them.
    Demo {
        /// Listen on this address; port 0 binds a free port.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Serve metrics and probes on this address; port 0 binds a free port.
        #[arg(long, value_name = "ADDR")]
        admin: Option<SocketAddr>,
    },
    /// Validate a configuration. Exits with 0 (valid), 1 (invalid: reports every error with its position) or 2 (cannot
    /// be read).
    Check {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
        config: PathBuf,
        #[command(flatten)]
        read: ReadArguments,
        /// The output: text, or a JSON array of all errors and warnings.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// Also request the keys of issuers with `jwks_url` or `discovery`; exits with 1 where that fails.
        #[arg(long)]
        online: bool,
        /// Also list the environment variables in the file: where each is used, and whether it is set.
        #[arg(long, conflicts_with = "output")]
        explain_env: bool,
    },
    /// Print the effective configuration, the effect of a change, or the JSON Schema.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Turn ingress-nginx's Ingresses and ConfigMap, YAML on standard input, into a configuration on standard output.
    ///
    /// A report on standard error lists how each setting is handled. Exits with 0 (something was mapped), 1 (not YAML,
    /// or not Kubernetes objects: reports the position), 2 (cannot be read) or 3 (nothing to map).
    ImportIngress,
    /// Add sidestream to Kubernetes manifests, from standard input to standard output.
    ///
    /// Changes workloads with the label `sidestream.io/inject: "true"`, and the Services that select their pods. All
    /// other text stays, byte for byte. See docs/kubernetes.md.
    Inject(InjectArguments),
    /// Follow a stream and print its events, over any transport; resume after a cut.
    ///
    /// Exits with 0 (--max was reached, or --once and the server ended the stream), 1 (refused permanently), 2 (no
    /// server was reached) or 3 (--once, and the stream was cut). Gaps appear among the events, and on standard error.
    Tap(Tap),
    /// Diagnose the network path to a stream: what buffers, compresses, cuts or changes it, and how to fix it.
    ///
    /// Opens probes, streams without events, over the real path. sidestream's configuration must allow them
    /// (`probe: true`); otherwise it examines an ordinary stream. It speaks HTTP/1.1. Exits with 0 (healthy), 1
    /// (problems found) or 2 (no server answers).
    Doctor(Doctor),
    /// Explain whether a user receives an event, and which step decides, from the running configuration.
    ///
    /// Asks the sidestream process on this host. Exits with 0 (received; without an event: the stream opens), 1 (not
    /// received) or 2 (cannot be decided, or the process cannot be asked).
    Explain(Explain),
    /// End the streams of the sidestream process on this host, and wait for their end: for a preStop hook.
    ///
    /// Clients reconnect to other replicas, at a bounded rate. The process keeps proxying ordinary requests until
    /// SIGTERM. Exits with 0 after the drain, also if another request started it, and with 1 on failure.
    Drain {
        /// The configuration file of the process, for the address of its admin listener; default: 127.0.0.1:9090.
        #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
        config: Option<PathBuf>,
        /// The address of its admin listener, instead of the configured one.
        #[arg(long, value_name = "ADDR")]
        admin: Option<SocketAddr>,
        /// How long to wait; the drain continues without this command.
        #[arg(long, value_name = "DURATION", default_value = "11m", value_parser = duration)]
        timeout: Duration,
    },
    /// Print the completion script of a shell.
    ///
    /// For bash: `sidestream completions bash > ~/.local/share/bash-completion/completions/sidestream`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write a man page for each command into a folder.
    Man {
        /// An existing folder, such as ~/.local/share/man/man1.
        folder: PathBuf,
    },
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration with all defaults, as YAML; values of Kafka properties are redacted.
    ///
    /// The exit codes are those of `check`.
    Effective {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
        config: PathBuf,
        #[command(flatten)]
        read: ReadArguments,
    },
    /// Print what a reload from one configuration to another would change, what needs a restart, and which streams end.
    ///
    /// Exits with 0 (no difference), 1 (a difference) or 2 (a file is invalid, or cannot be read).
    Diff {
        /// The running configuration.
        before: PathBuf,
        /// The configuration that replaces it.
        after: PathBuf,
        #[command(flatten)]
        read: ReadArguments,
    },
    /// Print the JSON Schema (draft 2020-12) of a configuration.
    Schema,
}

/// The environment variable that names the configuration: set once in a pod, for the process and its hooks.
pub(super) const CONFIG_VARIABLE: &str = "SIDESTREAM_CONFIG";

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "a number with a unit, such as `30s`".into())
}

/// The output format of `check`, `doctor` and `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// How `check` and similar commands read a configuration.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadArguments {
    /// The --listen of `run`, instead of the configured address.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The --admin of `run`, instead of the configured address.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Do not read the files that the configuration names (keys, passwords, certificates), for example in CI.
    #[arg(long)]
    without_secrets: bool,
}

impl ReadArguments {
    pub(super) fn options(self, upstream_port: Option<u16>) -> ReadOptions {
        let Self { listen, admin, without_secrets } = self;
        ReadOptions { listen, admin, upstream_port, without_secrets, is_run: false }
    }
}

/// The arguments that replace a configuration file: all of them, or none.
#[derive(Args, Debug, PartialEq, Eq)]
#[group(conflicts_with = "config")]
pub struct BriefArguments {
    /// The REST service, instead of a file.
    #[arg(long, value_name = "HOST:PORT", required = false, requires_all = ["brokers", "topic"])]
    upstream: String,
    /// The Kafka brokers, instead of a file.
    #[arg(long, value_name = "HOST:PORT,...", required = false, requires = "upstream")]
    brokers: String,
    /// A topic to stream, instead of a file; repeatable.
    #[arg(long, value_name = "NAME", required = false, requires = "upstream")]
    topic: Vec<String>,
}

impl BriefArguments {
    pub fn into_brief(self, listen: Option<SocketAddr>, admin: Option<SocketAddr>) -> Brief {
        let Self { upstream, brokers, topic: topics } = self;
        Brief { upstream, brokers, topics, listen, admin }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        Cli::try_parse_from([&["sidestream"], arguments].concat()).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_and_their_options() {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let run = parse(&["run", "--config", "x.yaml", "--listen", "127.0.0.1:0"]).unwrap();
        assert_eq!(run, Command::Run { config: Some("x.yaml".into()), brief: None, listen, admin: None });
        let run = parse(&["run", "--upstream", "u:1", "--brokers", "b:1", "--topic", "one", "--topic", "two"]).unwrap();
        let brief = Some(BriefArguments {
            upstream: "u:1".into(),
            brokers: "b:1".into(),
            topic: vec!["one".into(), "two".into()],
        });
        assert_eq!(run, Command::Run { config: None, brief, listen: None, admin: None });
        let demo = parse(&["demo", "--admin", "127.0.0.1:0"]).unwrap();
        assert_eq!(demo, Command::Demo { listen: None, admin: listen });
        let inject = parse(&["inject", "--image", "r.example/s:1", "--upstream-port", "3000", "--uninject"]);
        assert!(matches!(inject, Ok(Command::Inject(_))), "{inject:?}");
        assert!(matches!(parse(&["inject", "--print", "policy"]), Ok(Command::Inject(_))));
        let check = |output, explain_env| Command::Check {
            config: "x".into(),
            read: ReadArguments::default(),
            output,
            online: false,
            explain_env,
        };
        assert_eq!(parse(&["check", "--config", "x"]).unwrap(), check(Output::Text, false));
        assert_eq!(parse(&["check", "--config", "x", "--explain-env"]).unwrap(), check(Output::Text, true));
        assert_eq!(parse(&["check", "--config", "x", "--output", "json"]).unwrap(), check(Output::Json, false));
        assert_eq!(parse(&["config", "schema"]).unwrap(), Command::Config(ConfigCommand::Schema));
        let diff = ConfigCommand::Diff { before: "a".into(), after: "b".into(), read: ReadArguments::default() };
        assert_eq!(parse(&["config", "diff", "a", "b"]).unwrap(), Command::Config(diff));
        assert_eq!(parse(&["import-ingress"]).unwrap(), Command::ImportIngress);
        assert_eq!(parse(&["completions", "zsh"]).unwrap(), Command::Completions { shell: Shell::Zsh });
        assert_eq!(parse(&["man", "x"]).unwrap(), Command::Man { folder: "x".into() });
        let drain = |config: Option<&str>, admin, seconds| Command::Drain {
            config: config.map(PathBuf::from),
            admin,
            timeout: Duration::from_secs(seconds),
        };
        assert_eq!(parse(&["drain"]).unwrap(), drain(None, None, 660));
        let said = parse(&["drain", "--config", "x", "--admin", "127.0.0.1:0", "--timeout", "30s"]).unwrap();
        assert_eq!(said, drain(Some("x"), listen, 30));
        let wrong = [
            &["run"][..],
            &["drain", "--timeout", "30"],
            &["drain", "--timeout", "0s"],
            &["check"],
            &["run", "--config", "x", "--listen", "8080"],
            &[],
            &["run", "--config", "x", "--topic", "t"],
            &["run", "--config", "x", "--upstream", "u:1", "--brokers", "b:1", "--topic", "t"],
            &["run", "--upstream", "u:1", "--brokers", "b:1"],
            &["run", "--upstream", "u:1", "--topic", "t"],
            &["run", "--brokers", "b:1", "--topic", "t"],
            &["run", "--topic", "t"],
            &["inject", "--image", "a\"b"],
            &["inject", "--upstream-port", "0"],
            &["inject", "--print", "policy", "--uninject"],
        ];
        for wrong in wrong {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_commands_of_the_sidecar_are_valid() {
        let pod = include_str!("../../k8s/sidecar.yaml").split("\n---\n").nth(1).unwrap();
        let pod: serde_json::Value = serde_saphyr::from_str(pod).unwrap();
        let container = pod.pointer("/spec/template/spec/initContainers/0").unwrap();
        let texts = |pointer| container.pointer(pointer).and_then(serde_json::Value::as_array).unwrap().iter();
        let run: Vec<&str> = texts("/args").filter_map(serde_json::Value::as_str).collect();
        assert!(matches!(parse(&run), Ok(Command::Run { config: Some(_), .. })), "{run:?}");
        let hook: Vec<&str> = texts("/lifecycle/preStop/exec/command").filter_map(serde_json::Value::as_str).collect();
        assert_eq!(hook[0], "sidestream");
        assert!(matches!(parse(&hook[1..]), Ok(Command::Drain { admin: Some(_), .. })), "{hook:?}");
    }
}
