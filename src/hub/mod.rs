//! The hub: what was read lately, who wants what of it, and what waits for whom.
//!
//! Each writer has a hub of its own and applies the same entries in the same order, so nothing here is locked and the
//! hand-over from replay to live events is exact: both happen between two entries. Events are shared, windows are
//! only pointers to them.

#[cfg(test)]
mod cut_tests;
pub mod index;
pub mod log;
pub mod queue;
pub mod replay;
pub mod resume;
pub mod window;

pub use index::{Index, Subscriber};
pub use log::{Asker, Log, Lookup, NO_OFFSET, NoLog, Page, Place, ReplayLimits};
pub use queue::{COALESCED_EVENTS_MAX, Gap, Pushed, Queue};
pub use replay::{Replay, cut};
pub use resume::{Ahead, LogEnd, Plan};
pub use window::{Hub, Seq, WindowLimits, after, last_id, matching};
