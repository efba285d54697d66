//! The parts of a writer that its sessions use, and the time of a turn.

use std::sync::Arc;
use std::time::Instant;

use crate::access::Waiter;
use crate::codec::Encodings;
use crate::hub::{Asker, Hub, Index, Log};
use crate::rule::Judge;

/// The current time, passed to the core.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// The state that all sessions of a writer share.
#[derive(Debug)]
pub struct WriterState {
    pub hub: Hub,
    pub index: Index,
    pub log: Arc<dyn Log>,
    pub encodings: Arc<Encodings>,
    pub judge: Judge,
    /// The writer's number.
    pub writer: u32,
}

impl WriterState {
    /// The context of one session; `session` is the writer's number of it.
    pub fn context(&mut self, session: usize, now: Now) -> WriterContext<'_> {
        let Self { hub, index, log, encodings, judge, writer } = self;
        // A writer numbers its connections from 0, and has fewer than 2^32.
        WriterContext { hub, index, log: &**log, encodings, judge, writer: *writer, session: session as u32, now }
    }
}

/// The state of a writer, and the time, as one session sees them.
pub struct WriterContext<'a> {
    pub hub: &'a Hub,
    pub index: &'a mut Index,
    pub log: &'a dyn Log,
    pub encodings: &'a Encodings,
    pub judge: &'a Judge,
    /// The writer's number.
    pub writer: u32,
    /// The writer's number of this session.
    pub session: u32,
    pub now: Now,
}

impl WriterContext<'_> {
    /// The address for notifications about requested data of the log.
    pub(super) fn asker(&self) -> Asker {
        Asker { writer: self.writer, session: self.session }
    }

    /// The address for the end of a verification.
    pub(super) fn waiter(&self) -> Waiter {
        Waiter { writer: self.writer, session: self.session }
    }
}
