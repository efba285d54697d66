//! `auth-url` and its companions, of Ingresses and of all (`global-auth-url`): forward auth.
//!
//! A process asks one service. That of an Ingress replaces the one of all; where Ingresses name several, the first counts,
//! and the others are reported.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::report::{Class, Report, Subject, shown};
use super::setting::nginx_time;
use crate::config::{PLACEHOLDER, write_duration};

/// The longest time for which an answer may be cached: `auth.forward.interval` is a minute unless set.
const CACHE_MAX_MS: u64 = 60_000;

/// What keys of the ConfigMap begin with, in contrast to annotations.
const GLOBAL: &str = "global-";

/// What the configuration says of the service.
#[derive(Default)]
pub(super) struct Login {
    /// Whether the ConfigMap names it.
    is_global: bool,
    url: Option<(String, Subject)>,
    claims: Option<(Vec<(String, String)>, Subject)>,
    cache: Option<(u64, Subject)>,
}

impl Login {
    /// Takes an annotation, or a key of the ConfigMap.
    pub(super) fn read(&mut self, name: &str, value: &str, subject: &Subject, report: &mut Report) {
        let value = value.trim();
        let of_all = name.strip_prefix(GLOBAL);
        if self.is_global && of_all.is_none() {
            *self = Self::default();
        }
        self.is_global |= of_all.is_some();
        let (class, text) = match of_all.unwrap_or(name) {
            "auth-url" => self.url(value, subject),
            "auth-response-headers" => self.claims(value, subject),
            "auth-cache-duration" => self.cache(value, subject),
            _ if value.eq_ignore_ascii_case("GET") => (Class::NotNeeded, "the service is asked with GET".into()),
            _ => (Class::Unknown, format!("the service is asked with GET, not with {}", shown(value))),
        };
        report.add(class, subject, text);
    }

    fn url(&mut self, value: &str, subject: &Subject) -> (Class, String) {
        let url = without_variables(value);
        match &self.url {
            Some((other, earlier)) if *other != url => other_service(earlier),
            Some(_) => (Class::Mapped, "`auth.forward.url`".into()),
            None => {
                let text = if url.starts_with(PLACEHOLDER) {
                    "`auth.forward.url`: replace what nginx's variables stood for"
                } else {
                    "`auth.forward.url`"
                };
                self.url = Some((url, subject.clone()));
                (Class::Mapped, text.into())
            }
        }
    }

    /// Each field becomes a claim: `X-Auth-Request-Email` the claim `email`.
    fn claims(&mut self, value: &str, subject: &Subject) -> (Class, String) {
        let fields = value.split(',').map(str::trim).filter(|field| !field.is_empty());
        let named = fields.filter_map(|field| Some((claim(field)?, field.to_owned())));
        let mut claims: Vec<(String, String)> = named.collect();
        claims.sort();
        claims.dedup_by(|one, other| one.0 == other.0);
        match &self.claims {
            Some((other, earlier)) if *other != claims => other_service(earlier),
            _ if claims.is_empty() => (Class::Unknown, "no header field that can be a claim".into()),
            _ => {
                let names: Vec<_> = claims.iter().map(|(claim, _)| format!("`{claim}`")).collect();
                let text = format!(
                    "`auth.forward.claims`: {}, a GUESS, to be bound by routes; other requests are proxied without the fields",
                    names.join(", ")
                );
                self.claims = Some((claims, subject.clone()));
                (Class::Mapped, text)
            }
        }
    }

    /// `200 202 401 5m`, or several such with commas between: the first time that counts for a positive answer.
    fn cache(&mut self, value: &str, subject: &Subject) -> (Class, String) {
        let is_positive = |code: &str| code == "any" || code.starts_with('2');
        let times = value.split(',').filter_map(|part| {
            let (codes, time) = part.trim().rsplit_once(' ').unwrap_or_else(|| ("any", part.trim()));
            nginx_time(time).filter(|_| codes.split_whitespace().any(is_positive))
        });
        let Some(ms) = times.map(|ms| ms.min(CACHE_MAX_MS)).next() else {
            return (Class::Unknown, format!("`{}`: no time for positive answers", shown(value)));
        };
        match &self.cache {
            Some((other, earlier)) if *other != ms => other_service(earlier),
            _ => {
                self.cache = Some((ms, subject.clone()));
                (Class::Mapped, "`auth.forward.cache`, at most 1m; a negative answer is used for at most 1s".into())
            }
        }
    }

    /// Whether the ConfigMap names a service that is asked about Ingresses without one of their own.
    pub(super) fn is_global(&self) -> bool {
        self.is_global && self.url.is_some()
    }

    /// The section `auth`; nothing where there is no service.
    pub(super) fn write(&self) -> Option<String> {
        let (url, subject) = self.url.as_ref()?;
        let note = if url.starts_with(PLACEHOLDER) { "PLACEHOLDER: " } else { "" };
        let mut text = format!("\nauth:\n  forward:\n    url: {} # {note}{subject}\n", json!(url));
        if let Some((claims, subject)) = &self.claims {
            let _ = writeln!(text, "    claims: # GUESS: {subject}");
            for (claim, field) in claims {
                let _ = writeln!(text, "      {claim}: {field}");
            }
        }
        if let Some((ms, subject)) = &self.cache {
            let _ = writeln!(text, "    cache: {} # {subject}", write_duration(Duration::from_millis(*ms)));
        }
        Some(text)
    }
}

fn other_service(earlier: &Subject) -> (Class, String) {
    (Class::Unknown, format!("line {} says something else, and was taken: sidestream asks one service", earlier.line))
}

/// A URL as sidestream takes it. nginx's variables, and what else is no URL, are left to a person.
fn without_variables(value: &str) -> String {
    let is_url = |url: &str| {
        let parsed = url.parse::<http::Uri>();
        parsed.is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
        })
    };
    if !value.contains('$') && is_url(value) {
        return value.to_owned();
    }
    let rest = value.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path).split(['?', '#']).next().unwrap_or_default();
    let path = if path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.-".contains(&b)) { path } else { "" };
    format!("{PLACEHOLDER}https://login.example/{path}")
}

/// The claim that a field of an answer becomes; none for fields that hold credentials.
fn claim(field: &str) -> Option<String> {
    field.parse::<http::HeaderName>().ok()?;
    let lower = field.to_ascii_lowercase();
    let is_secret = ["token", "authorization", "cookie", "secret"].iter().any(|part| lower.contains(part));
    let name =
        ["x-auth-request-", "x-forwarded-", "x-auth-", "x-"].iter().find_map(|prefix| lower.strip_prefix(prefix));
    let name = name.unwrap_or(&lower).replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (begins_well && !is_secret && !["y", "n", "no", "on", "off", "yes", "true", "null", "false"].contains(&&*name))
        .then_some(name)
}
