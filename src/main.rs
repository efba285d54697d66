//! The story of a start and a stop: arguments, configuration, the app, an exit code.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use sidestream::cli::{self, Cli, Command};
use sidestream::{app, config, demo, telemetry};

fn main() -> ExitCode {
    let arguments = Cli::parse();
    telemetry::init();
    match arguments.command {
        Command::Run { config, listen, admin } => run(&config, listen, admin),
        Command::Demo { listen, admin } => ended(demo::run(listen, admin)),
        Command::Check { config } => cli::check(&config),
    }
}

fn run(path: &Path, listen: Option<SocketAddr>, admin: Option<SocketAddr>) -> ExitCode {
    let mut snapshot = match config::load(path) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            tracing::error!("{error}");
            return cli::exit_code(&error);
        }
    };
    snapshot.listen = listen.unwrap_or(snapshot.listen);
    snapshot.admin = admin.unwrap_or(snapshot.admin);
    ended(app::run(snapshot))
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
