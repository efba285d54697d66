//! `auth.forward`: the service that authenticates requests.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::report_circle;
use super::tokens::service_url;
use crate::auth::{ForwardSettings, is_forwardable};
use crate::config::diagnostic::Diagnostics;
use crate::config::section::{Section, text};
use crate::config::snapshot::Upstream;

const CACHE_DEFAULT: Duration = Duration::from_secs(10);
const CACHE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(5 * 60);
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60 * 60);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
/// The fields that are forwarded by default.
const REQUEST_HEADERS: [&str; 2] = ["authorization", "cookie"];

/// `None` if `auth.forward` is absent, or names no service.
pub(super) fn compile(
    auth: &Section<'_>,
    upstream: &Upstream,
    listeners: (SocketAddr, SocketAddr),
    diagnostics: &Diagnostics,
) -> Option<ForwardSettings> {
    let section = auth.section("forward");
    let uri = uri(&section, upstream);
    let names = request_headers(&section, diagnostics);
    let claims = claims(&section);
    let interval = section.duration("interval", INTERVAL).unwrap_or(Duration::from_secs(60));
    let cache = section.duration("cache", CACHE).unwrap_or_else(|| CACHE_DEFAULT.min(interval));
    let timeout = section.duration("timeout", TIMEOUT).unwrap_or(Duration::from_secs(5));
    if !auth.has("forward") {
        return None;
    }
    if cache > interval {
        let message = "a cached answer would hold for longer than `auth.forward.interval`";
        diagnostics.wrong(section.place_of("cache"), message);
    }
    section.require("url", "the URL to ask, or a path of the upstream such as `/me`");
    let (uri, is_upstream) = uri?;
    if let Some(authority) = uri.authority().filter(|_| !is_upstream) {
        report_circle(&section, "url", authority.as_str(), listeners, diagnostics);
    }
    Some(ForwardSettings { uri, is_upstream, request_headers: names, claims, cache, interval, timeout })
}

/// The URL, and whether it is the upstream's.
fn uri(section: &Section<'_>, upstream: &Upstream) -> Option<(Uri, bool)> {
    let is_path = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match section.get("url").and_then(|node| text(&node.value)) {
        Some(path) if path.starts_with('/') && is_path(path) => {
            // An error in the address has been reported.
            Some((format!("http://{}{path}", upstream.address).parse().ok()?, true))
        }
        _ => Some((service_url(section, "url")?, false)),
    }
}

fn request_headers(section: &Section<'_>, diagnostics: &Diagnostics) -> Box<[HeaderName]> {
    let mut names: Vec<HeaderName> = Vec::new();
    for node in section.list("request_headers") {
        match text(&node.value).and_then(field).filter(is_forwardable) {
            Some(name) if !names.contains(&name) => names.push(name),
            Some(_) => section.reject("request_headers", node, "each name once"),
            None => section.reject(
                "request_headers",
                node,
                "the name of a header field; fields of the connection, `Host` and `X-Forwarded-*` are set by sidestream",
            ),
        }
    }
    if section.has("request_headers") && section.list("request_headers").is_empty() {
        let message = "`auth.forward.request_headers` is empty: no request would have credentials";
        diagnostics.wrong(section.place_of("request_headers"), message);
    }
    if !section.has("request_headers") {
        names.extend(REQUEST_HEADERS.map(HeaderName::from_static));
    }
    names.into()
}

/// Claims by name, each from a field of the response.
fn claims(section: &Section<'_>) -> Box<[(Box<str>, HeaderName)]> {
    let mut claims = Vec::new();
    for (claim, node) in section.entries("claims") {
        match text(&node.value).and_then(field) {
            Some(name) => claims.push((claim.text.as_str().into(), name)),
            None => section.reject("claims", node, "the name of a header field of the answer"),
        }
    }
    claims.into()
}

fn field(name: &str) -> Option<HeaderName> {
    name.parse().ok()
}
