//! `tls`: the certificates of the listener and their keys. The files are read and checked here, and again when they change.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Files, named_file, secret_file};
use crate::config::CONFIG_BYTES_MAX;
use crate::config::certificates::Certificates;
use crate::config::diagnostic::Diagnostics;
use crate::config::file::Place;
use crate::config::keys;
use crate::config::section::{Section, text};
use crate::tls::{Identity, IdentityError, ServerTls};

/// The certificates of the listener: TLS with them, and their expiry.
#[derive(Default)]
pub(super) struct Compiled {
    /// `None` if `tls` is absent or invalid, or if files are not read.
    pub(super) server: Option<ServerTls>,
    pub(super) certificates: Vec<Certificates>,
}

/// A valid certificate with its key, and the place of its name.
type Found = (Identity, Place);

pub(super) fn compile(root: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Compiled {
    let section = root.section(&keys::TLS_SECTION);
    if !root.has(&keys::TLS_SECTION) {
        return Compiled::default();
    }
    let mut compiled = Compiled::default();
    // Without a question about the others, they are unknown keys beside a list.
    let found: Vec<Found> = if section.has(&keys::CERTIFICATES) {
        let nodes = section.list(&keys::CERTIFICATES);
        if nodes.is_empty() {
            diagnostics.wrong(section.place_of(&keys::CERTIFICATES), "`tls.certificates` is empty");
        }
        let several = nodes.iter().map(|node| Section::open("tls.certificates", node, diagnostics));
        several.filter_map(|one| identity(&one, files, &mut compiled.certificates, diagnostics)).collect()
    } else {
        identity(&section, files, &mut compiled.certificates, diagnostics).into_iter().collect()
    };
    let (identities, places): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    if !identities.is_empty() {
        match ServerTls::new(&identities) {
            Ok(server) => compiled.server = Some(server),
            Err((at, error)) => diagnostics.wrong(places[at], format!("`tls`: {error}")),
        }
    }
    compiled
}

/// A certificate and its key. `None` if the section is invalid, or if files are not read.
fn identity(
    section: &Section<'_>,
    files: Files<'_>,
    certificates: &mut Vec<Certificates>,
    diagnostics: &Diagnostics,
) -> Option<Found> {
    section.require_as(&keys::CERTIFICATE_FILE, "the file of a certificate in PEM");
    section.require_as(&keys::PRIVATE_KEY_FILE, "the file of its private key in PEM");
    let (certificate, key) = (section.get(&keys::CERTIFICATE_FILE), section.get(&keys::PRIVATE_KEY_FILE));
    let pem = certificate
        .and_then(|node| named_file(section, &keys::CERTIFICATE_FILE, node, files, CONFIG_BYTES_MAX, diagnostics));
    let secret = key.and_then(|node| secret_file(section, &keys::PRIVATE_KEY_FILE, node, files, diagnostics));
    let (node, pem, secret) = (certificate?, pem?, secret?);
    let identity = match Identity::from_pem(&pem, &secret) {
        Ok(identity) => identity,
        Err(error) => {
            let (place, path) = match error {
                IdentityError::NoKey => (key?.place, section.path_of(&keys::PRIVATE_KEY_FILE)),
                _ => (node.place, section.path_of(&keys::CERTIFICATE_FILE)),
            };
            diagnostics.wrong(place, format!("`{path}`: {error}"));
            return None;
        }
    };
    report_time(&identity, section, files, node.place, diagnostics);
    let file: PathBuf = files.base_dir.join(text(&node.value).unwrap_or_default());
    let property = "tls.certificate";
    certificates.extend(identity.end().map(|end| Certificates { cluster: "".into(), property, file, end }));
    Some((identity, node.place))
}

/// Reports a certificate that clients reject at present. A process that runs with it nevertheless serves the others, and
/// uses a new one as soon as its file is replaced.
fn report_time(identity: &Identity, section: &Section<'_>, files: Files<'_>, place: Place, diagnostics: &Diagnostics) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let state = if identity.end().is_some_and(|end| u64::try_from(end).unwrap_or_default() <= now) {
        "has expired"
    } else if identity.is_early() {
        "is not valid yet"
    } else {
        return;
    };
    let message = format!("`{}`: a certificate {state}", section.path_of(&keys::CERTIFICATE_FILE));
    if files.is_run { diagnostics.warn(place, message) } else { diagnostics.wrong(place, message) }
}
