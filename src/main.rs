//! The story of a start and a stop: arguments, configuration, the app, an exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use sidestream::cli::{self, Cli, Command};
use sidestream::config::reload::Origin;
use sidestream::{app, demo, telemetry};

fn main() -> ExitCode {
    let arguments = Cli::parse();
    telemetry::init();
    match arguments.command {
        Command::Run { config, listen, admin } => run(config, listen, admin),
        Command::Demo { listen, admin } => ended(demo::run(listen, admin)),
        Command::Check { config } => cli::check(&config),
    }
}

fn run(path: PathBuf, listen: Option<SocketAddr>, admin: Option<SocketAddr>) -> ExitCode {
    let origin = Origin { path, listen, admin };
    let reading = origin.read();
    for warning in &reading.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = &reading.snapshot {
        tracing::error!("{error}");
        return cli::exit_code(error);
    }
    ended(app::run(origin, reading))
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
