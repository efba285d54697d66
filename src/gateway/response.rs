//! What is changed about an upstream's answer: as little as HTTP allows a proxy.
//!
//! Hop-by-hop fields stay on their hop (RFC 9110 section 7.6.1), streams the upstream makes itself are told not to be
//! buffered on the way, and HTTP/1.0 clients get no chunks. `Date` and `Connection` are Pingora's, which overwrites them.

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

/// The content types of streams.
const STREAM_TYPES: [&str; 4] =
    ["text/event-stream", "application/x-ndjson", "application/jsonl", "application/json-seq"];
/// Read by nginx and those that copied it.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Readies an upstream's answer for the client. True: the body will end with the connection.
pub(super) fn correct(response: &mut ResponseHeader, is_http10: bool) -> pingora::Result<bool> {
    if response.status != StatusCode::SWITCHING_PROTOCOLS {
        remove_hop_by_hop(response);
    }
    if is_stream(response) {
        unbuffer(response)?;
    }
    // Nobody chunks towards HTTP/1.0 (RFC 9112 section 6.1): the end of the connection is the end of the body.
    Ok(is_http10 && response.remove_header(&TRANSFER_ENCODING).is_some())
}

fn remove_hop_by_hop(response: &mut ResponseHeader) {
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // An upgrade that is offered (426) keeps its name; framing is not for an upstream to take away.
        .filter(|name: &HeaderName| ![http::header::UPGRADE, TRANSFER_ENCODING].contains(name))
        .collect();
    for name in nominated {
        response.remove_header(&name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        response.remove_header(name);
    }
}

fn is_stream(response: &ResponseHeader) -> bool {
    let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    STREAM_TYPES.iter().any(|stream| essence.eq_ignore_ascii_case(stream))
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
    fn hop_by_hop_fields_stay_behind() {
        let headers =
            [("connection", "x-hop, keep-alive"), ("keep-alive", "timeout=5"), ("x-hop", "1"), ("x-end", "2")];
        // `Connection` itself is Pingora's to replace.
        assert_eq!(names(&headers), ["connection", "x-end"]);
        assert!(
            names(&[("connection", "transfer-encoding"), ("transfer-encoding", "chunked")])
                .contains(&"transfer-encoding".to_owned())
        );
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
