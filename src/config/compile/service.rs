//! Services that are asked who a request is from: how long their answers hold, and where they are.

use std::net::SocketAddr;

use http::Uri;

use super::report_circle;
use crate::auth::ServiceSettings;
use crate::config::diagnostic::Diagnostics;
use crate::config::keys::{self, Entry, Valued};
use crate::config::section::Section;
use crate::http_client::TlsRoots;

/// Where a service is.
pub(super) struct Location<'a> {
    /// The key of its URL.
    pub(super) key: &'a dyn Entry,
    /// `None` if it is invalid.
    pub(super) uri: Option<Uri>,
    pub(super) is_upstream: bool,
    pub(super) roots: Option<&'a TlsRoots>,
}

/// The settings of a service. `None` without a valid URL.
pub(super) fn compile(
    section: &Section<'_>,
    Location { key, uri, is_upstream, roots }: Location<'_>,
    listeners: (SocketAddr, SocketAddr),
    diagnostics: &Diagnostics,
) -> Option<ServiceSettings> {
    let interval = section.value(&keys::SERVICE_INTERVAL);
    let cache =
        section.written(&keys::SERVICE_CACHE).unwrap_or_else(|| keys::SERVICE_CACHE.default.value().min(interval));
    let timeout = section.value(&keys::SERVICE_TIMEOUT);
    if cache > interval {
        let path = section.path_of(&keys::SERVICE_INTERVAL);
        let message = format!("a cached answer would hold for longer than `{path}`");
        diagnostics.wrong(section.place_of(&keys::SERVICE_CACHE), message);
    }
    let uri = uri?;
    if let Some(authority) = uri.authority().filter(|_| !is_upstream) {
        report_circle(section, key, authority.as_str(), listeners, diagnostics);
    }
    Some(ServiceSettings { uri, is_direct: is_upstream, roots: roots.cloned(), cache, interval, timeout })
}
