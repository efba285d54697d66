//! An Ingress's `spec`: which paths are probably streams, and which fields are left to the gateway.
//!
//! An Ingress does not declare streams. Names of paths and settings that only streams need are the evidence, so every
//! route is a guess and is marked as one. Other paths are proxied, which needs no key.

use std::borrow::Cow;

use super::cors::Cors;
use super::draft::{Draft, Route};
use super::foreign::CLASS;
use super::manifest::{Object, at, entries, get, list, plain, scalar};
use super::path::{self, Translated};
use super::report::{Class, Report, Subject, shown};
use super::setting::{heartbeat, nginx_time};
use super::written::topic_like;
use crate::config::{Node, Value};

/// A read timeout of at least this indicates streams: 5 minutes, in milliseconds.
const LONG_MS: u64 = 300_000;

/// What the annotations of an Ingress imply for its paths.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) rewrite_target: Option<String>,
    pub(super) uses_regex: bool,
    /// Why no path can be a stream: a canary repeats another Ingress's paths, and gRPC is not supported.
    pub(super) no_streams: Option<&'static str>,
    pub(super) buffering: Option<bool>,
    /// The annotation that requires a login.
    pub(super) login: Option<String>,
    /// Whether the service that is asked about all Ingresses is not asked about this one.
    pub(super) is_excepted: bool,
    pub(super) cors: Cors,
    /// Milliseconds, and the setting.
    pub(super) read_timeout: Option<(u64, Subject)>,
    /// The services in `nginx.org/websocket-services`.
    pub(super) websocket_services: Vec<String>,
    /// The `location` blocks of a server snippet: paths that no rule of the Ingress has.
    pub(super) locations: Vec<Location>,
}

/// A `location` of a snippet, with its directives.
pub(super) struct Location {
    /// `=`, `~`, `~*`, `^~`, or empty.
    pub(super) modifier: String,
    pub(super) path: String,
    pub(super) is_unbuffered: bool,
    pub(super) read_timeout: Option<String>,
    pub(super) subject: Subject,
}

/// A path of a rule.
struct Rule<'a> {
    path: String,
    kind: &'a str,
    service: String,
    subject: Subject,
}

/// Reads the `spec` of an Ingress.
pub(super) fn read(ingress: &Object<'_>, facts: &Facts, draft: &mut Draft, report: &mut Report) {
    let Some(spec) = get(ingress.node, "spec") else {
        return;
    };
    gateway_fields(ingress, spec, report);
    let rules: Vec<_> = list(get(spec, "rules")).iter().flat_map(|rule| rules_of(ingress, rule)).collect();
    for rule in &rules {
        if !rule.service.is_empty() && facts.no_streams.is_none() {
            draft.services.insert(rule.service.clone());
        }
        let guess = facts.no_streams.map_or_else(
            || guess(rule, facts, rules.len() == 1),
            |reason| Guess::NotStream(Class::Gateway, format!("not a sidestream stream: {reason}")),
        );
        match guess {
            Guess::Stream(stream) => add_route(rule, stream, facts, draft, report),
            Guess::NotStream(class, text) => report.add(class, &rule.subject, text),
        }
    }
    facts.locations.iter().for_each(|location| read_location(location, draft, report));
}

fn add_route(rule: &Rule<'_>, stream: Stream, facts: &Facts, draft: &mut Draft, report: &mut Report) {
    let Stream { path, transport, why, is_vague } = stream;
    let read_timeout = facts.read_timeout.clone().or_else(|| draft.general_read_timeout());
    let below = if path.is_open { "; what is below it, the route leaves to the service" } else { "" };
    let route = Route {
        stream: stream_name(&path, &rule.service),
        pattern: path.pattern,
        transport,
        heartbeat: read_timeout.map(|(ms, origin)| (heartbeat(ms), origin)),
        cors: facts.cors.is_enabled.then(|| facts.cors.write()),
        why: format!("{why}{below}"),
        subject: rule.subject.clone(),
        is_vague,
    };
    draft.add_route(route, report);
    match facts.login.as_deref() {
        None => {}
        Some(login @ ("auth-url" | "global-auth-url")) => {
            let text = format!(
                "{login} asked for a login: `auth.forward` asks the same service where the route is not `public: true`"
            );
            report.warn(&rule.subject, text);
        }
        Some(login) => {
            let text = format!(
                "{login} asked for a login, which stays at the gateway; behind it, the route is `public: true`"
            );
            report.warn(&rule.subject, text);
        }
    }
    if facts.buffering == Some(true) {
        let text = "proxy-buffering was on for it: proxies in front of sidestream must not buffer a stream";
        report.warn(&rule.subject, text);
    }
}

/// Reports the fields for hosts, certificates and other services.
fn gateway_fields(ingress: &Object<'_>, spec: &Node, report: &mut Report) {
    let mut report_field =
        |key: &str, node: &Node, text: &str| report.add(Class::Gateway, &ingress.subject(key, node.place), text);
    if let Some(class) = get(spec, "ingressClassName") {
        report_field("spec.ingressClassName", class, CLASS);
    }
    if let Some(tls) = get(spec, "tls") {
        report_field("spec.tls", tls, "the gateway terminates TLS; sidestream listens with plain HTTP");
    }
    for key in ["defaultBackend", "backend"] {
        if let Some(backend) = get(spec, key) {
            report_field(&format!("spec.{key}"), backend, "the gateway routes requests that no path matches");
        }
    }
    for host in list(get(spec, "rules")).iter().filter_map(|rule| get(rule, "host")) {
        let name = shown(&scalar(&host.value).unwrap_or_default());
        report_field(
            "spec.rules.host",
            host,
            &format!("the host {name} is selected at the gateway; sidestream serves its routes on any host"),
        );
    }
    if let Some(rules) = get(spec, "rules").filter(|rules| !matches!(rules.value, Value::List(_))) {
        report.add(Class::Unknown, &ingress.subject("spec.rules", rules.place), "not a list");
    }
    for (name, node) in entries(spec) {
        if !["ingressClassName", "tls", "defaultBackend", "backend", "rules"].contains(&name.text.as_str()) {
            report.add(
                Class::Unknown,
                &ingress.subject(format!("spec.{}", name.text), node.place),
                "no field of an Ingress",
            );
        }
    }
}

fn rules_of<'a>(ingress: &Object<'_>, rule: &'a Node) -> Vec<Rule<'a>> {
    let paths = list(at(rule, &["http", "paths"])).iter();
    let rules = paths.map(|node| {
        let written = get(node, "path");
        let path =
            written.and_then(|node| scalar(&node.value)).filter(|path| !path.is_empty()).unwrap_or(Cow::Borrowed("/"));
        let kind = get(node, "pathType").and_then(|node| plain(&node.value)).unwrap_or("ImplementationSpecific");
        let place = written.map_or(node.place, |node| node.place);
        let subject = ingress.subject(format!("path {}", shown(&path)), place);
        Rule { path: path.into_owned(), kind, service: service(node).unwrap_or_default(), subject }
    });
    rules.collect()
}

/// For example `orders, port 80`, from API version v1 or older ones.
fn service(path: &Node) -> Option<String> {
    let backend = get(path, "backend")?;
    let text = |keys: &[&str]| at(backend, keys).and_then(|node| scalar(&node.value)).map(|text| shown(&text));
    let name = text(&["service", "name"]).or_else(|| text(&["serviceName"]))?;
    let port = text(&["service", "port", "number"]).or_else(|| text(&["service", "port", "name"]));
    let port = port.or_else(|| text(&["servicePort"])).map(|port| format!(", port {port}")).unwrap_or_default();
    Some(format!("{name}{port}"))
}

/// The path as sidestream receives it.
fn translate(rule: &Rule<'_>, facts: &Facts) -> Result<Translated, String> {
    let as_written = || match rule.kind {
        "Exact" => path::literal(&rule.path, false),
        _ if facts.uses_regex || path::looks_like_regex(&rule.path) => path::expression(&rule.path),
        _ => path::literal(&rule.path, true),
    };
    let Some(target) = &facts.rewrite_target else {
        return as_written();
    };
    let rewritten = |reason| format!("the gateway rewrites it to `{}`: {reason}", shown(target));
    let path = path::expression(&path::rewritten(&rule.path, target)).map_err(rewritten)?;
    match as_written() {
        Ok(written) if written.transport().is_some() && path.transport().is_none() => {
            Err(rewritten("that does not look like the stream that its path does".into()))
        }
        _ => Ok(path),
    }
}

enum Guess {
    Stream(Stream),
    /// Not a stream, or undecidable.
    NotStream(Class, String),
}

struct Stream {
    path: Translated,
    transport: &'static str,
    why: String,
    is_vague: bool,
}

/// Guesses what a path is. Settings are evidence only if they can apply to no other path: `is_alone`.
fn guess(rule: &Rule<'_>, facts: &Facts, is_alone: bool) -> Guess {
    if rule.path.contains("socket.io") {
        return Guess::NotStream(
            Class::NotNeeded,
            "Socket.IO is a protocol of its own, and is proxied unchanged".into(),
        );
    }
    let path = match translate(rule, facts) {
        Ok(path) => path,
        Err(reason) => {
            let text =
                format!("it is proxied; if it is a stream, write its route as sidestream sees the path: {reason}");
            return Guess::NotStream(Class::Unknown, text);
        }
    };
    let is_long = facts.read_timeout.as_ref().is_some_and(|(ms, _)| *ms >= LONG_MS);
    let has_settings = facts.buffering == Some(false) && is_long && is_alone;
    let service = rule.service.split(',').next().unwrap_or_default();
    let is_websocket = facts.websocket_services.iter().any(|name| name == service);
    let last = path.pattern.rsplit('/').next().unwrap_or_default().to_owned();
    if let Some(transport) = path.transport() {
        Guess::Stream(Stream { path, transport, why: format!("its path ends in `{last}`"), is_vague: false })
    } else if is_websocket && !path.is_root() {
        let why = "nginx.org/websocket-services names its service".into();
        Guess::Stream(Stream { path, transport: "ws", why, is_vague: true })
    } else if has_settings && !path.is_root() {
        let why = "nothing of it is buffered and its read timeout is long".into();
        Guess::Stream(Stream { path, transport: "auto", why, is_vague: true })
    } else if has_settings {
        let text = "something below it streams, by its settings (no buffering, a long read timeout): write its route";
        Guess::NotStream(Class::Unknown, text.into())
    } else {
        Guess::NotStream(Class::NotNeeded, "it is proxied unchanged, without a key".into())
    }
}

fn stream_name(path: &Translated, service: &str) -> String {
    let service = service.split(',').next().filter(|name| !name.is_empty()).unwrap_or("events");
    topic_like(&path.name().unwrap_or_else(|| service.to_owned()))
}

/// Reads a `location` of a server snippet: a path that no rule of the Ingress has.
fn read_location(location: &Location, draft: &mut Draft, report: &mut Report) {
    let Location { modifier, path: written, is_unbuffered, read_timeout, subject } = location;
    let translated = match modifier.as_str() {
        "~" | "~*" => path::expression(written),
        "=" => path::literal(written, false),
        _ => path::literal(written, true),
    };
    let read_timeout = read_timeout.as_ref().and_then(|written| nginx_time(written));
    let is_long = read_timeout.is_some_and(|ms| ms >= LONG_MS);
    let Ok(path) = translated else {
        return;
    };
    let by_name = path.transport();
    if path.is_root() || by_name.is_none() && !(*is_unbuffered && is_long) {
        return;
    }
    let why = if by_name.is_some() {
        "a `location` of a snippet with such a name"
    } else {
        "a `location` of a snippet that does not buffer"
    };
    let route = Route {
        pattern: path.pattern.clone(),
        transport: by_name.unwrap_or("auto"),
        stream: stream_name(&path, ""),
        heartbeat: read_timeout.map(|ms| (heartbeat(ms), subject.clone())),
        cors: None,
        why: why.into(),
        subject: subject.clone(),
        is_vague: by_name.is_none(),
    };
    draft.add_route(route, report);
}
