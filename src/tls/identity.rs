//! A certificate chain with its private key.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

const DAY_SECONDS: i64 = 24 * 3600;

/// A certificate chain and the key of its first certificate.
#[derive(Clone)]
pub struct Identity {
    pub(super) key: PKey<Private>,
    /// The server's own certificate first. Never empty.
    pub(super) chain: Vec<X509>,
}

/// Why two PEM texts are no identity. No message quotes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("no certificate in PEM")]
    NoCertificate,
    #[error("no private key in PEM, or one with a passphrase")]
    NoKey,
    #[error("the key does not belong to the certificate, which is the first one in its file")]
    OtherKey,
    #[error("OpenSSL rejects the certificate or its key: {0}")]
    Rejected(String),
}

impl From<ErrorStack> for IdentityError {
    fn from(error: ErrorStack) -> Self {
        let reason = error.errors().first().and_then(|first| first.reason());
        Self::Rejected(reason.unwrap_or("no reason given").to_owned())
    }
}

impl Identity {
    /// # Errors
    ///
    /// The texts have no certificate or no key, or the two do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = X509::stack_from_pem(certificates).map_err(|_| IdentityError::NoCertificate)?;
        let own = chain.first().ok_or(IdentityError::NoCertificate)?;
        // With an empty passphrase, OpenSSL does not ask for one on the terminal.
        let key = PKey::private_key_from_pem_passphrase(key, b"").map_err(|_| IdentityError::NoKey)?;
        if !own.public_key()?.public_eq(&key) {
            return Err(IdentityError::OtherKey);
        }
        Ok(Self { key, chain })
    }

    /// When the first certificate of the chain expires, in seconds since the Unix epoch.
    pub fn end(&self) -> Option<i64> {
        self.chain.iter().filter_map(|certificate| unix_seconds(certificate.not_after())).min()
    }

    /// Whether a certificate of the chain is not valid yet.
    pub fn is_early(&self) -> bool {
        let now = Asn1Time::days_from_now(0);
        now.is_ok_and(|now| self.chain.iter().any(|certificate| *certificate.not_before() > now))
    }

    /// The DNS names of the certificate, in lower case: its alternative names, or its common name if it has none.
    pub(super) fn names(&self) -> Vec<String> {
        let Some(own) = self.chain.first() else { return Vec::new() };
        let alternative: Vec<String> = own
            .subject_alt_names()
            .map(|names| names.iter().filter_map(|name| name.dnsname()).map(str::to_ascii_lowercase).collect())
            .unwrap_or_default();
        if !alternative.is_empty() {
            return alternative;
        }
        let common = own.subject_name().entries_by_nid(Nid::COMMONNAME);
        common.filter_map(|entry| entry.data().to_string().ok()).map(|name| name.to_ascii_lowercase()).collect()
    }
}

/// A time of a certificate, in seconds since the Unix epoch.
pub(crate) fn unix_seconds(time: &Asn1TimeRef) -> Option<i64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(since.days) * DAY_SECONDS + i64::from(since.secs))
}
