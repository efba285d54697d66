//! The server's side of the WebSocket opening handshake (RFC 6455 section 4.2). It writes nothing: the 101 response is
//! part of the session's first bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::RequestHeader;
use sha1::{Digest, Sha1};

use crate::auth::{self, TOKEN_SUBPROTOCOL};
use crate::codec::http::Handshake;
use crate::problem::Problem;
use crate::route::StreamRoute;

/// The GUID of RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocol that a client without an application subprotocol offers in addition to its token.
const BESIDE_TOKEN: &str = "sidestream";
/// The length of a decoded `Sec-WebSocket-Key` (section 4.2.1).
const KEY_BYTES: usize = 16;

/// Whether `Upgrade` contains `websocket`, whether the handshake is valid or not.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "websocket")
}

/// Validates the handshake and computes the response.
pub(super) fn accept(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    route: &StreamRoute,
) -> Result<Handshake, Problem> {
    let bad = |detail: &'static str| Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    if method != Method::GET || version != Version::HTTP_11 {
        return bad("a WebSocket is opened by GET with HTTP/1.1");
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        return bad("Connection must name Upgrade");
    }
    match single(headers, &SEC_WEBSOCKET_VERSION) {
        Some("13") => {}
        Some(_) => return Err(other_version()),
        None => return bad("Sec-WebSocket-Version is required, once"),
    }
    let key = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key else {
        return bad("Sec-WebSocket-Key must be 16 bytes in base64, once");
    };
    Ok(Handshake { accept: answer(key), subprotocol: subprotocol(headers, route) })
}

/// A 426 response with the protocol and version to upgrade to (RFC 9110 section 15.5.22, RFC 6455 section 4.4).
pub(super) fn upgrade_required(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
}

fn other_version() -> Problem {
    upgrade_required("only version 13 of the WebSocket protocol is spoken")
}

fn answer(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

fn is_key(key: &str) -> bool {
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

/// The token in the offered subprotocols, if any.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    auth::subprotocol_token(tokens(headers, SEC_WEBSOCKET_PROTOCOL))
}

/// Removes the entries that carry tokens from the offered subprotocols.
pub(super) fn drop_tokens(request: &mut RequestHeader) -> pingora::Result<()> {
    let offered = || tokens(&request.headers, SEC_WEBSOCKET_PROTOCOL);
    if !offered().any(|entry| entry.starts_with(TOKEN_SUBPROTOCOL)) {
        return Ok(());
    }
    let kept: Vec<&str> = offered().filter(|entry| !entry.starts_with(TOKEN_SUBPROTOCOL)).collect();
    let kept = kept.join(", ");
    request.remove_header(&SEC_WEBSOCKET_PROTOCOL);
    if kept.is_empty() { Ok(()) } else { request.insert_header(SEC_WEBSOCKET_PROTOCOL, kept) }
}

/// The route's most preferred subprotocol among those offered, never one that carries a token. A browser that offered
/// subprotocols and gets none fails the handshake (WHATWG WebSockets section 4): if the client offered a token,
/// [`BESIDE_TOKEN`] is selected.
fn subprotocol(headers: &HeaderMap, route: &StreamRoute) -> Option<Box<str>> {
    let own = route.token_from.subprotocol.then_some(BESIDE_TOKEN);
    let known = route.subprotocols.iter().map(|name| &**name).chain(own);
    let mut known = known.filter(|name| !name.starts_with(TOKEN_SUBPROTOCOL));
    known.find(|name| tokens(headers, SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == *name)).map(Box::from)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::trim),
        _ => None,
    }
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::TokenSources;
    use crate::testing::route;

    fn headers(changed: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in changed {
            match *value {
                "" => drop(headers.remove(*name)),
                value => drop(headers.insert(*name, HeaderValue::from_static(value))),
            }
        }
        headers
    }

    fn status(method: Method, version: Version, changed: &[(&'static str, &'static str)]) -> u16 {
        match accept(&method, version, &headers(changed), &route("/x")) {
            Ok(_) => 101,
            Err(problem) => problem.status().as_u16(),
        }
    }

    #[test]
    fn the_example_of_rfc_6455_is_accepted() {
        let subprotocols = StreamRoute { subprotocols: ["v2".into(), "v1".into()].into(), ..route("/x") };
        let offered = headers(&[("sec-websocket-protocol", "v1, v2, v3")]);
        let handshake = accept(&Method::GET, Version::HTTP_11, &offered, &subprotocols).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.subprotocol.as_deref(), Some("v2"));
        let others = headers(&[("sec-websocket-protocol", "v3")]);
        assert_eq!(accept(&Method::GET, Version::HTTP_11, &others, &subprotocols).unwrap().subprotocol, None);
    }

    #[test]
    fn malformed_handshakes_are_refused() {
        let (get, http11) = (Method::GET, Version::HTTP_11);
        assert_eq!(status(get.clone(), http11, &[]), 101);
        assert_eq!(status(Method::HEAD, http11, &[]), 400);
        assert_eq!(status(get.clone(), Version::HTTP_10, &[]), 400);
        for (name, value, expected) in [
            ("connection", "close", 400),
            ("connection", "", 400),
            ("sec-websocket-version", "", 400),
            ("sec-websocket-version", "8", 426),
            ("sec-websocket-key", "", 400),
            ("sec-websocket-key", "dGhlIHNhbXBsZQ==", 400),
            ("sec-websocket-key", "not base64 at all!!!!!!!", 400),
        ] {
            assert_eq!(status(get.clone(), http11, &[(name, value)]), expected, "{name}: {value}");
        }
        let mut twice = headers(&[]);
        twice.append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(accept(&get, http11, &twice, &route("/x")).is_err());
    }

    #[test]
    fn a_token_is_never_echoed() {
        let entry = "base64url.bearer.authorization.app.YS5iLmM";
        let token_from = TokenSources { subprotocol: true, ..TokenSources::default() };
        let takes = StreamRoute { token_from, subprotocols: [entry.into(), "v1".into()].into(), ..route("/x") };
        let other = StreamRoute { subprotocols: [entry.into()].into(), ..route("/x") };
        let echoed = |route: &StreamRoute, offered| {
            accept(&Method::GET, Version::HTTP_11, &headers(&[("sec-websocket-protocol", offered)]), route)
                .unwrap()
                .subprotocol
        };
        let both = "base64url.bearer.authorization.app.YS5iLmM, sidestream, v1";
        assert_eq!(echoed(&takes, both).as_deref(), Some("v1"));
        assert_eq!(
            echoed(&takes, "sidestream, base64url.bearer.authorization.app.YS5iLmM").as_deref(),
            Some("sidestream")
        );
        assert_eq!(echoed(&takes, entry), None);
        assert_eq!(echoed(&other, both), None);
    }

    #[test]
    fn a_request_that_passes_to_the_service_carries_no_token_as_a_subprotocol() {
        let entry = format!("{TOKEN_SUBPROTOCOL}app.YS5iLmM");
        for (lines, kept) in [
            (&["v1, v2"][..], Some("v1, v2")),
            (&[&*format!("v1,{entry}, v2"), &entry], Some("v1, v2")),
            (&[&*entry], None),
            (&[], None),
        ] {
            let mut request = RequestHeader::build("OPTIONS", b"/x", None).unwrap();
            for line in lines {
                request.append_header(SEC_WEBSOCKET_PROTOCOL, *line).unwrap();
            }
            drop_tokens(&mut request).unwrap();
            assert_eq!(single(&request.headers, &SEC_WEBSOCKET_PROTOCOL), kept, "{lines:?}");
        }
    }
}
