//! The keys of schema registries.

use super::Change::Live;
use super::auth::URL;
use super::{Absent, Defaulted, Is, Key, Optional, Period, Required, SecretFile, Text, mins, ms, secs, table};

table! { REGISTRY {
    REGISTRY_URL: Key<Text, Required> = (
        "url", Text { type_name: "URL", pattern: "^https?://[^@]+$", expected: URL },
        Required("the URL of the registry"), Live,
        "where the registry's API begins, without `/schemas`: of Confluent, Karapace, or Apicurio (with `/apis/ccompat/v7`)",
    );
    REGISTRY_USERNAME: Optional<Text> = (
        "username", Text { type_name: "text", pattern: "", expected: "the name of sidestream at the registry" },
        Absent("none"), Live, "the user of HTTP Basic authentication",
    );
    REGISTRY_SECRET_FILE: Optional<SecretFile> = (
        "secret_file", SecretFile, Absent("none"), Live, "the password of `username`; without a user, a bearer token",
    );
    REGISTRY_CA_FILE: Optional<SecretFile> = (
        "ca_file", SecretFile, Absent("the system's authorities"), Live,
        "the certificate authorities, in PEM, that the registry must have a certificate of",
    );
    REGISTRY_WAIT: Defaulted<Period> = (
        "wait", Period(ms(0)..=mins(1)), Is(secs(10)), Live,
        "how long records wait while their schema is requested. Then they are gaps, `undecodable`, until it is known",
    );
}}
