//! Writes complete responses of sidestream.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

/// The body of a rejected request is read up to this size in bytes, so that its connection can be reused. A longer body
/// closes the connection.
const DRAINED_BODY_BYTES_MAX: u64 = 64 * 1024;
/// The time limit for reading such a body.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes a complete response of sidestream. Always true: Pingora's phase returns whether the request was answered.
pub(super) async fn answer(session: &mut Session, response: http::Response<Vec<u8>>) -> pingora::Result<bool> {
    keep_if_body_is_short(session);
    let (parts, body) = response.into_parts();
    let is_bodyless = body.is_empty();
    session.write_response_header(Box::new(ResponseHeader::from(parts)), is_bodyless).await?;
    if !is_bodyless {
        session.write_response_body(Some(body.into()), true).await?;
    }
    Ok(true)
}

/// Keeps the connection if the unread body is short: reads the body. A connection with an unread body must be closed,
/// and closing it could discard the response.
fn keep_if_body_is_short(session: &mut Session) {
    let headers = &session.req_header().headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let is_short = length.is_some_and(|length: u64| length <= DRAINED_BODY_BYTES_MAX);
    if is_short && !headers.contains_key(EXPECT) {
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        session.set_close_on_response_before_downstream_finish(false);
    }
}
