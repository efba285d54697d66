//! `auth.introspection`: the authorization server that is asked about opaque tokens.

use std::net::SocketAddr;

use super::service::{self, Location};
use super::tokens::secret_url;
use super::{Files, secret_file};
use crate::auth::{IntrospectionSettings, TokenKey};
use crate::config::diagnostic::Diagnostics;
use crate::config::keys;
use crate::config::section::Section;
use crate::http_client::TlsRoots;

/// `None` if `auth.introspection` is absent, or is invalid.
pub(super) fn compile(
    auth: &Section<'_>,
    files: Files<'_>,
    roots: Option<&TlsRoots>,
    listeners: (SocketAddr, SocketAddr),
    diagnostics: &Diagnostics,
) -> Option<IntrospectionSettings> {
    let section = auth.section(&keys::INTROSPECTION);
    let key = &keys::INTROSPECTION_URL;
    let uri = secret_url(&section, key, "the network can read the tokens that are sent", diagnostics);
    let leeway = auth.value(&keys::LEEWAY);
    let client_id = section.text(&keys::CLIENT_ID);
    let audience = section.text(&keys::INTROSPECTION_AUDIENCE);
    let secret = section.get(&keys::CLIENT_SECRET_FILE);
    let location = Location { key, uri, is_upstream: false, roots };
    let service = service::compile(&section, location, listeners, diagnostics);
    if !auth.has(&keys::INTROSPECTION) {
        return None;
    }
    section.require(key);
    section.require(&keys::CLIENT_ID);
    section.require(&keys::CLIENT_SECRET_FILE);
    let client_secret = secret_file(&section, &keys::CLIENT_SECRET_FILE, secret?, files, diagnostics).map(TokenKey);
    Some(IntrospectionSettings {
        service: service?,
        client_id: client_id?.into(),
        client_secret,
        audience: audience.map(Into::into),
        leeway,
    })
}
