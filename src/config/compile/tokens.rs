//! `auth`: the accepted issuers. Their keys are read and checked against the algorithms.

use http::Uri;

use super::{Files, api_keys, client_certificates, secret_file};
use crate::auth::{
    Algorithm, BadKey, Issuer, KeyFile, KeyLocation, KeySource, SECRET_BYTES_MIN, Tickets, TokenKey, TrustedIssuer,
    Verifier,
};
use crate::config::diagnostic::Diagnostics;
use crate::config::keys::{self, ALGORITHM_NAMES, Entry};
use crate::config::section::{Section, text};
use crate::http_client::{TlsRoots, is_loopback};

/// A possible source of an issuer's keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyPlace {
    File,
    Set,
    Url,
    Discovery,
}

const KEY_PLACES: [(KeyPlace, &dyn Entry); 4] = [
    (KeyPlace::File, &keys::KEY_FILE),
    (KeyPlace::Set, &keys::JWKS_FILE),
    (KeyPlace::Url, &keys::JWKS_URL),
    (KeyPlace::Discovery, &keys::DISCOVERY),
];

/// `None` if `auth` is absent or invalid.
pub(super) fn compile(
    root: &Section<'_>,
    section: &Section<'_>,
    files: Files<'_>,
    roots: Option<&TlsRoots>,
    diagnostics: &Diagnostics,
) -> Option<Verifier> {
    if !root.has(&keys::AUTH_SECTION) {
        return None;
    }
    let api_keys = api_keys::compile(section, files, diagnostics);
    let certificates = client_certificates::compile(section, diagnostics);
    let others: [&dyn Entry; 4] = [&keys::API_KEYS, &keys::INTROSPECTION, &keys::FORWARD, &keys::CLIENT_CERTIFICATES];
    let issuers = if !has_issuers(section) && others.into_iter().any(|key| section.has(key)) {
        report_without_issuers(section, diagnostics);
        Some(Vec::new())
    } else if section.has(&keys::ISSUERS) {
        several(section, files, roots, diagnostics)
    } else {
        issuer(section, files, roots, diagnostics).map(|only| vec![only])
    };
    let leeway = section.value(&keys::LEEWAY);
    let cookie = cookie(section);
    let tickets = tickets(section, files, diagnostics);
    let verifier = Verifier::new(issuers?, cookie, leeway).with_tickets(tickets).with_api_keys(api_keys);
    Some(verifier.with_client_certificates(certificates))
}

/// Whether there is a list of issuers, or one issuer directly under `auth`.
pub(super) fn has_issuers(auth: &Section<'_>) -> bool {
    auth.has(&keys::ISSUERS) || keys::ISSUER.keys().any(|key| auth.has(key))
}

/// Reports keys that need a token of an issuer, or any token.
fn report_without_issuers(auth: &Section<'_>, diagnostics: &Diagnostics) {
    let useless: &[&dyn Entry] = match () {
        () if auth.has(&keys::INTROSPECTION) => &[],
        () if auth.has(&keys::API_KEYS) => &[&keys::COOKIE],
        () => &[&keys::COOKIE, &keys::TICKETS],
    };
    for key in useless.iter().copied().filter(|key| auth.has(*key)) {
        let message = format!("`{}` is of no use without an issuer: no token is verified", auth.path_of(key));
        diagnostics.expected(auth.place_of(key), message, "`auth.issuers`");
    }
}

/// `None` if tickets are not configured, or are invalid.
fn tickets(auth: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Option<Tickets> {
    let section = auth.section(&keys::TICKETS);
    let lifetime = section.value(&keys::TICKET_LIFETIME);
    let is_path =
        |text: &str| text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#%".contains(&b));
    let path = section.parse(&keys::TICKET_PATH, |text| is_path(text).then_some(text));
    if !auth.has(&keys::TICKETS) {
        return None;
    }
    section.require(&keys::TICKET_KEY_FILE);
    let node = section.get(&keys::TICKET_KEY_FILE)?;
    let secret = secret_file(&section, &keys::TICKET_KEY_FILE, node, files, diagnostics);
    if let Some(bytes) = secret.as_ref().map(Vec::len).filter(|bytes| *bytes < SECRET_BYTES_MIN) {
        let message = format!("the secret has {bytes} bytes: with less than {SECRET_BYTES_MIN} it can be guessed");
        diagnostics.wrong(section.place_of(&keys::TICKET_KEY_FILE), message);
    }
    Some(Tickets::new(secret.as_deref(), lifetime, path.unwrap_or(keys::TICKET_PATH.default.0).into()))
}

/// Several issuers, which must have distinct names: tokens select one by `iss`.
fn several(
    auth: &Section<'_>,
    files: Files<'_>,
    roots: Option<&TlsRoots>,
    diagnostics: &Diagnostics,
) -> Option<Vec<TrustedIssuer>> {
    let nodes = auth.list(&keys::ISSUERS);
    if nodes.is_empty() {
        diagnostics.wrong(auth.place_of(&keys::ISSUERS), "`auth.issuers` is empty: no token would be accepted");
    }
    let mut names: Vec<&str> = Vec::new();
    let mut issuers = Vec::new();
    for node in nodes {
        let section = Section::open("auth.issuers", node, diagnostics);
        section.require_as(&keys::ISSUER_NAME, "what `iss` is in its tokens");
        if let Some(name) = section.text(&keys::ISSUER_NAME) {
            if names.contains(&name) {
                diagnostics.wrong(section.place_of(&keys::ISSUER_NAME), format!("the issuer `{name}` is listed twice"));
            }
            names.push(name);
        }
        issuers.extend(issuer(&section, files, roots, diagnostics));
    }
    (!issuers.is_empty()).then_some(issuers)
}

fn issuer(
    section: &Section<'_>,
    files: Files<'_>,
    roots: Option<&TlsRoots>,
    diagnostics: &Diagnostics,
) -> Option<TrustedIssuer> {
    section.require_as(&keys::ALGORITHMS, "the algorithms that tokens may be signed with, such as `[HS256]`");
    let (key, file) = key_file(section, files, roots, diagnostics);
    let listed = section.list(&keys::ALGORITHMS).len();
    let issuer = Issuer {
        name: section.text(&keys::ISSUER_NAME).map(String::from),
        audience: section.text(&keys::AUDIENCE).map(String::from),
        algorithms: algorithms(section),
        key_file: file?,
    };
    // With a missing part, further errors would repeat what was reported.
    if !section.has(&keys::ALGORITHMS) || issuer.algorithms.len() != listed {
        return None;
    }
    let trusted = TrustedIssuer::new(issuer).map_err(|error| {
        let is_of_algorithms = matches!(error, BadKey::NoAlgorithm | BadKey::MixedFamilies);
        let key = if is_of_algorithms { &keys::ALGORITHMS } else { key };
        diagnostics.wrong(section.place_of(key), format!("`{}`: {error}", section.path_of(key)));
    });
    let trusted = trusted.ok()?;
    if let Some(bytes) = trusted.shortest_secret().filter(|bytes| *bytes < SECRET_BYTES_MIN) {
        let message = format!("the secret has {bytes} bytes: with less than {SECRET_BYTES_MIN} it can be guessed");
        diagnostics.warn(section.place_of(key), message);
    }
    Some(trusted)
}

/// The one key with the source of the issuer's keys, and its value.
fn key_file(
    section: &Section<'_>,
    files: Files<'_>,
    roots: Option<&TlsRoots>,
    diagnostics: &Diagnostics,
) -> (&'static dyn Entry, Option<KeyFile>) {
    let read = |key, form: fn(TokenKey) -> KeyFile| {
        if !files.is_read {
            return section.get(key).map(|_| KeyFile::Unread);
        }
        let bytes = section.get(key).and_then(|node| secret_file(section, key, node, files, diagnostics));
        bytes.map(TokenKey).map(form)
    };
    let keep = section.value(&keys::JWKS_KEEP);
    let remote = |location| KeyFile::Remote(KeySource { location, keep, roots: roots.cloned() });
    let has_discovery = section.value(&keys::DISCOVERY);
    let is_given = |(place, key): &(KeyPlace, &'static dyn Entry)| match place {
        KeyPlace::Discovery => has_discovery,
        KeyPlace::File | KeyPlace::Set | KeyPlace::Url => section.has(*key),
    };
    let given: Vec<_> = KEY_PLACES.into_iter().filter(is_given).collect();
    match given[..] {
        [] => {
            let meaning = "the file with the HMAC secret or the PEM public key; or `jwks_file`, `jwks_url`";
            section.require_as(&keys::KEY_FILE, meaning);
            (&keys::KEY_FILE, None)
        }
        [(KeyPlace::File, key)] => (key, read(key, KeyFile::Single)),
        [(KeyPlace::Set, key)] => (key, read(key, KeyFile::Set)),
        [(KeyPlace::Url, key)] => (key, url(section, key, diagnostics).map(KeyLocation::Jwks).map(remote)),
        [(KeyPlace::Discovery, key)] => {
            section.require_as(&keys::ISSUER_NAME, "the URL of the issuer, below which its metadata are");
            let issuer = url(section, &keys::ISSUER_NAME, diagnostics).and_then(|_| section.text(&keys::ISSUER_NAME));
            (key, issuer.map(String::from).map(KeyLocation::Discovery).map(remote))
        }
        [(_, first), (_, second), ..] => {
            let message =
                format!("`{}` and `{}` are two answers to one question", section.path_of(second), first.name());
            diagnostics.expected(section.place_of(second), message, "one of them");
            (second, None)
        }
    }
}

/// A URL that keys are requested from. Without TLS, an attacker on the network could replace the keys.
fn url(section: &Section<'_>, key: &dyn Entry, diagnostics: &Diagnostics) -> Option<Uri> {
    secret_url(section, key, "the network can replace the keys that tokens are verified with", diagnostics)
}

/// A URL that should have TLS unless it is local, with what can happen without.
pub(super) fn secret_url(
    section: &Section<'_>,
    key: &dyn Entry,
    danger: &str,
    diagnostics: &Diagnostics,
) -> Option<Uri> {
    let url = service_url(section, key)?;
    if url.scheme_str() == Some("http") && !is_loopback(&url) {
        diagnostics.warn(section.place_of(key), format!("without TLS, {danger}"));
    }
    Some(url)
}

/// The URL of a service that is sent requests.
pub(super) fn service_url(section: &Section<'_>, key: &dyn Entry) -> Option<Uri> {
    // The issuer's own expectation is that of any text.
    section.parse_as(key, keys::URL, |text| {
        let url: Uri = text.parse().ok()?;
        let authority = url.authority()?.as_str();
        (matches!(url.scheme_str(), Some("http" | "https")) && !authority.contains('@')).then_some(url)
    })
}

fn algorithms(section: &Section<'_>) -> Vec<Algorithm> {
    let mut algorithms = Vec::new();
    for node in section.list(&keys::ALGORITHMS) {
        let written = text(&node.value).unwrap_or_default();
        match ALGORITHM_NAMES.iter().find(|(name, _)| *name == written) {
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None => section.reject(&keys::ALGORITHMS, node, keys::ALGORITHMS.kind.expected),
        }
    }
    algorithms
}

/// The name of a cookie is a token (RFC 6265 section 4.1.1).
fn cookie(section: &Section<'_>) -> Option<String> {
    let name = section.parse(&keys::COOKIE, |text| super::is_token(text).then_some(text));
    name.map(String::from)
}
