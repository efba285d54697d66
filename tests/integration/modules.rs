//! The modules of `src/` depend on each other without a cycle, and only one of them distinguishes transports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that a module depends on outside of its tests, each with a file that names it.
type Graph = BTreeMap<String, BTreeMap<String, PathBuf>>;

#[test]
fn modules_form_no_cycle() {
    let graph = graph(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(graph["app"].contains_key("writer"), "{graph:?}");
    let mut done = BTreeSet::new();
    for module in graph.keys() {
        if let Some(cycle) = cycle(&graph, module, &mut Vec::new(), &mut done) {
            let step =
                |pair: &[String]| format!("{} -> {} ({})", pair[0], pair[1], graph[&pair[0]][&pair[1]].display());
            panic!("a cycle: {:#?}", cycle.windows(2).map(step).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_cycle_is_found() {
    let edge = |from: &str, to: &str| (from.to_owned(), BTreeMap::from([(to.to_owned(), PathBuf::new())]));
    let find = |graph: &Graph| cycle(graph, "a", &mut Vec::new(), &mut BTreeSet::new());
    assert_eq!(find(&Graph::from([edge("a", "b"), edge("b", "c")])), None);
    let found = find(&Graph::from([edge("a", "b"), edge("b", "c"), edge("c", "b")]));
    assert_eq!(found.unwrap(), ["b", "c", "b"]);
}

/// Code that is particular to a transport belongs into its row of the table.
#[test]
fn only_the_table_names_transports() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_variant = |rest: &str| {
        let mut chars = rest.chars();
        chars.next().is_some_and(char::is_uppercase) && chars.next().is_some_and(char::is_lowercase)
    };
    let names = |text: &str| code(text).any(|line| line.split("Transport::").skip(1).any(is_variant));
    assert!(names("let a = Transport::Sse; // x") && !names("Transport::ALL.map(Transport::as_str) // Transport::Sse"));
    for inside in files(&src) {
        let is_own = inside.starts_with("codec") || inside == Path::new("testing.rs");
        assert!(
            is_own || !names(&fs::read_to_string(src.join(&inside)).unwrap()),
            "{} names a transport: make it a method of `Row`",
            inside.display()
        );
    }
}

/// The most lines of a file: a longer one holds more than one idea.
const LINES_MAX: usize = 400;

#[test]
fn files_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests", "benches"].map(|name| root.join(name)) {
        for inside in all_files(&folder) {
            let lines = fs::read_to_string(folder.join(&inside)).unwrap().lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines, more than {LINES_MAX}: split it", inside.display());
        }
    }
}

/// A path from a module to itself that is reachable from `module`. `path` leads to `module`; modules in `done` are on
/// no cycle.
fn cycle(graph: &Graph, module: &str, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|step| step == module) {
        return Some(path[start..].iter().cloned().chain([module.to_owned()]).collect());
    }
    if done.contains(module) {
        return None;
    }
    path.push(module.to_owned());
    let found = graph.get(module).into_iter().flatten().find_map(|(next, _)| cycle(graph, next, path, done));
    path.pop();
    done.insert(module.to_owned());
    found
}

fn graph(src: &Path) -> Graph {
    let mut graph = Graph::new();
    for inside in files(src) {
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if !matches!(&*module, "lib" | "main") {
            let named = named(&fs::read_to_string(src.join(&inside)).unwrap());
            let edges = named.filter(|name| *name != module).map(|name| (name, inside.clone()));
            graph.entry(module.clone()).or_default().extend(edges.collect::<Vec<_>>());
        }
    }
    graph
}

/// The files of the folder but for those of tests, relative to it.
/// Without tests.
fn files(src: &Path) -> Vec<PathBuf> {
    all_files(src).into_iter().filter(|inside| !inside.to_str().unwrap().ends_with("tests.rs")).collect()
}

fn all_files(src: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![src.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(src).unwrap().to_owned());
            }
        }
    }
    files
}

/// The modules that a file names as `crate::<module>`, without comments and its test module.
fn named(text: &str) -> impl Iterator<Item = String> + use<> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let names: Vec<_> = code(text).flat_map(|line| line.split("crate::").skip(1)).map(name).collect();
    names.into_iter().filter(|name| !name.is_empty())
}

/// The lines of a file, without comments and its test module.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default())
}
