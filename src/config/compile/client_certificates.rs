//! `auth.client_certificates`: the proxies that verify client certificates, and how they describe them.

use http::HeaderName;

use super::networks;
use crate::auth::{CertificateForm, ClientCertificates};
use crate::config::diagnostic::Diagnostics;
use crate::config::file::Value;
use crate::config::keys::{self, Description};
use crate::config::section::{Section, text};
use crate::network::Network;

/// `None` if `auth.client_certificates` is absent, or is invalid.
pub(super) fn compile(auth: &Section<'_>, diagnostics: &Diagnostics) -> Option<ClientCertificates> {
    let section = auth.section(&keys::CLIENT_CERTIFICATES);
    let listed = section.list(&keys::CERTIFICATE_TRUST);
    let trust = networks(&section, &keys::CERTIFICATE_TRUST, listed);
    let is_public = |written: &str| Network::parse(written).is_some_and(|network| network.is_public());
    for node in listed.iter().filter(|node| text(&node.value).is_some_and(is_public)) {
        let message = "this network is larger than any private one: clients in it could name any certificate";
        diagnostics.expected(
            node.place,
            message,
            "the addresses of the proxies, in networks of at most `/8` or `fc00::/7`",
        );
    }
    let form = section.value(&keys::CERTIFICATE_FORM);
    let field = section.parse(&keys::CERTIFICATE_HEADER, name).or_else(|| name(form.default_header()));
    let verified = section.parse(&keys::VERIFY_HEADER, name).or_else(|| name(keys::VERIFY_HEADER.default.0));
    if !auth.has(&keys::CLIENT_CERTIFICATES) {
        return None;
    }
    section.require(&keys::CERTIFICATE_TRUST);
    let node = section.get(&keys::CERTIFICATE_TRUST);
    if node.is_some_and(|node| matches!(&node.value, Value::List(networks) if networks.is_empty())) {
        let message = format!("`{}` is empty: no certificate would count", section.path_of(&keys::CERTIFICATE_TRUST));
        diagnostics.wrong(section.place_of(&keys::CERTIFICATE_TRUST), message);
    }
    let form = match form {
        Description::Xfcc => {
            report_verify_header(&section, diagnostics);
            CertificateForm::Xfcc(field?)
        }
        Description::Subject => CertificateForm::Subject { field: field?, verified: verified? },
    };
    Some(ClientCertificates { trust, form })
}

/// In Envoy's form, no field says whether the certificate was verified.
fn report_verify_header(section: &Section<'_>, diagnostics: &Diagnostics) {
    if section.has(&keys::VERIFY_HEADER) {
        let message = format!("`{}` is for `form: subject`", section.path_of(&keys::VERIFY_HEADER));
        diagnostics.wrong(section.place_of(&keys::VERIFY_HEADER), message);
    }
}

fn name(text: &str) -> Option<HeaderName> {
    text.parse().ok()
}
