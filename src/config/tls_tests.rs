//! What the compiler reports about the listener's certificates.

use std::fs;

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use tempfile::TempDir;

use super::{Diff, ReadOptions, Reading, read_with};

const DAY: i64 = 24 * 3600;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Writes a certificate that is valid from `start` to `end`, and its key. Both are in seconds after now.
    fn write_pair(&self, name: &str, start: i64, end: i64) {
        let key = PKey::generate_ed25519().unwrap();
        self.write(&format!("{name}.crt"), certificate(&key, start, end));
        self.write(&format!("{name}.key"), key.private_key_to_pem_pkcs8().unwrap());
    }

    fn read(&self, tls: &str, options: &ReadOptions) -> Reading {
        self.write("x.yaml", format!("upstream: {{ address: a:1 }}\nkafka: {{ brokers: a:1 }}\ntls: {tls}\n"));
        read_with(&self.folder.path().join("x.yaml"), options)
    }

    /// The errors of this section.
    fn errors(&self, tls: &str) -> String {
        self.read(tls, &ReadOptions::default()).snapshot.map(|_| ()).unwrap_err().to_string()
    }
}

fn certificate(key: &PKey<Private>, start: i64, end: i64) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut builder = X509::builder().unwrap();
    builder.set_not_before(&Asn1Time::from_unix(now + start).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + end).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, MessageDigest::null()).unwrap();
    builder.build().to_pem().unwrap()
}

#[test]
fn files_that_cannot_be_used_are_reported() {
    let bench = Bench::new();
    bench.write_pair("a", -DAY, DAY);
    bench.write_pair("b", -DAY, DAY);
    bench.write("empty", "");
    for (tls, expected) in [
        ("{ certificate: a.crt }", "`tls.key` is missing"),
        ("{ key: a.key }", "`tls.certificate` is missing"),
        ("{ certificate: absent.crt, key: a.key }", "`tls.certificate`: the file named here cannot be read"),
        ("{ certificate: a.crt, key: b.key }", "the key does not belong to the certificate"),
        ("{ certificate: empty, key: a.key }", "no certificate in PEM"),
        ("{ certificate: a.crt, key: empty }", "`tls.key`: no private key in PEM"),
        ("{ certificates: [] }", "`tls.certificates` is empty"),
        ("{ certificates: [{ certificate: a.crt, key: b.key }] }", "`tls.certificates.certificate`: the key does not"),
        ("{ certificate: a.crt, certificates: [{ certificate: a.crt, key: a.key }] }", "unknown key `tls.certificate`"),
    ] {
        let errors = bench.errors(tls);
        assert!(errors.contains(expected), "{tls}: {errors}");
        assert!(!errors.contains("PRIVATE KEY"), "{errors}");
    }
}

/// A process that restarts with such a certificate serves the clients that accept it.
#[test]
fn a_certificate_that_is_not_valid_now_is_an_error_and_a_warning_at_a_start() {
    let bench = Bench::new();
    bench.write_pair("old", -2 * DAY, -DAY);
    bench.write_pair("early", DAY, 2 * DAY);
    for (name, expected) in [("old", "a certificate has expired"), ("early", "a certificate is not valid yet")] {
        let tls = format!("{{ certificate: {name}.crt, key: {name}.key }}");
        let errors = bench.errors(&tls);
        assert!(errors.contains(expected), "{errors}");
        let reading = bench.read(&tls, &ReadOptions { is_run: true, ..ReadOptions::default() });
        assert!(reading.snapshot.unwrap().tls.is_some());
        assert!(reading.warnings.iter().any(|warning| warning.message.contains(expected)), "{:?}", reading.warnings);
    }
}

#[test]
fn a_new_certificate_is_a_change_that_a_reload_applies() {
    let bench = Bench::new();
    bench.write_pair("a", -DAY, DAY);
    let tls = "{ certificate: a.crt, key: a.key }";
    let read = || bench.read(tls, &ReadOptions::default());
    let (before, same) = (read().snapshot.unwrap(), read());
    for name in ["a.crt", "a.key"] {
        assert!(same.files.contains(&bench.folder.path().join(name)), "{:?}", same.files);
    }
    assert!(Diff::between(&before, &same.snapshot.unwrap()).is_empty());
    bench.write_pair("a", -DAY, 3 * DAY);
    let after = read().snapshot.unwrap();
    assert_eq!(Diff::between(&before, &after).to_string(), "changed: tls");
    let (earlier, later) = (&before.certificates[0], &after.certificates[0]);
    assert_eq!((&*later.cluster, later.property), ("", "tls.certificate"));
    assert!(later.end - earlier.end >= 2 * DAY);
    let without = bench.read(tls, &ReadOptions { without_secrets: true, ..ReadOptions::default() });
    assert!(without.snapshot.unwrap().tls.is_none());
}
