//! `auth`: the accepted issuers. Their keys are read and checked against the algorithms.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::Uri;

use super::{Files, secret_file};
use crate::auth::{
    Algorithm, BadKey, Issuer, KeyFile, KeyLocation, KeySource, SECRET_BYTES_MIN, Tickets, TokenKey, TrustedIssuer,
    Verifier,
};
use crate::config::diagnostic::{Diagnostics, alternatives};
use crate::config::section::{Section, text};
use crate::http_client::is_loopback;

const ISSUER: &str = "what `iss` must be";
/// The possible sources of an issuer's keys.
const KEY_PLACES: [&str; 4] = ["key_file", "jwks_file", "jwks_url", "discovery"];
/// What names an issuer.
const ISSUER_KEYS: [&str; 9] =
    ["issuers", "issuer", "audience", "algorithms", "key_file", "jwks_file", "jwks_url", "discovery", "jwks_keep"];
/// How long keys are used after they could not be requested again.
const JWKS_KEEP: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 60 * 60);
const LEEWAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(5 * 60);
const TICKET_LIFETIME: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5 * 60);
const TICKET_PATH: &str = "/.well-known/sidestream/tickets";
const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// `None` if `auth` is absent or invalid.
pub(super) fn compile(
    root: &Section<'_>,
    section: &Section<'_>,
    files: Files<'_>,
    diagnostics: &Diagnostics,
) -> Option<Verifier> {
    if !root.has("auth") {
        return None;
    }
    let has_issuer = ISSUER_KEYS.iter().any(|key| section.has(key));
    let is_alone = section.has("forward") && !has_issuer;
    let issuers = if is_alone {
        report_without_issuers(section, diagnostics);
        Some(Vec::new())
    } else if section.has("issuers") {
        several(section, files, diagnostics)
    } else {
        issuer(section, files, diagnostics).map(|only| vec![only])
    };
    let leeway = section.duration("leeway", LEEWAY).unwrap_or(Duration::from_secs(5));
    let cookie = cookie(section);
    let tickets = tickets(section, files, diagnostics);
    issuers.map(|issuers| Verifier::new(issuers, cookie, leeway).with_tickets(tickets))
}

/// Keys that need a token.
fn report_without_issuers(auth: &Section<'_>, diagnostics: &Diagnostics) {
    for key in ["cookie", "tickets"].into_iter().filter(|key| auth.has(key)) {
        let message = format!("`auth.{key}` is of no use without an issuer: `auth.forward` verifies no token");
        diagnostics.expected(auth.place_of(key), message, "`auth.issuers`");
    }
}

/// `None` if tickets are not configured, or are invalid.
fn tickets(auth: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Option<Tickets> {
    let section = auth.section("tickets");
    let lifetime = section.duration("lifetime", TICKET_LIFETIME).unwrap_or(Duration::from_secs(30));
    let is_path =
        |text: &&str| text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#%".contains(&b));
    let path = section.read("path", "a path such as `/tickets`", |value| text(value).filter(is_path));
    if !auth.has("tickets") {
        return None;
    }
    section.require("key_file", "the file with the secret that signs tickets, the same on every replica");
    let node = section.get("key_file")?;
    let secret = secret_file(&section, "key_file", node, files, diagnostics);
    if let Some(bytes) = secret.as_ref().map(Vec::len).filter(|bytes| *bytes < SECRET_BYTES_MIN) {
        let message = format!("the secret has {bytes} bytes: with less than {SECRET_BYTES_MIN} it can be guessed");
        diagnostics.wrong(section.place_of("key_file"), message);
    }
    Some(Tickets::new(secret.as_deref(), lifetime, path.unwrap_or(TICKET_PATH).into()))
}

/// Several issuers, which must have distinct names: tokens select one by `iss`.
fn several(auth: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Option<Vec<TrustedIssuer>> {
    let nodes = auth.list("issuers");
    if nodes.is_empty() {
        diagnostics.wrong(auth.place_of("issuers"), "`auth.issuers` is empty: no token would be accepted");
    }
    let mut names: Vec<&str> = Vec::new();
    let mut issuers = Vec::new();
    for node in nodes {
        let section = Section::open("auth.issuers", node, diagnostics);
        section.require("issuer", "what `iss` is in its tokens");
        if let Some(name) = section.text("issuer", ISSUER) {
            if names.contains(&name) {
                diagnostics.wrong(section.place_of("issuer"), format!("the issuer `{name}` is listed twice"));
            }
            names.push(name);
        }
        issuers.extend(issuer(&section, files, diagnostics));
    }
    (!issuers.is_empty()).then_some(issuers)
}

fn issuer(section: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Option<TrustedIssuer> {
    section.require("algorithms", "the algorithms that tokens may be signed with, such as `[HS256]`");
    let (key, file) = key_file(section, files, diagnostics);
    let listed = section.list("algorithms").len();
    let issuer = Issuer {
        name: section.text("issuer", ISSUER).map(String::from),
        audience: section.text("audience", "what `aud` must contain").map(String::from),
        algorithms: algorithms(section),
        key_file: file?,
    };
    // With a missing part, further errors would repeat what was reported.
    if !section.has("algorithms") || issuer.algorithms.len() != listed {
        return None;
    }
    let trusted = TrustedIssuer::new(issuer).map_err(|error| {
        let key = if matches!(error, BadKey::NoAlgorithm | BadKey::MixedFamilies) { "algorithms" } else { key };
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
fn key_file(section: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> (&'static str, Option<KeyFile>) {
    let read = |key| {
        if !files.is_read {
            return section.get(key).map(|_| KeyFile::Unread);
        }
        let bytes = section.get(key).and_then(|node| secret_file(section, key, node, files, diagnostics));
        bytes.map(TokenKey).map(if key == "jwks_file" { KeyFile::Set } else { KeyFile::Single })
    };
    let is_given =
        |key: &&'static str| if *key == "discovery" { section.flag(key) == Some(true) } else { section.has(key) };
    let keep = section.duration("jwks_keep", JWKS_KEEP).unwrap_or(Duration::from_secs(24 * 60 * 60));
    let remote = |location| KeyFile::Remote(KeySource { location, keep });
    let given: Vec<&'static str> = KEY_PLACES.into_iter().filter(is_given).collect();
    match given[..] {
        [] => {
            section
                .require("key_file", "the file with the HMAC secret or the PEM public key; or `jwks_file`, `jwks_url`");
            ("key_file", None)
        }
        [key @ "jwks_url"] => (key, url(section, key, diagnostics).map(KeyLocation::Jwks).map(remote)),
        [key @ "discovery"] => {
            section.require("issuer", "the URL of the issuer, below which its metadata are");
            let issuer = url(section, "issuer", diagnostics).and_then(|_| section.text("issuer", ISSUER));
            (key, issuer.map(String::from).map(KeyLocation::Discovery).map(remote))
        }
        [key] => (key, read(key)),
        [first, second, ..] => {
            let message = format!("`{}` and `{first}` are two answers to one question", section.path_of(second));
            diagnostics.expected(section.place_of(second), message, "one of them");
            (second, None)
        }
    }
}

/// A URL that keys are requested from. Without TLS, an attacker on the network could replace the keys.
fn url(section: &Section<'_>, key: &'static str, diagnostics: &Diagnostics) -> Option<Uri> {
    let url = service_url(section, key)?;
    if url.scheme_str() == Some("http") && !is_loopback(&url) {
        diagnostics
            .warn(section.place_of(key), "without TLS, the network can replace the keys that tokens are verified with");
    }
    Some(url)
}

/// The URL of a service that is sent requests.
pub(super) fn service_url(section: &Section<'_>, key: &'static str) -> Option<Uri> {
    section.read(key, "a URL such as `https://login.example/x`, without a user", |value| {
        let url: Uri = text(value)?.parse().ok()?;
        let authority = url.authority()?.as_str();
        (matches!(url.scheme_str(), Some("http" | "https")) && !authority.contains('@')).then_some(url)
    })
}

fn algorithms(section: &Section<'_>) -> Vec<Algorithm> {
    let mut algorithms = Vec::new();
    for node in section.list("algorithms") {
        let written = text(&node.value).unwrap_or_default();
        match ALGORITHMS.iter().find(|(name, _)| *name == written) {
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None => section.reject("algorithms", node, alternatives(ALGORITHMS.map(|(name, _)| name))),
        }
    }
    algorithms
}

/// The name of a cookie is a token (RFC 6265 section 4.1.1).
fn cookie(section: &Section<'_>) -> Option<String> {
    let name = section.read("cookie", "the name of a cookie", |value| text(value).filter(|text| super::is_token(text)));
    name.map(String::from)
}
