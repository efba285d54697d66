//! Compares the documents with the code: their lists are complete, and the clients that users may copy work.

use std::path::{Path, PathBuf};

use crate::support::client::Client;
use crate::support::cutter::Cutter;
use crate::support::eventually_true;
use crate::support::fixture::Fixture;
use crate::support::sidecar::binary;

/// Bytes from the server until each cut, which is within a record.
const CUTS: &[usize] = &[2_345, 3_456];
const EVENTS: usize = 100;
/// Words that texts for users do not use, in lower case, and what to write.
const REPLACED: &[(&str, &str)] = &[
    ("anew", "`again`, `recreated`"),
    ("as it came", "`unchanged`"),
    ("be told", "`receive`, `be notified`"),
    ("became of", "`the result of`"),
    ("becomes of", "`how ... is handled`"),
    ("gone by", "`passed`"),
    ("lost its tail", "`truncated log`"),
    ("nobody", "`no client`"),
    ("rooms", "`modules`"),
    ("somebody", "`a client`, `another process`"),
    ("stands", "`is`, `runs`"),
    ("strangers", "`untrusted peers`"),
    ("the house", "`the project`"),
    ("the wall", "`the core boundary`"),
    ("those who", "`clients that`"),
    ("to be had", "`available`"),
    ("told", "`reported`, `receives`, `is notified`"),
    ("tells", "`reports`"),
    ("who comes", "`a client that connects`"),
    ("whoever", "`a client that`"),
    ("whichever limit", "`the first limit that is reached`"),
];
/// Words that comments in `src/` do not use.
const REPLACED_IN_COMMENTS: &[(&str, &str)] = &[
    ("anew", "`again`, `recreated`"),
    ("anybody", "`any client`"),
    ("as it came", "`unchanged`"),
    ("bell", "`notification`"),
    ("desk", "the component"),
    ("everybody", "`all clients`"),
    ("fate", "`outcome`"),
    ("goes on", "`continues`"),
    ("hears", "`is notified`"),
    ("house", "the component"),
    ("lost its tail", "`truncated`"),
    ("mistake", "`error`"),
    ("newcomer", "`new connection`"),
    ("nobody", "`no client`"),
    ("people", "`users`"),
    ("rooms", "`modules`"),
    ("seldom", "`rarely`, `at a limited rate`"),
    ("shelf", "the component"),
    ("slip", "`typo`"),
    ("somebody", "`a client`, `another process`"),
    ("stranger", "`untrusted peer`"),
    ("strangers", "`untrusted peers`"),
    ("those who", "`clients that`"),
    ("to be had", "`available`"),
    ("told", "`reported`, `notified`"),
    ("tells", "`reports`"),
    ("walks", "`replays`"),
    ("who comes", "`a client that connects`"),
    ("whoever", "`a client that`"),
];

#[test]
fn every_metric_is_documented() {
    let source = read("src/metrics/table.rs");
    // `field: Type = "name", "help"`
    let metrics: Vec<&str> =
        source.split(" =").filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).collect();
    assert!(metrics.len() > 50, "{metrics:?}");
    let document = read("docs/operations.md");
    let missing: Vec<_> = metrics.iter().filter(|name| !document.contains(**name)).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
}

#[test]
fn every_reason_for_the_end_of_a_stream_is_documented() {
    let source = read("src/session/close.rs");
    // `Self::Reason => ("label", Some((code, text)), retry)`
    let rows = source.split("=> (\"").skip(1).filter_map(|rest| rest.split_once("\", "));
    let reasons: Vec<(&str, &str)> = rows.collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    let document = read("docs/operations.md");
    for (label, rest) in reasons.iter().filter(|(label, _)| !["replay-not-possible", "not-ready"].contains(label)) {
        let code = rest.strip_prefix("Some((").and_then(|rest| rest.split(',').next()).unwrap_or("none");
        assert!(document.contains(&format!("| `{label}` | {code} |")), "not in docs/operations.md: {label}, {code}");
    }
}

#[test]
fn every_module_is_in_architecture() {
    let (map, library) = (read("ARCHITECTURE.md"), read("src/lib.rs"));
    for module in library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        let on_map = map.contains(&format!("src/{module}/")) || map.contains(&format!("src/{module}.rs"));
        assert!(on_map, "{module} is not in ARCHITECTURE.md");
        assert!(library.contains(&format!("[`{module}`]")), "{module} is not in the map of src/lib.rs");
    }
}

#[test]
fn every_claim_of_security_names_existing_tests() {
    let document = read("SECURITY.md");
    let (_, promises) = document.split_once("\n## Clients\n").unwrap();
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    for row in rows {
        let held_by = row.rsplit('|').nth(1).unwrap();
        let (mut source, mut tests) = (None, 0);
        for name in held_by.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                source = Some(read(name));
                continue;
            }
            let source: &String = source.as_ref().expect("the file before its tests");
            let before = source.split_once(&format!("fn {name}(")).map(|(before, _)| before);
            let is_test = before
                .and_then(|text| text.rsplit("\n\n").next())
                .is_some_and(|end| end.contains("#[test]") || end.contains("#[tokio::test"));
            assert!(is_test, "{name} is no test: {row}");
            tests += 1;
        }
        assert!(tests > 0, "no test holds: {row}");
    }
}

#[test]
fn links_between_documents_are_valid() {
    let documents = documents();
    assert!(documents.len() > 40, "{documents:?}");
    for document in documents {
        let text = read(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            let place = path(&document).with_file_name(file);
            assert!(file.is_empty() || file.contains("://") || place.exists(), "{document} links to {target}");
        }
    }
}

/// The site that `make docs` builds has every page, and every page that a page links to.
#[test]
fn every_page_is_part_of_the_site() {
    let targets = |document: &str| -> Vec<PathBuf> {
        let text = read(document);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let pages = targets.filter(|target| target.ends_with(".md") && !target.contains("://"));
        pages.map(|target| path(document).with_file_name(target).canonicalize().unwrap()).collect()
    };
    let mut site = targets("docs/SUMMARY.md");
    // `make docs` adds what their index lists.
    site.extend(
        targets("docs/decisions/README.md").into_iter().filter(|page| page.starts_with(path("docs/decisions"))),
    );
    let pages: Vec<String> = documents().into_iter().filter(|name| name != "docs/SUMMARY.md").collect();
    for page in &pages {
        assert!(site.contains(&path(page).canonicalize().unwrap()), "{page} is not in docs/SUMMARY.md");
        for target in targets(page) {
            assert!(site.contains(&target), "{page} links to {}, which is not in docs/SUMMARY.md", target.display());
        }
    }
}

/// Plain technical English: these words have a standard term, which the glossary of ARCHITECTURE.md names.
#[test]
fn texts_for_users_use_the_terms_of_the_field() {
    let mut texts: Vec<(String, String)> =
        documents().into_iter().map(|name| (name.clone(), without_code(&read(&name)))).collect();
    for folder in ["conf", "k8s"] {
        texts.extend(files_below(folder, &["yaml", "json"]).into_iter().map(|name| (name.clone(), read(&name))));
    }
    texts.push(("HELP texts of src/metrics/table.rs".to_owned(), string_literals(&read("src/metrics/table.rs"))));
    help_texts(&mut Vec::new(), &mut texts);
    assert!(texts.len() > 60, "{}", texts.len());
    let found = replaced_words(&texts, REPLACED);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The same for the comments of the code.
#[test]
fn comments_use_the_terms_of_the_field() {
    let sources = files_below("src", &["rs"]).into_iter();
    let texts: Vec<(String, String)> = sources.map(|name| (name.clone(), comments(&read(&name)))).collect();
    assert!(texts.len() > 200, "{}", texts.len());
    let found = replaced_words(&texts, REPLACED_IN_COMMENTS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_replaced_word_is_found_in_a_comment_and_not_in_code() {
    let source = "let desk = 1; // at the desk\n/// See `desk`.\nfn desk() {}\n";
    let texts = [("a.rs".to_owned(), comments(source))];
    assert_eq!(texts[0].1.trim(), "at the desk\nSee .");
    assert!(!replaced_words(&texts, REPLACED_IN_COMMENTS).is_empty());
}

/// The binary accepts every documented command of its own, and `make` has every documented target. `first_steps` runs the
/// tutorial, and the tests below run the clients.
#[test]
fn documented_commands_are_valid() {
    let (makefile, mut checked) = (read("Makefile"), 0);
    let is_current = |document: &String| !document.starts_with("docs/decisions/") && document != "CHANGELOG.md";
    for document in documents().into_iter().filter(is_current) {
        for command in commands(&read(&document)) {
            let words: Vec<&str> = command.split_whitespace().collect();
            match words[..] {
                ["sidestream", ref arguments @ ..] => {
                    // With `--help`, arguments are checked and nothing is executed.
                    let output = binary(&[arguments, &["--help"]].concat()).output().unwrap();
                    assert!(output.status.success(), "{document}: {command}: {output:?}");
                }
                ["make", ref arguments @ ..] => {
                    let mut targets = arguments.iter().filter(|word| !word.contains('='));
                    assert!(targets.all(|name| makefile.contains(&format!("\n{name}:"))), "{document}: {command}");
                }
                _ => continue,
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn the_python_client_resumes_exactly() {
    resumes_exactly("ndjson.py");
}

#[test]
fn the_shell_client_resumes_exactly() {
    resumes_exactly("follow.sh");
}

#[test]
fn documented_clients_distinguish_records_from_control_records() {
    let fixture = Fixture::standard();
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("ndjson.py");
    std::fs::write(&python, block(&read("docs/clients.md"), "ndjson.py")).unwrap();
    let theirs = ["gap", "heartbeat", "probe", "error", "paid"];
    let count = theirs.len().to_string();
    let url = |path: &str| format!("http://{}{path}", fixture.sidecar.listen);
    let pages = ["/events", "/stream", "/ws"].map(|path| Client::start("package.mjs", &[&url(path), &count]));
    pages.iter().for_each(Client::await_open);
    let python = Client::start(python.to_str().unwrap(), &[&url("/stream")]);
    fixture.sidecar.await_metric("notifications_stream_active_connections", 2.0);
    let produce = |kind: &str| {
        let record =
            serde_json::json!({"type": kind, "orderId": "o1", "cursor": "theirs", "cause": "overflow", "data": 1});
        fixture.broker.event("orders", 0, record)
    };
    let ids = theirs.map(produce);
    for client in pages.iter().chain([&python]) {
        assert_eq!(client.ids(theirs.len()), ids);
    }
}

/// Runs the script in `docs/clients.md` against a network that cuts it twice within a record.
#[track_caller]
fn resumes_exactly(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join(script);
    std::fs::write(&copied, block(&read("docs/clients.md"), script)).unwrap();
    let fixture = Fixture::standard();
    let cutter = Cutter::start(fixture.sidecar.listen, CUTS);
    let cursor_file = folder.path().join("cursor");
    let url = format!("http://{}/stream", cutter.address);
    let client = Client::start(copied.to_str().unwrap(), &[&url, cursor_file.to_str().unwrap()]);
    fixture.sidecar.await_metric("notifications_stream_active_connections", 1.0);
    let mut wanted = fixture.broker.orders("o1", EVENTS / 2);
    // The second half is produced after the first cut.
    eventually_true("the first cut", || cutter.cuts() >= 1);
    wanted.extend(fixture.broker.orders("o1", EVENTS / 2));
    assert_eq!(client.ids(EVENTS), wanted);
    assert_eq!(cutter.cuts(), CUTS.len());
}

/// Every Markdown document for users.
fn documents() -> Vec<String> {
    let root = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    root.map(str::to_owned).into_iter().chain(files_below("docs", &["md"])).collect()
}

/// The files below a folder with one of these extensions, by their path in the repository.
fn files_below(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&name, extensions));
        } else if extensions.iter().any(|extension| name.ends_with(&format!(".{extension}"))) {
            files.push(name);
        }
    }
    files.sort();
    files
}

/// The help of the binary and of each of its commands.
fn help_texts(command: &mut Vec<String>, texts: &mut Vec<(String, String)>) {
    let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let output = binary(&arguments).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let commands: Vec<String> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .filter(|name| name != "help")
        .collect();
    texts.push((format!("sidestream {}", arguments.join(" ")), help));
    for name in commands {
        command.push(name);
        help_texts(command, texts);
        command.pop();
    }
}

/// The commands in the shell blocks of a document, without comments, redirections and optional parts in brackets.
fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.split('#').next());
    let parts = lines.flat_map(|line| line.split('|').flat_map(|part| part.split("&&")));
    parts.map(|part| part.split(['<', '>', '[']).next().unwrap_or_default().trim().to_owned()).collect()
}

/// A document without code blocks and inline code.
fn without_code(document: &str) -> String {
    let outside = |text: &str, mark: &str| text.split(mark).step_by(2).collect::<Vec<_>>().join(" ");
    outside(&outside(document, "```"), "`")
}

/// The string literals of a source file, as far as the tests that follow.
fn string_literals(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap();
    source.split('"').skip(1).step_by(2).collect::<Vec<_>>().join("\n")
}

/// The comments of a source file without inline code.
fn comments(source: &str) -> String {
    let comments = source.lines().filter_map(|line| {
        let trimmed = line.trim_start();
        let comment = if trimmed.starts_with("//") { trimmed } else { line.split_once(" // ")?.1 };
        Some(comment.trim_start_matches(['/', '!']).trim().to_owned() + "\n")
    });
    comments.collect::<String>().split('`').step_by(2).collect()
}

/// The places at which the texts use words that are to be replaced, with the replacement.
fn replaced_words(texts: &[(String, String)], replaced: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in texts {
        let text = format!(" {} ", words(text).join(" "));
        for (phrase, term) in replaced {
            if text.contains(&format!(" {phrase} ")) {
                found.push(format!("{name}: `{phrase}`: write {term}"));
            }
        }
    }
    found
}

/// The words of a text, in lower case.
fn words(text: &str) -> Vec<String> {
    let is_word = |character: char| character.is_alphanumeric() || character == '\'';
    text.split(|character| !is_word(character)).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// The code block that follows `<!-- NAME -->`.
fn block<'a>(document: &'a str, name: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("<!-- {name} -->\n```")).expect("the block");
    let (_, code) = rest.split_once('\n').unwrap();
    code.split("\n```").next().unwrap()
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
