//! Validates and adjusts an upstream's response, as little as HTTP requires of a proxy.
//!
//! Hop-by-hop fields are removed (RFC 9110 section 7.6.1), ambiguous framing is rejected (RFC 9112 section 6), streams
//! of the upstream are marked as not to be buffered, and HTTP/1.0 clients get no chunked coding. Pingora sets `Date`
//! and `Connection` of final responses.

use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};

use crate::codec::Transport;

/// The media type that streams share with ordinary documents.
const DOCUMENT_TYPE: &str = "application/json";
/// Read by nginx and compatible proxies.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Hop-by-hop fields, in addition to those that `Connection` lists (RFC 9110 section 7.6.1). Pingora drops trailers, so
/// `Trailer` is removed as well.
const HOP_BY_HOP: [HeaderName; 4] =
    [HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection"), TE, TRAILER];

/// Whether this is the final response head. 101 is final, despite its class.
pub(super) fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Rejects a response that cannot be forwarded: a switch to a protocol that was not requested (RFC 9110 section 7.8),
/// or a transfer coding other than a single `chunked` of HTTP/1.1 (RFC 9112 sections 6.1 and 6.3).
pub(super) fn check(request: &RequestHeader, response: &ResponseHeader) -> pingora::Result<()> {
    let invalid = |why| Err(Error::explain(ErrorType::InvalidHTTPHeader, why));
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        let mut switched = tokens(&response.headers, UPGRADE).peekable();
        let is_asked = |protocol: &str| tokens(&request.headers, UPGRADE).any(|it| it.eq_ignore_ascii_case(protocol));
        if switched.peek().is_none() || !switched.all(is_asked) {
            return invalid("a switch to a protocol that was not asked for");
        }
    }
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        _ if !has_framing(response.status) => Ok(()),
        (None, _) => Ok(()),
        (Some(only), None)
            if response.version == Version::HTTP_11
                && only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(())
        }
        _ => invalid("a transfer coding other than a single `chunked`"),
    }
}

/// Prepares an upstream's response for the client. True if the end of the connection ends the body.
pub(super) fn correct(response: &mut ResponseHeader, is_http10: bool) -> pingora::Result<bool> {
    // Each sender states its own version (RFC 9110 section 6.2).
    response.set_version(Version::HTTP_11);
    remove_hop_by_hop(response);
    if !has_framing(response.status) {
        // RFC 9110 section 8.6, RFC 9112 section 6.1.
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
    }
    unify_length(response)?;
    if stream(response).is_some() {
        unbuffer(response)?;
    }
    // HTTP/1.0 has no chunked coding (RFC 9112 section 6.1): closing the connection ends the body.
    Ok(is_http10 && response.remove_header(&TRANSFER_ENCODING).is_some())
}

/// Whether a response with this status may have framing fields.
fn has_framing(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn remove_hop_by_hop(response: &mut ResponseHeader) {
    let is_switch = response.status == StatusCode::SWITCHING_PROTOCOLS;
    // `Connection` must not remove framing fields. `Upgrade` is handled below.
    let is_kept = |name: &HeaderName| [UPGRADE, TRANSFER_ENCODING, CONTENT_LENGTH].contains(name);
    let nominated: Vec<HeaderName> = tokens(&response.headers, CONNECTION)
        .filter_map(|name| name.parse().ok())
        .filter(|name| !is_kept(name))
        .collect();
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        response.remove_header(name);
    }
    // `Upgrade` is part of a 101 and a 426 response; in others it is an offer for this hop only.
    if !is_switch && response.status != StatusCode::UPGRADE_REQUIRED {
        response.remove_header(&UPGRADE);
    }
    if !is_switch {
        response.remove_header(&CONNECTION);
    }
}

/// Merges repeated equal lengths (RFC 9110 section 8.6); Pingora rejects different ones.
fn unify_length(response: &mut ResponseHeader) -> pingora::Result<()> {
    let Some(length) = tokens(&response.headers, CONTENT_LENGTH).next().map(str::to_owned) else { return Ok(()) };
    response.insert_header(CONTENT_LENGTH, length)
}

/// The elements of a list-based field.
pub(super) fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The framing of a response that is a stream, by its media type.
pub(super) fn stream(response: &ResponseHeader) -> Option<Transport> {
    framing(response.headers.get(CONTENT_TYPE)?.to_str().ok()?)
}

/// Whether a request accepts a response that is a stream, by the name of its media type.
pub(super) fn accepts_stream(request: &RequestHeader) -> bool {
    tokens(&request.headers, ACCEPT).any(|accepted| framing(accepted).is_some())
}

/// The framing that a media type with parameters names.
fn framing(media_type: &str) -> Option<Transport> {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(DOCUMENT_TYPE) { None } else { Transport::of_media_type(essence) }
}

fn unbuffer(response: &mut ResponseHeader) -> pingora::Result<()> {
    response.insert_header(ACCEL_BUFFERING, "no")?;
    let own: Vec<&[u8]> = response.headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
    if own.is_empty() {
        return response.insert_header(CACHE_CONTROL, "no-cache, no-store, no-transform");
    }
    let mut directives = own.join(&b", "[..]);
    if !directives.to_ascii_lowercase().windows(12).any(|window| window == b"no-transform") {
        directives.extend_from_slice(b", no-transform");
    }
    response.insert_header(CACHE_CONTROL, directives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(headers: &[(&'static str, &'static str)], is_http10: bool) -> (Vec<(String, String)>, bool) {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in headers {
            response.append_header(*name, *value).unwrap();
        }
        let ends = correct(&mut response, is_http10).unwrap();
        let mut left: Vec<_> =
            response.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        left.sort();
        (left, ends)
    }

    fn names(headers: &[(&'static str, &'static str)]) -> Vec<String> {
        corrected(headers, false).0.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn hop_by_hop_fields_are_removed() {
        let headers =
            [("connection", "x-hop, keep-alive"), ("keep-alive", "timeout=5"), ("x-hop", "1"), ("x-end", "2")];
        // Pingora writes `Connection`.
        assert_eq!(names(&headers), ["x-end"]);
        assert_eq!(
            names(&[("connection", "transfer-encoding"), ("transfer-encoding", "chunked")]),
            ["transfer-encoding"]
        );
        assert_eq!(names(&[("connection", "content-length"), ("content-length", "2")]), ["content-length"]);
        assert_eq!(names(&[("upgrade", "h2,h2c"), ("te", "gzip"), ("trailer", "x")]), [""; 0]);
    }

    #[test]
    fn interim_answers_and_those_without_content_have_no_framing() {
        let names = |status: u16| {
            let mut response = ResponseHeader::build(status, None).unwrap();
            for (name, value) in [
                ("content-length", "5"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("connection", "upgrade, x-hop"),
                ("x-hop", "1"),
                ("link", "y"),
            ] {
                response.append_header(name, value).unwrap();
            }
            correct(&mut response, false).unwrap();
            let mut names: Vec<_> = response.headers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(103), ["link"]);
        assert_eq!(names(204), ["link"]);
        assert_eq!(names(101), ["connection", "link", "upgrade"]);
        assert_eq!(names(426), ["content-length", "link", "transfer-encoding", "upgrade"]);
    }

    #[test]
    fn equal_lengths_are_merged() {
        let lengths = |headers: &[(&'static str, &'static str)]| corrected(headers, false).0;
        let one = [("content-length".to_owned(), "2".to_owned())];
        assert_eq!(lengths(&[("content-length", "2, 2")]), one);
        assert_eq!(lengths(&[("content-length", "2"), ("content-length", "2")]), one);
    }

    #[test]
    fn responses_that_cannot_be_forwarded_are_rejected() {
        let checked = |status: u16, version, headers: &[(&'static str, &'static str)]| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.insert_header(UPGRADE, "websocket").unwrap();
            let mut response = ResponseHeader::build(status, None).unwrap();
            response.set_version(version);
            for (name, value) in headers {
                response.append_header(*name, *value).unwrap();
            }
            check(&request, &response).is_ok()
        };
        let http11 = Version::HTTP_11;
        assert!(checked(101, http11, &[("upgrade", "WebSocket")]));
        assert!(!checked(101, http11, &[("upgrade", "h2c")]));
        assert!(!checked(101, http11, &[("upgrade", "websocket, h2c")]));
        assert!(!checked(101, http11, &[]));
        assert!(checked(200, http11, &[("transfer-encoding", "Chunked")]));
        assert!(checked(204, http11, &[("transfer-encoding", "identity")]), "it is removed");
        assert!(!checked(200, Version::HTTP_10, &[("transfer-encoding", "chunked")]));
        assert!(!checked(200, http11, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
        for coding in ["identity", "gzip, chunked", "chunked, chunked", ""] {
            assert!(!checked(200, http11, &[("transfer-encoding", coding)]), "{coding}");
        }
    }

    #[test]
    fn streams_are_not_buffered() {
        let cache = |headers: &[(&'static str, &'static str)]| {
            let (left, _) = corrected(headers, false);
            assert_eq!(left.iter().find(|(n, _)| n == "x-accel-buffering").map(|(_, v)| v.as_str()), Some("no"));
            left.iter().find(|(n, _)| n == "cache-control").map(|(_, v)| v.clone()).unwrap()
        };
        let stream = ("content-type", "Text/Event-Stream; charset=utf-8");
        assert_eq!(cache(&[stream]), "no-cache, no-store, no-transform");
        assert_eq!(cache(&[stream, ("cache-control", "private")]), "private, no-transform");
        assert_eq!(
            cache(&[stream, ("cache-control", "No-Transform"), ("cache-control", "no-store")]),
            "No-Transform, no-store"
        );
        assert_eq!(names(&[("content-type", "application/json")]), ["content-type"]);
    }

    #[test]
    fn no_chunks_for_http10() {
        let chunked = [("transfer-encoding", "chunked")];
        assert_eq!(corrected(&chunked, true), (vec![], true));
        assert!(!corrected(&chunked, false).1);
        assert!(!corrected(&[("content-length", "0")], true).1);
    }
}
