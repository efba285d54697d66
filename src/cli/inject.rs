//! `inject`: manifests from standard input to standard output.

use std::io::{self, Read as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::output::{note, print_whole};
use crate::inject::{self, Changed, INPUT_BYTES_MAX, Names, Options};

/// The arguments of `inject`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct InjectArguments {
    /// The image that contains this binary.
    #[arg(long, value_name = "IMAGE", value_parser = inject::name, default_value_t = Names::default().image)]
    image: String,
    /// The ConfigMap with the key `sidestream.yaml`; a pod's annotation sidestream.io/config-map overrides it.
    #[arg(long, value_name = "NAME", value_parser = inject::name, default_value_t = Names::default().config_map)]
    config_map: String,
    /// The optional Secret with keys and passwords; a pod's annotation sidestream.io/secret overrides it.
    #[arg(long, value_name = "NAME", value_parser = inject::name, default_value_t = Names::default().secret)]
    secret: String,
    /// The port on which the app listens; a pod's annotation sidestream.io/upstream-port overrides it.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    upstream_port: Option<u16>,
    /// Remove an injection.
    #[arg(long)]
    uninject: bool,
    /// Read nothing; print the manifests by which kustomize, Helm or Kubernetes injects.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["uninject", "upstream_port"])]
    print: Option<Print>,
}

/// What `--print` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Print {
    /// A kustomize Component, its kustomization.yaml
    Component,
    /// The named templates of the Helm charts
    Helm,
    /// Admission policies, their bindings and parameters
    Policy,
}

/// Transforms the manifests on standard input, or prints a manifest. Reports changes on standard error. After an error,
/// nothing is written to standard output.
///
/// # Errors
///
/// The output cannot be written.
pub fn inject(arguments: InjectArguments) -> io::Result<ExitCode> {
    match changed(arguments) {
        Ok(Changed { text, said }) => {
            said.iter().try_for_each(note)?;
            print_whole(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            note(format_args!("{error:#}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn changed(arguments: InjectArguments) -> anyhow::Result<Changed> {
    let InjectArguments { image, config_map, secret, upstream_port, uninject, print } = arguments;
    let names = Names { image, config_map, secret };
    match print {
        Some(Print::Component) => Ok(Changed::printed(inject::component(&names)?)),
        Some(Print::Helm) => Ok(Changed::printed(inject::helm(&names)?)),
        Some(Print::Policy) => Ok(Changed::printed(inject::policy(&names)?)),
        None => {
            let text = read()?;
            let changed = if uninject {
                inject::uninject(&text)
            } else {
                inject::inject(&text, &Options { names, upstream_port })
            };
            changed.map_err(|error| anyhow::anyhow!("(standard input):{error}"))
        }
    }
}

fn read() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).context("standard input cannot be read")?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        anyhow::bail!("standard input is longer than {} MiB", INPUT_BYTES_MAX / 1024 / 1024);
    }
    String::from_utf8(bytes).context("standard input is not UTF-8")
}
