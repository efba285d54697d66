//! The descriptions of the streams, if the configuration makes them public.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use pingora::http::RequestHeader;

use super::target;
use crate::codec::json;
use crate::config::snapshot::Snapshot;
use crate::describe;

/// The response to a request for a description. `None` if the request is not for one.
pub(super) fn response(request: &RequestHeader, snapshot: &Snapshot) -> Option<Response<Vec<u8>>> {
    let is_asked = snapshot.describe && matches!(request.method, Method::GET | Method::HEAD);
    let document = is_asked.then(|| describe::document(target::split(request).0, snapshot)).flatten()?;
    let body = json::text(&document);
    let length = body.len();
    let mut response = Response::new(if request.method == Method::HEAD { Vec::new() } else { body });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Some(response)
}
