//! Client certificates that a proxy in front has verified, and describes in header fields (mutual TLS).
//!
//! The fields count only in requests of trusted peers: any client can send them. Nothing is verified here.

mod subject;
mod xfcc;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::issuer::authority_of;
use super::token_error::TokenError;
use crate::access::Authority;
use crate::network::Network;

/// How a proxy describes the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertificateForm {
    /// Envoy's `X-Forwarded-Client-Cert`, in this field.
    Xfcc(HeaderName),
    /// The subject in one field (RFC 4514), and in another whether the proxy verified the certificate, as nginx and
    /// HAProxy do.
    Subject { field: HeaderName, verified: HeaderName },
}

/// The trusted proxies, and the fields in which they describe certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificates {
    pub trust: Box<[Network]>,
    pub form: CertificateForm,
}

/// What a certificate says of its holder.
#[derive(Debug, Default, PartialEq)]
struct Described {
    subject: Option<String>,
    uris: Vec<String>,
    names: Vec<String>,
    hash: Option<String>,
}

impl ClientCertificates {
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trust.iter().any(|network| network.contains(peer))
    }

    /// The fields that a trusted proxy sets.
    pub fn fields(&self) -> impl Iterator<Item = &HeaderName> {
        let (field, verified) = match &self.form {
            CertificateForm::Xfcc(field) => (field, None),
            CertificateForm::Subject { field, verified } => (field, Some(verified)),
        };
        std::iter::once(field).chain(verified)
    }

    /// The authority of its principals. It changes with the trusted proxies, so that a reload ends streams of others.
    pub(super) fn authority(&self) -> Authority {
        authority_of(&("client_certificates", self))
    }

    /// The claims of a verified certificate. `None` if there is none, or if the peer is not trusted.
    pub(super) fn claims(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Option<Result<Map<String, Value>, TokenError>> {
        peer.filter(|peer| self.is_trusted(*peer))?;
        let described = match &self.form {
            CertificateForm::Xfcc(field) => single(headers, field)?.and_then(xfcc::read),
            CertificateForm::Subject { field, verified } => {
                // nginx sends an empty field, or none, for a request without a certificate.
                let subject = single(headers, field)?;
                if subject == Some("") || single(headers, verified) == Some(Some("NONE")) {
                    return None;
                }
                let is_verified = single(headers, verified).flatten().is_some_and(is_success);
                let described = |text: &str| Described { subject: Some(text.to_owned()), ..Described::default() };
                subject.filter(|_| is_verified).map(described)
            }
        };
        Some(described.and_then(claims).ok_or(TokenError::Certificate))
    }
}

/// `$ssl_client_verify` of nginx, `ssl_c_verify` of HAProxy.
fn is_success(verified: &str) -> bool {
    matches!(verified, "SUCCESS" | "0")
}

/// The value of a field: `None` if it is absent, `Some(None)` if it is not one line of text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Option<&'a str>> {
    let mut lines = headers.get_all(name).iter();
    let (first, second) = (lines.next()?, lines.next());
    Some(HeaderValue::to_str(first).ok().filter(|_| second.is_none()).map(str::trim))
}

/// `sub` is the subject, or else the only URI (as in SPIFFE), or else the only DNS name. `None` if there is no such
/// name, or if the subject is malformed.
fn claims(described: Described) -> Option<Map<String, Value>> {
    let Described { subject, uris, names, hash } = described;
    let subject = subject.filter(|subject| !subject.is_empty());
    let attributes = subject.as_deref().map_or_else(|| Some(Map::new()), subject::read)?;
    let only = |names: &[String]| if let [only] = names { Some(only.clone()) } else { None };
    let sub = subject.or_else(|| only(&uris)).or_else(|| only(&names))?;
    let mut claims = Map::new();
    claims.insert("sub".into(), sub.into());
    claims.insert("subject".into(), attributes.into());
    claims.insert("uri".into(), json!(uris));
    claims.insert("dns".into(), json!(names));
    claims.extend(hash.map(|hash| ("hash".into(), hash.into())));
    Some(claims)
}

#[cfg(test)]
mod tests;
