//! A stream over WebSocket (RFC 6455) with tungstenite, which responds to pings.

use std::io::ErrorKind;

use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Request, Response};
use tungstenite::handshake::client::generate_key;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::connection::Connection;
use super::stream::{End, Step};
use super::{Failure, Head, Item};

pub(super) type Socket = WebSocket<Connection>;

/// The longest part of a refusal's body that is kept, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

pub(super) fn open(
    connection: Connection,
    authority: &str,
    target: &str,
    headers: &[(String, String)],
) -> Result<(Head, Socket), Failure> {
    let request = headers
        .iter()
        .fold(Request::get(format!("ws://{authority}{target}")), |request, (name, value)| request.header(name, value))
        .header(HOST, authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key())
        .body(())
        .map_err(|error| Failure::Broken(error.to_string()))?;
    match tungstenite::client::client(request, connection) {
        Ok((socket, answer)) => Ok((head_of(&answer), socket)),
        Err(HandshakeError::Interrupted(_)) => Err(Failure::Unanswered),
        Err(HandshakeError::Failure(Error::Http(answer))) => {
            let body = answer.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]).into_owned();
            Err(Failure::Refused(head_of(&answer), body))
        }
        Err(HandshakeError::Failure(error)) => Err(Failure::Broken(error.to_string())),
    }
}

/// Reads one message, or times out.
pub(super) fn next(socket: &mut Socket) -> Step {
    match socket.read() {
        Ok(Message::Text(text)) => Step::Item(Item::of_message(text.as_str().to_owned())),
        Ok(Message::Binary(bytes)) => Step::Item(Item::of_object(String::from_utf8_lossy(&bytes).into_owned())),
        Ok(Message::Close(frame)) => {
            let said = frame.map(|frame| format!("close code {}, {}", u16::from(frame.code), frame.reason));
            Step::End(End::Said(said.unwrap_or_else(|| "close".to_owned())))
        }
        Ok(_) => Step::Item(Item::silent()),
        Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Step::Nothing,
        Err(error) => Step::End(End::Cut(error.to_string())),
    }
}

fn head_of<T>(answer: &Response<T>) -> Head {
    let headers = answer.headers().iter();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Head {
        minor: u8::from(answer.version() != http::Version::HTTP_10),
        status: answer.status().as_u16(),
        headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
    }
}
