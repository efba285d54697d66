//! Who opens a stream, and whether they may: token, claims to keys, and the origin of a cookie's WebSocket.

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::refusal::{Reason, Refusal};
use crate::access::{Principal, Selector};
use crate::auth::{self, TokenOrigin, Verifier};
use crate::problem::Problem;
use crate::route::{Admission, Params, StreamRoute, Transport};

/// What a stream request may see.
#[derive(Debug)]
pub(super) struct Authorized {
    pub selector: Selector,
    pub principal: Option<Principal>,
}

/// Verifies the token where the route needs one and fills the route's bindings. On public routes tokens are ignored.
pub(super) fn authorize(
    route: &StreamRoute,
    params: &Params,
    transport: Transport,
    headers: &HeaderMap,
    verifier: Option<&Verifier>,
    now_unix_ms: i64,
) -> Result<Authorized, Refusal> {
    let principal = match route.admission {
        Admission::Public => None,
        Admission::Token => Some(identify(route, transport, headers, verifier, now_unix_ms)?),
    };
    let selector = Selector::bind(&route.bindings, params, principal.as_ref())
        .map_err(|denied| Refusal::new(Reason::Forbidden, Problem::new(StatusCode::FORBIDDEN, denied.to_string())))?;
    Ok(Authorized { selector, principal })
}

fn identify(
    route: &StreamRoute,
    transport: Transport,
    headers: &HeaderMap,
    verifier: Option<&Verifier>,
    now_unix_ms: i64,
) -> Result<Principal, Refusal> {
    // The configuration was refused if a route needs tokens and nothing verifies them; if so nonetheless: nobody.
    let verifier = verifier.ok_or_else(|| unauthorized("Bearer", "no token is accepted here"))?;
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (origin, token) = auth::presented(text(AUTHORIZATION), text(COOKIE), verifier.cookie())
        .ok_or_else(|| unauthorized("Bearer", "a token is required"))?;
    let principal = verifier.verify(token, now_unix_ms).map_err(|error| {
        tracing::debug!(%error, "refused a token");
        unauthorized("Bearer error=\"invalid_token\"", error.to_string())
    })?;
    // Browsers send cookies on anybody's behalf, and WebSockets know no same-origin policy (RFC 6455 section 10.2).
    if origin == TokenOrigin::Cookie && transport == Transport::WebSocket && !is_own_origin(route, headers) {
        let problem = Problem::new(StatusCode::FORBIDDEN, "this origin may not open a WebSocket with a cookie");
        return Err(Refusal::new(Reason::Origin, problem));
    }
    Ok(principal)
}

/// RFC 6750 section 3: no error code where no token came.
fn unauthorized(challenge: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    let problem =
        Problem::new(StatusCode::UNAUTHORIZED, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    Refusal::new(Reason::Unauthorized, problem)
}

/// Whether `Origin` is the request's own host or one the route allows. Browsers always send one: none is refused.
fn is_own_origin(route: &StreamRoute, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(origin) = text(ORIGIN) else { return false };
    if route.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    // The scheme cannot be compared: TLS may have ended before the sidecar.
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    text(HOST).is_some_and(|host| !host.is_empty() && bare(host) == bare(authority))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::route;

    fn is_own(origin: Option<&'static str>, host: &'static str) -> bool {
        let route = StreamRoute { allowed_origins: ["https://app.example".into()].into(), ..route("/x") };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        is_own_origin(&route, &headers)
    }

    #[test]
    fn origins() {
        assert!(is_own(Some("https://api.example"), "api.example"));
        assert!(is_own(Some("https://api.example"), "API.example:443"));
        assert!(is_own(Some("http://api.example:8080"), "api.example:8080"));
        assert!(is_own(Some("https://app.example"), "api.example"));
        for origin in [None, Some("null"), Some("https://evil.example"), Some("https://api.example.evil")] {
            assert!(!is_own(origin, "api.example"), "{origin:?}");
        }
        assert!(!is_own(Some("https://api.example:8443"), "api.example"));
        assert!(!is_own(Some("https://"), ""));
    }

    #[test]
    fn no_token_no_stream() {
        let private = StreamRoute { admission: Admission::Token, ..route("/x") };
        let open =
            |route: &StreamRoute| authorize(route, &Params::default(), Transport::Sse, &HeaderMap::new(), None, 0);
        assert!(open(&route("/x")).is_ok());
        let refusal = open(&private).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Unauthorized);
    }
}
