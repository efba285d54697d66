//! A stream over WebSocket (RFC 6455) with tungstenite, which responds to pings.

use futures_util::StreamExt as _;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::handshake::{client::generate_key, derive_accept_key};
use tungstenite::protocol::Role;

use super::stream::{End, Step};
use super::{Failure, Head, Item};
use crate::http_client::StreamingResponse;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The key of an opening handshake.
pub(super) struct Key(String);

impl Key {
    pub(super) fn new() -> Self {
        Self(generate_key())
    }

    /// Adds the opening handshake to a request.
    pub(super) fn ask(&self, request: request::Builder) -> request::Builder {
        request
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &self.0)
    }
}

/// The socket of a response that switches protocols.
pub(super) async fn open(key: &Key, head: &Head, response: StreamingResponse) -> Result<Socket, Failure> {
    if head.header("sec-websocket-accept") != Some(derive_accept_key(key.0.as_bytes())) {
        return Err(Failure::Broken("the upgrade is none to a WebSocket".to_owned()));
    }
    Ok(WebSocketStream::from_raw_socket(response.upgrade().await?, Role::Client, None).await)
}

/// Reads one message. May be cancelled.
pub(super) async fn next(socket: &mut Socket) -> Step {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Step::Item(Item::of_message(text.as_str().to_owned())),
        Some(Ok(Message::Binary(bytes))) => Step::Item(Item::of_object(String::from_utf8_lossy(&bytes).into_owned())),
        Some(Ok(Message::Close(frame))) => {
            let said = frame.map(|frame| format!("close code {}, {}", u16::from(frame.code), frame.reason));
            Step::End(End::Said(said.unwrap_or_else(|| "close".to_owned())))
        }
        Some(Ok(_)) => Step::Item(Item::silent()),
        Some(Err(error)) => Step::End(End::Cut(error.to_string())),
        None => Step::End(End::Cut("the connection was closed".to_owned())),
    }
}
