//! (stand-in)
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Parser)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(clap::Subcommand)]
pub enum Command {
    Run {
        #[arg(long)]
        config: PathBuf,
        #[arg(long)]
        listen: Option<SocketAddr>,
        #[arg(long)]
        admin: Option<SocketAddr>,
    },
    Demo {
        #[arg(long)]
        listen: Option<SocketAddr>,
        #[arg(long)]
        admin: Option<SocketAddr>,
    },
    Check {
        #[arg(long)]
        config: PathBuf,
    },
}

pub fn check(path: &Path) -> ExitCode {
    if crate::config::load(path).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
