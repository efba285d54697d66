//! `cors`: which pages of other origins may use a stream, for all routes and for one.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::is_token;
use crate::config::diagnostic::Diagnostics;
use crate::config::file::Node;
use crate::config::section::{Section, text};
use crate::cors::{AnyWithCredentials, Cors, MAX_AGE_MAX, ORIGINS_MAX, Pattern};

const MAX_AGE: RangeInclusive<Duration> = Duration::ZERO..=MAX_AGE_MAX;
const EXPECTED: &str = "an origin as browsers send it, such as `https://app.example`, one with a wildcard as its first \
                        label, `https://*.example`, or `*` alone";

/// The policy of a section `cors`; `None` without the section.
pub(super) fn compile(outer: &Section<'_>, diagnostics: &Diagnostics) -> Option<Arc<Cors>> {
    let section = outer.section("cors");
    let credentials = section.flag("credentials").unwrap_or(false);
    let max_age = section.duration("max_age", MAX_AGE).unwrap_or(Duration::from_secs(600));
    let headers = headers(&section);
    let is_any = section.list("origins").iter().any(|node| text(&node.value) == Some("*"));
    let origins = origins(&section, diagnostics);
    if !outer.has("cors") {
        return None;
    }
    section.require("origins", "which pages may use the streams; an empty list allows none");
    if is_any && credentials {
        diagnostics.expected(section.place_of("credentials"), AnyWithCredentials.to_string(), "a list of origins");
    }
    Some(Arc::new(if is_any {
        Cors::any(headers, max_age)
    } else {
        Cors::listed(origins, credentials, headers, max_age)
    }))
}

fn origins(section: &Section<'_>, diagnostics: &Diagnostics) -> Vec<Pattern> {
    let written = section.list("origins");
    if written.len() > ORIGINS_MAX {
        diagnostics.wrong(section.place_of("origins"), format!("there are more than {ORIGINS_MAX} origins"));
    }
    let mut origins: Vec<Pattern> = Vec::new();
    for node in written {
        let Some(written) = text(&node.value) else {
            section.reject("origins", node, EXPECTED);
            continue;
        };
        match written.parse::<Pattern>() {
            _ if written == "*" => {}
            Ok(pattern) if origins.contains(&pattern) => {
                diagnostics.wrong(node.place, format!("`{written}` is listed twice"));
            }
            Ok(pattern) => {
                if pattern.is_top_level() {
                    let message = format!("`{written}` allows every site below a top-level domain");
                    diagnostics.warn(node.place, message);
                }
                origins.push(pattern);
            }
            Err(bad) => diagnostics.expected(node.place, format!("`{written}`: {bad}"), EXPECTED),
        }
    }
    origins
}

/// Names of request headers, in lower case.
fn headers(section: &Section<'_>) -> Box<[Box<str>]> {
    let name = |node: &Node| {
        let name = text(&node.value).filter(|name| is_token(name) && *name != "*");
        if name.is_none() {
            section.reject("headers", node, "the name of a request header, such as `X-Tenant`");
        }
        name.map(|name| name.to_ascii_lowercase().into())
    };
    section.list("headers").iter().filter_map(name).collect()
}
