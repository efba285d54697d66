//! Cross-origin resource sharing (CORS, WHATWG Fetch section 3.2): which origins may read a stream, and the header
//! fields that say so. Pure: origins in, header fields out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest `max_age`; browsers cap the value at less (Chromium 2 h, Firefox 24 h).
pub const MAX_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The most origins of one policy.
pub const ORIGINS_MAX: usize = 256;

/// Request headers that a preflight may name without configuration: those of the documented clients.
const REQUEST_HEADERS: &str =
    "authorization, last-event-id, cache-control, content-type, if-none-match, prefer, traceparent, tracestate";
/// Response headers that scripts may read, in addition to those that CORS always exposes.
const EXPOSED_HEADERS: &str = "etag, link, preference-applied, retry-after, www-authenticate, x-batch-size, x-max-rate, x-replay-not-possible, x-request-id";

/// The policy of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    /// Whether requests may include cookies (`Access-Control-Allow-Credentials`).
    credentials: bool,
    /// Further request headers that a script may send, in lower case.
    headers: Box<[Box<str>]>,
    /// How long a browser may cache a preflight response.
    max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origins {
    /// `*`: every origin, without credentials.
    Any,
    Listed(Box<[Pattern]>),
}

/// An entry of a list of origins: an exact origin, or one whose first label is a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// For example `https://app.example`.
    Exact(Box<str>),
    /// For example `https://*.example`: the wildcard is exactly one label.
    Label { scheme: Box<str>, suffix: Box<str> },
}

/// Why an entry is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("an origin has no path and no `/` at its end")]
    Path,
    #[error("an origin is written in lower case, as browsers send it")]
    Case,
    #[error("a wildcard is the whole first label: `https://*.example`")]
    Wildcard,
    #[error("browsers leave out the default port of a scheme")]
    DefaultPort,
    #[error("`null` is the origin of every sandboxed page and every file: it identifies no page")]
    Null,
    #[error("an origin is a scheme and a host, such as `https://app.example`")]
    Form,
    #[error("a host outside ASCII is written as browsers send it, in Punycode: `https://xn--...`")]
    NotAscii,
}

/// Credentials with `*`: browsers reject such responses (WHATWG Fetch section 3.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`*` with `credentials: true` would let every site read with the user's cookie; browsers refuse it")]
pub struct AnyWithCredentials;

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text == "null" {
            return Err(BadPattern::Null);
        }
        if !text.is_ascii() {
            return Err(BadPattern::NotAscii);
        }
        let (scheme, authority) = text.split_once("://").ok_or(BadPattern::Form)?;
        if authority.contains(['/', '?', '#']) {
            return Err(BadPattern::Path);
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(BadPattern::Case);
        }
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
        let host_of = authority.strip_prefix("*.").unwrap_or(authority);
        if host_of.contains('*') {
            return Err(BadPattern::Wildcard);
        }
        let (host, port) = split_port(host_of).ok_or(BadPattern::Form)?;
        if !is_scheme || !is_host(host) {
            return Err(BadPattern::Form);
        }
        if port.is_some() && port == default_port(scheme) {
            return Err(BadPattern::DefaultPort);
        }
        match authority.strip_prefix('*') {
            Some(_) if host.starts_with('[') => Err(BadPattern::Wildcard),
            Some(suffix) => Ok(Self::Label { scheme: scheme.into(), suffix: suffix.into() }),
            None => Ok(Self::Exact(text.into())),
        }
    }
}

impl Pattern {
    /// Whether the pattern matches the `Origin` of a request, as browsers serialize it (RFC 6454 section 6.2).
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *origin,
            Self::Label { scheme, suffix } => {
                let label = origin
                    .strip_prefix(&**scheme)
                    .and_then(|rest| rest.strip_prefix("://"))
                    .and_then(|authority| authority.strip_suffix(&**suffix));
                label.is_some_and(is_label)
            }
        }
    }
}

impl Pattern {
    /// Whether the wildcard covers a whole top-level domain, as in `https://*.com`, which is plausible only for a
    /// private one.
    pub fn is_top_level(&self) -> bool {
        matches!(self, Self::Label { suffix, .. } if !suffix[1..].contains('.'))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Label { scheme, suffix } => write!(f, "{scheme}://*{suffix}"),
        }
    }
}

/// A label of a host name, without dots.
fn is_label(text: &str) -> bool {
    let is_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    (1..=63).contains(&text.len()) && text.bytes().all(is_byte)
}

fn is_host(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.map_or_else(|| host.split('.').all(is_label), |address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Splits a host and its port, if it has one. `None` if the port is invalid.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = if authority.starts_with('[') { authority.find(']')? + 1 } else { 0 };
    match authority[host_end..].rfind(':') {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = authority.split_at(host_end + at);
            let digits = port[1..].bytes().all(|b| b.is_ascii_digit());
            Some((host, Some(port[1..].parse().ok().filter(|_| digits && port.len() > 1)?)))
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl Cors {
    /// Allows every origin, without credentials.
    pub fn any(headers: Box<[Box<str>]>, max_age: Duration) -> Self {
        Self { origins: Origins::Any, credentials: false, headers, max_age }
    }

    /// Allows these origins.
    pub fn listed(origins: Vec<Pattern>, credentials: bool, headers: Box<[Box<str>]>, max_age: Duration) -> Self {
        Self { origins: Origins::Listed(origins.into()), credentials, headers, max_age }
    }

    /// Whether pages of this origin may read the stream, or open it as a WebSocket (RFC 6455 section 10.2).
    pub fn allows(&self, origin: &str) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        }
    }

    /// Whether requests from this origin may include cookies.
    pub fn allows_credentials(&self, origin: &str) -> bool {
        self.credentials && self.allows(origin)
    }

    /// The header fields of a response to a request from this origin, if it stated one. A response that depends on the
    /// origin has `Vary` even if the origin is not allowed: a cache could otherwise serve it to another origin.
    pub fn answer(&self, origin: Option<&str>) -> Vec<(&'static str, String)> {
        let mut fields = self.allowed(origin);
        if fields.iter().any(|(name, _)| *name == "access-control-allow-origin") {
            fields.push(("access-control-expose-headers", EXPOSED_HEADERS.to_owned()));
        }
        fields
    }

    /// The header fields of a preflight response (WHATWG Fetch section 4.8). `methods` are those that the path
    /// supports.
    pub fn preflight(&self, origin: &str, methods: &str) -> Vec<(&'static str, String)> {
        let mut fields = self.allowed(Some(origin));
        if fields.iter().any(|(name, _)| *name == "access-control-allow-origin") {
            let headers = self.headers.iter().fold(REQUEST_HEADERS.to_owned(), |all, name| format!("{all}, {name}"));
            fields.push(("access-control-allow-methods", methods.to_owned()));
            fields.push(("access-control-allow-headers", headers));
            fields.push(("access-control-max-age", self.max_age.as_secs().to_string()));
        }
        fields
    }

    fn allowed(&self, origin: Option<&str>) -> Vec<(&'static str, String)> {
        let mut fields = Vec::with_capacity(5);
        match &self.origins {
            Origins::Any => fields.push(("access-control-allow-origin", "*".to_owned())),
            Origins::Listed(_) => {
                fields.push(("vary", "Origin".to_owned()));
                if let Some(origin) = origin.filter(|origin| self.allows(origin)) {
                    fields.push(("access-control-allow-origin", origin.to_owned()));
                    if self.credentials {
                        fields.push(("access-control-allow-credentials", "true".to_owned()));
                    }
                }
            }
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn listed(origins: &[&str], credentials: bool) -> Cors {
        let origins = origins.iter().map(|origin| pattern(origin)).collect();
        Cors::listed(origins, credentials, Box::default(), Duration::from_secs(600))
    }

    fn value<'a>(fields: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
        fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn invalid_origins_are_rejected() {
        use BadPattern as Bad;
        for (text, bad) in [
            ("null", Bad::Null),
            ("app.example", Bad::Form),
            ("https://", Bad::Form),
            ("://app.example", Bad::Form),
            ("https://app.example/", Bad::Path),
            ("https://app.example/x", Bad::Path),
            ("https://App.example", Bad::Case),
            ("HTTPS://app.example", Bad::Case),
            ("https://app.example:443", Bad::DefaultPort),
            ("http://app.example:80", Bad::DefaultPort),
            ("https://app.example:", Bad::Form),
            ("https://app.example:+1", Bad::Form),
            ("https://app.example:99999", Bad::Form),
            ("https://user@app.example", Bad::Form),
            ("https://a..example", Bad::Form),
            ("https://*", Bad::Wildcard),
            ("https://*.[::1]", Bad::Wildcard),
            ("https://a*.example", Bad::Wildcard),
            ("https://a.*.example", Bad::Wildcard),
            ("https://*.*.example", Bad::Wildcard),
            ("https://b\u{fc}cher.example", Bad::NotAscii),
            ("https://[::1", Bad::Form),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(bad), "{text}");
        }
        for text in [
            "https://app.example",
            "http://localhost:3000",
            "https://[2001:db8::1]:8443",
            "https://xn--bcher-kva.example",
            "https://*.shop.example",
            "https://*.shop.example:8443",
            "chrome-extension://abcdef",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn an_origin_matches_as_a_whole() {
        let exact = pattern("https://app.example");
        assert!(exact.matches("https://app.example"));
        for other in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.test",
            "https://evil-app.example",
            "https://app.example/",
            "https://APP.example",
            "null",
            "",
        ] {
            assert!(!exact.matches(other), "{other}");
        }
    }

    #[test]
    fn a_wildcard_is_one_label() {
        let any = pattern("https://*.shop.example");
        assert!(any.matches("https://app.shop.example"));
        for other in [
            "https://shop.example",
            "https://.shop.example",
            "https://a.b.shop.example",
            "https://app.shop.example:8443",
            "http://app.shop.example",
            "https://appshop.example",
            "https://app.shop.example.evil.test",
            "https://evil.test/.shop.example",
            "https://evil.test#.shop.example",
            "https://evil.test@x.shop.example",
        ] {
            assert!(!any.matches(other), "{other}");
        }
        assert!(pattern("https://*.shop.example:8443").matches("https://app.shop.example:8443"));
    }

    #[test]
    fn a_wildcard_below_a_top_level_domain_is_known_as_such() {
        assert!(pattern("https://*.com").is_top_level() && pattern("https://*.com:8443").is_top_level());
        assert!(!pattern("https://*.shop.example").is_top_level() && !pattern("https://com").is_top_level());
    }

    #[test]
    fn an_allowed_origin_is_repeated_with_a_vary_field() {
        let cors = listed(&["https://app.example"], true);
        let fields = cors.answer(Some("https://app.example"));
        assert_eq!(value(&fields, "access-control-allow-origin"), Some("https://app.example"));
        assert_eq!(value(&fields, "access-control-allow-credentials"), Some("true"));
        assert_eq!(value(&fields, "vary"), Some("Origin"));
        assert!(value(&fields, "access-control-expose-headers").unwrap().contains("x-replay-not-possible"));
        for origin in [Some("https://evil.example"), Some("null"), None] {
            assert_eq!(cors.answer(origin), [("vary", "Origin".to_owned())], "{origin:?}");
        }
    }

    #[test]
    fn a_policy_for_every_origin_sends_a_star_without_credentials() {
        let fields = Cors::any(Box::default(), Duration::ZERO).answer(Some("https://any.example"));
        assert_eq!(value(&fields, "access-control-allow-origin"), Some("*"));
        assert_eq!(value(&fields, "access-control-allow-credentials"), None);
        assert_eq!(value(&fields, "vary"), None);
    }

    #[test]
    fn a_preflight_names_methods_headers_and_an_age() {
        let cors = Cors::listed(
            vec![pattern("https://app.example")],
            false,
            ["x-tenant".into()].into(),
            Duration::from_secs(600),
        );
        let fields = cors.preflight("https://app.example", "GET, HEAD");
        assert_eq!(value(&fields, "access-control-allow-methods"), Some("GET, HEAD"));
        let headers = value(&fields, "access-control-allow-headers").unwrap();
        assert!(headers.contains("last-event-id") && headers.ends_with(", x-tenant"));
        assert_eq!(value(&fields, "access-control-max-age"), Some("600"));
        assert_eq!(value(&fields, "access-control-allow-credentials"), None);
        assert_eq!(cors.preflight("https://evil.example", "GET").len(), 1);
    }
}
