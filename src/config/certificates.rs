//! The expiry of the certificates that the configuration names in Kafka's properties. Those of the listener are added by
//! `compile/tls.rs`.
//!
//! Files are read only for a metric: the Kafka client reads them itself, and reports those that it cannot read.
//! Keystores are skipped, because they require a password.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::x509::X509;

use super::snapshot::Kafka;
use super::source::{Sources, read_secret_text};
use crate::tls::unix_seconds;

/// The largest certificate file, in bytes: the bundle of all public authorities is a quarter of that.
const CERTIFICATES_BYTES_MAX: u64 = 1024 * 1024;
/// librdkafka's value for "search the usual places".
const PROBE: &str = "probe";

/// The certificates of one property or key, in a file or in the property itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Empty for the listener's.
    pub cluster: Arc<str>,
    /// librdkafka's property name, or the path of a key.
    pub property: &'static str,
    /// Empty if they are part of the configuration.
    pub file: PathBuf,
    /// Their expiry, in seconds since the Unix epoch.
    pub end: i64,
}

/// Which of several certificates determines the expiry.
#[derive(Clone, Copy)]
enum End {
    /// A chain is invalid as soon as one certificate expires.
    First,
    /// Authorities are alternatives: the old one may expire once a new one is added.
    Last,
}

/// The properties with certificates in PEM: the name, whether the value is a file name, and which certificate counts.
const PROPERTIES: [(&str, bool, End); 4] = [
    ("ssl.ca.location", true, End::Last),
    ("ssl.ca.pem", false, End::Last),
    ("ssl.certificate.location", true, End::First),
    ("ssl.certificate.pem", false, End::First),
];

/// The certificates that are readable now. Their files are watched with the configuration's.
pub(super) fn find<'a>(clusters: impl Iterator<Item = &'a Kafka>, sources: &mut Sources) -> Vec<Certificates> {
    let mut found = Vec::new();
    for kafka in clusters {
        for (property, is_location, which) in PROPERTIES {
            let Some((value, origin)) = value(kafka, property) else { continue };
            let (file, text) = match is_location {
                true if value == PROBE || Path::new(&value).is_dir() => continue,
                true => {
                    let file = PathBuf::from(value);
                    let text = sources.read(&file, CERTIFICATES_BYTES_MAX).unwrap_or_default();
                    (file, text)
                }
                false => (origin, value.into_bytes()),
            };
            if let Some(end) = end(&text, which) {
                found.push(Certificates { cluster: kafka.cluster.clone(), property, file, end });
            }
        }
    }
    found
}

/// The value of a property, and its file if it has one.
fn value(kafka: &Kafka, property: &str) -> Option<(String, PathBuf)> {
    if let Some((_, value)) = kafka.properties.iter().find(|(name, _)| name == property) {
        return Some((value.clone(), PathBuf::new()));
    }
    let (_, file) = kafka.property_files.iter().find(|(name, _)| name == property)?;
    Some((read_secret_text(file).ok()?, file.clone()))
}

/// `None` if there is no certificate.
fn end(pem: &[u8], which: End) -> Option<i64> {
    let certificates = X509::stack_from_pem(pem).ok()?;
    let ends = certificates.iter().filter_map(|certificate| unix_seconds(certificate.not_after()));
    match which {
        End::First => ends.min(),
        End::Last => ends.max(),
    }
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::pkey::PKey;

    use super::*;
    use crate::config;

    /// 2030-01-01 and 2040-01-01.
    const EARLIER: i64 = 1_893_456_000;
    const LATER: i64 = 2_208_988_800;

    fn certificate(end: i64) -> String {
        let key = PKey::generate_ed25519().unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(end).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.sign(&key, openssl::hash::MessageDigest::null()).unwrap();
        String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
    }

    #[test]
    fn a_chain_expires_with_its_first_certificate_and_authorities_with_their_last() {
        let folder = tempfile::tempdir().unwrap();
        let both = format!("{}{}", certificate(EARLIER), certificate(LATER));
        let (ca, client) = (folder.path().join("ca.pem"), folder.path().join("client.pem"));
        std::fs::write(&ca, &both).unwrap();
        std::fs::write(&client, &both).unwrap();
        let text = format!(
            "upstream: {{ address: a:1 }}\nkafka: {{ brokers: a:1, properties: {{ ssl.ca.location: {} }}, property_files: {{ \
             ssl.certificate.pem: client.pem }} }}\nstreams: {{ s: {{ topics: [t] }} }}\n",
            ca.display()
        );
        std::fs::write(folder.path().join("x.yaml"), text).unwrap();
        let reading = config::read(&folder.path().join("x.yaml"));
        assert!(reading.files.contains(&ca) && reading.files.contains(&client), "{:?}", reading.files);
        let found = reading.snapshot.unwrap().certificates;
        let expected = |property, file, end| Certificates { cluster: "kafka".into(), property, file, end };
        assert_eq!(found, [expected("ssl.ca.location", ca, LATER), expected("ssl.certificate.pem", client, EARLIER)]);
    }

    #[test]
    fn a_cluster_that_is_read_for_revocations_alone_has_certificates_too() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, certificate(LATER)).unwrap();
        let ca = ca.display();
        let text = format!(
            "upstream: {{ address: a:1 }}\nkafka: {{ brokers: a:1 }}\nclusters: {{ x: {{ brokers: a:1, properties: \
             {{ ssl.ca.location: {ca} }} }} }}\nauth: {{ forward: {{ url: /me }}, revocations: {{ topic: t, cluster: x }} }}\n"
        );
        std::fs::write(folder.path().join("x.yaml"), text).unwrap();
        let found = config::read(&folder.path().join("x.yaml")).snapshot.unwrap().certificates;
        let found: Vec<_> = found.iter().map(|found| (&*found.cluster, found.property, found.end)).collect();
        assert_eq!(found, [("x", "ssl.ca.location", LATER)]);
    }

    #[test]
    fn a_file_without_a_certificate_yields_none() {
        assert_eq!(end(b"", End::First), None);
        assert_eq!(end(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", End::Last), None);
    }
}
