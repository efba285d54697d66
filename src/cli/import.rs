//! `sidestream import-ingress`: standard input in, the configuration and the report out. What becomes of what is
//! `ingress`'s.

use std::io::{self, Read};
use std::process::ExitCode;

use super::{INVALID, NOTHING_MAPPED, UNREADABLE, say};
use crate::ingress::{self, Class, INPUT_BYTES_MAX};

/// Imports the settings of ingress-nginx: the configuration goes to standard output, the report to standard error.
pub fn import_ingress(input: impl Read) -> ExitCode {
    let mut text = String::new();
    // One byte more than allowed tells an input that is too long from one that just fits.
    let read = input.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    let read = read.and_then(|length| match length as u64 {
        ..=INPUT_BYTES_MAX => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {INPUT_BYTES_MAX} bytes"))),
    });
    if let Err(error) = read {
        say(io::stderr(), format_args!("standard input: cannot be read: {error}"));
        return ExitCode::from(UNREADABLE);
    }
    match ingress::import(&text) {
        Ok(import) => {
            say(io::stdout(), import.configuration.trim_end());
            say(io::stderr(), &import.report);
            if import.report.count(Class::Mapped) > 0 { ExitCode::SUCCESS } else { ExitCode::from(NOTHING_MAPPED) }
        }
        Err(error) => {
            say(io::stderr(), format_args!("standard input:{error}"));
            ExitCode::from(INVALID)
        }
    }
}
