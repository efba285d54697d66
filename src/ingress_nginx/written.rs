//! Renders the draft as YAML that `check` accepts once its placeholders are filled in. A comment on each value states
//! its origin, or that the user has to fill it in.

use std::fmt::Write as _;

use serde_json::json;

use super::draft::{Candidate, Draft, Route};
use super::setting::Setting;
use crate::config::PLACEHOLDER;

const HEAD: &str = "\
# Written by `sidestream import-ingress`. It is not finished:
#   PLACEHOLDER  a value that an Ingress does not contain: replace it. `sidestream check` lists the remaining ones
#   GUESS        a conclusion from names and settings: review it
";

const OPENED: &str = "
# PLACEHOLDER: who may open a stream. `public: true` admits every client; otherwise set
# `auth` with keys for tokens, and `bind` to select the events of a token's owner.
routes:
";
const OPENED_BY_LOGIN: &str = "
# PLACEHOLDER: who may open a stream. `public: true` admits every client; leave the line out for `auth.forward`
# to decide, and set `bind` to select the events of a client.
routes:
";

/// The configuration. `settled` has a value for each key, in the order of the file.
pub(super) fn write(draft: &Draft, settled: &[Candidate]) -> String {
    let mut text = HEAD.to_owned();
    write_upstream(&mut text, draft, settled);
    let _ = writeln!(
        text,
        "\n# The peers whose X-Forwarded-* are kept: the addresses of the gateway, or none\nforwarded:\n  trust: \
         [{PLACEHOLDER}10.0.0.0/8] # PLACEHOLDER"
    );
    let _ = writeln!(text, "\nkafka:\n  brokers: {PLACEHOLDER}kafka:9092 # PLACEHOLDER");
    let login = draft.login.write();
    text += login.as_deref().unwrap_or_default();
    write_routes(&mut text, &draft.routes, login.is_some());
    for section in ["limits", "drain"] {
        let keys = of_section(settled, section);
        if !keys.is_empty() {
            let _ = writeln!(text, "\n{section}:\n{keys}", keys = keys.trim_end());
        }
    }
    text
}

fn write_upstream(text: &mut String, draft: &Draft, settled: &[Candidate]) {
    let services: Vec<_> = draft.services.iter().map(String::as_str).collect();
    let whose =
        if services.is_empty() { String::new() } else { format!("; the Service is {}", services.join(", or ")) };
    let _ = writeln!(
        text,
        "\nupstream:\n  address: {PLACEHOLDER}127.0.0.1:3000 # PLACEHOLDER: the port of the container{whose}"
    );
    *text += &of_section(settled, "upstream");
}

/// The lines of a section's keys.
fn of_section(settled: &[Candidate], section: &str) -> String {
    let mut lines = String::new();
    for Candidate { setting, value, subject, reason, .. } in settled {
        if let Some(key) = setting.path().strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
            let reason = reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
            let _ = writeln!(lines, "  {key}: {} # {subject}{reason}", setting.write(*value));
        }
    }
    lines
}

fn write_routes(text: &mut String, routes: &[Route], has_login: bool) {
    if routes.is_empty() {
        *text += "\n# Nothing looked like a stream. A stream and its route, to begin from:\n\
                  # streams:\n#   orders: { topics: [orders], keys: [orderId] }\n\
                  # routes:\n#   - { path: /orders/events, stream: orders, transport: sse, public: true }\n";
        return;
    }
    *text +=
        "\n# PLACEHOLDER: the topics of each stream, and the keys that identify the subject of its events\nstreams:\n";
    let mut streams: Vec<_> = routes.iter().map(|route| route.stream.as_str()).collect();
    streams.sort_unstable();
    streams.dedup();
    for stream in streams {
        let _ = writeln!(text, "  {}: {{ topics: [{PLACEHOLDER}{stream}] }}", plain_or_quoted(stream));
    }
    *text += if has_login { OPENED_BY_LOGIN } else { OPENED };
    for route in routes {
        write_route(text, route);
    }
}

fn write_route(text: &mut String, route: &Route) {
    let Route { pattern, transport, stream, heartbeat, cors, why, subject, is_vague } = route;
    let _ = writeln!(text, "  # GUESS: {subject}: {why}");
    let _ = writeln!(text, "  - path: {}\n    stream: {}", plain_or_quoted(pattern), plain_or_quoted(stream));
    let _ = writeln!(text, "    transport: {transport}\n    public: {PLACEHOLDER}true-or-false # PLACEHOLDER");
    if *is_vague {
        *text += "    other_methods: upstream # as the path may be more than a stream\n";
    }
    if let Some(cors) = cors {
        let _ = writeln!(text, "    cors: {cors}");
    }
    if let Some((ms, origin)) = heartbeat {
        let written = Setting::ReadTimeout.write(*ms);
        let _ = writeln!(text, "    heartbeat_interval: {written} # a third of {origin}, 1s to 20s");
    }
}

/// A text in YAML: quoted, unless it is clearly not one of YAML's own words. JSON's quoting is valid in YAML.
fn plain_or_quoted(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let begins_well = text.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic());
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'.' | b'-'));
    let is_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if begins_well && is_plain && !is_word { text.to_owned() } else { json!(text).to_string() }
}

/// A valid name of a Kafka topic: letters, digits, `.`, `_`, `-`, limited in length.
pub(super) fn topic_like(name: &str) -> String {
    /// Kafka allows 249, including the prefix of the placeholder.
    const CHARS_MAX: usize = 100;
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().take(CHARS_MAX).map(|c| if is_good(c) { c } else { '-' }).collect()
}
