//! `cors`: which pages of other origins may use a stream, for all routes and for one.

use std::sync::Arc;

use super::is_token;
use crate::config::diagnostic::Diagnostics;
use crate::config::file::Node;
use crate::config::keys::{self, Optional, Sub};
use crate::config::section::{Section, text};
use crate::cors::{AnyWithCredentials, Cors, ORIGINS_MAX, Pattern};

/// The policy of the section `cors` under this key; `None` without the section.
pub(super) fn compile(outer: &Section<'_>, key: &Optional<Sub>, diagnostics: &Diagnostics) -> Option<Arc<Cors>> {
    let section = outer.section(key);
    let credentials = section.value(&keys::CREDENTIALS);
    let max_age = section.value(&keys::MAX_AGE);
    let headers = headers(&section);
    let is_any = section.list(&keys::ORIGINS).iter().any(|node| text(&node.value) == Some("*"));
    let origins = origins(&section, diagnostics);
    if !outer.has(key) {
        return None;
    }
    section.require(&keys::ORIGINS);
    if is_any && credentials {
        diagnostics.expected(section.place_of(&keys::CREDENTIALS), AnyWithCredentials.to_string(), "a list of origins");
    }
    Some(Arc::new(if is_any {
        Cors::any(headers, max_age)
    } else {
        Cors::listed(origins, credentials, headers, max_age)
    }))
}

fn origins(section: &Section<'_>, diagnostics: &Diagnostics) -> Vec<Pattern> {
    let written = section.list(&keys::ORIGINS);
    if written.len() > ORIGINS_MAX {
        diagnostics.wrong(section.place_of(&keys::ORIGINS), format!("there are more than {ORIGINS_MAX} origins"));
    }
    let mut origins: Vec<Pattern> = Vec::new();
    for node in written {
        let Some(written) = text(&node.value) else {
            section.reject(&keys::ORIGINS, node, keys::ORIGINS.kind.expected);
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
            Err(bad) => diagnostics.expected(node.place, format!("`{written}`: {bad}"), keys::ORIGINS.kind.expected),
        }
    }
    origins
}

/// Names of request headers, in lower case.
fn headers(section: &Section<'_>) -> Box<[Box<str>]> {
    let name = |node: &Node| {
        let name = text(&node.value).filter(|name| is_token(name) && *name != "*");
        if name.is_none() {
            section.reject(&keys::CORS_HEADERS, node, keys::CORS_HEADERS.kind.expected);
        }
        name.map(|name| name.to_ascii_lowercase().into())
    };
    section.list(&keys::CORS_HEADERS).iter().filter_map(name).collect()
}
