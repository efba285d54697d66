//! The output of results: `target/bench/results.json`, and the table in `docs/performance.md`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::Fallible;
use crate::row::Row;

const BEGIN: &str = "<!-- written by make bench and make bench-peers: begin -->\n";
const END: &str = "<!-- end -->\n";

fn at_root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Writes these rows only: figures of another run are not comparable.
pub fn write_results(rows: &[Row]) -> Fallible<()> {
    let file = at_root("target/bench/results.json");
    fs::create_dir_all(file.parent().ok_or("no folder")?)?;
    Ok(fs::write(file, serde_json::to_string_pretty(&rows.iter().map(Row::json).collect::<Vec<Value>>())? + "\n")?)
}

/// Replaces the text between the marks.
pub fn write_document(rows: &[Row], command: &str) -> Fallible<()> {
    let file = at_root("docs/performance.md");
    let text = fs::read_to_string(&file)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("docs/performance.md has no beginning mark")?;
    let (_, after) = rest.split_once(END).ok_or("docs/performance.md has no end mark")?;
    let table: String = rows.iter().map(Row::markdown).collect();
    let head =
        "| row | unit | sidestream | reference | ratio | spread | target | met |\n|---|---|---|---|---|---|---|---|\n";
    let text = format!("{before}{BEGIN}`{command}` on {}:\n\n{head}{table}{END}{after}", machine());
    Ok(fs::write(file, text)?)
}

/// The machine, as the kernel describes it.
fn machine() -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let first = |text: &str, start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).map(|line| line.split(':').nth(1).map(str::trim));
        line.flatten().unwrap_or("unknown").to_owned()
    };
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!(
        "{cores} cores ({}), {} of memory, Linux {}; load average at the end {load}",
        first(&cpu, "model name"),
        first(&memory, "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
