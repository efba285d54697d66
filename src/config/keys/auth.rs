//! The keys of authentication, and of pages of other origins.

use serde_json::{Value as Json, json};

use super::Change::{Live, Restart};
use super::routes::TOKEN_PATTERN;
use super::topics::TOPIC_PATTERN;
use super::{
    Absent, Choice, Defaulted, Each, Flag, Is, Items, Key, LIST, List, Map, Optional, Period, Required, Secrecy,
    SecretFile, Sub, Text, Usually, hours, mins, ms, secs, table,
};
use crate::auth::Algorithm;
use crate::config::snapshot::DEFAULT_CLUSTER;
use crate::cors::{MAX_AGE_MAX, ORIGINS_MAX};

pub(in crate::config) const ALGORITHM_NAMES: [(&str, Algorithm); 12] = [
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

pub(in crate::config) const URL: &str = "a URL such as `https://login.example/x`, without a user";

table! { ISSUER rules one_issuer {
    ISSUER_NAME: Optional<Text> = (
        "issuer", Text { type_name: "text", pattern: "", expected: "what `iss` must be" },
        Absent("anything; required in `issuers`"), Live, "the required `iss`",
    );
    AUDIENCE: Optional<Text> = (
        "audience", Text { type_name: "text", pattern: "", expected: "what `aud` must contain" }, Absent("anything"), Live,
        "the required `aud`, or an element of it",
    );
    KEY_FILE: Optional<SecretFile> = (
        "key_file", SecretFile, Absent("one of the four"), Live,
        "an HMAC secret (without its final line break; 32 bytes or more) or a PEM public key",
    );
    JWKS_FILE: Optional<SecretFile> = (
        "jwks_file", SecretFile, Absent("one of the four"), Live,
        "a JWKS (RFC 7517) of at most 64 keys and 64 KiB; the `kid` of a token selects the key",
    );
    JWKS_URL: Optional<Text> = (
        "jwks_url", Text { type_name: "URL", pattern: "^https?://[^@]+$", expected: URL }, Absent("one of the four"), Live,
        "where the issuer publishes its JWKS, of at most 64 keys and 256 KiB",
    );
    DISCOVERY: Key<Flag, Usually<bool>> = (
        "discovery", Flag, Usually(false, "; or one of the four"), Live,
        "the URL of the JWKS is `jwks_uri` in the metadata below `issuer` \
         ([OpenID Connect Discovery](https://openid.net/specs/openid-connect-discovery-1_0.html))",
    );
    JWKS_KEEP: Key<Period, Usually<std::time::Duration>> = (
        "jwks_keep", Period(mins(1)..=hours(30 * 24)), Usually(hours(24), ""), Live,
        "how long keys from a URL are used after the issuer last provided them",
    );
    ALGORITHMS: Key<List, Absent> = (
        "algorithms",
        List {
            items: Items::Names(|| ALGORITHM_NAMES.map(|(name, _)| name).to_vec()),
            expected: "`HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` or `EdDSA`",
            min: 1,
            ..LIST
        },
        Absent("required"), Live,
        "the allow-list: `HS256/384/512`, `RS256/384/512`, `PS256/384/512`, `ES256/384`, `EdDSA`; for a `key_file`, all of one \
         family",
    );
}}

/// The places of an issuer's keys, with the other keys that each needs.
const KEY_PLACES: [&[&str]; 3] = [&["key_file"], &["jwks_file"], &["jwks_url"]];

fn required(keys: &[&str]) -> Json {
    json!({ "required": keys })
}

fn discovery(keys: &[&str]) -> Json {
    json!({ "properties": { "discovery": { "const": true } }, "required": keys })
}

fn one_issuer() -> Json {
    let places = KEY_PLACES.map(required).into_iter().chain([discovery(&["discovery"])]);
    json!({ "required": ["issuer", "algorithms"], "oneOf": places.collect::<Vec<_>>() })
}

table! { AUTH includes ISSUER rules issuers_or_others {
    ISSUERS: Key<Each, Absent> = (
        "issuers", Each { table: &ISSUER, min: 1, max: usize::MAX }, Absent("one issuer, written under `auth`"), Live,
        "the issuers, each with its own keys: `issuer` to `algorithms`",
    );
    COOKIE: Optional<Text> = (
        "cookie", Text { type_name: "text", pattern: TOKEN_PATTERN, expected: "the name of a cookie" }, Absent("none"), Live,
        "the cookie that may carry the token; `Authorization: Bearer` wins",
    );
    LEEWAY: Defaulted<Period> = (
        "leeway", Period(ms(0)..=mins(5)), Is(secs(5)), Live, "clock skew tolerated for `exp` and `nbf`, of introspected tokens for `nbf`, and for tickets",
    );
    TICKETS: Optional<Sub> = (
        "tickets", Sub(&TICKETS_TABLE), Absent("no tickets"), Live,
        "what may replace a token in a URL, for seconds, on routes with `token_from: [ticket]`: \
         [tickets](protocol.md#tickets)",
    );
    CA_FILE: Optional<SecretFile> = (
        "ca_file", SecretFile, Absent("the system's authorities"), Live,
        "the certificate authorities, in PEM, that servers must have a certificate of: those of keys, `introspection` and \
         `forward`",
    );
    API_KEYS: Optional<Sub> = ("api_keys", Sub(&API_KEYS_TABLE), Absent("none"), Live, "keys of programs");
    INTROSPECTION: Optional<Sub> = (
        "introspection", Sub(&INTROSPECTION_TABLE), Absent("none"), Live,
        "an authorization server that is asked about opaque tokens (RFC 7662)",
    );
    FORWARD: Optional<Sub> = (
        "forward", Sub(&FORWARD_TABLE), Absent("none"), Live,
        "a service that is asked who a request without a token is from (forward auth)",
    );
    CLIENT_CERTIFICATES: Optional<Sub> = (
        "client_certificates", Sub(&CLIENT_CERTIFICATES_TABLE), Absent("none"), Live,
        "certificates of clients that a proxy in front has verified (mutual TLS)",
    );
    REVOCATIONS: Optional<Sub> = (
        "revocations", Sub(&REVOCATIONS_TABLE), Absent("nothing can be revoked"), Restart,
        "revokes subjects, sessions and tokens before they expire. An empty mapping: by `POST /-/revoke` only",
    );
}}

fn issuers_or_others() -> Json {
    let issuer: Vec<&str> = ISSUER.keys().map(super::Entry::name).collect();
    let without = |needed: &str, others: &[&[&str]]| {
        let others: Vec<Json> = others.concat().into_iter().map(|key| required(&[key])).collect();
        json!({ "required": [needed], "not": { "anyOf": others } })
    };
    let mut ways = vec![without("issuers", &[&issuer])];
    ways.extend(KEY_PLACES.map(|place| required(&[place, &["algorithms"]].concat())));
    ways.push(discovery(&["discovery", "issuer", "algorithms"]));
    // Without issuers, there is nothing that a cookie can contain, or that a ticket can replace, with some of the
    // others.
    let others: Vec<Json> = [&["issuers"][..], &issuer].concat().into_iter().map(|key| required(&[key])).collect();
    let alone = [
        required(&["introspection"]),
        without("api_keys", &[&["introspection", "cookie"]]),
        without("forward", &[&["introspection", "api_keys", "cookie", "tickets"]]),
        without("client_certificates", &[&["introspection", "api_keys", "forward", "cookie", "tickets"]]),
    ];
    ways.push(json!({ "oneOf": alone, "not": { "anyOf": others } }));
    json!({ "oneOf": ways })
}

table! { TICKETS_TABLE {
    TICKET_KEY_FILE: Key<SecretFile, Required> = (
        "key_file", SecretFile, Required("the file with the secret that signs tickets, the same on every replica"), Live,
        "the secret that signs [tickets](protocol.md#tickets), 32 bytes or more, the same on every replica",
    );
    TICKET_LIFETIME: Defaulted<Period> =
        ("lifetime", Period(secs(1)..=mins(5)), Is(secs(30)), Live, "how long a ticket is valid");
    TICKET_PATH: Defaulted<Text> = (
        "path", Text { type_name: "path", pattern: "^/[!-~]*$", expected: "a path such as `/tickets`" },
        Is("/.well-known/sidestream/tickets"), Live, "where a `POST` with a token gets one",
    );
}}

table! { SERVICE_TABLE {
    SERVICE_CACHE: Key<Period, Usually<std::time::Duration>> = (
        "cache", Period(ms(0)..=mins(5)), Usually(secs(10), ", at most `interval`"), Live,
        "how long a positive answer is used for requests that ask the same",
    );
    SERVICE_INTERVAL: Defaulted<Period> = (
        "interval", Period(secs(1)..=hours(1)), Is(secs(60)), Live, "how long a positive answer holds for an open stream",
    );
    SERVICE_TIMEOUT: Defaulted<Period> =
        ("timeout", Period(ms(100)..=secs(30)), Is(secs(5)), Live, "how long one request may take");
}}

table! { API_KEYS_TABLE {
    API_KEYS_FILE: Key<SecretFile, Required> = (
        "file", SecretFile, Required("the file with the list of keys, each with `id` and `sha256`"), Live,
        "the list of keys, in YAML or JSON, at most 5000 keys and 1 MiB",
    );
    API_KEYS_HEADER: Defaulted<Text> = (
        "header",
        Text {
            type_name: "text",
            pattern: TOKEN_PATTERN,
            expected: "the name of a header field of requests, such as `X-Api-Key`",
        },
        Is("X-Api-Key"), Live,
        "the field of requests that may contain a key, in addition to `Authorization` with `ApiKey` or `Bearer`",
    );
}}

table! { INTROSPECTION_TABLE includes SERVICE_TABLE {
    INTROSPECTION_URL: Key<Text, Required> = (
        "url", Text { type_name: "URL", pattern: "^https?://[^@]+$", expected: URL },
        Required("the introspection endpoint of the authorization server"), Live, "the introspection endpoint",
    );
    CLIENT_ID: Key<Text, Required> = (
        "client_id", Text { type_name: "text", pattern: "", expected: "the name of sidestream at the server" },
        Required("the name of sidestream at the server"), Live, "the name of sidestream at the server",
    );
    CLIENT_SECRET_FILE: Key<SecretFile, Required> = (
        "client_secret_file", SecretFile, Required("the file with the secret of this client"), Live,
        "the secret of this client, sent as HTTP Basic authentication",
    );
    INTROSPECTION_AUDIENCE: Optional<Text> = (
        "audience", Text { type_name: "text", pattern: "", expected: "what `aud` must contain" }, Absent("anything"), Live,
        "the required `aud`, or an element of it",
    );
}}

/// `Host`, `X-Forwarded-*` and fields of the connection are set by sidestream.
const FORWARDABLE: &str =
    "the name of a header field; fields of the connection, `Host` and `X-Forwarded-*` are set by sidestream";

table! { FORWARD_TABLE includes SERVICE_TABLE {
    FORWARD_URL: Key<Text, Required> = (
        "url", Text { type_name: "URL or path", pattern: "^(/[!-~]*|https?://[^@]+)$", expected: URL },
        Required("the URL to ask, or a path of the upstream such as `/me`"), Live,
        "what is asked, with GET and without a body; a path asks the upstream, with the `Host` of the request",
    );
    REQUEST_HEADERS: Defaulted<List> = (
        "request_headers",
        List { items: Items::Pattern(TOKEN_PATTERN), expected: FORWARDABLE, min: 1, ..LIST },
        Is(&["Authorization", "Cookie"]), Live, "the fields of the request that are sent",
    );
    FORWARD_CLAIMS: Defaulted<Map> = (
        "claims",
        Map {
            values: r#"{ "type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$" }"#,
            expected: "the name of a header field of the answer",
            secrecy: Secrecy::Open,
        },
        Is(()), Live,
        "claims, and the header fields of the answer that they are taken from: `sub: X-Auth-Request-User`",
    );
}}

/// How proxies describe certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Description {
    Xfcc,
    Subject,
}

impl Description {
    /// The field, unless the configuration names another.
    pub(in crate::config) fn default_header(self) -> &'static str {
        match self {
            Self::Xfcc => "X-Forwarded-Client-Cert",
            Self::Subject => "ssl-client-subject-dn",
        }
    }
}

table! { CLIENT_CERTIFICATES_TABLE {
    CERTIFICATE_TRUST: Key<List, Required> = (
        "trust",
        List {
            items: Items::Pattern("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"),
            expected: "a list of networks such as `[10.0.0.0/8]`",
            min: 1,
            ..LIST
        },
        Required("the networks of the proxies that verify client certificates, such as `[10.1.2.0/24]`"), Live,
        "the networks of the proxies that verify client certificates, none larger than `10.0.0.0/8` or `fc00::/7`. From all other \
         peers the fields are removed",
    );
    CERTIFICATE_FORM: Defaulted<Choice<Description>> = (
        "form", Choice(|| vec![("xfcc", Description::Xfcc), ("subject", Description::Subject)]), Is(Description::Xfcc), Live,
        "how the proxies describe a certificate: `xfcc`, as Envoy and Istio; or `subject`, as nginx and HAProxy: the subject in one \
         field (RFC 4514), and in another whether the certificate was verified",
    );
    CERTIFICATE_HEADER: Optional<Text> = (
        "header",
        Text { type_name: "text", pattern: TOKEN_PATTERN, expected: "the name of a header field" },
        Absent("`X-Forwarded-Client-Cert`, or `ssl-client-subject-dn` of ingress-nginx"), Live, "the field with the description",
    );
    VERIFY_HEADER: Key<Text, Usually<&'static str>> = (
        "verify_header",
        Text { type_name: "text", pattern: TOKEN_PATTERN, expected: "the name of a header field" },
        Usually("ssl-client-verify", ", with `subject`"), Live,
        "the field that is `SUCCESS` (`$ssl_client_verify` of nginx) or `0` (`ssl_c_verify` of HAProxy) for a verified certificate",
    );
}}

table! { REVOCATIONS_TABLE {
    REVOCATION_TOPIC: Optional<Text> = (
        "topic", Text { type_name: "text", pattern: TOPIC_PATTERN, expected: "the name of a topic" }, Absent("none"), Restart,
        "the topic whose records are revocations; without it, only `POST /-/revoke` revokes, in one process",
    );
    REVOCATION_CLUSTER: Defaulted<Text> = (
        "cluster", Text { type_name: "text", pattern: "", expected: "the name of a cluster" }, Is(DEFAULT_CLUSTER), Restart,
        "the cluster of the topic",
    );
    REVOCATION_KEEP: Defaulted<Period> = (
        "keep", Period(mins(1)..=hours(30 * 24)), Is(hours(24)), Restart,
        "how long a revocation without `exp` is kept: at least as long as a token is valid",
    );
}}

table! { CORS {
    ORIGINS: Key<List, Required> = (
        "origins",
        List {
            items: Items::Pattern(r"^(\*|[a-z][a-z0-9+.-]*://(\*\.)?[a-z0-9.:\[\]_-]+)$"),
            expected: "an origin as browsers send it, such as `https://app.example`, one with a wildcard as its first label, \
                       `https://*.example`, or `*` alone",
            max: ORIGINS_MAX,
            ..LIST
        },
        Required("which pages may use the streams; an empty list allows none"), Live,
        "exact origins as browsers send them, origins whose first label is a wildcard (`https://*.shop.example`: one label), or \
         only `*`. An empty list allows none",
    );
    CREDENTIALS: Defaulted<Flag> =
        ("credentials", Flag, Is(false), Live, "whether requests may carry cookies. Rejected with `*`");
    CORS_HEADERS: Defaulted<List> = (
        "headers",
        List {
            items: Items::Pattern("^[!#$%&'+.^_`|~0-9A-Za-z-]+$"),
            expected: "the name of a request header, such as `X-Tenant`",
            ..LIST
        },
        Is(&[]), Live,
        "request headers that scripts may send, in addition to `Authorization`, `Last-Event-ID`, `Cache-Control`, \
         `Content-Type`, `If-None-Match`, `Prefer`, `traceparent` and `tracestate`",
    );
    MAX_AGE: Defaulted<Period> = (
        "max_age", Period(ms(0)..=MAX_AGE_MAX), Is(mins(10)), Live,
        "how long a browser may cache the response to a preflight",
    );
}}
