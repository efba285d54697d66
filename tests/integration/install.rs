//! What an installation consists of beside the binary: completions, man pages and the unit of systemd.

use std::path::Path;
use std::process::Command;

use crate::support::kubernetes::{failure, read};
use crate::support::sidecar::binary;

/// The highest exposure by `systemd-analyze security`, of 100.
const EXPOSURE_MAX: &str = "--threshold=20";

#[test]
fn bash_completes_commands_and_options() {
    let script = r#"
        source <("$0" completions bash)
        complete_line() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) && _sidestream sidestream "${@: -1}" "${@: -2:1}" 2>&- && echo "${COMPREPLY[*]}"; }
        complete_line sidestream imp
        complete_line sidestream drain --time
        complete_line sidestream inject --print ""
    "#;
    let output =
        Command::new("bash").args(["--norc", "-c", script, env!("CARGO_BIN_EXE_sidestream")]).output().unwrap();
    assert_eq!(failure(&output), "");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "import-ingress\n--timeout\ncomponent helm policy\n");
}

#[test]
fn every_shell_has_completions_for_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = binary(&["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let write = |folder: &Path| binary(&["man", folder.to_str().unwrap()]).output().unwrap();
    assert_eq!(failure(&write(folder.path())), "");
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("sidestream.1").starts_with(".ie"), "{}", page("sidestream.1"));
    for command in commands() {
        let page = page(&format!("sidestream-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{command}: {page}");
    }
    assert!(page("sidestream-config-effective.1").contains("\\-\\-without\\-secrets"));
    assert!(failure(&write(&folder.path().join("absent"))).contains("the output cannot be written"));
}

#[test]
fn the_unit_is_valid_and_restricted() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("sidestream.service");
    let text = read("conf/sidestream.service");
    let analyze = |text: &str, arguments: &[&str]| {
        std::fs::write(&unit, text.replace("/usr/local/bin/sidestream", env!("CARGO_BIN_EXE_sidestream"))).unwrap();
        Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap()
    };
    let verified = |text: &str| {
        let output = analyze(text, &["verify", "--man=no"]);
        failure(&output) + &String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(verified(&text), "");
    assert!(verified(&text.replace("ProtectHome=", "ProtectHomes=")).contains("ProtectHomes"));

    let is_restricted =
        |text: &str| analyze(text, &["security", "--offline=true", "--no-pager", EXPOSURE_MAX]).status.success();
    assert!(is_restricted(&text));
    assert!(!is_restricted(&text.replace("SystemCallFilter=", "#").replace("CapabilityBoundingSet=", "#")));

    // The unit runs commands that exist.
    for command in text.lines().filter_map(|line| line.split_once("=/usr/local/bin/sidestream ")) {
        let arguments: Vec<&str> = command.1.split(' ').chain(["--help"]).collect();
        assert_eq!(failure(&binary(&arguments).output().unwrap()), "", "{}", command.1);
    }
}

/// The commands in the help.
fn commands() -> Vec<String> {
    let help = String::from_utf8(binary(&["--help"]).output().unwrap().stdout).unwrap();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<String> = lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    assert!(names.len() > 10, "{names:?}");
    names
}
