//! Upgrades the upstream is asked for (a WebSocket of its own), kept alive until it answers.
//!
//! Pingora takes the end of the request's empty body, where it comes after the 101 answer, for the end of the tunnel
//! (cloudflare/pingora issue 946): on a busy machine a tunnel would be closed as soon as it opens. So the proxy is told
//! of a body that has not ended yet. The listener's connection ends it where the answer is no 101, and lets the
//! tunnel's bytes through where it is; the upstream never sees it.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

/// Holds the request open. False: it asks for no upgrade, or has a body of its own.
pub(super) fn hold_open(session: &mut Session) -> pingora::Result<bool> {
    let headers = &session.req_header().headers;
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if has_body || !session.is_upgrade_req() {
        return Ok(false);
    }
    // While the upstream thinks, its own limit counts and not the client's.
    session.set_read_timeout(None);
    let request = session.req_header_mut();
    request.remove_header(&CONTENT_LENGTH);
    request.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    Ok(true)
}

/// The tunnel is open: from now on the client may be silent for `idle`.
pub(super) fn answered(session: &mut Session, status: StatusCode, idle: Duration) {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        session.set_read_timeout(Some(idle));
    }
}

/// The request as the upstream gets it.
pub(super) fn restore(request: &mut RequestHeader) {
    request.remove_header(&TRANSFER_ENCODING);
}
