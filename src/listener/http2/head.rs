//! The head of a request of HTTP/2: the rules of HTTP/1.1 that Pingora does not check, and the form of HTTP/1.1 where the
//! two differ.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderValue, Method};
use pingora::http::RequestHeader;

use super::super::head::{BadHead, HEADER_FIELDS_MAX, check_target, is_host, parse_length};

/// Checks a head, and gives it the fields of HTTP/1.1.
///
/// # Errors
///
/// The first rule that the head breaks.
pub(super) fn prepare(request: &mut RequestHeader) -> Result<(), BadHead> {
    if request.method == Method::CONNECT {
        return Err(BadHead::Connect);
    }
    if request.headers.len() > HEADER_FIELDS_MAX {
        return Err(BadHead::TooManyFields);
    }
    let target = std::str::from_utf8(request.raw_path()).map_err(|_| BadHead::Target)?;
    check_target(request.method.as_str(), target)?;
    let mut lengths = request.headers.get_all(CONTENT_LENGTH).iter();
    let is_length = |value: &HeaderValue| parse_length(value.as_bytes()).is_some();
    if !lengths.next().is_none_or(is_length) || lengths.next().is_some() {
        return Err(BadHead::ContentLength);
    }
    set_host(request)?;
    join_cookies(request);
    Ok(())
}

/// `:authority` replaces `Host` (RFC 9113 section 8.3.1). If both are present, Pingora has found that they agree.
fn set_host(request: &mut RequestHeader) -> Result<(), BadHead> {
    if let Some(authority) = request.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| BadHead::Host)?;
        request.insert_header(HOST, host).map_err(|_| BadHead::Host)?;
    }
    let host = request.headers.get(HOST).ok_or(BadHead::Host)?;
    if is_host(host.as_bytes()) { Ok(()) } else { Err(BadHead::Host) }
}

/// Makes one field of several `Cookie` fields (RFC 9113 section 8.2.3).
fn join_cookies(request: &mut RequestHeader) {
    let crumbs: Vec<_> = request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    // Valid values joined by a semicolon and a space are a valid value.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        let _ = request.insert_header(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let (mut parts, ()) = http::Request::get(target).body(()).unwrap().into_parts();
        for (name, value) in fields {
            parts.headers.append(*name, HeaderValue::from_static(value));
        }
        RequestHeader::from(parts)
    }

    #[test]
    fn the_authority_is_the_host() {
        for (target, fields) in [("http://a.example:80/x", &[][..]), ("/x", &[("host", "a.example:80")])] {
            let mut request = request(target, fields);
            assert_eq!(prepare(&mut request), Ok(()));
            assert_eq!(request.headers[HOST], "a.example:80");
        }
        assert_eq!(prepare(&mut request("/x", &[])), Err(BadHead::Host));
        assert_eq!(prepare(&mut request("/x", &[("host", "a b")])), Err(BadHead::Host));
    }

    #[test]
    fn cookies_are_one_field() {
        let mut request = request("http://a/", &[("cookie", "a=b"), ("cookie", "c=d")]);
        assert_eq!(prepare(&mut request), Ok(()));
        let cookies: Vec<_> = request.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=b; c=d"]);
    }

    #[test]
    fn rules_of_http1_hold() {
        let long = format!("http://a/{}", "x".repeat(16 * 1024));
        assert_eq!(prepare(&mut request(&long, &[])), Err(BadHead::TargetTooLong));
        let many = vec![("x", "y"); HEADER_FIELDS_MAX + 1];
        assert_eq!(prepare(&mut request("http://a/", &many)), Err(BadHead::TooManyFields));
        for lengths in [&[("content-length", "5"), ("content-length", "5")][..], &[("content-length", "5, 5")]] {
            assert_eq!(prepare(&mut request("http://a/", lengths)), Err(BadHead::ContentLength));
        }
        assert_eq!(prepare(&mut request("http://a/", &[("content-length", "5")])), Ok(()));
    }
}
