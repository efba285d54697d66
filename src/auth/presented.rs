//! Where a request carries its token. Reads header values only and judges no token.

/// How a token came. A cookie is sent by browsers on anybody's behalf, so a WebSocket opened with one must be checked
/// for its `Origin`; a bearer header is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    Bearer,
    Cookie,
}

/// The token a request presents: that of `Authorization: Bearer` (RFC 6750 section 2.1), or else the named cookie's
/// (RFC 6265 section 4.2), the first of that name. Other authorization schemes count as none.
pub fn presented<'a>(
    authorization: Option<&'a str>,
    cookie: Option<&'a str>,
    cookie_name: Option<&str>,
) -> Option<(TokenOrigin, &'a str)> {
    if let Some(token) = authorization.and_then(bearer) {
        return Some((TokenOrigin::Bearer, token));
    }
    let token = cookie_value(cookie?, cookie_name?)?;
    Some((TokenOrigin::Cookie, token))
}

/// The scheme's name is case-insensitive (RFC 9110 section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim_start().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie_value<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = cookies
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(n, value)| n.trim() == name && !value.trim().is_empty())?;
    let value = value.trim();
    Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_token() {
        use TokenOrigin::{Bearer, Cookie};
        let cases = [
            (Some("Bearer abc"), None, Some((Bearer, "abc"))),
            (Some("bEARER  abc "), None, Some((Bearer, "abc"))),
            (Some("Bearer abc"), Some("session=def"), Some((Bearer, "abc"))),
            (Some("Basic abc"), Some("session=def"), Some((Cookie, "def"))),
            (Some("Bearer"), None, None),
            (Some("Bearer "), None, Some((Bearer, ""))),
            (None, Some("a=1; session=\"d=ef\"; session=x"), Some((Cookie, "d=ef"))),
            (None, Some("xsession=1;  Session=2; session="), None),
            (None, Some("session"), None),
            (None, None, None),
        ];
        for (authorization, cookie, expected) in cases {
            assert_eq!(presented(authorization, cookie, Some("session")), expected, "{authorization:?} {cookie:?}");
        }
        assert_eq!(presented(None, Some("session=abc"), None), None);
    }
}
