//! Error responses: RFC 9457 `application/problem+json`.
//!
//! It builds responses around the documents of [`crate::codec::problem`]; it does not send or count them. Details
//! contain no internals, such as addresses or file names.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::codec::problem::{MEDIA_TYPE, document};

/// A response with a 4xx or 5xx status.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    members: Map<String, Value>,
}

impl Problem {
    /// The `type` is `about:blank`, which RFC 9457 section 4.2.1 allows to omit; the `title` is the status phrase.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new(), members: Map::new() }
    }

    /// Adds a response header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds an extension member (RFC 9457 section 3.2).
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Sets `Retry-After`, in whole seconds rounded up.
    pub fn retry_after(self, delay: Duration) -> Self {
        let seconds = delay.as_millis().div_ceil(1000);
        self.header(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The complete response.
    pub fn into_response(self) -> http::Response<Vec<u8>> {
        let body = self.body();
        let length = body.len();
        let mut response = http::Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.extend(self.headers);
        response
    }

    fn body(&self) -> Vec<u8> {
        document(None, self.status.as_u16(), phrase(self.status), &self.detail, Value::Object(self.members.clone()))
    }
}

/// A response as HTTP/1.1 bytes with `Connection: close`, for sockets without an HTTP session.
pub fn closing_bytes(response: http::Response<Vec<u8>>) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(parts.status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(phrase(parts.status).as_bytes());
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\ndate: ");
    bytes.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    bytes.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

fn phrase(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_bytes_are_a_complete_response() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "full")
            .retry_after(Duration::from_millis(4_200))
            .member("limit", 3);
        let bytes = closing_bytes(problem.into_response());
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(&bytes).unwrap() else { panic!("whole head") };
        assert_eq!(response.code, Some(503));
        let value = |name: &str| {
            let header = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
            header.map(|h| std::str::from_utf8(h.value).unwrap().to_owned())
        };
        assert_eq!(value("retry-after").as_deref(), Some("5"));
        assert_eq!(value("connection").as_deref(), Some("close"));
        assert_eq!(value("content-length"), Some((bytes.len() - head).to_string()));
        let body: Value = serde_json::from_slice(&bytes[head..]).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"title": "Service Unavailable", "status": 503, "detail": "full", "limit": 3})
        );
    }
}
