//! `registry` and `registries`: where schemas are requested, and with which credentials.

use std::sync::Arc;

use super::tokens::secret_url;
use super::{Files, roots, secret_file};
use crate::config::diagnostic::Diagnostics;
use crate::config::file::Name;
use crate::config::keys;
use crate::config::section::Section;
use crate::config::snapshot::DEFAULT_REGISTRY;
use crate::schema_registry::{Credentials, Registry, RegistrySettings};

/// Each registry has a cache and connections.
const REGISTRIES_MAX: usize = 16;

/// All registries: that of the section `registry` first. An invalid one is absent.
pub(super) fn compile(root: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Vec<Arc<Registry>> {
    let section = root.section(&keys::REGISTRY_SECTION);
    let first = registry(DEFAULT_REGISTRY, &section, files, diagnostics);
    let is_present = root.has(&keys::REGISTRY_SECTION);
    if is_present {
        section.require(&keys::REGISTRY_URL);
    }
    let mut registries: Vec<_> = first.into_iter().filter(|_| is_present).collect();
    let others = root.entries(&keys::REGISTRIES);
    if others.len() + usize::from(is_present) > REGISTRIES_MAX {
        diagnostics.wrong(root.place_of(&keys::REGISTRIES), format!("more than {REGISTRIES_MAX} registries"));
    }
    for (name, node) in others {
        check_name(name, diagnostics);
        let section = Section::open(&format!("registries.{}", name.text), node, diagnostics);
        section.require(&keys::REGISTRY_URL);
        registries.extend(registry(&name.text, &section, files, diagnostics));
    }
    registries.into_iter().map(|settings| Arc::new(Registry::new(settings))).collect()
}

fn check_name(name: &Name, diagnostics: &Diagnostics) {
    if name.text == DEFAULT_REGISTRY {
        let message = format!("`{DEFAULT_REGISTRY}` is the registry of the section `registry`");
        diagnostics.expected(name.place, message, "another name");
    }
}

fn registry(
    name: &str,
    section: &Section<'_>,
    files: Files<'_>,
    diagnostics: &Diagnostics,
) -> Option<RegistrySettings> {
    let url = secret_url(section, &keys::REGISTRY_URL, "the network can read and change schemas", diagnostics);
    let credentials = credentials(section, files, diagnostics);
    let roots = roots(section, &keys::REGISTRY_CA_FILE, files, diagnostics);
    let wait = section.value(&keys::REGISTRY_WAIT);
    let url = url?.to_string().trim_end_matches('/').into();
    Some(RegistrySettings { name: name.into(), url, credentials, roots, wait })
}

/// With a user, HTTP Basic authentication; without one, a bearer token.
fn credentials(section: &Section<'_>, files: Files<'_>, diagnostics: &Diagnostics) -> Option<Credentials> {
    let (user, secret) = (section.text(&keys::REGISTRY_USERNAME), section.get(&keys::REGISTRY_SECRET_FILE));
    let Some(node) = secret else {
        if user.is_some() {
            let place = section.place_of(&keys::REGISTRY_USERNAME);
            diagnostics.expected(place, "a user without a password", "`secret_file`, too");
        }
        return None;
    };
    let secret = secret_file(section, &keys::REGISTRY_SECRET_FILE, node, files, diagnostics)?;
    let credentials = match user {
        Some(user) => Credentials::basic(user, &secret),
        None => Credentials::bearer(&secret),
    };
    if credentials.is_none() {
        let message = format!("`{}`: the file has no token", section.path_of(&keys::REGISTRY_SECRET_FILE));
        diagnostics.wrong(node.place, message);
    }
    credentials
}
