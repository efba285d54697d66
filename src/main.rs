//! The entry point: arguments, configuration, the app, an exit code.

mod decompressors;

use std::process::ExitCode;

use sidestream::cli::{self, Command};
use sidestream::config::{Brief, ReadOptions};
use sidestream::reload::Origin;
use sidestream::{app, demo, telemetry};

/// One thread opens thousands of connections and another one closes them, and glibc's allocator retains the memory in
/// between.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Options that jemalloc reads before `main`. Each arena retains pages, so that jemalloc's default of four per core
/// would cost a sidecar on a large node much memory; with one arena, threads contend for it. Four suit the threads that
/// allocate most (writers and gateway, at most four each by default; see `cores.rs`). Unused memory is returned after
/// one second instead of ten.
// An exported symbol is the only way to set them; tikv-jemalloc-sys determines the prefix.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8] = b"narenas:4,dirty_decay_ms:1000\0";

/// From this size on, glibc's allocator, which librdkafka uses, returns a block to the system when it is freed. By
/// default glibc raises the size up to 32 MiB, so that the heap of each thread retains the batches that it
/// decompressed.
const C_BLOCK_BYTES_MAX: libc::c_int = 1 << 20;

#[allow(unsafe_code)]
fn bound_c_heaps() {
    // SAFETY: no other thread runs yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, C_BLOCK_BYTES_MAX);
    }
}

fn main() -> ExitCode {
    bound_c_heaps();
    let arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let _logs = telemetry::init();
    match arguments.command {
        Command::Run { config: Some(path), listen, admin, .. } => match cli::upstream_port() {
            Ok(upstream_port) => run(Origin {
                path,
                options: ReadOptions { listen, admin, upstream_port, is_run: true, ..ReadOptions::default() },
            }),
            Err(error) => ended(Err(error)),
        },
        Command::Run { brief: Some(brief), listen, admin, .. } => run_briefly(&brief.into_brief(listen, admin)),
        // The rules for arguments exclude other cases.
        Command::Run { .. } => ExitCode::FAILURE,
        Command::Demo { listen, admin } => ended(demo::run(listen, admin)),
        Command::Check { config, read, output, online, explain_env } => {
            written(cli::check(&config, read, output, online, explain_env))
        }
        Command::Config(command) => written(cli::configuration(&command)),
        Command::ImportIngress => written(cli::import_ingress(std::io::stdin())),
        Command::Tap(tap) => written(cli::tap(&tap)),
        Command::Doctor(doctor) => written(cli::doctor(&doctor)),
        Command::Explain(explain) => written(cli::explain(&explain)),
        Command::Drain { config, admin, timeout } => written(cli::drain(config.as_deref(), admin, timeout)),
        Command::Inject(arguments) => written(cli::inject(arguments)),
        Command::Completions { shell } => written(cli::completions(shell)),
        Command::Man { folder } => written(cli::man(&folder)),
    }
}

fn run(origin: Origin) -> ExitCode {
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

fn run_briefly(brief: &Brief) -> ExitCode {
    match brief.compile() {
        Ok(snapshot) => {
            cli::say_assumptions(brief, &snapshot);
            ended(app::run_with(snapshot, |_| {}))
        }
        Err(error) => {
            tracing::error!("{error}");
            cli::exit_code(&error)
        }
    }
}

/// The exit code of a command that writes output.
fn written(result: std::io::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| cli::failed(&error))
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
