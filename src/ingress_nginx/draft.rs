//! The configuration under construction: values for keys, and routes, each with its origin.
//!
//! It resolves conflicts between settings. `written` renders it as YAML.

use std::collections::BTreeSet;

use super::login::Login;
use super::report::{Class, Report, Subject};
use super::setting::Setting;
use crate::route::Pattern;

/// The most routes of one configuration.
const ROUTES_MAX: usize = 500;

/// The scope of a value. One of an Ingress overrides one of the ConfigMap, as in ingress-nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    ConfigMap,
    Ingress,
}

/// A proposed value for a key.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) setting: Setting,
    /// Milliseconds, or a count.
    pub(super) value: u64,
    pub(super) level: Level,
    pub(super) subject: Subject,
    /// How the value was derived, if it differs from the written one.
    pub(super) reason: Option<String>,
}

/// The guessed path of a stream.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) pattern: String,
    pub(super) transport: &'static str,
    pub(super) stream: String,
    /// Milliseconds, and the setting that they were derived from.
    pub(super) heartbeat: Option<(u64, Subject)>,
    /// The policy `cors`, in YAML.
    pub(super) cors: Option<String>,
    /// The evidence for a stream.
    pub(super) why: String,
    pub(super) subject: Subject,
    /// Only settings indicate a stream: the route forwards other requests for its path to the service.
    pub(super) is_vague: bool,
}

#[derive(Default)]
pub(super) struct Draft {
    candidates: Vec<Candidate>,
    pub(super) routes: Vec<Route>,
    pub(super) login: Login,
    /// The services of the Ingresses, with their ports.
    pub(super) services: BTreeSet<String>,
}

impl Draft {
    pub(super) fn propose(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
    }

    /// The read timeout in the ConfigMap.
    pub(super) fn general_read_timeout(&self) -> Option<(u64, Subject)> {
        let general = self
            .candidates
            .iter()
            .rfind(|candidate| candidate.setting == Setting::ReadTimeout && candidate.level == Level::ConfigMap)?;
        Some((general.value, general.subject.clone()))
    }

    /// Adds a route, unless there is one for the same paths.
    pub(super) fn add_route(&mut self, route: Route, report: &mut Report) {
        let pattern = Pattern::parse(&route.pattern);
        let overlaps = |other: &&Route| match (&pattern, Pattern::parse(&other.pattern)) {
            (Ok(pattern), Ok(other)) => pattern.overlaps(&other),
            _ => false,
        };
        if let Some(earlier) = self.routes.iter().find(overlaps) {
            let text = format!("the route {}, of line {}, serves it too", earlier.pattern, earlier.subject.line);
            return report.add(Class::Mapped, &route.subject, text);
        }
        if self.routes.len() >= ROUTES_MAX {
            let text = format!(
                "more than {ROUTES_MAX} streams: it was left out; import the Ingresses of one service at a time"
            );
            return report.add(Class::Unknown, &route.subject, text);
        }
        let Route { pattern, transport, why, .. } = &route;
        let text = format!("a route, {pattern} ({transport}): a GUESS, as {why}");
        report.add(Class::Mapped, &route.subject, text);
        if let Some((heartbeat, origin)) = &route.heartbeat {
            let heartbeat = Setting::ReadTimeout.write(*heartbeat);
            let text = format!("`heartbeat_interval: {heartbeat}` of the route {pattern}: a third of it, 1s to 20s");
            report.add(Class::Mapped, origin, text);
        }
        self.routes.push(route);
    }

    /// Chooses a value for each key, in the order of the file. The report of a chosen value lists the others.
    pub(super) fn settle(&mut self, report: &mut Report) -> Vec<Candidate> {
        let mut settled: Vec<Candidate> = Vec::new();
        for candidate in &self.candidates {
            match settled.iter_mut().find(|other| other.setting == candidate.setting) {
                None => settled.push(candidate.clone()),
                Some(other) if candidate.is_before(other) => *other = candidate.clone(),
                Some(_) => {}
            }
        }
        for candidate in &self.candidates {
            if let Some(taken) = settled.iter().find(|taken| taken.setting == candidate.setting) {
                report.add(Class::Mapped, &candidate.subject, candidate.description(taken));
            }
        }
        settled.sort_by_key(|candidate| candidate.setting);
        settled
    }
}

impl Candidate {
    /// For times and sizes the largest value is chosen, for retries the smallest.
    fn is_before(&self, other: &Self) -> bool {
        let is_better =
            if self.setting == Setting::Retries { self.value < other.value } else { self.value > other.value };
        self.level > other.level || self.level == other.level && is_better
    }

    /// The text of the report, given that the key has the value `taken`.
    fn description(&self, taken: &Self) -> String {
        let Self { setting, value, subject, reason, .. } = self;
        let (path, written) = (setting.path(), setting.write(taken.value));
        if subject == &taken.subject {
            let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            return format!("`{path}: {written}`{reason}");
        }
        let asked = if *value == taken.value {
            "it says the same".into()
        } else {
            format!("it says {}", setting.write(*value))
        };
        format!("`{path}: {written}` of line {} was taken; {asked}", taken.subject.line)
    }
}
