//! The keys of TLS for clients.

use serde_json::{Value as Json, json};

use super::Change::Live;
use super::{Absent, Each, Key, Optional, SecretFile, table};

table! { CERTIFICATE rules a_pair {
    CERTIFICATE_FILE: Optional<SecretFile> = (
        "certificate", SecretFile, Absent("required, unless in `certificates`"), Live,
        "the certificate in PEM, followed by the intermediate ones",
    );
    PRIVATE_KEY_FILE: Optional<SecretFile> = (
        "key", SecretFile, Absent("required beside `certificate`"), Live,
        "its private key in PEM, without a passphrase",
    );
}}

table! { TLS includes CERTIFICATE rules one_or_several {
    CERTIFICATES: Key<Each, Absent> = (
        "certificates", Each { table: &CERTIFICATE, min: 1, max: usize::MAX },
        Absent("one certificate, written under `tls`"), Live,
        "several certificates, each with its `certificate` and `key`. The server name of a client (SNI) selects the one that \
         has it among its DNS names; without a match, the first one is used",
    );
}}

fn a_pair() -> Json {
    json!({ "required": ["certificate", "key"] })
}

fn one_or_several() -> Json {
    let one = json!({ "required": ["certificate", "key"], "not": { "required": ["certificates"] } });
    let neither = ["certificate", "key"].map(|key| json!({ "required": [key] }));
    let several = json!({ "required": ["certificates"], "not": { "anyOf": neither } });
    json!({ "oneOf": [one, several] })
}
