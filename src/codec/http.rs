//! HTTP/1.1 for streams outside of the proxy: response heads (RFC 9112).

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::TransferCoding;

/// Keeps intermediaries from buffering, storing or transforming a stream.
const UNBUFFERED: &str = "Cache-Control: no-cache, no-store, no-transform\r\nX-Accel-Buffering: no\r\n";

/// The parts of a WebSocket handshake that the 101 response contains (RFC 6455 section 4.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Accept`
    pub accept: String,
    pub subprotocol: Option<Box<str>>,
}

/// The head of a stream that is a response body. Without chunks (HTTP/1.0), the body ends with the connection. `persists` is
/// false if the client requested `Connection: close` (RFC 9112 section 9.6). `batch` is the size of batches, if
/// enabled; `headers` are complete lines.
pub fn stream_head(
    content_type: &str,
    coding: TransferCoding,
    persists: bool,
    batch: Option<u32>,
    headers: &str,
    unix_ms: i64,
) -> Vec<u8> {
    let (coding, may_persist) = match coding {
        TransferCoding::Chunked => ("Transfer-Encoding: chunked\r\n", true),
        TransferCoding::None => ("", false),
    };
    let connection = if may_persist && persists { "keep-alive" } else { "close" };
    let date = date(unix_ms);
    let batch = batch.map(|events| format!("X-Batch-Size: {events}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: {content_type}\r\n{UNBUFFERED}{batch}{headers}Connection: \
         {connection}\r\n{coding}\r\n"
    )
    .into_bytes()
}

/// The response to a WebSocket handshake (RFC 6455 section 4.2.2). `headers` are complete lines.
pub fn websocket_head(handshake: &Handshake, headers: &str, unix_ms: i64) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nDate: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        date(unix_ms),
        handshake.accept
    );
    if let Some(subprotocol) = &handshake.subprotocol {
        let _ = write!(head, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    head.push_str(headers);
    head.push_str("\r\n");
    head.into_bytes()
}

/// The value of `Date` (RFC 9110 section 6.6.1) for milliseconds since the Unix epoch.
pub(super) fn date(unix_ms: i64) -> httpdate::HttpDate {
    let since_epoch = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_client_gets_no_chunks_and_no_keep_alive() {
        let head =
            String::from_utf8(stream_head("text/event-stream", TransferCoding::None, true, None, "", 0)).unwrap();
        assert!(head.contains("Connection: close\r\n") && !head.contains("chunked"));
        assert!(head.contains("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"));
    }
}
