//! What a session is opened with: an admitted request, everything decided but where it can resume.

use std::sync::Arc;

use crate::access::{Principal, Selector};
use crate::codec::http::Handshake;
use crate::cursor::Cursor;
use crate::route::{HeartbeatForm, RouteTable, StreamRoute, Transport};

/// An admitted stream request: everything a session needs, decided before the head is written.
#[derive(Debug)]
pub struct Request {
    pub route: Arc<StreamRoute>,
    /// Never `Auto`: negotiated.
    pub transport: Transport,
    /// The NDJSON content type the client asked for, or the transport's own.
    pub content_type: &'static str,
    /// HTTP/1.1: chunked and kept alive. Otherwise (HTTP/1.0) the body ends with the connection.
    pub http11: bool,
    pub selector: Selector,
    /// False for `?subscribe=manual`: a WebSocket that starts without a subscription.
    pub subscribe: bool,
    pub resume: Option<Resume>,
    pub heartbeat_form: HeartbeatForm,
    pub principal: Option<Principal>,
    pub websocket: Option<Handshake>,
    /// The snapshot's routes, by which a WebSocket may subscribe to other streams.
    pub routes: Arc<RouteTable>,
}

/// Where the client wants to resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    From(Cursor),
    /// An SSE client sent something that is no cursor: it gets a gap, since `EventSource` would give up on a 400.
    Unreadable,
}

impl Resume {
    /// The position, if it is one.
    pub fn cursor(&self) -> Option<&Cursor> {
        match self {
            Self::From(cursor) => Some(cursor),
            Self::Unreadable => None,
        }
    }
}
