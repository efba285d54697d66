//! Bytes on the wire. Codecs encode events, gaps and heartbeats, and decode client frames. They keep no connection
//! state (except for the WebSocket decoder's incomplete frame), and make no decisions.
//!
//! [`transport`] is the table of transports. Frames of all transports can be concatenated, and one encoding serves all
//! connections with the same [`Form`], whatever their [`TransferCoding`] is. Everything that is ready goes out in one
//! write of [`Parts`].

mod boundaries;
mod encodings;
mod fields;
mod form;
pub mod http;
pub mod json;
mod parts;
pub mod problem;
mod transfer_coding;
pub mod transport;
pub mod websocket;

pub use boundaries::{BYTE_ORDER_MARK, Boundaries, Position};
pub use encodings::{Encodings, Frame};
pub use fields::{ALWAYS_SHOWN, Choice, Fields};
pub use form::{DataForm, EventField, Form, WebSocketFrames};
pub use parts::Parts;
pub use transfer_coding::TransferCoding;
pub use transport::Transport;
