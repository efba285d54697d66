//! `auth`: the key that tokens are verified with, read and tried against the algorithms.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::secret_file;
use crate::auth::{Algorithm, BadKey, TokenKey, Tokens, Verifier};
use crate::config::diagnostic::{Diagnostics, alternatives};
use crate::config::section::{Section, text};

const LEEWAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(5 * 60);
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

/// Nothing where `auth` is absent, or wrong.
pub(super) fn compile(root: &Section<'_>, base_dir: &Path, diagnostics: &Diagnostics) -> Option<Verifier> {
    if !root.has("auth") {
        return None;
    }
    let section = root.section("auth");
    section.require("key_file", "the file with the HMAC secret or the PEM public key");
    section.require("algorithms", "the algorithms that tokens may be signed with, such as `[HS256]`");
    let key = section.get("key_file").and_then(|node| secret_file(&section, "key_file", node, base_dir, diagnostics));
    let listed = section.list("algorithms").len();
    let tokens = Tokens {
        key: TokenKey(key.clone().unwrap_or_default()),
        algorithms: algorithms(&section),
        issuer: section.text("issuer", "what `iss` must be").map(String::from),
        audience: section.text("audience", "what `aud` must contain").map(String::from),
        cookie: cookie(&section),
        leeway: section.duration("leeway", LEEWAY).unwrap_or(Duration::from_secs(5)),
    };
    // With a part missing, the verifier could only complain of what was reported already.
    let complete = key.is_some() && section.has("algorithms") && tokens.algorithms.len() == listed;
    if !complete {
        return None;
    }
    Verifier::new(tokens)
        .map_err(|error| {
            let key = match error {
                BadKey::NoAlgorithm | BadKey::MixedFamilies => "algorithms",
                BadKey::EmptySecret | BadKey::WrongKey => "key_file",
            };
            diagnostics.wrong(section.place_of(key), format!("`auth.{key}`: {error}"));
        })
        .ok()
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

/// A cookie's name is a token (RFC 6265 section 4.1.1).
fn cookie(section: &Section<'_>) -> Option<String> {
    let name = section.read("cookie", "the name of a cookie", |value| text(value).filter(|text| super::is_token(text)));
    name.map(String::from)
}
