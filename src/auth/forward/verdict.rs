//! Interprets a response of the service: its status decides, and its fields and JSON body become claims.

use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Map, Value};

use crate::auth::readers::Readers;
use crate::auth::service::{Challenges, Claims, Failure, Granted, Verdict, kept};
use crate::http_client::Response;

/// The most challenges of a response that are passed on, and the most bytes of each.
const CHALLENGES_MAX: usize = 4;
const CHALLENGE_BYTES_MAX: usize = 1024;

/// 2xx accepts; 401, and a redirect to a login page, require credentials; 403 denies. Any other status is not a
/// decision, as in nginx.
pub(super) fn read(
    response: &Response,
    from_headers: &[(Box<str>, HeaderName)],
    readers: &Readers,
) -> Result<Verdict, Failure> {
    match response.status {
        status if status.is_success() => {
            Ok(Verdict::Allowed(Granted { claims: claims(response, from_headers, readers)?, expires_at: None }))
        }
        status if status.is_redirection() => Ok(Verdict::Unauthorized(Challenges::default())),
        StatusCode::UNAUTHORIZED => Ok(Verdict::Unauthorized(challenges(&response.headers))),
        StatusCode::FORBIDDEN => Ok(Verdict::Forbidden),
        other => Err(Failure::Status(other.as_u16())),
    }
}

/// As with nginx's `auth_request`, the client receives nothing else of the response: neither cookies nor a location.
fn challenges(headers: &HeaderMap) -> Challenges {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter().filter(|line| line.len() <= CHALLENGE_BYTES_MAX);
    lines.take(CHALLENGES_MAX).cloned().collect()
}

/// The members of a JSON body, and the configured fields: such a claim comes only from its field. Only claims that
/// routes read are kept.
fn claims(response: &Response, from_headers: &[(Box<str>, HeaderName)], readers: &Readers) -> Result<Claims, Failure> {
    let mut claims = match is_json(&response.headers) && !response.body.is_empty() {
        true => serde_json::from_slice::<Map<String, Value>>(&response.body).map_err(|_| Failure::Body)?,
        false => Map::new(),
    };
    for (claim, field) in from_headers {
        match single(&response.headers, field) {
            Some(text) => drop(claims.insert((**claim).into(), text.into())),
            None => drop(claims.remove(&**claim)),
        }
    }
    Ok(kept(claims, readers, &["sid"]))
}

/// The value of a field that occurs once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else { return None };
    only.to_str().ok()
}

/// `application/json`, or a type with the suffix `+json` (RFC 6839 section 3.1).
fn is_json(headers: &HeaderMap) -> bool {
    let written = single(headers, &CONTENT_TYPE).unwrap_or_default();
    let media_type = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::access::{Binding, Source};
    use crate::auth::service::ServiceOutcome;
    use crate::testing::binding;

    fn bound(path: &[&str]) -> Binding {
        binding("k", Source::Claim(path.iter().map(|name| (*name).into()).collect()))
    }

    fn response(status: u16, fields: &[(&'static str, &'static str)], body: &'static str) -> Response {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Response { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from_static(body.as_bytes()) }
    }

    fn outcome(status: u16) -> Option<ServiceOutcome> {
        read(&response(status, &[], ""), &[], &Readers::default()).ok().map(|verdict| verdict.outcome())
    }

    #[test]
    fn the_status_decides() {
        for status in [200, 202, 204] {
            assert_eq!(outcome(status), Some(ServiceOutcome::Allowed), "{status}");
        }
        for status in [302, 303, 307, 401] {
            assert_eq!(outcome(status), Some(ServiceOutcome::Unauthorized), "{status}");
        }
        assert_eq!(outcome(403), Some(ServiceOutcome::Forbidden));
        for status in [400, 404, 429, 500, 503] {
            assert_eq!(outcome(status), None, "{status}");
        }
    }

    #[test]
    fn fields_and_json_become_claims() {
        let json = ("content-type", "application/json; charset=utf-8");
        let read = |fields: &[(&'static str, &'static str)], body| {
            let from = [("sub".into(), HeaderName::from_static("x-user"))];
            let readers = Readers { bindings: [bound(&["org", "id"])].into(), ..Readers::default() };
            match read(&response(200, fields, body), &from, &readers) {
                Ok(Verdict::Allowed(granted)) => Value::Object((**granted.claims).clone()),
                other => json!(other.is_ok()),
            }
        };
        let body = r#"{"sub":"json","org":{"id":7,"x":1},"role":"admin"}"#;
        assert_eq!(read(&[json, ("x-user", "u1")], body), json!({"sub": "u1", "org": {"id": 7}}));
        assert_eq!(read(&[json], body), json!({"org": {"id": 7}}), "the claim comes from its field alone");
        assert_eq!(read(&[json, ("x-user", "u1"), ("x-user", "u2")], body), json!({"org": {"id": 7}}));
        assert_eq!(read(&[("x-user", "u1")], body), json!({"sub": "u1"}), "it does not say it is JSON");
        assert_eq!(read(&[("content-type", "application/problem+json")], body), json!({"org": {"id": 7}}));
        for bad in ["[1]", "{", "7", r#"{"sub":"#] {
            assert_eq!(read(&[json], bad), json!(false), "{bad}");
        }
        assert_eq!(read(&[json], ""), json!({}));
    }
}
