//! `enable-cors` and its companions: the policy of an Ingress's streams.
//!
//! The defaults are those of ingress-nginx. What is not valid in `cors` is left out, and reported.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::report::{Class, Report, Subject, shown};
use super::setting::nginx_time;
use crate::config::write_duration;
use crate::cors::{MAX_AGE_MAX, ORIGINS_MAX, Pattern};

const OFF: &str = "without `enable-cors` it has no effect";
const ELSEWHERE: &str =
    "for requests that are proxied, answer preflights and set the fields at the gateway, and only there";

/// The annotations of one Ingress.
#[derive(Clone, Debug, Default)]
pub(super) struct Cors {
    pub(super) is_enabled: bool,
    /// Absent: any.
    origins: Option<Vec<String>>,
    /// `false` was written.
    is_without_credentials: bool,
    headers: Vec<String>,
    /// Milliseconds.
    max_age: Option<u64>,
}

impl Cors {
    /// Takes note of an annotation.
    pub(super) fn note(&mut self, name: &str, value: &str) {
        match name {
            "enable-cors" => self.is_enabled = value == "true",
            "cors-allow-origin" => {
                let mut origins: Vec<String> = Vec::new();
                for origin in items(value).filter(|origin| is_origin(origin)).take(ORIGINS_MAX) {
                    if !origins.iter().any(|other| other == origin) {
                        origins.push(origin.to_owned());
                    }
                }
                self.origins = (!origins.iter().any(|origin| origin == "*")).then_some(origins);
            }
            "cors-allow-credentials" => self.is_without_credentials = value == "false",
            "cors-allow-headers" => {
                self.headers = items(value).filter(|name| is_field(name)).map(String::from).collect()
            }
            "cors-max-age" => self.max_age = nginx_time(value),
            _ => {}
        }
    }

    /// What becomes of an annotation.
    pub(super) fn describe(&self, name: &str, value: &str, subject: &Subject, report: &mut Report) {
        if !self.is_enabled {
            return report.add(Class::NotNeeded, subject, OFF);
        }
        let wrong = |is_good: fn(&str) -> bool| items(value).find(|item| !is_good(item)).map(shown);
        let (class, text) = match name {
            "enable-cors" => (Class::Mapped, format!("`cors` of its streams; {ELSEWHERE}")),
            "cors-allow-methods" => (Class::NotNeeded, "streams are read with GET and HEAD".into()),
            "cors-expose-headers" => (Class::NotNeeded, "what the clients of streams read is exposed".into()),
            "cors-allow-origin" => match wrong(is_origin) {
                Some(origin) => {
                    (Class::Unknown, format!("`{origin}` is no origin that `cors.origins` takes: it was left out"))
                }
                None => (Class::Mapped, "`cors.origins` of its streams".into()),
            },
            "cors-allow-credentials" if self.origins.is_none() => {
                (Class::NotNeeded, "browsers send no credentials where any origin is allowed".into())
            }
            "cors-allow-credentials" => (Class::Mapped, "`cors.credentials` of its streams".into()),
            "cors-allow-headers" => match wrong(is_field) {
                Some(field) => (Class::Unknown, format!("`{field}` is no header field: it was left out")),
                None => (Class::Mapped, "`cors.headers` of its streams".into()),
            },
            _ => match nginx_time(value) {
                None => (Class::Unknown, format!("`{}`: not a number of seconds", shown(value))),
                Some(_) => {
                    (Class::Mapped, format!("`cors.max_age` of its streams, at most {}", write_duration(MAX_AGE_MAX)))
                }
            },
        };
        report.add(class, subject, text);
    }

    /// The policy in YAML, on one line.
    pub(super) fn write(&self) -> String {
        let origins = self.origins.clone().unwrap_or_else(|| vec!["*".into()]);
        let mut text = format!("{{ origins: {}", json!(origins));
        if self.origins.is_some() && !self.is_without_credentials {
            text += ", credentials: true";
        }
        if !self.headers.is_empty() {
            let _ = write!(text, ", headers: {}", json!(self.headers));
        }
        if let Some(ms) = self.max_age {
            let _ = write!(text, ", max_age: {}", write_duration(Duration::from_millis(ms).min(MAX_AGE_MAX)));
        }
        text + " }"
    }
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn is_origin(text: &str) -> bool {
    text == "*" || text.parse::<Pattern>().is_ok()
}

fn is_field(text: &str) -> bool {
    text != "*" && text.parse::<http::HeaderName>().is_ok()
}
