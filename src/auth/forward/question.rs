//! The request to the service: fields of the client's request, and their hash, which is the key of the cache.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest as _, Sha256};

use crate::auth::service::Question;

/// The most bytes of fields. A stream keeps them while it is open.
pub const QUESTION_BYTES_MAX: usize = 16 * 1024;

const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// Fields that sidestream has set itself.
const FORWARDED: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
];
/// Fields that belong to one connection or to the body, or that sidestream writes itself (RFC 9110 section 7.6.1).
const OWN: [&str; 14] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a configuration may list a field to forward.
pub fn is_forwardable(name: &HeaderName) -> bool {
    !OWN.contains(&name.as_str()) && !name.as_str().starts_with("x-forwarded-")
}

/// The fields exceed the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fields that authenticate a request have more than {QUESTION_BYTES_MAX} bytes")]
pub struct QuestionTooLong;

/// The question for a request with these fields.
pub(super) fn question(
    from: &HeaderMap,
    names: &[HeaderName],
    has_host: bool,
    method: &Method,
    target: &str,
) -> Result<Question, QuestionTooLong> {
    let mut building = Building::default();
    for name in names.iter().chain(&FORWARDED).chain(has_host.then_some(&HOST)) {
        for value in from.get_all(name) {
            building.add(name, value.clone())?;
        }
    }
    for (name, text) in [(FORWARDED_METHOD, method.as_str()), (FORWARDED_URI, target)] {
        building.add(&name, HeaderValue::from_str(text).map_err(|_| QuestionTooLong)?)?;
    }
    let Building { mut headers, hash, .. } = building;
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(Question::new(Method::GET, headers, Bytes::new(), hash))
}

impl Question {
    /// Whether a browser may have added the credentials for a page of any site: a cookie, or a scheme that a browser
    /// remembers. A page cannot set fields of a WebSocket request, so a bearer token does not come from a page.
    pub fn is_ambient(&self) -> bool {
        let is_bearer =
            |value: &HeaderValue| value.as_bytes().get(..7).is_some_and(|b| b.eq_ignore_ascii_case(b"bearer "));
        let mut authorization = self.headers().get_all(AUTHORIZATION).iter().peekable();
        match authorization.peek() {
            Some(_) => !authorization.all(is_bearer),
            None => self.headers().contains_key(COOKIE),
        }
    }
}

#[derive(Default)]
struct Building {
    headers: HeaderMap,
    hash: Sha256,
    bytes: usize,
}

impl Building {
    /// Lengths precede the bytes, so that different sequences of fields hash different bytes.
    fn add(&mut self, name: &HeaderName, value: HeaderValue) -> Result<(), QuestionTooLong> {
        self.bytes += name.as_str().len() + value.len();
        if self.bytes > QUESTION_BYTES_MAX {
            return Err(QuestionTooLong);
        }
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            self.hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            self.hash.update(part);
        }
        self.headers.append(name.clone(), value);
        Ok(())
    }
}

#[cfg(test)]
#[path = "question_tests.rs"]
mod tests;
