//! Where a request carries its token. Reads header values only and judges no token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How a token came. Browsers send a cookie on behalf of any page, so a WebSocket opened with one must be checked for its
/// `Origin`; the others are set by whoever has the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    Bearer,
    /// As a WebSocket subprotocol.
    Subprotocol,
    /// A ticket in the URL, which stands for a token.
    Ticket,
    Cookie,
}

/// What begins an entry of `Sec-WebSocket-Protocol` that carries a token, as Kubernetes writes it: a name of the
/// application follows, then a dot, then the token in base64url without padding (RFC 4648 section 5).
pub const TOKEN_SUBPROTOCOL: &str = "base64url.bearer.authorization.";

/// The token among the offered subprotocols. Nothing where none carries one; an empty token, which no verifier accepts,
/// where several do or one is malformed: a request that meant to name somebody is not taken for one without a token.
pub fn subprotocol_token<'a>(offered: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut entries = offered.filter_map(|entry| entry.strip_prefix(TOKEN_SUBPROTOCOL));
    let (first, second) = (entries.next()?, entries.next());
    let decoded = first.rsplit_once('.').and_then(|(_, encoded)| URL_SAFE_NO_PAD.decode(encoded).ok());
    let token = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|_| second.is_none());
    Some(token.unwrap_or_default())
}

/// Tokens of one request that are looked at. More cookies of one name than this are no accident.
const PRESENTED_MAX: usize = 8;

/// The tokens a request presents, in the order in which they count: that of `Authorization: Bearer` (RFC 6750 section 2.1)
/// alone, or else the one `set_by_client` elsewhere alone, or else the values of the cookies with this name. There may be several of them, of which only one is good: a browser
/// sends those of each path and domain, without saying which is which (RFC 6265 section 4.2.2). Other authorization
/// schemes count as none.
///
/// Each argument gives the lines of its field, as bytes: cookies of other programs hold what they like.
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

/// The scheme's name is case-insensitive (RFC 9110 section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim_start().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The values of one cookie in a line of `Cookie`. Cookies are separated by semicolons, even within quotes (RFC 6265 section
/// 5.4); what merges lines as lists puts a comma between them (RFC 9110 section 5.3), which is no character of a token.
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
    fn a_subprotocol_carries_one_token() {
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
    fn other_cookies_hide_no_token() {
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
