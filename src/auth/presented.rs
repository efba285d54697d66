//! The tokens in a request. It reads header values and verifies nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// How a token was sent. Browsers send a cookie for pages of any site, so that the `Origin` of a WebSocket with a
/// cookie must be checked; the client itself sets the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    Bearer,
    /// As a WebSocket subprotocol.
    Subprotocol,
    /// A ticket in the URL, which replaces a token.
    Ticket,
    /// As an API key, in a field of its own or with the scheme `ApiKey`.
    ApiKey,
    Cookie,
}

/// The prefix of an entry of `Sec-WebSocket-Protocol` with a token, in the format of Kubernetes: an application's name,
/// a dot, and the token in base64url without padding (RFC 4648 section 5) follow.
pub const TOKEN_SUBPROTOCOL: &str = "base64url.bearer.authorization.";

/// The token in the offered subprotocols. `None` if there is none. If there are several or a malformed one, an empty
/// token, which every verifier rejects: the request is not treated as one without a token.
pub fn subprotocol_token<'a>(offered: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut entries = offered.filter_map(|entry| entry.strip_prefix(TOKEN_SUBPROTOCOL));
    let (first, second) = (entries.next()?, entries.next());
    let decoded = first.rsplit_once('.').and_then(|(_, encoded)| URL_SAFE_NO_PAD.decode(encoded).ok());
    let token = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|_| second.is_none());
    Some(token.unwrap_or_default())
}

/// The most tokens of one request. More cookies of one name do not occur by accident.
const PRESENTED_MAX: usize = 8;

/// The fields that may contain credentials, beside `Authorization`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CredentialFields<'a> {
    /// The name of the cookie that may contain a token.
    pub cookie: Option<&'a str>,
    /// The field that may contain an API key.
    pub api_key: Option<&'a HeaderName>,
}

/// The tokens of a request in order of precedence: the one in `Authorization` alone (`Bearer`, RFC 6750 section 2.1, or
/// `ApiKey`), or else the API key in its own field alone, or else the one in `set_by_client` alone, or else the values
/// of the cookies with this name. There may be several cookies, of which only one is valid: a browser sends those of
/// each path and domain without identifying them (RFC 6265 section 4.2.2). Other authorization schemes are ignored.
pub fn presented<'a>(
    headers: &'a HeaderMap,
    set_by_client: Option<(TokenOrigin, &'a str)>,
    fields: CredentialFields<'_>,
) -> Vec<(TokenOrigin, &'a str)> {
    let mut authorization = headers.get_all(AUTHORIZATION).iter().filter_map(text);
    if let Some(token) = authorization.find_map(|line| authorized(line, fields.api_key.is_some())) {
        return vec![token];
    }
    if let Some(key) = fields.api_key.and_then(|name| api_key(headers, name)) {
        return vec![(TokenOrigin::ApiKey, key)];
    }
    if let Some(token) = set_by_client {
        return vec![token];
    }
    let Some(name) = fields.cookie else { return Vec::new() };
    // Bytes, since cookies of other applications may contain any.
    let cookies = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let tokens = cookies.flat_map(|line| cookie_values(line, name)).map(|token| (TokenOrigin::Cookie, token));
    tokens.take(PRESENTED_MAX).collect()
}

/// The names of schemes are case-insensitive (RFC 9110 section 11.1).
fn authorized(authorization: &str, takes_keys: bool) -> Option<(TokenOrigin, &str)> {
    let (scheme, token) = authorization.trim_start().split_once(' ')?;
    let origin = match () {
        () if scheme.eq_ignore_ascii_case("bearer") => TokenOrigin::Bearer,
        () if takes_keys && scheme.eq_ignore_ascii_case("apikey") => TokenOrigin::ApiKey,
        () => return None,
    };
    Some((origin, token.trim()))
}

/// The value of the field. If there are several or it is not text, an empty one, which is no valid key: the request is
/// not treated as one without a key.
fn api_key<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    let (first, second) = (lines.next()?, lines.next());
    Some(text(first).filter(|_| second.is_none()).unwrap_or_default())
}

/// A line that is not ASCII contains a token, too, which no verifier accepts.
fn text(line: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(line.as_bytes()).ok()
}

/// The values of one cookie in a line of `Cookie`. Cookies are separated by semicolons, even within quotes (RFC 6265
/// section 5.4). Components that merge lines as lists separate them by commas (RFC 9110 section 5.3), which do not
/// occur in tokens.
fn cookie_values<'a>(line: &'a [u8], name: &str) -> impl Iterator<Item = &'a str> {
    line.split(|b| matches!(b, b';' | b',')).filter_map(move |cookie| {
        let at = memchr::memchr(b'=', cookie)?;
        let is_named = cookie[..at].trim_ascii() == name.as_bytes();
        let value = std::str::from_utf8(cookie[at + 1..].trim_ascii()).ok().filter(|_| is_named)?;
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::TokenOrigin::{ApiKey, Bearer, Cookie};
    use super::*;

    #[test]
    fn a_subprotocol_contains_one_token() {
        let entry = |encoded: &str| format!("{TOKEN_SUBPROTOCOL}app.{encoded}");
        let token = |offered: &[&str]| subprotocol_token(offered.iter().copied());
        assert_eq!(token(&["v1", &entry("YS5iLmM")]).as_deref(), Some("a.b.c"));
        assert_eq!(token(&[&format!("{TOKEN_SUBPROTOCOL}k8s.io.YS5iLmM")]).as_deref(), Some("a.b.c"));
        assert_eq!(token(&["v1"]), None);
        assert_eq!(token(&[]), None);
        for bad in [&entry("YS5iLmM="), &entry("!"), &entry("_w"), &entry(""), TOKEN_SUBPROTOCOL] {
            assert_eq!(token(&[bad]).as_deref(), Some(""), "{bad}");
        }
        assert_eq!(token(&[&entry("YS5iLmM"), &entry("YS5iLmM")]).as_deref(), Some(""));
    }

    fn headers(authorization: &[&[u8]], cookies: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, lines) in [(AUTHORIZATION, authorization), (COOKIE, cookies)] {
            for line in lines {
                headers.append(&name, HeaderValue::from_bytes(line).unwrap());
            }
        }
        headers
    }

    /// What is found with a cookie and a field for API keys.
    fn found_in(headers: &HeaderMap, set_by_client: Option<(TokenOrigin, &str)>) -> Vec<(TokenOrigin, String)> {
        let name = HeaderName::from_static("x-api-key");
        let fields = CredentialFields { cookie: Some("session"), api_key: Some(&name) };
        let found = presented(headers, set_by_client, fields);
        found.into_iter().map(|(origin, token)| (origin, token.to_owned())).collect()
    }

    fn found(authorization: &[&[u8]], cookies: &[&[u8]]) -> Vec<(TokenOrigin, String)> {
        found_in(&headers(authorization, cookies), None)
    }

    fn one(origin: TokenOrigin, token: &str) -> Vec<(TokenOrigin, String)> {
        vec![(origin, token.to_owned())]
    }

    #[test]
    fn finds_the_token() {
        assert_eq!(found(&[b"Bearer abc"], &[]), one(Bearer, "abc"));
        assert_eq!(found(&[b"bEARER  abc "], &[]), one(Bearer, "abc"));
        assert_eq!(found(&[b"Bearer abc"], &[b"session=def"]), one(Bearer, "abc"));
        assert_eq!(found(&[b"Basic abc", b"Bearer abc"], &[]), one(Bearer, "abc"));
        assert_eq!(found(&[b"Basic abc"], &[b"session=def"]), one(Cookie, "def"));
        assert_eq!(found(&[b"\xff"], &[b"session=def"]), one(Cookie, "def"));
        let both = |authorization: &[&[u8]]| {
            found_in(&headers(authorization, &[b"session=def"]), Some((TokenOrigin::Ticket, "offered")))
        };
        assert_eq!(both(&[b"Bearer abc"]), one(Bearer, "abc"));
        assert_eq!(both(&[]), one(TokenOrigin::Ticket, "offered"), "and the cookie does not count");
        assert_eq!(found(&[b"Bearer"], &[]), []);
        assert_eq!(found(&[b"Bearer "], &[]), one(Bearer, ""));
        assert_eq!(found(&[], &[b"xsession=1;  Session=2; session="]), []);
        assert_eq!(presented(&headers(&[], &[b"session=abc"]), None, CredentialFields::default()), []);
    }

    #[test]
    fn finds_an_api_key() {
        let with = |authorization: &[&[u8]], keys: &[&'static [u8]]| {
            let mut headers = headers(authorization, &[b"session=def"]);
            for key in keys {
                headers.append("x-api-key", HeaderValue::from_bytes(key).unwrap());
            }
            headers
        };
        assert_eq!(found_in(&with(&[], &[b"k1"]), None), one(ApiKey, "k1"));
        assert_eq!(found_in(&with(&[b"apiKEY k1"], &[]), None), one(ApiKey, "k1"));
        assert_eq!(found_in(&with(&[b"Bearer abc"], &[b"k1"]), None), one(Bearer, "abc"));
        assert_eq!(found_in(&with(&[], &[b"k1"]), Some((TokenOrigin::Ticket, "t"))), one(ApiKey, "k1"));
        for bad in [&[&b"k1"[..], b"k2"][..], &[b"\xff"], &[b""]] {
            assert_eq!(found_in(&with(&[], bad), None), one(ApiKey, ""), "{bad:?}");
        }
        let headers = with(&[b"ApiKey k1"], &[b"k1"]);
        assert_eq!(presented(&headers, None, CredentialFields::default()), [], "no keys are configured");
    }

    #[test]
    fn other_cookies_do_not_hide_the_token() {
        for cookies in [
            &[&b"theme=dark; session=d=ef"[..]][..],
            &[b"theme=dark", b"session=d=ef"],
            &[b"session=d=ef", b"theme=dark"],
            &[b"session=\"d=ef\""],
            &[b"a=\"x; y\"; session=d=ef"],
            &[b"a=x,y z;session=d=ef;"],
            &[b"=nameless; nameless; ; session = d=ef"],
            &[b"a=\xff\xfe; session=d=ef", b"\xff"],
            &[b"a={\"b\":1}; session=d=ef; c=="],
            &[b"$Version=1; session=d=ef; $Path=/"],
            &[b"theme=dark, session=d=ef"],
            &[b"session=d=ef, theme=dark"],
            &[b"session=\xff; session=d=ef"],
        ] {
            assert_eq!(found(&[], cookies), one(Cookie, "d=ef"), "{cookies:?}");
        }
        assert_eq!(
            found(&[], &[b"session=old; session=new"]),
            [(Cookie, "old".to_owned()), (Cookie, "new".to_owned())]
        );
        assert_eq!(found(&[], &[&b"session=x;".repeat(PRESENTED_MAX + 1)]).len(), PRESENTED_MAX);
    }
}
