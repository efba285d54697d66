//! `sidestream doctor`: arguments and output. The module `doctor` does the diagnosis.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::follow::Address;
use super::output::{note, print};
use super::{Output, duration};
use crate::doctor::{Examination, Findings, Verdict, examine};

/// Exit code: problems found.
const PROBLEMS: u8 = 1;
/// Exit code: no server answers.
const UNREACHABLE: u8 = 2;
/// The longest interval of a probe, less the margin of the silent probe.
const DURATION_MAX: Duration = Duration::from_secs(55 * 60);

#[derive(Args, Debug, PartialEq, Eq)]
pub struct Doctor {
    #[command(flatten)]
    pub address: Address,
    /// Length of the diagnosis; it does not detect longer limits of a hop. At most 55m.
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    pub duration: Duration,
    /// Check whether pages of this origin may read the stream.
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// The output: text, or a JSON object with every verdict.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Diagnoses the path to a stream, and prints the verdicts to standard output.
///
/// # Errors
///
/// The output cannot be written.
pub fn doctor(doctor: &Doctor) -> io::Result<ExitCode> {
    let headers = match doctor.address.headers() {
        Ok(headers) => headers,
        Err(error) => {
            note(error)?;
            return Ok(ExitCode::from(UNREACHABLE));
        }
    };
    let examined = examine(&Examination {
        target: &doctor.address.url,
        choice: doctor.address.transport,
        headers,
        origin: doctor.origin.clone(),
        duration: doctor.duration.min(DURATION_MAX),
    });
    match examined {
        Ok(findings) => {
            match doctor.output {
                Output::Text => findings.verdicts.iter().try_for_each(|verdict| print(line(verdict)))?,
                Output::Json => print(serde_json::json!(findings))?,
            }
            Ok(exit_code(&findings))
        }
        Err(failure) => {
            note(failure)?;
            Ok(ExitCode::from(UNREACHABLE))
        }
    }
}

fn exit_code(findings: &Findings) -> ExitCode {
    if findings.healthy { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) }
}

fn line(verdict: &Verdict) -> String {
    let Verdict { code, problem, message, advice } = verdict;
    let mark = if *problem { "PROBLEM" } else { "ok" };
    let advice = if advice.is_empty() { String::new() } else { format!("\n    -> {advice}") };
    format!("{mark} {code}: {message}{advice}")
}
