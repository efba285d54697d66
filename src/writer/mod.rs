//! The stream writers: one thread per core, each owning its sockets, their sessions, its share of the index and one
//! timer wheel. (contract: these signatures stay; the body is being written by the core's author)

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::event::Feed;
use crate::metrics::Metrics;
use crate::session::Request;

/// A connection taken out of the proxy, with its admitted request.
pub struct Opening {
    /// Non-blocking; nothing of the response was written to it yet: the writer writes the head.
    pub socket: TcpStream,
    /// What the client sent after the request's head (a WebSocket client may be early).
    pub early: Bytes,
    pub request: Request,
    /// Held while the stream is open; dropping it frees the admission slot.
    pub slot: Box<dyn Send>,
}

/// The running writers. Cheap to clone.
#[derive(Clone)]
pub struct Writers {}

impl Writers {
    /// Starts `threads` writers.
    pub fn start(_threads: usize, _metrics: Arc<Metrics>) -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Hands entries to every writer. Blocks while a writer is far behind: the log is the buffer.
    pub fn feed(&self, _feed: Feed) {}

    /// Hands a connection over; gives it back where the writers take no more (draining, or inbox full): 503.
    pub fn open(&self, opening: Opening) -> Result<(), Box<Opening>> {
        Err(Box::new(opening))
    }

    /// Ends every stream at a record boundary (SSE `retry`, WebSocket 1012) and takes no new ones. Returns when all
    /// are gone or at `deadline`, whichever is first; blocks its thread. Gives the number of streams still open.
    pub fn drain(&self, _deadline: Instant, _spread: Duration) -> usize {
        0
    }
}
