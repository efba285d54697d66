//! Classifies settings one by one: annotations, keys of the ConfigMap, and directives of snippets.
//!
//! What they imply for paths is collected in `Facts`; `rules` reads an Ingress's rules.

use super::annotations::{ANNOTATIONS, PREFIX};
use super::configmap::KEYS;
use super::directives::{DIRECTIVES, directive_outcome, public_arguments};
use super::draft::{Candidate, Draft, Level};
use super::foreign::foreign;
use super::manifest::{Object, at, entries, get, line_of, plain, scalar};
use super::outcome::{Entry, Outcome, Scope, find, names};
use super::report::{Class, Report, Subject, shown};
use super::rules::{Facts, Location};
use super::setting::Setting;
use super::snippet::{self, Directive};
use crate::config::{Name, Node, Value, did_you_mean};

/// Boolean annotations, which are off unless their value is `true`.
const SWITCHES: [&str; 5] = ["canary", "enable-cors", "from-to-www-redirect", "ssl-passthrough", "use-regex"];
/// Conditions under which sidestream also retries.
const RETRIED: [&str; 2] = ["error", "timeout"];

/// Reads settings into a draft and a report.
pub(super) struct Reader<'a> {
    /// The lines of the whole input.
    pub(super) lines: &'a [&'a str],
    pub(super) draft: Draft,
    pub(super) report: Report,
}

/// A setting of the input.
struct Found<'a> {
    subject: Subject,
    /// Without prefix.
    name: &'a str,
    value: &'a str,
    level: Level,
    /// Whether the same object names a service that logins are left to.
    has_login: bool,
}

impl Reader<'_> {
    /// Reads the annotations of an Ingress.
    pub(super) fn annotations(&mut self, ingress: &Object<'_>) -> Facts {
        let mut facts = Facts::default();
        let Some(annotations) = at(ingress.node, &["metadata", "annotations"]) else {
            return facts;
        };
        if !matches!(annotations.value, Value::Map(_)) {
            let subject = ingress.subject("metadata.annotations", annotations.place);
            self.report.add(Class::Unknown, &subject, "not a mapping");
        }
        // The outcome of some annotations depends on others, in any order.
        for (key, node) in entries(annotations) {
            if let (Some(name), Some(value)) = (key.text.strip_prefix(PREFIX), scalar(&node.value)) {
                note(name, &value, &mut facts);
            }
        }
        let has_login = facts.login.as_deref() == Some("auth-url");
        if self.draft.login.is_global() && !facts.is_excepted {
            facts.login.get_or_insert_with(|| "global-auth-url".to_owned());
        }
        for (key, node) in entries(annotations) {
            let subject = ingress.subject(key.text.as_str(), key.place);
            let Some(value) = self.text(&subject, node) else {
                continue;
            };
            let Some(name) = key.text.strip_prefix(PREFIX) else {
                self.foreign(&subject, &key.text, &value, &mut facts);
                continue;
            };
            let subject = ingress.subject(name, key.place);
            let found = Found { subject, name, value: &value, level: Level::Ingress, has_login };
            self.setting(ANNOTATIONS, &found, node, Some(&mut facts));
        }
        facts
    }

    /// Reads a ConfigMap of ingress-nginx. Others contain headers, or are unrelated.
    pub(super) fn config_map(&mut self, object: &Object<'_>) {
        let data = get(object.node, "data").map(entries).unwrap_or_default();
        if is_services(object, data) {
            for (key, _) in data {
                let subject = object.subject(key.text.as_str(), key.place);
                self.report.add(Class::Gateway, &subject, "configure TCP and UDP services at the gateway");
            }
        } else if is_controllers(object, data) {
            let has_login = data.iter().any(|(key, _)| key.text == "global-auth-url");
            for (key, node) in data {
                let subject = object.subject(key.text.as_str(), key.place);
                if let Some(value) = self.text(&subject, node) {
                    let found = Found { subject, name: &key.text, value: &value, level: Level::ConfigMap, has_login };
                    self.setting(KEYS, &found, node, None);
                }
            }
        } else {
            self.report.skip("ConfigMap without a key of ingress-nginx");
        }
    }

    /// The text of a value. Kubernetes accepts only strings here, but Helm values and notes often contain other types.
    fn text(&mut self, subject: &Subject, node: &Node) -> Option<String> {
        if !matches!(node.value, Value::Text(_)) {
            let found = node.value.kind();
            self.report.warn(subject, format!("found {found} where Kubernetes takes a text; put it in quotes"));
        }
        match scalar(&node.value) {
            Some(text) => Some(text.into_owned()),
            None => {
                self.report.add(Class::Unknown, subject, "its value is not a text");
                None
            }
        }
    }

    fn setting(&mut self, table: &[Entry], found: &Found<'_>, node: &Node, facts: Option<&mut Facts>) {
        let Found { subject, name, value, .. } = found;
        if SWITCHES.contains(name) && value.trim() == "false" {
            return self.report.add(Class::NotNeeded, subject, "it is off");
        }
        if *name == "backend-protocol" && ["HTTP", "AUTO_HTTP"].contains(&value.trim()) {
            return self.report.add(Class::NotNeeded, subject, "sidestream speaks HTTP/1.1 to the service");
        }
        match find(table, name) {
            Some(Outcome::Mapped(setting)) => self.mapped(setting, found, facts),
            Some(Outcome::NotNeeded(why)) => self.report.add(Class::NotNeeded, subject, why),
            Some(Outcome::Gateway(why)) => self.report.add(Class::Gateway, subject, why),
            Some(Outcome::Snippet(scope)) => self.snippet(scope, found, node, facts),
            Some(Outcome::Login) => self.login(found),
            Some(Outcome::Cors) => {
                if let Some(facts) = facts {
                    facts.cors.describe(name, value.trim(), subject, &mut self.report);
                }
            }
            None => {
                let hint = did_you_mean(name, names(table));
                self.report.add(Class::Unknown, subject, format!("no setting of ingress-nginx{hint}"));
            }
        }
    }

    /// Handles a setting of a service that logins are left to.
    fn login(&mut self, found: &Found<'_>) {
        let Found { subject, name, value, has_login, .. } = found;
        if !has_login {
            return self.report.add(Class::NotNeeded, subject, "without a URL of a service it has no effect");
        }
        self.draft.login.read(name, value, subject, &mut self.report);
    }

    /// Handles a setting that maps to a key.
    fn mapped(&mut self, setting: Setting, found: &Found<'_>, facts: Option<&mut Facts>) {
        let Found { subject, name, value, level, .. } = found;
        if name.ends_with("next-upstream") && value.trim() != "off" {
            return self.conditions(subject, value.split_whitespace());
        }
        if let Some(reason) = facts.as_ref().and_then(|facts| facts.no_streams) {
            return self.report.add(Class::Gateway, subject, format!("it does not count here: {reason}"));
        }
        let derived = match setting.derive(value) {
            Ok(derived) => derived,
            // Times and counts cannot contain secrets.
            Err(reason) => return self.report.add(Class::Unknown, subject, format!("`{}`: {reason}", shown(value))),
        };
        if has_ignored_unit(setting, found) {
            let text =
                "ingress-nginx takes a bare number of seconds here, and ignores a unit; it was read as it was meant";
            self.report.warn(subject, text);
        }
        if let (Setting::ReadTimeout, Some(facts)) = (setting, facts) {
            facts.read_timeout = Some((derived.value, subject.clone()));
        }
        let (value, reason) = (derived.value, derived.reason);
        self.draft.propose(Candidate { setting, value, level: *level, subject: subject.clone(), reason });
    }

    /// The conditions under which nginx tries the next server. sidestream has one upstream, and retries only if a
    /// request cannot have been processed twice.
    fn conditions<'a>(&mut self, subject: &Subject, conditions: impl Iterator<Item = &'a str>) {
        let others: Vec<_> = conditions.filter(|condition| !RETRIED.contains(condition)).map(shown).collect();
        if others.is_empty() {
            return self.report.add(
                Class::NotNeeded,
                subject,
                "sidestream tries again where no connection came about, `upstream.retries` times",
            );
        }
        let text = format!(
            "sidestream passes on every answer there is; whether to ask another replica on {} is the gateway's",
            others.join(", ")
        );
        self.report.add(Class::Gateway, subject, text);
    }

    fn snippet(&mut self, scope: Scope, found: &Found<'_>, node: &Node, mut facts: Option<&mut Facts>) {
        let is_known = |name: &str| find(DIRECTIVES, name).is_some();
        let snippet = snippet::parse(found.value, is_known);
        let lines = self.lines;
        let at_line = |line: u64, key: String| Subject {
            key: key.into(),
            line: line_of(lines, node, found.value, line),
            ..found.subject.clone()
        };
        if snippet.directives.is_empty() && snippet.mistakes.is_empty() {
            return self.report.add(Class::NotNeeded, &found.subject, "it is empty");
        }
        for (line, mistake) in snippet.mistakes {
            self.report.add(Class::Unknown, &at_line(line, found.name.into()), mistake);
        }
        if let (Scope::Requests, Some(facts)) = (scope, facts.as_deref_mut()) {
            facts.locations.extend(locations(&snippet.directives, |directive| {
                at_line(directive.line, format!("{}: {}", found.name, written(directive)))
            }));
        }
        for directive in &snippet.directives {
            let subject = at_line(directive.line, format!("{}: {}", found.name, written(directive)));
            self.directive(scope, directive, subject, found.level, facts.as_deref_mut());
        }
    }

    fn directive(
        &mut self,
        scope: Scope,
        directive: &Directive,
        subject: Subject,
        level: Level,
        facts: Option<&mut Facts>,
    ) {
        let Directive { name, arguments, within, .. } = directive;
        let Some(outcome) = directive_outcome(name, arguments) else {
            let hint = did_you_mean(name, names(DIRECTIVES));
            return self.report.add(
                Class::Unknown,
                &subject,
                format!("no directive of nginx that is known here{hint}"),
            );
        };
        match (scope, outcome) {
            (Scope::Authentication, _) => self.report.add(
                Class::Gateway,
                &subject,
                "about the requests to an authentication service, which is the gateway's",
            ),
            (Scope::Tcp, _) => self.report.add(Class::Gateway, &subject, "about TCP and UDP, which is the gateway's"),
            (Scope::Requests, Outcome::NotNeeded(why)) => {
                if let Some(facts) = facts
                    && within.is_none()
                {
                    note_directive(name, arguments, facts);
                }
                self.report.add(Class::NotNeeded, &subject, why);
            }
            (Scope::Requests, Outcome::Mapped(_)) if within.is_some() => {
                let text = format!(
                    "it counts only within `{}`; set it by hand if it should count at all",
                    block(within.as_deref().unwrap_or_default())
                );
                self.report.add(Class::Unknown, &subject, text);
            }
            (Scope::Requests, Outcome::Mapped(setting)) => {
                let value = arguments.join(" ");
                if name == "proxy_next_upstream" && value != "off" {
                    return self.conditions(&subject, arguments.iter().map(String::as_str));
                }
                self.mapped(setting, &Found { subject, name, value: &value, level, has_login: false }, facts);
            }
            (Scope::Requests, Outcome::Gateway(why)) => self.report.add(Class::Gateway, &subject, why),
            (Scope::Requests, Outcome::Snippet(_) | Outcome::Login | Outcome::Cors) => {}
        }
    }

    fn foreign(&mut self, subject: &Subject, key: &str, value: &str, facts: &mut Facts) {
        if key == "nginx.org/websocket-services" {
            facts.websocket_services = value.split(',').map(|name| name.trim().to_owned()).collect();
        }
        let (class, text) = foreign(key);
        self.report.add(class, subject, text);
    }
}

/// Whether an annotation has a unit. Directives may have one; annotations may not.
fn has_ignored_unit(setting: Setting, found: &Found<'_>) -> bool {
    let is_annotation = found.level == Level::Ingress && found.name.contains('-');
    is_annotation && setting != Setting::Retries && found.value.trim().ends_with(|c: char| c.is_ascii_alphabetic())
}

/// Records what an annotation implies for the paths.
fn note(name: &str, value: &str, facts: &mut Facts) {
    let is_true = value.trim() == "true";
    facts.cors.note(name, value.trim());
    match (name, value.trim()) {
        ("rewrite-target", target) => facts.rewrite_target = Some(target.to_owned()),
        ("use-regex", _) => facts.uses_regex = is_true,
        ("proxy-buffering", switch) => facts.buffering = Some(switch == "on"),
        ("enable-global-auth", "false") => facts.is_excepted = true,
        ("auth-url", _) => facts.login = Some(name.to_owned()),
        ("auth-secret" | "auth-tls-secret", _) => drop(facts.login.get_or_insert_with(|| name.to_owned())),
        ("canary", _) if is_true => facts.no_streams = Some("a canary repeats the paths of another Ingress"),
        ("ssl-passthrough", _) if is_true => facts.no_streams = Some("TLS passes through to the service undecrypted"),
        ("backend-protocol", "GRPC" | "GRPCS") => {
            facts.no_streams = Some("gRPC bypasses sidestream, to the service's own port")
        }
        ("backend-protocol", "FCGI") => {
            facts.no_streams = Some("FastCGI bypasses sidestream, to the service's own port")
        }
        _ => {}
    }
}

fn note_directive(name: &str, arguments: &[String], facts: &mut Facts) {
    match (name, arguments.first().map(String::as_str)) {
        ("proxy_buffering", Some(switch)) => facts.buffering = Some(switch == "on"),
        ("add_header" | "more_set_headers", Some(header))
            if header.to_ascii_lowercase().starts_with("x-accel-buffering") =>
        {
            facts.buffering = Some(false);
        }
        _ => {}
    }
}

/// A directive for the report: its name, and the arguments that cannot contain a secret.
fn written(directive: &Directive) -> String {
    let Directive { name, arguments, .. } = directive;
    let count = public_arguments(name, arguments);
    let public: String = arguments.iter().take(count).map(|argument| format!(" {argument}")).collect();
    let rest = if count < arguments.len() { " ..." } else { "" };
    format!("{}{rest}", shown(&format!("{name}{public}")))
}

/// A block for the report: its condition may contain a secret.
fn block(written: &str) -> String {
    let is_location = written.starts_with("location ");
    shown(if is_location { written } else { written.split_whitespace().next().unwrap_or_default() })
}

/// The `location` blocks of a snippet, with their direct directives.
fn locations(directives: &[Directive], subject: impl Fn(&Directive) -> Subject) -> Vec<Location> {
    let mut locations: Vec<Location> = Vec::new();
    for directive in directives {
        match (directive.name.as_str(), directive.arguments.as_slice()) {
            ("location", [path]) => locations.push(location("", path, subject(directive))),
            ("location", [modifier, path]) => locations.push(location(modifier, path, subject(directive))),
            _ if directive.within.as_deref().is_none_or(|within| !within.starts_with("location")) => {}
            (name, [value, ..]) => {
                if let Some(location) = locations.last_mut() {
                    location.is_unbuffered |= name == "proxy_buffering" && value == "off";
                    if name == "proxy_read_timeout" {
                        location.read_timeout = Some(value.clone());
                    }
                }
            }
            _ => {}
        }
    }
    locations
}

fn location(modifier: &str, path: &str, subject: Subject) -> Location {
    Location { modifier: modifier.into(), path: path.into(), is_unbuffered: false, read_timeout: None, subject }
}

/// Whether a ConfigMap is ingress-nginx's own: by its name, or by a key that only ingress-nginx has.
fn is_controllers(object: &Object<'_>, data: &[(Name, Node)]) -> bool {
    let label = at(object.node, &["metadata", "labels", "app.kubernetes.io/name"]).and_then(|node| plain(&node.value));
    let is_called_so = object.name.contains("ingress-nginx") || object.name.contains("nginx-configuration");
    is_called_so || label == Some("ingress-nginx") || data.iter().any(|(key, _)| find(KEYS, &key.text).is_some())
}

/// Whether a ConfigMap lists TCP or UDP services: ports with `namespace/service:port`.
fn is_services(object: &Object<'_>, data: &[(Name, Node)]) -> bool {
    let is_called_so = ["tcp", "udp"].iter().any(|protocol| object.name.contains(protocol));
    let are_ports = data.iter().all(|(key, _)| key.text.parse::<u16>().is_ok());
    !data.is_empty() && are_ports && (is_called_so || object.name.contains("services"))
}
