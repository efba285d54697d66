//! `auth.api_keys`: the file with the hashes of API keys.

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};

use super::{Files, named_file};
use crate::auth::{ApiKeys, is_forwardable};
use crate::config::CONFIG_BYTES_MAX;
use crate::config::diagnostic::Diagnostics;
use crate::config::keys;
use crate::config::section::Section;

/// `None` if `auth.api_keys` is absent, or its file is invalid.
pub(super) fn compile(auth: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Option<ApiKeys> {
    let section = auth.section(&keys::API_KEYS);
    let header = section.parse(&keys::API_KEYS_HEADER, header);
    let header = header.or_else(|| header_name(keys::API_KEYS_HEADER.default.0));
    let node = section.get(&keys::API_KEYS_FILE);
    if !auth.has(&keys::API_KEYS) {
        return None;
    }
    section.require(&keys::API_KEYS_FILE);
    let (header, node) = (header?, node?);
    if !files.is_read {
        return Some(ApiKeys::unread(header));
    }
    let text = named_file(&section, &keys::API_KEYS_FILE, node, files, CONFIG_BYTES_MAX, diagnostics)?;
    let refused = |error| {
        let message = format!("`{}`: {error}", section.path_of(&keys::API_KEYS_FILE));
        diagnostics.wrong(section.place_of(&keys::API_KEYS_FILE), message);
    };
    ApiKeys::read(header, &text).map_err(refused).ok()
}

/// The name of a field that nothing else uses.
fn header(name: &str) -> Option<HeaderName> {
    header_name(name).filter(|name| is_forwardable(name) && ![AUTHORIZATION, COOKIE].contains(name))
}

fn header_name(name: &str) -> Option<HeaderName> {
    name.parse().ok()
}
