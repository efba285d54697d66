//! The tables against ingress-nginx's documentation, and `docs/migration.md` against the tables.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::outcome::{Entry, Outcome, names};
use super::tests::{UPDATE, path, read};
use super::{Class, Import, annotations, configmap, directives, import};

fn documented(file: &str) -> Vec<String> {
    let text = read(&format!("tests/ingress/documented/{file}"));
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(String::from).collect()
}

#[test]
fn everything_that_is_documented_is_known() {
    for (file, table, least) in [("annotations", annotations::ANNOTATIONS, 140), ("configmap", configmap::KEYS, 200)] {
        let known: BTreeSet<_> = names(table).collect();
        let documented = documented(file);
        let missing: Vec<_> = documented.iter().filter(|name| !known.contains(name.as_str())).collect();
        println!("{file}: {} of {} documented names are known", documented.len() - missing.len(), documented.len());
        assert!(missing.is_empty() && documented.len() >= least, "{file}: unknown: {missing:?}");
    }
}

#[test]
fn every_name_has_one_outcome() {
    for table in [annotations::ANNOTATIONS, configmap::KEYS, directives::DIRECTIVES] {
        let all: Vec<_> = names(table).collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        let mut twice = all.clone();
        twice.sort_unstable();
        let twice: Vec<_> = twice.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        assert!(all.len() == distinct.len() && !all.contains(&""), "{twice:?}");
    }
}

#[test]
fn the_document_shows_the_tables_and_an_example() {
    let file = "docs/migration.md";
    let sections = [
        ("annotations", shown(annotations::ANNOTATIONS)),
        ("configmap", shown(configmap::KEYS)),
        ("example", example("sse-of-the-guide")),
    ];
    let mut document = read(file);
    for (mark, section) in sections {
        let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
        let (before, rest) = document.split_once(&begin).expect("the mark");
        let (_, after) = rest.split_once(&end).expect("the end mark");
        document = format!("{before}{begin}\n{section}\n{end}{after}");
    }
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path(file), document).unwrap();
    } else {
        assert!(document == read(file), "{file} does not show what there is; regenerate it with {UPDATE}=1");
    }
}

fn example(name: &str) -> String {
    let manifest = read(&format!("tests/ingress/{name}.yaml"));
    let Import { configuration, report } = import(&manifest).unwrap();
    format!(
        "This Ingress:\n\n```yaml\n{manifest}```\n\nbecomes this configuration:\n\n```yaml\n{configuration}```\n\n\
         and this report:\n\n```\n{report}\n```\n"
    )
}

fn shown(table: &[Entry]) -> String {
    let mut text = "| setting | class | what to do, and why |\n|---|---|---|\n".to_owned();
    for Entry { names, outcome } in table {
        let (class, why) = match outcome {
            Outcome::Mapped(setting) => (Class::Mapped.name(), format!("`{}`", setting.path())),
            Outcome::NotNeeded(why) => (Class::NotNeeded.name(), (*why).into()),
            Outcome::Gateway(why) => (Class::Gateway.name(), (*why).into()),
            Outcome::Login => (Class::Mapped.name(), "`auth.forward`".into()),
            Outcome::Cors => (Class::Mapped.name(), "`cors` of the routes".into()),
            Outcome::Snippet(_) => ("each line its own", "read directive by directive".into()),
        };
        let names: Vec<_> = names.split(' ').map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {} | {class} | {why} |", names.join(", "));
    }
    text
}
