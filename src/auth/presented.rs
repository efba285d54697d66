//! The tokens in a request. It reads header values and verifies nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How a token was sent. Browsers send a cookie for pages of any site, so that the `Origin` of a WebSocket with a
/// cookie must be checked; the client itself sets the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    Bearer,
    /// As a WebSocket subprotocol.
    Subprotocol,
    /// A ticket in the URL, which replaces a token.
    Ticket,
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

/// The tokens of a request in order of precedence: the one in `Authorization: Bearer` (RFC 6750 section 2.1) alone, or
/// else the one in `set_by_client` alone, or else the values of the cookies with this name. There may be several
/// cookies, of which only one is valid: a browser sends those of each path and domain without identifying them (RFC
/// 6265 section 4.2.2). Other authorization schemes are ignored.
///
/// The arguments are the lines of the fields as bytes, since cookies of other applications may contain any bytes.
pub fn presented<'a>(
    authorization: impl Iterator<Item = &'a [u8]>,
    set_by_client: Option<(TokenOrigin, &'a str)>,
    cookies: impl Iterator<Item = &'a [u8]>,
    cookie_name: Option<&str>,
) -> Vec<(TokenOrigin, &'a str)> {
    if let Some(token) = authorization.filter_map(|line| std::str::from_utf8(line).ok()).find_map(bearer) {
        return vec![(TokenOrigin::Bearer, token)];
    }
    if let Some(token) = set_by_client {
        return vec![token];
    }
    let Some(name) = cookie_name else { return Vec::new() };
    let tokens = cookies.flat_map(|line| cookie_values(line, name)).map(|token| (TokenOrigin::Cookie, token));
    tokens.take(PRESENTED_MAX).collect()
}

/// The name of the scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim_start().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
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
    use super::TokenOrigin::{Bearer, Cookie};
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

    fn found<'a>(authorization: &[&'a [u8]], cookies: &[&'a [u8]]) -> Vec<(TokenOrigin, &'a str)> {
        presented(authorization.iter().copied(), None, cookies.iter().copied(), Some("session"))
    }

    #[test]
    fn finds_the_token() {
        assert_eq!(found(&[b"Bearer abc"], &[]), [(Bearer, "abc")]);
        assert_eq!(found(&[b"bEARER  abc "], &[]), [(Bearer, "abc")]);
        assert_eq!(found(&[b"Bearer abc"], &[b"session=def"]), [(Bearer, "abc")]);
        assert_eq!(found(&[b"Basic abc", b"Bearer abc"], &[]), [(Bearer, "abc")]);
        assert_eq!(found(&[b"Basic abc"], &[b"session=def"]), [(Cookie, "def")]);
        assert_eq!(found(&[b"\xff"], &[b"session=def"]), [(Cookie, "def")]);
        let both = |header: &'static [&'static [u8]]| {
            presented(
                header.iter().copied(),
                Some((TokenOrigin::Ticket, "offered")),
                [&b"session=def"[..]].into_iter(),
                Some("session"),
            )
        };
        assert_eq!(both(&[b"Bearer abc"]), [(Bearer, "abc")]);
        assert_eq!(both(&[]), [(TokenOrigin::Ticket, "offered")], "and the cookie does not count");
        assert_eq!(found(&[b"Bearer"], &[]), []);
        assert_eq!(found(&[b"Bearer "], &[]), [(Bearer, "")]);
        assert_eq!(found(&[], &[b"xsession=1;  Session=2; session="]), []);
        assert_eq!(presented([].into_iter(), None, [&b"session=abc"[..]].into_iter(), None), []);
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
            assert_eq!(found(&[], cookies), [(Cookie, "d=ef")], "{cookies:?}");
        }
        assert_eq!(found(&[], &[b"session=old; session=new"]), [(Cookie, "old"), (Cookie, "new")]);
        assert_eq!(found(&[], &[&b"session=x;".repeat(PRESENTED_MAX + 1)]).len(), PRESENTED_MAX);
    }
}
