//! `sidestream import-ingress`: reads standard input, and writes the configuration and the report. The module
//! `ingress_nginx` maps the settings.

use std::io::{self, Read};
use std::process::ExitCode;

use super::output::{note, print};
use super::{INVALID, NOTHING_MAPPED, UNREADABLE};
use crate::ingress_nginx::{self, Class, INPUT_BYTES_MAX};

/// Imports the settings of ingress-nginx: the configuration goes to standard output, the report to standard error.
///
/// # Errors
///
/// The output cannot be written.
pub fn import_ingress(input: impl Read) -> io::Result<ExitCode> {
    let mut text = String::new();
    // One byte more than the limit, to detect a longer input.
    let read = input.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    let read = read.and_then(|length| match length as u64 {
        ..=INPUT_BYTES_MAX => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {INPUT_BYTES_MAX} bytes"))),
    });
    if let Err(error) = read {
        note(format_args!("standard input: cannot be read: {error}"))?;
        return Ok(ExitCode::from(UNREADABLE));
    }
    match ingress_nginx::import(&text) {
        Ok(import) => {
            print(import.configuration.trim_end())?;
            note(&import.report)?;
            let is_empty = import.report.count(Class::Mapped) == 0;
            Ok(if is_empty { ExitCode::from(NOTHING_MAPPED) } else { ExitCode::SUCCESS })
        }
        Err(error) => {
            note(format_args!("standard input:{error}"))?;
            Ok(ExitCode::from(INVALID))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_import_distinguish_results() {
        let import = |text: &str| import_ingress(text.as_bytes()).unwrap();
        let with = |annotation: &str| {
            format!(
                "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
                 metadata: {{ name: x, annotations: {{ nginx.ingress.kubernetes.io/{annotation} }} }}"
            )
        };
        assert_eq!(import(&with("proxy-read-timeout: '30'")), ExitCode::SUCCESS);
        assert_eq!(import(&with("proxy-body-size: 1m")), ExitCode::from(NOTHING_MAPPED));
        assert_eq!(import(""), ExitCode::from(NOTHING_MAPPED));
        assert_eq!(import("a: [b"), ExitCode::from(INVALID));
        assert_eq!(import("a: b"), ExitCode::from(INVALID));
        assert_eq!(import_ingress(&b"\xff"[..]).unwrap(), ExitCode::from(UNREADABLE));
        let endless = io::repeat(b'#');
        assert_eq!(import_ingress(endless).unwrap(), ExitCode::from(UNREADABLE));
    }
}
