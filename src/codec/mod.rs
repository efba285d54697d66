//! Bytes on the wire. Codecs turn events, losses and heartbeats into bytes and client frames into messages; they keep
//! no connection state (but for the WebSocket decoder's unfinished frame) and decide nothing.
//!
//! [`transport`] is the table of transports. Frames of all transports concatenate: each is complete, down to its HTTP chunk,
//! so that whatever is ready goes out in one write, and one encoding serves every connection that has the same [`Form`].

mod encodings;
mod form;
pub mod http;
pub mod json;
pub mod problem;
pub mod transport;
pub mod websocket;

pub use encodings::Encodings;
pub use form::{DataForm, EventField, Form, WebSocketFrames};
pub use transport::Transport;
