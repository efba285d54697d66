//! `auth.forward`: the service that authenticates requests.

use std::net::SocketAddr;

use http::header::AUTHORIZATION;
use http::{HeaderName, Uri};

use super::service::{self, Location};
use super::tokens::{has_issuers, service_url};
use crate::auth::{ForwardSettings, is_forwardable};
use crate::config::diagnostic::Diagnostics;
use crate::config::keys;
use crate::config::section::{Section, text};
use crate::config::snapshot::Upstream;
use crate::http_client::TlsRoots;

/// `None` if `auth.forward` is absent, or names no service.
pub(super) fn compile(
    auth: &Section<'_>,
    upstream: &Upstream,
    roots: Option<&TlsRoots>,
    listeners: (SocketAddr, SocketAddr),
    diagnostics: &Diagnostics,
) -> Option<ForwardSettings> {
    let section = auth.section(&keys::FORWARD);
    let uri = uri(&section, upstream);
    let names = request_headers(&section, diagnostics);
    let claims = claims(&section);
    let (uri, is_upstream) = uri.unzip();
    let is_upstream = is_upstream.unwrap_or_default();
    let location = Location { key: &keys::FORWARD_URL, uri, is_upstream, roots };
    let service = service::compile(&section, location, listeners, diagnostics);
    if !auth.has(&keys::FORWARD) {
        return None;
    }
    section.require(&keys::FORWARD_URL);
    let takes_other_tokens = has_issuers(auth) || auth.has(&keys::INTROSPECTION);
    if auth.has(&keys::API_KEYS) && !takes_other_tokens && names.contains(&AUTHORIZATION) {
        let message = "with `auth.api_keys`, a request with `Authorization: Bearer` must have a key: this service is asked \
                       about requests without one";
        diagnostics.warn(auth.place_of(&keys::FORWARD), message);
    }
    Some(ForwardSettings { service: service?, is_upstream, request_headers: names, claims })
}

/// The URL, and whether it is the upstream's.
fn uri(section: &Section<'_>, upstream: &Upstream) -> Option<(Uri, bool)> {
    let is_path = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match section.get(&keys::FORWARD_URL).and_then(|node| text(&node.value)) {
        Some(path) if path.starts_with('/') && is_path(path) => {
            // An error in the address has been reported.
            Some((format!("http://{}{path}", upstream.address).parse().ok()?, true))
        }
        _ => Some((service_url(section, &keys::FORWARD_URL)?, false)),
    }
}

fn request_headers(section: &Section<'_>, diagnostics: &Diagnostics) -> Box<[HeaderName]> {
    let mut names: Vec<HeaderName> = Vec::new();
    for node in section.list(&keys::REQUEST_HEADERS) {
        match text(&node.value).and_then(field).filter(is_forwardable) {
            Some(name) if !names.contains(&name) => names.push(name),
            Some(_) => section.reject(&keys::REQUEST_HEADERS, node, "each name once"),
            None => section.reject(&keys::REQUEST_HEADERS, node, keys::REQUEST_HEADERS.kind.expected),
        }
    }
    if section.has(&keys::REQUEST_HEADERS) && section.list(&keys::REQUEST_HEADERS).is_empty() {
        let message = "`auth.forward.request_headers` is empty: no request would have credentials";
        diagnostics.wrong(section.place_of(&keys::REQUEST_HEADERS), message);
    }
    if !section.has(&keys::REQUEST_HEADERS) {
        names.extend(keys::REQUEST_HEADERS.default.0.iter().filter_map(|name| field(name)));
    }
    names.into()
}

/// Claims by name, each from a field of the response.
fn claims(section: &Section<'_>) -> Box<[(Box<str>, HeaderName)]> {
    let mut claims = Vec::new();
    for (claim, node) in section.entries(&keys::FORWARD_CLAIMS) {
        match text(&node.value).and_then(field) {
            Some(name) => claims.push((claim.text.as_str().into(), name)),
            None => section.reject(&keys::FORWARD_CLAIMS, node, keys::FORWARD_CLAIMS.kind.expected),
        }
    }
    claims.into()
}

fn field(name: &str) -> Option<HeaderName> {
    name.parse().ok()
}
